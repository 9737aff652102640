//! Listening sockets and connected streams, TCP and Unix.

use std::fs;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags};
use socket2::{Domain, SockAddr, Socket, Type};

/// Connections that the kernel completes and holds until they are accepted; `net.core.somaxconn`
/// (4,096 by default) caps it.
const BACKLOG: i32 = 4096;

/// Why a socket could not be made to listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound: in use, or not one of this host.
    #[error("cannot listen on {address}: {source}")]
    Tcp {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another process listens on the path.
    #[error(
        "{} is in use: another process listens there; stop it, or choose another path",
        path.display()
    )]
    UnixInUse {
        /// The path asked for.
        path: PathBuf,
    },
    /// Nobody listens on the path any more, but its file cannot be removed by this user.
    #[error(
        "{} was left behind by another user (uid {uid}), and nobody listens there; that user or \
         root must remove it, or choose another path",
        path.display()
    )]
    UnixLeft {
        /// The path asked for.
        path: PathBuf,
        /// Whose file it is.
        uid: u32,
    },
    /// Something that is no socket lies at the path; it was not touched.
    #[error(
        "{} exists and is no socket; remove it, or choose another path",
        path.display()
    )]
    NotASocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// The path cannot be used: no such directory, no permission, or too long (107 bytes at most).
    #[error("cannot listen on {}: {source}", path.display())]
    Unix {
        /// The path asked for.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl ListenError {
    /// Whether another socket is in the way, which may go away.
    pub fn is_in_use(&self) -> bool {
        match self {
            Self::Tcp { source, .. } => source.kind() == io::ErrorKind::AddrInUse,
            Self::UnixInUse { .. } => true,
            Self::UnixLeft { .. } | Self::NotASocket { .. } | Self::Unix { .. } => false,
        }
    }
}

/// A socket that accepts connections, and the Unix socket file that leads to it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    file: Option<SocketFile>,
}

impl Listener {
    /// Listens on a TCP address; port 0 lets the kernel choose one.
    ///
    /// An IPv6 address takes IPv6 connections only, so the same IPv4 port stays free for another
    /// listener.
    ///
    /// # Errors
    ///
    /// [`ListenError::Tcp`].
    pub fn tcp(address: SocketAddr) -> Result<Self, ListenError> {
        match listen_tcp(address) {
            Ok(socket) => Ok(Self { socket, file: None }),
            Err(source) => Err(ListenError::Tcp { address, source }),
        }
    }

