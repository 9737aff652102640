//! What the ordering core hands out: datagrams for other daemons, and the order for the layer
//! above.

use std::collections::VecDeque;

use crate::base::{Counter, DaemonId, DaemonSet, Event, RingId, Seq, Service, Tally};

/// Who gets a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// All other daemons of the cluster; data need reach those of the ring alone. Where there is no
    /// multicast, one copy to each, or to one that sends it on.
    Multicast,
    /// One of them.
    Daemon(DaemonId),
}

/// Which of a daemon's two sockets a datagram goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Messages, and all that forms a ring.
    Data,
    /// The token alone, so that it does not wait behind data.
    Token,
}

/// A datagram to send. Consecutive ones to the same receiver and of one size may leave as a train.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Transmit<B> {
    /// Its receiver.
    pub to: To,
    /// The receiver's socket.
    pub channel: Channel,
    /// Content.
    pub bytes: B,
}

/// The two kinds of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A ring: what is delivered in it has the full guarantee of its service.
    Regular,
    /// Those of the ring before who move on together; the rest of that ring's messages follows.
    Transitional,
}

/// Where a message has its place: the packet that completes it, and its turn in that packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Packet.
    pub seq: Seq,
    /// Message in the packet, from 0.
    pub index: u16,
}

/// One step of the total order, as this daemon takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Output<B> {
    /// A message, in the configuration that came last.
    Deliver {
        /// The daemon that it was handed to.
        origin: DaemonId,
        /// Where the ring has it.
        place: Place,
        /// What its sender asked for.
        service: Service,
        /// Content, as submitted.
        payload: B,
        /// Kind of the configuration that it is delivered in.
        phase: Kind,
    },
    /// The daemons from here on.
    Configuration {
        /// Regular and transitional alternate; the first is regular.
        kind: Kind,
        /// The new ring; with a transitional configuration, the one that follows it.
        ring: RingId,
        /// Its daemons, in the configured order.
        members: Vec<DaemonId>,
        /// The ring that is left; of the first configuration, its own.
        from: RingId,
    },
    /// The next message of this daemon, in the order of submission, has its place from now on.
    /// Only where [`Options::tells_places`](super::options::Options::tells_places) asks for it.
    Placed {
        /// In this ring.
        ring: RingId,
        /// There.
        place: Place,
    },
}

/// Everything that waits to be taken from the core.
pub(crate) struct Outbox<B> {
    pub(crate) transmits: VecDeque<Transmit<B>>,
    pub(crate) outputs: VecDeque<Output<B>>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) tally: Tally,
}

impl<B> Outbox<B> {
    pub(crate) fn new() -> Self {
        Self {
            transmits: VecDeque::new(),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            tally: Tally::new(),
        }
    }

    pub(crate) fn count(&mut self, counter: Counter) {
        self.tally.count(counter);
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn send(&mut self, to: To, channel: Channel, bytes: B) {
        self.transmits.push_back(Transmit { to, channel, bytes });
    }
}

/// The ids of a set of daemons, in the configured order.
pub(crate) fn ids(daemons: &[DaemonId], set: DaemonSet) -> Vec<DaemonId> {
    set.iter().map(|rank| daemons[rank.index()]).collect()
}
