//! The delivery stream: what this daemon's sessions get, in order, until somebody takes it.

use std::collections::VecDeque;

use crate::base::SessionId;

/// One step of the delivery stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Delivery<'a, B> {
    /// The same bytes for each of `targets`.
    Frame {
        /// A whole frame of the client protocol.
        frame: &'a B,
        /// Sessions of this daemon, each at most once.
        targets: &'a [SessionId],
        /// The session of this daemon that sent it; `None` for membership messages.
        sender: Option<SessionId>,
    },
    /// The session's disconnect took its place in the order; nothing refers to it any more.
    Ended {
        /// The session.
        session: SessionId,
    },
    /// Requests of this session wait for the ring: nothing more is to be read from it.
    Hold {
        /// The session.
        session: SessionId,
    },
    /// They went on; the session may be read from again.
    Release {
        /// The session.
        session: SessionId,
    },
}

enum Step<B> {
    Frame { frame: B, targets_end: usize, sender: Option<SessionId> },
    Ended { session: SessionId },
    Hold { session: SessionId },
    Release { session: SessionId },
}

/// Deliveries that were decided and not yet taken.
///
/// The targets of all of them lie in one vector, so that nothing is allocated per message once
/// both containers have grown.
pub(crate) struct Stream<B> {
    steps: VecDeque<Step<B>>,
    targets: Vec<SessionId>,
    targets_taken: usize,
    /// The step that was lent out last.
    lent: Option<Step<B>>,
}

impl<B> Stream<B> {
    pub(crate) fn new() -> Self {
        Self { steps: VecDeque::new(), targets: Vec::new(), targets_taken: 0, lent: None }
    }

    /// Puts `frame` for `targets` into the stream; with nobody to get it, nothing happens.
    pub(crate) fn push(&mut self, frame: B, targets: &[SessionId], sender: Option<SessionId>) {
        if targets.is_empty() {
            return;
        }
        self.targets.extend_from_slice(targets);
        self.steps.push_back(Step::Frame { frame, targets_end: self.targets.len(), sender });
    }

    pub(crate) fn push_ended(&mut self, session: SessionId) {
        self.steps.push_back(Step::Ended { session });
    }

    pub(crate) fn push_hold(&mut self, session: SessionId) {
        self.steps.push_back(Step::Hold { session });
    }

    pub(crate) fn push_release(&mut self, session: SessionId) {
        self.steps.push_back(Step::Release { session });
    }

    pub(crate) fn next(&mut self) -> Option<Delivery<'_, B>> {
        self.lent = self.steps.pop_front();
        match &self.lent {
            Some(Step::Frame { frame, targets_end, sender }) => {
                let targets = &self.targets[self.targets_taken..*targets_end];
                self.targets_taken = *targets_end;
                Some(Delivery::Frame { frame, targets, sender: *sender })
            }
            Some(Step::Ended { session }) => Some(Delivery::Ended { session: *session }),
            Some(Step::Hold { session }) => Some(Delivery::Hold { session: *session }),
            Some(Step::Release { session }) => Some(Delivery::Release { session: *session }),
            None => {
                self.targets.clear();
                self.targets_taken = 0;
                None
            }
        }
    }
}
