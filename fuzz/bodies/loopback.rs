//! A daemon of one core without sockets: session layer and protocol layer, joined as the daemon
//! joins them, between bytes in and bytes out.

use std::time::Duration;

use madrigal::base::{DaemonId, DaemonName, Instant, SessionId, Store};
use madrigal::protocol::{Daemon, Delivery, Protocol, Setup as ProtocolSetup};
use madrigal::session::credit::Bounds;
use madrigal::session::{Action, Auth, Hold, Sessions, Setup, Submission};

/// Who takes what is written to a connection.
pub(crate) trait Sink {
    fn take(&mut self, session: SessionId, bytes: &[u8]);
}

impl<F: FnMut(SessionId, &[u8])> Sink for F {
    fn take(&mut self, session: SessionId, bytes: &[u8]) {
        self(session, bytes);
    }
}

/// The daemon `localhost`, alone.
pub(crate) struct Loopback<S: Store> {
    sessions: Sessions<S>,
    protocol: Protocol<S>,
    store: S,
    now: Instant,
    /// The most bytes that a socket takes of one write.
    pub(crate) write_max: usize,
    /// Sessions that are over.
    pub(crate) closed: Vec<SessionId>,
}

impl<S: Store> Loopback<S> {
    pub(crate) fn new(mut store: S, auth: Auth) -> Self {
        let name = DaemonName::new(b"localhost").expect("a legal name");
        let daemon = Daemon { id: DaemonId::from_name(name.as_str()), name };
        let bounds = Bounds { messages_max: 1 << 20, bytes_max: 1 << 30, hold_senders: false };
        let handshake_timeout = Duration::from_secs(5);
        Self {
            sessions: Sessions::new(Setup { core: 0, auth, handshake_timeout, bounds }),
            protocol: Protocol::new(&ProtocolSetup::alone(daemon, 1), Instant::ZERO, &mut store),
            store,
            now: Instant::ZERO,
            write_max: usize::MAX,
            closed: Vec::new(),
        }
    }

    pub(crate) fn accept(&mut self, address_admitted: bool) -> SessionId {
        self.sessions.handle_accepted(self.now, address_admitted)
    }

    /// A client says something; all that follows from it is done.
    pub(crate) fn receive(&mut self, id: SessionId, bytes: &[u8], sink: &mut impl Sink) {
        self.sessions.handle_turn();
        self.sessions.handle_received(id, bytes, &mut self.store);
        self.settle(sink);
    }

    /// A client closes.
    pub(crate) fn end(&mut self, id: SessionId, sink: &mut impl Sink) {
        self.sessions.handle_turn();
        self.sessions.handle_ended(id, &mut self.store);
        self.settle(sink);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Goes on until there is nothing more to do.
    fn settle(&mut self, sink: &mut impl Sink) {
        loop {
            let mut work = self.exchange();
            work |= self.transmit(sink);
            while let Some(action) = self.sessions.poll_action() {
                match action {
                    Action::Close(id) => self.closed.push(id),
                    Action::Pause(_) | Action::Resume(_) => {}
                }
            }
            if !work {
                break;
            }
        }
        while self.sessions.poll_event().is_some() || self.protocol.poll_event().is_some() {}
        assert!(self.sessions.is_drained());
    }

    fn exchange(&mut self) -> bool {
        let mut work = false;
        while let Some((id, submission)) = self.sessions.poll_submission() {
            work = true;
            match submission {
                Submission::Connect { name, wants_membership } => {
                    let named = self.protocol.handle_connect(id, name, wants_membership).ok();
                    self.sessions.handle_named(self.now, id, named, &mut self.store);
                }
                Submission::Request(request) => {
                    self.protocol.handle_request(self.now, id, request, &mut self.store);
                    assert!(!self.protocol.is_blocked(), "memory ran out");
                }
            }
        }
        while let Some(delivery) = self.protocol.poll_delivery() {
            work = true;
            match delivery {
                Delivery::Frame { frame, targets, sender } => {
                    for &target in targets {
                        self.sessions.handle_delivery(target, frame, sender);
                    }
                }
                Delivery::Ended { session } => self.sessions.handle_disconnected(session),
                Delivery::Hold { session } => {
                    self.sessions.handle_hold(Hold::Begin(session), &mut self.store);
                }
                Delivery::Release { session } => {
                    self.sessions.handle_hold(Hold::End(session), &mut self.store);
                }
            }
        }
        work
    }

    fn transmit(&mut self, sink: &mut impl Sink) -> bool {
        let mut work = false;
        while let Some(transmit) = self.sessions.poll_transmit() {
            work = true;
            let id = transmit.session;
            let mut taken = 0;
            for piece in transmit.pieces() {
                let bytes = piece.as_ref();
                let some = &bytes[..bytes.len().min(self.write_max - taken)];
                sink.take(id, some);
                taken += some.len();
            }
            self.sessions.handle_sent(id, taken);
        }
        work
    }
}
