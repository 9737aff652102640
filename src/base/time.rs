//! Time as an argument: the protocol and session layers never read a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on a clock that never goes back; only differences mean something.
///
/// In the daemon it counts nanoseconds of `CLOCK_MONOTONIC`, in the simulator virtual ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// Where the clock starts.
    pub const ZERO: Self = Self(0);

    /// A moment `nanos` nanoseconds after [`Instant::ZERO`].
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since [`Instant::ZERO`].
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long `earlier` is ago; zero where it lies ahead.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, before: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(before.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// The time of one who reads a clock turn by turn, and which stands still while that one does.
///
/// Who was stopped, or got no processor, could hear nobody, and what it was about to send may not
/// have left: others must not be thought silent for that time.
#[derive(Debug)]
pub struct OwnTime {
    now: Instant,
    stood: Duration,
}

impl OwnTime {
    /// Starts with what the clock shows.
    pub const fn new(clock: Instant) -> Self {
        Self { now: clock, stood: Duration::ZERO }
    }

    /// What was read last.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Reads it at the start of a turn: a little before `due` at most, where that has passed by
    /// `stall` or more since the turn before. Returns for how long it then stood still.
    ///
    /// `due`: when the reader wanted to be woken. Asked only where much time has passed.
    pub fn read(
        &mut self,
        clock: Instant,
        stall: Duration,
        due: impl FnOnce() -> Option<Instant>,
    ) -> Option<Duration> {
        let before = self.now;
        self.now = clock - self.stood;
        if self.now.since(before) < stall {
            return None;
        }
        // What has come meanwhile is taken before what is due is done.
        let ahead = Instant(due()?.0.saturating_sub(1)).max(before);
        let stood = self.now.since(ahead);
        if stood < stall {
            return None;
        }
        self.now = ahead;
        self.stood += stood;
        Some(stood)
    }

    /// What the clock shows at `at`, unless time stands still before.
    pub fn on_clock(&self, at: Instant) -> Instant {
        at + self.stood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_nanos(100);

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn time_is_that_of_the_clock_for_who_comes_when_it_wanted_to() {
        let mut time = OwnTime::new(at(5));
        for (clock, due) in [(50, None), (900, None), (1_900, Some(1_900)), (2_000, Some(1_902))] {
            assert_eq!(time.read(at(clock), STALL, || due.map(at)), None);
            assert_eq!((time.now(), time.on_clock(at(7))), (at(clock), at(7)));
        }
    }

    #[test]
    fn time_stands_still_for_who_comes_much_later() {
        let mut time = OwnTime::new(at(0));
        let stood = time.read(at(1_500), STALL, || Some(at(300)));
        assert_eq!((stood, time.now()), (Some(Duration::from_nanos(1_201)), at(299)));
        assert_eq!(time.on_clock(at(300)), at(1_501));
        // It goes on with the clock.
        assert_eq!(time.read(at(1_501), STALL, || Some(at(300))), None);
        assert_eq!(time.now(), at(300));
        assert!(time.read(at(9_000), STALL, || Some(at(400))).is_some());
        assert_eq!((time.now(), time.on_clock(at(400))), (at(399), at(9_001)));
    }

    /// Who is stopped in the midst of a turn has still to send what it did in it.
    #[test]
    fn time_does_not_go_back_where_something_was_due_in_the_turn_before() {
        let mut time = OwnTime::new(at(0));
        assert_eq!(time.read(at(300), STALL, || Some(at(290))), None);
        assert_eq!(
            time.read(at(1_500), STALL, || Some(at(290))),
            Some(Duration::from_nanos(1_200))
        );
        assert_eq!(time.now(), at(300));
    }
}
