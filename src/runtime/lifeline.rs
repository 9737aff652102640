//! Whether the process of the next daemon of the ring is there: a TCP connection to it that
//! carries nothing.
//!
//! A process that is killed says no goodbye, but the kernel closes its connections at once. Whoever
//! is connected to it connects again; where that is refused nothing listens there any more, which
//! is as good as an ICMP message that says so, and comes though nobody sends anything. So a ring
//! with nothing to do need not look all the time whether everybody is there. A first connection
//! that is refused proves nothing, as the process may have been killed before it or a firewall be
//! in the way: it gives cause to look.
//!
//! It is a hint, and nothing depends on it: where no connection can be made the same is noticed
//! later. It has nothing to do with the data path: a thread of its own that sleeps.

use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;
use socket2::{Domain, Socket, TcpKeepalive, Type};

use crate::base::limits::DAEMONS_MAX;
use crate::base::{DaemonId, Instant};
use crate::sys::Bell;
use crate::sys::clock::Clock;

const WAKE: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);
const WATCHED: Token = Token(usize::MAX - 2);

/// Connections that other daemons may hold to this one: each has one, or two while rings change.
const VISITORS_MAX: usize = 2 * DAEMONS_MAX;

/// How often a connection that ends is made again. While a process ends, one may still be accepted.
const TRIES_MAX: u32 = 8;

/// The first connection to a daemon is tried again after so long where it is refused, and each time
/// after twice as long.
const PAUSE: Duration = Duration::from_millis(1);

/// A connection that lasted for so long did not end because of how it was made.
const LASTING: Duration = Duration::from_secs(10);

/// Silence after which the kernel looks whether a connection still is one: firewalls on the way
/// forget those that say nothing.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// What a connection to another daemon shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Its process has ended.
    Ended(DaemonId),
    /// Perhaps it has: no connection can be made, and none was there before.
    Doubted(DaemonId),
}

/// The ring core's hold on the thread that watches.
pub(super) struct Lifeline {
    orders: Option<Sender<Order>>,
    signs: Receiver<Sign>,
    strangers: Arc<AtomicU64>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

enum Order {
    /// Rung when there is news.
    Bell(Bell),
    /// Addresses of the other daemons.
    Know(Vec<IpAddr>),
    /// Whose process to watch, and where.
    Watch(Option<(DaemonId, SocketAddr)>),
}

impl Lifeline {
    /// Accepts connections at `own`, which goes on without where the address is in use.
    ///
    /// # Errors
    ///
    /// The kernel's, where descriptors, memory or threads ran out.
    pub(super) fn open(own: SocketAddr, known: Vec<IpAddr>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let mut listener = TcpListener::bind(own);
        match &mut listener {
            Ok(listener) => poll.registry().register(listener, LISTENER, Interest::READABLE)?,
            Err(error) => tracing::warn!(
                address = %own,
                %error,
                "cannot listen for other daemons on TCP: they notice late if this process is killed"
            ),
        }
        let ((orders, inbox), (news, signs)) = (channel(), channel());
        let strangers = Arc::new(AtomicU64::new(0));
        let watch = Watch {
            own: own.ip(),
            poll,
            listener: listener.ok(),
            known,
            visitors: Slab::new(),
            watched: None,
            postponed: None,
            inbox,
            news,
            bell: None,
            strangers: strangers.clone(),
        };
        let thread = Builder::new().name("lifeline".to_owned()).spawn(move || watch.run())?;
        Ok(Self { orders: Some(orders), signs, strangers, waker, thread: Some(thread) })
    }

    /// Rings `bell` from now on when there is news.
    pub(super) fn report_to(&self, bell: Bell) {
        self.tell(Order::Bell(bell));
    }

    /// These are the addresses of the other daemons.
    pub(super) fn know(&self, known: Vec<IpAddr>) {
        self.tell(Order::Know(known));
    }

    /// Watches the process of that daemon and no other one.
    pub(super) fn watch(&self, daemon: Option<(DaemonId, SocketAddr)>) {
        self.tell(Order::Watch(daemon));
    }

    fn tell(&self, order: Order) {
        // Without its thread there is nobody to tell, and nothing to be had from it.
        if let Some(orders) = &self.orders
            && orders.send(order).is_ok()
            && let Err(error) = self.waker.wake()
        {
            tracing::warn!(%error, "cannot wake the thread that watches the next daemon");
        }
    }

    /// What is new.
    pub(super) fn poll(&self) -> Option<Sign> {
        self.signs.try_recv().ok()
    }

    /// Connections since the last call that no daemon should have made.
    pub(super) fn take_strangers(&self) -> u64 {
        // Relaxed: a count that orders nothing.
        match self.strangers.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.strangers.swap(0, Ordering::Relaxed),
        }
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.orders = None;
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            // What it panicked with was told by its hook.
            let _ = thread.join();
        }
    }
}

/// What the thread has.
struct Watch {
    /// Where connections come from.
    own: IpAddr,
    poll: Poll,
    listener: Option<TcpListener>,
    known: Vec<IpAddr>,
    /// The ends of other daemons' connections.
    visitors: Slab<TcpStream>,
    watched: Option<(Goal, TcpStream)>,
    /// To be connected to again, and when.
    postponed: Option<(Instant, Goal)>,
    inbox: Receiver<Order>,
    news: Sender<Sign>,
    bell: Option<Bell>,
    strangers: Arc<AtomicU64>,
}

/// The daemon to be connected to.
#[derive(Clone, Copy)]
struct Goal {
    daemon: DaemonId,
    address: SocketAddr,
    /// The connection was made, and when last.
    stood: Option<Instant>,
    /// This one is.
    stands: bool,
    tries: u32,
}

