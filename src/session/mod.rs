//! The client sessions of one core, sans-IO: bytes of connections come in by `handle_*`, requests
//! for the protocol layer and bytes to write go out by `poll_*`.
//!
//! Every method that names a session takes ids that may be stale, and ignores those.

#![deny(clippy::wildcard_enum_match_arm)]

pub mod credit;
mod fanout;
mod frames;
mod handshake;
mod input;
mod slots;

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::event::{EndReason, Violation};
use crate::base::limits::SEND_PIECES_MAX;
use crate::base::{
    Buffer, Counter, Event, Instant, PrivateGroup, Request, SessionId, SessionName, Store, Tally,
};
use crate::wire::session::handshake::{ACCEPT_BYTES_MAX, AUTH_LIST_BYTES_MAX};
use crate::wire::session::{Accept, Reject, Version};

pub use handshake::Auth;

use credit::{Bounds, Verdict};
use handshake::Next;
use slots::{Session, Slots, State};

/// What the session layer must know at start.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Number of this core, the first part of its sessions' ids.
    pub core: u8,
    /// How clients prove who they are.
    pub auth: Auth,
    /// How long a connection may take for each step of the handshake.
    pub handshake_timeout: Duration,
    /// What may wait for a slow client.
    pub bounds: Bounds,
}

/// What the protocol layer is to do.
#[derive(Debug)]
pub enum Submission<B> {
    /// Reserve a name; the answer comes back by [`Sessions::handle_named`].
    Connect {
        /// `None`: any name.
        name: Option<SessionName>,
        /// Whether the client asked for membership messages.
        wants_membership: bool,
    },
    /// A request of a session that has its name.
    Request(Request<B>),
}

/// What is to be done with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Stop receiving.
    Pause(SessionId),
    /// Receive again.
    Resume(SessionId),
    /// Close it: the session is over, and its id will not come back.
    Close(SessionId),
}

/// What a slow receiver wants of a sender, which may be on another core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Read nothing from it.
    Begin(SessionId),
    /// One hold less.
    End(SessionId),
}

/// Bytes that are ready to be written to one connection.
pub struct Transmit<'a, B> {
    /// To whom.
    pub session: SessionId,
    outbox: &'a fanout::Outbox<B>,
}

impl<'a, B: Buffer> Transmit<'a, B> {
    /// The pieces, in order; at most [`SEND_PIECES_MAX`].
    pub fn pieces(&self) -> impl Iterator<Item = &'a B> + use<'a, B> {
        self.outbox.pieces().take(SEND_PIECES_MAX)
    }

    /// The same bytes, all of them, in runs of whole frames: what lies together as one run up to
    /// `run_max` bytes, else each frame by itself, as are frames that have `long` bytes on average.
    /// The first may be the rest of a frame; bytes of the handshake come as they were stored.
    pub fn runs(&self, run_max: usize, long: usize) -> impl Iterator<Item = &'a [u8]> + use<'a, B> {
        self.outbox.runs(run_max, long)
    }
}

/// A hello without its name.
const HELLO_FIXED_BYTES: usize = 5;

/// All sessions of one core.
pub struct Sessions<S: Store> {
    setup: Setup,
    slots: Slots<S::Buffer>,
    /// Connections in the handshake, by deadline; what has moved on is skipped when due.
    deadlines: VecDeque<(Instant, SessionId)>,
    submissions: VecDeque<(SessionId, Submission<S::Buffer>)>,
    actions: VecDeque<Action>,
    holds: VecDeque<Hold>,
    /// Sessions with something to write and no write in flight.
    writable: VecDeque<SessionId>,
    /// Sessions with input that could not be worked on when it came.
    stuck: VecDeque<SessionId>,
    /// Buffers of input that has been worked off.
    spare: input::Spare,
    throttled: bool,
    /// Counts the turns of the core, to tell a socket that is full from one not yet asked.
    turn: u64,
    events: VecDeque<Event>,
    tally: Tally,
}

