//! Where a session's bytes come from: its socket, or the memory that it shares with its daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::base::limits::SHELF_BYTES_MAX;
use crate::mem::stream::Begun;
use crate::mem::{Corrupt, Region, StreamReader};
use crate::sys::memfd::{Memfd, receive_with_descriptor};

use super::inbox::ReceiveBuffer;
use super::socket::{Block, Socket, corrupt, is_closed};

/// Looks at the memory for each look at the socket while spinning.
const SOCKET_STRIDE: u32 = 4096;

/// The same while a program spins by itself. Not so many: an event loop comes here as well, and a
/// bell that nobody takes keeps it awake.
const TRY_STRIDE: u32 = 64;

/// How hard to look for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Wait until there are some.
    Wait,
    /// Do not wait, but see to it that the descriptor will tell.
    Once,
    /// Do not wait, and see to it that the descriptor will tell, but as cheaply as can be: the next
    /// look may come soon.
    Try,
    /// Do not wait; the next look comes soon.
    Spin,
}

/// Bytes from the daemon, in order.
#[derive(Debug)]
pub(super) enum Incoming {
    Socket(Socket, ReceiveBuffer),
    Shared(Box<SharedIncoming>),
}

impl Incoming {
    /// What has come and is not consumed.
    #[inline]
    pub(super) fn unread(&self) -> &[u8] {
        match self {
            Self::Socket(_, buffer) => buffer.unread(),
            Self::Shared(shared) => shared.unread(),
        }
    }

    /// Whether a fill brings something without a system call.
    pub(super) fn has_more(&self) -> bool {
        match self {
            Self::Socket(..) => false,
            Self::Shared(shared) => !shared.reader.is_empty(),
        }
    }

    #[inline]
    pub(super) fn consume(&mut self, len: usize) {
        match self {
            Self::Socket(_, buffer) => buffer.consume(len),
            Self::Shared(shared) => shared.consume(len),
        }
    }

    /// Makes `unread` longer; 0 at the end of the stream.
    pub(super) fn fill(&mut self, look: Look) -> io::Result<usize> {
        match self {
            Self::Socket(socket, buffer) => match look {
                Look::Wait => buffer.fill(socket, Block::Wait),
                Look::Once | Look::Try | Look::Spin => buffer.fill(socket, Block::Never),
            },
            Self::Shared(shared) => shared.fill(look),
        }
    }

    /// Waits until a look can bring something, or the end; `false` if `deadline` comes first.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> io::Result<bool> {
        self.socket().wait_readable(deadline)
    }

    pub(super) fn socket(&self) -> &Socket {
        match self {
            Self::Socket(socket, _) => socket,
            Self::Shared(shared) => &shared.socket,
        }
    }
}

impl AsFd for Incoming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket().as_fd()
    }
}

/// The delivery queue, and the socket by which the daemon rings.
#[derive(Debug)]
pub(super) struct SharedIncoming {
    socket: Socket,
    reader: StreamReader,
    /// Bytes of a frame that is in several records, and what follows it in the last of them. A
    /// frame in one record is read where it lies.
    gathered: Vec<u8>,
    /// Bytes of `gathered` that are consumed.
    start: usize,
    /// The daemon was told to ring.
    declared: bool,
    /// The socket has ended, so nothing new comes.
    ended: bool,
    /// Looks since the last one at the socket.
    looks: u32,
    /// A shelf is missing, so that it is not known any more which is which, or nothing can come.
    failed: Option<io::Error>,
}

impl SharedIncoming {
    pub(super) fn new(socket: Socket, reader: StreamReader) -> Self {
        Self {
            socket,
            reader,
            gathered: Vec::new(),
            start: 0,
            declared: false,
            ended: false,
            looks: 0,
            failed: None,
        }
    }

    #[inline]
    fn unread(&self) -> &[u8] {
        match self.gathered.as_slice() {
            [] => self.reader.lent(),
            gathered => &gathered[self.start..],
        }
    }

    #[inline]
    fn consume(&mut self, len: usize) {
        if self.gathered.is_empty() {
            return self.reader.take(len);
        }
        assert!(len <= self.gathered.len() - self.start, "only what is there can be consumed");
        self.start += len;
        if self.start == self.gathered.len() {
            self.gathered.clear();
            self.start = 0;
        }
    }

