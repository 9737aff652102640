//! How much may wait for a client that reads slowly, and what happens beyond.

/// Bounds on what waits for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Messages. Zero drops a session at its first message, as it does in Spread.
    pub messages_max: usize,
    /// Bytes.
    pub bytes_max: usize,
    /// Whether senders are held back before the bounds are reached.
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
    /// asked, is no slowness.
    pub(crate) fn judge(&self, messages: usize, bytes: usize, stalled: bool) -> Verdict {
        if self.messages_max == 0 {
            return Verdict::Drop;
        }
        if !stalled {
            return Verdict::Fine;
        }
        if messages >= self.messages_max || bytes >= self.bytes_max {
            return Verdict::Drop;
        }
        // Half of the bounds is left for what is on its way when the senders are stopped.
        if self.hold_senders && (messages >= self.messages_max / 2 || bytes >= self.bytes_max / 2) {
            return Verdict::Hold;
        }
        Verdict::Fine
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
        assert_eq!(BOUNDS.judge(500, 50_000, false), Verdict::Fine);
        assert_eq!(BOUNDS.judge(20, 0, true), Verdict::Drop);
        assert_eq!(BOUNDS.judge(19, 999, true), Verdict::Hold);
        assert_eq!(BOUNDS.judge(9, 499, true), Verdict::Fine);
        assert_eq!(Bounds { hold_senders: false, ..BOUNDS }.judge(19, 999, true), Verdict::Fine);
    }

    #[test]
    fn no_messages_allowed_drops_at_the_first() {
        assert_eq!(Bounds { messages_max: 0, ..BOUNDS }.judge(0, 0, false), Verdict::Drop);
    }
}
