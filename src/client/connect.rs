//! From an address to a session: sockets and the handshake.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Type};

use crate::base::SessionName;
use crate::wire::session::handshake::{
    AUTH_CHOICE_BYTES, AUTH_IP, AUTH_NULL, HELLO_BYTES_MAX, emit_auth_choice,
};
use crate::wire::session::{Accept, AuthList, Hello, Reject, Version};

use super::attach::{self, AttachError};
use super::inbox::ReceiveBuffer;
use super::incoming::{Incoming, Look};
use super::outgoing::Outgoing;
use super::retry::Retry;
use super::socket::{Block, Socket, is_closed};
use super::{ConnectError, Options, Transport};

/// Where a daemon listens when nothing is said.
const DEFAULT_PORT: u16 = 4803;

/// Where Spread and Madrigal put their Unix sockets.
const SOCKET_DIRECTORY: &str = "/tmp";

/// Where a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Unix(PathBuf),
    Tcp { host: String, port: u16 },
}

impl Address {
    pub(super) fn parse(address: &str) -> Result<Self, ConnectError> {
        let illegal = || ConnectError::Address { address: address.to_owned() };
        if let Some(path) = address.strip_prefix("unix:") {
            return if path.is_empty() { Err(illegal()) } else { Ok(Self::Unix(path.into())) };
        }
        let (port, host) = match address.split_once('@') {
            Some((port, host)) => (port, Some(host)),
            None => (address, None),
        };
        let port = match port {
            "" if host.is_none() => DEFAULT_PORT,
            // `parse` would take a sign.
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|&port| port != 0).ok_or_else(illegal)?
            }
            _ => return Err(illegal()),
        };
        match host {
            None => Ok(Self::Unix(Path::new(SOCKET_DIRECTORY).join(port.to_string()))),
            Some("") => Err(illegal()),
            Some(host) => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                Ok(Self::Tcp { host: bare.unwrap_or(host).to_owned(), port })
            }
        }
    }
}

/// Connects and shakes hands, by blocking calls.
pub(super) fn connect(
    address: &str,
    options: &Options,
    mut retry: Retry,
) -> Result<Connected, ConnectError> {
    let address = Address::parse(address)?;
    loop {
        let deadline = Instant::now().checked_add(options.connect_timeout);
        let handshake = Handshake::new(options)?;
        let connected = carrier(&address, options.transport, deadline)
            .and_then(|carrier| shake_hands(carrier, handshake, deadline));
        let error = match connected {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        match retry.pause_after(&error) {
            // Unparked by nobody; early returns do no harm.
            Some(pause) => std::thread::park_timeout(pause),
            None => return Err(error),
        }
    }
}

/// Both directions of a connection.
pub(super) struct Carrier {
    pub(super) incoming: Incoming,
    pub(super) outgoing: Outgoing,
    /// Why it is a socket; `None`: it is shared memory.
    pub(super) why_socket: Option<String>,
}

impl Carrier {
    pub(super) fn socket(socket: Socket, why: String) -> Self {
        Self {
            incoming: Incoming::Socket(socket.clone(), ReceiveBuffer::new()),
            outgoing: Outgoing::Socket(socket),
            why_socket: Some(why),
        }
    }

    pub(super) fn shared((incoming, outgoing): (Incoming, Outgoing)) -> Self {
        Self { incoming, outgoing, why_socket: None }
    }
}

/// What [`Transport`] means for an address: the path of the Unix socket beside which to ask for
/// shared memory, or why not.
pub(super) fn shared_beside(
    address: &Address,
    transport: Transport,
) -> Result<Result<&Path, &'static str>, ConnectError> {
    match (transport, address) {
        (Transport::Socket, _) => Ok(Err("the options ask for a socket")),
        (Transport::Auto | Transport::SharedMemory, Address::Unix(path)) => Ok(Ok(path)),
        (Transport::Auto, Address::Tcp { .. }) => Ok(Err("the address is one of TCP")),
        (Transport::SharedMemory, Address::Tcp { .. }) => {
            let reason = "the address is one of TCP: give the port alone".to_owned();
            Err(ConnectError::NotAttached { reason })
        }
    }
}

/// What becomes of an attempt to get shared memory: the way to go on without, or the end.
pub(super) fn without_shared(
    error: &AttachError,
    transport: Transport,
) -> Result<String, ConnectError> {
    match (transport, error) {
        (Transport::Auto | Transport::Socket, _) => Ok(error.to_string()),
        (Transport::SharedMemory, AttachError::TimedOut) => Err(ConnectError::TimedOut),
        (Transport::SharedMemory, AttachError::Closed) => Err(ConnectError::Closed),
        // The kind decides whether it is worthwhile to try again.
        (Transport::SharedMemory, AttachError::Unreachable { path, error }) => {
            let (address, error) = (path.display().to_string(), io::Error::from(error.kind()));
            Err(ConnectError::Unreachable { address, error })
        }
        (Transport::SharedMemory, error) => {
            Err(ConnectError::NotAttached { reason: error.to_string() })
        }
    }
}

