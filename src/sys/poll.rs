//! The mio driver: edge-triggered epoll, and plain system calls on what is ready.
//!
//! An edge says only that something changed, so readiness is kept in flags here and worked off in
//! [`PollDriver::next_event`], one receive per stream and pass. Sends are tried at once.
//! Datagrams: `poll/datagrams.rs`.

mod datagrams;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::event::Event as Edge;
use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::thread::set_current_timer_slack;

use super::accept::{ACCEPTS_PER_TURN, Accepting, REST, Spare};
use super::bell::Bell;
use super::datagram::Datagrams;
use super::driver::{DatagramEvent, DriverCounts, Event, ListenerKey, StreamKey, Wait};
use super::socket::{Listener, Stream};
use super::table::{Key, Table};
use crate::base::limits::{RECEIVE_BYTES, SEND_PIECES_MAX};
use crate::mem::pool::Slice;
use datagrams::Arrived;

/// Edges taken from the kernel at once; the others come with the next turn.
const EDGES_PER_TURN: usize = 1024;

/// A socket's token is its slot times this, and its kind: streams have 0.
const KINDS: usize = 3;
const LISTENER: usize = 1;
const DATAGRAMS: usize = 2;

/// The bell's token.
const BELL: Token = Token(usize::MAX);

#[derive(Debug)]
pub(super) struct PollDriver {
    poll: mio::Poll,
    edges: Events,
    bell: Bell,
    spare: Spare,
    listeners: Table<Accepter>,
    streams: Table<Connection>,
    pub(super) datagrams: Datagrams<datagrams::Readable>,
    /// Datagram sockets that may have packets.
    arrivals: datagrams::Arrivals,
    /// Listeners that may have connections.
    acceptable: VecDeque<Key>,
    /// Listeners that rest after a failure, soonest first: every rest is equally long.
    resting: VecDeque<(Instant, Key)>,
    /// Streams that may have input and want to be read.
    readable: VecDeque<Key>,
    /// Streams whose send is over.
    sent: VecDeque<Key>,
    woken: bool,
    /// Receives and accepts that `next_event` may still make before the next turn.
    receives_left: usize,
    accepts_left: usize,
    /// Piece lists to use again.
    piece_lists: Vec<Vec<Slice>>,
    buffer: Box<[u8]>,
    counts: DriverCounts,
}

#[derive(Debug)]
struct Accepter {
    listener: Listener,
    /// Whether epoll knows it.
    registered: bool,
    /// In `acceptable` or `resting`.
    queued: bool,
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    /// There may be input.
    readable: bool,
    /// The other side is known to have sent its last byte: read until the end shows.
    half_closed: bool,
    /// In `readable`.
    queued: bool,
    paused: bool,
    /// The end of input was reported.
    ended: bool,
    send: Option<Sending>,
    /// Why epoll refused the stream; reported as its end.
    unregistered: Option<io::Error>,
}

#[derive(Debug)]
struct Sending {
    pieces: Vec<Slice>,
    /// Bytes that the kernel has taken.
    bytes: usize,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// The socket's buffer is full.
    Blocked,
    Done,
    Failed(io::Error),
}

/// What `next_event` found, without the borrow.
enum Found {
    Nothing,
    Received(Key, usize),
    Ended(Key, Option<io::Error>),
}

