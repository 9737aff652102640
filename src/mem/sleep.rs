//! The need-wake flag: a busy core costs those who give it work no system call.
//!
//! One sleeper, any number of wakers. The flag only says who must wake the sleeper; how it sleeps
//! and how it is woken (a message between kernel rings, an eventfd) is the driver's business.

use crossbeam::utils::CachePadded;

use super::atomic::{AtomicBool, Ordering, fence};

/// Whether a core sleeps, or is about to.
///
/// The sleeper, when it has nothing left to do:
///
/// 1. calls [`prepare`](Self::prepare),
/// 2. looks at all its queues once more, and if there is work, calls [`awake`](Self::awake) and
///    goes on working,
/// 3. sleeps until it is woken, then calls [`awake`](Self::awake) and looks at its queues.
///
/// A waker first makes its work visible (`Producer::publish`; or `Consumer::release` for a sleeper
/// that waits for free slots), then calls [`needs_wake`](Self::needs_wake), and wakes the sleeper
/// if the answer is yes. Then no work is left lying while the sleeper sleeps. A sleeper may be
/// woken for work that it has already found.
#[derive(Debug, Default)]
pub struct SleepFlag {
    /// Padded: wakers read it at every publication, and it must not share a line with what others
    /// write.
    asleep: CachePadded<AtomicBool>,
}

impl SleepFlag {
    /// A flag whose sleeper is awake.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sleeper: declares itself asleep. It must look at its queues once more before it sleeps.
    pub fn prepare(&self) {
        // Relaxed: carries no data. The fence orders it before the sleeper's last look. A swap
        // here and in `awake`, so that each write of the flag follows the one that it read: a
        // waker's answer to one sleep cannot come to lie behind the declaration of the next.
        self.asleep.swap(true, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `needs_wake`. Of two such fences one is first: if this
        // one, the waker behind the other sees the flag; if the other, the sleeper's last look
        // sees what was published in front of it.
        fence(Ordering::SeqCst);
    }

    /// Sleeper: takes the declaration back, because it found work after all or was woken.
    pub fn awake(&self) {
        // Relaxed: a waker that still reads `true` wakes the sleeper once too often; one that
        // reads `false` published before a `prepare` to come, whose fence then shows its work.
        self.asleep.swap(false, Ordering::Relaxed);
    }

    /// Waker, after it published: whether it must wake the sleeper now.
    ///
    /// Of any number of wakers exactly one is told so for each sleep.
    #[must_use]
    pub fn needs_wake(&self) -> bool {
        // SeqCst: pairs with the fence in `prepare`, as argued there.
        fence(Ordering::SeqCst);
        // The load alone keeps the line shared among wakers while the sleeper is awake. Relaxed:
        // the fence orders both accesses, and the sleeper takes its work from the queues' own
        // indices. The swap decides between wakers that saw the same sleep.
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::mem::queue;

    #[test]
    fn waker_of_a_busy_core_is_told_no() {
        let flag = SleepFlag::new();
        assert!(!flag.needs_wake());
        flag.prepare();
        flag.awake();
        assert!(!flag.needs_wake());
    }

    #[test]
    fn one_waker_is_told_yes_for_each_sleep() {
        let flag = SleepFlag::new();
        for _ in 0..3 {
            flag.prepare();
            assert!(flag.needs_wake());
            assert!(!flag.needs_wake());
            flag.awake();
        }
    }

    #[test]
    fn parked_thread_gets_everything() {
        const VALUES: usize = 20_000;
        let flag = Arc::new(SleepFlag::new());
        let (mut producer, mut consumer) = queue(16);
        let sleeper = thread::spawn({
            let flag = Arc::clone(&flag);
            move || {
                let mut next = 0;
                while next < VALUES {
                    match consumer.pop() {
                        Some(value) => {
                            assert_eq!(value, next);
                            next += 1;
                        }
                        None => {
                            consumer.release();
                            flag.prepare();
                            if consumer.is_empty() {
                                // A lost wake-up would hang the test here.
                                thread::park();
                            }
                            flag.awake();
                        }
                    }
                }
            }
        });
        for value in 0..VALUES {
            while producer.push(value).is_err() {
                thread::yield_now();
            }
            if producer.publish() && flag.needs_wake() {
                sleeper.thread().unpark();
            }
        }
        sleeper.join().unwrap();
    }
}
