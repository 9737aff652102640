//! The receiving half of a session.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::base::limits::{CLIENT_RECEIVE_BYTES, CLIENT_RECEIVE_BYTES_MIN, DAEMON_FRAME_BYTES_MAX};
use crate::base::{GroupName, PrivateGroup};
use crate::sys::memfd::is_no_descriptor;
use crate::wire::session::Frame;

use super::incoming::{Incoming, Look};
use super::socket::{Block, Socket, is_closed};
use super::{Event, ReceiveError, Wait};

/// The receiving half of a [`Session`](super::Session); it may live in a thread of its own.
///
/// Each receive takes as many bytes as there are, so that under load one system call yields many
/// events.
#[derive(Debug)]
pub struct Inbox {
    own: PrivateGroup,
    own_name: GroupName,
    incoming: Incoming,
    /// Bytes of the event that is lent out, to be consumed with the next call.
    lent: usize,
    wait: Wait,
}

impl Inbox {
    pub(super) fn new(own: PrivateGroup, incoming: Incoming, wait: Wait) -> Self {
        Self { own, own_name: own.to_name(), incoming, lent: 0, wait }
    }

    /// The session's own address: `#name#daemon`.
    pub fn private_group(&self) -> &PrivateGroup {
        &self.own
    }

    /// Waits for the next event, in the way that [`Options::wait`](super::Options::wait) says.
    ///
    /// The event lends from the receive buffer: copy what is to be kept.
    ///
    /// # Errors
    ///
    /// [`ReceiveError::Closed`] at the end of the session; events received before it come first.
    pub fn receive(&mut self) -> Result<Event<'_>, ReceiveError> {
        let len = match self.next_len()? {
            Some(len) => len,
            None => self.wait_for_event()?,
        };
        self.take(len)
    }

    /// The next event if there is one; never waits. After `None` the descriptor tells of the next
    /// one. With [`Wait::Spin`] not every call asks the kernel, so that a program may call it in a
    /// loop of its own.
    ///
    /// # Errors
    ///
    /// As [`Inbox::receive`].
    pub fn try_receive(&mut self) -> Result<Option<Event<'_>>, ReceiveError> {
        let look = if self.wait == Wait::Spin { Look::Try } else { Look::Once };
        match self.poll_len(look)? {
            Some(len) => self.take(len).map(Some),
            None => Ok(None),
        }
    }

    /// Waits for the next event, but no longer than `timeout`; `None` then.
    ///
    /// # Errors
    ///
    /// As [`Inbox::receive`].
    pub fn receive_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<Event<'_>>, ReceiveError> {
        if let Some(len) = self.next_len()? {
            return self.take(len).map(Some);
        }
        let now = Instant::now();
        let deadline = now.checked_add(timeout);
        let spin_until = match self.wait {
            Wait::Park => Some(now),
            Wait::Spin => deadline,
            Wait::Adaptive(time) => now.checked_add(time.min(timeout)),
        };
        loop {
            let spin = spin_until.is_none_or(|until| Instant::now() < until);
            if let Some(len) = self.poll_len(if spin { Look::Spin } else { Look::Once })? {
                return self.take(len).map(Some);
            }
            if spin {
                std::hint::spin_loop();
            } else if !self.incoming.wait(deadline).map_err(ReceiveError::Io)? {
                return Ok(None);
            }
        }
    }

    /// Whether an event, or by shared memory some of it, is at hand, without a system call.
    ///
    /// `false` does not mean that the descriptor will tell of the next one: an event loop waits for
    /// it when [`Inbox::try_receive`] has yielded `None`, and then only.
    pub fn has_buffered(&mut self) -> bool {
        // Malformed bytes yield an error without looking at the socket.
        self.next_len().map_or(true, |len| len.is_some()) || self.incoming.has_more()
    }

    /// Changes how [`Inbox::receive`] waits.
    pub fn set_wait(&mut self, wait: Wait) {
        self.wait = wait;
    }

    pub(super) fn wait(&self) -> Wait {
        self.wait
    }

    /// Bytes of the next event, as soon as all of it is there.
    fn wait_for_event(&mut self) -> Result<usize, ReceiveError> {
        let start = Instant::now();
        loop {
            let spin = match self.wait {
                Wait::Park => false,
                Wait::Spin => true,
                Wait::Adaptive(time) => start.elapsed() < time,
            };
            if !self.fill(if spin { Look::Spin } else { Look::Wait })? {
                std::hint::spin_loop();
                continue;
            }
            if let Some(len) = self.buffered_len()? {
                return Ok(len);
            }
        }
    }

    /// Bytes of the next event, if all of it is there.
    pub(super) fn next_len(&mut self) -> Result<Option<usize>, ReceiveError> {
        self.settle();
        self.buffered_len()
    }

    /// Bytes of the next event once all of it is there, receiving only what needs no waiting.
    pub(super) fn poll_len(&mut self, look: Look) -> Result<Option<usize>, ReceiveError> {
        self.settle();
        loop {
            if let Some(len) = self.buffered_len()? {
                return Ok(Some(len));
            }
            if !self.fill(look)? {
                return Ok(None);
            }
        }
    }

    /// Takes the event of `len` bytes that is next.
    pub(super) fn take(&mut self, len: usize) -> Result<Event<'_>, ReceiveError> {
        let frame = Frame::parse(self.incoming.unread()).map_err(ReceiveError::Frame)?;
        let (frame, _) = frame.expect("a frame of this length is buffered");
        let event = Event::new(frame, &self.own_name)?;
        // Not reached for a malformed frame: the next call must not step over it.
        self.lent = len;
        Ok(event)
    }

    /// Consumes the event that was lent out.
    fn settle(&mut self) {
        match std::mem::take(&mut self.lent) {
            0 => {}
            lent => self.incoming.consume(lent),
        }
    }

    /// Bytes of the next event if all of it is buffered.
    fn buffered_len(&self) -> Result<Option<usize>, ReceiveError> {
        let unread = &self.incoming.unread()[self.lent..];
        let len = Frame::len(unread).map_err(ReceiveError::Frame)?;
        Ok(len.filter(|&len| len <= unread.len()))
    }

    /// Receives more; `false` if there is nothing.
    fn fill(&mut self, look: Look) -> Result<bool, ReceiveError> {
        match self.incoming.fill(look) {
            Ok(0) => Err(ReceiveError::Closed),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(receive_error(error)),
        }
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.incoming.as_fd()
    }
}

