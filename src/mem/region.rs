//! Memory that another process sees too, as words that both may change at any time.
//!
//! Every access is atomic, so that whatever the other process does is a wrong value at worst. The
//! exceptions are `Region::lend` and `Region::lend_mut`, which a session uses and its daemon
//! never does.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;

use memmap2::{MmapOptions, MmapRaw, UncheckedAdvice};

use super::atomic::{AtomicU64, Ordering};
use super::layout::WORD_BYTES;

/// Words shared with another process, or with another thread in tests.
///
/// [`Memfd::map`](crate::sys::memfd::Memfd::map) makes one: that memory is as long as it says, and
/// stays so.
pub struct Region {
    words: NonNull<[AtomicU64]>,
    /// The mapping that the words lie in; `None`: they are a leaked box.
    mapping: Option<MmapRaw>,
}

// SAFETY: the words are atomics, which any thread may use, and the region owns their memory.
unsafe impl Send for Region {}

// SAFETY: as above; lending bytes is up to one reader and one writer, which see to it themselves.
unsafe impl Sync for Region {}

impl Region {
    /// Maps the first `bytes` of a memfd, present from the first access on.
    ///
    /// The file must be as long, and sealed so that nobody can shorten it: an access behind its
    /// end would be a fault of this process.
    ///
    /// # Errors
    ///
    /// The kernel's: no memory, no right.
    pub(crate) fn map(file: impl AsFd, bytes: usize) -> io::Result<Self> {
        let words = bytes / WORD_BYTES;
        let mut options = MmapOptions::new();
        let mapping = options.len(bytes).populate().map_raw(file.as_fd().as_raw_fd())?;
        Ok(Self::of(mapping, words))
    }

    /// Maps memory that this process only reads, on the same terms.
    ///
    /// # Errors
    ///
    /// As [`Region::map`].
    pub(crate) fn map_to_read(file: impl AsFd, bytes: usize) -> io::Result<Self> {
        let words = bytes / WORD_BYTES;
        let mut options = MmapOptions::new();
        let mapping = options.len(bytes).populate().map_raw_read_only(file.as_fd().as_raw_fd())?;
        Ok(Self::of(mapping, words))
    }

    /// Gives the pages that lie in a range of words back to the system, for all who map them: from
    /// then on they are zeros. How many bytes those were.
    pub(super) fn remove(&self, words: Range<usize>) -> usize {
        let page = rustix::param::page_size();
        let start = (words.start * WORD_BYTES).next_multiple_of(page);
        // The last page may not be full.
        let end = match words.end * WORD_BYTES {
            end if words.end == self.words.len() => end,
            end => end / page * page,
        };
        let Some(mapping) = &self.mapping else { return 0 };
        if start >= end {
            return 0;
        }
        // Of memory that is locked nothing is taken back; where it is not locked this does nothing.
        let _ = mapping.unlock();
        // SAFETY: the words are cells that anybody may change at any time, so they may become
        // zeros, and this process has lent none of them: its daemon lends nothing.
        let removed =
            unsafe { mapping.unchecked_advise_range(UncheckedAdvice::Remove, start, end - start) };
        if removed.is_ok() { end - start } else { 0 }
    }

    fn of(mapping: MmapRaw, words: usize) -> Self {
        let first = NonNull::new(mapping.as_mut_ptr().cast()).expect("no mapping begins at zero");
        Self { words: NonNull::slice_from_raw_parts(first, words), mapping: Some(mapping) }
    }

    /// Zeroed memory of this process alone.
    #[cfg(test)]
    pub(super) fn heap(bytes: usize) -> Self {
        let words: Box<[AtomicU64]> = (0..bytes / WORD_BYTES).map(|_| AtomicU64::new(0)).collect();
        let words = NonNull::new(Box::into_raw(words)).expect("a box is somewhere");
        Self { words, mapping: None }
    }

    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the pointer covers a mapping or a box that lives as long as `self`; a mapping
        // begins at a page, so words are aligned; any 8 bytes are a word, and nobody but through
        // atomics or the two methods below looks at them.
        unsafe { self.words.as_ref() }
    }

    /// Writes bytes from the word `first` on, to be published by another access. What is left of
    /// the last word becomes zero.
    ///
    /// # Panics
    ///
    /// Where there are not so many words, or this process only reads them.
    pub(super) fn store(&self, first: usize, bytes: &[u8]) {
        let words = &self.words()[first..first + bytes.len().div_ceil(WORD_BYTES)];
        let (whole, rest) = bytes.as_chunks::<WORD_BYTES>();
        for (word, bytes) in words.iter().zip(whole) {
            // Relaxed, here and below: the caller publishes them.
            word.store(u64::from_ne_bytes(*bytes), Ordering::Relaxed);
        }
        if !rest.is_empty() {
            let mut last = [0; WORD_BYTES];
            last[..rest.len()].copy_from_slice(rest);
            words[whole.len()].store(u64::from_ne_bytes(last), Ordering::Relaxed);
        }
    }

    /// The bytes of the words in `range`, without the first and only so many.
    ///
    /// # Panics
    ///
    /// Where the bytes are not in these words, or these are not in the region.
    ///
    /// # Safety
    ///
    /// Nobody may write to them as long as they are borrowed: this process must be a session, and
    /// the daemon, whose word counts, has published them and waits for them to be given back.
    #[cfg(not(loom))]
    pub(super) unsafe fn lend(&self, words: Range<usize>, bytes: Range<usize>) -> &[u8] {
        let words = &self.words()[words];
        assert!(bytes.start <= bytes.end && bytes.end <= words.len() * WORD_BYTES);
        let first = words.as_ptr().cast::<u8>();
        // SAFETY: within the words, as just checked.
        let first = unsafe { first.add(bytes.start) };
        // SAFETY: so many bytes are there; the caller answers for nobody writing to them.
        unsafe { std::slice::from_raw_parts(first, bytes.len()) }
    }

    /// The first `len` bytes of the words in `range`, to be written.
    ///
    /// # Panics
    ///
    /// As [`Region::lend`].
    ///
    /// # Safety
    ///
    /// Nobody may look at them as long as they are borrowed: this process must be a session, and
    /// the daemon looks at nothing that is not published.
    #[cfg(not(loom))]
    #[allow(clippy::mut_from_ref, reason = "words are cells; the caller answers for the rest")]
    pub(super) unsafe fn lend_mut(&self, words: Range<usize>, len: usize) -> &mut [u8] {
        let words = &self.words()[words];
        assert!(len <= words.len() * WORD_BYTES);
        let first = words.as_ptr().cast_mut().cast::<u8>();
        // SAFETY: so many bytes are there, in cells; the caller answers for being alone with them.
        unsafe { std::slice::from_raw_parts_mut(first, len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.mapping.is_none() {
            // SAFETY: without a mapping it is the box that `heap` leaked, and nobody else's.
            drop(unsafe { Box::from_raw(self.words.as_ptr()) });
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} bytes)", self.words.len() * WORD_BYTES)
    }
}
