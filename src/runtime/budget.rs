//! How much memory a core shares with clients, and how much it may.
//!
//! What the daemon has given back to the system no longer counts. The rest stays with a client for
//! as long as that keeps it, of which nobody tells, so it counts for a fixed time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Instant;
use crate::base::limits::SHARED_LEFT_FOR;

/// What is left to clients within so much time is counted as one.
const LEFT_GRAIN: Duration = Duration::from_secs(1);

/// Bytes that are shared with clients.
pub(super) struct Budget {
    bytes_max: usize,
    used: usize,
    /// What of it was left to clients, and when.
    left: VecDeque<(Instant, usize)>,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, used: 0, left: VecDeque::new() }
    }

    /// Takes so many bytes, if there are as many.
    pub(super) fn take(&mut self, now: Instant, bytes: usize) -> bool {
        while let Some(&(at, left)) = self.left.front()
            && now.since(at) >= SHARED_LEFT_FOR
        {
            self.left.pop_front();
            self.used -= left;
        }
        let fits = bytes <= self.bytes_max.saturating_sub(self.used);
        if fits {
            self.used += bytes;
        }
        fits
    }

    /// The system has so many bytes again.
    pub(super) fn give_back(&mut self, bytes: usize) {
        self.used -= bytes;
    }

    /// So many bytes that were taken are in the hands of clients alone.
    pub(super) fn leave(&mut self, now: Instant, bytes: usize) {
        match self.left.back_mut() {
            Some((at, left)) if now.since(*at) < LEFT_GRAIN => *left += bytes,
            _ => self.left.push_back((now, bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_to_clients_counts_for_some_time() {
        let mut budget = Budget::new(100);
        let mut now = Instant::ZERO;
        assert!(budget.take(now, 60));
        assert!(!budget.take(now, 41));
        assert!(budget.take(now, 40));
        budget.leave(now, 60);
        budget.give_back(40);
        assert!(!budget.take(now, 41));
        now = now + SHARED_LEFT_FOR;
        assert!(budget.take(now, 100));
        budget.leave(now, 50);
        budget.leave(now, 50);
        assert!(!budget.take(now + SHARED_LEFT_FOR - LEFT_GRAIN, 1));
        assert!(budget.take(now + SHARED_LEFT_FOR, 100));
    }
}
