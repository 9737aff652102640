//! The sessions of a core that are attached by shared memory.
//!
//! Such a session has a Unix socket too. A byte on it is a bell in either direction, and its end is
//! the end of the session; everything else is in the queues. The core watches the queues of those
//! sessions that were active of late, at the cost of a load each, and tells all others to ring. So
//! a busy core finds work without a system call, does not look at sessions that are idle, and one
//! that sleeps is woken by its driver like for any other session.

mod channel;

use std::collections::VecDeque;
use std::time::Duration;

use channel::{Channel, Lender, State};

use super::attach::{Opened, open};
use super::budget::Budget;
use super::shelves::Shelves;
use crate::base::limits::{ATTACHES_PER_TURN, CHANNEL_READ_BYTES, CHANNEL_WRITE_BYTES};
use crate::base::{Counter, Instant, SessionId, Tally};
use crate::mem::QueueSizes;
use crate::mem::pool::Slice;
use crate::mem::stream::Corrupt;
use crate::session::Transmit;
use crate::sys::driver::{Driver, StreamKey};
use crate::wire::session::attach::ATTACH_HELLO_BYTES;
use crate::wire::session::{AttachAnswer, AttachStatus};

/// So many sessions are watched however long they are idle.
const WATCHED_ALWAYS: usize = 64;

/// Of more than those, the ones that were idle for so long are told to ring.
const WATCHED_IDLE: Duration = Duration::from_millis(1);

/// The socket of a session that rings while it is paused is not read for so long: with a full queue
/// it rings as often as its bells are taken.
const REST: Duration = Duration::from_millis(10);

/// All channels of a core.
pub(super) struct Channels {
    /// What a session gets that wishes for nothing, and at most.
    sizes: QueueSizes,
    /// By slot of the session; those of socket sessions are empty.
    channels: Vec<Option<Channel>>,
    /// Slots of the channels whose queues are looked at each turn.
    watched: Vec<usize>,
    /// The next of them to look at.
    next: usize,
    /// Channels whose hello is complete, in turn.
    greeted: VecDeque<SessionId>,
    /// Paused channels that rang since the last turn.
    rang: Vec<SessionId>,
    /// Those whose sockets are not read, until when.
    resting: VecDeque<(Instant, SessionId)>,
    shelves: Shelves,
    /// Of memory for all that.
    budget: Budget,
    now: Instant,
    tally: Tally,
    scratch: Box<[u8]>,
}

/// What a look at the watched channels found.
pub(super) enum Found<'a> {
    /// Bytes of a session.
    Received(SessionId, &'a [u8]),
    /// Room for what a session is to be told.
    Room(SessionId),
    /// A session that scribbled over its queues.
    Corrupt(SessionId),
    /// The end of a session, behind all that it had published.
    Ended(SessionId),
}

impl Channels {
    pub(super) fn new(sizes: QueueSizes, shelves: Shelves, budget: Budget) -> Self {
        Self {
            sizes,
            shelves,
            budget,
            now: Instant::ZERO,
            tally: Tally::default(),
            channels: Vec::new(),
            watched: Vec::new(),
            next: 0,
            greeted: VecDeque::new(),
            rang: Vec::new(),
            resting: VecDeque::new(),
            scratch: vec![0; CHANNEL_READ_BYTES].into_boxed_slice(),
        }
    }

    /// A connection has come that will ask for shared memory.
    pub(super) fn insert(&mut self, id: SessionId, stream: StreamKey) {
        let slot = id.slot();
        if self.channels.len() <= slot {
            self.channels.resize_with(slot + 1, || None);
        }
        let state = State::Greeting([0; ATTACH_HELLO_BYTES], 0);
        let channel = Channel {
            id,
            stream,
            state,
            paused: false,
            rests_until: None,
            has_hung_up: false,
            ending: false,
            blocked: false,
            watched: false,
            active_at: self.now,
            shared_bytes: 0,
            user: None,
            known: VecDeque::new(),
            handed: 0,
        };
        self.channels[slot] = Some(channel);
    }

    /// Forgets a session. Its memory goes back to the system, but for what its client may still be
    /// looking at.
    pub(super) fn remove(&mut self, id: SessionId) {
        if self.get(id).is_none() {
            return;
        }
        let slot = id.slot();
        self.watched.retain(|&watched| watched != slot);
        let Some(channel) = self.channels[slot].take() else { return };
        let (now, budget) = (self.now, &mut self.budget);
        if let Some(user) = channel.user {
            let owes = |number| !channel.has_hung_up && !channel.has_given_back(number);
            self.shelves.leave((user, slot), owes, now, budget);
        }
        if let Some((_, writer)) = channel.ends() {
            let left = writer.give_up(!channel.has_hung_up);
            budget.give_back(channel.shared_bytes - left);
            budget.leave(now, left);
        }
    }

    fn get(&mut self, id: SessionId) -> Option<&mut Channel> {
        find(&mut self.channels, id)
    }

