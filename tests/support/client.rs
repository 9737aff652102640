//! A client that is nothing but a socket: it can say anything, and sees every byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use madrigal::wire::session::handshake::{HELLO_BYTES_MAX, emit_auth_choice};
use madrigal::wire::session::{self, ByteOrder, Hello, kind};
use socket2::{Domain, SockAddr, Socket, Type};

use super::{Daemon, Frame, PATIENCE};

/// How a connection came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// What came before it.
    pub(crate) bytes: Vec<u8>,
}

/// One connection.
pub(crate) struct Client {
    socket: Socket,
    /// Received, and not yet taken.
    input: Vec<u8>,
    ended: bool,
    order: ByteOrder,
    /// The private group, once there is one.
    pub(crate) name: String,
}

impl Client {
    pub(crate) fn unix(path: &Path) -> io::Result<Self> {
        Self::connect(Domain::UNIX, &SockAddr::unix(path)?)
    }

    pub(crate) fn tcp(address: SocketAddr) -> io::Result<Self> {
        Self::connect(Domain::for_address(address), &address.into())
    }

    fn connect(domain: Domain, address: &SockAddr) -> io::Result<Self> {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.connect(address)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            input: Vec::new(),
            ended: false,
            order: ByteOrder::Little,
            name: String::new(),
        })
    }

    /// A connection that has said nothing yet.
    pub(crate) fn silent(daemon: &Daemon) -> Self {
        Self::unix(&daemon.socket()).expect("the daemon accepts")
    }

    /// A session that wants membership messages, over the Unix socket.
    pub(crate) fn open(daemon: &Daemon, name: &str) -> Self {
        let mut client = Self::silent(daemon);
        client.shake_hands(name, true);
        client
    }

    /// The same over TCP.
    pub(crate) fn open_tcp(daemon: &Daemon, name: &str) -> Self {
        let mut client = Self::tcp(daemon.tcp()[0]).expect("the daemon accepts");
        client.shake_hands(name, true);
        client
    }

    /// A session without membership messages.
    pub(crate) fn open_plain(daemon: &Daemon, name: &str) -> Self {
        let mut client = Self::silent(daemon);
        client.shake_hands(name, false);
        client
    }

    /// Writes its integers in this order from now on.
    pub(crate) fn with_order(mut self, order: ByteOrder) -> Self {
        self.order = order;
        self
    }

    /// Says hello, and nothing else.
    pub(crate) fn say_hello(&mut self, name: &str, membership: bool) {
        let mut hello = [0; HELLO_BYTES_MAX];
        let len = Hello::new(name.as_bytes(), membership, false).emit(&mut hello);
        self.send(&hello[..len]);
    }

    /// Chooses the method NULL.
    pub(crate) fn choose(&mut self) {
        self.send(&emit_auth_choice(&[b"NULL"]));
    }

    /// The whole handshake, which must succeed.
    pub(crate) fn shake_hands(&mut self, name: &str, membership: bool) {
        self.say_hello(name, membership);
        assert_eq!(self.take(6), b"\x05NULL ");
        self.choose();
        self.take_accept();
    }

    /// Reads the accept.
    pub(crate) fn take_accept(&mut self) {
        let accept = self.take(5);
        assert_eq!(accept[..4], [1, 5, 0, 1]);
        let name = self.take(accept[4].into());
        self.name = String::from_utf8(name).expect("a name is ASCII");
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Writes all of it.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("{} cannot send: {error}", self.name));
    }

    /// Writes all of it, unless the daemon has closed.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Writes what the socket takes at once; returns how much that was.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.socket.set_nonblocking(true).expect("a socket");
        let sent = match self.socket.write(bytes) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{} cannot send: {error}", self.name),
        };
        self.socket.set_nonblocking(false).expect("a socket");
        sent
    }

    /// A frame of this client.
    pub(crate) fn frame(&self, kind: u32, groups: &[&str]) -> Frame {
        Frame::new(self.order, kind, &self.name, groups)
    }

    pub(crate) fn join(&mut self, group: &str) {
        self.send(self.frame(kind::JOIN, &[group]).bytes());
    }

    pub(crate) fn leave(&mut self, group: &str) {
        self.send(self.frame(kind::LEAVE, &[group]).bytes());
    }

    pub(crate) fn disconnect(&mut self) {
        let name = self.name.clone();
        self.send(self.frame(kind::KILL, &[&name]).bytes());
    }

    pub(crate) fn multicast(&mut self, kind: u32, groups: &[&str], data: &[u8]) {
        self.send(self.frame(kind, groups).with_data(data).bytes());
    }

    /// Ends the client's output.
    pub(crate) fn half_close(&mut self) {
        // Fails where the daemon has closed already.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Waits for `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.input.len() < len {
            let more = self.read(deadline);
            let (got, name) = (self.input.len(), &self.name);
            let all = self.input.escape_ascii();
            assert!(more, "{name}: the end, or silence, after {got} of {len} bytes: {all}");
        }
        self.input.drain(..len).collect()
    }

    /// Waits for `len` bytes; fewer if the end comes first, or nothing for a long time.
    pub(crate) fn try_take(&mut self, len: usize) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        while self.input.len() < len && self.read(deadline) {}
        self.input.drain(..len.min(self.input.len())).collect()
    }

    /// The first byte that comes within this time, if one does.
    pub(crate) fn try_receive_byte(&mut self, within: Duration) -> Option<u8> {
        let deadline = Instant::now() + within;
        while self.input.is_empty() && self.read(deadline) {}
        (!self.input.is_empty()).then(|| self.input.remove(0))
    }

    /// Waits for a frame; `None` if the end comes first, or nothing for a long time.
    pub(crate) fn try_receive(&mut self) -> Option<Frame> {
        self.receive_before(Instant::now() + PATIENCE)
    }

    /// Waits for a frame.
    pub(crate) fn receive(&mut self) -> Frame {
        self.try_receive()
            .unwrap_or_else(|| panic!("{}: the end, or silence, instead of a frame", self.name))
    }

    /// The next frame, unless there is none until then, or the end comes first.
    pub(crate) fn receive_before(&mut self, deadline: Instant) -> Option<Frame> {
        loop {
            let len = session::Frame::len(&self.input).expect("a legal header");
            if let Some(len) = len.filter(|&len| self.input.len() >= len) {
                return Some(Frame::from_bytes(self.input.drain(..len).collect()));
            }
            if !self.read(deadline) {
                return None;
            }
        }
    }

    /// The next frame if all of it has come already.
    pub(crate) fn receive_now(&mut self) -> Option<Frame> {
        self.receive_before(Instant::now())
    }

    /// Sends a message to itself and returns what comes before it: all that the daemon had for it.
    pub(crate) fn sync(&mut self) -> Vec<Frame> {
        let name = self.name.clone();
        self.multicast(kind::AGREED, &[&name], b"sync");
        let mut frames = Vec::new();
        loop {
            let frame = self.receive();
            if frame.name() == name && frame.kind() == kind::AGREED && frame.data() == b"sync" {
                return frames;
            }
            frames.push(frame);
        }
    }

    /// Asserts that nothing has come for it.
    pub(crate) fn expect_nothing(&mut self) {
        let frames = self.sync();
        assert!(frames.is_empty(), "{}: {frames:?}", self.name);
    }

    /// Waits for the end of the stream; returns how many bytes are there that nobody took.
    pub(crate) fn await_end(&mut self) -> Result<usize, String> {
        let deadline = Instant::now() + PATIENCE;
        while self.read(deadline) {}
        if self.ended { Ok(self.input.len()) } else { Err(format!("open after {PATIENCE:?}")) }
    }

    /// Waits for the end of the stream.
    pub(crate) fn end(&mut self) -> End {
        self.await_end().unwrap_or_else(|what| panic!("{}: {what}", self.name));
        End { bytes: std::mem::take(&mut self.input) }
    }

    /// Waits for the end of the stream, with nothing before it.
    pub(crate) fn expect_end(&mut self) {
        let end = self.end();
        let bytes = end.bytes.escape_ascii();
        assert!(end.bytes.is_empty(), "{}: before the end came {bytes}", self.name);
    }

    /// Waits for the end of the stream; whole frames before it are returned, the rest is dropped.
    pub(crate) fn frames_to_end(&mut self) -> Vec<Frame> {
        self.input = self.end().bytes;
        std::iter::from_fn(|| self.receive_now()).collect()
    }

    /// Receives something. Returns `false` at the end of the stream and at the deadline.
    fn read(&mut self, deadline: Instant) -> bool {
        if self.ended {
            return false;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // None would mean for ever.
        let left = left.max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left)).expect("a socket");
        let mut buffer = [0; 64 * 1024];
        loop {
            return match self.socket.read(&mut buffer) {
                Ok(0) => {
                    self.ended = true;
                    false
                }
                Ok(len) => {
                    self.input.extend_from_slice(&buffer[..len]);
                    true
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.ended = true;
                    false
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => false,
                Err(error) => panic!("{} cannot receive: {error}", self.name),
            };
        }
    }
}