fn receive_error(error: io::Error) -> ReceiveError {
    if is_closed(&error) {
        ReceiveError::Closed
    } else if is_no_descriptor(&error) {
        ReceiveError::NoDescriptor
    } else {
        ReceiveError::Io(error)
    }
}

/// Bytes received and not yet taken.
#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl ReceiveBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; CLIENT_RECEIVE_BYTES], start: 0, end: 0 }
    }

    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn consume(&mut self, len: usize) {
        assert!(len <= self.end - self.start, "only what is there can be consumed");
        self.start += len;
    }

    /// Receives once into the free space; 0 at the end of the stream.
    pub(super) fn fill(&mut self, socket: &Socket, block: Block) -> io::Result<usize> {
        self.make_room();
        let received = socket.receive(&mut self.bytes[self.end..], block)?;
        self.end += received;
        Ok(received)
    }

    fn make_room(&mut self) {
        if self.bytes.len() - self.end >= CLIENT_RECEIVE_BYTES_MIN {
            return;
        }
        // What is left is part of one frame, so this copies little for each receive.
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        // Doubling keeps memory within twice what has really arrived, whatever a length claims.
        if self.bytes.len() - self.end < CLIENT_RECEIVE_BYTES_MIN {
            let max = DAEMON_FRAME_BYTES_MAX + CLIENT_RECEIVE_BYTES_MIN;
            let len = (self.bytes.len() * 2).min(max);
            self.bytes.resize(len, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn buffer_grows_by_what_arrives_and_never_by_what_is_claimed() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let socket = Socket::new(Arc::new(near));
        let mut buffer = ReceiveBuffer::new();
        let mut sent = 0;
        // Part of one endless frame, as far as the buffer knows.
        for byte in 0..200_u8 {
            let piece = [byte; 10_000];
            far.write_all(&piece).unwrap();
            sent += piece.len();
            while buffer.unread().len() < sent {
                assert_ne!(buffer.fill(&socket, Block::Never).unwrap(), 0);
            }
            assert!(buffer.bytes.len() <= (2 * sent).max(CLIENT_RECEIVE_BYTES) + sent);
        }
        let pieces = buffer.unread().chunks(10_000);
        assert!(pieces.zip(0..).all(|(piece, byte)| piece == [byte; 10_000]));
    }

    #[test]
    fn taken_bytes_make_room_without_growing() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let socket = Socket::new(Arc::new(near));
        let mut buffer = ReceiveBuffer::new();
        for round in 0..1000_usize {
            far.write_all(&round.to_le_bytes().repeat(500)).unwrap();
            buffer.fill(&socket, Block::Never).unwrap();
            // One byte always stays, so the buffer never becomes empty.
            let len = buffer.unread().len();
            buffer.consume(len - 1);
        }
        assert_eq!(buffer.bytes.len(), CLIENT_RECEIVE_BYTES);
    }
}
