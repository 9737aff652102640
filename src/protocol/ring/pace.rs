//! How soon the same packet is repeated again. Who misses it lists it at each visit of the token,
//! also where it cannot take it: its memory or its receive buffer is full, or no packet of the
//! one that answers reaches it.

use std::time::Duration;

use crate::base::Instant;

/// Times that the wait doubles: far beyond any longest one.
const DOUBLINGS_MAX: u32 = 20;

/// What the times between two repetitions of a packet are now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) now: Instant,
    /// The first wait: whoever has the packet by then does not ask any more.
    pub(crate) first: Duration,
    /// The longest one.
    pub(crate) longest: Duration,
}

/// How often a packet was repeated, and when last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Repeats {
    at: Instant,
    times: u32,
}

impl Repeats {
    /// Whether the packet is to be repeated now, as then it counts: the first time at once, then
    /// after a wait that doubles.
    pub(crate) fn next(&mut self, pace: &Pace) -> bool {
        if let Some(doublings) = self.times.checked_sub(1) {
            let wait = pace.first * 2_u32.pow(doublings.min(DOUBLINGS_MAX));
            if pace.now < self.at + wait.min(pace.longest) {
                return false;
            }
        }
        *self = Self { at: pace.now, times: self.times.saturating_add(1) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_repeated_at_once_then_ever_more_rarely() {
        let mut repeats = Repeats::default();
        let mut at = Vec::new();
        for micros in 0..2_000 {
            let now = Instant::from_nanos(micros * 1_000);
            let (first, longest) = (Duration::from_micros(100), Duration::from_micros(500));
            if repeats.next(&Pace { now, first, longest }) {
                at.push(micros);
            }
        }
        assert_eq!(at, [0, 100, 300, 700, 1_200, 1_700]);
    }
}
