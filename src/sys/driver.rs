//! One face for the two ways to work with many sockets: io_uring and epoll (by mio).
//!
//! A core owns one [`Driver`], asks it for events, tells it what to do, and once per turn lets it
//! enter the kernel. Nothing that is asked for here fails at once, except opening: results come as
//! events. What the drivers do differently inside is in `uring.rs` and `poll.rs`.

use std::fmt;
use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use super::bell::Bell;
use super::datagram::{DatagramSocket, Destination, Received, Sent};
use super::poll::PollDriver;
use super::socket::{Listener, Stream};
use super::table::Key;
use super::uring::UringDriver;
use crate::mem::pool::Slice;

/// Which driver to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// io_uring where the host allows it, else mio.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// mio.
    Mio,
}

impl FromStr for Choice {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        match text {
            "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::IoUring),
            "mio" => Ok(Self::Mio),
            _ => Err(UnknownChoice),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Mio => "mio",
        })
    }
}

/// Text that names no [`Choice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a driver: auto, io_uring or mio is expected")]
pub struct UnknownChoice;

/// The driver that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// io_uring.
    IoUring,
    /// epoll, by mio.
    Mio,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Mio => "mio",
        })
    }
}

/// How large to open a driver.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Receive buffers of `limits::RECEIVE_BYTES` each that io_uring gets to fill, rounded up to a
    /// power of two, 32,768 at most; mio has one. More of them let more streams receive in one
    /// turn.
    pub receive_buffers: usize,
    /// Requests that io_uring takes in one submission, rounded up to a power of two; with more, a
    /// turn enters the kernel more than once.
    pub entries: u32,
}

impl Default for Options {
    /// 128 buffers: 4 MB. 256 entries.
    fn default() -> Self {
        Self { receive_buffers: 128, entries: 256 }
    }
}

/// What was opened and why, for the log.
#[derive(Clone, Debug)]
pub struct Report {
    /// The driver that was opened.
    pub kind: Kind,
    /// Why this one, in a sentence.
    pub reason: String,
    /// What io_uring was asked for, and whether it is there; empty where it was not asked.
    pub features: Vec<(&'static str, bool)>,
}

/// Why no driver could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// io_uring was asked for, and this host does not have what it takes.
    #[error("io_uring cannot be used: {missing}; {remedy}")]
    IoUring {
        /// What is missing.
        missing: String,
        /// What to do about it.
        remedy: String,
    },
    /// epoll failed: descriptors or memory ran out.
    #[error("epoll cannot be used: {0}")]
    Mio(#[source] io::Error),
}

/// Names a listener that a driver owns. Says nothing to another driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey(pub(super) Key);

impl ListenerKey {
    /// A small number, unique among the listeners that the driver has now.
    pub fn slot(self) -> usize {
        self.0.slot as usize
    }
}

/// Names a stream that a driver owns. Calls with the key of a closed stream do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamKey(pub(super) Key);

impl StreamKey {
    /// A small number, unique among the streams that the driver has now. Numbers of closed streams
    /// come again, for io_uring only after the kernel is done with them.
    pub fn slot(self) -> usize {
        self.0.slot as usize
    }
}

/// Names a datagram socket that a driver owns. Calls with the key of a closed socket do nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatagramKey(pub(super) Key);

/// How long a turn may wait when nothing is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most so long.
    For(Duration),
    /// Until something happens.
    Forever,
}

impl Wait {
    /// The shorter of this and `limit`.
    pub(super) fn at_most(self, limit: Duration) -> Self {
        match self {
            Self::No => Self::No,
            Self::For(wait) => Self::For(wait.min(limit)),
            Self::Forever => Self::For(limit),
        }
    }
}

/// What happened. Events of one stream come in the order in which things happened to it.
#[derive(Debug)]
pub enum Event<'a> {
    /// A connection.
    Accepted {
        /// Who took it.
        listener: ListenerKey,
        /// The connection; attach it, here or at another driver.
        stream: Stream,
    },
    /// A connection for which there is no descriptor, accepted on one held back for the purpose:
    /// say so with [`Stream::write_now`] and drop it before calling the driver again.
    Overflow {
        /// Who took it.
        listener: ListenerKey,
        /// The connection.
        stream: Stream,
    },
    /// Accepting failed for want of memory or descriptors; it goes on by itself after a rest.
    AcceptFailed {
        /// Whose accepting failed.
        listener: ListenerKey,
        /// The kernel's answer.
        error: io::Error,
    },
    /// Bytes that arrived; never none.
    Received {
        /// Where.
        stream: StreamKey,
        /// The bytes, valid until the next call.
        bytes: &'a [u8],
    },
    /// No more input: the other side closed, or closed its sending half, or reading failed. Comes
    /// once. Sending may still work; closing is up to the owner.
    Ended {
        /// Where.
        stream: StreamKey,
        /// Why reading failed, if it did.
        error: Option<io::Error>,
    },
    /// A send is over and the next one may start.
    Sent {
        /// Where.
        stream: StreamKey,
        /// Bytes handed to the kernel: nearly always all of them. Fewer where the stream broke on
        /// the way, which the next send tells, or the kernel cut the send short, as it does now
        /// and then under load: the rest is for the owner to send.
        bytes: usize,
    },
    /// A send failed; no more can be sent.
    SendFailed {
        /// Where.
        stream: StreamKey,
        /// The kernel's answer.
        error: io::Error,
    },
    /// Something happened to a datagram socket.
    Datagrams {
        /// Where.
        socket: DatagramKey,
        /// What.
        event: DatagramEvent<'a>,
    },
    /// The bell was rung, once or several times.
    Woken,
}

