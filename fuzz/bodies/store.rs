//! A store that says no when it is told to.

use madrigal::base::Store;
use madrigal::base::buffer::{Heap, HeapBuffer};

/// The heap, with gaps.
#[derive(Default)]
pub(crate) struct Flaky {
    /// So many of the next stores fail.
    pub(crate) failures: usize,
}

impl Store for Flaky {
    type Buffer = HeapBuffer;

    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<HeapBuffer> {
        if self.failures > 0 {
            self.failures -= 1;
            return None;
        }
        Heap.store(len, fill)
    }
}
