use super::slots::STALLED_TURNS;
use super::*;
use crate::base::buffer::{Heap, HeapBuffer};
use crate::base::limits::{GROUP_NAME_BYTES, INPUT_BYTES_MAX};
use crate::base::{DaemonName, GroupName, Service};
use crate::wire::session::frame::emit_hint;
use crate::wire::session::handshake::{AUTH_CHOICE_BYTES, emit_auth_choice};
use crate::wire::session::{AuthMethods, ByteOrder, Header, kind};

const TIMEOUT: Duration = Duration::from_secs(5);
const NULL: AuthMethods = AuthMethods { null: true, ip: false };

struct Core {
    sessions: Sessions<Heap>,
    now: Instant,
}

impl Core {
    fn new(bounds: Bounds) -> Self {
        Self::with_auth(bounds, Auth { allowed: NULL, ip_required: false })
    }

    fn with_auth(bounds: Bounds, auth: Auth) -> Self {
        let setup = Setup { core: 0, auth, handshake_timeout: TIMEOUT, bounds };
        Self { sessions: Sessions::new(setup), now: Instant::ZERO }
    }

    fn accept(&mut self) -> SessionId {
        self.sessions.handle_accepted(self.now, false)
    }

    fn receive(&mut self, id: SessionId, bytes: &[u8]) {
        self.sessions.handle_received(id, bytes, &mut Heap);
    }

    /// Answers a wish for a name, if there is one; `taken` says which names are.
    fn name(&mut self, taken: &[&str]) {
        if let Some((id, submission)) = self.sessions.poll_submission() {
            let Submission::Connect { name, .. } = submission else { panic!("{submission:?}") };
            let name = name.unwrap_or(SessionName::new(b"r1-0").unwrap());
            let private = (!taken.contains(&name.as_str())).then_some(private(name.as_str()));
            self.sessions.handle_named(self.now, id, private, &mut Heap);
        }
    }

    /// Everything that is ready to be written, and that the sockets take at once.
    fn sent(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while let Some(transmit) = self.sessions.poll_transmit() {
            let id = transmit.session;
            let bytes: Vec<u8> =
                transmit.pieces().flat_map(|piece| piece.as_ref().to_vec()).collect();
            self.sessions.handle_sent(id, bytes.len());
            sent.extend(bytes);
        }
        sent
    }

    fn open(&mut self, name: &str) -> SessionId {
        let id = self.accept();
        self.receive(id, &hello(name));
        self.name(&[]);
        self.receive(id, &choice());
        self.sent();
        id
    }

    fn request(&mut self) -> Option<(SessionId, Request<HeapBuffer>)> {
        match self.sessions.poll_submission()? {
            (id, Submission::Request(request)) => Some((id, request)),
            other => panic!("{other:?}"),
        }
    }

    fn requests(&mut self) -> usize {
        std::iter::from_fn(|| self.request()).count()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.sessions.poll_action()).collect()
    }

    fn ended(&mut self) -> Option<EndReason> {
        while let Some(event) = self.sessions.poll_event() {
            if let Event::SessionEnded { reason, .. } = event {
                return Some(reason);
            }
        }
        None
    }
}

const BOUNDS: Bounds = Bounds { messages_max: 20, bytes_max: 1 << 20, hold_senders: false };

fn private(name: &str) -> PrivateGroup {
    let session = SessionName::new(name.as_bytes()).unwrap();
    PrivateGroup { session, daemon: DaemonName::new(b"d").unwrap() }
}

fn hello(name: &str) -> Vec<u8> {
    [&[5, 0, 1, 1, name.len() as u8], name.as_bytes()].concat()
}

fn choice() -> [u8; AUTH_CHOICE_BYTES] {
    emit_auth_choice(&[b"NULL"])
}

fn frame(sender: &str, kind: u32, group: &str, data: &[u8], order: ByteOrder) -> Vec<u8> {
    let header = Header {
        order,
        kind,
        name: *private(sender).to_name().as_field(),
        destinations: 1,
        hint: emit_hint(7, order),
        data_len: data.len() as i32,
    };
    let mut bytes = [0; 48];
    header.emit(bytes.first_chunk_mut().unwrap());
    let mut field = [0; GROUP_NAME_BYTES];
    field[..group.len()].copy_from_slice(group.as_bytes());
    [&bytes[..], &field, data].concat()
}

fn agreed(sender: &str, data: &[u8]) -> Vec<u8> {
    frame(sender, kind::AGREED, "g", data, ByteOrder::Little)
}