impl<S: Store> Sessions<S> {
    /// No sessions yet.
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            slots: Slots::new(setup.core),
            deadlines: VecDeque::new(),
            submissions: VecDeque::new(),
            actions: VecDeque::new(),
            holds: VecDeque::new(),
            writable: VecDeque::new(),
            stuck: VecDeque::new(),
            spare: input::Spare::default(),
            throttled: false,
            turn: 0,
            events: VecDeque::new(),
            tally: Tally::default(),
        }
    }

    /// A connection has come. `address_admitted`: the list of method IP has its address.
    pub fn handle_accepted(&mut self, now: Instant, address_admitted: bool) -> SessionId {
        self.tally.count(Counter::ConnectionsAccepted);
        let id = self.slots.open(address_admitted);
        self.arm(now, id);
        id
    }

    fn arm(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.slots.get_mut(id) else { return };
        session.deadline = now + self.setup.handshake_timeout;
        self.deadlines.push_back((session.deadline, id));
    }

    /// The protocol layer's answer to [`Submission::Connect`]. `None`: the name is taken.
    pub fn handle_named(
        &mut self,
        now: Instant,
        id: SessionId,
        name: Option<PrivateGroup>,
        store: &mut S,
    ) {
        let Some(session) = self.slots.get_mut(id) else { return };
        let State::Naming { greeting, gone } = &session.state else { return };
        let (greeting, gone) = (*greeting, *gone);
        let Some(name) = name else {
            session.state = State::Unnamed;
            return if gone { self.close(id) } else { self.reject(id, Reject::NotUnique, store) };
        };
        session.state = State::Choosing { name, version: greeting.version };
        if gone {
            return self.end(id, EndReason::Closed);
        }
        let version = greeting.version;
        match self.setup.auth.after_hello(version, session.address_admitted) {
            Next::Offer => {
                self.offer(id, store);
                self.arm(now, id);
            }
            Next::OfferNothing => {
                self.offer(id, store);
                self.reject(id, Reject::Auth, store);
            }
            Next::Accept => self.accept(id, name, version, store),
            Next::Reject => self.reject(id, Reject::Auth, store),
        }
        self.work_off(id, store);
    }

    fn offer(&mut self, id: SessionId, store: &mut S) {
        let mut list = [0; AUTH_LIST_BYTES_MAX];
        let len = self.setup.auth.allowed.emit(&mut list);
        self.answer(id, &list[..len], store);
    }

    fn accept(&mut self, id: SessionId, name: PrivateGroup, client: Version, store: &mut S) {
        let mut bytes = [0; ACCEPT_BYTES_MAX];
        let accept = Accept { version: Version::SPOKEN, group: name };
        let len = accept.emit(client, &mut bytes);
        let Some(session) = self.slots.get_mut(id) else { return };
        session.state = State::Open { name };
        self.tally.count(Counter::SessionsStarted);
        self.events.push_back(Event::SessionStarted { session: name });
        self.answer(id, &bytes[..len], store);
    }

    /// Turns a client away: one byte, then the connection is closed.
    fn reject(&mut self, id: SessionId, reject: Reject, store: &mut S) {
        // An answer before this one may have met a full store, which ends the session.
        if self.slots.get(id).is_none_or(|session| session.state == State::Ending) {
            return;
        }
        self.tally.count(match reject {
            Reject::Quota => Counter::RejectedQuota,
            Reject::NoName | Reject::IllegalName => Counter::RejectedName,
            Reject::NotUnique => Counter::RejectedNotUnique,
            Reject::Version => Counter::RejectedVersion,
            Reject::Auth => Counter::RejectedAuth,
        });
        let Some(session) = self.slots.get_mut(id) else { return };
        let named = session.state.name().is_some();
        session.state = State::Rejected { named };
        self.answer(id, &[reject.to_byte()], store);
    }

    /// Queues bytes of the handshake; a client that cannot be answered for lack of memory is gone.
    fn answer(&mut self, id: SessionId, bytes: &[u8], store: &mut S) {
        let Some(stored) = store.copy(bytes) else {
            self.tally.count(Counter::PoolExhausted);
            return self.end(id, EndReason::Closed);
        };
        let Some(session) = self.slots.get_mut(id) else { return };
        session.outbox.push_raw(stored);
        self.mark_writable(id);
    }

    /// A delivery of the protocol layer for one session; `sender` is the session of this daemon
    /// that sent it.
    pub fn handle_delivery(&mut self, id: SessionId, frame: &S::Buffer, sender: Option<SessionId>) {
        let turn = self.turn;
        let Some(session) = self.slots.get_mut(id) else { return };
        let State::Open { .. } = session.state else { return };
        if session.gone {
            return;
        }
        let (messages, bytes) = (session.outbox.messages(), session.outbox.bytes());
        let stalled = session.is_stalled(turn);
        match self.setup.bounds.judge(messages, bytes, stalled, sender.is_some()) {
            Verdict::Fine => {}
            Verdict::Hold => {
                if let Some(sender) = sender {
                    self.hold(id, sender);
                }
            }
            Verdict::Drop => return self.end(id, EndReason::Slow { messages, bytes }),
        }
        let Some(session) = self.slots.get_mut(id) else { return };
        session.outbox.push_frame(frame);
        self.tally.count(Counter::FramesDelivered);
        self.mark_writable(id);
    }

    fn hold(&mut self, receiver: SessionId, sender: SessionId) {
        let Some(session) = self.slots.get_mut(receiver) else { return };
        if session.holding.contains(&sender) {
            return;
        }
        session.holding.push(sender);
        self.holds.push_back(Hold::Begin(sender));
    }

    /// A receiver wants this sender of ours to be held back, or no longer.
    pub fn handle_hold(&mut self, hold: Hold, store: &mut S) {
        match hold {
            Hold::Begin(sender) => {
                let Some(session) = self.slots.get_mut(sender) else { return };
                session.holds += 1;
                self.pause(sender);
            }
            Hold::End(sender) => {
                let Some(session) = self.slots.get_mut(sender) else { return };
                session.holds -= 1;
                self.work_off(sender, store);
            }
        }
    }

    /// The connection's last transmit is done; the socket took `bytes` bytes of it.
    pub fn handle_sent(&mut self, id: SessionId, bytes: usize) {
        self.tally.add(Counter::BytesSent, bytes as u64);
        let Some(session) = self.slots.get_mut(id) else { return };
        session.sending_since = None;
        if session.gone || matches!(session.state, State::Ending) {
            return;
        }
        session.outbox.consume(bytes);
        let relieved =
            self.setup.bounds.is_relieved(session.outbox.messages(), session.outbox.bytes());
        if relieved {
            let held = session.holding.drain(..).map(Hold::End);
            self.holds.extend(held);
        }
        if !session.outbox.is_empty() {
            return self.mark_writable(id);
        }
        if let State::Rejected { named } = session.state {
            self.finish(id, named);
        }
    }

    /// Whether what a client says still counts.
    pub fn is_heard(&self, id: SessionId) -> bool {
        self.slots.get(id).is_some_and(|session| match session.state {
            State::Rejected { .. } | State::Ending => false,
            State::Greeting
            | State::Naming { .. }
            | State::Unnamed
            | State::Choosing { .. }
            | State::Open { .. } => true,
        })
    }

    /// The client is gone and has left something behind, which will still be received, and behind
    /// that [`Sessions::handle_ended`]. Until then nothing is kept for it.
    pub fn handle_leaving(&mut self, id: SessionId) {
        let Some(session) = self.slots.get_mut(id) else { return };
        session.leaving = true;
        if let State::Open { .. } = session.state {
            self.forget_client(id);
        }
    }

    /// Nobody reads any more.
    fn forget_client(&mut self, id: SessionId) {
        let Some(session) = self.slots.get_mut(id) else { return };
        session.gone = true;
        session.outbox.clear();
        self.holds.extend(session.holding.drain(..).map(Hold::End));
    }

    /// The client closed its side, or the connection broke. What it had sent before counts, even if
    /// it has to wait.
    pub fn handle_ended(&mut self, id: SessionId, store: &mut S) {
        let Some(session) = self.slots.get_mut(id) else { return };
        session.leaving = false;
        let waits = session.holds > 0 || session.stuck || self.throttled;
        if !waits || session.input.is_empty() || !matches!(session.state, State::Open { .. }) {
            return self.give_up(id, store);
        }
        self.forget_client(id);
    }

    /// No more will come of a client: in the handshake it is told what was wrong up to here.
    pub(super) fn give_up(&mut self, id: SessionId, store: &mut S) {
        let Some(session) = self.slots.get(id) else { return };
        match session.state {
            State::Greeting if session.input.len() >= HELLO_FIXED_BYTES => {
                self.tally.count(Counter::HandshakesAbandoned);
                self.reject(id, Reject::IllegalName, store);
            }
            State::Choosing { .. } => {
                self.tally.count(Counter::HandshakesAbandoned);
                self.reject(id, Reject::Auth, store);
            }
            State::Greeting
            | State::Naming { .. }
            | State::Unnamed
            | State::Open { .. }
            | State::Rejected { .. }
            | State::Ending => self.end(id, EndReason::Closed),
        }
    }

    /// The client scribbled over the memory that carries its connection.
    pub fn handle_corrupt(&mut self, id: SessionId) {
        self.end(id, EndReason::Violation(Violation::SharedMemory));
    }

    /// The session's disconnect was delivered.
    pub fn handle_disconnected(&mut self, id: SessionId) {
        self.close(id);
    }

    /// A turn of the core begins.
    pub fn handle_turn(&mut self) {
        self.turn += 1;
    }

    /// Turns away or closes connections whose handshake takes too long.
    pub fn handle_timeout(&mut self, now: Instant, store: &mut S) {
        while let Some(&(deadline, id)) = self.deadlines.front() {
            if deadline > now {
                return;
            }
            self.deadlines.pop_front();
            let due = self.slots.get(id).is_some_and(|session| {
                session.deadline == deadline && session.state.is_waited_for()
            });
            if due {
                self.give_up(id, store);
                // Who is told something has as long again to take it.
                self.arm(now, id);
            }
        }
    }

    /// When [`Sessions::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.front().map(|&(deadline, _)| deadline)
    }

    /// Ends a session, in whatever state it is.
    fn end(&mut self, id: SessionId, reason: EndReason) {
        let Some(session) = self.slots.get_mut(id) else { return };
        match &mut session.state {
            State::Greeting | State::Unnamed => {
                self.tally.count(Counter::HandshakesAbandoned);
                self.close(id);
            }
            // The name is on its way: it must be given back once it is there.
            State::Naming { gone, .. } => *gone = true,
            State::Rejected { named } => {
                let named = *named;
                self.finish(id, named);
            }
            State::Choosing { .. } => self.finish(id, true),
            State::Open { name } => {
                let name = *name;
                self.tally.count(match reason {
                    EndReason::Disconnected | EndReason::Closed => Counter::SessionsEnded,
                    EndReason::Violation(_) => Counter::SessionsViolated,
                    EndReason::Slow { .. } => Counter::SessionsSlow,
                });
                self.events.push_back(Event::SessionEnded { session: name, reason });
                self.finish(id, true);
            }
            State::Ending => {}
        }
    }

    /// Nothing more is read or written; a name is given back first, in the total order.
    fn finish(&mut self, id: SessionId, named: bool) {
        if !named {
            return self.close(id);
        }
        let Some(session) = self.slots.get_mut(id) else { return };
        session.state = State::Ending;
        session.outbox.clear();
        self.holds.extend(session.holding.drain(..).map(Hold::End));
        self.submissions.push_back((id, Submission::Request(Request::Disconnect)));
    }

    fn close(&mut self, id: SessionId) {
        let Some(session) = self.slots.close(id) else { return };
        self.spare.put(session.input);
        self.actions.push_back(Action::Close(id));
    }

    /// Of the sessions whose sockets take nothing, the one that holds most back is dropped, because
    /// memory has run out. Returns whether there was one; with senders held back instead, there
    /// never is.
    pub fn relieve(&mut self) -> bool {
        if self.setup.bounds.hold_senders {
            return false;
        }
        let turn = self.turn;
        let waiting = |session: &Session<S::Buffer>| match session.is_stalled(turn) {
            true => session.outbox.bytes(),
            false => 0,
        };
        let Some((id, bytes)) = self.slots.largest(waiting).filter(|&(_, bytes)| bytes > 0) else {
            return false;
        };
        let messages = self.slots.get(id).map_or(0, |session| session.outbox.messages());
        self.end(id, EndReason::Slow { messages, bytes });
        true
    }

    fn mark_writable(&mut self, id: SessionId) {
        let Some(session) = self.slots.get_mut(id) else { return };
        if session.sending_since.is_none() && !session.writable {
            session.writable = true;
            self.writable.push_back(id);
        }
    }

    /// Connections that there are to write to, at most.
    pub fn writable(&self) -> usize {
        self.writable.len()
    }

    /// The next connection to write to. Its next transmit comes after [`Sessions::handle_sent`].
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_, S::Buffer>> {
        while let Some(id) = self.writable.pop_front() {
            let Some(session) = self.slots.get_mut(id) else { continue };
            session.writable = false;
            if !session.outbox.is_empty() {
                session.sending_since = Some(self.turn);
                let outbox = &self.slots.get(id)?.outbox;
                return Some(Transmit { session: id, outbox });
            }
        }
        None
    }

    /// The next thing for the protocol layer.
    pub fn poll_submission(&mut self) -> Option<(SessionId, Submission<S::Buffer>)> {
        self.submissions.pop_front()
    }

    /// The next thing to do with a connection.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next hold, for the core of its sender.
    pub fn poll_hold(&mut self) -> Option<Hold> {
        self.holds.pop_front()
    }

    /// The next thing to tell the operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Sessions there are, those in the handshake included.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.len() == 0
    }

    /// Whether everything that was delivered has been written.
    pub fn is_drained(&self) -> bool {
        self.slots.largest(|session| session.outbox.bytes()).is_none_or(|(_, bytes)| bytes == 0)
    }

    /// What was counted so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests;
