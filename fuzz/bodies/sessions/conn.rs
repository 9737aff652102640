//! One connection of the world: what was said to the daemon, and what should come back.

use madrigal::base::event::EndReason;
use madrigal::base::{PrivateGroup, Request, SessionId};
use madrigal::wire::session::Reject;

use crate::bodies::reference::{self, Next};

/// A client, as its socket and the model see it.
pub(crate) struct Conn {
    /// Its session.
    pub(crate) id: SessionId,
    /// It asked for membership messages.
    pub(crate) membership: bool,
    /// The protocol layer gave it this name.
    pub(crate) name: Option<PrivateGroup>,
    /// Times it was told to the operator.
    pub(crate) started: usize,
    /// Why it ended, as the operator was told.
    pub(crate) ended: Option<EndReason>,
    /// It asked for its disconnect.
    pub(crate) disconnected: bool,
    /// Its connection was closed by the daemon.
    pub(crate) closed: bool,
    /// Reading from it is paused.
    pub(crate) paused: bool,
    /// It is turned away: only a reject is written.
    pub(crate) rejected: bool,
    /// Its socket takes nothing by itself.
    pub(crate) stalled: bool,
    /// Its side of the connection is gone.
    pub(crate) broken: bool,
    /// Bytes behind the handshake that have not come to a request.
    pub(crate) input: Vec<u8>,
    /// What it should read, and how much of it the socket took.
    pub(crate) output: Vec<u8>,
    /// Bytes of `output` that its socket took.
    pub(crate) written: usize,
    /// Bytes that the socket has been asked to take, and in which turn.
    pub(crate) offered: Option<(usize, u64)>,
    /// Holds on it that have not ended.
    pub(crate) holds: usize,
}

impl Conn {
    /// A connection that has said nothing yet.
    pub(crate) fn new(id: SessionId, membership: bool) -> Self {
        Self {
            id,
            membership,
            name: None,
            started: 0,
            ended: None,
            disconnected: false,
            closed: false,
            paused: false,
            rejected: false,
            stalled: false,
            broken: false,
            input: Vec::new(),
            output: Vec::new(),
            written: 0,
            offered: None,
            holds: 0,
        }
    }

    /// Frames go both ways.
    pub(crate) fn is_open(&self) -> bool {
        self.started > 0 && !self.disconnected
    }

    /// What its bytes ask for next.
    pub(crate) fn next(&mut self) -> Option<Next> {
        let own = self.name?;
        reference::next(&mut self.input, &own)
    }

    /// A request of it came out: it must be what its bytes ask for.
    pub(crate) fn check_request(&mut self, request: &Request<Vec<u8>>) {
        assert!(self.started > 0 && !self.disconnected, "{:?} is not open", self.id);
        let expected = self.next();
        let is_next = matches!(&expected, Some(Next::Request(next)) if next == request);
        assert!(is_next, "{:?} asks for {request:?}, not {expected:?}", self.id);
    }

    /// The operator is told why it ended: there must be such a reason.
    pub(crate) fn check_end(&mut self, reason: EndReason, memory_failed: bool) {
        assert!(self.started == 1 && self.disconnected && self.ended.is_none(), "{reason:?}");
        match &reason {
            EndReason::Disconnected => assert_eq!(self.next(), Some(Next::Kill)),
            EndReason::Violation(violation) => {
                assert_eq!(self.next(), Some(Next::Violation(*violation)));
            }
            EndReason::Closed => assert!(self.broken || memory_failed),
            // Judged where the delivery is made.
            EndReason::Slow { .. } => {}
        }
        self.ended = Some(reason);
    }

    /// The daemon writes `bytes`: they must go on where the last ones ended.
    pub(crate) fn check_write(&mut self, bytes: &[u8], turn: u64) {
        assert!(!self.closed && self.offered.is_none(), "{:?} is written to", self.id);
        assert!(!self.disconnected, "an ending session gets nothing");
        let reject = bytes.last().and_then(|&byte| Reject::from_byte(byte));
        if self.started == 0 && !self.rejected && reject.is_some() {
            // A core that takes nothing may let the time of a handshake pass.
            self.rejected = true;
            self.output.extend(bytes.last());
        }
        assert!(!bytes.is_empty());
        let expected = &self.output[self.written..];
        assert!(expected.starts_with(bytes), "{:?} reads other bytes than it should", self.id);
        self.offered = Some((bytes.len(), turn));
    }

    /// All that it should be, once nothing stands in its way.
    pub(crate) fn check_rest(&mut self) {
        assert_eq!(self.holds, 0, "{:?} is held for ever", self.id);
        if self.closed {
            return;
        }
        assert!(
            !self.disconnected && !self.rejected && !self.broken,
            "{:?} is not closed",
            self.id
        );
        if self.started == 0 {
            return;
        }
        assert!(!self.paused, "{:?} is paused for ever", self.id);
        assert_eq!(self.next(), None, "a request of {:?} is lost", self.id);
        assert_eq!(self.written, self.output.len(), "output of {:?} is lost", self.id);
    }
}