#[test]
fn a_handshake_gives_the_bytes_of_the_protocol_however_it_is_split() {
    let input = [&hello("alice")[..], &choice()].concat();
    let output = b"\x05NULL \x01\x05\x00\x01\x08#alice#d".to_vec();
    for step in 1..=input.len() {
        let mut core = Core::new(BOUNDS);
        let id = core.accept();
        let mut got = Vec::new();
        for bytes in input.chunks(step) {
            core.receive(id, bytes);
            core.name(&[]);
            got.extend(core.sent());
        }
        assert_eq!(got, output, "{step} bytes at a time");
    }
}

#[test]
fn each_reason_to_turn_a_client_away_has_its_byte_and_then_the_close() {
    let cases: [(&[u8], &[u8]); 6] = [
        (b"\x03\x00\x01\x03abc", b"\xf9"),
        (b"\x05\x00\x01\x01\x0babcdefghijk", b"\xfb"),
        (b"\x05\x00\x01\x01\xffabc", b"\xfb"),
        (b"\x05\x00\x01\x01\x03a b", b"\xfb"),
        (b"\x05\x00\x01\x01\x05taken", b"\xfa"),
        (b"\x05\x00\x01\x01\x00", b"\x05NULL \xf7"),
    ];
    for (hello, expected) in cases {
        let mut core = Core::new(BOUNDS);
        let id = core.accept();
        core.receive(id, hello);
        core.name(&["taken"]);
        core.receive(id, &[0; AUTH_CHOICE_BYTES]);
        assert_eq!(core.sent(), expected, "{hello:?}");
        if let Some((_, request)) = core.request() {
            assert_eq!(request, Request::Disconnect, "a name that was given is given back");
            core.sessions.handle_disconnected(id);
        }
        assert_eq!(core.actions().last(), Some(&Action::Close(id)), "{hello:?}");
        assert!(core.sessions.is_empty());
    }
}

#[test]
fn authentication_follows_the_table_of_allowed_and_required_methods() {
    let methods = |null, ip| AuthMethods { null, ip };
    let old = Version::new(3, 15, 0);
    for (allowed, ip_required, admitted, null, ip, older) in [
        (methods(true, false), false, false, true, false, Next::Accept),
        (methods(false, true), false, false, false, false, Next::Reject),
        (methods(false, true), false, true, false, true, Next::Accept),
        (methods(true, true), false, false, true, false, Next::Reject),
        (methods(true, true), false, true, true, true, Next::Accept),
        (methods(true, false), true, false, false, false, Next::Accept),
        (methods(true, false), true, true, true, false, Next::Accept),
        (methods(false, false), true, true, false, false, Next::Reject),
    ] {
        let auth = Auth { allowed, ip_required };
        assert_eq!(auth.admits(&emit_auth_choice(&[b"NULL"]), admitted), null, "{auth:?}");
        assert_eq!(auth.admits(&emit_auth_choice(&[b"IP"]), admitted), ip, "{auth:?}");
        assert_eq!(auth.after_hello(old, admitted), older, "{auth:?}");
        assert!(!auth.admits(&emit_auth_choice(&[]), admitted));
        assert!(!auth.admits(&emit_auth_choice(&[b"PWORD"]), admitted));
    }
}

#[test]
fn a_client_that_says_nothing_is_closed_and_an_open_one_never() {
    let mut core = Core::new(BOUNDS);
    let silent = core.accept();
    let open = core.open("a");
    core.actions();
    assert_eq!(core.sessions.poll_timeout(), Some(Instant::ZERO + TIMEOUT));
    core.sessions.handle_timeout(Instant::ZERO + TIMEOUT, &mut Heap);
    assert_eq!(core.actions(), [Action::Close(silent)]);
    assert_eq!(core.sessions.poll_timeout(), None);
    assert!(core.request().is_none(), "{open:?} stays");
}

#[test]
fn each_step_of_the_handshake_has_its_own_time() {
    let mut core = Core::new(BOUNDS);
    let id = core.accept();
    core.now = Instant::ZERO + TIMEOUT / 2;
    core.receive(id, &hello("a"));
    core.name(&[]);
    core.sessions.handle_timeout(Instant::ZERO + TIMEOUT, &mut Heap);
    assert!(core.request().is_none());
    core.sessions.handle_timeout(core.now + TIMEOUT, &mut Heap);
    assert_eq!(core.sent(), b"\x05NULL \xf7");
    assert_eq!(core.request(), Some((id, Request::Disconnect)));
}

