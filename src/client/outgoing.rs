//! Where a session's bytes go to: its socket, or the memory that it shares with its daemon.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::base;
use crate::mem::StreamWriter;
use crate::sys::Clock;

use super::socket::{Block, Socket, corrupt};

/// Bells after which a socket that still takes more is believed never to be full.
const LEAN_MAX: usize = 64;

/// Bytes to the daemon, in order.
#[derive(Debug)]
pub(super) enum Outgoing {
    Socket(Socket),
    Shared(Box<SharedOutgoing>),
}

impl Outgoing {
    /// Sends some of `bytes`, at least one.
    pub(super) fn send(&mut self, bytes: &[u8], block: Block) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.send(bytes, block),
            Self::Shared(shared) => shared.send(&[IoSlice::new(bytes)], block),
        }
    }

    /// Sends some of `pieces`, at least one byte.
    pub(super) fn send_pieces(
        &mut self,
        pieces: &[IoSlice<'_>],
        block: Block,
    ) -> io::Result<usize> {
        match self {
            Self::Socket(socket) => socket.send_pieces(pieces, block),
            Self::Shared(shared) => shared.send(pieces, block),
        }
    }

    /// Sends `len` bytes that `fill` writes where the daemon will read them. `false`: they must go
    /// another way, and nothing was called.
    pub(super) fn send_in_place(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
        block: Block,
    ) -> io::Result<bool> {
        match self {
            Self::Socket(_) => Ok(false),
            Self::Shared(shared) => shared.send_in_place(len, fill, block),
        }
    }

    /// Asks whether the daemon is still there where sending would not tell, which is the case with
    /// memory.
    pub(super) fn ask(&self) -> io::Result<()> {
        match self {
            Self::Socket(_) => Ok(()),
            Self::Shared(shared) => shared.ask(),
        }
    }

    /// Waits until something can be sent; `false` if `deadline` comes first.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        self.socket().wait_writable(deadline)
    }

    pub(super) fn socket(&self) -> &Socket {
        match self {
            Self::Socket(socket) => socket,
            Self::Shared(shared) => &shared.socket,
        }
    }
}

impl AsFd for Outgoing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

/// The submission queue, and the socket by which to ring the daemon.
#[derive(Debug)]
pub(super) struct SharedOutgoing {
    socket: Socket,
    writer: StreamWriter,
    /// When the socket was last asked whether the daemon is there.
    asked: base::Instant,
}

impl SharedOutgoing {
    pub(super) fn new(socket: Socket, writer: StreamWriter) -> Self {
        Self { socket, writer, asked: base::Instant::from_nanos(0) }
    }

    fn send(&mut self, pieces: &[IoSlice<'_>], block: Block) -> io::Result<usize> {
        self.until(block, |writer| {
            let mut sent = 0;
            for piece in pieces {
                let some = writer.write_some(piece).map_err(corrupt)?;
                sent += some;
                if some < piece.len() {
                    break;
                }
            }
            Ok((sent > 0).then_some(sent))
        })
    }

    fn send_in_place(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
        block: Block,
    ) -> io::Result<bool> {
        if len > self.writer.record_bytes_max() {
            return Ok(false);
        }
        let mut fill = Some(fill);
        let sent = self.until(block, |writer| {
            let filled = writer.write_with(len, |bytes| {
                let fill = fill.take().expect("a record is written once");
                fill(bytes);
            });
            filled.map_err(corrupt)
        });
        match sent {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Calls `write` until there is room for what it writes, and publishes that.
    fn until<T>(
        &mut self,
        block: Block,
        mut write: impl FnMut(&mut StreamWriter) -> io::Result<Option<T>>,
    ) -> io::Result<T> {
        loop {
            // Once more after leaning: until then the daemon need not have known.
            let mut written = write(&mut self.writer)?;
            if written.is_none() {
                self.lean()?;
                written = write(&mut self.writer)?;
            }
            if let Some(written) = written {
                self.publish()?;
                return Ok(written);
            }
            match block {
                Block::Never => return Err(io::ErrorKind::WouldBlock.into()),
                Block::Wait => self.socket.wait_writable(None)?,
            };
        }
    }

    #[inline]
    fn publish(&mut self) -> io::Result<()> {
        if self.writer.publish() {
            return self.socket.ring();
        }
        // A daemon that was killed takes nothing more and needs no bell. Once for each tick of the
        // kernel's timer: one that sends now and then asks each time, and the others seldom.
        let tick = Clock.last_tick();
        if tick == self.asked {
            return Ok(());
        }
        self.asked = tick;
        self.ask()
    }

    #[cold]
    fn ask(&self) -> io::Result<()> {
        if self.socket.is_hung_up()? { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Rings until the socket takes no more: it is writable again when the daemon has listened, and
    /// then it has looked at the queue too, or is about to, unless it holds the session.
    #[cold]
    fn lean(&self) -> io::Result<()> {
        for _ in 0..LEAN_MAX {
            self.socket.ring()?;
            if !self.socket.wait_writable(Some(Instant::now()))? {
                break;
            }
        }
        Ok(())
    }
}
