//! The client library: connect to a daemon, join groups, multicast, receive.
//!
//! It speaks Spread's client protocol, so it works with `madrigald` and with a Spread 5 daemon.
//!
//! ```no_run
//! use madrigal::client::{Event, Options, Service, Session};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut session = Session::connect("4803", &Options::new().name("alice"))?;
//! session.join("greetings")?;
//! session.multicast(Service::Agreed, &["greetings"], 0, b"hello")?;
//! loop {
//!     match session.receive()? {
//!         Event::Message(message) => {
//!             println!("{}: {}", message.sender(), message.data().escape_ascii())
//!         }
//!         Event::View(view) => println!("now in {}: {:?}", view.group(), view.members()),
//!         Event::Transitional { .. } | Event::SelfLeave { .. } | Event::Rejected(_) => {}
//!     }
//! }
//! # }
//! ```
//!
//! # What is promised
//!
//! A session receives one sequence of events. With [`Service::Fifo`] and stronger, messages and
//! views have one total order across all groups and all senders: any two that reach two sessions of
//! connected daemons reach them in the same order, a sender's own messages included. All members of
//! a view see the same view, and members that stay together see the same messages in it.
//! [`Service::Safe`] messages are delivered only when every daemon of the configuration is known to
//! have them, or else behind [`Event::Transitional`].
//!
//! Any session may send to any group. A message to several groups reaches a session that is in more
//! than one of them once. `#name#daemon`, the private group of a session, is its address for
//! messages to it alone.
//!
//! # Ways to use it
//!
//! - One thread: [`Session`], with [`receive`](Session::receive),
//!   [`try_receive`](Session::try_receive) or [`receive_timeout`](Session::receive_timeout).
//! - Two threads: [`Session::split`] into an [`Outbox`] and an [`Inbox`].
//! - Many small messages: [`Outbox::queue`], then [`Outbox::flush`].
//! - An event loop: [`AsFd`] gives the descriptor to wait for. Call
//!   `try_receive` until it yields `None` before waiting for *readable*: events that are at hand
//!   do not show in the descriptor, and a daemon that shares memory was not asked to ring before.
//!   [`Outbox::set_nonblocking`] keeps sends from waiting; while [`Outbox::wants_write`], wait for
//!   *writable* too.
//! - tokio: `client::tokio::Session`, with the feature `tokio`.
//!
//! Keep receiving: a daemon drops sessions that read too slowly. A thread that only sends, in
//! blocking mode, and is in the groups it sends to, can come to a standstill with its daemon: both
//! wait for the other to read. Split the session, or use the non-blocking mode.
//!
//! # Limits
//!
//! A message has at most 100 groups, and its data with 32 bytes for each group at most 144,000
//! bytes. Spread's own daemon delivers nothing to more than 43 groups and stops above 143,152
//! bytes: use [`Options::spread_limits`] where such a daemon may be at the other end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use retry::Retry;

mod attach;
mod connect;
mod error;
mod event;
mod inbox;
mod incoming;
mod options;
mod outbox;
mod outgoing;
mod retry;
mod socket;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use crate::base::{GroupId, NameError, PrivateGroup, Service};
pub use crate::wire::session::kind;
pub use crate::wire::session::membership::Sets;
pub use crate::wire::session::{AnswerError, FrameError, Name, Names, Reject};
pub use error::{ConnectError, MulticastError, ReceiveError};
pub use event::{Cause, Event, Message, Rejected, Request, View};
pub use inbox::Inbox;
pub use options::{Options, Transport, Wait};
pub use outbox::{Multicast, Outbox};
pub use retry::Reconnect;

/// A connection to a daemon: an [`Outbox`] and an [`Inbox`].
///
/// Dropping it ends the session as [`Session::disconnect`] does, except that requests which were
/// queued and not flushed are lost.
#[derive(Debug)]
pub struct Session {
    outbox: Outbox,
    inbox: Inbox,
    daemon_version: (u8, u8, u8),
    why_socket: Option<String>,
    address: String,
    options: Options,
}

impl Session {
    /// Connects to the daemon at `address`:
    ///
    /// | form | means |
    /// |---|---|
    /// | `4803` | Unix socket `/tmp/4803` of this host |
    /// | `4803@host` | TCP port 4803; all addresses of the host are tried in turn |
    /// | `unix:/path` | Unix socket at the path |
    /// | empty | as `4803` |
    ///
    /// # Errors
    ///
    /// There is no session, and the error says what to do about it.
    ///
    /// ```no_run
    /// use madrigal::client::{ConnectError, Options, Reject, Session};
    ///
    /// match Session::connect("4803@localhost", &Options::new().name("alice")) {
    ///     Ok(session) => println!("connected as {}", session.private_group()),
    ///     Err(ConnectError::Rejected(Reject::NotUnique)) => println!("there is an alice already"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// ```
    pub fn connect(address: &str, options: &Options) -> Result<Self, ConnectError> {
        let connected = connect::connect(address, options, Retry::first(options))?;
        Ok(Self::new(connected, address, options))
    }