#[test]
fn a_client_whose_steps_came_at_one_moment_is_told_that_its_time_is_over() {
    let mut core = Core::new(BOUNDS);
    let id = core.accept();
    core.receive(id, &hello("a"));
    core.name(&[]);
    core.sessions.handle_timeout(Instant::ZERO + TIMEOUT, &mut Heap);
    assert_eq!(core.sent(), b"\x05NULL \xf7");
    assert_eq!(core.request(), Some((id, Request::Disconnect)));
    core.sessions.handle_disconnected(id);
    assert_eq!(core.actions(), [Action::Close(id)]);
}

#[test]
fn a_reject_that_the_socket_does_not_take_holds_the_connection_for_one_more_timeout() {
    let mut core = Core::new(BOUNDS);
    let id = core.accept();
    core.receive(id, &hello("a b"));
    core.sessions.handle_timeout(Instant::ZERO + TIMEOUT, &mut Heap);
    assert_eq!(core.actions(), [Action::Close(id)]);
    let id = core.accept();
    core.receive(id, &hello("a")[..5]);
    core.sessions.handle_timeout(Instant::ZERO + TIMEOUT, &mut Heap);
    assert_eq!(core.actions(), []);
    core.sessions.handle_timeout(Instant::ZERO + TIMEOUT * 2, &mut Heap);
    assert_eq!(core.actions(), [Action::Close(id)]);
}

#[test]
fn a_client_that_stops_in_mid_handshake_is_told_what_was_missing() {
    for (input, expected) in [
        (&b"\x05\x00\x01\x01"[..], &b""[..]),
        (b"\x05\x00\x01\x01\x05abc", b"\xfb"),
        (b"\x05\x00\x01\x01\x01aNULL", b"\x05NULL \xf7"),
    ] {
        let mut core = Core::new(BOUNDS);
        let id = core.accept();
        core.receive(id, input);
        core.name(&[]);
        core.sessions.handle_ended(id, &mut Heap);
        assert_eq!(core.sent(), expected, "{input:?}");
        if core.request().is_some() {
            core.sessions.handle_disconnected(id);
        }
        assert_eq!(core.actions().last(), Some(&Action::Close(id)), "{input:?}");
    }
}

#[test]
fn a_name_is_given_back_when_there_is_no_memory_to_say_why_the_client_may_not_in() {
    /// Fails at the first store only.
    struct Short {
        failed: bool,
    }
    impl Store for Short {
        type Buffer = HeapBuffer;

        fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<HeapBuffer> {
            if !std::mem::replace(&mut self.failed, true) {
                return None;
            }
            Heap.store(len, fill)
        }
    }
    let auth = Auth { allowed: AuthMethods { null: false, ip: false }, ip_required: false };
    let setup = Setup { core: 0, auth, handshake_timeout: TIMEOUT, bounds: BOUNDS };
    let mut sessions: Sessions<Short> = Sessions::new(setup);
    let mut store = Short { failed: false };
    let id = sessions.handle_accepted(Instant::ZERO, false);
    sessions.handle_received(id, &hello("a"), &mut store);
    assert!(sessions.poll_submission().is_some());
    sessions.handle_named(Instant::ZERO, id, Some(private("a")), &mut store);
    let disconnect = sessions.poll_submission();
    assert!(matches!(disconnect, Some((_, Submission::Request(Request::Disconnect)))));
    assert!(sessions.poll_transmit().is_none(), "an ending session is not written to");
    assert_eq!(sessions.poll_action(), None, "the name is still on its way back");
    sessions.handle_disconnected(id);
    assert_eq!(sessions.poll_action(), Some(Action::Close(id)));
}

#[test]
fn a_name_that_arrives_after_its_client_is_given_back() {
    let mut core = Core::new(BOUNDS);
    let id = core.accept();
    core.receive(id, &hello("a"));
    core.sessions.handle_ended(id, &mut Heap);
    assert_eq!(core.actions(), []);
    core.name(&[]);
    assert_eq!(core.request(), Some((id, Request::Disconnect)));
    core.sessions.handle_disconnected(id);
    assert_eq!(core.actions(), [Action::Close(id)]);
}

#[test]
fn frames_of_either_byte_order_become_the_same_request() {
    let mut core = Core::new(BOUNDS);
    let id = core.open("a");
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let sent = frame("a", kind::FIFO | kind::SELF_DISCARD, "g", b"data", order);
        for bytes in sent.chunks(7) {
            core.receive(id, bytes);
        }
        let mut expected =
            frame("a", kind::FIFO | kind::SELF_DISCARD, "g", b"data", ByteOrder::Little);
        // The hint keeps the byte order of the sender.
        expected[40..44].copy_from_slice(&emit_hint(7, order));
        let Some((_, request)) = core.request() else { panic!("{order:?}") };
        let Request::Multicast { service, self_discard, destinations, frame } = request else {
            panic!("{request:?}")
        };
        assert_eq!((service, self_discard, destinations), (Service::Fifo, true, 1));
        assert_eq!(frame.as_ref(), expected);
    }
}