    /// Bytes came by the socket of a session. `false`: it has no channel.
    pub(super) fn handle_socket(&mut self, id: SessionId, bytes: &[u8]) -> bool {
        let Some(channel) = self.get(id) else { return false };
        match &mut channel.state {
            State::Greeting(hello, len) => {
                let room = &mut hello[*len..];
                let taken = room.len().min(bytes.len());
                room[..taken].copy_from_slice(&bytes[..taken]);
                *len += taken;
                if taken > 0 && *len == ATTACH_HELLO_BYTES {
                    self.greeted.push_back(id);
                }
            }
            State::Open(_) => {
                if channel.paused {
                    self.rang.push(id);
                }
                self.watch(id.slot());
            }
        }
        true
    }

    /// Lets the sockets rest of paused sessions that rang, and reads those again that did.
    pub(super) fn take_rests(&mut self, driver: &mut Driver) {
        let until = self.now + REST;
        for id in self.rang.drain(..) {
            let Some(channel) = find(&mut self.channels, id) else { continue };
            if channel.paused && channel.rests_until.is_none() {
                channel.rests_until = Some(until);
                driver.pause(channel.stream);
                self.resting.push_back((until, id));
            }
        }
        while let Some(&(until, id)) = self.resting.front()
            && until <= self.now
        {
            self.resting.pop_front();
            // Else that rest is over, and perhaps another one has begun.
            if let Some(channel) = find(&mut self.channels, id)
                && channel.rests_until == Some(until)
            {
                channel.end_rest(driver);
            }
        }
    }