impl PollDriver {
    pub(super) fn open() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        // The kernel lets waits of this thread be late by 50 us else, to save wake-ups.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
        let bell = Bell::new(None)?;
        let spare = Spare::new(&bell)?;
        // Every write to an eventfd is an edge, so nobody needs to read it.
        register(&poll, bell.event().as_raw_fd(), BELL, Interest::READABLE)?;
        Ok(Self {
            poll,
            edges: Events::with_capacity(EDGES_PER_TURN),
            bell,
            spare,
            listeners: Table::new(),
            streams: Table::new(),
            datagrams: Datagrams::new(),
            arrivals: datagrams::Arrivals::new(),
            acceptable: VecDeque::new(),
            resting: VecDeque::new(),
            readable: VecDeque::new(),
            sent: VecDeque::new(),
            woken: false,
            receives_left: 0,
            accepts_left: 0,
            piece_lists: Vec::new(),
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            counts: DriverCounts::default(),
        })
    }

    pub(super) fn listen(&mut self, listener: Listener) -> ListenerKey {
        let accepter = Accepter { listener, registered: false, queued: true };
        let key = self.listeners.insert(accepter);
        // As after a rest: register, then look.
        self.acceptable.push_back(key);
        ListenerKey(key)
    }

    pub(super) fn unlisten(&mut self, key: ListenerKey) {
        // Closing takes the socket out of the epoll; the queues pass over keys without a thing.
        self.listeners.remove(key.0);
    }

    pub(super) fn attach(&mut self, stream: Stream) -> StreamKey {
        let descriptor = stream.as_fd().as_raw_fd();
        let key = self.streams.insert(Connection {
            stream,
            // Bytes may have come before the registration: tried at once.
            readable: true,
            half_closed: false,
            queued: true,
            paused: false,
            ended: false,
            send: None,
            unregistered: None,
        });
        self.readable.push_back(key);
        let token = Token(key.slot as usize * KINDS);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = register(&self.poll, descriptor, token, interest)
            && let Some(connection) = self.streams.get_mut(key)
        {
            connection.unregistered = Some(error);
        }
        StreamKey(key)
    }

    pub(super) fn pause(&mut self, key: StreamKey) {
        if let Some(connection) = self.streams.get_mut(key.0) {
            connection.paused = true;
        }
    }

    pub(super) fn resume(&mut self, key: StreamKey) {
        if let Some(connection) = self.streams.get_mut(key.0) {
            connection.paused = false;
            enqueue(&mut self.readable, connection, key.0);
        }
    }

    pub(super) fn send<'a>(&mut self, key: StreamKey, pieces: impl Iterator<Item = &'a Slice>) {
        let Some(connection) = self.streams.get_mut(key.0) else { return };
        assert!(connection.send.is_none(), "one send per stream at a time");
        let mut list = self.piece_lists.pop().unwrap_or_default();
        list.extend(pieces.cloned());
        assert!(!list.is_empty(), "a send has at least one piece");
        assert!(list.len() <= SEND_PIECES_MAX, "a send has at most {SEND_PIECES_MAX} pieces");
        let send = Sending { pieces: list, bytes: 0, outcome: Outcome::Blocked };
        let send = connection.send.insert(send);
        if send.go_on(&connection.stream, &mut self.counts.socket_calls) {
            self.sent.push_back(key.0);
        }
    }

    pub(super) fn stream(&self, key: StreamKey) -> Option<&Stream> {
        self.streams.get(key.0).map(|connection| &connection.stream)
    }

    pub(super) fn sending(&self, key: StreamKey) -> bool {
        self.streams.get(key.0).is_some_and(|connection| connection.send.is_some())
    }

    pub(super) fn close(&mut self, key: StreamKey) {
        let Some(connection) = self.streams.remove(key.0) else { return };
        if let Some(send) = connection.send {
            recycle(&mut self.piece_lists, send.pieces);
        }
        // Closing takes the socket out of the epoll.
        connection.stream.close(&mut self.buffer);
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    pub(super) fn ring(&mut self, bell: &Bell) {
        bell.ring();
    }

    pub(super) fn counts(&self) -> DriverCounts {
        self.counts
    }

    pub(super) fn ready(&mut self) -> bool {
        self.has_work() || (self.look(Wait::No).is_ok() && self.has_work())
    }

    pub(super) fn turn(&mut self, wait: Wait) -> io::Result<()> {
        self.spare.restore(&self.bell);
        let wait = if self.has_work() { Wait::No } else { self.until_rest_ends(wait) };
        self.look(wait)?;
        self.end_rests();
        self.receives_left = self.readable.len();
        self.accepts_left = ACCEPTS_PER_TURN;
        self.begin_datagrams();
        Ok(())
    }

    pub(super) fn next_event(&mut self) -> Option<Event<'_>> {
        self.spare.restore(&self.bell);
        if std::mem::take(&mut self.woken) {
            return Some(Event::Woken);
        }
        if let Some((key, to)) = self.datagrams.next_refusal() {
            return Some(DatagramEvent::Refused { to }.at(key));
        }
        while let Some(key) = self.sent.pop_front() {
            let finished = self.streams.get_mut(key).and_then(|connection| connection.send.take());
            if let Some(send) = finished {
                return Some(self.report_send(StreamKey(key), send));
            }
        }
        if let Some(event) = self.next_connection() {
            return Some(event);
        }
        match self.receive_datagrams() {
            Arrived::Nothing => {}
            Arrived::Datagrams(key, received) => {
                let dropped = self.datagrams.newly_dropped(key, &received);
                let bytes = self.arrivals.bytes(&received);
                return Some(DatagramEvent::received(&received, bytes, dropped).at(key));
            }
            Arrived::Failed(key, error) => return Some(DatagramEvent::Failed { error }.at(key)),
        }
        match self.receive() {
            Found::Nothing => None,
            Found::Received(key, bytes) => {
                let bytes = &self.buffer[..bytes];
                Some(Event::Received { stream: StreamKey(key), bytes })
            }
            Found::Ended(key, error) => Some(Event::Ended { stream: StreamKey(key), error }),
        }
    }

    pub(super) fn is_behind(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Whether there are events to report, or input known to be waiting.
    fn has_work(&self) -> bool {
        self.woken
            || !self.sent.is_empty()
            || !self.acceptable.is_empty()
            || !self.readable.is_empty()
            || self.datagrams.has_answers()
            || !self.arrivals.is_empty()
    }

    /// Waits for edges and turns them into flags.
    fn look(&mut self, wait: Wait) -> io::Result<()> {
        self.counts.enters += 1;
        let mut timeout = Some(Duration::ZERO);
        match wait {
            Wait::No => {}
            Wait::For(wait) if !wait.is_zero() => {
                self.counts.enters += 1;
                self.wait_precisely(wait)?;
            }
            Wait::For(_) => {}
            Wait::Forever => timeout = None,
        }
        match self.poll.poll(&mut self.edges, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                // What has come while a signal kept us counts as there.
                self.poll.poll(&mut self.edges, Some(Duration::ZERO))?;
            }
            Err(error) => return Err(error),
        }
        // Taken out for the time, as handling an edge needs the rest of the driver.
        let edges = std::mem::replace(&mut self.edges, Events::with_capacity(0));
        for edge in &edges {
            self.handle_edge(edge);
        }
        self.edges = edges;
        Ok(())
    }

    /// Waits until there are edges, or so long: epoll's own wait counts whole milliseconds.
    fn wait_precisely(&self, wait: Duration) -> io::Result<()> {
        let mut epoll = [PollFd::new(self.poll.registry(), PollFlags::IN)];
        // What is too long for the kernel is for ever.
        let wait = Timespec::try_from(wait).ok();
        match rustix::event::poll(&mut epoll, wait.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn handle_edge(&mut self, edge: &Edge) {
        let token = edge.token();
        if token == BELL {
            self.woken = true;
            return;
        }
        // No slot of a former owner: a closed socket has no edges, and all edges that were taken
        // from the kernel are handled before anything can be closed.
        let slot = (token.0 / KINDS) as u32;
        if token.0 % KINDS == DATAGRAMS {
            return self.handle_datagram_edge(slot, edge);
        }
        if token.0 % KINDS == LISTENER {
            let Some(key) = self.listeners.key_at(slot) else { return };
            let Some(accepter) = self.listeners.get_mut(key) else { return };
            if !std::mem::replace(&mut accepter.queued, true) {
                self.acceptable.push_back(key);
            }
            return;
        }
        let Some(key) = self.streams.key_at(slot) else { return };
        let Some(connection) = self.streams.get_mut(key) else { return };
        if edge.is_readable() || edge.is_read_closed() || edge.is_error() {
            connection.readable = true;
            connection.half_closed |= edge.is_read_closed() || edge.is_error();
            enqueue(&mut self.readable, connection, key);
        }
        if (edge.is_writable() || edge.is_write_closed() || edge.is_error())
            && let Some(send) = &mut connection.send
            && matches!(send.outcome, Outcome::Blocked)
            && send.go_on(&connection.stream, &mut self.counts.socket_calls)
        {
            self.sent.push_back(key);
        }
    }

    fn report_send(&mut self, stream: StreamKey, send: Sending) -> Event<'static> {
        recycle(&mut self.piece_lists, send.pieces);
        match send.outcome {
            Outcome::Failed(error) if send.bytes == 0 => Event::SendFailed { stream, error },
            // Cut short: the error comes again with the next send.
            Outcome::Failed(_) | Outcome::Done => Event::Sent { stream, bytes: send.bytes },
            Outcome::Blocked => unreachable!("only what is over is in `sent`"),
        }
    }

    /// Takes one connection from a listener that has some.
    fn next_connection(&mut self) -> Option<Event<'static>> {
        while self.accepts_left > 0 {
            let key = *self.acceptable.front()?;
            let Some(accepter) = self.listeners.get_mut(key) else {
                self.acceptable.pop_front();
                continue;
            };
            let listener = ListenerKey(key);
            self.accepts_left -= 1;
            self.counts.socket_calls += 1;
            let accepting = match accepter.register(&self.poll, key) {
                Ok(()) => self.spare.accept(&accepter.listener),
                Err(error) => Accepting::Failed(error),
            };
            match accepting {
                Accepting::Stream(stream) => return Some(Event::Accepted { listener, stream }),
                Accepting::Overflow(stream) => {
                    self.counts.overflows += 1;
                    return Some(Event::Overflow { listener, stream });
                }
                Accepting::Empty => {
                    accepter.queued = false;
                    self.acceptable.pop_front();
                    // Spent in vain where descriptors ran out with nobody waiting.
                    self.spare.restore(&self.bell);
                }
                Accepting::Failed(error) => {
                    self.acceptable.pop_front();
                    self.resting.push_back((Instant::now() + REST, key));
                    return Some(Event::AcceptFailed { listener, error });
                }
            }
        }
        None
    }

    /// Receives once from the next stream that has input.
    fn receive(&mut self) -> Found {
        while self.receives_left > 0 {
            self.receives_left -= 1;
            let Some(key) = self.readable.pop_front() else { break };
            let Some(connection) = self.streams.get_mut(key) else { continue };
            connection.queued = false;
            if !connection.wants_reading() {
                continue;
            }
            if let Some(error) = connection.unregistered.take() {
                connection.ended = true;
                return Found::Ended(key, Some(error));
            }
            self.counts.socket_calls += 1;
            match connection.stream.read_now(&mut self.buffer) {
                Ok(0) => {
                    connection.ended = true;
                    return Found::Ended(key, None);
                }
                Ok(bytes) => {
                    // A short read empties the socket; what comes later is a new edge. But the
                    // end, where it is known to be there already, has no edge of its own.
                    connection.readable = bytes == self.buffer.len() || connection.half_closed;
                    enqueue(&mut self.readable, connection, key);
                    return Found::Received(key, bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    connection.readable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    enqueue(&mut self.readable, connection, key);
                }
                Err(error) => {
                    connection.ended = true;
                    return Found::Ended(key, Some(error));
                }
            }
        }
        Found::Nothing
    }

    fn until_rest_ends(&self, wait: Wait) -> Wait {
        let rests = [self.resting.front(), self.arrivals.first_rest()];
        match rests.into_iter().flatten().map(|(end, _)| end).min() {
            Some(end) => wait.at_most(end.saturating_duration_since(Instant::now())),
            None => wait,
        }
    }

    fn end_rests(&mut self) {
        while let Some(&(end, key)) = self.resting.front()
            && end <= Instant::now()
        {
            self.resting.pop_front();
            self.acceptable.push_back(key);
        }
    }
}

