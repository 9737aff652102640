//! What cores say to each other, and the queues they say it through.

use std::collections::VecDeque;

use super::acceptor::Arrival;
use crate::base::limits::LANE_ITEMS_MAX;
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
/// While anything waits, its owner takes nothing more from sessions; once it [is behind], no
/// messages of other daemons either. So what waits is bounded by that and what one more piece of
/// work brings forth.
///
/// [is behind]: Self::is_behind
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

    /// Whether more waits than is good: [`LANE_ITEMS_MAX`].
    pub(super) fn is_behind(&self) -> bool {
        self.waiting.len() >= LANE_ITEMS_MAX
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::spsc::queue;

    #[test]
    fn a_lane_is_full_when_something_waits_and_behind_when_much_does() {
        let (producer, mut consumer) = queue(4);
        let mut lane = Lane::new(producer);
        (0..4).for_each(|item| lane.push(item));
        assert!(!lane.is_full());
        (4..3 + LANE_ITEMS_MAX).for_each(|item| lane.push(item));
        assert!(lane.is_full() && !lane.is_behind());
        lane.push(3 + LANE_ITEMS_MAX);
        assert!(lane.is_behind());
        lane.flush();
        for item in 0..4 {
            assert_eq!(consumer.pop(), Some(item));
        }
        consumer.release();
        lane.flush();
        assert!(lane.is_full() && !lane.is_behind());
    }
}
