//! What cores say to each other, and the queues they say it through.

use std::collections::VecDeque;

use super::acceptor::Arrival;
use crate::base::{PrivateGroup, SessionId};
use crate::mem::pool::Slice;
use crate::mem::spsc::{Consumer, Producer};
use crate::session::{Hold, Submission};

/// Receivers that fit into one [`ToSession::Deliver`]; a message to more takes several.
pub(super) const TARGETS_MAX: usize = 8;

/// From a session core to the ring core.
pub(super) enum ToRing {
    /// A session wants something.
    Submit(SessionId, Submission<Slice>),
    /// For the core of the sender that it names.
    Hold(Hold),
    /// So many sessions are gone.
    Closed(usize),
}

/// From the ring core to a session core.
pub(super) enum ToSession {
    /// A connection was accepted for this core.
    Accepted(Arrival),
    /// The answer to [`Submission::Connect`].
    Named(SessionId, Option<PrivateGroup>),
    /// A frame for sessions of this core, and who sent it.
    Deliver { frame: Slice, sender: Option<SessionId>, targets: Targets },
    /// A session's disconnect was delivered.
    Ended(SessionId),
    /// For a session of this core.
    Hold(Hold),
    /// The ring core is short of memory, which sessions may hold.
    Shortage,
}

/// A few sessions of one core.
pub(super) struct Targets {
    sessions: [SessionId; TARGETS_MAX],
    len: u8,
}

impl Targets {
    pub(super) fn new(sessions: &[SessionId]) -> Self {
        let mut targets =
            Self { sessions: [SessionId::new(0, 0, 0); TARGETS_MAX], len: sessions.len() as u8 };
        targets.sessions[..sessions.len()].copy_from_slice(sessions);
        targets
    }

    pub(super) fn as_slice(&self) -> &[SessionId] {
        &self.sessions[..usize::from(self.len)]
    }
}

/// The sending end of a queue that never refuses: what does not fit waits here.
///
/// While anything waits, its owner takes no new work, so what waits is bounded by what one piece
/// of work brings forth.
pub(super) struct Lane<T: Send> {
    queue: Producer<T>,
    waiting: VecDeque<T>,
    /// Something was pushed since the last flush.
    pushed: bool,
}

impl<T: Send> Lane<T> {
    pub(super) fn new(queue: Producer<T>) -> Self {
        Self { queue, waiting: VecDeque::new(), pushed: false }
    }

    pub(super) fn push(&mut self, item: T) {
        self.pushed = true;
        if !self.waiting.is_empty() {
            return self.waiting.push_back(item);
        }
        if let Err(item) = self.queue.push(item) {
            self.waiting.push_back(item);
        }
    }

    /// Whether something waits for room.
    pub(super) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Makes what was pushed visible to the other core. Returns whether there was anything.
    pub(super) fn flush(&mut self) -> bool {
        while let Some(item) = self.waiting.pop_front() {
            if let Err(item) = self.queue.push(item) {
                self.waiting.push_front(item);
                break;
            }
            self.pushed = true;
        }
        self.queue.publish();
        std::mem::take(&mut self.pushed)
    }
}

/// Both ends that one core holds of its connection to another.
pub(super) struct Port<Out: Send, In: Send> {
    pub(super) lane: Lane<Out>,
    pub(super) queue: Consumer<In>,
}
