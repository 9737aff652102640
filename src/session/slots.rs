//! The table of a core's sessions, and what is kept of each.

use super::fanout::Outbox;
use super::handshake::Greeting;
use crate::base::{Buffer, Instant, PrivateGroup, SessionId};
use crate::wire::session::Version;

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The hello is incomplete.
    Greeting,
    /// The protocol layer looks whether the name is free.
    Naming {
        greeting: Greeting,
        /// The connection has ended meanwhile.
        gone: bool,
    },
    /// The name was taken.
    Unnamed,
    /// The client is to choose its methods.
    Choosing { name: PrivateGroup, version: Version },
    /// Frames go both ways.
    Open { name: PrivateGroup },
    /// The connection is closed once the reject is written.
    Rejected { named: bool },
    /// The disconnect is on its way through the order; nothing is read or written any more.
    Ending,
}

impl State {
    /// The name that the protocol layer holds for the session.
    pub(crate) fn name(&self) -> Option<PrivateGroup> {
        match self {
            Self::Choosing { name, .. } | Self::Open { name } => Some(*name),
            Self::Greeting
            | Self::Naming { .. }
            | Self::Unnamed
            | Self::Rejected { .. }
            | Self::Ending => None,
        }
    }

    /// Whether it is the client's turn in the handshake, or its turn to read a reject.
    pub(crate) fn is_waited_for(&self) -> bool {
        match self {
            Self::Greeting | Self::Choosing { .. } | Self::Unnamed | Self::Rejected { .. } => true,
            Self::Naming { .. } | Self::Open { .. } | Self::Ending => false,
        }
    }
}

/// One connection.
pub(crate) struct Session<B> {
    pub(crate) state: State,
    pub(crate) address_admitted: bool,
    /// For the client's next step of the handshake.
    pub(crate) deadline: Instant,
    /// What was received and not yet worked on.
    pub(crate) input: Vec<u8>,
    pub(crate) outbox: Outbox<B>,
    /// In the list of those that have something to write.
    pub(crate) writable: bool,
    /// The turn in which the write in flight began.
    pub(crate) sending_since: Option<u64>,
    /// Receiving is paused.
    pub(crate) paused: bool,
    /// In the list of those whose input waits.
    pub(crate) stuck: bool,
    /// Slow receivers that want nothing to be read from this session.
    pub(crate) holds: usize,
    /// Senders that wait for this session to read.
    pub(crate) holding: Vec<SessionId>,
    /// Its client has gone; what came before is still to be worked on.
    pub(crate) gone: bool,
    /// Its client has gone, and not all that came before has been received.
    pub(crate) leaving: bool,
}

/// A write that began so many turns ago and is not done has met a full socket: the driver tells of
/// one that the socket took at once in the turn after it.
pub(crate) const STALLED_TURNS: u64 = 2;

impl<B> Session<B> {
    /// Whether its socket takes nothing.
    pub(crate) fn is_stalled(&self, turn: u64) -> bool {
        self.sending_since.is_some_and(|since| turn - since >= STALLED_TURNS)
    }
}

struct Slot<B> {
    generation: u32,
    session: Option<Session<B>>,
}

/// All sessions of a core.
pub(crate) struct Slots<B> {
    core: u8,
    slots: Vec<Slot<B>>,
    free: Vec<usize>,
}

impl<B: Buffer> Slots<B> {
    pub(crate) fn new(core: u8) -> Self {
        Self { core, slots: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn open(&mut self, address_admitted: bool) -> SessionId {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, session: None });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[at];
        slot.session = Some(Session {
            state: State::Greeting,
            address_admitted,
            deadline: Instant::ZERO,
            input: Vec::new(),
            outbox: Outbox::new(),
            writable: false,
            sending_since: None,
            paused: false,
            stuck: false,
            holds: 0,
            holding: Vec::new(),
            gone: false,
            leaving: false,
        });
        SessionId::new(self.core, at as u32, slot.generation)
    }

    pub(crate) fn close(&mut self, id: SessionId) -> Option<Session<B>> {
        let slot =
            self.slots.get_mut(id.slot()).filter(|slot| slot.generation == id.generation())?;
        let session = slot.session.take()?;
        slot.generation = (slot.generation + 1) & 0x00ff_ffff;
        self.free.push(id.slot());
        Some(session)
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&Session<B>> {
        let slot = self.slots.get(id.slot())?;
        slot.session.as_ref().filter(|_| slot.generation == id.generation())
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session<B>> {
        let slot = self.slots.get_mut(id.slot())?;
        slot.session.as_mut().filter(|_| slot.generation == id.generation())
    }

    /// The session for which `measure` gives most.
    pub(crate) fn largest(
        &self,
        measure: impl Fn(&Session<B>) -> usize,
    ) -> Option<(SessionId, usize)> {
        let sessions = self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let session = slot.session.as_ref()?;
            Some((SessionId::new(self.core, at as u32, slot.generation), measure(session)))
        });
        sessions.max_by_key(|&(_, measured)| measured)
    }
}
