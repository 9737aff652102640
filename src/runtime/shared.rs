//! What all threads of a daemon share: whether it stops, and a configuration to go over to.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::config::Cluster;
use crate::sys::Bell;

/// Flags that the threads look at in each turn.
#[derive(Default)]
pub(super) struct Shared {
    stopping: AtomicBool,
    finished: AtomicBool,
    has_cluster: AtomicBool,
    /// Written by the main thread, taken by the ring core.
    cluster: Mutex<Option<Cluster>>,
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

    /// Leaves another cluster for the ring core to go over to.
    pub(super) fn set_cluster(&self, cluster: Cluster, bells: &[Bell]) {
        *self.cluster.lock().expect("nobody panics with the lock") = Some(cluster);
        // Release: pairs with the Acquire load in `take_cluster`.
        self.has_cluster.store(true, Ordering::Release);
        bells.iter().for_each(Bell::ring);
    }

    /// The cluster to go over to, once. The lock is taken only when there is one.
    pub(super) fn take_cluster(&self) -> Option<Cluster> {
        // Acquire: pairs with the Release store in `set_cluster`.
        if !self.has_cluster.load(Ordering::Acquire) {
            return None;
        }
        self.has_cluster.store(false, Ordering::Relaxed);
        self.cluster.lock().expect("nobody panics with the lock").take()
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