fn carrier(
    address: &Address,
    transport: Transport,
    deadline: Option<Instant>,
) -> Result<Carrier, ConnectError> {
    let why = match shared_beside(address, transport)? {
        Ok(path) => match attach_beside(path, deadline) {
            Ok(ends) => return Ok(Carrier::shared(ends)),
            Err(error) => without_shared(&error, transport)?,
        },
        Err(why) => why.to_owned(),
    };
    let socket = match address {
        Address::Unix(path) => connect_unix(path, deadline)
            .map_err(|error| unreachable(path.display().to_string(), error))?,
        Address::Tcp { host, port } => connect_tcp(host, *port, deadline)?,
    };
    Ok(Carrier::socket(Socket::new(Arc::new(socket)), why))
}

fn attach_beside(
    path: &Path,
    deadline: Option<Instant>,
) -> Result<(Incoming, Outgoing), AttachError> {
    let attach = attach::attach_path(path);
    let socket =
        connect_unix(&attach, deadline).map_err(|error| attach::unreachable(&attach, error))?;
    attach::check_user(&socket, path)?;
    socket.set_send_buffer_size(attach::BELL_BYTES)?;
    attach::attach(Socket::new(Arc::new(socket)), deadline)
}

fn shake_hands(
    mut carrier: Carrier,
    mut handshake: Handshake,
    deadline: Option<Instant>,
) -> Result<Connected, ConnectError> {
    send_all(&mut carrier.outgoing, handshake.hello(), deadline)?;
    loop {
        match handshake.advance(&mut carrier.incoming)? {
            Step::Receive => receive_some(&mut carrier.incoming, deadline)?,
            Step::Send(choice) => send_all(&mut carrier.outgoing, &choice, deadline)?,
            Step::Done(accept) => return Ok(Connected { carrier, accept }),
        }
    }
}

/// A session that the daemon has accepted.
pub(super) struct Connected {
    /// May hold the first frames already.
    pub(super) carrier: Carrier,
    pub(super) accept: Accept,
}

fn connect_unix(path: &Path, deadline: Option<Instant>) -> io::Result<socket2::Socket> {
    let to = SockAddr::unix(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // The send timeout also bounds how long a connect waits while the daemon's backlog is full.
    socket.set_write_timeout(left(deadline))?;
    while let Err(error) = socket.connect(&to) {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    socket.set_write_timeout(None)?;
    Ok(socket)
}

fn connect_tcp(
    host: &str,
    port: u16,
    deadline: Option<Instant>,
) -> Result<socket2::Socket, ConnectError> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| resolve(host, error))?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let mut last = resolve(host, io::Error::from(io::ErrorKind::NotFound));
    for (tried, address) in addresses.iter().enumerate() {
        // An address that swallows everything must leave time for the others.
        let share = left(deadline).map(|left| left / (addresses.len() - tried) as u32);
        match connect_to(*address, share) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = unreachable(address.to_string(), error),
        }
    }
    Err(last)
}

fn connect_to(address: SocketAddr, timeout: Option<Duration>) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    match timeout {
        Some(timeout) => socket.connect_timeout(&address.into(), timeout)?,
        None => socket.connect(&address.into())?,
    }
    set_tcp_options(&socket)?;
    Ok(socket)
}

pub(super) fn set_tcp_options(socket: &socket2::Socket) -> io::Result<()> {
    // Each write is meant to leave at once.
    socket.set_tcp_nodelay(true)?;
    // An idle session is silent, so only this notices a host that vanished.
    socket.set_keepalive(true)
}

/// Time left; at least one microsecond, because zero would mean "no limit" to the kernel.
fn left(deadline: Option<Instant>) -> Option<Duration> {
    let left = deadline?.saturating_duration_since(Instant::now());
    Some(left.max(Duration::from_micros(1)))
}

pub(super) fn resolve(host: &str, error: io::Error) -> ConnectError {
    ConnectError::Resolve { host: host.to_owned(), error }
}

pub(super) fn unreachable(address: String, error: io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ConnectError::TimedOut,
        _ => ConnectError::Unreachable { address, error },
    }
}

fn send_all(
    outgoing: &mut Outgoing,
    mut bytes: &[u8],
    deadline: Option<Instant>,
) -> Result<(), ConnectError> {
    while !bytes.is_empty() {
        match outgoing.send(bytes, Block::Never) {
            Ok(sent) => bytes = &bytes[sent..],
            // The daemon may have rejected and closed already: its answer is still to be read.
            Err(error) if is_closed(&error) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !outgoing.wait(deadline).map_err(ConnectError::Io)? {
                    return Err(ConnectError::TimedOut);
                }
            }
            Err(error) => return Err(ConnectError::Io(error)),
        }
    }
    Ok(())
}

