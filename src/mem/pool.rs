//! The buffer pool: message bytes stored once, shared by reference, given back from any thread.
//!
//! A pool belongs to one thread, which stores bytes densely into chunks of one size. A [`Slice`]
//! counts as a reference to its whole chunk; the chunk comes back to the pool when the last of
//! them is dropped, wherever that is.

#![allow(unsafe_code, reason = "slices of one chunk are read while others are written")]

use std::fmt;
use std::ops::{Deref, Range};
use std::ptr::{self, NonNull};
use std::slice;

use crossbeam::utils::CachePadded;
use memmap2::{MmapOptions, MmapRaw};

use super::atomic::{Arc, AtomicPtr, AtomicUsize, Ordering, fence};
use crate::base::limits::{CHUNK_BYTES, FREE_CHUNKS_MAX};
use crate::base::{Buffer, Store};

/// How much a pool may hold.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Bytes of all its chunks together.
    pub bytes_max: usize,
}

/// What a pool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// Bytes of all chunks.
    pub mapped_bytes: usize,
    /// Bytes of the chunks that nobody refers to, as far as the pool knows.
    pub free_bytes: usize,
}

/// Memory that slices refer to.
struct Chunk {
    /// Slices, and one for the pool while it still stores into the chunk.
    references: CachePadded<AtomicUsize>,
    memory: MmapRaw,
    home: Arc<Home>,
    /// The next one in `Home::returned`.
    next: AtomicPtr<Chunk>,
}

/// Where chunks go when they are free; outlives the pool as long as chunks are about.
struct Home {
    /// Chunks that came back, last first; [`closed`] once the pool is gone.
    returned: AtomicPtr<Chunk>,
    mapped_bytes: AtomicUsize,
}

/// In the place of a list: no chunk comes back any more.
fn closed() -> *mut Chunk {
    ptr::without_provenance_mut(1)
}

impl Chunk {
    /// Maps a chunk with one reference. `None`: the system has no memory.
    fn map(len: usize, home: &Arc<Home>) -> Option<NonNull<Self>> {
        let memory = MmapOptions::new().len(len).map_anon().ok()?;
        // Relaxed: a sum for the pool's own bound, it orders nothing.
        home.mapped_bytes.fetch_add(len, Ordering::Relaxed);
        let chunk = Box::new(Self {
            references: CachePadded::new(AtomicUsize::new(1)),
            memory: memory.into(),
            home: home.clone(),
            next: AtomicPtr::new(ptr::null_mut()),
        });
        Some(NonNull::from(Box::leak(chunk)))
    }

    /// Unmaps a chunk.
    ///
    /// # Safety
    ///
    /// `chunk` came from [`Chunk::map`], and nobody refers to it any more.
    unsafe fn unmap(chunk: NonNull<Self>) {
        // SAFETY: `map` leaked a box, and the caller has the only pointer to it.
        let chunk = unsafe { Box::from_raw(chunk.as_ptr()) };
        // Relaxed: as in `map`.
        chunk.home.mapped_bytes.fetch_sub(chunk.memory.len(), Ordering::Relaxed);
    }

    /// Drops one reference; the last one gives the chunk back.
    ///
    /// # Safety
    ///
    /// The caller owns one of the chunk's references, and uses it no more.
    unsafe fn release(chunk: NonNull<Self>) {
        // SAFETY: the reference that the caller owns keeps the chunk alive up to here.
        let this = unsafe { chunk.as_ref() };
        // Release: what was read through this reference was read before; pairs with the fence
        // below and with the Acquire load in `Pool::begin_chunk`, behind which it is overwritten.
        if this.references.fetch_sub(1, Ordering::Release) == 1 {
            fence(Ordering::Acquire);
            // SAFETY: that was the last reference.
            unsafe { Self::give_back(chunk) };
        }
    }

    /// Puts a chunk without references into its pool's list, or unmaps it.
    ///
    /// # Safety
    ///
    /// Nobody refers to the chunk.
    unsafe fn give_back(chunk: NonNull<Self>) {
        // SAFETY: it lives until it is in the list or unmapped, both of which end this function.
        let this = unsafe { chunk.as_ref() };
        if this.memory.len() != CHUNK_BYTES {
            // SAFETY: nobody refers to it, by this function's contract.
            return unsafe { Self::unmap(chunk) };
        }
        // Relaxed: the exchange below decides.
        let mut head = this.home.returned.load(Ordering::Relaxed);
        loop {
            if head == closed() {
                // SAFETY: nobody refers to it, by this function's contract.
                return unsafe { Self::unmap(chunk) };
            }
            // Relaxed: published by the exchange.
            this.next.store(head, Ordering::Relaxed);
            // Release: pairs with the Acquire swaps in `Pool::collect` and in the pool's drop. The
            // owner only ever takes the whole list, so the same head means the same list.
            let exchanged = this.home.returned.compare_exchange_weak(
                head,
                chunk.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            );
            match exchanged {
                Ok(_) => return,
                Err(found) => head = found,
            }
        }
    }
}

