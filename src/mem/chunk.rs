//! Chunks of memory, the slices that keep them, and their way back to the pool.
//!
//! Which chunk is filled when: `pool.rs`, which has no `unsafe`. A chunk is in one of two hands:
//!
//! ```text
//! Free ---- Held::new ---> shared by one Held (the pool's) and any number of Slices
//!   ^                        |                          |
//!   |-- Held::retire: none --'     last Slice dropped --|
//!   `-- Shared::take_returned <---- Shared::put_back <--'
//! ```
//!
//! `Free` is exclusive ownership, so there the link and the counts are plain fields. While shared,
//! each byte is either frozen (in front of `Held::used`: anyone who counts may read it) or the
//! holder's alone.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::ptr::{self, NonNull};
use std::slice;

use crossbeam::utils::CachePadded;
use memmap2::{MmapMut, MmapRaw};

use super::atomic::{Arc, AtomicPtr, AtomicUsize, Ordering, UnsafeCell, fence};
use crate::base::Buffer;
use crate::base::limits::CHUNK_BYTES;

/// References that a holder takes in advance, so that handing out a slice is no atomic operation.
///
/// Also the bound on slices handed out between two rewinds, which zero-length stores could reach.
const HELD: usize = 1 << 30;

/// More references than memory can hold, so somebody leaks them; the same bound as `Arc`'s.
const REFERENCES_MAX: usize = isize::MAX as usize;

/// Where the list of returned chunks points once the pool is gone. Never the address of a chunk.
const CLOSED: *mut Chunk = ptr::without_provenance_mut(1);

/// What a pool shares with all its chunks, and so with all its slices.
#[derive(Debug)]
pub(super) struct Shared {
    /// Chunks whose last slice is gone, linked by `Chunk::link`, the latest first.
    returned: CachePadded<AtomicPtr<Chunk>>,
    /// Bytes in mappings, of chunks in any hand.
    mapped: AtomicUsize,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        let returned = CachePadded::new(AtomicPtr::new(ptr::null_mut()));
        Arc::new(Self { returned, mapped: AtomicUsize::new(0) })
    }

    /// Bytes mapped; only the pool's thread makes it grow.
    pub(super) fn mapped(&self) -> usize {
        // Acquire: pairs with the Release in `Counted::drop`; those bytes are unmapped by now.
        self.mapped.load(Ordering::Acquire)
    }

    /// Appends all returned chunks to `free`, the latest last.
    pub(super) fn take_returned(&self, free: &mut Vec<Free>) {
        // Most turns nothing came back, and the load alone leaves the line shared. Relaxed: only
        // the swap's value is used.
        if self.returned.load(Ordering::Relaxed).is_null() {
            return;
        }
        let before = free.len();
        // Acquire: pairs with the Release in `put_back`; what the last users read of each chunk,
        // they read before it is written again. The list is taken whole, so no chunk in it can
        // leave and come back between a look and an exchange (ABA).
        let list = self.returned.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: the swap took the list out of everyone else's reach.
        free.extend(unsafe { Returned::new(list) });
        free[before..].reverse();
    }

    /// Frees the returned chunks and those that will come back.
    pub(super) fn close(&self) {
        // Acquire: as in `take_returned`. Release is not needed, `CLOSED` carries no data.
        let list = self.returned.swap(CLOSED, Ordering::Acquire);
        // SAFETY: the swap took the list out of everyone else's reach.
        drop(unsafe { Returned::new(list) });
    }

    /// Takes a chunk back, on whatever thread its last slice was dropped.
    fn put_back(&self, Free(mut chunk): Free) {
        // Relaxed: the value is only linked to, or compared; chunks behind it are not looked at.
        let mut first = self.returned.load(Ordering::Relaxed);
        while first != CLOSED {
            // SAFETY: `chunk` is exclusively ours until the exchange below succeeds.
            chunk.link.with_mut(|link| unsafe { *link = first });
            let chunk_ptr = Box::into_raw(chunk);
            // Release: pairs with the Acquire swaps in `take_returned` and `close`; publishes the
            // link, and that all use of the chunk is over. Exchanges only ever continue each
            // other's release sequence, so that the swap also synchronizes with earlier ones.
            match self.returned.compare_exchange_weak(
                first,
                chunk_ptr,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(found) => first = found,
            }
            // SAFETY: the exchange failed, so the pointer made above is still the only one.
            chunk = unsafe { Box::from_raw(chunk_ptr) };
        }
        // The pool is gone: `chunk` is dropped, and its memory with it.
    }
}