#[test]
fn a_frame_that_lies_is_found_out_before_its_body_comes() {
    let mut core = Core::new(BOUNDS);
    let id = core.open("a");
    let mut lying = agreed("a", b"");
    lying[44..48].copy_from_slice(&i32::MAX.to_le_bytes());
    core.receive(id, &lying[..48]);
    assert_eq!(core.request(), Some((id, Request::Disconnect)));
    assert!(matches!(core.ended(), Some(EndReason::Violation(_))));
    core.receive(id, &agreed("a", b"too late"));
    assert_eq!(core.requests(), 0);
}

#[test]
fn joins_of_names_that_may_not_be_joined_are_ignored() {
    let mut core = Core::new(BOUNDS);
    let id = core.open("a");
    for name in ["", "#b#d", "with blank", "\u{7f}"] {
        core.receive(id, &frame("a", kind::JOIN, name, b"", ByteOrder::Little));
    }
    assert_eq!(core.requests(), 0);
    core.receive(id, &frame("a", kind::JOIN, "g", b"", ByteOrder::Little));
    let g = GroupName::new(b"g").unwrap();
    assert_eq!(core.request(), Some((id, Request::Join(g))));
}

/// Delivers `count` messages of `sender` to `id`, whose socket takes nothing.
fn stall(core: &mut Core, id: SessionId, sender: SessionId, count: usize) {
    let message = Heap.copy(&agreed("b", b"m")).unwrap();
    core.sessions.handle_delivery(id, &message, Some(sender));
    assert!(core.sessions.poll_transmit().is_some());
    for _ in 0..STALLED_TURNS {
        core.sessions.handle_turn();
    }
    for _ in 1..count {
        core.sessions.handle_delivery(id, &message, Some(sender));
    }
}

#[test]
fn a_reader_that_lets_too_much_wait_is_dropped_with_the_reason() {
    let mut core = Core::new(BOUNDS);
    let (slow, sender) = (core.open("a"), core.open("b"));
    stall(&mut core, slow, sender, 20);
    assert!(core.request().is_none());
    let message = Heap.copy(&agreed("b", b"m")).unwrap();
    core.sessions.handle_delivery(slow, &message, Some(sender));
    assert_eq!(core.request(), Some((slow, Request::Disconnect)));
    assert_eq!(core.ended(), Some(EndReason::Slow { messages: 20, bytes: 20 * 81 }));
}

#[test]
fn what_comes_in_one_turn_is_no_slowness() {
    let mut core = Core::new(BOUNDS);
    let (id, sender) = (core.open("a"), core.open("b"));
    let message = Heap.copy(&agreed("b", b"m")).unwrap();
    for _ in 0..1000 {
        core.sessions.handle_delivery(id, &message, Some(sender));
    }
    assert!(core.request().is_none());
    assert_eq!(core.sent().len(), 1000 * 81);
}

#[test]
fn senders_are_held_back_until_the_slow_one_has_read() {
    let mut core = Core::new(Bounds { hold_senders: true, ..BOUNDS });
    let (slow, sender) = (core.open("a"), core.open("b"));
    core.actions();
    stall(&mut core, slow, sender, 12);
    let hold = core.sessions.poll_hold();
    assert_eq!(hold, Some(Hold::Begin(sender)));
    assert_eq!(core.sessions.poll_hold(), None, "held once");
    core.sessions.handle_hold(Hold::Begin(sender), &mut Heap);
    assert_eq!(core.actions(), [Action::Pause(sender)]);
    core.receive(sender, &agreed("b", b"on its way already"));
    assert_eq!(core.requests(), 0);
    core.sessions.handle_sent(slow, 12 * 81);
    let hold = core.sessions.poll_hold();
    assert_eq!(hold, Some(Hold::End(sender)));
    core.sessions.handle_hold(Hold::End(sender), &mut Heap);
    assert_eq!(core.requests(), 1);
    assert_eq!(core.actions(), [Action::Resume(sender)]);
}

