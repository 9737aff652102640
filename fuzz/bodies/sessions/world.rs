//! The daemon's layers, its clients, and the model of what should happen.

use std::collections::VecDeque;
use std::time::Duration;

use madrigal::base::event::EndReason;
use madrigal::base::{Event, Instant, PrivateGroup, Request, SessionId, SessionName};
use madrigal::protocol::{Delivery, Protocol};
use madrigal::session::credit::Bounds;
use madrigal::session::{Action, Auth, Hold, Sessions, Setup, Submission};
use madrigal::wire::session::handshake::{ACCEPT_BYTES_MAX, emit_auth_choice};
use madrigal::wire::session::{Accept, AuthMethods, Reject, Version};

use super::conn::Conn;
use crate::bodies::model::{Model, private_group};
use crate::bodies::script::{self, Step};
use crate::bodies::store::Flaky;

type Buffer = <Flaky as madrigal::base::Store>::Buffer;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const AUTH_LIST: &[u8] = b"\x05NULL ";
/// Writes that are older meet a full socket.
const STALLED_TURNS: u64 = 2;

/// Everything there is.
pub(crate) struct World {
    cores: [Sessions<Flaky>; 2],
    throttled: [bool; 2],
    protocol: Protocol<Flaky>,
    store: Flaky,
    /// Memory has been short at some time: handshakes may have failed for it.
    memory_failed: bool,
    model: Model,
    conns: Vec<Conn>,
    submissions: VecDeque<(SessionId, Submission<Buffer>)>,
    holds: VecDeque<Hold>,
    bounds: Bounds,
    now: Instant,
    turn: u64,
}

impl World {
    /// A daemon without clients.
    pub(crate) fn new(bounds: Bounds) -> Self {
        let core = |core| {
            let allowed = AuthMethods { null: true, ip: false };
            let auth = Auth { allowed, ip_required: false };
            Sessions::new(Setup { core, auth, handshake_timeout: HANDSHAKE_TIMEOUT, bounds })
        };
        let mut store = Flaky::default();
        Self {
            cores: [core(0), core(1)],
            throttled: [false; 2],
            protocol: Protocol::new(&crate::bodies::protocol_setup(), Instant::ZERO, &mut store),
            store,
            memory_failed: false,
            model: Model::default(),
            conns: Vec::new(),
            submissions: VecDeque::new(),
            holds: VecDeque::new(),
            bounds,
            now: Instant::ZERO,
            turn: 0,
        }
    }

    /// One thing happens, and all that follows from it.
    pub(crate) fn step(&mut self, step: Step<'_>) {
        let which = |conn: u8, conns: &[Conn]| usize::from(conn).checked_rem(conns.len());
        match step {
            Step::Connect { core, membership, name } => self.connect(core, membership, name),
            Step::Receive { conn, bytes } => {
                if let Some(at) = which(conn, &self.conns) {
                    self.receive(at, bytes);
                }
            }
            Step::Request { conn, request } => {
                if let Some(at) = which(conn, &self.conns) {
                    self.request(at, request);
                }
            }
            Step::Ended { conn } => {
                if let Some(at) = which(conn, &self.conns) {
                    self.end(at);
                }
            }
            Step::Stall { conn, stalled } => {
                if let Some(at) = which(conn, &self.conns) {
                    self.stall(at, stalled);
                }
            }
            Step::Accept { conn, bytes } => {
                if let Some(at) = which(conn, &self.conns) {
                    self.take(at, bytes);
                }
            }
            Step::Throttle { core, throttled } => self.throttled[usize::from(core)] = throttled,
            Step::Memory { failures } => self.set_failures(usize::from(failures)),
            Step::Time { millis } => self.pass(Duration::from_millis(millis as u64)),
            Step::Relieve { core } => self.relieve(usize::from(core)),
        }
        self.settle();
    }

    fn connect(&mut self, core: u8, membership: bool, name: &[u8]) {
        let core = usize::from(core);
        let id = self.cores[core].handle_accepted(self.now, false);
        assert!(self.conns.iter().all(|conn| conn.id != id), "{id:?} comes back");
        self.conns.push(Conn::new(id, membership));
        let at = self.conns.len() - 1;
        let flags = u8::from(membership);
        let hello = [&[5, 0, 1, flags, name.len() as u8], name].concat();
        if !name.is_empty() && SessionName::new(name).is_err() {
            self.reject(at, Reject::IllegalName);
        }
        self.cores[core].handle_received(id, &hello, &mut self.store);
        self.settle();
        self.cores[core].handle_received(id, &emit_auth_choice(&[b"NULL"]), &mut self.store);
        self.settle();
    }

