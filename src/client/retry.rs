//! Whether to try to connect again, and when.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::wire::session::Reject;

use super::{ConnectError, Options};

/// Longest pause while connecting for the first time: one who waits for a daemon to start is alone.
const FIRST_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Pauses while a daemon's socket has no room for one more that connects: the first one, and the
/// longest. It comes to them in less, unless there are very many.
#[cfg(feature = "tokio")]
const ROOM_PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// How long, and how often, a session that was lost tries to connect again.
///
/// The pause after a try doubles from one to the next, up to a longest one. A random part of each,
/// up to half, is left out, so that the many clients of a daemon that restarts do not all come at
/// once.
///
/// ```
/// use std::time::Duration;
/// use madrigal::client::Reconnect;
///
/// let patient = Reconnect::new()
///     .give_up_after(Duration::from_secs(3600))
///     .pauses(Duration::from_millis(50), Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reconnect {
    give_up_after: Duration,
    pause: Duration,
    pause_max: Duration,
}

impl Reconnect {
    /// For 30 s, with pauses from 10 ms to 1 s.
    pub const fn new() -> Self {
        Self {
            give_up_after: Duration::from_secs(30),
            pause: Duration::from_millis(10),
            pause_max: Duration::from_secs(1),
        }
    }

    /// How long to go on trying. Zero: once.
    #[must_use]
    pub const fn give_up_after(mut self, time: Duration) -> Self {
        self.give_up_after = time;
        self
    }

    /// The first pause between two tries, and the longest.
    #[must_use]
    pub const fn pauses(mut self, first: Duration, longest: Duration) -> Self {
        self.pause = first;
        self.pause_max = longest;
        self
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self::new()
    }
}

/// The tries of one call.
pub(super) struct Retry {
    /// `None`: never.
    give_up: Option<Instant>,
    pause: Duration,
    pause_max: Duration,
    /// There was a session, so that the address and all else were right once.
    again: bool,
}

impl Retry {
    /// For the first connection.
    pub(super) fn first(options: &Options) -> Self {
        let policy = Reconnect::new().give_up_after(options.retry_for);
        Self { pause_max: FIRST_PAUSE_MAX, again: false, ..Self::again(&policy) }
    }

    /// For a session that was lost.
    pub(super) fn again(policy: &Reconnect) -> Self {
        Self {
            give_up: Instant::now().checked_add(policy.give_up_after),
            pause: policy.pause,
            pause_max: policy.pause_max,
            again: true,
        }
    }

    /// For one try to connect, while there is no room for it.
    #[cfg(feature = "tokio")]
    pub(super) fn for_room(options: &Options) -> Self {
        let (first, longest) = ROOM_PAUSES;
        let policy = Reconnect::new().give_up_after(options.connect_timeout);
        Self::again(&policy.pauses(first, longest))
    }

    /// How long to wait before the next try, after a try that ended with this error. `None`: the
    /// error is the result.
    pub(super) fn pause_after(&mut self, error: &ConnectError) -> Option<Duration> {
        if !self.is_worthwhile(error) {
            return None;
        }
        let pause = shortened(self.pause, RandomState::new().hash_one(0));
        self.pause = (self.pause * 2).min(self.pause_max);
        let Some(give_up) = self.give_up else { return Some(pause) };
        let left = give_up.saturating_duration_since(Instant::now());
        // The last try is made when the time is over.
        if left.is_zero() { None } else { Some(pause.min(left)) }
    }

    /// Whether time may mend it: nobody is there yet, or somebody is about to go.
    fn is_worthwhile(&self, error: &ConnectError) -> bool {
        match error {
            ConnectError::Unreachable { .. } | ConnectError::Closed => true,
            // The daemon may not know yet that the former session has ended, and a network that
            // ended it takes time to come back.
            ConnectError::Rejected(Reject::NotUnique)
            | ConnectError::TimedOut
            | ConnectError::Resolve { .. } => self.again,
            ConnectError::Address { .. }
            | ConnectError::Name(_)
            | ConnectError::Rejected(_)
            | ConnectError::NotAttached { .. }
            | ConnectError::Auth { .. }
            | ConnectError::Answer(_)
            | ConnectError::Io(_) => false,
        }
    }
}

/// `pause` less up to half of it.
fn shortened(pause: Duration, random: u64) -> Duration {
    pause.mul_f64(1.0 - (random >> 32) as f64 / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> ConnectError {
        let error = std::io::ErrorKind::ConnectionRefused.into();
        ConnectError::Unreachable { address: String::new(), error }
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let long = Duration::from_secs(3600);
        let (first, longest) = (Duration::from_millis(10), Duration::from_millis(45));
        let mut retry = Retry::again(&Reconnect::new().give_up_after(long).pauses(first, longest));
        for most in [10, 20, 40, 45, 45].map(Duration::from_millis) {
            let pause = retry.pause_after(&unreachable()).unwrap();
            assert!(pause <= most && pause >= most / 2, "{pause:?} of {most:?}");
        }
    }

    #[test]
    fn any_random_number_leaves_at_least_half() {
        let pause = Duration::from_millis(100);
        assert_eq!(shortened(pause, 0), pause);
        assert_eq!(shortened(pause, u64::MAX), pause / 2);
    }

    #[test]
    fn time_without_a_session_has_an_end() {
        let mut retry = Retry::again(&Reconnect::new().give_up_after(Duration::ZERO));
        assert_eq!(retry.pause_after(&unreachable()), None);
        let mut for_ever = Retry::again(&Reconnect::new().give_up_after(Duration::MAX));
        assert!(for_ever.pause_after(&unreachable()).is_some());
    }

    #[test]
    fn a_name_in_use_is_worth_a_try_only_for_one_who_had_it() {
        let taken = ConnectError::Rejected(Reject::NotUnique);
        let options = Options::new().retry_for(Duration::from_secs(3600));
        assert_eq!(Retry::first(&options).pause_after(&taken), None);
        assert!(Retry::again(&Reconnect::new()).pause_after(&taken).is_some());
        let refused = ConnectError::Rejected(Reject::Quota);
        assert_eq!(Retry::again(&Reconnect::new()).pause_after(&refused), None);
    }
}