#[test]
fn what_a_held_session_sent_before_it_went_still_counts() {
    let mut core = Core::new(BOUNDS);
    let (sender, other) = (core.open("a"), core.open("b"));
    core.sessions.handle_hold(Hold::Begin(sender), &mut Heap);
    core.receive(sender, &agreed("a", b"said before"));
    core.sessions.handle_ended(sender, &mut Heap);
    assert_eq!((core.requests(), core.ended()), (0, None));
    // It is told nothing more.
    core.sessions.handle_delivery(sender, &Heap.copy(b"m").unwrap(), Some(other));
    assert!(core.sent().is_empty());
    core.sessions.handle_hold(Hold::End(sender), &mut Heap);
    assert!(matches!(core.request(), Some((_, Request::Multicast { .. }))));
    assert!(matches!(core.request(), Some((_, Request::Disconnect))));
    assert_eq!(core.ended(), Some(EndReason::Closed));
}

#[test]
fn what_a_client_left_behind_counts_however_late_it_is_received() {
    let mut core = Core::new(BOUNDS);
    let (leaver, other) = (core.open("a"), core.open("b"));
    core.sessions.handle_leaving(leaver);
    core.receive(leaver, &agreed("a", b"one"));
    assert_eq!(core.requests(), 1);
    core.sessions.handle_hold(Hold::Begin(leaver), &mut Heap);
    // It is no slow reader: nothing is kept for it.
    let message = Heap.copy(&agreed("b", b"m")).unwrap();
    for _ in 0..100 {
        core.sessions.handle_turn();
        core.sessions.handle_delivery(leaver, &message, Some(other));
    }
    core.sessions.handle_hold(Hold::End(leaver), &mut Heap);
    assert_eq!((core.requests(), core.ended()), (0, None));
    core.receive(leaver, &agreed("a", b"two"));
    core.sessions.handle_ended(leaver, &mut Heap);
    assert!(matches!(core.request(), Some((_, Request::Multicast { .. }))));
    assert!(matches!(core.request(), Some((_, Request::Disconnect))));
    assert_eq!(core.ended(), Some(EndReason::Closed));
}

#[test]
fn a_client_that_talks_while_it_cannot_be_heard_is_paused() {
    let mut core = Core::new(BOUNDS);
    let id = core.accept();
    core.receive(id, &hello("a"));
    // Its name is not yet found.
    core.receive(id, &[0; INPUT_BYTES_MAX]);
    assert_eq!(core.actions(), []);
    core.receive(id, &[0; 1]);
    assert_eq!(core.actions(), [Action::Pause(id)]);
}

#[test]
fn what_is_on_its_way_when_a_sender_is_held_drops_nobody() {
    let mut core = Core::new(Bounds { hold_senders: true, ..BOUNDS });
    let (slow, sender) = (core.open("a"), core.open("b"));
    stall(&mut core, slow, sender, 1000);
    assert!(core.request().is_none(), "it is still there");
    assert_eq!(core.sessions.poll_hold(), Some(Hold::Begin(sender)));
    // Nobody can be held back for a membership message.
    let message = Heap.copy(&agreed("b", b"m")).unwrap();
    core.sessions.handle_delivery(slow, &message, None);
    assert_eq!(core.request(), Some((slow, Request::Disconnect)));
}

#[test]
fn a_throttled_core_keeps_what_comes_and_goes_on_in_order() {
    let mut core = Core::new(BOUNDS);
    let id = core.open("a");
    core.actions();
    core.sessions.handle_throttle(true, &mut Heap);
    let bytes: Vec<u8> = (0..10).flat_map(|n| agreed("a", &[n])).collect();
    for part in bytes.chunks(100) {
        core.receive(id, part);
    }
    assert_eq!((core.requests(), core.actions()), (0, vec![Action::Pause(id)]));
    core.sessions.handle_throttle(false, &mut Heap);
    for n in 0..10 {
        let Some((_, Request::Multicast { frame, .. })) = core.request() else { panic!("{n}") };
        assert_eq!(frame.as_ref().last(), Some(&n));
    }
    assert_eq!(core.actions(), [Action::Resume(id)]);
}

#[test]
fn an_id_of_a_session_that_is_gone_means_nobody() {
    let mut core = Core::new(BOUNDS);
    let old = core.open("a");
    core.sessions.handle_ended(old, &mut Heap);
    assert_eq!(core.request(), Some((old, Request::Disconnect)));
    core.sessions.handle_disconnected(old);
    let new = core.accept();
    assert_eq!(new.slot(), old.slot());
    let message = Heap.copy(&agreed("b", b"m")).unwrap();
    core.sessions.handle_delivery(old, &message, None);
    core.sessions.handle_sent(old, 100);
    core.receive(old, b"\x05");
    core.sessions.handle_ended(old, &mut Heap);
    assert_eq!(core.sent(), b"");
    assert_eq!(core.sessions.len(), 1);
}