    /// When [`Channels::take_rests`] has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.resting.front().map(|&(until, _)| until)
    }

    /// Attaches the next ones whose hello has come, as many as a turn has time for. How many those
    /// were; such as cannot be attached are put into `failed`: they are over.
    pub(super) fn open_greeted(
        &mut self,
        driver: &mut Driver,
        failed: &mut Vec<SessionId>,
    ) -> usize {
        let mut opened = 0;
        while opened < ATTACHES_PER_TURN
            && let Some(id) = self.greeted.pop_front()
        {
            let Some(channel) = find(&mut self.channels, id) else { continue };
            let Some(stream) = driver.stream(channel.stream) else { continue };
            let State::Greeting(hello, _) = &channel.state else { continue };
            opened += 1;
            let mut taken = 0;
            let (budget, now) = (&mut self.budget, self.now);
            let take = |bytes| {
                let fits = budget.take(now, bytes);
                taken = if fits { bytes } else { 0 };
                fits
            };
            match open(hello, self.sizes, stream, take) {
                Ok(Opened { uid, bytes, ends }) => {
                    channel.state = State::Open(Box::new(ends));
                    channel.shared_bytes = bytes;
                    channel.user = self.shelves.enter(uid);
                    self.watch(id.slot());
                }
                Err(status) => {
                    self.budget.give_back(taken);
                    if status == AttachStatus::Memory {
                        self.tally.count(Counter::AttachesRefused);
                    }
                    // Who does not take it learns it by the close.
                    let _ = stream.write_now(&AttachAnswer::refuse(status).emit());
                    failed.push(id);
                }
            }
        }
        opened
    }

    fn watch(&mut self, slot: usize) {
        let Some(channel) = self.channels[slot].as_mut() else { return };
        let State::Open(ends) = &channel.state else { return };
        if !channel.watched {
            channel.watched = true;
            ends.0.awake();
            self.watched.push(slot);
        }
    }

    /// Nothing is to be read of a session. `false`: it has no channel.
    pub(super) fn pause(&mut self, id: SessionId) -> bool {
        let Some(channel) = self.get(id) else { return false };
        channel.paused = true;
        true
    }

    /// It is to be read again. `false`: it has no channel.
    pub(super) fn resume(&mut self, id: SessionId, driver: &mut Driver) -> bool {
        let Some(channel) = self.get(id) else { return false };
        channel.paused = false;
        channel.end_rest(driver);
        // It may have published while nobody looked.
        self.watch(id.slot());
        true
    }

    /// A turn of the core begins.
    pub(super) fn begin_turn(&mut self, now: Instant) {
        self.now = now;
    }

    /// Begins to look at all watched channels, once each.
    pub(super) fn begin_look(&mut self) {
        self.next = 0;
    }

    /// The next thing that is to be found in a watched channel.
    pub(super) fn look(&mut self) -> Option<Found<'_>> {
        let now = self.now;
        let crowded = self.watched.len() > WATCHED_ALWAYS;
        while let Some(&slot) = self.watched.get(self.next) {
            let channel = self.channels[slot].as_mut().expect("a watched channel is there");
            let id = channel.id;
            if channel.blocked && channel.has_new_room() {
                // Looked at again for its input: writing makes this true only once.
                channel.blocked = false;
                channel.active_at = now;
                return Some(Found::Room(id));
            }
            if channel.has_input() {
                channel.active_at = now;
                self.next += 1;
                return match channel.read(&mut self.scratch) {
                    Ok(0) => continue,
                    Ok(len) => Some(Found::Received(id, &self.scratch[..len])),
                    Err(Corrupt) => {
                        // It is not looked at again until it is gone.
                        channel.paused = true;
                        Some(Found::Corrupt(id))
                    }
                };
            }
            if channel.has_ended() {
                channel.ending = false;
                return Some(Found::Ended(id));
            }
            let idle = now.since(channel.active_at) >= WATCHED_IDLE;
            if crowded && idle && channel.stop_watching() {
                self.watched.swap_remove(self.next);
                continue;
            }
            self.next += 1;
        }
        None
    }

    /// The socket of a session has ended; `closed`: its client has closed it. `true`: it has left
    /// something behind, which is to be found as usual, and behind it [`Found::Ended`]. What it
    /// publishes from now on is not looked at, so that is a queue at most.
    pub(super) fn end(&mut self, id: SessionId, closed: bool) -> Result<bool, Corrupt> {
        let Some(channel) = self.get(id) else { return Ok(false) };
        channel.has_hung_up = closed;
        let State::Open(ends) = &mut channel.state else { return Ok(false) };
        ends.0.close()?;
        channel.ending = !ends.0.is_empty();
        let ending = channel.ending;
        self.watch(id.slot());
        Ok(ending)
    }

    /// Whether the session has a channel.
    pub(super) fn has(&self, id: SessionId) -> bool {
        self.channels.get(id.slot()).is_some_and(Option::is_some)
    }

    /// Writes what a session is to be told into its delivery queue, and rings if it sleeps. How
    /// many bytes the queue took; with none, [`Found::Room`] will tell when there is room.
    pub(super) fn send(
        &mut self,
        transmit: &Transmit<'_, Slice>,
        driver: &mut Driver,
    ) -> Result<usize, Corrupt> {
        let id = transmit.session;
        let (channels, now) = (&mut self.channels, self.now);
        let mut lender = Lender { shelves: &mut self.shelves, budget: &mut self.budget, now };
        let Some(Some(channel)) = channels.get_mut(id.slot()) else { return Ok(0) };
        let Some(run_max) = channel.ends().map(|(_, writer)| writer.record_bytes_max()) else {
            return Ok(0);
        };
        let frame_min = lender.shelves.frame_min();
        let mut written = 0;
        for run in transmit.runs(run_max, frame_min) {
            let shelved = match run.len() >= frame_min {
                true => channel.send_shelved(run, &mut lender, driver)?,
                false => None,
            };
            let some = match shelved {
                Some(some) => {
                    self.tally.add(Counter::FramesShelved, (some > 0).into());
                    some
                }
                None => channel.send_copy(run, run_max)?,
            };
            written += some;
            if some < run.len() || written >= CHANNEL_WRITE_BYTES {
                break;
            }
        }
        if channel.publish() {
            ring(driver, channel.stream);
        }
        if written == 0 {
            channel.blocked = true;
            self.watch(id.slot());
        }
        Ok(written)
    }

    /// A pass over the sessions begins, in each of which [`Channels::send`] may be called.
    pub(super) fn begin_pass(&mut self) {
        let channels = &self.channels;
        let has_given_back = |slot: usize, number| {
            let channel = channels[slot].as_ref().expect("who reads a shelf is there");
            channel.has_given_back(number)
        };
        self.shelves.begin_pass(has_given_back, self.now, &mut self.budget);
    }

    /// What was counted here.
    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Whether a watched channel has work, or one waits to be opened. Looked at while watching for
    /// work.
    pub(super) fn is_ready(&self) -> bool {
        !self.greeted.is_empty()
            || self
                .watched
                .iter()
                .any(|&slot| self.channels[slot].as_ref().is_some_and(Channel::is_ready))
    }

    /// Whether any channel is watched.
    pub(super) fn is_watching(&self) -> bool {
        !self.watched.is_empty()
    }

    /// The core is about to sleep: from here on all sessions ring. `false`: there is work.
    pub(super) fn prepare_sleep(&mut self) -> bool {
        self.watched_channels().for_each(Channel::declare_sleep);
        if self.is_ready() {
            self.watched_channels().for_each(Channel::awake);
            return false;
        }
        for slot in self.watched.drain(..) {
            if let Some(channel) = &mut self.channels[slot] {
                channel.watched = false;
            }
        }
        true
    }

    fn watched_channels(&self) -> impl Iterator<Item = &Channel> {
        self.watched.iter().filter_map(|&slot| self.channels[slot].as_ref())
    }
}

fn find(channels: &mut [Option<Channel>], id: SessionId) -> Option<&mut Channel> {
    channels.get_mut(id.slot())?.as_mut().filter(|channel| channel.id == id)
}

/// A byte, which says nothing but that there is something to look at. Where the socket is full of
/// them already, one more would say no more.
fn ring(driver: &mut Driver, stream: StreamKey) {
    if let Some(stream) = driver.stream(stream) {
        let _ = stream.write_now(&[0]);
    }
}
