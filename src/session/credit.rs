//! How much may wait for a client that reads slowly, and what happens beyond.

/// Bounds on what waits for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Messages. Zero drops a session at its first message, as it does in Spread.
    pub messages_max: usize,
    /// Bytes.
    pub bytes_max: usize,
    /// Whether senders are held back from half of the bounds on, and nobody is dropped for what
    /// they have sent.
    pub hold_senders: bool,
}

/// What is to be done about what waits for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Fine,
    /// Stop reading from those who send to it.
    Hold,
    /// Drop it.
    Drop,
}

impl Bounds {
    /// Judges a session for which a message comes while so much is waiting.
    ///
    /// `stalled`: its socket takes nothing. What piles up within one turn, before the socket was
    /// asked, is no slowness. `has_sender`: the message has a sender who can be held back.
    pub(crate) fn judge(
        &self,
        messages: usize,
        bytes: usize,
        stalled: bool,
        has_sender: bool,
    ) -> Verdict {
        if self.messages_max == 0 {
            return Verdict::Drop;
        }
        if !stalled {
            return Verdict::Fine;
        }
        if self.hold_senders && has_sender {
            // What is on its way already when a sender is stopped may exceed any bound here; the
            // queues between cores and the pool bound it.
            let hold = messages >= self.messages_max / 2 || bytes >= self.bytes_max / 2;
            return if hold { Verdict::Hold } else { Verdict::Fine };
        }
        let full = messages >= self.messages_max || bytes >= self.bytes_max;
        if full { Verdict::Drop } else { Verdict::Fine }
    }

    /// Whether the senders may go on.
    pub(crate) fn is_relieved(&self, messages: usize, bytes: usize) -> bool {
        messages <= self.messages_max / 4 && bytes <= self.bytes_max / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { messages_max: 20, bytes_max: 1000, hold_senders: true };

    #[test]
    fn only_a_stalled_session_is_judged() {
        assert_eq!(BOUNDS.judge(500, 50_000, false, true), Verdict::Fine);
        assert_eq!(BOUNDS.judge(20, 0, true, false), Verdict::Drop);
        assert_eq!(BOUNDS.judge(19, 999, true, false), Verdict::Fine);
    }

    #[test]
    fn senders_are_held_in_the_place_of_a_drop() {
        assert_eq!(BOUNDS.judge(9, 499, true, true), Verdict::Fine);
        assert_eq!(BOUNDS.judge(9, 500, true, true), Verdict::Hold);
        assert_eq!(BOUNDS.judge(10, 0, true, true), Verdict::Hold);
        assert_eq!(BOUNDS.judge(500, 50_000, true, true), Verdict::Hold);
        let never = Bounds { hold_senders: false, ..BOUNDS };
        assert_eq!(never.judge(19, 999, true, true), Verdict::Fine);
        assert_eq!(never.judge(19, 1000, true, true), Verdict::Drop);
    }

    #[test]
    fn no_messages_allowed_drops_at_the_first() {
        assert_eq!(Bounds { messages_max: 0, ..BOUNDS }.judge(0, 0, false, true), Verdict::Drop);
    }
}