/// A taken list of chunks, on its way to single ones.
struct Returned(*mut Chunk);

impl Returned {
    /// # Safety
    ///
    /// `list` is null, `CLOSED`, or a list made by `Shared::put_back` that nobody else can reach.
    unsafe fn new(list: *mut Chunk) -> Self {
        Self(if list == CLOSED { ptr::null_mut() } else { list })
    }
}

impl Iterator for Returned {
    type Item = Free;

    fn next(&mut self) -> Option<Free> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: `put_back` made the pointer from a box and gave it up; `new` promises that the
        // list is ours alone, and the line below forgets the pointer.
        let chunk = unsafe { Box::from_raw(self.0) };
        // SAFETY: `chunk` is exclusively ours.
        self.0 = chunk.link.with(|link| unsafe { *link });
        Some(Free(chunk))
    }
}

impl Drop for Returned {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// One mapping and the count of those who use it.
struct Chunk {
    /// Never borrowed as a whole: only parts of it, through the pointer.
    memory: MmapRaw,
    /// Declared after `memory`, so that it stops counting what is already unmapped.
    counted: Counted,
    /// The chunk that was returned before this one.
    link: UnsafeCell<*mut Chunk>,
    /// Stands for the memory, of which the model checker sees nothing: read wherever a slice's
    /// bytes are, written where frozen bytes become writable again.
    frozen: UnsafeCell<()>,
    /// Slices, plus [`HELD`] minus the slices handed out while there is a holder. Padded: all
    /// cores write it, and read what is above.
    references: CachePadded<AtomicUsize>,
}

// SAFETY: the mapping is plain memory, which any thread may use and unmap. The raw link is followed
// only by the one who took the list.
unsafe impl Send for Chunk {}

// SAFETY: shared between a `Held` and `Slice`s, which touch disjoint bytes or only read (see the
// top of the file); `link` and `frozen` are written in exclusive hands alone.
unsafe impl Sync for Chunk {}

/// Keeps a mapping in `Shared::mapped`.
struct Counted {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Release: pairs with the Acquire load in `Shared::mapped`; the memory is unmapped.
        self.shared.mapped.fetch_sub(self.bytes, Ordering::Release);
    }
}

/// A chunk in one hand: nobody refers to it.
pub(super) struct Free(Box<Chunk>);

impl Free {
    /// Maps a chunk of `len` bytes.
    ///
    /// # Errors
    ///
    /// The kernel has no memory or no mappings left.
    pub(super) fn map(shared: &Arc<Shared>, len: usize) -> io::Result<Self> {
        let memory = MmapRaw::from(MmapMut::map_anon(len)?);
        // Relaxed: only this thread lets it grow, and compares it with a bound.
        shared.mapped.fetch_add(len, Ordering::Relaxed);
        let counted = Counted { shared: Arc::clone(shared), bytes: len };
        Ok(Self(Box::new(Chunk {
            memory,
            counted,
            link: UnsafeCell::new(ptr::null_mut()),
            frozen: UnsafeCell::new(()),
            references: CachePadded::new(AtomicUsize::new(0)),
        })))
    }
}

/// The pool's hold on the chunk that it fills.
pub(super) struct Held {
    chunk: NonNull<Chunk>,
    /// Bytes handed out, from the front. Those behind are this holder's alone.
    used: usize,
    /// Slices handed out.
    handed: usize,
}

