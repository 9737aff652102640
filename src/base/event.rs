//! What the inner layers count, and what they tell an operator.

use core::net::SocketAddr;
use core::time::Duration;

use super::{DaemonId, DaemonName, NameError, PrivateGroup, RingId};

/// Things that are counted; `observe::counters` keeps the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Counter {
    /// Connections taken from a listener.
    ConnectionsAccepted,
    /// Connections turned away: no session left.
    RejectedQuota,
    /// Connections turned away: illegal session name.
    RejectedName,
    /// Connections turned away: the session name is taken.
    RejectedNotUnique,
    /// Connections turned away: client library too old.
    RejectedVersion,
    /// Connections turned away: authentication.
    RejectedAuth,
    /// Connections that ended, or took too long, before they were sessions.
    HandshakesAbandoned,
    /// Accepts that failed: descriptors or memory ran out.
    AcceptsFailed,
    /// Sessions that passed the handshake.
    SessionsStarted,
    /// Sessions whose client disconnected, in order or by closing.
    SessionsEnded,
    /// Sessions dropped because the client broke the protocol.
    SessionsViolated,
    /// Sessions dropped because they did not read.
    SessionsSlow,
    /// Frames accepted from clients.
    FramesReceived,
    /// Bytes received from clients.
    BytesReceived,
    /// Frames queued for clients, one for each receiver.
    FramesDelivered,
    /// Of these, long ones that a session reads from memory that its user's sessions share.
    FramesShelved,
    /// Clients that asked for shared memory and found none left.
    AttachesRefused,
    /// Bytes written to clients.
    BytesSent,
    /// Join requests for names that may not be joined, ignored.
    JoinsIgnored,
    /// Times reading from a client was paused.
    ReadsPaused,
    /// Requests refused because the buffer pool was exhausted.
    PoolExhausted,
    /// Turns of a core that found work.
    TurnsBusy,
    /// Times a core went to sleep.
    Sleeps,
    /// New packets of the order that this daemon sent.
    PacketsSent,
    /// Packets of the order taken from other daemons, each counted once.
    PacketsReceived,
    /// Packets of the order that were there already, or came too late.
    PacketsDuplicate,
    /// Packets sent again because somebody missed them.
    PacketsRepaired,
    /// Packets that this daemon asked others to repeat.
    RepairsRequested,
    /// Packets of the order from other segments that this daemon sent on in its own.
    PacketsRelayed,
    /// Packets that the kernel dropped because a socket had no room for them.
    PacketsDropped,
    /// Packets of the order dropped because the cores of sessions had not taken those before.
    PacketsHeld,
    /// Packets that the kernel did not take.
    PacketsUnsent,
    /// Packets sent by a system call each, as the kernel took no train of them.
    PacketsSingly,
    /// Datagrams dropped: damaged, of another cluster, or of another version.
    PacketsForeign,
    /// TCP connections for other daemons that were closed: from none, too many, or not silent.
    LifelinesRefused,
    /// Times another daemon was told what this one's cluster is, as it is of another one.
    IdentitiesSent,
    /// Times another daemon told what its cluster is, another than this one's.
    IdentitiesReceived,
    /// Datagrams dropped: of a ring, life or state that is over.
    PacketsStale,
    /// Refusals of packets to a daemon that goes on all the same, ignored.
    RefusalsIgnored,
    /// Times this daemon did not run for a large part of the failure timeout.
    Stalls,
    /// Times the token came by.
    TokenVisits,
    /// Times the token was sent again because its receiver gave no sign.
    TokensRepeated,
    /// Times the token came to rest here because nothing was outstanding.
    TokensParked,
    /// Times a resting token was handed to a daemon that asked for it.
    TokensGranted,
    /// Times the token was handed to a daemon that was expected to need it next.
    TokensHanded,
    /// Messages that came out of the order, of all daemons.
    MessagesOrdered,
    /// Messages for members on this daemon alone, which took no place in the ring's order.
    MessagesLocal,
    /// Messages out of the order that no daemon would have put there, ignored.
    OrderedMalformed,
    /// Times a session was not read from because its requests waited for the ring.
    SessionsHeld,
    /// Times this daemon began to look for a new configuration.
    GathersStarted,
    /// Regular configurations that were installed.
    ConfigurationsInstalled,
}

impl Counter {
    /// How many counters there are.
    pub const COUNT: usize = Self::ConfigurationsInstalled as usize + 1;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::ConnectionsAccepted,
        Self::RejectedQuota,
        Self::RejectedName,
        Self::RejectedNotUnique,
        Self::RejectedVersion,
        Self::RejectedAuth,
        Self::HandshakesAbandoned,
        Self::AcceptsFailed,
        Self::SessionsStarted,
        Self::SessionsEnded,
        Self::SessionsViolated,
        Self::SessionsSlow,
        Self::FramesReceived,
        Self::BytesReceived,
        Self::FramesDelivered,
        Self::FramesShelved,
        Self::AttachesRefused,
        Self::BytesSent,
        Self::JoinsIgnored,
        Self::ReadsPaused,
        Self::PoolExhausted,
        Self::TurnsBusy,
        Self::Sleeps,
        Self::PacketsSent,
        Self::PacketsReceived,
        Self::PacketsDuplicate,
        Self::PacketsRepaired,
        Self::RepairsRequested,
        Self::PacketsRelayed,
        Self::PacketsDropped,
        Self::PacketsHeld,
        Self::PacketsUnsent,
        Self::PacketsSingly,
        Self::PacketsForeign,
        Self::LifelinesRefused,
        Self::IdentitiesSent,
        Self::IdentitiesReceived,
        Self::PacketsStale,
        Self::RefusalsIgnored,
        Self::Stalls,
        Self::TokenVisits,
        Self::TokensRepeated,
        Self::TokensParked,
        Self::TokensGranted,
        Self::TokensHanded,
        Self::MessagesOrdered,
        Self::MessagesLocal,
        Self::OrderedMalformed,
        Self::SessionsHeld,
        Self::GathersStarted,
        Self::ConfigurationsInstalled,
    ];
}

