//! The face that the simulator needs of an ordering core, so that it can be tried on a toy.

use std::time::Duration;

use crate::base::buffer::HeapBuffer;
use crate::base::{DaemonId, Instant, PrivateGroup, RingId, Service};

use super::checker::trace::{Place, SessionEvent};
use super::store::Shortage;
use super::workload::Workload;

/// One daemon's ordering core, as one life of it runs in the simulator.
pub trait Core: Sized {
    /// What `examples/sim.rs` must be told to simulate it.
    const FLAG: &'static str = "";

    /// Whether it is the daemon's own, which has to bear what the model need not.
    const IS_OURS: bool = false;

    /// Starts it.
    fn start(now: Instant, setup: &Setup) -> Self;

    /// Takes a message; `false` where it wants no more for now.
    fn submit(&mut self, now: Instant, service: Service, payload: &[u8]) -> bool;

    /// Lets sessions of its own ask for things, as `habits` have it; `false` where it has no
    /// sessions, so that messages are submitted to it.
    fn act(&mut self, _now: Instant, _habits: &Workload) -> bool {
        false
    }

    /// Asks all its sessions to make sure that what they asked for was done.
    fn settle(&mut self, _now: Instant) {}

    /// Whether it was.
    fn is_drained(&self) -> bool {
        true
    }

    /// Takes a datagram.
    fn handle_packet(&mut self, now: Instant, channel: Channel, bytes: &HeapBuffer);

    /// Takes the news that its receive buffers ran over.
    fn handle_dropped(&mut self, _packets: u32) {}

    /// Takes the passing of its deadline.
    fn handle_timeout(&mut self, now: Instant);

    /// Takes the news that nothing listens at `daemon`.
    fn handle_unreachable(&mut self, now: Instant, daemon: DaemonId);

    /// Says goodbye; what it still wants to send is taken, then it is gone.
    fn handle_stop(&mut self, now: Instant);

    /// Goes over to another configuration file, where it can do that while it runs: its next life
    /// begins with [`Output::Reborn`]. `false` where it has to be started anew.
    fn handle_reload(&mut self, _now: Instant, _setup: &Setup) -> bool {
        false
    }

    /// Lets its memory run short, or have room again.
    fn set_memory(&mut self, _shortage: Shortage) {}

    /// How often there was no room for data, and for what has to be delivered.
    fn refused(&self) -> (u64, u64) {
        (0, 0)
    }

    /// The next datagram that it wants to send.
    fn poll_transmit(&mut self) -> Option<Transmit>;

    /// The next thing that it has to say to those above.
    fn poll_output(&mut self) -> Option<Output>;

    /// When it wants to be called next.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The name of its membership state.
    fn state(&self) -> &'static str;

    /// Bytes of messages that it keeps.
    fn retained(&self) -> usize;

    /// Whether `bytes` of `channel` read as a packet of `daemon`, by their form alone.
    fn is_packet(channel: Channel, bytes: &[u8]) -> bool;

    /// Which of its kinds of packets `bytes` are, below [`KINDS`]: of each, some are kept to be
    /// sent again.
    fn kind(channel: Channel, _bytes: &[u8]) -> usize {
        channel as usize
    }
}

/// Kinds of packets that a core has, at most.
pub const KINDS: usize = 16;

/// Identities of the cluster that its configuration files have.
pub const CLUSTERS: [u64; 2] = [0xc1, 0xc2];

/// What a core must know at start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Which daemon it is.
    pub daemon: DaemonId,
    /// All daemons of the configuration file.
    pub daemons: Vec<DaemonId>,
    /// Identity of the cluster.
    pub cluster: u64,
    /// For what it needs to draw by lot.
    pub seed: u64,
    /// For what all daemons of the run draw alike.
    pub run: u64,
    /// Lives of this daemon before; greater than in each of them.
    pub incarnation: u32,
    /// What its machine's clock shows: greater than to each life before, unless it was set back.
    pub clock: u64,
    /// How it is tuned.
    pub tuning: Tuning,
}

/// Settings that make rare branches common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// After how long without a token a daemon is taken for failed.
    pub failure_timeout: Duration,
    /// How often a token that nobody needs goes round.
    pub rest_interval: Duration,
    /// By how much a packet may be late before it counts as lost.
    pub reorder_allowance: Duration,
    /// Shortest time between two notices of what was received.
    pub notice_interval: Duration,
    /// Packets that may be unacknowledged in the ring.
    pub window_packets: u32,
    /// Bytes of the largest datagram.
    pub datagram_bytes: usize,
    /// Bytes after which a part of the state of groups ends.
    pub state_part_bytes: usize,
    /// The incarnation of first lives.
    pub first_incarnation: u64,
}

/// The socket of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Messages, joins, and all the rest.
    Data,
    /// The token's own.
    Token,
}

/// A datagram on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Its receiver; all others where there is none.
    pub to: Option<DaemonId>,
    /// Socket.
    pub channel: Channel,
    /// Content.
    pub bytes: HeapBuffer,
    /// Messages of the sender's own that get their place by it.
    pub places: Vec<Placement>,
}

/// A message of a daemon's own, and the place that it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The message's payload, or enough of its beginning to know it by.
    pub payload: Vec<u8>,
    /// Where the order has it.
    pub place: Place,
}

/// What a core has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A regular configuration.
    Regular {
        /// Its ring.
        ring: RingId,
        /// Its daemons.
        members: Vec<DaemonId>,
    },
    /// A transitional configuration.
    Transitional {
        /// Its daemons.
        members: Vec<DaemonId>,
    },
    /// A message of this daemon got its place without being sent.
    Placed(Placement),
    /// A message is delivered.
    Message {
        /// Content.
        payload: HeapBuffer,
        /// Guarantee.
        service: Service,
        /// Where the order has it.
        place: Place,
    },
    /// The next message of this daemon has its place. Of a core whose messages do not tell what
    /// they are.
    Given {
        /// Where.
        place: Place,
    },
    /// The message of this place is delivered, by such a core.
    Taken {
        /// Where.
        place: Place,
        /// Guarantee.
        service: Service,
        /// Content.
        payload: HeapBuffer,
    },
    /// All before was of the life that ends here; the next begins.
    Reborn,
    /// A session began.
    Connected {
        /// Its address.
        session: PrivateGroup,
        /// It wants membership messages.
        watches: bool,
    },
    /// A session saw or did something.
    Session {
        /// Its address.
        session: PrivateGroup,
        /// What.
        event: SessionEvent,
    },
}
