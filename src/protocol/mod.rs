//! The protocol layer: one total order of messages, joins, leaves and disconnects, and the group
//! views that follow from it. Sans-IO: requests of this daemon's sessions come in by `handle_*`,
//! deliveries go out by `poll_*`; no clock, socket or thread is touched.
//!
//! The daemon is alone in its configuration here, and in such a configuration every group is
//! all-local: a request takes its place in the delivery stream the moment it is handled. That is
//! the local path of a cluster too, so only the path around the ring is added to it there.

#![deny(clippy::wildcard_enum_match_arm)]

pub mod configuration;
mod context;
mod delivery;
mod group;
mod membership;
pub mod options;
pub mod order;
pub mod output;
mod ring;
mod timer;

use std::collections::VecDeque;

use crate::base::{
    Counter, DaemonName, Event, PrivateGroup, Request, SessionId, SessionName, Store, Tally,
};

pub use configuration::{Configuration, Daemon};
pub use delivery::Delivery;
pub use group::NameTaken;

use delivery::Stream;
use group::{Groups, Outcome};

/// What the protocol layer must know at start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This daemon.
    pub daemon: DaemonName,
    /// The configuration it begins with.
    pub configuration: Configuration,
}

/// The protocol layer of one daemon.
pub struct Protocol<S: Store> {
    groups: Groups,
    stream: Stream<S::Buffer>,
    /// Requests in the order they came; the front one may be partly carried out.
    waiting: VecDeque<(SessionId, Request<S::Buffer>)>,
    events: VecDeque<Event>,
    tally: Tally,
}

impl<S: Store> Protocol<S> {
    /// Starts in the configuration of `setup`.
    ///
    /// # Panics
    ///
    /// If the daemon is not in that configuration.
    pub fn new(setup: Setup) -> Self {
        let installed = Event::ConfigurationInstalled {
            ring: setup.configuration.ring,
            daemons: setup.configuration.daemons.iter().map(|daemon| daemon.id).collect(),
        };
        Self {
            groups: Groups::new(setup.daemon, setup.configuration),
            stream: Stream::new(),
            waiting: VecDeque::new(),
            events: VecDeque::from([installed]),
            tally: Tally::default(),
        }
    }

    /// Gives `session` its name, or one of the daemon's choice, from now on until its disconnect
    /// has been delivered.
    ///
    /// # Errors
    ///
    /// Another session of this daemon has the name.
    pub fn handle_connect(
        &mut self,
        session: SessionId,
        name: Option<SessionName>,
        wants_membership: bool,
    ) -> Result<PrivateGroup, NameTaken> {
        self.groups.connect(session, name, wants_membership)
    }

    /// Takes a request of a connected session. Requests of one session take effect in the order
    /// in which they are handed over.
    pub fn handle_request(
        &mut self,
        session: SessionId,
        request: Request<S::Buffer>,
        store: &mut S,
    ) {
        self.waiting.push_back((session, request));
        self.handle_memory(store);
    }

    /// Goes on with requests that wait for memory. See [`Protocol::is_blocked`].
    pub fn handle_memory(&mut self, store: &mut S) {
        while let Some((session, request)) = self.waiting.pop_front() {
            if self.carry_out(session, &request, store) == Outcome::Blocked {
                self.tally.count(Counter::PoolExhausted);
                self.waiting.push_front((session, request));
                return;
            }
        }
    }

    /// Whether requests wait because `store` had no room for a membership message: take no more
    /// from clients, and call [`Protocol::handle_memory`] once receivers have read.
    pub fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next delivery to sessions of this daemon, in the total order.
    pub fn poll_delivery(&mut self) -> Option<Delivery<'_, S::Buffer>> {
        self.stream.next()
    }

    /// The next thing to tell the operator.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What was counted so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    fn carry_out(
        &mut self,
        session: SessionId,
        request: &Request<S::Buffer>,
        store: &mut S,
    ) -> Outcome {
        let out = &mut self.stream;
        match request {
            // Alone in its configuration, this daemon is every daemon, so a message is safe as
            // soon as it is ordered: all services are delivered at once.
            Request::Multicast { service: _, self_discard, destinations, frame } => {
                self.groups.multicast(session, *self_discard, *destinations, frame, out)
            }
            Request::Join(group) => self.groups.join(session, *group, store, out),
            Request::Leave(group) => self.groups.leave(session, *group, store, out),
            Request::Disconnect => self.groups.disconnect(session, store, out),
        }
    }
}

#[cfg(test)]
mod tests;