// SAFETY: it is a counted reference to a `Chunk`, which is `Send` and `Sync`.
unsafe impl Send for Held {}

impl Held {
    pub(super) fn new(Free(chunk): Free) -> Self {
        // Relaxed: whoever gets a slice from here gets it by something that synchronizes.
        chunk.references.store(HELD, Ordering::Relaxed);
        chunk.begin();
        let chunk = NonNull::from(Box::leak(chunk));
        Self { chunk, used: 0, handed: 0 }
    }

    /// Whether `len` more bytes fit.
    #[inline]
    pub(super) fn fits(&self, len: usize) -> bool {
        // The holder keeps one reference of those taken in advance, or `Slice::drop` could take
        // the count to zero.
        len <= self.left() && self.handed < HELD - 1
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.chunk().memory.len() - self.used
    }

    /// Hands out the next `len` bytes after `fill` has written them.
    ///
    /// # Panics
    ///
    /// Unless they [fit](Self::fits). If `fill` panics, nothing was handed out.
    #[inline]
    pub(super) fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Slice {
        assert!(self.fits(len), "{len} bytes do not fit into the chunk");
        let base = self.chunk().memory.as_mut_ptr();
        // SAFETY: `used` is at most the length of the mapping that starts at `base`.
        let start = unsafe { base.add(self.used) };
        // SAFETY: `len` bytes from there are inside the mapping (`fits`), initialized (the kernel
        // zeroes it), and no slice reaches behind `used`, so that nobody else refers to them.
        fill(unsafe { slice::from_raw_parts_mut(start, len) });
        let slice = Slice { chunk: self.chunk, start: self.used as u32, len: len as u32 };
        self.used += len;
        self.handed += 1;
        slice
    }

    /// Starts again at the front, if there is no slice left.
    pub(super) fn rewind(&mut self) -> bool {
        // Acquire: pairs with the Release in `Slice::drop`; all reading is over. A slice drops its
        // reference after it made clones, so a count that is this low, even an old one, means that
        // no slice is left that could be cloned.
        let alone = self.chunk().references.load(Ordering::Acquire) == HELD - self.handed;
        if alone {
            // Relaxed: as in `new`.
            self.chunk().references.store(HELD, Ordering::Relaxed);
            self.chunk().begin();
            self.used = 0;
            self.handed = 0;
        }
        alone
    }

    /// Gives the hold up. The chunk comes back at once if there is no slice left, else to the
    /// pool's list with the last one.
    pub(super) fn retire(self) -> Option<Free> {
        let chunk = std::mem::ManuallyDrop::new(self).release();
        chunk.map(Free)
    }

    fn release(&mut self) -> Option<Box<Chunk>> {
        let kept = HELD - self.handed;
        // SAFETY: called once, as the last use of this holder, which has `kept` references.
        unsafe { Chunk::release(self.chunk, kept) }
    }

    #[inline]
    fn chunk(&self) -> &Chunk {
        // SAFETY: the chunk lives as long as it is counted, and this holder always keeps at least
        // one of the references taken in advance (`fits`).
        unsafe { self.chunk.as_ref() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.release());
    }
}

impl Chunk {
    /// Gives up `count` references; the chunk, if they were the last.
    ///
    /// # Safety
    ///
    /// They are the caller's, and the caller does not use the chunk through them any more.
    #[inline]
    unsafe fn release(chunk: NonNull<Self>, count: usize) -> Option<Box<Self>> {
        // SAFETY: the chunk lives at least until the subtraction, as the caller is counted.
        let references = unsafe { &chunk.as_ref().references };
        // Release: pairs with the fence below on the thread that finds itself the last, and with
        // the Acquire load in `Held::rewind`; all reading through these references is over.
        if references.fetch_sub(count, Ordering::Release) != count {
            return None;
        }
        // Acquire: pairs with the subtractions of all others.
        fence(Ordering::Acquire);
        // SAFETY: `Held::new` made the pointer from a box. The count is zero, so no holder and no
        // slice is left, and only the last one gets here.
        Some(unsafe { Box::from_raw(chunk.as_ptr()) })
    }