    fn reject(&mut self, at: usize, reject: Reject) {
        self.conns[at].rejected = true;
        self.conns[at].output.push(reject.to_byte());
    }

    /// Bytes come, unless the daemon does not read, or there is nobody to say anything.
    fn receive(&mut self, at: usize, bytes: &[u8]) {
        let conn = &mut self.conns[at];
        if conn.closed || conn.broken || conn.paused {
            return;
        }
        if !conn.rejected {
            conn.input.extend_from_slice(bytes);
        }
        let id = conn.id;
        self.cores[id.core()].handle_received(id, bytes, &mut self.store);
        self.observe();
    }

    fn request(&mut self, at: usize, request: script::Request) {
        let Some(name) = self.conns[at].name else { return };
        for piece in request.frame(&name.to_name()).chunks(request.piece) {
            self.receive(at, piece);
            if request.piece.is_multiple_of(3) {
                self.settle();
            }
        }
    }

    fn end(&mut self, at: usize) {
        let conn = &mut self.conns[at];
        if conn.closed {
            return;
        }
        conn.broken = true;
        // Nobody reads what it has sent any more.
        let id = conn.id;
        self.cores[id.core()].handle_ended(id, &mut self.store);
        self.observe();
    }

    fn stall(&mut self, at: usize, stalled: bool) {
        self.conns[at].stalled = stalled;
        if !stalled {
            self.take(at, usize::MAX);
        }
    }

    /// The socket takes up to so many bytes of what it was offered.
    fn take(&mut self, at: usize, bytes: usize) {
        let conn = &mut self.conns[at];
        if conn.closed {
            return;
        }
        let Some((offered, _)) = conn.offered.take() else { return };
        let taken = bytes.min(offered);
        conn.written += taken;
        let id = conn.id;
        self.cores[id.core()].handle_sent(id, taken);
        self.observe();
    }