impl Accepter {
    /// Registers the listener, if that did not succeed yet.
    fn register(&mut self, poll: &mio::Poll, key: Key) -> io::Result<()> {
        if !self.registered {
            let descriptor = self.listener.as_fd().as_raw_fd();
            let token = Token(key.slot as usize * KINDS + LISTENER);
            register(poll, descriptor, token, Interest::READABLE)?;
            self.registered = true;
        }
        Ok(())
    }
}

impl Connection {
    fn wants_reading(&self) -> bool {
        self.readable && !self.paused && !self.ended
    }
}

impl Sending {
    /// Writes until the socket is full or everything is written; whether the send is over.
    fn go_on(&mut self, stream: &Stream, calls: &mut u64) -> bool {
        loop {
            *calls += 1;
            match self.write(stream) {
                Ok(true) => self.outcome = Outcome::Done,
                // Tried again: epoll tells of room only after a write that found none.
                Ok(false) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => self.outcome = Outcome::Failed(error),
            }
            return true;
        }
    }

    /// Writes once; whether that was the last byte.
    fn write(&mut self, stream: &Stream) -> io::Result<bool> {
        let mut vectors = [IoSlice::new(&[]); SEND_PIECES_MAX];
        let mut skip = self.bytes;
        let mut left = 0;
        let mut count = 0;
        for piece in &self.pieces {
            let from = skip.min(piece.len());
            skip -= from;
            if from < piece.len() {
                vectors[count] = IoSlice::new(&piece[from..]);
                count += 1;
                left += piece.len() - from;
            }
        }
        if count == 0 {
            return Ok(true); // empty pieces only
        }
        let written = match count {
            1 => stream.write_now(&vectors[0])?,
            _ => stream.write_pieces_now(&vectors[..count])?,
        };
        self.bytes += written;
        Ok(written == left)
    }
}

fn register(
    poll: &mio::Poll,
    descriptor: RawFd,
    token: Token,
    interest: Interest,
) -> io::Result<()> {
    poll.registry().register(&mut SourceFd(&descriptor), token, interest)
}

/// Queues the stream for reading, if it is to be read and not queued yet.
fn enqueue(readable: &mut VecDeque<Key>, connection: &mut Connection, key: Key) {
    if connection.wants_reading() && !connection.queued {
        connection.queued = true;
        readable.push_back(key);
    }
}

/// Keeps an emptied list for the next send.
fn recycle(lists: &mut Vec<Vec<Slice>>, mut list: Vec<Slice>) {
    list.clear();
    lists.push(list);
}
