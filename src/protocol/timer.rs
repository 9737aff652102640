//! Deadlines: what follows from the configured times, and from measured rounds.

use std::time::Duration;

use crate::base::Instant;

use super::options::Options;

/// A life of a daemon is remembered for so many failure timeouts at least: while it is missed and
/// a ring without it is formed, it may still be there.
const FORGETTING_FACTOR: u32 = 10;

/// Times that follow from the failure timeout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// No sign for so long: failed.
    pub(crate) failure: Duration,
    /// Joins, exchanges and dones are repeated so often.
    pub(crate) repeat: Duration,
    /// Joins are repeated this soon at first, then less and less often: one may have got lost, or
    /// gone to a process that the kernel was about to take apart.
    pub(crate) repeat_first: Duration,
    /// Two joins of one daemon are at least so far apart, so that a crowd does not shout.
    pub(crate) spacing: Duration,
    /// Presence is shown so often where somebody outside of the ring is heard.
    pub(crate) presence: Duration,
    /// Where nobody is, the ring's daemons show it in turn, one each time that so long has passed.
    pub(crate) search: Duration,
    /// Who was not heard for so long is not heard.
    pub(crate) hearing: Duration,
    /// A life of a daemon that shows nothing of itself for so long is forgotten, should an earlier
    /// one speak.
    pub(crate) forgetting: Duration,
    /// The token goes round so often though few need it.
    pub(crate) tour: Duration,
    /// A token that nobody needs goes on a tour so often.
    pub(crate) rest: Duration,
    /// A token waits for the next message where that is expected for so long, then it shows that
    /// everybody has everything.
    pub(crate) linger: Duration,
    /// A request for missing packets is repeated after so long.
    pub(crate) repair: Duration,
    /// Where that brings nothing, the wait becomes so long.
    pub(crate) repair_longest: Duration,
    /// Work that waits for memory is tried again after so long.
    pub(crate) memory: Duration,
}

impl Timing {
    pub(crate) fn new(options: &Options, daemons: usize) -> Self {
        let failure = options.failure_timeout;
        Self {
            failure,
            repeat: failure / 12,
            repeat_first: Duration::from_millis(2).min(failure / 96),
            // A join of each daemon reaches each other one: 20 us of work for each of them.
            spacing: (Duration::from_micros(20) * daemons as u32).min(failure / 24),
            presence: failure / 2,
            search: (failure / 2).max(options.rest_interval / 2),
            hearing: failure * 2,
            forgetting: options.forget_after.max(failure * FORGETTING_FACTOR),
            tour: failure / 10,
            rest: options.rest_interval,
            linger: Duration::from_millis(1).min(failure / 40),
            repair: (options.reorder_allowance * 2).min(failure / 12),
            repair_longest: failure / 8,
            memory: Duration::from_millis(1),
        }
    }
}

/// How long the token takes for a round, smoothed, as TCP does it for round trips.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RoundTime {
    mean_ns: u64,
    deviation_ns: u64,
}

impl RoundTime {
    pub(crate) fn record(&mut self, round: Duration) {
        let round_ns = u64::try_from(round.as_nanos()).unwrap_or(u64::MAX >> 8).min(u64::MAX >> 8);
        if self.mean_ns == 0 {
            self.mean_ns = round_ns;
            self.deviation_ns = round_ns / 2;
            return;
        }
        let error_ns = self.mean_ns.abs_diff(round_ns);
        self.deviation_ns = (3 * self.deviation_ns + error_ns) / 4;
        self.mean_ns = (7 * self.mean_ns + round_ns) / 8;
    }

    /// A round that takes longer than this is out of the ordinary.
    pub(crate) fn bound(&self) -> Duration {
        Duration::from_nanos(self.mean_ns + 4 * self.deviation_ns)
    }
}

/// The earlier of two deadlines, where there is any.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Whether a deadline has passed.
pub(crate) fn is_due(now: Instant, deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_times_are_smoothed_and_outliers_raise_the_bound() {
        let mut rounds = RoundTime::default();
        assert_eq!(rounds.bound(), Duration::ZERO);
        for _ in 0..50 {
            rounds.record(Duration::from_micros(100));
        }
        assert!(rounds.bound() < Duration::from_micros(110), "{rounds:?}");
        rounds.record(Duration::from_millis(10));
        assert!(rounds.bound() > Duration::from_millis(10), "{rounds:?}");
        rounds.record(Duration::MAX);
        assert!(rounds.bound() > Duration::from_secs(1));
    }
}