    fn set_failures(&mut self, failures: usize) {
        self.store.failures = failures;
        self.memory_failed |= failures > 0;
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for core in 0..self.cores.len() {
            self.cores[core].handle_timeout(self.now, &mut self.store);
            let due = self.cores[core].poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "a timeout stays due");
            self.observe();
        }
    }

    fn relieve(&mut self, core: usize) {
        if self.cores[core].relieve() {
            assert!(!self.bounds.hold_senders, "a receiver is dropped where senders are held");
        }
        self.observe();
    }

    /// Takes what the session layers have to say, and compares it with what was said to them.
    fn observe(&mut self) {
        for core in 0..self.cores.len() {
            while let Some((id, submission)) = self.cores[core].poll_submission() {
                let conn = conn_of(&mut self.conns, id);
                assert!(!conn.closed && !conn.disconnected, "{id:?} asks after its end");
                match &submission {
                    Submission::Connect { .. } => assert!(conn.name.is_none()),
                    Submission::Request(Request::Disconnect) => {
                        assert!(conn.name.is_some(), "{id:?} gives back no name");
                        conn.disconnected = true;
                    }
                    Submission::Request(request) => conn.check_request(&plain(request)),
                }
                self.submissions.push_back((id, submission));
            }
            while let Some(event) = self.cores[core].poll_event() {
                self.observe_event(event);
            }
            while let Some(hold) = self.cores[core].poll_hold() {
                assert!(self.bounds.hold_senders);
                self.holds.push_back(hold);
            }
            while let Some(action) = self.cores[core].poll_action() {
                self.observe_action(action);
            }
        }
    }

    fn observe_event(&mut self, event: Event) {
        let by_name = |conns: &mut Vec<Conn>, name: PrivateGroup| {
            let is_it = |conn: &Conn| conn.name == Some(name) && !conn.closed;
            conns.iter().position(is_it).expect("a session that has the name")
        };
        match event {
            Event::SessionStarted { session } => {
                let at = by_name(&mut self.conns, session);
                let conn = &mut self.conns[at];
                conn.started += 1;
                assert_eq!(conn.started, 1);
                let mut accept = [0; ACCEPT_BYTES_MAX];
                let version = Version::SPOKEN;
                let len = Accept { version, group: session }.emit(version, &mut accept);
                conn.output.extend_from_slice(&accept[..len]);
            }
            Event::SessionEnded { session, reason } => {
                let at = by_name(&mut self.conns, session);
                self.conns[at].check_end(reason, self.memory_failed);
            }
            other => panic!("no event of a session layer: {other:?}"),
        }
    }

    fn observe_action(&mut self, action: Action) {
        match action {
            Action::Pause(id) | Action::Resume(id) => {
                let conn = conn_of(&mut self.conns, id);
                let paused = action == Action::Pause(id);
                assert!(!conn.closed && conn.paused != paused, "{action:?}");
                conn.paused = paused;
            }
            Action::Close(id) => {
                let conn = conn_of(&mut self.conns, id);
                assert!(!conn.closed, "{id:?} is closed twice");
                // A name is given back first, in the order.
                assert!(conn.name.is_none() || conn.disconnected, "{id:?} keeps its name");
                conn.closed = true;
            }
        }
    }

    /// Carries everything on that can go on, as the threads of a daemon do.
    fn settle(&mut self) {
        self.turn += 1;
        self.cores.iter_mut().for_each(Sessions::handle_turn);
        loop {
            self.observe();
            self.submit();
            self.deliver();
            self.pass_holds();
            self.throttle();
            self.write();
            let submitted = self.submissions.is_empty() || self.protocol.is_blocked();
            if submitted && self.holds.is_empty() {
                break;
            }
        }
        for conn in &mut self.conns {
            let waits = conn.is_open() && !conn.paused && !conn.rejected;
            assert!(!waits || conn.holds == 0, "{:?} is held and not paused", conn.id);
            // What is kept of a session's input is less than a frame, or nobody reads more of it.
            let mut rest = conn.input.clone();
            let own = conn.name.filter(|_| waits);
            let next = own.and_then(|own| crate::bodies::reference::next(&mut rest, &own));
            assert_eq!(next, None, "{:?} is not paused and not heard", conn.id);
        }
    }

    fn submit(&mut self) {
        while !self.protocol.is_blocked()
            && let Some((id, submission)) = self.submissions.pop_front()
        {
            match submission {
                Submission::Connect { name, wants_membership } => {
                    self.name(id, name, wants_membership);
                }
                Submission::Request(request) => {
                    self.model.request(id, &plain(&request));
                    self.protocol.handle_request(Instant::ZERO, id, request, &mut self.store);
                }
            }
        }
    }

    fn name(&mut self, id: SessionId, name: Option<SessionName>, wants_membership: bool) {
        let at = self.conns.iter().position(|conn| conn.id == id).unwrap();
        assert_eq!(wants_membership, self.conns[at].membership);
        let taken =
            name.is_some_and(|name| self.model.has(&private_group(name.as_bytes()).to_name()));
        let given = self.protocol.handle_connect(id, name, wants_membership).ok();
        assert_eq!(given.is_none(), taken, "{name:?}");
        match given {
            Some(given) => {
                assert!(name.is_none_or(|name| given.session == name));
                self.model.connect(id, given.to_name(), wants_membership);
                self.conns[at].name = Some(given);
                self.conns[at].output.extend_from_slice(AUTH_LIST);
            }
            None => self.reject(at, Reject::NotUnique),
        }
        self.cores[id.core()].handle_named(self.now, id, given, &mut self.store);
        self.observe();
    }

    fn deliver(&mut self) {
        while let Some(delivery) = self.protocol.poll_delivery() {
            match delivery {
                Delivery::Frame { frame, targets, sender } => {
                    self.model.check_frame(frame.as_ref(), targets, sender);
                    let (frame, targets) = (frame.clone(), targets.to_vec());
                    for target in targets {
                        self.deliver_to(target, &frame, sender);
                    }
                }
                Delivery::Hold { session } => self.holds.push_back(Hold::Begin(session)),
                Delivery::Release { session } => self.holds.push_back(Hold::End(session)),
                Delivery::Ended { session } => {
                    self.model.check_ended(session);
                    self.cores[session.core()].handle_disconnected(session);
                    self.observe();
                    assert!(conn_of(&mut self.conns, session).closed);
                }
            }
        }
    }

    fn deliver_to(&mut self, id: SessionId, frame: &Buffer, sender: Option<SessionId>) {
        let Bounds { messages_max, bytes_max, hold_senders } = self.bounds;
        // Who can be held back is, and what was on its way is delivered.
        let bounded = !(hold_senders && sender.is_some());
        let conn = conn_of(&mut self.conns, id);
        let was_open = conn.is_open();
        let waiting = conn.output.len() - conn.written;
        let stalled = conn.offered.is_some_and(|(_, since)| self.turn - since >= STALLED_TURNS);
        self.cores[id.core()].handle_delivery(id, frame, sender);
        self.observe();
        let conn = conn_of(&mut self.conns, id);
        if !was_open {
            assert!(conn.ended.is_some() || conn.started == 0);
            return;
        }
        if conn.is_open() {
            conn.output.extend_from_slice(frame.as_ref());
            let full = bounded && stalled && waiting >= bytes_max;
            assert!(messages_max > 0 && !full, "{waiting} bytes wait for {id:?}");
            return;
        }
        let Some(EndReason::Slow { messages, bytes }) = conn.ended else {
            panic!("a delivery ended {id:?}: {:?}", conn.ended)
        };
        assert_eq!(bytes, waiting);
        let full = messages >= messages_max || bytes >= bytes_max;
        assert!(messages_max == 0 || bounded && stalled && full, "{id:?} was not slow");
    }

    fn pass_holds(&mut self) {
        while let Some(hold) = self.holds.pop_front() {
            let (Hold::Begin(id) | Hold::End(id)) = hold;
            let conn = conn_of(&mut self.conns, id);
            match hold {
                Hold::Begin(_) => conn.holds += 1,
                Hold::End(_) => conn.holds = conn.holds.checked_sub(1).expect("a hold to end"),
            }
            self.cores[id.core()].handle_hold(hold, &mut self.store);
            self.observe();
        }
    }

    /// Hands what there is to write to the sockets; those that are not stalled take all of it.
    fn write(&mut self) {
        for core in 0..self.cores.len() {
            while let Some(transmit) = self.cores[core].poll_transmit() {
                let id = transmit.session;
                let pieces: Vec<&Buffer> = transmit.pieces().collect();
                let bytes: Vec<u8> =
                    pieces.iter().flat_map(|piece| piece.as_ref().iter().copied()).collect();
                let at = self.conns.iter().position(|conn| conn.id == id).unwrap();
                self.conns[at].check_write(&bytes, self.turn);
                if !self.conns[at].stalled {
                    self.take(at, usize::MAX);
                }
            }
        }
    }

    fn throttle(&mut self) {
        self.protocol.handle_memory(Instant::ZERO, &mut self.store);
        for core in 0..self.cores.len() {
            let throttled = self.protocol.is_blocked() || self.throttled[core];
            self.cores[core].handle_throttle(throttled, &mut self.store);
            if !throttled {
                self.cores[core].handle_memory(&mut self.store);
            }
            self.observe();
        }
        self.deliver();
    }

    /// Memory, sockets and cores are all well again: nothing may be left over.
    pub(crate) fn come_to_rest(&mut self) {
        self.set_failures(0);
        self.throttled = [false; 2];
        for at in 0..self.conns.len() {
            self.stall(at, false);
        }
        self.settle();
        assert!(!self.protocol.is_blocked() && !self.cores.iter().any(Sessions::is_stuck));
        assert!(self.model.expected.is_empty(), "{:?} is not delivered", self.model.expected);
        self.pass(HANDSHAKE_TIMEOUT * 3);
        self.settle();
        self.conns.iter_mut().for_each(Conn::check_rest);
    }

    /// Every client goes: every session must end, once, and every name be free.
    pub(crate) fn end_all(&mut self) {
        for at in 0..self.conns.len() {
            self.end(at);
            self.settle();
        }
        assert!(self.cores.iter().all(Sessions::is_empty));
        for conn in &self.conns {
            assert!(conn.closed && conn.ended.is_some() == (conn.started == 1), "{:?}", conn.id);
        }
        let id = SessionId::new(0, 0, 0x00ff_ffff);
        let names: Vec<_> = self.conns.iter().filter_map(|conn| conn.name).collect();
        for name in names {
            let again = self.protocol.handle_connect(id, Some(name.session), false);
            assert_eq!(again, Ok(name), "the name stays taken");
            self.protocol.handle_request(Instant::ZERO, id, Request::Disconnect, &mut self.store);
            while self.protocol.poll_delivery().is_some() {}
        }
    }
}

fn conn_of(conns: &mut [Conn], id: SessionId) -> &mut Conn {
    conns.iter_mut().find(|conn| conn.id == id).expect("a session of ours")
}

/// The request with its bytes copied out.
fn plain(request: &Request<Buffer>) -> Request<Vec<u8>> {
    match request {
        Request::Multicast { service, self_discard, destinations, frame } => Request::Multicast {
            service: *service,
            self_discard: *self_discard,
            destinations: *destinations,
            frame: frame.as_ref().to_vec(),
        },
        Request::Join(group) => Request::Join(*group),
        Request::Leave(group) => Request::Leave(*group),
        Request::Disconnect => Request::Disconnect,
    }
}