/// What happened to a datagram socket.
#[derive(Debug)]
pub enum DatagramEvent<'a> {
    /// Packets of one sender came together.
    Received {
        /// The packets, one behind the other, valid until the next call. May be empty.
        bytes: &'a [u8],
        /// Bytes of each packet; the last may be shorter.
        segment: usize,
        /// Packets, or trains of them, that the kernel has dropped since the last of these events
        /// because they were not taken in time.
        dropped: u32,
        /// Who sent them.
        from: Option<SocketAddr>,
    },
    /// Nothing listens where a packet was sent to.
    Refused {
        /// Where to.
        to: SocketAddr,
    },
    /// Receiving failed; it goes on by itself after a rest.
    Failed {
        /// The kernel's answer.
        error: io::Error,
    },
}

impl<'a> DatagramEvent<'a> {
    /// `bytes` came by a receive, and so many packets have been dropped.
    pub(super) fn received(received: &Received, bytes: &'a [u8], dropped: u32) -> Self {
        Self::Received { bytes, segment: received.segment, dropped, from: received.from }
    }

    /// The same, as what happened to socket `key`.
    pub(super) fn at(self, key: Key) -> Event<'a> {
        Event::Datagrams { socket: DatagramKey(key), event: self }
    }
}

/// What a driver did, as running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCounts {
    /// Entries into the kernel to submit or wait.
    pub enters: u64,
    /// Of these, entries in the middle of a turn because the submission queue was full (io_uring).
    pub enters_early: u64,
    /// System calls on single sockets: accept, receive, send (mio; io_uring when out of
    /// descriptors).
    pub socket_calls: u64,
    /// Receives that ended for want of a receive buffer, and were started again (io_uring).
    pub buffers_exhausted: u64,
    /// Receives that the kernel ended on its own, and were started again (io_uring).
    pub receives_restarted: u64,
    /// Turns that found the completion queue overflowed (io_uring): it costs, but loses nothing.
    pub cq_overflows: u64,
    /// Connections accepted on the spare descriptor.
    pub overflows: u64,
    /// Rings of other drivers that the kernel could not deliver and an eventfd did (io_uring).
    pub rings_by_eventfd: u64,
}

/// Many sockets, worked on together. Belongs to the thread that opened it.
#[derive(Debug)]
pub struct Driver {
    inner: Inner,
    /// The kernel takes submissions to an io_uring from the thread that opened it only.
    _not_send: PhantomData<*const ()>,
}

#[derive(Debug)]
enum Inner {
    Uring(Box<UringDriver>),
    Poll(Box<PollDriver>),
}

macro_rules! each {
    ($driver:expr, $inner:ident => $call:expr) => {
        match $driver {
            Inner::Uring($inner) => $call,
            Inner::Poll($inner) => $call,
        }
    };
}

impl Driver {
    /// Opens a driver on the calling thread.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; with [`Choice::Auto`] only when epoll fails too.
    pub fn open(choice: Choice, options: &Options) -> Result<(Self, Report), OpenError> {
        let mut features = Vec::new();
        let because = match choice {
            Choice::Mio => "chosen by configuration".to_owned(),
            Choice::Auto | Choice::IoUring => match UringDriver::open(options, &mut features) {
                Ok(driver) => {
                    let reason = "everything it needs is there".to_owned();
                    let report = Report { kind: Kind::IoUring, reason, features };
                    return Ok((Self::new(Inner::Uring(Box::new(driver))), report));
                }
                Err(error) if choice == Choice::IoUring => return Err(error),
                Err(error) => error.to_string(),
            },
        };
        let driver = PollDriver::open().map_err(OpenError::Mio)?;
        let report = Report { kind: Kind::Mio, reason: because, features };
        Ok((Self::new(Inner::Poll(Box::new(driver))), report))
    }

    fn new(inner: Inner) -> Self {
        Self { inner, _not_send: PhantomData }
    }

    /// Which driver this is.
    pub fn kind(&self) -> Kind {
        match &self.inner {
            Inner::Uring(_) => Kind::IoUring,
            Inner::Poll(_) => Kind::Mio,
        }
    }

