//! Asking a daemon of this host for shared memory.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::mem::stream::session_ends;
use crate::mem::{QueueSizes, Region};
use crate::sys::memfd::{Memfd, is_no_descriptor, receive_with_descriptor};
use crate::sys::peer::credentials;
use crate::wire::session::attach::{ATTACH_ANSWER_BYTES, ATTACH_VERSION, NotAttach};
use crate::wire::session::{AttachAnswer, AttachHello, AttachStatus};

use super::incoming::{Incoming, SharedIncoming};
use super::outgoing::{Outgoing, SharedOutgoing};
use super::socket::{Block, Socket, is_closed};

/// Bytes that a socket for bells may hold unread: the least that the kernel allows, so that one
/// which nobody listens to is full at once.
pub(super) const BELL_BYTES: usize = 1;

/// Why there is no shared memory with a daemon.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    #[error("{} does not answer: {error}", path.display())]
    Unreachable { path: PathBuf, error: io::Error },
    #[error("{} is of another user ({user}) than the daemon's own socket", path.display())]
    Foreign { path: PathBuf, user: u32 },
    #[error("there is no descriptor left for it: raise the limit (ulimit -n)")]
    NoDescriptor,
    #[error("the daemon did not answer in time")]
    TimedOut,
    #[error("the daemon closed the connection")]
    Closed,
    #[error("the daemon does not attach this process: {0}")]
    Refused(AttachStatus),
    #[error("the answer is {0}")]
    Answer(#[from] NotAttach),
    #[error("the memory cannot be used: {0}")]
    Memory(#[source] io::Error),
    #[error("the hello failed: {0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        if is_closed(&error) {
            Self::Closed
        } else if is_no_descriptor(&error) {
            Self::NoDescriptor
        } else {
            Self::Io(error)
        }
    }
}

/// Where a daemon whose Unix socket is at `path` attaches sessions.
pub(super) fn attach_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".shm");
    PathBuf::from(name)
}

/// Checks that the daemon whose Unix socket is at `path` is who answers on `socket`.
///
/// In a directory where anybody may put files, anybody may put one beside that socket. So the
/// kernel is asked who listens there: a look at the file would be one at what lies there now.
pub(super) fn check_user(socket: impl AsFd, path: &Path) -> Result<(), AttachError> {
    let owner = fs::metadata(path).map_err(|error| unreachable(path, error))?.uid();
    let user = credentials(socket).map_err(AttachError::Io)?.uid;
    // Root may have given the file away, and needs no trick.
    if user != owner && user != 0 {
        return Err(AttachError::Foreign { path: attach_path(path), user });
    }
    Ok(())
}

/// Nobody answers at `path`, or there is no such thing, or no room for one more that connects.
pub(super) fn unreachable(path: &Path, error: io::Error) -> AttachError {
    match error.kind() {
        io::ErrorKind::WouldBlock => AttachError::TimedOut,
        _ => AttachError::Unreachable { path: path.to_owned(), error },
    }
}

/// Sends the hello, for which a new socket has room.
pub(super) fn say_hello(socket: &Socket) -> Result<(), AttachError> {
    let hello = AttachHello { version: ATTACH_VERSION, submission_bytes: 0, delivery_bytes: 0 };
    let hello = hello.emit();
    if socket.send(&hello, Block::Never)? != hello.len() {
        return Err(AttachError::Io(io::ErrorKind::WriteZero.into()));
    }
    Ok(())
}

/// Says hello and waits for the answer, by blocking calls.
pub(super) fn attach(
    socket: Socket,
    deadline: Option<Instant>,
) -> Result<(Incoming, Outgoing), AttachError> {
    say_hello(&socket)?;
    loop {
        match receive(&socket) {
            Err(AttachError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if !socket.wait_readable(deadline)? {
                    return Err(AttachError::TimedOut);
                }
            }
            Ok((answer, memory)) => return finish(socket, &answer, memory),
            Err(error) => return Err(error),
        }
    }
}

/// Takes the answer if it is there: a daemon sends it as one.
pub(super) fn receive(
    socket: &Socket,
) -> Result<([u8; ATTACH_ANSWER_BYTES], Option<OwnedFd>), AttachError> {
    let mut answer = [0; ATTACH_ANSWER_BYTES];
    let (len, memory) = receive_with_descriptor(socket, &mut answer)?;
    if len == 0 {
        return Err(AttachError::Closed);
    }
    // What is shorter is no answer, and its zeros say so.
    Ok((answer, memory))
}

/// Makes the two directions of a session of the daemon's answer.
pub(super) fn finish(
    socket: Socket,
    answer: &[u8; ATTACH_ANSWER_BYTES],
    memory: Option<OwnedFd>,
) -> Result<(Incoming, Outgoing), AttachError> {
    let answer = AttachAnswer::parse(answer)?;
    let memory = match (answer.status, memory) {
        (AttachStatus::Attached, Some(memory)) if answer.version == ATTACH_VERSION => memory,
        (AttachStatus::Attached, _) => return Err(AttachError::Answer(NotAttach)),
        (refused, _) => return Err(AttachError::Refused(refused)),
    };
    let sizes = QueueSizes {
        submission_bytes: answer.submission_bytes as usize,
        delivery_bytes: answer.delivery_bytes as usize,
    };
    if !sizes.are_legal() {
        return Err(AttachError::Answer(NotAttach));
    }
    let bytes = sizes.region_bytes();
    let memory = Memfd::adopt(memory, bytes).map_err(AttachError::Memory)?;
    let region = Region::map(&memory, bytes).map_err(AttachError::Memory)?;
    let (writer, reader) = session_ends(region, sizes);
    Ok((
        Incoming::Shared(Box::new(SharedIncoming::new(socket.clone(), reader))),
        Outgoing::Shared(Box::new(SharedOutgoing::new(socket, writer))),
    ))
}