/// Stores message bytes for one thread.
pub struct Pool {
    home: Arc<Home>,
    bytes_max: usize,
    /// The chunk that is being filled, and how far. The pool has a reference to it.
    current: Option<NonNull<Chunk>>,
    used: usize,
    /// Chunks without references, the one that was used last at the end.
    free: Vec<NonNull<Chunk>>,
}

// SAFETY: the pool is the only one who fills its chunks, and chunks may be released by any thread.
unsafe impl Send for Pool {}

impl Pool {
    /// An empty pool; memory is mapped as it is needed.
    pub fn new(options: PoolOptions) -> Self {
        let home =
            Home { returned: AtomicPtr::new(ptr::null_mut()), mapped_bytes: AtomicUsize::new(0) };
        Self {
            home: Arc::new(home),
            bytes_max: options.bytes_max,
            current: None,
            used: 0,
            free: Vec::with_capacity(FREE_CHUNKS_MAX),
        }
    }

    /// What the pool holds.
    pub fn usage(&self) -> PoolUsage {
        PoolUsage {
            // Relaxed: as in `Chunk::map`.
            mapped_bytes: self.home.mapped_bytes.load(Ordering::Relaxed),
            free_bytes: self.free.len() * CHUNK_BYTES,
        }
    }

    /// Sees to it that the current chunk has room for `len` bytes.
    fn begin_chunk(&mut self, len: usize) -> Option<NonNull<Chunk>> {
        if let Some(current) = self.current {
            if self.used + len <= CHUNK_BYTES {
                return Some(current);
            }
            // SAFETY: the pool's own reference keeps it alive.
            let chunk = unsafe { current.as_ref() };
            // Acquire: pairs with the Release in `Chunk::release`: all readers are done.
            if chunk.references.load(Ordering::Acquire) == 1 {
                self.used = 0;
                return Some(current);
            }
        }
        let next = self.free_chunk()?;
        if let Some(full) = self.current.replace(next) {
            // SAFETY: the pool owned a reference to it, and has forgotten it.
            unsafe { Chunk::release(full) };
        }
        self.used = 0;
        Some(next)
    }

    /// A chunk with one reference: the pool's.
    fn free_chunk(&mut self) -> Option<NonNull<Chunk>> {
        if self.free.is_empty() {
            self.collect();
        }
        let Some(chunk) = self.free.pop() else { return self.map(CHUNK_BYTES) };
        // SAFETY: chunks in `free` are alive and nobody else knows them.
        let references = unsafe { &chunk.as_ref().references };
        // Relaxed: nobody else looks; who gets a slice gets it from this thread.
        references.store(1, Ordering::Relaxed);
        Some(chunk)
    }

    fn map(&self, len: usize) -> Option<NonNull<Chunk>> {
        // Relaxed: only this thread adds, so the sum cannot grow behind its back.
        let mapped = self.home.mapped_bytes.load(Ordering::Relaxed);
        if mapped.checked_add(len)? > self.bytes_max {
            return None;
        }
        Chunk::map(len, &self.home)
    }

    /// Takes the chunks that came back; what is more than a few goes back to the system.
    fn collect(&mut self) {
        // Acquire: pairs with the Release exchange in `Chunk::give_back`.
        let mut next = self.home.returned.swap(ptr::null_mut(), Ordering::Acquire);
        while let Some(chunk) = NonNull::new(next) {
            // SAFETY: chunks in the list are alive, and the list is this thread's alone now.
            // Relaxed: ordered by the swap.
            next = unsafe { chunk.as_ref() }.next.load(Ordering::Relaxed);
            if self.free.len() < FREE_CHUNKS_MAX {
                self.free.push(chunk);
            } else {
                // SAFETY: nobody refers to a chunk that came back.
                unsafe { Chunk::unmap(chunk) };
            }
        }
    }

