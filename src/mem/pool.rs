//! The buffer pool: message bytes stored once, side by side, and shared by counting.
//!
//! Stores fill one chunk of [`limits::CHUNK_BYTES`] from front to back. When it is full and nothing
//! of it is in use, it is filled again, else the pool goes on with the chunk that came back last,
//! which is the likeliest to be in the cache still. How chunks are counted and come back:
//! `chunk.rs`.

use std::fmt;

use super::atomic::Arc;
use super::chunk::{Free, Held, SLICE_BYTES_MAX, Shared};
use crate::base::{Store, limits};

pub use super::chunk::Slice;

/// How large a pool may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Bytes in mappings at any time; whatever is no whole chunk of it is of use for single stores
    /// above [`limits::CHUNK_BYTES`] alone.
    pub bytes_max: usize,
}

/// How large a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// Bytes in mappings, those of slices that outlast their turn included.
    pub mapped_bytes: usize,
    /// Of these, bytes in unused chunks and at the end of the current one.
    pub free_bytes: usize,
}

/// A store of bytes for one thread, whose [`Slice`]s may go to any.
///
/// Memory is mapped when it is first needed and kept until the pool is dropped; from there on
/// nothing is allocated. A slice keeps its whole chunk, so what stays for long and is short is
/// better copied out.
pub struct Pool {
    current: Option<Held>,
    /// The chunk to use next is the last one. Has room for every chunk of the pool.
    free: Vec<Free>,
    /// Chunks of [`limits::CHUNK_BYTES`] that exist, in any hand.
    chunks: usize,
    bytes_max: usize,
    shared: Arc<Shared>,
}

impl Pool {
    /// An empty pool: nothing is mapped yet.
    pub fn new(options: PoolOptions) -> Self {
        Self {
            current: None,
            free: Vec::new(),
            chunks: 0,
            bytes_max: options.bytes_max,
            shared: Shared::new(),
        }
    }

    /// How much memory there is, and how much of it is free.
    pub fn usage(&mut self) -> PoolUsage {
        self.shared.take_returned(&mut self.free);
        let left = self.current.as_ref().map_or(0, Held::left);
        PoolUsage {
            mapped_bytes: self.shared.mapped(),
            free_bytes: self.free.len() * limits::CHUNK_BYTES + left,
        }
    }

    /// Sees to it that the current chunk is an empty one. `None` when the pool is exhausted; the
    /// current chunk stays then, as shorter stores may still fit.
    #[cold]
    fn advance(&mut self) -> Option<()> {
        if self.current.as_mut().is_some_and(Held::rewind) {
            return Some(());
        }
        let next = Held::new(self.take()?);
        if let Some(full) = self.current.replace(next) {
            self.free.extend(full.retire());
        }
        Some(())
    }

    /// Takes a free chunk, or maps one.
    fn take(&mut self) -> Option<Free> {
        self.shared.take_returned(&mut self.free);
        if let Some(chunk) = self.free.pop() {
            return Some(chunk);
        }
        let chunk = self.map(limits::CHUNK_BYTES)?;
        self.chunks += 1;
        self.free.reserve(self.chunks);
        Some(chunk)
    }

    /// Maps memory within the bound. The kernel's "no" is the same as our own.
    fn map(&self, len: usize) -> Option<Free> {
        let mapped = self.shared.mapped().checked_add(len)?;
        if mapped > self.bytes_max {
            return None;
        }
        Free::map(&self.shared, len).ok()
    }

    /// Stores in a mapping of its own, which goes with the last slice of it.
    #[cold]
    fn store_apart(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Slice> {
        if len > SLICE_BYTES_MAX {
            return None;
        }
        Some(Held::new(self.make_room(len)?).store(len, fill))
    }

    /// Maps `len` bytes, in the place of free chunks if it must.
    fn make_room(&mut self, len: usize) -> Option<Free> {
        self.shared.take_returned(&mut self.free);
        let free = self.free.len() * limits::CHUNK_BYTES;
        let kept = self.shared.mapped() - free;
        if kept.checked_add(len)? > self.bytes_max {
            return None;
        }
        loop {
            if let Some(mapping) = self.map(len) {
                return Some(mapping);
            }
            self.free.pop()?;
            self.chunks -= 1;
        }
    }
}

impl Store for Pool {
    type Buffer = Slice;

    #[inline]
    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Slice> {
        if len > limits::CHUNK_BYTES {
            return self.store_apart(len, fill);
        }
        if !self.current.as_ref().is_some_and(|current| current.fits(len)) {
            self.advance()?;
        }
        self.current.as_mut().map(|current| current.store(len, fill))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("chunks", &self.chunks)
            .field("free", &self.free.len())
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
