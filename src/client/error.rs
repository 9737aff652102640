//! What can go wrong, one type for each operation.

use std::io;

use crate::base::NameError;
use crate::wire::session::{AnswerError, FrameError, Reject};

/// What can be said of a connection that ended, on this side of it.
const CLOSED: &str = "the daemon closed the connection: it ended, or dropped this session, \
                      which read too slowly or broke a rule; its log tells";

/// There is no session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address has none of the known forms: correct it.
    #[error("'{address}' is no daemon address: PORT, PORT@HOST or unix:PATH is expected")]
    Address {
        /// As it was given.
        address: String,
    },
    /// The session name asked for is illegal: choose 1 to 10 characters from `$` to `~`.
    #[error("illegal session name: {0}")]
    Name(NameError),
    /// The host's name could not be resolved.
    #[error("cannot resolve host '{host}': {error}")]
    Resolve {
        /// The host.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// Nobody answers at the address, or at any address of the host: is the daemon running?
    #[error("cannot connect to {address}: {error}")]
    Unreachable {
        /// The address tried last.
        address: String,
        /// What the attempt ended with.
        error: io::Error,
    },
    /// [`Options::connect_timeout`](super::Options::connect_timeout) passed: try again later.
    #[error("the daemon did not answer in time")]
    TimedOut,
    /// The daemon turned the client away and said why.
    #[error("rejected: {0}")]
    Rejected(Reject),
    /// [`Transport::SharedMemory`](super::Transport::SharedMemory) was asked for and
    /// cannot be had.
    #[error("no shared memory with the daemon: {reason}")]
    NotAttached {
        /// Why.
        reason: String,
    },
    /// The daemon allows none of the methods this library has: `NULL` and `IP`.
    #[error("the daemon asks for other authentication than NULL or IP: {offered}")]
    Auth {
        /// What the daemon allows.
        offered: String,
    },
    /// The daemon closed the connection without saying why; some do so when a name is illegal or
    /// too many clients are connected.
    #[error("the daemon closed the connection during the handshake")]
    Closed,
    /// What answered is no Spread-compatible daemon: is it another service's port?
    #[error("no handshake: {0}")]
    Answer(AnswerError),
    /// The socket failed.
    #[error("handshake failed: {0}")]
    Io(#[source] io::Error),
}

impl From<AnswerError> for ConnectError {
    fn from(error: AnswerError) -> Self {
        match error {
            AnswerError::Rejected(reject) => Self::Rejected(reject),
            AnswerError::UnknownReject(_)
            | AnswerError::Malformed
            | AnswerError::PrivateGroup(_) => Self::Answer(error),
        }
    }
}

/// The request was not taken; nothing of it was or will be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MulticastError {
    /// Split the data, or send to fewer groups at a time.
    #[error("{bytes} bytes of data and group fields: at most {max} fit into a message")]
    TooLong {
        /// Data, and 32 bytes for each group.
        bytes: usize,
        /// What the daemon carries.
        max: usize,
    },
    /// Send to fewer groups at a time.
    #[error("{found} groups: a message has at most {max}")]
    TooManyGroups {
        /// How many there were.
        found: usize,
        /// What the daemon looks at.
        max: usize,
    },
    /// Correct the name. To join or leave it must be a group's, 1 to 31 characters from `$` to `~`;
    /// to multicast it may also be a session's private group.
    #[error("illegal group '{group}': {error}")]
    IllegalGroup {
        /// As it was given.
        group: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// Use only bits that clients may set ([`Multicast::type_bits`](super::Multicast::type_bits)).
    #[error("type bits 0x{bits:08x} are not for clients to set")]
    IllegalBits {
        /// Those that are not allowed.
        bits: u32,
    },
    /// In non-blocking mode: the batch is full and the daemon takes no more now. Wait until the
    /// descriptor is writable, call [`Outbox::flush`](super::Outbox::flush), and try again.
    #[error("the daemon takes no more at the moment")]
    WouldBlock,
    /// The session is over: connect again, as [`Session::reconnect`](super::Session::reconnect)
    /// does. Whether the daemon still saw the last requests is unknown.
    #[error("{CLOSED}")]
    Closed,
    /// The socket failed, and the session with it: connect again.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
}

impl From<MulticastError> for io::Error {
    fn from(error: MulticastError) -> Self {
        match error {
            MulticastError::Io(error) => error,
            MulticastError::WouldBlock => Self::new(io::ErrorKind::WouldBlock, error),
            MulticastError::Closed => Self::new(io::ErrorKind::BrokenPipe, error),
            MulticastError::TooLong { .. }
            | MulticastError::TooManyGroups { .. }
            | MulticastError::IllegalGroup { .. }
            | MulticastError::IllegalBits { .. } => Self::new(io::ErrorKind::InvalidInput, error),
        }
    }
}

/// No event could be received.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The session is over: the daemon ended, or dropped a session that broke its rules or read too
    /// slowly. Spread's protocol has no word for which; the daemon's log does. Connect again, as
    /// [`Session::reconnect`](super::Session::reconnect) does.
    #[error("{CLOSED}")]
    Closed,
    /// The daemon handed over memory and this process has no descriptor left for it: raise its
    /// limit on open files. The session is of no further use, as what comes may lie in that memory.
    #[error("no descriptor left for the daemon's shared memory: raise the limit (ulimit -n)")]
    NoDescriptor,
    /// The daemon sent something that is no frame. The session is of no further use.
    #[error("malformed frame from the daemon: {0}")]
    Frame(FrameError),
    /// A frame's content contradicts its type. The session is of no further use.
    #[error("malformed message from the daemon, type 0x{kind:08x}")]
    Malformed {
        /// Type bits of the frame.
        kind: u32,
    },
    /// The socket failed. The session is of no further use.
    #[error("the connection failed: {0}")]
    Io(#[source] io::Error),
}