    fn new(connected: connect::Connected, address: &str, options: &Options) -> Self {
        let connect::Connected { carrier, accept } = connected;
        let connect::Carrier { incoming, outgoing, why_socket } = carrier;
        let version = accept.version;
        Self {
            outbox: Outbox::new(outgoing, accept.group, options.spread_limits),
            inbox: Inbox::new(accept.group, incoming, options.wait),
            daemon_version: (version.major, version.minor, version.patch),
            why_socket,
            address: address.to_owned(),
            options: options.clone(),
        }
    }

    /// Connects again after the session was lost, with the same address and options, tries for as
    /// long as `policy` says, and asks to join all groups that this session had asked to be in.
    ///
    /// This is a new session, and a member from its own joins on, as their views tell: what was
    /// sent to its groups since the old one ended is missing. What the old one sent last may be
    /// lost as well, and what it queued is. Where the daemon chose the name, it chooses another
    /// one, and [`Session::private_group`] changes. How to wait and [`Outbox::set_nonblocking`]
    /// stay.
    ///
    /// Call it when receiving or sending fails with `Closed`; what had come before and was not
    /// received is dropped, so receive until then where that matters. A session that still goes on
    /// is ended.
    ///
    /// # Errors
    ///
    /// There is still no session: those of the last try. It can be called again.
    ///
    /// ```no_run
    /// # use madrigal::client::{Options, ReceiveError, Reconnect, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut session = Session::connect("4803", &Options::new().name("alice"))?;
    /// session.join("prices")?;
    /// loop {
    ///     match session.receive() {
    ///         Ok(event) => println!("{event:?}"),
    ///         Err(ReceiveError::Closed) => {
    ///             session.reconnect(&Reconnect::new())?;
    ///             println!("prices were missed here");
    ///         }
    ///         Err(error) => return Err(error.into()),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn reconnect(&mut self, policy: &Reconnect) -> Result<(), ConnectError> {
        // First of all, as a daemon that still has it would refuse the name.
        self.outbox.hang_up();
        let connected = connect::connect(&self.address, &self.options, Retry::again(policy))?;
        let mut new = Self::new(connected, &self.address, &self.options);
        new.inbox.set_wait(self.inbox.wait());
        new.outbox.succeed(&self.outbox);
        *self = new;
        Ok(())
    }

    /// `None`: the session and its daemon share memory. Otherwise why it goes through a socket: the
    /// daemon is on another host, the options say so, or what kept it from shared memory.
    pub fn why_socket(&self) -> Option<&str> {
        self.why_socket.as_deref()
    }

    /// The session's own address, `#name#daemon`: what others see as the sender and as the member,
    /// and where they can send to this session alone.
    pub fn private_group(&self) -> &PrivateGroup {
        self.inbox.private_group()
    }

    /// The version that the daemon announced: for Madrigal that of the Spread release it is
    /// compatible with.
    pub fn daemon_version(&self) -> (u8, u8, u8) {
        self.daemon_version
    }

    /// Asks to join `group`: see [`Outbox::join`].
    ///
    /// # Errors
    ///
    /// Nothing was sent: the name is not one of a group, or the session is over.
    ///
    /// ```no_run
    /// # use madrigal::client::{Event, Options, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut session = Session::connect("4803", &Options::new())?;
    /// session.join("prices")?;
    /// // A member from here on in the order of all events, not from the call on.
    /// while !matches!(session.receive()?, Event::View(view) if view.group() == "prices") {}
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(&mut self, group: &str) -> Result<(), MulticastError> {
        self.outbox.join(group)
    }

    /// Asks to leave `group`: see [`Outbox::leave`].
    ///
    /// # Errors
    ///
    /// As [`Session::join`].
    ///
    /// ```no_run
    /// # use madrigal::client::{Event, Options, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut session = Session::connect("4803", &Options::new())?;
    /// session.leave("prices")?;
    /// while !matches!(session.receive()?, Event::SelfLeave { group } if group == "prices") {}
    /// # Ok(())
    /// # }
    /// ```
    pub fn leave(&mut self, group: &str) -> Result<(), MulticastError> {
        self.outbox.leave(group)
    }

    /// Sends `data` to all members of all `groups`: see [`Outbox::multicast`].
    ///
    /// Messages of [`Service::Fifo`] and stronger are delivered in one total order.
    ///
    /// # Errors
    ///
    /// Nothing was sent, and the error says what to do.
    ///
    /// ```no_run
    /// # use madrigal::client::{Options, Service, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut session = Session::connect("4803", &Options::new())?;
    /// session.multicast(Service::Safe, &["orders", "audit"], 1, b"buy 100")?;
    /// session.multicast(Service::Agreed, &["#bob#host7"], 0, b"for bob alone")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn multicast(
        &mut self,
        service: Service,
        groups: &[&str],
        message_type: i16,
        data: &[u8],
    ) -> Result<(), MulticastError> {
        self.outbox.multicast(service, groups, message_type, data)
    }

    /// Waits for the next event: see [`Inbox::receive`].
    ///
    /// # Errors
    ///
    /// The session is over; [`ReceiveError::Closed`] if its daemon ended it.
    ///
    /// ```no_run
    /// # use madrigal::client::{Event, Options, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut session = Session::connect("4803", &Options::new())?;
    /// if let Event::Message(message) = session.receive()? {
    ///     // The event lends from the receive buffer: copy what is to be kept.
    ///     let kept: Vec<u8> = message.data().to_vec();
    ///     # drop(kept);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn receive(&mut self) -> Result<Event<'_>, ReceiveError> {
        self.inbox.receive()
    }

    /// The next event if there is one; never waits: see [`Inbox::try_receive`].
    ///
    /// # Errors
    ///
    /// As [`Session::receive`].
    ///
    /// ```no_run
    /// # use madrigal::client::{Options, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut session = Session::connect("4803", &Options::new())?;
    /// while let Some(event) = session.try_receive()? {
    ///     println!("{event:?}");
    /// }
    /// // Nothing is buffered now: wait for the session's descriptor.
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_receive(&mut self) -> Result<Option<Event<'_>>, ReceiveError> {
        self.inbox.try_receive()
    }

    /// Waits for the next event, but no longer than `timeout`: see [`Inbox::receive_timeout`].
    ///
    /// # Errors
    ///
    /// As [`Session::receive`].
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use madrigal::client::{Options, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut session = Session::connect("4803", &Options::new())?;
    /// if session.receive_timeout(Duration::from_secs(1))?.is_none() {
    ///     println!("silence for a second");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn receive_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Event<'_>>, ReceiveError> {
        self.inbox.receive_timeout(timeout)
    }

    /// Whether an event is at hand, without a system call: see [`Inbox::has_buffered`].
    pub fn has_buffered(&mut self) -> bool {
        self.inbox.has_buffered()
    }

    /// The sending half, with all ways to send.
    ///
    /// ```no_run
    /// # use madrigal::client::{Multicast, Options, Service, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let mut session = Session::connect("4803", &Options::new())?;
    /// let to_others = Multicast::new(Service::Fifo).self_discard(true);
    /// for number in 0..1000_u32 {
    ///     session.outbox().queue_with(&to_others, &["numbers"], &number.to_le_bytes())?;
    /// }
    /// session.outbox().flush()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The receiving half.
    pub fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// Takes the session apart, for two threads. It lasts until both halves are dropped, or
    /// [`Outbox::disconnect`].
    ///
    /// ```no_run
    /// # use madrigal::client::{Options, Service, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (mut outbox, mut inbox) = Session::connect("4803", &Options::new())?.split();
    /// let receiver = std::thread::spawn(move || {
    ///     while let Ok(event) = inbox.receive() {
    ///         println!("{event:?}");
    ///     }
    /// });
    /// outbox.join("ticks")?;
    /// outbox.multicast(Service::Agreed, &["ticks"], 0, b"tick")?;
    /// outbox.disconnect()?;
    /// receiver.join().expect("the receiver does not panic");
    /// # Ok(())
    /// # }
    /// ```
    pub fn split(self) -> (Outbox, Inbox) {
        (self.outbox, self.inbox)
    }

    /// Says goodbye and closes. All requests made before are sent first and still carried out.
    ///
    /// # Errors
    ///
    /// The connection broke before, so the last requests may be lost; the session is over anyway.
    ///
    /// ```no_run
    /// # use madrigal::client::{Options, Session};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let session = Session::connect("4803", &Options::new())?;
    /// session.disconnect()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn disconnect(self) -> io::Result<()> {
        self.outbox.disconnect()
    }
}

/// Readable when [`Session::try_receive`] may yield something that is not buffered yet.
impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inbox.as_fd()
    }
}
