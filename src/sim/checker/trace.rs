//! What a run is judged by: what daemons and sessions saw, and nothing of how it came about.

use std::fmt;

use crate::base::{DaemonId, GroupId, GroupName, Instant, PrivateGroup, RingId, Seq, Service};

/// One life of one daemon, from its start to its crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// The daemon.
    pub daemon: DaemonId,
    /// How often it had been started before.
    pub incarnation: u32,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.incarnation {
            0 => write!(f, "d{}", self.daemon.get()),
            n => write!(f, "d{}.{n}", self.daemon.get()),
        }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A message: the `n`-th that `origin` accepted, carried in the test payload.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// The daemon that accepted it.
    pub origin: Life,
    /// Counts from 0.
    pub n: u32,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.n)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A message's place in the order of its ring: the packet that completes it, and which one in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Ring whose order it is.
    pub ring: RingId,
    /// Packet.
    pub seq: Seq,
    /// Message in the packet.
    pub index: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", Ring(self.ring), self.seq.get(), self.index)
    }
}

/// Shows a ring id shortly: number, then leader.
pub(crate) struct Ring(pub(crate) RingId);

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@d{}", self.0.number, self.0.leader.get())
    }
}

/// What a message is, apart from its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// Guarantee asked for.
    pub service: Service,
    /// Of all its bytes.
    pub hash: u64,
}

/// One thing that a daemon saw or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DaemonEvent {
    /// It accepted a message.
    Submit {
        /// Which.
        message: MessageId,
        /// As accepted.
        content: Content,
    },
    /// It gave a message of its own its place.
    Init {
        /// Which.
        message: MessageId,
        /// Where.
        place: Place,
    },
    /// It delivered a message.
    Deliver {
        /// Which.
        message: MessageId,
        /// As delivered.
        content: Content,
        /// Where the order has it, as the deliverer says.
        place: Place,
    },
    /// It installed a regular configuration.
    Regular {
        /// Its id.
        ring: RingId,
        /// Its daemons.
        members: Vec<DaemonId>,
    },
    /// It installed the transitional configuration that follows its regular one.
    Transitional {
        /// Those that move together.
        members: Vec<DaemonId>,
    },
    /// It ended without a word.
    Crash,
    /// It ended in order.
    Stop,
}

/// An event and when it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<E> {
    /// Counts all events of a run, so that events of different logs can be compared.
    pub step: u64,
    /// In virtual time.
    pub at: Instant,
    /// What happened.
    pub event: E,
}

/// Everything that one life of a daemon saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonLog {
    /// Whose.
    pub life: Life,
    /// In order.
    pub entries: Vec<Entry<DaemonEvent>>,
}

/// A message of a session: the `n`-th that it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sent {
    /// Who sent it. Names of sessions are not used twice in a run.
    pub sender: PrivateGroup,
    /// Counts from 0.
    pub n: u32,
}

/// Why a session got a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ViewCause {
    /// A member joined.
    Join(PrivateGroup),
    /// A member left.
    Leave(PrivateGroup),
    /// A member's session ended.
    Disconnect(PrivateGroup),
    /// Daemons were lost or found; the sets of those that moved together, and which one is the
    /// receiver's.
    Network {
        /// All sets.
        sets: Vec<Vec<PrivateGroup>>,
        /// Index in `sets`.
        own: usize,
    },
}

/// What a session may ask for, beside sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To be a member.
    Join(GroupName),
    /// To be none any more.
    Leave(GroupName),
    /// To end.
    Disconnect,
}

/// One thing that a session saw or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It asked for something.
    Asked(Ask),
    /// It sent a message.
    Send {
        /// Counts its messages from 0.
        n: u32,
        /// As sent.
        content: Content,
        /// Destinations in its order.
        destinations: Vec<GroupName>,
        /// It wants no copy.
        self_discard: bool,
    },
    /// It got a message.
    Deliver {
        /// Which.
        message: Sent,
        /// As received.
        content: Content,
        /// Destinations in the order received.
        destinations: Vec<GroupName>,
    },
    /// It got a view of a group.
    View {
        /// Which group.
        group: GroupName,
        /// Identity of the view.
        id: GroupId,
        /// Why.
        cause: ViewCause,
        /// Members in the order received.
        members: Vec<PrivateGroup>,
    },
    /// It got the transitional signal of a group.
    Transitional {
        /// Which group.
        group: GroupName,
    },
    /// It got the answer to its own leave.
    Left {
        /// Which group.
        group: GroupName,
    },
    /// It was thrown out for reading too slowly.
    Killed,
    /// It ended in order.
    End,
}

/// Everything that one session saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLog {
    /// Whose. The next session of that name has a log of its own.
    pub session: PrivateGroup,
    /// It wants membership messages.
    pub watches: bool,
    /// The step at which it began.
    pub start: u64,
    /// In order.
    pub entries: Vec<Entry<SessionEvent>>,
}

/// What the end of a run must look like, as the network and the faults have left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// When the last fault ended; `None` for a run that was cut off in the midst of faults, of
    /// which nothing "eventual" can be asked.
    pub calm: Option<Instant>,
    /// From here on every daemon must have come to rest: the bound of liveness has passed.
    pub settled: Instant,
    /// Live daemons that hear each other, each in one component; daemons that only partly hear
    /// each other are in none.
    pub components: Vec<Vec<DaemonId>>,
    /// Links that stay cut one way for good: who is not heard, and by whom.
    pub cut: Vec<(DaemonId, DaemonId)>,
    /// For each live daemon, the bytes that its core retained at rest, and at the end.
    pub retained: Vec<(DaemonId, usize, usize)>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// One log for each life of a daemon.
    pub daemons: Vec<DaemonLog>,
    /// One log for each session.
    pub sessions: Vec<SessionLog>,
    /// How it ended.
    pub ending: Ending,
}