impl Watch {
    fn run(mut self) {
        let mut events = Events::with_capacity(64);
        loop {
            let wait = self.postponed.map(|(at, _)| at.since(Clock.read()));
            match self.poll.poll(&mut events, wait) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return tracing::error!(%error, "the next daemon is not watched any more");
                }
            }
            for event in &events {
                match event.token() {
                    WAKE => {}
                    LISTENER => self.accept(),
                    WATCHED => self.look(),
                    Token(slot) => self.hear(slot),
                }
            }
            if let Some((_, goal)) = self.postponed.take_if(|(at, _)| *at <= Clock.read()) {
                self.connect(goal);
            }
            loop {
                match self.inbox.try_recv() {
                    Ok(Order::Bell(bell)) => self.bell = Some(bell),
                    Ok(Order::Know(known)) => self.known = known,
                    Ok(Order::Watch(daemon)) => self.follow(daemon),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, from)) if self.known.contains(&from.ip()) => stream,
                Ok(_) => {
                    self.strangers.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The next connection makes it look again.
                Err(error) => return tracing::debug!(%error, "cannot accept another daemon"),
            };
            if self.visitors.len() == VISITORS_MAX {
                self.strangers.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let slot = self.visitors.vacant_entry();
            let token = Token(slot.key());
            if self.poll.registry().register(&mut stream, token, Interest::READABLE).is_ok() {
                keep_alive(socket2::SockRef::from(&stream));
                slot.insert(stream);
            }
        }
    }

    /// A connection to this daemon has ended, or says something, which none should.
    fn hear(&mut self, slot: usize) {
        let Some(stream) = self.visitors.get_mut(slot) else { return };
        match stream.read(&mut [0; 1]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Ok(1..) => {
                self.strangers.fetch_add(1, Ordering::Relaxed);
            }
            Ok(0) | Err(_) => {}
        }
        self.visitors.remove(slot);
    }

    /// Goes over to another daemon, if it is one; tries again what failed if it is not.
    fn follow(&mut self, daemon: Option<(DaemonId, SocketAddr)>) {
        let watched = self.watched.as_ref().map(|(goal, _)| goal);
        let goal = watched.or(self.postponed.as_ref().map(|(_, goal)| goal));
        if goal.map(|goal| (goal.daemon, goal.address)) == daemon {
            return;
        }
        (self.watched, self.postponed) = (None, None);
        if let Some((daemon, address)) = daemon {
            self.connect(Goal { daemon, address, stood: None, stands: false, tries: 0 });
        }
    }

    fn connect(&mut self, goal: Goal) {
        let opened = open(self.own, goal.address).and_then(|mut stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, WATCHED, interest)?;
            Ok(stream)
        });
        match opened {
            Ok(stream) => self.watched = Some((Goal { stands: false, ..goal }, stream)),
            Err(error) => self.over(goal, Some(error)),
        }
    }

    /// Something happened to the connection.
    fn look(&mut self) {
        let Some((goal, stream)) = &mut self.watched else { return };
        if !goal.stands {
            match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => {
                    (goal.stands, goal.stood) = (true, Some(Clock.read()));
                    tracing::debug!(address = %goal.address, "the next daemon is watched");
                }
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => return self.end(Some(error)),
            }
        }
        match stream.read(&mut [0; 1]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.end(Some(error)),
            Ok(0) => self.end(None),
            Ok(_) => {
                let Some((goal, _)) = self.watched.take() else { return };
                let address = goal.address;
                tracing::warn!(%address, "something else than a daemon listens there");
            }
        }
    }

    fn tell(&self, sign: Sign) {
        // Without the ring core there is nobody to tell.
        let _ = self.news.send(sign);
        self.bell.iter().for_each(Bell::ring);
    }

    fn end(&mut self, error: Option<io::Error>) {
        if let Some((goal, _)) = self.watched.take() {
            self.over(goal, error);
        }
    }

    /// The connection has ended, or could not be made.
    fn over(&mut self, mut goal: Goal, error: Option<io::Error>) {
        let is = |kind| error.as_ref().is_some_and(|error| error.kind() == kind);
        let (refused, is_reset) =
            (is(ErrorKind::ConnectionRefused), is(ErrorKind::ConnectionReset));
        match goal.stood {
            Some(_) if refused => self.tell(Sign::Ended(goal.daemon)),
            Some(stood) => {
                if goal.stands && Clock.read().since(stood) > LASTING {
                    goal.tries = 0;
                }
                goal.tries += 1;
                if goal.tries <= TRIES_MAX {
                    return self.connect(goal);
                }
                let address = goal.address;
                tracing::warn!(%address, "connections to the next daemon do not last");
            }
            None if goal.tries < TRIES_MAX && (refused || is_reset) => {
                self.tell(Sign::Doubted(goal.daemon));
                let pause = PAUSE * (1 << goal.tries);
                goal.tries += 1;
                self.postponed = Some((Clock.read() + pause, goal));
            }
            None => tracing::info!(
                address = %goal.address,
                error = error.map(tracing::field::display),
                "no connection to the next daemon: it is noticed late if its process is killed; \
                 does a firewall let TCP through?"
            ),
        }
    }
}

/// Begins to connect.
fn open(own: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), None)?;
    keep_alive(socket2::SockRef::from(&socket));
    // They know each other by the addresses of their configuration; one that is of a link alone
    // is on the same link as the other one.
    let mut from = to;
    from.set_ip(own);
    from.set_port(0);
    socket.bind(&from.into())?;
    match socket.connect(&to.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

fn keep_alive(socket: socket2::SockRef<'_>) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 6);
    if let Err(error) = socket.set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "cannot have a connection looked after");
    }
}

#[cfg(test)]
mod tests;
