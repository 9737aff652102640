//! Requests of this daemon's sessions on their way: waiting, or in the order and not yet back.
//!
//! A session's requests take effect in the order in which it made them. So one that is not to be
//! ordered waits while an earlier one is still on its way round the ring.

use std::collections::VecDeque;

use crate::base::{Request, SessionId};

use super::by_session::BySession;

/// The requests of all sessions.
pub(crate) struct Submissions<B> {
    queues: BySession<Queue<B>>,
    /// Whose requests are in the order, oldest first: they come back in that order.
    in_flight: VecDeque<SessionId>,
    /// Sessions that may be able to go on.
    ready: VecDeque<SessionId>,
    /// Sessions whose next request is to be put into the order as soon as that takes one.
    for_order: VecDeque<SessionId>,
}

/// The requests of one session.
pub(crate) struct Queue<B> {
    /// So many are in the order.
    pub(crate) in_flight: usize,
    /// The others.
    pub(crate) waiting: VecDeque<Request<B>>,
    /// It is among those `ready` or `for_order`.
    is_listed: bool,
    /// Nothing is read from it.
    pub(crate) is_held: bool,
}

impl<B: AsRef<[u8]>> Submissions<B> {
    pub(crate) fn new() -> Self {
        Self {
            queues: BySession::new(),
            in_flight: VecDeque::new(),
            ready: VecDeque::new(),
            for_order: VecDeque::new(),
        }
    }

    pub(crate) fn connect(&mut self, session: SessionId) {
        let queue =
            Queue { in_flight: 0, waiting: VecDeque::new(), is_listed: false, is_held: false };
        self.queues.insert(session, queue);
    }

    pub(crate) fn disconnect(&mut self, session: SessionId) {
        self.queues.remove(session);
    }

    pub(crate) fn get(&mut self, session: SessionId) -> Option<&mut Queue<B>> {
        self.queues.get_mut(session)
    }

    /// The session's next request is in the order.
    pub(crate) fn submitted(&mut self, session: SessionId) {
        if let Some(queue) = self.queues.get_mut(session) {
            queue.waiting.pop_front();
            queue.in_flight += 1;
        }
        self.in_flight.push_back(session);
    }

    /// The oldest request in the order is back. Returns whose it was.
    pub(crate) fn returned(&mut self) -> Option<SessionId> {
        let session = self.in_flight.pop_front()?;
        if let Some(queue) = self.queues.get_mut(session) {
            queue.in_flight -= 1;
            if queue.in_flight == 0 && !queue.waiting.is_empty() && !queue.is_listed {
                queue.is_listed = true;
                self.ready.push_back(session);
            }
        }
        Some(session)
    }

    /// The session is to go on once the order takes requests.
    pub(crate) fn list_for_order(&mut self, session: SessionId) {
        if let Some(queue) = self.queues.get_mut(session)
            && !queue.is_listed
        {
            queue.is_listed = true;
            self.for_order.push_back(session);
        }
    }

    /// Bytes of what waits, and of what is noted of whose turn it is.
    pub(crate) fn retained_bytes(&self) -> usize {
        let waiting = self.queues.values().flat_map(|queue| &queue.waiting);
        let bytes = waiting.map(|request| match request {
            Request::Multicast { frame, .. } => frame.as_ref().len(),
            Request::Join(_) | Request::Leave(_) | Request::Disconnect => size_of::<Request<B>>(),
        });
        let listed = self.in_flight.len() + self.ready.len() + self.for_order.len();
        bytes.sum::<usize>() + listed * size_of::<SessionId>()
    }

    /// The next session that may be able to go on; `to_order`: those too that wait for the order.
    pub(crate) fn next(&mut self, to_order: bool) -> Option<SessionId> {
        loop {
            let next = match self.ready.pop_front() {
                None if to_order => self.for_order.pop_front()?,
                next => next?,
            };
            if let Some(queue) = self.queues.get_mut(next) {
                queue.is_listed = false;
                return Some(next);
            }
        }
    }
}
