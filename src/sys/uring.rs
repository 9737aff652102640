//! The io_uring driver: every listener and stream has at most one multishot operation in flight,
//! a stream at most one send besides, and all that a turn asked for goes to the kernel in one call.
//!
//! A socket lives until the last completion of its operations was seen, so slots name operations
//! unambiguously. The queues and the memory that the kernel sees: `uring/kernel.rs`.
#![allow(unsafe_code)]

mod buffers;
mod datagrams;
mod kernel;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use self::datagrams::Arrived;
use self::kernel::{Completion, Filled, Kernel};
use super::accept::{Accepting, REST, Spare, is_about_connection};
use super::bell::Bell;
use super::datagram::Datagrams;
use super::driver::{
    DatagramEvent, DriverCounts, Event, ListenerKey, OpenError, Options, StreamKey, Wait,
};
use super::operation::{OpKey, SendMemory};
use super::probe;
use super::socket::{Listener, Stream};
use super::table::{Key, Table};
use crate::base::limits::{CORES_MAX, SEND_PIECES_MAX};
use crate::mem::pool::Slice;

/// How long dropping a driver waits for the kernel to let go of its memory.
const QUIESCE_PATIENCE: Duration = Duration::from_secs(2);

/// Bytes read at once from a stream that is closed with unread input.
const SCRATCH_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub(super) struct UringDriver {
    kernel: Kernel,
    bell: Bell,
    spare: Spare,
    listeners: Table<Accepter>,
    streams: Table<Connection>,
    pub(super) datagrams: Datagrams<datagrams::Receive>,
    /// Listeners that rest after a failure, soonest first: every rest is equally long.
    resting: VecDeque<(Instant, Key)>,
    /// Streams whose receive found no buffer.
    starved: VecDeque<Key>,
    /// Datagram sockets whose receive found no buffer.
    starved_datagrams: Vec<Key>,
    /// The kernel had more to tell than it did in the last turn.
    is_cut_short: bool,
    /// Datagram sockets that rest after a failure, soonest first.
    resting_datagrams: VecDeque<(Instant, Key)>,
    /// The buffer whose bytes the last event lent out.
    lent: Option<Filled>,
    /// Bells of the drivers that were rung through io_uring; the index names them to the kernel.
    rung: Vec<Bell>,
    /// Memory of finished sends, to use again.
    send_memories: Vec<SendMemory>,
    scratch: Box<[u8]>,
    counts: DriverCounts,
}

#[derive(Debug)]
struct Accepter {
    listener: Listener,
    state: Accept,
    /// The owner gave it up.
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    /// The multishot accept is in flight.
    Armed,
    /// Descriptors ran out, so a multishot accept would fail at once: a poll is in flight, and
    /// connections are taken one by one until there is a descriptor again.
    Polling,
    /// Nothing is in flight.
    Resting,
}

#[derive(Debug)]
struct Connection {
    stream: Stream,
    receive: Receive,
    paused: bool,
    /// The send in flight: the kernel reads this memory.
    send: Option<SendMemory>,
    /// The owner gave it up.
    closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    /// Nothing is in flight.
    Idle,
    /// The multishot receive is in flight.
    Armed,
    /// It is, and so is its cancellation.
    Cancelling,
    /// Waits for buffers in `starved`.
    Starved,
    /// Input has ended.
    Ended,
}

impl UringDriver {
    pub(super) fn open(
        options: &Options,
        features: &mut probe::Features,
    ) -> Result<Self, OpenError> {
        let uring = probe::set_up(options.entries.max(1), features)?;
        let bell = Bell::new(Some(borrow(&uring)));
        let bell = bell.and_then(|bell| Ok((Spare::new(&bell)?, bell)));
        let (spare, bell) = bell.map_err(|error| probe::refused(&error))?;
        let kernel = Kernel::new(uring, options.receive_buffers);
        features.push(("provided buffers, multishot receive (6.0)", kernel.is_ok()));
        let kernel = kernel.map_err(|error| probe::no_buffers(&error))?;
        let mut driver = Self {
            kernel,
            bell,
            spare,
            listeners: Table::new(),
            streams: Table::new(),
            datagrams: Datagrams::new(),
            resting: VecDeque::new(),
            starved: VecDeque::new(),
            starved_datagrams: Vec::new(),
            is_cut_short: false,
            resting_datagrams: VecDeque::new(),
            lent: None,
            rung: Vec::new(),
            send_memories: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            counts: DriverCounts::default(),
        };
        driver.kernel.read_bell(driver.bell.event());
        Ok(driver)
    }

