//! Any bytes, in any pieces, from connections that may never become sessions. What a client reads
//! is an answer of the protocol; it does not depend on how its bytes were split; every connection
//! is closed once, and every name given back.

use std::time::Duration;

use madrigal::base::buffer::Heap;
use madrigal::base::event::EndReason;
use madrigal::base::{Event, Instant, PrivateGroup, Request, SessionId};
use madrigal::protocol::{Delivery, Protocol};
use madrigal::session::credit::Bounds;
use madrigal::session::{Action, Auth, Hold, Sessions, Setup, Submission};
use madrigal::wire::session::{Accept, AnswerError, AuthList, AuthMethods, Frame, Hello};

use super::reader::Reader;

const TIMEOUT: Duration = Duration::from_secs(5);
const BOUNDS: Bounds = Bounds { messages_max: 1000, bytes_max: 1 << 20, hold_senders: false };
/// Connections of one run.
const CONNS: usize = 4;

/// How one run is set up: the first byte of an input.
#[derive(Clone, Copy)]
struct Rules {
    auth: Auth,
    admitted: bool,
}

impl Rules {
    fn new(choice: u8) -> Self {
        let bit = |bit: u8| choice >> bit & 1 == 1;
        // Most runs let somebody in.
        let allowed = AuthMethods { null: !bit(0), ip: bit(1) };
        Self { auth: Auth { allowed, ip_required: bit(2) }, admitted: bit(3) }
    }
}

/// One connection.
#[derive(Default)]
struct Conn {
    id: Option<SessionId>,
    said: Vec<u8>,
    read: Vec<u8>,
    name: Option<PrivateGroup>,
    started: bool,
    ended: Option<EndReason>,
    disconnects: usize,
    closes: usize,
}

struct World {
    sessions: Sessions<Heap>,
    protocol: Protocol<Heap>,
    conns: Vec<Conn>,
}

/// Says to several connections what the input says, piece by piece; then each alone and whole.
pub(crate) fn run(input: &[u8]) {
    let mut input = Reader::new(input);
    let rules = Rules::new(input.byte());
    let mut world = World::new(rules, CONNS);
    let mut alone: Vec<_> = (0..CONNS).map(|_| World::new(rules, 1)).collect();
    while !input.is_empty() {
        let at = usize::from(input.byte()) % CONNS;
        let len = usize::from(input.byte());
        let bytes = input.bytes(len);
        world.receive(at, bytes);
        alone[at].receive(0, bytes);
    }
    for (conn, alone) in world.conns.iter().zip(&mut alone) {
        assert_eq!(conn.said, alone.conns[0].said);
        let mut whole = World::new(rules, 1);
        whole.receive(0, &alone.conns[0].said);
        let (split, whole_conn) = (&alone.conns[0], &whole.conns[0]);
        assert_eq!(whole_conn.ended, split.ended);
        // An end forgets what has not been written, and less has when all comes at once.
        let is_part = split.read.starts_with(&whole_conn.read) && split.ended.is_some();
        assert!(is_part || whole_conn.read == split.read, "a split changes the answer");
        whole.finish();
    }
    world.finish();
}

impl World {
    fn new(rules: Rules, conns: usize) -> Self {
        let Rules { auth, admitted } = rules;
        let setup = Setup { core: 0, auth, handshake_timeout: TIMEOUT, bounds: BOUNDS };
        let mut sessions = Sessions::new(setup);
        let accept = |_| {
            let id = Some(sessions.handle_accepted(Instant::ZERO, admitted));
            Conn { id, ..Conn::default() }
        };
        let conns = (0..conns).map(accept).collect();
        let protocol = Protocol::new(&super::protocol_setup(), Instant::ZERO, &mut Heap);
        Self { sessions, protocol, conns }
    }

    fn receive(&mut self, at: usize, bytes: &[u8]) {
        let conn = &mut self.conns[at];
        conn.said.extend_from_slice(bytes);
        let id = conn.id.expect("every connection has an id");
        self.sessions.handle_received(id, bytes, &mut Heap);
        self.settle();
    }

    fn conn(&mut self, id: SessionId) -> &mut Conn {
        self.conns.iter_mut().find(|conn| conn.id == Some(id)).expect("an id of ours")
    }

