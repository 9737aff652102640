//! Waking a core that sleeps, at no cost while it does not.

use std::sync::Arc;

use crate::mem::sleep::SleepFlag;
use crate::sys::Bell;
use crate::sys::driver::Driver;

/// How others wake one core.
#[derive(Clone)]
pub(super) struct Doorbell {
    flag: Arc<SleepFlag>,
    bell: Bell,
}

impl Doorbell {
    pub(super) fn new(bell: Bell) -> Self {
        Self { flag: Arc::new(SleepFlag::new()), bell }
    }

    /// Wakes the core if it sleeps, with the next submission of `driver`. What it is to find must
    /// have been published.
    pub(super) fn ring(&self, driver: &mut Driver) {
        if self.flag.needs_wake() {
            driver.ring(&self.bell);
        }
    }

    /// The core is about to sleep: from here on it will be woken, so it must look once more.
    pub(super) fn prepare_sleep(&self) {
        self.flag.prepare();
    }

    /// The core is awake.
    pub(super) fn awake(&self) {
        self.flag.awake();
    }
}
