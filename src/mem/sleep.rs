//! Whether a core sleeps, so that waking it costs others nothing while it does not.

use super::atomic::{AtomicBool, Ordering, fence};

/// Belongs to one sleeper; any number of others may have to wake it.
///
/// The sleeper calls [`SleepFlag::prepare`], looks once more for work, and only then sleeps. A
/// waker publishes the work, then asks [`SleepFlag::needs_wake`]. Either the sleeper's second look
/// finds the work, or the waker finds the flag: a wake-up is never lost.
#[derive(Debug, Default)]
pub struct SleepFlag {
    asleep: AtomicBool,
}

impl SleepFlag {
    /// Of a sleeper that is awake.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sleeper is about to sleep. It must look for work once more before it does.
    pub fn prepare(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        // Pairs with the fence in `needs_wake`: the store above comes before the sleeper's second
        // look, the waker's publication before its load of the flag. One of them sees the other.
        fence(Ordering::SeqCst);
    }

    /// The sleeper is awake.
    pub fn awake(&self) {
        // Relaxed: a waker that still sees the flag rings once too often, which is harmless.
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Whether the caller has to wake the sleeper: true for one of several callers. What the
    /// sleeper is to find must have been published before.
    #[must_use]
    pub fn needs_wake(&self) -> bool {
        // Pairs with the fence in `prepare`.
        fence(Ordering::SeqCst);
        // The load keeps the flag's cache line shared while the sleeper is awake. Relaxed, both:
        // the fence above orders them, and nothing is read on the strength of the answer.
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}
