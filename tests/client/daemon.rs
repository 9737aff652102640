//! A daemon that follows a script: one thread, one connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;

use madrigal::base::limits::{FRAME_HEADER_BYTES, GROUP_NAME_BYTES};
use madrigal::wire::session::handshake::{ACCEPT_BYTES_MAX, AUTH_CHOICE_BYTES};
use madrigal::wire::session::{Accept, Header, Hello, Version, kind};
use tempfile::TempDir;

/// Where the daemon is, and what its script returns in the end.
pub(crate) struct Daemon<T> {
    /// For `Session::connect`.
    pub(crate) address: String,
    thread: JoinHandle<T>,
    _directory: Option<TempDir>,
}

impl<T> Daemon<T> {
    /// Waits for the end of the script.
    pub(crate) fn join(self) -> T {
        self.thread.join().expect("the script does not panic")
    }
}

/// Runs `script` with the first connection to a Unix socket.
pub(crate) fn unix<T: Send + 'static>(
    script: impl FnOnce(UnixStream) -> T + Send + 'static,
) -> Daemon<T> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("daemon");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || script(listener.accept().unwrap().0));
    let address = format!("unix:{}", path.display());
    Daemon { address, thread, _directory: Some(directory) }
}

/// A listener at `path` that nobody accepts at, with room for one that connects.
pub(crate) fn deaf(path: &Path) -> socket2::Socket {
    let listener =
        socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    listener.bind(&socket2::SockAddr::unix(path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    listener
}

/// Runs `script` with the first connection to a TCP port of 127.0.0.1; the address names `host`.
pub(crate) fn tcp<T: Send + 'static>(
    host: &str,
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> Daemon<T> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || script(listener.accept().unwrap().0));
    Daemon { address: format!("{port}@{host}"), thread, _directory: None }
}

/// Shakes hands with any client and calls it `#a#d`.
pub(crate) fn accept(stream: &mut (impl Read + Write)) {
    read_hello(stream);
    stream.write_all(b"\x05NULL ").unwrap();
    let mut choice = [0; AUTH_CHOICE_BYTES];
    stream.read_exact(&mut choice).unwrap();
    stream.write_all(&accept_bytes()).unwrap();
}

/// The accept of `#a#d`.
pub(crate) fn accept_bytes() -> Vec<u8> {
    let group = madrigal::base::PrivateGroup::parse(b"#a#d").unwrap();
    let mut bytes = [0; ACCEPT_BYTES_MAX];
    let accept = Accept { version: Version::SPOKEN, group };
    let len = accept.emit(Version::SPOKEN, &mut bytes);
    bytes[..len].to_vec()
}

/// Reads a hello, which must be all that has been sent.
pub(crate) fn read_hello(stream: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = [0; 100];
    loop {
        let len = stream.read(&mut piece).unwrap();
        assert_ne!(len, 0, "the client closed before its hello was complete");
        bytes.extend_from_slice(&piece[..len]);
        if let Some((_, consumed)) = Hello::parse(&bytes).unwrap() {
            assert_eq!(consumed, bytes.len(), "nothing may follow the hello");
            return bytes;
        }
    }
}

/// Reads until the client says goodbye or closes.
pub(crate) fn read_to_end(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    // A reset is an end as well: the client may close with bytes of ours unread.
    while let Ok(len @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..len]);
        let kill = bytes.len().checked_sub(KILL_BYTES).map(|at| &bytes[at..]);
        let header = kill.and_then(<[u8]>::first_chunk).map(Header::parse);
        if header.is_some_and(|header| header.kind == kind::KILL) {
            break;
        }
    }
    bytes
}

/// A goodbye: a header and one name.
const KILL_BYTES: usize = FRAME_HEADER_BYTES + GROUP_NAME_BYTES;
