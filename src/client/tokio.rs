//! The session for tokio. It waits in tokio's reactor and spawns neither threads nor tasks.
//!
//! ```no_run
//! use madrigal::client::{Event, Options, Service, tokio::Session};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut session = Session::connect("4803", &Options::new().name("alice")).await?;
//! session.join("greetings").await?;
//! session.multicast(Service::Agreed, &["greetings"], 0, b"hello").await?;
//! loop {
//!     if let Event::Message(message) = session.receive().await? {
//!         println!("{}: {}", message.sender(), message.data().escape_ascii());
//!     }
//! }
//! # }
//! ```

mod carrier;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::coop::consume_budget;
use tokio::time::sleep;

use super::connect::{self, Address, Connected, Handshake, Step};
use super::incoming::{Incoming, Look};
use super::outgoing::Outgoing;
use super::retry::{Reconnect, Retry};
use super::socket::{Block, is_closed};
use super::{
    ConnectError, Event, Multicast, MulticastError, Options, PrivateGroup, ReceiveError, Service,
};

/// A connection to a daemon, for tasks on a tokio runtime with I/O enabled.
#[derive(Debug)]
pub struct Session {
    outbox: Outbox,
    inbox: Inbox,
    daemon_version: (u8, u8, u8),
    why_socket: Option<String>,
    address: String,
    options: Options,
}

impl Session {
    /// Connects as [`client::Session::connect`](super::Session::connect) does.
    ///
    /// [`Options::connect_timeout`] bounds nothing but how long it tries again while a Unix socket
    /// has no room for one more that connects, and [`Options::wait`] has no effect: put
    /// `tokio::time::timeout` around the call, and leave waiting to the reactor. The name of a host
    /// is resolved in the runtime's pool of blocking threads; a numeric address needs none.
    ///
    /// # Errors
    ///
    /// There is no session, and the error says what to do about it.
    ///
    /// # Panics
    ///
    /// Where it has to try again, as [`Options::retry_for`] says or because there is no room, and
    /// the runtime has no timers.
    pub async fn connect(address: &str, options: &Options) -> Result<Self, ConnectError> {
        Self::connect_with(address, options, Retry::first(options)).await
    }

    /// Connects again as [`client::Session::reconnect`](super::Session::reconnect) does. A future
    /// that is dropped leaves a session that is over, for which it can be called again.
    ///
    /// # Errors
    ///
    /// There is still no session: those of the last try. It can be called again.
    ///
    /// # Panics
    ///
    /// Where it has to try again and the runtime has no timers.
    pub async fn reconnect(&mut self, policy: &Reconnect) -> Result<(), ConnectError> {
        self.outbox.inner.hang_up();
        let retry = Retry::again(policy);
        let mut new = Self::connect_with(&self.address, &self.options, retry).await?;
        new.outbox.inner.succeed(&self.outbox.inner);
        *self = new;
        // One that is lost at once is seen to be at the next call.
        let _ = self.outbox.write_batch().await;
        Ok(())
    }

    async fn connect_with(
        address: &str,
        options: &Options,
        mut retry: Retry,
    ) -> Result<Self, ConnectError> {
        let place = Address::parse(address)?;
        loop {
            let error = match Self::connect_once(&place, address, options).await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            match retry.pause_after(&error) {
                Some(pause) => sleep(pause).await,
                None => return Err(error),
            }
        }
    }

    async fn connect_once(
        place: &Address,
        address: &str,
        options: &Options,
    ) -> Result<Self, ConnectError> {
        let mut handshake = Handshake::new(options)?;
        let room = Retry::for_room(options);
        let (stream, mut carrier) = carrier::connect(place, options.transport, room).await?;
        stream.send_all(&mut carrier.outgoing, handshake.hello()).await?;
        let accept = loop {
            match handshake.advance(&mut carrier.incoming)? {
                Step::Receive => stream.receive_some(&mut carrier.incoming).await?,
                Step::Send(choice) => stream.send_all(&mut carrier.outgoing, &choice).await?,
                Step::Done(accept) => break accept,
            }
        };
        let session = super::Session::new(Connected { carrier, accept }, address, options);
        Ok(Self::new(session, stream))
    }

    fn new(session: super::Session, stream: Arc<Stream>) -> Self {
        let super::Session { mut outbox, inbox, daemon_version, why_socket, address, options } =
            session;
        outbox.set_nonblocking(true);
        let outbox = Outbox { inner: outbox, stream: Arc::clone(&stream) };
        let inbox = Inbox { inner: inbox, stream };
        Self { outbox, inbox, daemon_version, why_socket, address, options }
    }

    /// As [`client::Session::why_socket`](super::Session::why_socket).
    pub fn why_socket(&self) -> Option<&str> {
        self.why_socket.as_deref()
    }

    /// The session's own address, `#name#daemon`.
    pub fn private_group(&self) -> &PrivateGroup {
        self.inbox.private_group()
    }

    /// The version that the daemon announced.
    pub fn daemon_version(&self) -> (u8, u8, u8) {
        self.daemon_version
    }

