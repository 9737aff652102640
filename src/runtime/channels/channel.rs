//! One session that is attached by shared memory: its queues, and the shelves that it was handed.

use std::collections::VecDeque;

use super::super::budget::Budget;
use super::super::shelves::{Put, Shelves};
use crate::base::{Instant, SessionId};
use crate::mem::shelf::{SHELVES_KNOWN, Shelved};
use crate::mem::stream::{Corrupt, StreamReader, StreamWriter};
use crate::sys::driver::{Driver, StreamKey};
use crate::sys::memfd::Memfd;
use crate::wire::session::attach::ATTACH_HELLO_BYTES;

/// The memory that a session shares with its core, and its socket.
pub(super) struct Channel {
    pub(super) id: SessionId,
    pub(super) stream: StreamKey,
    pub(super) state: State,
    /// Nothing is to be read.
    pub(super) paused: bool,
    /// Nor is its socket until then.
    pub(super) rests_until: Option<Instant>,
    /// The client has closed its socket, so it looks at nothing any more.
    pub(super) has_hung_up: bool,
    /// Since then there is something left to read; behind it the session is to be told.
    pub(super) ending: bool,
    /// The delivery queue took no more.
    pub(super) blocked: bool,
    /// In `watched`.
    pub(super) watched: bool,
    pub(super) active_at: Instant,
    /// How much memory it shares.
    pub(super) shared_bytes: usize,
    /// Its user, as `shelves` knows it, if it may share.
    pub(super) user: Option<usize>,
    /// The last shelves that it was handed, and up to where its queue speaks of each.
    pub(super) known: VecDeque<(u64, u64)>,
    /// How many that were in all.
    pub(super) handed: u32,
}

pub(super) enum State {
    /// So many bytes of the hello are there.
    Greeting([u8; ATTACH_HELLO_BYTES], usize),
    Open(Box<(StreamReader, StreamWriter)>),
}

/// What it takes to put a frame on a shelf.
pub(super) struct Lender<'a> {
    pub(super) shelves: &'a mut Shelves,
    pub(super) budget: &'a mut Budget,
    pub(super) now: Instant,
}

impl Lender<'_> {
    fn offer(&mut self, user: usize, frame: &[u8]) -> Option<Put> {
        self.shelves.offer(user, frame, self.now, self.budget)
    }
}

impl Channel {
    pub(super) fn ends(&self) -> Option<&(StreamReader, StreamWriter)> {
        match &self.state {
            State::Greeting(..) => None,
            State::Open(ends) => Some(ends),
        }
    }

    pub(super) fn end_rest(&mut self, driver: &mut Driver) {
        if self.rests_until.take().is_some() {
            driver.resume(self.stream);
        }
    }

    pub(super) fn has_input(&self) -> bool {
        !self.paused && self.ends().is_some_and(|(reader, _)| !reader.is_empty())
    }

    pub(super) fn has_new_room(&self) -> bool {
        self.ends().is_some_and(|(_, writer)| writer.has_new_room())
    }

    /// Whether all is read of a session whose socket has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ending && self.ends().is_none_or(|(reader, _)| reader.is_empty())
    }

    pub(super) fn is_ready(&self) -> bool {
        self.has_input() || self.has_ended() || self.blocked && self.has_new_room()
    }

    /// Writes a run of frames, or as much of a long frame as there is room for. How many bytes.
    pub(super) fn send_copy(&mut self, run: &[u8], run_max: usize) -> Result<usize, Corrupt> {
        let State::Open(ends) = &mut self.state else { return Ok(0) };
        let writer = &mut ends.1;
        // A run is not cut where it fits into one record, so that its frames can be lent as they
        // lie.
        match run.len() {
            len if len > run_max => writer.write_some(run),
            len => Ok(if writer.write(run)? { len } else { 0 }),
        }
    }

    /// Tells the session of a frame that lies on a shelf of its user. How many bytes that were, all
    /// or none; `None`: it must have a copy.
    pub(super) fn send_shelved(
        &mut self,
        frame: &[u8],
        lender: &mut Lender<'_>,
        driver: &mut Driver,
    ) -> Result<Option<usize>, Corrupt> {
        let Some(user) = self.user else { return Ok(None) };
        let Some(put) = lender.offer(user, frame) else { return Ok(None) };
        let Some((number, memory)) = lender.shelves.shelf(user, put) else { return Ok(None) };
        let Some(known) = self.shelf(number, memory, driver) else { return Ok(None) };
        let State::Open(ends) = &mut self.state else { return Ok(None) };
        let shelf = self.handed - (self.known.len() - known) as u32;
        let at = Shelved { shelf, first: put.first, len: frame.len() as u32 };
        if !ends.1.write_shelved(at)? {
            return Ok(Some(0));
        }
        self.known[known].1 = ends.1.position();
        lender.shelves.lend(user, put, self.id.slot());
        Ok(Some(frame.len()))
    }

    /// Which of the shelves that the session knows this one is. It is handed over if it must; where
    /// that cannot be, `None`.
    fn shelf(&mut self, number: u64, memory: &Memfd, driver: &mut Driver) -> Option<usize> {
        if let Some(known) = self.known.iter().position(|&(it, _)| it == number) {
            return Some(known);
        }
        let State::Open(ends) = &mut self.state else { return None };
        if self.known.len() == SHELVES_KNOWN {
            // The session forgets it when it gets the next one.
            let (_, position) = self.known[0];
            if !ends.1.has_given_back(position) {
                return None;
            }
        }
        driver.stream(self.stream)?.send_memory_now(&[0], memory).ok()?;
        if self.known.len() == SHELVES_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back((number, ends.1.position()));
        self.handed += 1;
        Some(self.known.len() - 1)
    }

    /// Whether the session has given back all that it was told of on a shelf.
    pub(super) fn has_given_back(&self, shelf: u64) -> bool {
        let State::Open(ends) = &self.state else { return true };
        let known = self.known.iter().find(|(number, _)| *number == shelf);
        known.is_none_or(|&(_, position)| ends.1.has_given_back(position))
    }

    /// Shows the session what was written. Whether it must be woken.
    pub(super) fn publish(&mut self) -> bool {
        match &mut self.state {
            State::Greeting(..) => false,
            State::Open(ends) => ends.1.publish(),
        }
    }

    /// Copies what the session has published, and gives it the room back at once.
    pub(super) fn read(&mut self, scratch: &mut [u8]) -> Result<usize, Corrupt> {
        let State::Open(ends) = &mut self.state else { return Ok(0) };
        let len = ends.0.read(scratch)?;
        // A session that waits for room waits for its socket.
        ends.0.give_back();
        Ok(len)
    }

    pub(super) fn declare_sleep(&self) {
        let Some((reader, writer)) = self.ends() else { return };
        if self.blocked {
            writer.prepare_sleep();
        }
        reader.prepare_sleep();
    }

    pub(super) fn awake(&self) {
        if let Some((reader, _)) = self.ends() {
            reader.awake();
        }
    }

    /// From here on the session rings. `false`: there is work, it is watched as before.
    pub(super) fn stop_watching(&mut self) -> bool {
        self.declare_sleep();
        if self.is_ready() {
            self.awake();
            return false;
        }
        self.watched = false;
        true
    }
}
