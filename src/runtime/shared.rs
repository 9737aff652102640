//! What all threads of a daemon share: whether it stops.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::Bell;

/// Flags that the threads look at in each turn.
#[derive(Default)]
pub(super) struct Shared {
    stopping: AtomicBool,
    finished: AtomicBool,
}

impl Shared {
    /// Whether the session cores are to stop.
    pub(super) fn is_stopping(&self) -> bool {
        // Acquire: pairs with the Release store in `stop`.
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether the session cores have stopped, so that the ring core is to.
    pub(super) fn is_finished(&self) -> bool {
        // Acquire: pairs with the Release store in `finish`.
        self.finished.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self, bells: &[Bell]) {
        // Release: pairs with the Acquire load in `is_stopping`.
        self.stopping.store(true, Ordering::Release);
        bells.iter().for_each(Bell::ring);
    }

    pub(super) fn finish(&self, bells: &[Bell]) {
        // Release: pairs with the Acquire load in `is_finished`.
        self.finished.store(true, Ordering::Release);
        bells.iter().for_each(Bell::ring);
    }
}