    /// Asks to join `group`: see [`Outbox::join`].
    ///
    /// # Errors
    ///
    /// As [`client::Session::join`](super::Session::join).
    pub async fn join(&mut self, group: &str) -> Result<(), MulticastError> {
        self.outbox.join(group).await
    }

    /// Asks to leave `group`: see [`Outbox::leave`].
    ///
    /// # Errors
    ///
    /// As [`client::Session::leave`](super::Session::leave).
    pub async fn leave(&mut self, group: &str) -> Result<(), MulticastError> {
        self.outbox.leave(group).await
    }

    /// Sends `data` to all members of all `groups`: see [`Outbox::multicast`].
    ///
    /// # Errors
    ///
    /// As [`client::Session::multicast`](super::Session::multicast).
    pub async fn multicast(
        &mut self,
        service: Service,
        groups: &[&str],
        message_type: i16,
        data: &[u8],
    ) -> Result<(), MulticastError> {
        self.outbox.multicast(service, groups, message_type, data).await
    }

    /// Waits for the next event: see [`Inbox::receive`].
    ///
    /// # Errors
    ///
    /// As [`client::Session::receive`](super::Session::receive).
    pub async fn receive(&mut self) -> Result<Event<'_>, ReceiveError> {
        self.inbox.receive().await
    }

    /// The next event if there is one; never waits.
    ///
    /// # Errors
    ///
    /// As [`Session::receive`].
    pub fn try_receive(&mut self) -> Result<Option<Event<'_>>, ReceiveError> {
        self.inbox.try_receive()
    }

    /// The sending half, with all ways to send.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// The receiving half.
    pub fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    /// Takes the session apart, for two tasks.
    pub fn split(self) -> (Outbox, Inbox) {
        (self.outbox, self.inbox)
    }

    /// Says goodbye and closes: see [`Outbox::disconnect`].
    ///
    /// # Errors
    ///
    /// As [`client::Session::disconnect`](super::Session::disconnect).
    pub async fn disconnect(self) -> io::Result<()> {
        self.outbox.disconnect().await
    }
}

/// The receiving half of a [`Session`].
#[derive(Debug)]
pub struct Inbox {
    inner: super::Inbox,
    stream: Arc<Stream>,
}

impl Inbox {
    /// The session's own address, `#name#daemon`.
    pub fn private_group(&self) -> &PrivateGroup {
        self.inner.private_group()
    }

    /// Waits for the next event, which lends from the receive buffer.
    ///
    /// Cancel safe: an event is taken only when the future completes, so this may stand in a
    /// `select!`.
    ///
    /// # Errors
    ///
    /// As [`client::Inbox::receive`](super::Inbox::receive).
    pub async fn receive(&mut self) -> Result<Event<'_>, ReceiveError> {
        // What is there already must not keep the runtime from its other tasks.
        consume_budget().await;
        // What lies in shared memory may have come without a bell.
        let len = match self.inner.poll_len(Look::Once)? {
            Some(len) => len,
            None => {
                let inner = &mut self.inner;
                let received =
                    self.stream.until(Interest::READABLE, || match inner.poll_len(Look::Once) {
                        Ok(Some(len)) => Ok(Ok(len)),
                        Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
                        Err(error) => Ok(Err(error)),
                    });
                received.await.map_err(ReceiveError::Io)??
            }
        };
        self.inner.take(len)
    }

    /// The next event if there is one; never waits.
    ///
    /// # Errors
    ///
    /// As [`Inbox::receive`].
    pub fn try_receive(&mut self) -> Result<Option<Event<'_>>, ReceiveError> {
        self.inner.try_receive()
    }
}

/// The sending half of a [`Session`].
///
/// Every call is cancel safe in this sense: a request whose call is dropped before it completes is
/// either not sent, or sent as a whole, at the latest with the next request or flush.
#[derive(Debug)]
pub struct Outbox {
    inner: super::Outbox,
    stream: Arc<Stream>,
}

impl Outbox {
    /// The session's own address, `#name#daemon`.
    pub fn private_group(&self) -> &PrivateGroup {
        self.inner.private_group()
    }

    /// As [`client::Outbox::join`](super::Outbox::join).
    ///
    /// # Errors
    ///
    /// Nothing was sent.
    pub async fn join(&mut self, group: &str) -> Result<(), MulticastError> {
        self.enqueue(|outbox| outbox.join(group)).await?;
        self.write_batch().await
    }

    /// As [`client::Outbox::leave`](super::Outbox::leave).
    ///
    /// # Errors
    ///
    /// Nothing was sent.
    pub async fn leave(&mut self, group: &str) -> Result<(), MulticastError> {
        self.enqueue(|outbox| outbox.leave(group)).await?;
        self.write_batch().await
    }

    /// As [`client::Outbox::multicast`](super::Outbox::multicast).
    ///
    /// # Errors
    ///
    /// Nothing was sent; [`MulticastError::WouldBlock`] does not occur.
    pub async fn multicast(
        &mut self,
        service: Service,
        groups: &[&str],
        message_type: i16,
        data: &[u8],
    ) -> Result<(), MulticastError> {
        let multicast = Multicast::new(service).message_type(message_type);
        self.multicast_with(&multicast, groups, data).await
    }