fn receive_some(incoming: &mut Incoming, deadline: Option<Instant>) -> Result<(), ConnectError> {
    loop {
        if received(incoming.fill(Look::Once))? {
            return Ok(());
        }
        if !incoming.wait(deadline).map_err(ConnectError::Io)? {
            return Err(ConnectError::TimedOut);
        }
    }
}

/// Whether something came.
pub(super) fn received(result: io::Result<usize>) -> Result<bool, ConnectError> {
    match result {
        Ok(0) => Err(ConnectError::Closed),
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if is_closed(&error) => Err(ConnectError::Closed),
        Err(error) => Err(ConnectError::Io(error)),
    }
}

/// The client's side of the handshake, without its socket.
pub(super) struct Handshake {
    hello: [u8; HELLO_BYTES_MAX],
    hello_len: usize,
    state: State,
}

enum State {
    AwaitList,
    AwaitAccept,
}

/// What the handshake needs next.
pub(super) enum Step {
    /// More bytes from the daemon.
    Receive,
    /// These bytes sent.
    Send([u8; AUTH_CHOICE_BYTES]),
    /// Nothing.
    Done(Accept),
}

impl Handshake {
    pub(super) fn new(options: &Options) -> Result<Self, ConnectError> {
        let name = options.name.as_deref().unwrap_or_default().as_bytes();
        if !name.is_empty() {
            SessionName::new(name).map_err(ConnectError::Name)?;
        }
        let mut hello = [0; HELLO_BYTES_MAX];
        let hello_len = Hello::new(name, options.membership, options.priority).emit(&mut hello);
        Ok(Self { hello, hello_len, state: State::AwaitList })
    }

    /// The first bytes to send. Spread needs them in one piece, so they go out in one write.
    pub(super) fn hello(&self) -> &[u8] {
        &self.hello[..self.hello_len]
    }

    pub(super) fn advance(&mut self, buffer: &mut Incoming) -> Result<Step, ConnectError> {
        match self.state {
            State::AwaitList => {
                let Some((list, len)) = AuthList::parse(buffer.unread())? else {
                    return Ok(Step::Receive);
                };
                let choice = choose(list)?;
                buffer.consume(len);
                self.state = State::AwaitAccept;
                Ok(Step::Send(choice))
            }
            State::AwaitAccept => {
                let answer = Accept::parse(buffer.unread(), Version::SPOKEN)?;
                let Some((accept, len)) = answer else { return Ok(Step::Receive) };
                buffer.consume(len);
                if !accept.version.is_at_least(Version::OLDEST) {
                    return Err(ConnectError::Rejected(Reject::Version));
                }
                Ok(Step::Done(accept))
            }
        }
    }
}

/// Neither method has a dialogue: for `IP` the daemon looks at the address by itself.
fn choose(list: AuthList<'_>) -> Result<[u8; AUTH_CHOICE_BYTES], ConnectError> {
    if list.methods().next().is_none() {
        return Err(ConnectError::Rejected(Reject::Auth));
    }
    let known = [AUTH_NULL, AUTH_IP].into_iter().find(|method| list.contains(method));
    known.map(|method| emit_auth_choice(&[method])).ok_or_else(|| {
        let offered: Vec<&[u8]> = list.methods().collect();
        ConnectError::Auth { offered: offered.join(&b' ').escape_ascii().to_string() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_spreads_and_a_path() {
        let unix = |path: &str| Address::Unix(path.into());
        let tcp = |host: &str, port| Address::Tcp { host: host.to_owned(), port };
        for (text, address) in [
            ("", unix("/tmp/4803")),
            ("4803", unix("/tmp/4803")),
            ("65535", unix("/tmp/65535")),
            ("unix:/run/m.sock", unix("/run/m.sock")),
            ("4803@localhost", tcp("localhost", 4803)),
            ("1@127.0.0.1", tcp("127.0.0.1", 1)),
            ("4803@::1", tcp("::1", 4803)),
            ("4803@[::1]", tcp("::1", 4803)),
        ] {
            assert_eq!(Address::parse(text).unwrap(), address, "{text}");
        }
    }

    #[test]
    fn reason_is_told_even_if_the_daemon_closed_before_the_hello() {
        use std::io::Write;
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        far.write_all(&[Reject::Quota.to_byte()]).unwrap();
        drop(far);
        let handshake = Handshake::new(&Options::new()).unwrap();
        let carrier = Carrier::socket(Socket::new(Arc::new(near)), String::new());
        let result = shake_hands(carrier, handshake, None);
        assert!(matches!(result, Err(ConnectError::Rejected(Reject::Quota))));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["0", "65536", "+1", "x", "4803x", "4803@", "@host", "unix:", "host:4803"] {
            let error = Address::parse(text).unwrap_err();
            assert!(
                matches!(error, ConnectError::Address { address } if address == text),
                "{text}"
            );
        }
    }
}
