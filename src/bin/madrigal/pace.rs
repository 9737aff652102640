//! When an open loop sends: at times fixed in advance, whatever the other side does.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::thread::{
    ClockId, NanosleepRelativeResult, clock_nanosleep_relative, set_current_timer_slack,
};

/// The last stretch before a moment that a waiting thread may spend spinning: more than a timer's
/// usual lateness.
const SPIN_LAST: Duration = Duration::from_micros(80);

/// Evenly spaced moments, the first at the start.
///
/// A message's latency is measured from its moment here, not from when it was really sent: when
/// the system under test holds the sender up, the wait of the messages behind it counts too. That
/// is the correction for coordinated omission.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    start: Instant,
    per_second: f64,
}

impl Schedule {
    /// Moments at `per_second` (above zero) from `start` on.
    pub(crate) fn new(start: Instant, per_second: f64) -> Self {
        Self { start, per_second }
    }

    /// The moment of message `index`, from 0.
    ///
    /// Computed from the start, so that rounding never adds up.
    pub(crate) fn moment(&self, index: u64) -> Instant {
        self.start + Duration::from_secs_f64(index as f64 / self.per_second)
    }

    /// How many messages are due at `now`, counted from the start.
    pub(crate) fn due(&self, now: Instant) -> u64 {
        let Some(since) = now.checked_duration_since(self.start) else { return 0 };
        (since.as_secs_f64() * self.per_second) as u64 + 1
    }
}

/// How to wait for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Sleep all the way: a little late, no CPU.
    Asleep,
    /// Sleep, then spin for the last stretch: on time, at the price of a busy core.
    OnTime,
}

/// Returns at `moment`, or at once where it has passed.
pub(crate) fn wait_until(moment: Instant, how: Until) {
    let spin = match how {
        Until::Asleep => Duration::ZERO,
        Until::OnTime => SPIN_LAST,
    };
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        match left.checked_sub(spin) {
            Some(asleep) if !asleep.is_zero() => sleep(asleep),
            _ => std::hint::spin_loop(),
        }
    }
}

/// Sleeps for about `duration`; a signal may cut it short.
fn sleep(duration: Duration) {
    let Ok(request) = duration.try_into() else { return };
    match clock_nanosleep_relative(ClockId::Monotonic, &request) {
        NanosleepRelativeResult::Ok | NanosleepRelativeResult::Interrupted(_) => {}
        // The kernel refuses a malformed request only, and this one is a normal duration.
        NanosleepRelativeResult::Err(error) => panic!("nanosleep refused {request:?}: {error}"),
    }
}

/// Asks the kernel not to put off this thread's timers: the default is up to 50 us.
pub(crate) fn sharp_timers() {
    // Without it timers are merely later; nothing else depends on it.
    let _ = set_current_timer_slack(NonZeroU64::new(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_drift() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 3.0);
        assert_eq!(schedule.moment(0), start);
        assert_eq!(schedule.moment(3_000_000), start + Duration::from_secs(1_000_000));
    }

    #[test]
    fn a_message_is_due_from_its_moment_on() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 1_000.0);
        assert_eq!(schedule.due(start - Duration::from_millis(1)), 0);
        assert_eq!(schedule.due(start), 1);
        assert_eq!(schedule.due(start + Duration::from_micros(999)), 1);
        assert_eq!(schedule.due(start + Duration::from_micros(1_001)), 2);
        // A sender that was held up owes everything it missed.
        assert_eq!(schedule.due(start + Duration::from_micros(100_500)), 101);
    }

    #[test]
    fn waiting_ends_at_the_moment_and_not_before() {
        for how in [Until::Asleep, Until::OnTime] {
            let moment = Instant::now() + Duration::from_millis(2);
            wait_until(moment, how);
            assert!(Instant::now() >= moment);
            wait_until(moment, how);
        }
    }
}
