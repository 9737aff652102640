//! What comes from clients: worked on at once where possible, kept where a frame is incomplete,
//! memory is short, or the session is held back.

use std::mem;

use super::frames::{self, Parsed};
use super::handshake;
use super::slots::{Session, State};
use super::{Action, Sessions, Submission};
use crate::base::event::EndReason;
use crate::base::limits::{INPUT_BYTES_MAX, SPARE_INPUT_BYTES_MAX, SPARE_INPUTS_MAX};
use crate::base::{Counter, PrivateGroup, Request, SessionId, Store};
use crate::wire::session::handshake::AUTH_CHOICE_BYTES;
use crate::wire::session::{Reject, Version};

/// Buffers for incomplete input, so that steady traffic with split frames allocates nothing.
#[derive(Default)]
pub(super) struct Spare(Vec<Vec<u8>>);

impl Spare {
    fn take(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    pub(super) fn put(&mut self, mut input: Vec<u8>) {
        let fits = (1..=SPARE_INPUT_BYTES_MAX).contains(&input.capacity());
        if fits && self.0.len() < SPARE_INPUTS_MAX {
            input.clear();
            self.0.push(input);
        }
    }
}

/// Whether there is more to do with the bytes at hand.
#[derive(PartialEq, Eq)]
enum Progress {
    /// So many bytes are worked off: go on behind them.
    Consumed(usize),
    /// More bytes, or an answer, must come first.
    Waiting,
    /// Memory must be freed first.
    Stuck,
}

impl<S: Store> Sessions<S> {
    /// Bytes have come from a client.
    pub fn handle_received(&mut self, id: SessionId, bytes: &[u8], store: &mut S) {
        self.tally.add(Counter::BytesReceived, bytes.len() as u64);
        let Some(session) = self.slots.get_mut(id) else { return };
        if let State::Ending | State::Rejected { .. } = session.state {
            // Whatever it says now is not heard: let the kernel hold it back.
            return self.pause(id);
        }
        if session.input.is_empty() && session.holds == 0 && !self.throttled {
            let consumed = self.consume(id, bytes, store);
            return self.keep(id, &bytes[consumed..]);
        }
        self.keep(id, bytes);
        self.work_off(id, store);
    }

    fn keep(&mut self, id: SessionId, bytes: &[u8]) {
        let Some(session) = self.slots.get_mut(id) else { return };
        if bytes.is_empty() {
            return;
        }
        if session.input.capacity() == 0 {
            session.input = self.spare.take();
        }
        session.input.extend_from_slice(bytes);
        if session.input.len() > INPUT_BYTES_MAX {
            self.pause(id);
        }
    }

    /// Works on input that was kept, as far as possible, and receives again once nothing stands
    /// in the way.
    pub(super) fn work_off(&mut self, id: SessionId, store: &mut S) {
        let Some(session) = self.slots.get_mut(id) else { return };
        if session.holds > 0 {
            return self.pause(id);
        }
        if self.throttled {
            return self.wait_for_memory(id);
        }
        let mut input = mem::take(&mut session.input);
        let consumed = self.consume(id, &input, store);
        input.drain(..consumed);
        match self.slots.get_mut(id) {
            Some(session) if !input.is_empty() => session.input = input,
            Some(_) | None => self.spare.put(input),
        }
        let is_over = |session: &Session<_>| {
            session.gone && !session.leaving && !session.stuck && session.holds == 0
        };
        if self.slots.get(id).is_some_and(is_over) {
            return self.give_up(id, store);
        }
        self.resume(id);
    }

    /// Stops receiving from a session.
    pub(super) fn pause(&mut self, id: SessionId) {
        let Some(session) = self.slots.get_mut(id) else { return };
        if !session.paused {
            session.paused = true;
            self.tally.count(Counter::ReadsPaused);
            self.actions.push_back(Action::Pause(id));
        }
    }

    fn resume(&mut self, id: SessionId) {
        let Some(session) = self.slots.get_mut(id) else { return };
        let fits = session.input.len() <= INPUT_BYTES_MAX;
        if session.paused && !session.stuck && session.holds == 0 && fits {
            session.paused = false;
            self.actions.push_back(Action::Resume(id));
        }
    }

