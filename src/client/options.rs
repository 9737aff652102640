//! How to connect, and how to wait.

use std::time::Duration;

/// How a session is made; the defaults suit most programs.
///
/// ```
/// use std::time::Duration;
/// use madrigal::client::{Options, Wait};
///
/// let options = Options::new()
///     .name("alice")
///     .connect_timeout(Duration::from_secs(1))
///     .wait(Wait::Adaptive(Duration::from_micros(50)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(super) name: Option<String>,
    pub(super) membership: bool,
    pub(super) priority: bool,
    pub(super) connect_timeout: Duration,
    pub(super) spread_limits: bool,
    pub(super) wait: Wait,
    pub(super) transport: Transport,
    pub(super) retry_for: Duration,
}

impl Options {
    /// The defaults that each method tells.
    pub const fn new() -> Self {
        Self {
            name: None,
            membership: true,
            priority: false,
            connect_timeout: Duration::from_secs(5),
            spread_limits: false,
            wait: Wait::Park,
            transport: Transport::Auto,
            retry_for: Duration::ZERO,
        }
    }

    /// The session's name: 1 to 10 characters from `$` to `~`, unique on the daemon. By default,
    /// and if empty, the daemon chooses one.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether to receive views and the other membership events; by default, yes. Without them the
    /// session is a member like any other, and receives messages alone.
    #[must_use]
    pub const fn membership(mut self, membership: bool) -> Self {
        self.membership = membership;
        self
    }

    /// Spread's priority flag; by default, no. It has no effect in any daemon.
    #[must_use]
    pub const fn priority(mut self, priority: bool) -> Self {
        self.priority = priority;
        self
    }

    /// How long connecting may take in all, except for resolving a host's name; 5 s by default.
    ///
    /// The asynchronous session looks at it only while a Unix socket has no room for one more that
    /// connects: put a timeout around its connect.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Whether to refuse what Spread's own daemon cannot carry, although its library would send it:
    /// more than 43 groups, which it delivers to nobody, and more than 143,152 bytes of data and
    /// group fields, which end it. By default, no: Madrigal carries 100 groups and 144,000 bytes,
    /// and the two do not differ in what they announce.
    #[must_use]
    pub const fn spread_limits(mut self, spread_limits: bool) -> Self {
        self.spread_limits = spread_limits;
        self
    }

    /// How to wait for events; [`Wait::Park`] by default.
    #[must_use]
    pub const fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// What carries the session; [`Transport::Auto`] by default.
    #[must_use]
    pub const fn transport(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    /// How long connecting goes on trying while nobody listens at the address, or a daemon closes
    /// the connection because it stops: a daemon that starts is met within 100 ms. Zero by default:
    /// an error at once. For a session that was lost see
    /// [`Session::reconnect`](super::Session::reconnect).
    #[must_use]
    pub const fn retry_for(mut self, time: Duration) -> Self {
        self.retry_for = time;
        self
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// What carries the bytes of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Shared memory where the daemon offers it, which one on this host does; else the socket that
    /// the address names. [`Session::why_socket`](super::Session::why_socket) tells the reason.
    #[default]
    Auto,
    /// Shared memory, or an error.
    SharedMemory,
    /// The socket that the address names.
    Socket,
}

/// How [`Inbox::receive`](super::Inbox::receive) waits when there is no event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Sleeps at once: no cost while idle, and a wake-up for the next event.
    #[default]
    Park,
    /// Never sleeps: lowest latency, one processor core fully used.
    Spin,
    /// Spins for so long, then sleeps: lowest latency while events come often.
    Adaptive(Duration),
}