    /// Frozen bytes may be written from here on.
    #[inline]
    fn begin(&self) {
        self.frozen.with_mut(|_| ());
    }
}

/// Bytes in a pool: immutable, shared when cloned, on any thread, also after the pool is gone.
///
/// It keeps its whole chunk from being used again, however short it is.
pub struct Slice {
    chunk: NonNull<Chunk>,
    start: u32,
    len: u32,
}

// Queues carry it.
const _: () = assert!(size_of::<Option<Slice>>() == 16);

// Positions in a chunk are 32 bits wide.
const _: () = assert!(CHUNK_BYTES <= SLICE_BYTES_MAX);

/// Longest slice that there can be.
pub(super) const SLICE_BYTES_MAX: usize = u32::MAX as usize;

// SAFETY: it is a counted reference to a `Chunk`, which is `Send` and `Sync`.
unsafe impl Send for Slice {}

// SAFETY: it only ever reads its bytes, and the count is atomic.
unsafe impl Sync for Slice {}

impl Slice {
    /// A part of the bytes, without a copy.
    ///
    /// # Panics
    ///
    /// When `range` reaches outside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        let len = self.len as usize;
        assert!(
            range.start <= range.end && range.end <= len,
            "{range:?} reaches outside of a slice of {len} bytes"
        );
        let mut part = self.clone();
        part.start += range.start as u32;
        part.len = range.len() as u32;
        part
    }

    #[inline]
    fn chunk(&self) -> &Chunk {
        // SAFETY: the chunk lives as long as it is counted, and this slice is.
        unsafe { self.chunk.as_ref() }
    }
}

impl Deref for Slice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let chunk = self.chunk();
        chunk.frozen.with(|_| ());
        let base = chunk.memory.as_mut_ptr();
        // SAFETY: `Held::store` put `start` inside the mapping; `slice` and `absorb` keep it there.
        let start = unsafe { base.add(self.start as usize) };
        // SAFETY: the bytes lie in front of `Held::used`, so they are initialized, and nobody
        // writes them before the count says that this slice is gone.
        unsafe { slice::from_raw_parts(start, self.len as usize) }
    }
}

impl AsRef<[u8]> for Slice {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Buffer for Slice {
    #[inline]
    fn absorb(&mut self, next: &Self) -> bool {
        // Both are alive, so both were frozen since the chunk was last rewound, and so are all
        // bytes of the two.
        let adjacent = self.chunk == next.chunk && self.start + self.len == next.start;
        if adjacent {
            self.len += next.len;
        }
        adjacent
    }

    #[inline]
    fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "{bytes} bytes of {self:?}");
        self.start += bytes as u32;
        self.len -= bytes as u32;
    }

    fn truncate(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "{bytes} of {self:?}");
        self.len = bytes as u32;
    }
}

impl Clone for Slice {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: the reference that this one is made from keeps the chunk.
        let before = self.chunk().references.fetch_add(1, Ordering::Relaxed);
        if before > REFERENCES_MAX {
            // The count may be about to wrap, and nothing that unwinds could undo it.
            std::process::abort();
        }
        Self { chunk: self.chunk, start: self.start, len: self.len }
    }
}

impl Drop for Slice {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this slice has one reference, and it is not used after this.
        if let Some(chunk) = unsafe { Chunk::release(self.chunk, 1) } {
            put_back(chunk);
        }
    }
}

impl fmt::Debug for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slice({} bytes)", self.len)
    }
}

/// Sends a chunk home. Apart from `Slice::drop`, as it happens once for many slices.
#[cold]
fn put_back(chunk: Box<Chunk>) {
    if chunk.memory.len() == CHUNK_BYTES {
        // A reference of its own: as soon as the chunk is back, the pool may free both.
        let shared = Arc::clone(&chunk.counted.shared);
        shared.put_back(Free(chunk));
    }
    // Other sizes were mapped for one slice, and go with it.
}