    pub(super) fn listen(&mut self, listener: Listener) -> ListenerKey {
        let accepter = Accepter { listener, state: Accept::Resting, closing: false };
        let key = self.listeners.insert(accepter);
        self.arm_accept(key);
        ListenerKey(key)
    }

    pub(super) fn unlisten(&mut self, key: ListenerKey) {
        let Some(accepter) = self.listeners.get_mut(key.0) else { return };
        if std::mem::replace(&mut accepter.closing, true) {
            return;
        }
        match accepter.state {
            Accept::Armed => self.kernel.cancel(OpKey::Accept(key.0.slot)),
            Accept::Polling => self.kernel.cancel(OpKey::Connectable(key.0.slot)),
            Accept::Resting => drop(self.listeners.remove(key.0)),
        }
    }

    pub(super) fn attach(&mut self, stream: Stream) -> StreamKey {
        let connection = Connection {
            stream,
            receive: Receive::Idle,
            paused: false,
            send: None,
            closing: false,
        };
        let key = self.streams.insert(connection);
        self.arm_receive(key);
        StreamKey(key)
    }

    pub(super) fn pause(&mut self, key: StreamKey) {
        let Some(connection) = self.open_stream(key) else { return };
        connection.paused = true;
        if connection.receive == Receive::Armed {
            connection.receive = Receive::Cancelling;
            self.kernel.cancel(OpKey::Receive(key.0.slot));
        }
    }

    pub(super) fn resume(&mut self, key: StreamKey) {
        let Some(connection) = self.open_stream(key) else { return };
        connection.paused = false;
        // Where the cancellation is under way, its completion starts anew.
        self.arm_receive(key.0);
    }

