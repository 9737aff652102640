//! The clocks of the host.

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::base::Instant;

/// The host's clocks. A core reads it once per turn and hands the result on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Now, on `CLOCK_MONOTONIC`: the same clock in every process of the host.
    pub fn read(self) -> Instant {
        to_instant(clock_gettime(ClockId::Monotonic))
    }

    /// The last tick of the kernel's timer, some milliseconds ago at most, on the same clock;
    /// cheaper to read by far.
    pub fn last_tick(self) -> Instant {
        to_instant(clock_gettime(ClockId::MonotonicCoarse))
    }

    /// Milliseconds of wall time since 1970. May jump, also backwards.
    pub fn wall_millis(self) -> u64 {
        let time = clock_gettime(ClockId::Realtime);
        time.tv_sec.cast_unsigned() * 1_000 + time.tv_nsec.cast_unsigned() / 1_000_000
    }
}

fn to_instant(now: Timespec) -> Instant {
    // Neither part is negative on this clock, and 2^64 nanoseconds are 584 years of uptime.
    Instant::from_nanos(now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_clock_moves_on_and_never_back() {
        let start = Clock.read();
        let mut last = start;
        while last == start {
            let now = Clock.read();
            assert!(now >= last);
            last = now;
        }
    }

    #[test]
    fn ticks_follow_the_clock() {
        let start = Clock.last_tick();
        assert!(start <= Clock.read());
        // They go on, or this never ends.
        while Clock.last_tick() == start {}
    }

    #[test]
    fn wall_clock_is_after_this_was_written() {
        assert!(Clock.wall_millis() > 1_700_000_000_000);
    }
}
