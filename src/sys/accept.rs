//! Accepting one connection when descriptors may have run out.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, fcntl_dupfd_cloexec};

use super::bell::Bell;
use super::socket::{Listener, Stream};

/// How long accepting rests after it failed for want of memory or descriptors.
pub(super) const REST: Duration = Duration::from_millis(50);

/// Connections that one listener yields in one turn of the mio driver.
pub(super) const ACCEPTS_PER_TURN: usize = 64;

/// A descriptor held back, so that a connection can be told that there is no room for it.
///
/// Without it the connection would stay in the backlog unanswered, and wake us for ever.
#[derive(Debug)]
pub(super) struct Spare(Option<OwnedFd>);

/// What came of trying to accept.
#[derive(Debug)]
pub(super) enum Accepting {
    /// A connection.
    Stream(Stream),
    /// A connection on the spare descriptor: to be refused and dropped at once.
    Overflow(Stream),
    /// Nobody waits.
    Empty,
    /// Out of memory or the like: rest, then try again.
    Failed(io::Error),
}

impl Spare {
    /// Holds back a copy of the bell's descriptor: any file serves.
    pub(super) fn new(bell: &Bell) -> io::Result<Self> {
        Ok(Self(Some(fcntl_dupfd_cloexec(bell.event(), 0)?)))
    }

    /// Holds a descriptor back again, if the last one was spent and one is free.
    pub(super) fn restore(&mut self, bell: &Bell) {
        if self.0.is_none() {
            self.0 = fcntl_dupfd_cloexec(bell.event(), 0).ok();
        }
    }

    /// Accepts from `listener`, if need be with the spare descriptor.
    ///
    /// Connections that broke while they waited are passed over.
    pub(super) fn accept(&mut self, listener: &Listener) -> Accepting {
        loop {
            match listener.accept_now() {
                Ok(stream) if self.0.is_none() => return Accepting::Overflow(stream),
                Ok(stream) => return Accepting::Stream(stream),
                Err(Errno::AGAIN) => return Accepting::Empty,
                Err(error) if is_about_connection(error) => {}
                // Once the spare is spent, the next round has a descriptor or fails for good.
                Err(Errno::MFILE) if self.0.take().is_some() => {}
                Err(error) => return Accepting::Failed(error.into()),
            }
        }
    }
}

/// Whether the error is of the one connection that would have been accepted (accept(2), "Error
/// handling"), so that the next one may be fine.
pub(super) fn is_about_connection(error: Errno) -> bool {
    [
        Errno::INTR,
        Errno::CONNABORTED,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::TIMEDOUT,
        Errno::PERM,
    ]
    .contains(&error)
}