    /// Stores more than a chunk holds, in memory of its own.
    fn store_large(&self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Slice> {
        let len_u32 = u32::try_from(len).ok()?;
        let chunk = self.map(len)?;
        let slice = Slice { chunk, start: 0, len: len_u32 };
        // SAFETY: the chunk is new, so nobody else refers to its bytes.
        fill(unsafe { bytes_mut(chunk, 0, len) });
        Some(slice)
    }
}

/// The bytes of a chunk from `start` on.
///
/// # Safety
///
/// The chunk is alive for `'a` and has so many bytes, and nobody else refers to these.
unsafe fn bytes_mut<'a>(chunk: NonNull<Chunk>, start: usize, len: usize) -> &'a mut [u8] {
    // SAFETY: the chunk is alive, by this function's contract.
    let memory = unsafe { &chunk.as_ref().memory };
    // SAFETY: the range is inside the mapping, by this function's contract.
    let bytes = unsafe { memory.as_mut_ptr().add(start) };
    // SAFETY: mapped memory is initialised, and these bytes are the caller's alone.
    unsafe { slice::from_raw_parts_mut(bytes, len) }
}

impl Store for Pool {
    type Buffer = Slice;

    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Slice> {
        if len > CHUNK_BYTES {
            return self.store_large(len, fill);
        }
        let chunk = self.begin_chunk(len)?;
        let start = self.used;
        // SAFETY: the pool has a reference to the chunk, `begin_chunk` saw to the room, and slices
        // only ever cover bytes before `used`, which is moved on below.
        fill(unsafe { bytes_mut(chunk, start, len) });
        self.used += len;
        // SAFETY: the pool's own reference keeps it alive.
        let references = unsafe { &chunk.as_ref().references };
        // Relaxed: this thread has a reference already.
        references.fetch_add(1, Ordering::Relaxed);
        // A chunk is far smaller than 4 GiB.
        Some(Slice { chunk, start: start as u32, len: len as u32 })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Acquire: as in `collect`.
        let mut next = self.home.returned.swap(closed(), Ordering::Acquire);
        while let Some(chunk) = NonNull::new(next) {
            // SAFETY: as in `collect`.
            next = unsafe { chunk.as_ref() }.next.load(Ordering::Relaxed);
            self.free.push(chunk);
        }
        for chunk in self.free.drain(..) {
            // SAFETY: nobody refers to a free chunk.
            unsafe { Chunk::unmap(chunk) };
        }
        if let Some(current) = self.current.take() {
            // SAFETY: the pool owned a reference to it, and has forgotten it.
            unsafe { Chunk::release(current) };
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

/// Stored bytes; cloning it copies a reference.
pub struct Slice {
    chunk: NonNull<Chunk>,
    start: u32,
    len: u32,
}

// SAFETY: its bytes never change, and the count of references is atomic.
unsafe impl Send for Slice {}

// SAFETY: as above.
unsafe impl Sync for Slice {}

impl Slice {
    /// A part of it.
    ///
    /// # Panics
    ///
    /// If `range` goes beyond its end.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {self:?}");
        let mut part = self.clone();
        part.start += range.start as u32;
        part.len = (range.end - range.start) as u32;
        part
    }
}

impl Deref for Slice {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the slice's reference keeps its chunk alive.
        let memory = unsafe { &self.chunk.as_ref().memory };
        // SAFETY: a slice covers bytes of its chunk.
        let bytes = unsafe { memory.as_mut_ptr().add(self.start as usize) };
        // SAFETY: bytes that a slice covers are written before it is made, and not again while
        // the chunk has a reference.
        unsafe { slice::from_raw_parts(bytes, self.len as usize) }
    }
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Clone for Slice {
    fn clone(&self) -> Self {
        // SAFETY: the slice's reference keeps its chunk alive.
        let references = unsafe { &self.chunk.as_ref().references };
        // Relaxed: the caller has a reference already, so the count cannot reach zero meanwhile.
        references.fetch_add(1, Ordering::Relaxed);
        Self { chunk: self.chunk, start: self.start, len: self.len }
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        // SAFETY: the slice owns one reference.
        unsafe { Chunk::release(self.chunk) };
    }
}

impl Buffer for Slice {
    fn absorb(&mut self, next: &Self) -> bool {
        let adjacent = self.chunk == next.chunk && self.start + self.len == next.start;
        if adjacent {
            self.len += next.len;
        }
        adjacent
    }

    fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "{bytes} of {self:?}");
        self.start += bytes as u32;
        self.len -= bytes as u32;
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes)", self.len)
    }
}
