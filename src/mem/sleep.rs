//! stand-in
use std::sync::atomic::*;
/// .
#[derive(Default)]
pub struct SleepFlag(AtomicBool);
impl SleepFlag {
    /// .
    pub fn new() -> Self {
        Self::default()
    }
    /// .
    pub fn prepare(&self) {
        self.0.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
    /// .
    pub fn awake(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
    /// .
    pub fn needs_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.swap(false, Ordering::SeqCst)
    }
}
