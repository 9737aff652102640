//! Taking connections, as many as there may be sessions.

use crate::base::{Counter, Tally};
use crate::config::{AccessList, Origin};
use crate::sys::driver::{self, Driver, ListenerKey};
use crate::sys::socket::{Listener, Peer, Stream};
use crate::wire::session::Reject;

/// The listeners of the daemon, and how many sessions came by them.
pub(super) struct Acceptor {
    waiting: Vec<Listener>,
    listeners: Vec<ListenerKey>,
    access: AccessList,
    sessions: usize,
    sessions_max: usize,
    /// The last attempt failed; told once.
    failing: bool,
    tally: Tally,
}

impl Acceptor {
    pub(super) fn new(listeners: Vec<Listener>, access: AccessList, sessions_max: usize) -> Self {
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
        let listeners = self.waiting.drain(..).map(|listener| driver.listen(listener));
        self.listeners.extend(listeners);
    }

    /// Accepts nobody any more, and removes the socket file.
    pub(super) fn close(&mut self, driver: &mut Driver) {
        for listener in self.listeners.drain(..) {
            driver.unlisten(listener);
        }
    }

    /// Looks at an event of a listener. A connection that may become a session is returned, and
    /// whether its address is on the list of method IP.
    pub(super) fn handle_event(&mut self, event: driver::Event<'_>) -> Option<(Stream, bool)> {
        match event {
            driver::Event::Accepted { stream, .. } if self.sessions < self.sessions_max => {
                self.sessions += 1;
                self.failing = false;
                let origin = match stream.peer() {
                    Peer::Tcp(address) => Origin::Ip(address.ip()),
                    Peer::Unix => Origin::Unix,
                };
                return Some((stream, self.access.admits(origin)));
            }
            driver::Event::Accepted { stream, .. } | driver::Event::Overflow { stream, .. } => {
                self.turn_away(&stream);
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

    /// Tells a connection that there is no session left for it.
    fn turn_away(&mut self, stream: &Stream) {
        self.tally.count(Counter::RejectedQuota);
        // A client that does not even take one byte learns it by the close.
        let _ = stream.write_now(&[Reject::Quota.to_byte()]);
    }

    /// So many sessions are gone.
    pub(super) fn released(&mut self, sessions: usize) {
        self.sessions -= sessions;
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }
}