    fn settle(&mut self) {
        self.sessions.handle_turn();
        // A reject that is written asks for the disconnect.
        self.write();
        while let Some((id, submission)) = self.sessions.poll_submission() {
            match submission {
                Submission::Connect { name, wants_membership } => {
                    let given = self.protocol.handle_connect(id, name, wants_membership).ok();
                    assert!(self.conn(id).name.is_none());
                    self.conn(id).name = given;
                    self.sessions.handle_named(Instant::ZERO, id, given, &mut Heap);
                }
                Submission::Request(request) => {
                    let conn = self.conn(id);
                    assert!(conn.name.is_some() && conn.disconnects == 0);
                    conn.disconnects += usize::from(request == Request::Disconnect);
                    self.protocol.handle_request(Instant::ZERO, id, request, &mut Heap);
                }
            }
            self.deliver();
            self.write();
        }
        while let Some(event) = self.sessions.poll_event() {
            self.tell(event);
        }
        while let Some(action) = self.sessions.poll_action() {
            if let Action::Close(id) = action {
                self.conn(id).closes += 1;
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(delivery) = self.protocol.poll_delivery() {
            match delivery {
                Delivery::Frame { frame, targets, sender } => {
                    for &target in targets {
                        self.sessions.handle_delivery(target, frame, sender);
                    }
                }
                Delivery::Ended { session } => self.sessions.handle_disconnected(session),
                Delivery::Hold { session } => {
                    self.sessions.handle_hold(Hold::Begin(session), &mut Heap);
                }
                Delivery::Release { session } => {
                    self.sessions.handle_hold(Hold::End(session), &mut Heap);
                }
            }
        }
    }

    fn write(&mut self) {
        while let Some(transmit) = self.sessions.poll_transmit() {
            let id = transmit.session;
            let pieces = transmit.pieces();
            let bytes: Vec<u8> = pieces.flat_map(|piece| piece.as_ref().to_vec()).collect();
            self.sessions.handle_sent(id, bytes.len());
            self.conn(id).read.extend(bytes);
        }
    }

    fn tell(&mut self, event: Event) {
        let by_name = |conn: &&mut Conn, name| conn.name == Some(name) && conn.closes == 0;
        match event {
            Event::SessionStarted { session } => {
                let conn = self.conns.iter_mut().find(|conn| by_name(conn, session)).unwrap();
                assert!(!conn.started);
                conn.started = true;
            }
            Event::SessionEnded { session, reason } => {
                let conn = self.conns.iter_mut().find(|conn| by_name(conn, session)).unwrap();
                assert!(conn.started && conn.ended.is_none());
                conn.ended = Some(reason);
            }
            other => panic!("no event of a session layer: {other:?}"),
        }
    }

    /// Time runs out, then everybody goes.
    fn finish(mut self) {
        self.sessions.handle_timeout(Instant::ZERO + TIMEOUT * 3, &mut Heap);
        self.settle();
        // Whoever was told so had time to take it.
        self.sessions.handle_timeout(Instant::ZERO + TIMEOUT * 6, &mut Heap);
        assert_eq!(self.sessions.poll_timeout(), None);
        for conn in &self.conns {
            let open = conn.started && conn.ended.is_none();
            assert_eq!(conn.closes, usize::from(!open), "time ends handshakes and nothing else");
        }
        for at in 0..self.conns.len() {
            let id = self.conns[at].id.expect("every connection has an id");
            self.sessions.handle_ended(id, &mut Heap);
            self.settle();
        }
        assert!(self.sessions.is_empty());
        for conn in &self.conns {
            assert_eq!((conn.closes, conn.disconnects), (1, usize::from(conn.name.is_some())));
            conn.check_answer();
        }
    }
}

impl Conn {
    /// What the client has read is what a client can read, to the last byte.
    fn check_answer(&self) {
        let Ok(Some((hello, _))) = Hello::parse(&self.said) else {
            assert!(self.read.len() <= 1 && !self.started && self.name.is_none());
            return;
        };
        let mut rest = &self.read[..];
        if hello.version.has_auth() {
            match AuthList::parse(rest) {
                Ok(Some((_, len))) => rest = &rest[len..],
                Ok(None) => return self.assert_cut_off(rest),
                Err(error) => return assert_rejected(error, rest),
            }
        }
        match Accept::parse(rest, hello.version) {
            Ok(None) => return self.assert_cut_off(rest),
            Ok(Some((accept, len))) => {
                assert!(self.started && Some(accept.group) == self.name);
                rest = &rest[len..];
            }
            Err(error) => return assert_rejected(error, rest),
        }
        while !rest.is_empty() {
            let (_, len) = Frame::parse(rest).unwrap().expect("whole frames");
            rest = &rest[len..];
        }
    }

    /// An answer is missing, all of it: the session has ended before it was written.
    fn assert_cut_off(&self, rest: &[u8]) {
        assert!(
            rest.is_empty() && self.ended.is_some(),
            "half an answer: {rest:?} {:?} {:?}",
            self.said,
            (self.started, &self.ended, &self.read, self.closes)
        );
    }
}

/// A reject is the last byte.
fn assert_rejected(error: AnswerError, rest: &[u8]) {
    assert!(matches!(error, AnswerError::Rejected(_)), "{error}");
    assert_eq!(rest.len(), 1);
}
