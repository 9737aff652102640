//! The ring core's state: the protocol layer, and memory for its messages.

use crate::base::{Event, Instant, PrivateGroup, SessionId, Tally};
use crate::mem::pool::{Pool, Slice};
use crate::protocol::{Delivery, Protocol, Setup};
use crate::session::Submission;

/// The protocol layer of the daemon with its buffer pool.
pub(super) struct RingCore {
    protocol: Protocol<Pool>,
    pool: Pool,
    now: Instant,
}

/// What a submission brings at once.
pub(super) enum Answer {
    /// A name, or that it is taken.
    Named(Option<PrivateGroup>),
    /// Deliveries, sooner or later.
    Ordered,
}

impl RingCore {
    pub(super) fn new(setup: &Setup, now: Instant, mut pool: Pool) -> Self {
        Self { protocol: Protocol::new(setup, now, &mut pool), pool, now }
    }

    /// Tells the time for everything until the next turn.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
    }

    pub(super) fn submit(&mut self, id: SessionId, submission: Submission<Slice>) -> Answer {
        match submission {
            Submission::Connect { name, wants_membership } => {
                Answer::Named(self.protocol.handle_connect(id, name, wants_membership).ok())
            }
            Submission::Request(request) => {
                self.protocol.handle_request(self.now, id, request, &mut self.pool);
                Answer::Ordered
            }
        }
    }

    /// When the protocol layer is to be called next.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.protocol.poll_timeout()
    }

    /// Lets the protocol layer do what is due.
    pub(super) fn fire_timers(&mut self) {
        if self.next_timer().is_some_and(|at| at <= self.now) {
            self.protocol.handle_timeout(self.now, &mut self.pool);
        }
    }

    /// Tries again what waits for memory.
    pub(super) fn retry(&mut self) {
        if self.protocol.is_blocked() {
            self.protocol.handle_memory(self.now, &mut self.pool);
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.protocol.is_blocked()
    }

    pub(super) fn poll_delivery(&mut self) -> Option<Delivery<'_, Slice>> {
        self.protocol.poll_delivery()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.protocol.poll_event()
    }

    pub(super) fn tallies(&self) -> [&Tally; 2] {
        self.protocol.tallies()
    }
}