    #[inline]
    fn fill(&mut self, look: Look) -> io::Result<usize> {
        if let Some(error) = &self.failed {
            return Err(copy_of(error));
        }
        if let Some(len) = self.next_record()? {
            return Ok(len);
        }
        match look {
            Look::Spin => {
                self.looks = self.looks.wrapping_add(1);
                if !self.looks.is_multiple_of(SOCKET_STRIDE) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.look_at_socket()?;
                self.last_or_would_block()
            }
            Look::Try => {
                self.looks = self.looks.wrapping_add(1);
                // The daemon rings, or has rung and nobody took the bell: the descriptor tells.
                if self.declared && !self.looks.is_multiple_of(TRY_STRIDE) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.fill_or_declare()
            }
            Look::Once => self.fill_or_declare(),
            Look::Wait => loop {
                match self.fill_or_declare() {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.socket.wait_readable(None)?;
                    }
                    result => return result,
                }
            },
        }
    }

    /// Goes on to the next record, behind what is left of the last one.
    #[inline]
    fn next_record(&mut self) -> io::Result<Option<usize>> {
        let left = self.reader.lent();
        if !left.is_empty() {
            self.gathered.drain(..self.start);
            self.start = 0;
            self.gathered.extend_from_slice(left);
            let left = left.len();
            self.reader.take(left);
        }
        if self.reader.should_release() {
            self.release()?;
        }
        match self.reader.begin().map_err(corrupt)? {
            Begun::Bytes => {}
            Begun::Shelf => self.take_shelf()?,
            Begun::Nothing => {
                // All is read, so the daemon can have all of the queue: it may need it for one
                // message.
                self.release()?;
                return Ok(None);
            }
        }
        if std::mem::take(&mut self.declared) {
            self.reader.awake();
        }
        let record = self.reader.lent();
        let len = record.len();
        if !self.gathered.is_empty() {
            self.gathered.extend_from_slice(record);
            self.reader.take(len);
        }
        Ok(Some(len))
    }

    /// Tells the daemon to ring for what comes, and looks once more.
    #[cold]
    fn fill_or_declare(&mut self) -> io::Result<usize> {
        loop {
            if !std::mem::replace(&mut self.declared, true) {
                self.reader.prepare_sleep();
                if let Some(len) = self.next_record()? {
                    return Ok(len);
                }
            }
            if self.ended {
                return self.last_or_would_block();
            }
            // A byte means that the daemon has answered the declaration: it needs a new one.
            if !self.look_at_socket()? {
                return self.last_or_would_block();
            }
            self.declared = false;
        }
    }

    /// After a look at the socket: what was published before it ended, its end, or nothing.
    fn last_or_would_block(&mut self) -> io::Result<usize> {
        if !self.ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(self.next_record()?.unwrap_or(0))
    }

    /// Takes the shelf that the next record speaks of: the daemon hands it over first.
    #[cold]
    fn take_shelf(&mut self) -> io::Result<()> {
        loop {
            let rang = self.look_at_socket()?;
            match self.reader.begin().map_err(corrupt)? {
                Begun::Shelf if rang => {}
                Begun::Bytes => return Ok(()),
                Begun::Shelf | Begun::Nothing => return Err(corrupt(Corrupt)),
            }
        }
    }

    /// Takes bells from the socket, and a shelf that comes with one; whether there was one.
    fn look_at_socket(&mut self) -> io::Result<bool> {
        let looked = self.take_bells();
        if let Err(error) = &looked {
            self.failed = Some(copy_of(error));
        }
        looked
    }

    fn take_bells(&mut self) -> io::Result<bool> {
        let mut bells = [0; 64];
        match receive_with_descriptor(&self.socket, &mut bells) {
            Ok((0, _)) => self.ended = true,
            Ok((_, shelf)) => {
                if let Some(shelf) = shelf {
                    let (memory, len) = Memfd::adopt_up_to(shelf, SHELF_BYTES_MAX)?;
                    self.reader.add_shelf(Region::map_to_read(&memory, len)?);
                }
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if is_closed(&error) => self.ended = true,
            Err(error) => return Err(error),
        }
        Ok(false)
    }

    fn release(&mut self) -> io::Result<()> {
        if self.reader.release() {
            self.socket.ring()?;
        }
        Ok(())
    }
}

/// The same error for the next one who asks.
fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