    /// Listens on a Unix socket at `path`, whose file gets the permission bits `mode`.
    ///
    /// A socket file that nobody listens on any more is replaced, if this user may. Nobody can
    /// connect before the mode is in force. The file is removed when the listener is dropped,
    /// unless another one has taken its place.
    ///
    /// # Errors
    ///
    /// All of [`ListenError`] but `Tcp`.
    pub fn unix(path: &Path, mode: u32) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Unix { path: path.to_owned(), source };
        let address = SockAddr::unix(path).map_err(failed)?;
        remove_stale(path, &address)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(failed)?;
        match socket.bind(&address) {
            Ok(()) => {}
            // Someone was faster since the check.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(ListenError::UnixInUse { path: path.to_owned() });
            }
            Err(error) => return Err(failed(error)),
        }
        let file = SocketFile::new(path).map_err(failed)?;
        // Until `listen`, connecting is refused whatever the mode.
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        socket.listen(BACKLOG).map_err(failed)?;
        Ok(Self { socket, file: Some(file) })
    }

    /// The TCP address that it listens on, with the port the kernel chose; `None` for Unix.
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// The path of the socket file; `None` for TCP.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Takes one connection that waits, without blocking.
    pub(super) fn accept_now(&self) -> Result<Stream, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::accept_with(&self.socket, flags)?;
        Ok(self.adopt(socket))
    }

    /// Makes a stream of a socket that was accepted from this listener.
    pub(super) fn adopt(&self, socket: OwnedFd) -> Stream {
        // TCP_NODELAY and SO_KEEPALIVE are inherited from the listener.
        let peer = if self.file.is_some() { Peer::Unix } else { peer_of(&socket) };
        Stream { socket, peer }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of a former daemon in TIME_WAIT do not keep the port.
    socket.set_reuse_address(true)?;
    tune_tcp(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn tune_tcp(socket: &Socket) -> io::Result<()> {
    // Small frames leave at once; a client whose host vanished is noticed, if late.
    socket.set_tcp_nodelay(true)?;
    socket.set_keepalive(true)
}

/// Removes the socket file at `path` if nobody listens on it.
fn remove_stale(path: &Path, address: &SockAddr) -> Result<(), ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    // Non-blocking, so a listener with a full backlog cannot hold us.
    let probe = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).map_err(failed)?;
    match probe.connect(address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // Gone meanwhile: as good as stale.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(failed(error)),
        // Connected, backlog full, or a socket of another type: somebody is there.
        Ok(()) | Err(_) => return Err(ListenError::UnixInUse { path: path.to_owned() }),
    }
    let file = SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() };
    match file.remove() {
        Ok(()) => Ok(()),
        // In a directory like /tmp files are their owners'.
        Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            Err(ListenError::UnixLeft { path: path.to_owned(), uid: found.uid() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// The file of a Unix socket, known by identity rather than by name.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: found.dev(), inode: found.ino() })
    }

    /// Removes the file, unless another one has taken its place.
    fn remove(&self) -> io::Result<()> {
        let found = fs::symlink_metadata(&self.path)?;
        if (found.dev(), found.ino()) == (self.device, self.inode) {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already, and there is nobody to tell.
        let _ = self.remove();
    }
}

/// Who is at the other end of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A client of this host, by Unix socket.
    Unix,
}

/// A connected, non-blocking stream socket; closed when dropped.
#[derive(Debug)]
pub struct Stream {
    socket: OwnedFd,
    peer: Peer,
}

impl Stream {
    /// Connects to a TCP address and waits for at most `timeout`.
    ///
    /// # Errors
    ///
    /// The kernel's; `TimedOut` after the timeout.
    pub fn connect_tcp(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.connect_timeout(&address.into(), timeout)?;
        tune_tcp(&socket)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: socket.into(), peer: Peer::Tcp(address) })
    }

    /// Connects to a Unix socket and waits for at most `timeout` for room in its backlog.
    ///
    /// # Errors
    ///
    /// The kernel's; `TimedOut` after the timeout.
    pub fn connect_unix(path: &Path, timeout: Duration) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Zero would mean for ever. Connecting waits as long as sending may.
        socket.set_write_timeout(Some(timeout.max(Duration::from_micros(1))))?;
        match socket.connect(&SockAddr::unix(path)?) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        socket.set_write_timeout(None)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket: socket.into(), peer: Peer::Unix })
    }

    /// Two Unix streams connected to each other.
    ///
    /// # Errors
    ///
    /// The kernel's, when descriptors run out.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        let wrap = |socket: Socket| Self { socket: socket.into(), peer: Peer::Unix };
        Ok((wrap(one), wrap(other)))
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Writes what fits into the socket's buffer right now.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where nothing fits, else the kernel's.
    pub fn write_now(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
    }

    /// Writes what fits right now of several pieces, as one.
    ///
    /// # Errors
    ///
    /// As [`Stream::write_now`].
    pub fn write_pieces_now(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let control = &mut SendAncillaryBuffer::default();
        Ok(rustix::net::sendmsg(&self.socket, pieces, control, flags)?)
    }

    /// Reads what is there right now; 0 at the end of input.
    ///
    /// # Errors
    ///
    /// `WouldBlock` where nothing is there, else the kernel's.
    pub fn read_now(&self, into: &mut [u8]) -> io::Result<usize> {
        let (read, _) = rustix::net::recv(&self.socket, into, RecvFlags::DONTWAIT)?;
        Ok(read)
    }

    /// Ends the stream so that the other side still gets everything that was sent: closing a
    /// socket with unread input would answer with a reset, which may overtake the last bytes.
    ///
    /// `scratch` is overwritten.
    pub(super) fn close(self, scratch: &mut [u8]) {
        if rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write).is_err() {
            return; // not connected any more: nothing to save
        }
        // Bounded: whoever goes on sending to us gets the reset after all.
        for _ in 0..CLOSE_READS_MAX {
            match self.read_now(scratch) {
                Ok(read) if read == scratch.len() => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Reads of unread input that closing a stream spends on avoiding a reset.
const CLOSE_READS_MAX: usize = 8;

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<std::os::unix::net::UnixStream> for Stream {
    /// Takes over a stream of the standard library; it must be non-blocking for `read_now` and the
    /// like only in so far as others use it too.
    fn from(stream: std::os::unix::net::UnixStream) -> Self {
        Self { socket: stream.into(), peer: Peer::Unix }
    }
}

impl From<std::net::TcpStream> for Stream {
    /// Takes over a stream of the standard library.
    fn from(stream: std::net::TcpStream) -> Self {
        let socket = OwnedFd::from(stream);
        let peer = peer_of(&socket);
        Self { socket, peer }
    }
}

/// The other end of a TCP socket; the unspecified address where it is gone already.
fn peer_of(socket: &OwnedFd) -> Peer {
    let address = socket2::SockRef::from(socket).peer_addr().ok().and_then(|addr| addr.as_socket());
    Peer::Tcp(address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))))
}

#[cfg(test)]
mod tests;
