//! How a session reads what its daemon has for it: at once, or not at all for a while, so that it
//! waits, and too much of it has the session thrown out. The rule is the session layer's own.

use std::collections::VecDeque;

use crate::session::credit::{Bounds, Verdict};

use super::checker::trace::SessionEvent;
use super::rng::Rng;

/// One session's reader.
pub(super) struct Reader {
    bounds: Bounds,
    is_stalled: bool,
    waiting: VecDeque<(SessionEvent, usize)>,
    bytes: usize,
}

/// What becomes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The session sees it at once.
    Read,
    /// It waits.
    Waits,
    /// It is one too many: the session is thrown out.
    TooMany,
}

impl Reader {
    /// Reads at once; so much may wait when it does not.
    pub(super) fn new(messages_max: usize) -> Self {
        let bounds = Bounds { messages_max, bytes_max: messages_max * 1_000, hold_senders: false };
        Self { bounds, is_stalled: false, waiting: VecDeque::new(), bytes: 0 }
    }

    /// Reads nothing from now on.
    pub(super) fn stall(&mut self) {
        self.is_stalled = true;
    }

    /// Takes a frame of `bytes` bytes that means `event`.
    pub(super) fn take(&mut self, event: &SessionEvent, bytes: usize) -> Fate {
        if !self.is_stalled {
            return Fate::Read;
        }
        match self.bounds.judge(self.waiting.len(), self.bytes, true, false) {
            Verdict::Fine | Verdict::Hold => {
                self.waiting.push_back((event.clone(), bytes));
                self.bytes += bytes;
                Fate::Waits
            }
            Verdict::Drop => Fate::TooMany,
        }
    }

    /// Reads some of what waits, and is to go on waiting.
    pub(super) fn read_some(&mut self, rng: &mut Rng) -> Vec<SessionEvent> {
        let count = rng.index(self.waiting.len() + 1);
        self.read(count)
    }

    /// Reads all that waits, and at once again.
    pub(super) fn wake(&mut self) -> Vec<SessionEvent> {
        self.is_stalled = false;
        self.read(self.waiting.len())
    }

    fn read(&mut self, count: usize) -> Vec<SessionEvent> {
        let read: Vec<(SessionEvent, usize)> = self.waiting.drain(..count).collect();
        self.bytes -= read.iter().map(|(_, bytes)| bytes).sum::<usize>();
        read.into_iter().map(|(event, _)| event).collect()
    }

    /// Whether it reads nothing for now.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_nothing_is_thrown_out_when_too_much_waits() {
        let mut reader = Reader::new(2);
        let event = SessionEvent::End;
        assert_eq!(reader.take(&event, 10), Fate::Read);
        reader.stall();
        assert_eq!(reader.take(&event, 10), Fate::Waits);
        assert_eq!(reader.take(&event, 10), Fate::Waits);
        assert_eq!(reader.wake().len(), 2);
        assert_eq!(reader.take(&event, 10), Fate::Read);
        reader.stall();
        assert_eq!(reader.take(&event, 2_000), Fate::Waits);
        assert_eq!(reader.take(&event, 10), Fate::TooMany);
    }
}
