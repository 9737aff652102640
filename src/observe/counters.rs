//! The numbers of a core, readable from any thread while the core goes on.
//!
//! A core counts in tallies of its own, plain memory, and publishes them once a turn: the data path
//! has no atomic operation per message. The atomics are std's: there is one writer, each number
//! stands for itself, and so there is no order for a model checker to look at.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use crate::base::{Counter, Tally};

/// What one core has counted, as it last published it.
///
/// On cache lines of its own, so that readers disturb nothing else of the core.
#[derive(Debug, Default)]
pub struct Counters(CachePadded<[AtomicU64; Counter::COUNT]>);

impl Counters {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Publishes a count. Only the core itself may call this.
    pub fn set(&self, counter: Counter, count: u64) {
        // Relaxed: each number stands for itself, no reader concludes anything from its order.
        self.0[counter as usize].store(count, Relaxed);
    }

    /// The count that was published last.
    pub fn get(&self, counter: Counter) -> u64 {
        // Relaxed: as in `set`.
        self.0[counter as usize].load(Relaxed)
    }
}

/// What all cores have counted together.
///
/// Its text has one `name count` a line, for each counter.
#[derive(Clone, Debug)]
pub struct Totals(Tally);

impl Totals {
    /// Adds up what the cores have published. Counts of different cores may be a turn apart.
    pub fn of(cores: &[Arc<Counters>]) -> Self {
        let mut totals = Tally::default();
        for counter in Counter::ALL {
            totals.add(counter, cores.iter().map(|core| core.get(counter)).sum());
        }
        Self(totals)
    }

    /// The count over all cores.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter)
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for counter in Counter::ALL {
            writeln!(f, "{} {}", name(counter), self.get(counter))?;
        }
        Ok(())
    }
}

/// A counter's name for people and tools; `docs/counters.md` explains it.
pub const fn name(counter: Counter) -> &'static str {
    match counter {
        Counter::ConnectionsAccepted => "connections_accepted",
        Counter::RejectedQuota => "rejected_quota",
        Counter::RejectedName => "rejected_name",
        Counter::RejectedNotUnique => "rejected_not_unique",
        Counter::RejectedVersion => "rejected_version",
        Counter::RejectedAuth => "rejected_auth",
        Counter::HandshakesAbandoned => "handshakes_abandoned",
        Counter::AcceptsFailed => "accepts_failed",
        Counter::SessionsStarted => "sessions_started",
        Counter::SessionsEnded => "sessions_ended",
        Counter::SessionsViolated => "sessions_violated",
        Counter::SessionsSlow => "sessions_slow",
        Counter::FramesReceived => "frames_received",
        Counter::BytesReceived => "bytes_received",
        Counter::FramesDelivered => "frames_delivered",
        Counter::BytesSent => "bytes_sent",
        Counter::JoinsIgnored => "joins_ignored",
        Counter::ReadsPaused => "reads_paused",
        Counter::PoolExhausted => "pool_exhausted",
        Counter::TurnsBusy => "turns_busy",
        Counter::Sleeps => "sleeps",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_the_sums_over_all_cores() {
        let cores = [Arc::new(Counters::new()), Arc::new(Counters::new())];
        cores[0].set(Counter::BytesSent, 5);
        cores[1].set(Counter::BytesSent, 2);
        cores[1].set(Counter::BytesSent, 3);
        cores[1].set(Counter::Sleeps, 1);
        let totals = Totals::of(&cores);
        assert_eq!(totals.get(Counter::BytesSent), 8);
        assert_eq!(totals.get(Counter::Sleeps), 1);
        assert_eq!(totals.get(Counter::TurnsBusy), 0);
        let text = totals.to_string();
        assert!(text.contains("\nbytes_sent 8\n"), "{text}");
        assert_eq!(text.lines().count(), Counter::COUNT);
    }

    #[test]
    fn every_counter_has_a_name_of_its_own() {
        let mut names = Counter::ALL.map(name);
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }

    #[test]
    fn every_counter_is_explained() {
        let page = include_str!("../../docs/counters.md");
        let explained: Vec<_> =
            page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(explained, Counter::ALL.map(name));
    }

    #[test]
    fn cores_share_no_cache_line() {
        assert!(align_of::<Counters>() >= 64);
    }
}