    /// Lets a session's input wait until [`Sessions::handle_memory`].
    fn wait_for_memory(&mut self, id: SessionId) {
        let Some(session) = self.slots.get_mut(id) else { return };
        if !session.stuck {
            session.stuck = true;
            self.stuck.push_back(id);
        }
        self.pause(id);
    }

    /// Takes nothing from clients (`true`), or goes on (`false`): the protocol layer cannot take
    /// more.
    pub fn handle_throttle(&mut self, throttled: bool, store: &mut S) {
        let begins_again = self.throttled && !throttled;
        self.throttled = throttled;
        if begins_again {
            self.handle_memory(store);
        }
    }

    /// Tries again what was stuck; to be called when memory has been freed.
    pub fn handle_memory(&mut self, store: &mut S) {
        for _ in 0..self.stuck.len() {
            let Some(id) = self.stuck.pop_front() else { return };
            let Some(session) = self.slots.get_mut(id) else { continue };
            session.stuck = false;
            self.work_off(id, store);
        }
    }

    /// Whether any session's input waits for memory or for the protocol layer.
    pub fn is_stuck(&self) -> bool {
        !self.stuck.is_empty()
    }

    /// Works through `bytes`; returns how many are done with.
    fn consume(&mut self, id: SessionId, bytes: &[u8], store: &mut S) -> usize {
        let mut done = 0;
        while let Some(session) = self.slots.get(id) {
            let rest = &bytes[done..];
            let progress = match session.state {
                State::Greeting => self.take_hello(id, rest, store),
                State::Choosing { name, version } => {
                    self.take_choice(id, name, version, rest, store)
                }
                State::Open { name } => self.take_frame(id, &name, rest, store),
                State::Naming { .. } | State::Unnamed => Progress::Waiting,
                State::Rejected { .. } | State::Ending => return bytes.len(),
            };
            match progress {
                Progress::Consumed(len) => done += len,
                Progress::Waiting => return done,
                Progress::Stuck => {
                    self.wait_for_memory(id);
                    return done;
                }
            }
        }
        bytes.len()
    }

    fn take_hello(&mut self, id: SessionId, bytes: &[u8], store: &mut S) -> Progress {
        match handshake::greeting(bytes) {
            Ok(None) => Progress::Waiting,
            Ok(Some((greeting, consumed))) => {
                let Some(session) = self.slots.get_mut(id) else { return Progress::Waiting };
                session.state = State::Naming { greeting, gone: false };
                let connect = Submission::Connect {
                    name: greeting.name,
                    wants_membership: greeting.wants_membership,
                };
                self.submissions.push_back((id, connect));
                Progress::Consumed(consumed)
            }
            Err(reject) => {
                self.reject(id, reject, store);
                Progress::Consumed(bytes.len())
            }
        }
    }

    fn take_choice(
        &mut self,
        id: SessionId,
        name: PrivateGroup,
        version: Version,
        bytes: &[u8],
        store: &mut S,
    ) -> Progress {
        let Some(choice) = bytes.first_chunk::<AUTH_CHOICE_BYTES>() else {
            return Progress::Waiting;
        };
        let Some(session) = self.slots.get(id) else { return Progress::Waiting };
        if self.setup.auth.admits(choice, session.address_admitted) {
            self.accept(id, name, version, store);
        } else {
            self.reject(id, Reject::Auth, store);
        }
        Progress::Consumed(AUTH_CHOICE_BYTES)
    }

    fn take_frame(
        &mut self,
        id: SessionId,
        name: &PrivateGroup,
        bytes: &[u8],
        store: &mut S,
    ) -> Progress {
        match frames::parse(bytes, name, store) {
            Parsed::Incomplete => Progress::Waiting,
            Parsed::NoMemory => {
                self.tally.count(Counter::PoolExhausted);
                Progress::Stuck
            }
            Parsed::Ignored { len } => {
                self.tally.count(Counter::JoinsIgnored);
                Progress::Consumed(len)
            }
            Parsed::Violation(violation) => {
                self.end(id, EndReason::Violation(violation));
                Progress::Consumed(bytes.len())
            }
            Parsed::Request { len, request: Request::Disconnect } => {
                self.end(id, EndReason::Disconnected);
                Progress::Consumed(len)
            }
            Parsed::Request { len, request } => {
                self.tally.count(Counter::FramesReceived);
                self.submissions.push_back((id, Submission::Request(request)));
                Progress::Consumed(len)
            }
        }
    }
}
