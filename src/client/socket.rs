//! The connection's socket. It stays in blocking mode: each call says whether it may wait, so the
//! two halves of a session can differ.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use crate::mem::Corrupt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, recv, send, sendmsg, shutdown,
};

/// Whether a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Block {
    /// Until it can do something.
    Wait,
    /// Not at all: `ErrorKind::WouldBlock` then.
    Never,
}

/// A handle on the descriptor, whoever owns that: clones share it.
#[derive(Clone)]
pub(super) struct Socket(Arc<dyn AsFd + Send + Sync>);

impl Socket {
    pub(super) fn new(owner: Arc<dyn AsFd + Send + Sync>) -> Self {
        Self(owner)
    }

    /// Receives what is there; 0 at the end of the stream.
    pub(super) fn receive(&self, into: &mut [u8], block: Block) -> io::Result<usize> {
        let flags = match block {
            Block::Wait => RecvFlags::empty(),
            Block::Never => RecvFlags::DONTWAIT,
        };
        retry(|| recv(self, &mut *into, flags).map(|(_, len)| len))
    }

    /// Sends some of `bytes`, at least one.
    pub(super) fn send(&self, bytes: &[u8], block: Block) -> io::Result<usize> {
        retry(|| send(self, bytes, send_flags(block)))
    }

    /// Sends some of `pieces`, at least one byte.
    pub(super) fn send_pieces(&self, pieces: &[IoSlice<'_>], block: Block) -> io::Result<usize> {
        let mut control = SendAncillaryBuffer::default();
        retry(|| sendmsg(self, pieces, &mut control, send_flags(block)))
    }

    /// Sends a byte that says nothing but that there is something to look at. Where the socket is
    /// full of them already, one more would say no more.
    pub(super) fn ring(&self) -> io::Result<()> {
        match self.send(&[0], Block::Never) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until there is something to receive, or the end; `false` if `deadline` comes first.
    pub(super) fn wait_readable(&self, deadline: Option<Instant>) -> io::Result<bool> {
        self.wait(PollFlags::IN, deadline)
    }

    /// Waits until something can be sent; `false` if `deadline` comes first.
    pub(super) fn wait_writable(&self, deadline: Option<Instant>) -> io::Result<bool> {
        self.wait(PollFlags::OUT, deadline)
    }

    /// Ends the connection for both sides, whoever else has a handle on it.
    pub(super) fn hang_up(&self) {
        // One that has ended already is as good.
        let _ = shutdown(self, Shutdown::Both);
    }

    /// Whether the other side has closed.
    pub(super) fn is_hung_up(&self) -> io::Result<bool> {
        self.wait(PollFlags::empty(), Some(Instant::now()))
    }

    fn wait(&self, events: PollFlags, deadline: Option<Instant>) -> io::Result<bool> {
        let ready = retry(|| {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            // A time too long for the kernel's clock is as good as none.
            let left = left.and_then(|left| Timespec::try_from(left).ok());
            poll(&mut [PollFd::new(self, events)], left.as_ref())
        })?;
        Ok(ready != 0)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_fd(), f)
    }
}

/// Whether the error means that the daemon is gone: an end of the stream seen from another side.
pub(super) fn is_closed(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// The daemon's memory makes no sense: its process is broken, or was never a daemon.
pub(super) fn corrupt(error: Corrupt) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn send_flags(block: Block) -> SendFlags {
    match block {
        Block::Wait => SendFlags::NOSIGNAL,
        Block::Never => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}
