//! Taking connections, as many as there may be sessions.

use crate::base::{Counter, Tally};
use crate::config::{AccessList, Origin};
use crate::sys::driver::{self, Driver, ListenerKey};
use crate::sys::socket::{Listener, Peer, Stream};
use crate::wire::session::{AttachAnswer, AttachStatus, Reject};

/// What clients of a listener will use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// The connection itself.
    Socket,
    /// Memory that they get by it.
    SharedMemory,
}

/// A connection that may become a session.
pub(super) struct Arrival {
    pub(super) stream: Stream,
    /// Its address is on the list of method IP.
    pub(super) address_admitted: bool,
    pub(super) transport: Transport,
}

/// The listeners of the daemon, and how many sessions came by them.
pub(super) struct Acceptor {
    waiting: Vec<(Listener, Transport)>,
    listeners: Vec<(ListenerKey, Transport)>,
    access: AccessList,
    sessions: usize,
    sessions_max: usize,
    /// The last attempt failed; told once.
    failing: bool,
    tally: Tally,
}

impl Acceptor {
    pub(super) fn new(
        listeners: Vec<(Listener, Transport)>,
        access: AccessList,
        sessions_max: usize,
    ) -> Self {
        Self {
            waiting: listeners,
            listeners: Vec::new(),
            access,
            sessions: 0,
            sessions_max,
            failing: false,
            tally: Tally::default(),
        }
    }

    /// Begins to accept.
    pub(super) fn open(&mut self, driver: &mut Driver) {
        for (listener, transport) in self.waiting.drain(..) {
            self.listeners.push((driver.listen(listener), transport));
        }
    }

    /// Accepts nobody any more, and removes the socket file.
    pub(super) fn close(&mut self, driver: &mut Driver) {
        for (listener, _) in self.listeners.drain(..) {
            driver.unlisten(listener);
        }
    }

    /// Looks at an event of a listener. A connection that may become a session is returned.
    pub(super) fn handle_event(&mut self, event: driver::Event<'_>) -> Option<Arrival> {
        match event {
            driver::Event::Accepted { listener, stream } if self.sessions < self.sessions_max => {
                self.sessions += 1;
                self.failing = false;
                let origin = match stream.peer() {
                    Peer::Tcp(address) => Origin::Ip(address.ip()),
                    Peer::Unix => Origin::Unix,
                };
                let address_admitted = self.access.admits(origin);
                let transport = self.transport(listener);
                return Some(Arrival { stream, address_admitted, transport });
            }
            driver::Event::Accepted { listener, stream }
            | driver::Event::Overflow { listener, stream } => {
                self.turn_away(listener, &stream);
            }
            driver::Event::AcceptFailed { error, .. } => {
                self.tally.count(Counter::AcceptsFailed);
                if !self.failing {
                    tracing::warn!(%error, "cannot accept clients; trying again");
                }
                self.failing = true;
            }
            driver::Event::Woken => {}
            driver::Event::Received { .. }
            | driver::Event::Datagrams { .. }
            | driver::Event::Sent { .. }
            | driver::Event::SendFailed { .. }
            | driver::Event::Ended { .. } => unreachable!("no event of a listener"),
        }
        None
    }

    fn transport(&self, listener: ListenerKey) -> Transport {
        let found = self.listeners.iter().find(|(key, _)| *key == listener);
        found.map_or(Transport::Socket, |(_, transport)| *transport)
    }

    /// Tells a connection that there is no session left for it.
    fn turn_away(&mut self, listener: ListenerKey, stream: &Stream) {
        self.tally.count(Counter::RejectedQuota);
        // A client that does not even take so little learns it by the close.
        let _ = match self.transport(listener) {
            Transport::Socket => stream.write_now(&[Reject::Quota.to_byte()]),
            Transport::SharedMemory => {
                stream.write_now(&AttachAnswer::refuse(AttachStatus::Quota).emit())
            }
        };
    }

    /// So many sessions are gone.
    pub(super) fn released(&mut self, sessions: usize) {
        self.sessions -= sessions;
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }
}
