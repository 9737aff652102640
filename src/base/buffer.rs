//! Message bytes as the protocol and session layers see them: shared, immutable, from a store that
//! can say no. The daemon's implementation is `mem::pool`.

use std::rc::Rc;

/// Immutable bytes that are shared, not copied, when cloned.
pub trait Buffer: Clone + AsRef<[u8]> {
    /// Grows to cover `next` too, if `next` begins in memory right where `self` ends.
    ///
    /// Returns whether it did. Messages stored one after the other lie side by side, so a run of
    /// them to one receiver becomes one piece to send.
    #[must_use]
    fn absorb(&mut self, next: &Self) -> bool;

    /// Drops the first `bytes` bytes from view.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    fn advance(&mut self, bytes: usize);

    /// Keeps only the first `bytes` bytes in view.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    fn truncate(&mut self, bytes: usize);
}

/// Where layers without memory of their own put message bytes.
pub trait Store {
    /// What it hands out.
    type Buffer: Buffer;

    /// Takes `len` bytes, which `fill` must write in full, and freezes them.
    ///
    /// `None` when the store is exhausted; nothing was called then. Content before `fill` is
    /// unspecified.
    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Self::Buffer>;

    /// The same for something that is let go of within the turn and without which nothing goes on,
    /// as what daemons tell each other of memory: a store may keep some for it.
    fn store_brief(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Self::Buffer> {
        self.store(len, fill)
    }

    /// The same for what can wait while memory is short, as new messages can: a store may keep some
    /// for what must not, so that what is under way comes to its end.
    fn store_if_ample(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Self::Buffer> {
        self.store(len, fill)
    }

    /// Stores a copy of `bytes`.
    fn copy(&mut self, bytes: &[u8]) -> Option<Self::Buffer> {
        self.store(bytes.len(), |into| into.copy_from_slice(bytes))
    }
}

/// A store without bound on the ordinary heap, for tests and the simulator.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heap;

/// What [`Heap`] hands out.
#[derive(Clone, Debug)]
pub struct HeapBuffer {
    /// Not `Rc<[u8]>`: making one copies the bytes.
    bytes: Rc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl AsRef<[u8]> for HeapBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }
}

impl PartialEq for HeapBuffer {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for HeapBuffer {}

impl From<Vec<u8>> for HeapBuffer {
    fn from(bytes: Vec<u8>) -> Self {
        let end = bytes.len();
        Self { bytes: Rc::new(bytes), start: 0, end }
    }
}

impl Buffer for HeapBuffer {
    fn absorb(&mut self, _next: &Self) -> bool {
        false
    }

    fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start);
        self.start += bytes;
    }

    fn truncate(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start);
        self.end = self.start + bytes;
    }
}

impl Store for Heap {
    type Buffer = HeapBuffer;

    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<HeapBuffer> {
        let mut bytes = vec![0; len];
        fill(&mut bytes);
        Some(bytes.into())
    }
}