    /// As [`client::Outbox::multicast_with`](super::Outbox::multicast_with).
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`].
    pub async fn multicast_with(
        &mut self,
        multicast: &Multicast,
        groups: &[&str],
        data: &[u8],
    ) -> Result<(), MulticastError> {
        self.enqueue(|outbox| outbox.multicast_with(multicast, groups, data)).await?;
        self.write_batch().await
    }

    /// As [`client::Outbox::multicast_fill`](super::Outbox::multicast_fill).
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`].
    pub async fn multicast_fill(
        &mut self,
        multicast: &Multicast,
        groups: &[&str],
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), MulticastError> {
        let mut fill = Some(fill);
        let send = |outbox: &mut super::Outbox| {
            outbox.multicast_fill(multicast, groups, len, |data| {
                fill.take().expect("a message that was not taken was not written")(data);
            })
        };
        self.enqueue(send).await?;
        self.write_batch().await
    }

    /// As [`client::Outbox::multicast_vectored`](super::Outbox::multicast_vectored).
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`].
    pub async fn multicast_vectored(
        &mut self,
        service: Service,
        groups: &[&str],
        message_type: i16,
        pieces: &[IoSlice<'_>],
    ) -> Result<(), MulticastError> {
        let send = |outbox: &mut super::Outbox| {
            outbox.multicast_vectored(service, groups, message_type, pieces)
        };
        self.enqueue(send).await?;
        self.write_batch().await
    }

    /// As [`client::Outbox::queue`](super::Outbox::queue); waits only while the batch is full.
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`].
    pub async fn queue(
        &mut self,
        service: Service,
        groups: &[&str],
        message_type: i16,
        data: &[u8],
    ) -> Result<(), MulticastError> {
        let multicast = Multicast::new(service).message_type(message_type);
        self.queue_with(&multicast, groups, data).await
    }

    /// As [`Outbox::queue`], with every option there is.
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`].
    pub async fn queue_with(
        &mut self,
        multicast: &Multicast,
        groups: &[&str],
        data: &[u8],
    ) -> Result<(), MulticastError> {
        self.enqueue(|outbox| outbox.queue_with(multicast, groups, data)).await
    }

    /// Writes the batch, all of it, and asks whether the daemon is still there.
    ///
    /// # Errors
    ///
    /// The session is over.
    pub async fn flush(&mut self) -> Result<(), MulticastError> {
        self.write_batch().await?;
        self.inner.ask()
    }

    async fn write_batch(&mut self) -> Result<(), MulticastError> {
        if !self.inner.wants_write() {
            return Ok(());
        }
        let inner = &mut self.inner;
        let flushed = self.stream.until(Interest::WRITABLE, || match inner.write_batch() {
            Err(MulticastError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            other => Ok(other),
        });
        flushed.await.map_err(MulticastError::Io)?
    }

    /// Says goodbye: the daemon ends the session behind all its requests. The other half then
    /// receives the end of the stream.
    ///
    /// # Errors
    ///
    /// The connection broke before; the session ends anyway.
    pub async fn disconnect(mut self) -> io::Result<()> {
        self.inner.put_kill()?;
        self.write_batch().await.map_err(io::Error::from)
    }

    /// Makes a request, waiting for room in the batch.
    async fn enqueue(
        &mut self,
        mut request: impl FnMut(&mut super::Outbox) -> Result<(), MulticastError>,
    ) -> Result<(), MulticastError> {
        // What needs no waiting must not keep the runtime from its other tasks.
        consume_budget().await;
        loop {
            match request(&mut self.inner) {
                Err(MulticastError::WouldBlock) => self.write_batch().await?,
                other => return other,
            }
        }
    }
}

/// The connection, known to the runtime's reactor. Bytes go through [`Socket`].
#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    /// Makes `attempt` whenever the stream is ready for it, until it does not say `WouldBlock`.
    async fn until<T>(
        &self,
        interest: Interest,
        mut attempt: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let result = match self {
                Self::Unix(stream) => {
                    stream.ready(interest).await?;
                    stream.try_io(interest, &mut attempt)
                }
                Self::Tcp(stream) => {
                    stream.ready(interest).await?;
                    stream.try_io(interest, &mut attempt)
                }
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    async fn send_all(
        &self,
        outgoing: &mut Outgoing,
        mut bytes: &[u8],
    ) -> Result<(), ConnectError> {
        while !bytes.is_empty() {
            match self.until(Interest::WRITABLE, || outgoing.send(bytes, Block::Never)).await {
                Ok(sent) => bytes = &bytes[sent..],
                // The daemon may have rejected and closed already: its answer is still to be read.
                Err(error) if is_closed(&error) => return Ok(()),
                Err(error) => return Err(ConnectError::Io(error)),
            }
        }
        Ok(())
    }

    async fn receive_some(&self, incoming: &mut Incoming) -> Result<(), ConnectError> {
        let fill = || incoming.fill(Look::Once);
        connect::received(self.until(Interest::READABLE, fill).await).map(drop)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}