    pub(super) fn send<'a>(&mut self, key: StreamKey, pieces: impl Iterator<Item = &'a Slice>) {
        let Some(connection) = self.streams.get_mut(key.0) else { return };
        if connection.closing {
            return;
        }
        assert!(connection.send.is_none(), "one send per stream at a time");
        let mut memory = self.send_memories.pop().unwrap_or_else(SendMemory::new);
        memory.fill(pieces);
        assert!(memory.pieces() > 0, "a send has at least one piece");
        assert!(memory.pieces() <= SEND_PIECES_MAX, "too many pieces in one send");
        let memory = connection.send.insert(memory);
        // SAFETY: the memory is kept in `connection.send`, which nobody touches before
        // `handle_sent` takes it out on this operation's completion; the connection is removed
        // only when there is no send, and `drop` leaks what the kernel still uses.
        unsafe { self.kernel.send(connection.stream.as_fd(), memory, OpKey::Send(key.0.slot)) };
    }

    pub(super) fn stream(&self, key: StreamKey) -> Option<&Stream> {
        let connection = self.streams.get(key.0).filter(|connection| !connection.closing);
        connection.map(|connection| &connection.stream)
    }

    pub(super) fn sending(&self, key: StreamKey) -> bool {
        let connection = self.streams.get(key.0);
        connection.is_some_and(|connection| !connection.closing && connection.send.is_some())
    }

    pub(super) fn close(&mut self, key: StreamKey) {
        let Some(connection) = self.open_stream(key) else { return };
        connection.closing = true;
        let (receive, sending) = (connection.receive, connection.send.is_some());
        if receive == Receive::Armed {
            connection.receive = Receive::Cancelling;
            self.kernel.cancel(OpKey::Receive(key.0.slot));
        }
        if sending {
            self.kernel.cancel(OpKey::Send(key.0.slot));
        }
        self.finish_closing(key.0);
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    pub(super) fn ring(&mut self, bell: &Bell) {
        let known = self.rung.iter().position(|rung| rung.is_same(bell));
        let index = known.unwrap_or(self.rung.len());
        let (Some(uring), 0..CORES_MAX) = (bell.uring(), index) else {
            // Its driver has none, or there are more drivers than cores.
            return bell.ring();
        };
        if known.is_none() {
            self.rung.push(bell.clone());
        }
        self.kernel.ring(uring, OpKey::Ring(index as u32));
    }

    pub(super) fn counts(&self) -> DriverCounts {
        let Kernel { enters, enters_early, .. } = self.kernel;
        DriverCounts { enters, enters_early, ..self.counts }
    }

    pub(super) fn ready(&mut self) -> bool {
        !self.starved.is_empty() || self.datagrams.has_answers() || self.kernel.ready()
    }

    pub(super) fn turn(&mut self, wait: Wait) -> io::Result<()> {
        self.spare.restore(&self.bell);
        self.take_back();
        self.feed_starved();
        self.end_rests();
        let mut wait = wait;
        self.rearm_datagrams();
        if !self.starved.is_empty() || self.datagrams.has_answers() {
            wait = Wait::No; // their turn comes with the next one
        }
        let rests = [self.resting.front(), self.resting_datagrams.front()];
        if let Some(end) = rests.into_iter().flatten().map(|(end, _)| end).min() {
            wait = wait.at_most(end.saturating_duration_since(Instant::now()));
        }
        self.counts.cq_overflows += u64::from(self.kernel.overflowed());
        self.kernel.turn(match wait {
            Wait::No => None,
            Wait::For(wait) => Some(Some(wait)),
            Wait::Forever => Some(None),
        })?;
        self.is_cut_short = self.kernel.has_more();
        Ok(())
    }

    pub(super) fn is_behind(&mut self) -> bool {
        self.is_cut_short || !self.starved_datagrams.is_empty() || self.kernel.has_completions()
    }

    pub(super) fn next_event(&mut self) -> Option<Event<'_>> {
        self.spare.restore(&self.bell);
        self.take_back();
        if let Some((key, to)) = self.datagrams.next_refusal() {
            return Some(DatagramEvent::Refused { to }.at(key));
        }
        while let Some(completion) = self.kernel.next_completion() {
            let event = match completion.key {
                OpKey::Accept(slot) => self.handle_accept(slot, completion),
                OpKey::Connectable(slot) => self.handle_connectable(slot),
                OpKey::Receive(slot) => match self.handle_receive(slot, completion) {
                    Received::Bytes(stream, filled) => {
                        let filled = self.lent.insert(filled);
                        let bytes = self.kernel.received(filled);
                        return Some(Event::Received { stream, bytes });
                    }
                    Received::Ended(stream, error) => Some(Event::Ended { stream, error }),
                    Received::Nothing => None,
                },
                OpKey::Send(slot) => self.handle_sent(slot, completion.result),
                OpKey::Bell => {
                    self.kernel.read_bell(self.bell.event());
                    Some(Event::Woken)
                }
                OpKey::Woken => Some(Event::Woken),
                OpKey::Ring(index) => {
                    // Its io_uring is gone or full; completes for failures only.
                    self.counts.rings_by_eventfd += 1;
                    self.rung[index as usize].ring();
                    None
                }
                OpKey::Datagrams(slot) => match self.handle_datagrams(slot, completion) {
                    Arrived::Datagrams(key, filled, received) => {
                        let dropped = self.datagrams.newly_dropped(key, &received);
                        let message = self.kernel.received(self.lent.insert(filled));
                        let bytes = &message[message.len() - received.bytes..];
                        return Some(DatagramEvent::received(&received, bytes, dropped).at(key));
                    }
                    Arrived::Failed(key, error) => Some(DatagramEvent::Failed { error }.at(key)),
                    Arrived::Nothing => None,
                },
                OpKey::Cancel => None,
            };
            if event.is_some() {
                return event;
            }
        }
        None
    }

    fn handle_accept(&mut self, slot: u32, completion: Completion) -> Option<Event<'static>> {
        let key = self.listeners.key_at(slot)?;
        let accepter = self.listeners.get_mut(key)?;
        if !completion.more {
            accepter.state = Accept::Resting;
        }
        if accepter.closing {
            self.finish_unlistening(key);
            return None;
        }
        let listener = ListenerKey(key);
        if let Some(socket) = completion.accepted {
            let stream = accepter.listener.adopt(socket);
            self.arm_accept(key);
            return Some(Event::Accepted { listener, stream });
        }
        match Errno::from_raw_os_error(-completion.result) {
            Errno::MFILE => self.poll_accept(key),
            Errno::CANCELED => self.arm_accept(key),
            error if is_about_connection(error) => self.arm_accept(key),
            error => {
                self.resting.push_back((Instant::now() + REST, key));
                return Some(Event::AcceptFailed { listener, error: error.into() });
            }
        }
        None
    }

    /// Takes one connection by hand, after descriptors had run out.
    fn handle_connectable(&mut self, slot: u32) -> Option<Event<'static>> {
        let key = self.listeners.key_at(slot)?;
        let accepter = self.listeners.get_mut(key)?;
        accepter.state = Accept::Resting;
        if accepter.closing {
            self.finish_unlistening(key);
            return None;
        }
        let listener = ListenerKey(key);
        self.counts.socket_calls += 1;
        match self.spare.accept(&accepter.listener) {
            Accepting::Stream(stream) => {
                self.arm_accept(key);
                Some(Event::Accepted { listener, stream })
            }
            Accepting::Overflow(stream) => {
                self.counts.overflows += 1;
                self.poll_accept(key);
                Some(Event::Overflow { listener, stream })
            }
            Accepting::Empty => {
                // Spent in vain where somebody else took the connection.
                self.spare.restore(&self.bell);
                self.poll_accept(key);
                None
            }
            Accepting::Failed(error) => {
                self.resting.push_back((Instant::now() + REST, key));
                Some(Event::AcceptFailed { listener, error })
            }
        }
    }

    fn handle_receive(&mut self, slot: u32, completion: Completion) -> Received {
        let Completion { result, more, filled, .. } = completion;
        let Some(key) = self.streams.key_at(slot) else { return Received::Nothing };
        let Some(connection) = self.streams.get_mut(key) else { return Received::Nothing };
        let before = connection.receive;
        if !more {
            connection.receive = Receive::Idle;
        }
        if connection.closing || result <= 0 {
            // Nobody wants the bytes, or there are none.
            if let Some(filled) = filled {
                self.kernel.give_back(filled);
            }
            return self.handle_no_bytes(key, result);
        }
        let filled = filled.expect("bytes come in provided buffers");
        if !more {
            // The kernel does so when completions overflow, and now and then for fairness.
            self.counts.receives_restarted += u64::from(before == Receive::Armed);
            self.arm_receive(key);
        }
        Received::Bytes(StreamKey(key), filled)
    }

    fn handle_no_bytes(&mut self, key: Key, result: i32) -> Received {
        let Some(connection) = self.streams.get_mut(key) else { return Received::Nothing };
        if connection.closing {
            self.finish_closing(key);
            return Received::Nothing;
        }
        let error = (result < 0).then(|| Errno::from_raw_os_error(-result));
        match error {
            Some(Errno::CANCELED | Errno::INTR | Errno::AGAIN) => {
                self.arm_receive(key);
                return Received::Nothing;
            }
            Some(Errno::NOBUFS) => {
                self.counts.buffers_exhausted += 1;
                connection.receive = Receive::Starved;
                self.starved.push_back(key);
                return Received::Nothing;
            }
            None | Some(_) => {}
        }
        connection.receive = Receive::Ended;
        Received::Ended(StreamKey(key), error.map(io::Error::from))
    }

    fn handle_sent(&mut self, slot: u32, result: i32) -> Option<Event<'static>> {
        let key = self.streams.key_at(slot)?;
        let connection = self.streams.get_mut(key)?;
        let mut memory = connection.send.take().expect("a send completes once");
        memory.clear();
        self.send_memories.push(memory);
        if connection.closing {
            self.finish_closing(key);
            return None;
        }
        let stream = StreamKey(key);
        Some(match usize::try_from(result) {
            Ok(bytes) => Event::Sent { stream, bytes },
            Err(_) => {
                let error = io::Error::from_raw_os_error(-result);
                Event::SendFailed { stream, error }
            }
        })
    }

    /// A stream that its owner has not closed.
    fn open_stream(&mut self, key: StreamKey) -> Option<&mut Connection> {
        self.streams.get_mut(key.0).filter(|connection| !connection.closing)
    }

    /// Starts the multishot accept, unless something is in flight.
    fn arm_accept(&mut self, key: Key) {
        let Some(accepter) = self.listeners.get_mut(key) else { return };
        if accepter.state == Accept::Resting {
            accepter.state = Accept::Armed;
            self.kernel.accept(accepter.listener.as_fd(), OpKey::Accept(key.slot));
        }
    }

    /// Waits for the next connection without reserving a descriptor for it.
    fn poll_accept(&mut self, key: Key) {
        let Some(accepter) = self.listeners.get_mut(key) else { return };
        if accepter.state == Accept::Resting {
            accepter.state = Accept::Polling;
            self.kernel.poll(accepter.listener.as_fd(), OpKey::Connectable(key.slot));
        }
    }

    /// Starts the multishot receive, if it is wanted and nothing is in flight.
    fn arm_receive(&mut self, key: Key) {
        let Some(connection) = self.streams.get_mut(key) else { return };
        if connection.receive == Receive::Idle && !connection.paused && !connection.closing {
            connection.receive = Receive::Armed;
            self.kernel.receive(connection.stream.as_fd(), OpKey::Receive(key.slot));
        }
    }

    /// Drops a listener that its owner gave up, once the kernel is done with it.
    fn finish_unlistening(&mut self, key: Key) {
        if self.listeners.get(key).is_some_and(|accepter| accepter.state == Accept::Resting) {
            self.listeners.remove(key);
        }
    }

    /// Closes a stream that its owner gave up, once the kernel is done with it.
    fn finish_closing(&mut self, key: Key) {
        let Some(connection) = self.streams.get(key) else { return };
        let receiving = matches!(connection.receive, Receive::Armed | Receive::Cancelling);
        if receiving || connection.send.is_some() {
            return;
        }
        if let Some(connection) = self.streams.remove(key) {
            connection.stream.close(&mut self.scratch);
        }
    }

    /// Gives the buffer of the last event back to the kernel.
    fn take_back(&mut self) {
        if let Some(filled) = self.lent.take() {
            self.kernel.give_back(filled);
        }
    }

    /// Starts receives that found no buffer, oldest first, and no more than there are buffers:
    /// the others would only fail again.
    fn feed_starved(&mut self) {
        for _ in 0..self.starved.len().min(self.kernel.stream_buffers()) {
            let Some(key) = self.starved.pop_front() else { return };
            let Some(connection) = self.streams.get_mut(key) else { continue };
            connection.receive = Receive::Idle;
            self.arm_receive(key);
        }
    }

    fn end_rests(&mut self) {
        while let Some(&(end, key)) = self.resting.front()
            && end <= Instant::now()
        {
            self.resting.pop_front();
            self.arm_accept(key);
        }
    }
}

impl Drop for UringDriver {
    fn drop(&mut self) {
        if self.kernel.quiesce(QUIESCE_PATIENCE) {
            return;
        }
        // The kernel did not let go of everything. Better to lose the memory of the sends than to
        // let it send what others write there.
        for connection in self.streams.drain() {
            std::mem::forget(connection.send);
        }
    }
}

/// What came of the completion of a receive.
enum Received {
    Nothing,
    Bytes(StreamKey, Filled),
    Ended(StreamKey, Option<io::Error>),
}

/// The ring's descriptor, for as long as the ring is borrowed.
fn borrow(uring: &io_uring::IoUring) -> BorrowedFd<'_> {
    // SAFETY: the ring owns the descriptor, and the result borrows the ring.
    unsafe { BorrowedFd::borrow_raw(uring.as_raw_fd()) }
}
