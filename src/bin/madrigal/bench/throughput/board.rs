//! Who has received how much: what keeps senders within their window, and receivers from being
//! overrun.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use madrigal::client::Wait;
use rustix::thread::futex;

/// A goal that no count reaches: the sender does not wait.
const NO_GOAL: u64 = u64::MAX;

/// Counts of messages that each receiver has received from each sender.
pub(crate) struct Board {
    /// One row of counts for each sender.
    received: Vec<Vec<CachePadded<AtomicU64>>>,
    waiting: Vec<CachePadded<Waiting>>,
    stop: AtomicBool,
}

/// What one sender waits for.
struct Waiting {
    /// That all receivers have received so much from it.
    goal: AtomicU64,
    /// Changes when the goal is reached; the sender sleeps on it.
    bell: AtomicU32,
}

impl Waiting {
    fn ring(&self) {
        // Release: pairs with the Acquire load in `sleep_until`; what was stored before is seen.
        self.bell.fetch_add(1, Release);
        // Fails for a bad address only, and this one is a reference.
        let _ = futex::wake(&self.bell, futex::Flags::PRIVATE, 1);
    }
}

/// What all receivers have together at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) at: Instant,
    /// Messages that every receiver has.
    pub(crate) messages: u64,
    /// Messages that any receiver has, counted once for each.
    pub(crate) deliveries: u64,
}

impl Board {
    /// All counts zero.
    pub(crate) fn new(senders: usize, receivers: usize) -> Self {
        let row = || (0..receivers).map(|_| CachePadded::new(AtomicU64::new(0))).collect();
        let waiting =
            || CachePadded::new(Waiting { goal: AtomicU64::new(NO_GOAL), bell: AtomicU32::new(0) });
        Self {
            received: (0..senders).map(|_| row()).collect(),
            waiting: (0..senders).map(|_| waiting()).collect(),
            stop: AtomicBool::new(false),
        }
    }

    /// Tells the senders to come to an end, those that wait too.
    pub(crate) fn stop(&self) {
        // Relaxed: a sender that sees it late sends a few messages more, which are received too;
        // one that is about to sleep finds its bell rung below.
        self.stop.store(true, Relaxed);
        self.waiting.iter().for_each(|waiting| waiting.ring());
    }

    /// Whether senders are to come to an end.
    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Receiver `receiver` has so many messages of `sender`; wakes the sender if that is what it
    /// waits for.
    pub(crate) fn publish(&self, sender: usize, receiver: usize, count: u64) {
        // SeqCst, with the store of the goal in `sleep_until`: of the two stores one comes first,
        // so either this thread sees the goal below, or the sender sees the count there.
        self.received[sender][receiver].store(count, SeqCst);
        let waiting = &self.waiting[sender];
        let goal = waiting.goal.load(SeqCst);
        if goal == NO_GOAL || count < goal || self.received_by_all(sender) < goal {
            return;
        }
        // One of the receivers that reach the goal together rings.
        if waiting.goal.compare_exchange(goal, NO_GOAL, SeqCst, SeqCst).is_ok() {
            waiting.ring();
        }
    }

    /// What every receiver has received from `sender`.
    pub(crate) fn received_by_all(&self, sender: usize) -> u64 {
        self.received[sender].iter().map(|count| count.load(SeqCst)).min().unwrap_or(0)
    }

    /// Waits until all receivers have `goal` messages of `sender`; `false` if the run ends first.
    pub(crate) fn wait_for(&self, sender: usize, goal: u64, wait: Wait) -> bool {
        let spin = match wait {
            Wait::Park => Duration::ZERO,
            Wait::Spin => Duration::MAX,
            Wait::Adaptive(time) => time,
        };
        let start = Instant::now();
        while !spin.is_zero() {
            if self.received_by_all(sender) >= goal || self.stopped() {
                return !self.stopped();
            }
            if start.elapsed() >= spin {
                break;
            }
            std::hint::spin_loop();
        }
        self.sleep_until(sender, goal);
        !self.stopped()
    }

    fn sleep_until(&self, sender: usize, goal: u64) {
        let waiting = &self.waiting[sender];
        loop {
            // Acquire: pairs with the Release addition in `ring`.
            let rung = waiting.bell.load(Acquire);
            waiting.goal.store(goal, SeqCst);
            if self.stopped() || self.received_by_all(sender) >= goal {
                break;
            }
            // Rung meanwhile, or a signal: look again in any case.
            let _ = futex::wait(&waiting.bell, futex::Flags::PRIVATE, rung, None);
        }
        waiting.goal.store(NO_GOAL, SeqCst);
    }

    /// Reads all counts.
    pub(crate) fn read(&self) -> Reading {
        let mut reading = Reading { at: Instant::now(), messages: 0, deliveries: 0 };
        for row in &self.received {
            let mut least = u64::MAX;
            for count in row {
                let count = count.load(SeqCst);
                reading.deliveries += count;
                least = least.min(count);
            }
            reading.messages += if row.is_empty() { 0 } else { least };
        }
        reading
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn a_message_counts_once_every_receiver_has_it() {
        let board = Board::new(2, 2);
        board.publish(0, 0, 5);
        board.publish(0, 1, 3);
        board.publish(1, 1, 2);
        let reading = board.read();
        assert_eq!((reading.messages, reading.deliveries), (3, 10));
    }

    #[test]
    fn senders_wake_when_the_last_receiver_has_caught_up() {
        for wait in [Wait::Park, Wait::Spin, Wait::Adaptive(Duration::from_micros(20))] {
            let board = Arc::new(Board::new(1, 3));
            let receivers: Vec<_> = (0..3)
                .map(|receiver| {
                    let board = Arc::clone(&board);
                    thread::spawn(move || {
                        for count in 1..=2_000 {
                            board.publish(0, receiver, count);
                            thread::yield_now();
                        }
                    })
                })
                .collect();
            for goal in (100..=2_000).step_by(100) {
                assert!(board.wait_for(0, goal, wait));
                assert!(board.received_by_all(0) >= goal);
            }
            receivers.into_iter().for_each(|it| it.join().unwrap());
        }
    }

    #[test]
    fn a_waiting_sender_sees_the_end_of_the_run() {
        for wait in [Wait::Park, Wait::Spin] {
            let board = Arc::new(Board::new(1, 1));
            let waiting = Arc::clone(&board);
            let sender = thread::spawn(move || waiting.wait_for(0, 1, wait));
            board.stop();
            assert!(!sender.join().unwrap());
        }
    }
}