/// Counts of one layer instance since it began; its owner publishes them.
#[derive(Clone, Debug)]
pub struct Tally([u64; Counter::COUNT]);

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl Tally {
    /// Nothing counted yet.
    pub const fn new() -> Self {
        Self([0; Counter::COUNT])
    }

    /// Counts one.
    pub fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `n` at once.
    pub fn add(&mut self, counter: Counter, n: u64) {
        self.0[counter as usize] += n;
    }

    /// Counts all that `other` has counted.
    pub fn absorb(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// The count so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

/// One line for an operator: control path only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A daemon configuration was installed.
    ConfigurationInstalled {
        /// Ring that it describes.
        ring: RingId,
        /// Its daemons, in token order.
        daemons: Vec<DaemonId>,
    },
    /// The daemon left its ring to look for a new configuration.
    GatherStarted {
        /// The ring it was in.
        ring: RingId,
        /// Why.
        reason: GatherReason,
    },
    /// A daemon is of another cluster, though it is heard.
    ClusterDiffers {
        /// What it calls itself.
        daemon: DaemonName,
        /// Where its packet came from.
        address: SocketAddr,
        /// What its configuration has that this one's has not, and the other way round.
        differences: Vec<String>,
    },
    /// A daemon shows an earlier life than the one that is known of it, which is silent.
    EarlierLife {
        /// Which one.
        daemon: DaemonId,
        /// For how long that must be silent until the daemon is let in.
        patience: Duration,
    },
    /// It was said again and again that nothing listens at a daemon, which takes part all the same:
    /// that is not believed any more.
    RefusalsDisproved {
        /// Which one.
        daemon: DaemonId,
    },
    /// This daemon did not run; that time does not count as silence of the others.
    Stood {
        /// For how long, at least.
        time: Duration,
    },
    /// No packet has come from a daemon since this one started.
    DaemonUnheard {
        /// Which.
        daemon: DaemonId,
        /// Where it should be.
        address: SocketAddr,
    },
    /// Where a daemon should be something sends that is no packet of this version.
    DaemonForeign {
        /// Which.
        daemon: DaemonId,
        /// Where it should be.
        address: SocketAddr,
        /// Where that came from.
        from: SocketAddr,
    },
    /// What a daemon sends to this one alone comes, what it sends to their group does not.
    MulticastUnheard {
        /// Which.
        daemon: DaemonId,
        /// Where it is.
        address: SocketAddr,
        /// The group.
        group: SocketAddr,
    },
    /// A client passed the handshake.
    SessionStarted {
        /// Its address.
        session: PrivateGroup,
    },
    /// A session is over.
    SessionEnded {
        /// Its address.
        session: PrivateGroup,
        /// Why.
        reason: EndReason,
    },
}

/// Why a daemon looks for a new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatherReason {
    /// It starts.
    Start,
    /// No sign of the token for the failure timeout.
    TokenLost,
    /// This daemon of the ring left it first.
    Left(DaemonId),
    /// This daemon of the ring said goodbye.
    Goodbye(DaemonId),
    /// Nothing listens any more where this daemon of the ring was.
    Unreachable(DaemonId),
    /// This daemon is not in the ring and could be.
    Found(DaemonId),
    /// The attempt to form a ring made no progress.
    Stuck,
    /// The daemon goes over to another configuration of its cluster.
    Reload,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The client said so.
    Disconnected,
    /// The client closed its side, or the connection broke.
    Closed,
    /// The client broke the protocol.
    Violation(Violation),
    /// The client read too slowly: so much was waiting for it.
    Slow {
        /// Messages waiting.
        messages: usize,
        /// Bytes waiting.
        bytes: usize,
    },
}

/// How a frame header broke the protocol; the checks are made in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The memory that it shares with its daemon holds nonsense.
    #[error("its shared memory is corrupt")]
    SharedMemory,
    /// Not exactly one of the six services, join, leave and kill.
    #[error("type 0x{kind:08x} does not ask for exactly one thing")]
    NotOneRequest {
        /// The type as it came.
        kind: u32,
    },
    /// A type bit that only daemons may set.
    #[error("type 0x{kind:08x} has bits that only a daemon may set")]
    DaemonOnly {
        /// The type as it came.
        kind: u32,
    },
    /// The sender field is no private group.
    #[error("sender is not a private group: {0}")]
    SenderIllegal(NameError),
    /// The sender field names another session.
    #[error("sender {found} is not this session")]
    SenderForeign {
        /// What the field said.
        found: PrivateGroup,
    },
    /// Fewer than 0 or more than 100 destinations.
    #[error("{found} destinations: 0 to 100 are allowed")]
    Destinations {
        /// What the header said.
        found: i32,
    },
    /// Bits in the hint that neither the byte-order mark nor the message type uses.
    #[error("hint 0x{hint:08x} has bits outside the message type")]
    Hint {
        /// The hint as it came.
        hint: u32,
    },
    /// Negative, or more than a message may hold.
    #[error("{found} bytes of data, with the destinations more than a message may hold")]
    DataLength {
        /// What the header said.
        found: i32,
    },
}