    /// Starts accepting.
    pub fn listen(&mut self, listener: Listener) -> ListenerKey {
        each!(&mut self.inner, inner => inner.listen(listener))
    }

    /// Stops accepting and closes the listener. Connections that it has not yet handed out are
    /// closed.
    pub fn unlisten(&mut self, key: ListenerKey) {
        each!(&mut self.inner, inner => inner.unlisten(key));
    }

    /// Takes a stream and starts receiving.
    pub fn attach(&mut self, stream: Stream) -> StreamKey {
        each!(&mut self.inner, inner => inner.attach(stream))
    }

    /// Stops receiving. What the kernel had received already may still be reported.
    pub fn pause(&mut self, key: StreamKey) {
        each!(&mut self.inner, inner => inner.pause(key));
    }

    /// Receives again, from where it stopped.
    pub fn resume(&mut self, key: StreamKey) {
        each!(&mut self.inner, inner => inner.resume(key));
    }

    /// Sends the pieces one after the other, in the next turn at the latest.
    ///
    /// The driver keeps the pieces until the kernel has taken all their bytes, then reports
    /// [`Event::Sent`].
    ///
    /// # Panics
    ///
    /// Where a send is under way on the stream, or there is no piece, or there are more than
    /// `limits::SEND_PIECES_MAX`.
    pub fn send<'a>(&mut self, key: StreamKey, pieces: impl Iterator<Item = &'a Slice>) {
        each!(&mut self.inner, inner => inner.send(key, pieces));
    }

    /// Whether a send is under way: from `send` until its event was taken.
    pub fn sending(&self, key: StreamKey) -> bool {
        each!(&self.inner, inner => inner.sending(key))
    }

    /// The stream itself, for what is done at once and without waiting; not for sending beside
    /// [`Driver::send`].
    pub fn stream(&self, key: StreamKey) -> Option<&Stream> {
        each!(&self.inner, inner => inner.stream(key))
    }

    /// Gives up the stream: no event comes for the key any more, what is under way is cancelled,
    /// and the descriptor is closed once the kernel is done with it.
    ///
    /// Everything that was reported as sent still reaches the other side.
    pub fn close(&mut self, key: StreamKey) {
        each!(&mut self.inner, inner => inner.close(key));
    }

    /// Takes a socket for datagrams and starts receiving.
    pub fn attach_datagrams(&mut self, socket: DatagramSocket) -> DatagramKey {
        each!(&mut self.inner, inner => inner.attach_datagrams(socket))
    }

    /// Closes a datagram socket.
    pub fn close_datagrams(&mut self, key: DatagramKey) {
        each!(&mut self.inner, inner => inner.close_datagrams(key));
    }

    /// Sends from the socket at once: see [`DatagramSocket::send`].
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn send_datagrams(
        &mut self,
        key: DatagramKey,
        to: &Destination,
        packets: &[IoSlice<'_>],
    ) -> io::Result<Sent> {
        each!(&mut self.inner, inner => inner.datagrams.send(key.0, to, packets))
    }

    /// Something to wake this driver with, from any thread.
    #[must_use]
    pub fn bell(&self) -> Bell {
        each!(&self.inner, inner => inner.bell())
    }

    /// Wakes another driver, as part of this turn's submission where both are io_uring.
    pub fn ring(&mut self, bell: &Bell) {
        each!(&mut self.inner, inner => inner.ring(bell));
    }

    /// Hands everything that was asked for to the kernel and, if nothing is ready, waits.
    ///
    /// One system call in io_uring, or none where there is nothing to hand over and no wait; one
    /// in mio plus those that sends need. A signal ends the wait early.
    ///
    /// # Errors
    ///
    /// The kernel's, for nothing that can be expected: the driver is beyond use.
    pub fn turn(&mut self, wait: Wait) -> io::Result<()> {
        each!(&mut self.inner, inner => inner.turn(wait))
    }

    /// Whether a turn without waiting would bring events, or there are some already.
    ///
    /// Costs a few loads in io_uring. In mio a system call that looks at the sockets without
    /// waiting, unless work is known to be left.
    pub fn ready(&mut self) -> bool {
        each!(&mut self.inner, inner => inner.ready())
    }

    /// Whether there may be datagrams that were there when the last turn began and that it did not
    /// bring, because turns are bounded. Asked when its events were taken.
    pub fn is_behind(&mut self) -> bool {
        each!(&mut self.inner, inner => inner.is_behind())
    }

    /// The next thing that happened, if the last turn brought one more.
    ///
    /// Ends within a bounded number of calls between two turns: a busy stream cannot keep the
    /// others waiting.
    #[must_use]
    pub fn next_event(&mut self) -> Option<Event<'_>> {
        each!(&mut self.inner, inner => inner.next_event())
    }

    /// What it did so far.
    pub fn counts(&self) -> DriverCounts {
        each!(&self.inner, inner => inner.counts())
    }
}

#[cfg(test)]
mod tests;
