//! The sessions of a core that are attached by shared memory.
//!
//! Such a session has a Unix socket too. A byte on it is a bell in either direction, and its end is
//! the end of the session; everything else is in the queues. The core watches the queues of those
//! sessions that were active of late, at the cost of a load each, and tells all others to ring. So
//! a busy core finds work without a system call, does not look at sessions that are idle, and one
//! that sleeps is woken by its driver like for any other session.

use std::time::Duration;

use crate::base::limits::{CHANNEL_READ_BYTES, SHARED_QUEUE_BYTES_MAX, SHARED_QUEUE_BYTES_MIN};
use crate::base::{Instant, SessionId};
use crate::mem::pool::Slice;
use crate::mem::stream::{Corrupt, StreamReader, StreamWriter, daemon_ends};
use crate::mem::{QueueSizes, Region};
use crate::session::Transmit;
use crate::sys::driver::{Driver, StreamKey};
use crate::sys::memfd::Memfd;
use crate::sys::socket::Stream;
use crate::wire::session::attach::{ATTACH_HELLO_BYTES, ATTACH_VERSION};
use crate::wire::session::{AttachAnswer, AttachHello, AttachStatus};

/// So many sessions are watched however long they are idle.
const WATCHED_ALWAYS: usize = 64;

/// Of more than those, the ones that were idle for so long are told to ring.
const WATCHED_IDLE: Duration = Duration::from_millis(1);

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
    /// Channels whose hello is complete.
    greeted: Vec<SessionId>,
    scratch: Box<[u8]>,
}

struct Channel {
    id: SessionId,
    stream: StreamKey,
    state: State,
    /// Nothing is to be read.
    paused: bool,
    /// The delivery queue took no more.
    blocked: bool,
    /// In `watched`.
    watched: bool,
    active_at: Instant,
}

enum State {
    /// So many bytes of the hello are there.
    Greeting([u8; ATTACH_HELLO_BYTES], usize),
    Open(Box<(StreamReader, StreamWriter)>),
}

/// What a look at the watched channels found.
pub(super) enum Found<'a> {
    /// Bytes of a session.
    Received(SessionId, &'a [u8]),
    /// Room for what a session is to be told.
    Room(SessionId),
    /// A session that scribbled over its queues.
    Corrupt(SessionId),
}

impl Channels {
    pub(super) fn new(sizes: QueueSizes) -> Self {
        Self {
            sizes,
            channels: Vec::new(),
            watched: Vec::new(),
            next: 0,
            greeted: Vec::new(),
            scratch: vec![0; CHANNEL_READ_BYTES].into_boxed_slice(),
        }
    }

    /// A connection has come that will ask for shared memory.
    pub(super) fn insert(&mut self, id: SessionId, stream: StreamKey, now: Instant) {
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
            blocked: false,
            watched: false,
            active_at: now,
        };
        self.channels[slot] = Some(channel);
    }

    /// Forgets a session; its memory is gone with it.
    pub(super) fn remove(&mut self, id: SessionId) {
        if self.get(id).is_some() {
            self.channels[id.slot()] = None;
            self.watched.retain(|&slot| slot != id.slot());
        }
    }

    fn get(&mut self, id: SessionId) -> Option<&mut Channel> {
        self.channels.get_mut(id.slot())?.as_mut().filter(|channel| channel.id == id)
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
                if *len == ATTACH_HELLO_BYTES {
                    self.greeted.push(id);
                }
            }
            State::Open(_) => self.watch(id.slot()),
        }
        true
    }

    /// Attaches those whose hello has come. Those who cannot be are returned: they are over.
    pub(super) fn open_greeted(&mut self, driver: &mut Driver) -> Vec<SessionId> {
        let greeted = std::mem::take(&mut self.greeted);
        let mut failed = Vec::new();
        for id in greeted {
            let sizes = self.sizes;
            let Some(channel) = self.get(id) else { continue };
            let Some(stream) = driver.stream(channel.stream) else { continue };
            let State::Greeting(hello, _) = &channel.state else { continue };
            match open(hello, sizes, stream) {
                Ok(ends) => {
                    channel.state = State::Open(Box::new(ends));
                    self.watch(id.slot());
                }
                Err(status) => {
                    // Who does not take it learns it by the close.
                    let _ = stream.write_now(&AttachAnswer::refuse(status).emit());
                    failed.push(id);
                }
            }
        }
        failed
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

    pub(super) fn pause(&mut self, id: SessionId) {
        if let Some(channel) = self.get(id) {
            channel.paused = true;
        }
    }

    pub(super) fn resume(&mut self, id: SessionId) {
        if let Some(channel) = self.get(id) {
            channel.paused = false;
            // It may have published while nobody looked.
            self.watch(id.slot());
        }
    }

    /// Begins to look at all watched channels, once each.
    pub(super) fn begin_look(&mut self) {
        self.next = 0;
    }

    /// The next thing that is to be found in a watched channel.
    pub(super) fn look(&mut self, now: Instant) -> Option<Found<'_>> {
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
            let idle = now.since(channel.active_at) >= WATCHED_IDLE;
            if crowded && idle && channel.stop_watching() {
                self.watched.swap_remove(self.next);
                continue;
            }
            self.next += 1;
        }
        None
    }

    /// What a session has left behind when its socket ended; empty bytes at the end of it.
    pub(super) fn drain(&mut self, id: SessionId) -> Result<&[u8], Corrupt> {
        let Some(channel) = self.channels.get_mut(id.slot()).and_then(Option::as_mut) else {
            return Ok(&[]);
        };
        let len = if channel.id == id { channel.read(&mut self.scratch)? } else { 0 };
        Ok(&self.scratch[..len])
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
        let Some(channel) = self.get(id) else { return Ok(0) };
        let State::Open(ends) = &mut channel.state else { return Ok(0) };
        let writer = &mut ends.1;
        // A run is not cut where it fits into one record, so that its frames can be lent as they
        // lie.
        let run_max = writer.record_bytes_max();
        let mut written = 0;
        for run in transmit.runs(run_max) {
            let some = match run.len() {
                len if len > run_max => writer.write_some(run)?,
                len => {
                    if writer.write(run)? {
                        len
                    } else {
                        0
                    }
                }
            };
            written += some;
            if some < run.len() {
                break;
            }
        }
        if writer.publish() {
            ring(driver, channel.stream);
        }
        if written == 0 {
            channel.blocked = true;
            self.watch(id.slot());
        }
        Ok(written)
    }

    /// Whether a watched channel has work. Looked at while watching for work.
    pub(super) fn is_ready(&self) -> bool {
        self.watched.iter().any(|&slot| self.channels[slot].as_ref().is_some_and(Channel::is_ready))
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

impl Channel {
    fn ends(&self) -> Option<&(StreamReader, StreamWriter)> {
        match &self.state {
            State::Greeting(..) => None,
            State::Open(ends) => Some(ends),
        }
    }

    fn has_input(&self) -> bool {
        !self.paused && self.ends().is_some_and(|(reader, _)| !reader.is_empty())
    }

    fn has_new_room(&self) -> bool {
        self.ends().is_some_and(|(_, writer)| writer.has_new_room())
    }

    fn is_ready(&self) -> bool {
        self.has_input() || self.blocked && self.has_new_room()
    }

    /// Copies what the session has published, and gives it the room back at once.
    fn read(&mut self, scratch: &mut [u8]) -> Result<usize, Corrupt> {
        let State::Open(ends) = &mut self.state else { return Ok(0) };
        let len = ends.0.read(scratch)?;
        // A session that waits for room waits for its socket, so nobody is to be woken.
        let _ = ends.0.release();
        Ok(len)
    }

    fn declare_sleep(&self) {
        let Some((reader, writer)) = self.ends() else { return };
        if self.blocked {
            writer.prepare_sleep();
        }
        reader.prepare_sleep();
    }

    fn awake(&self) {
        if let Some((reader, _)) = self.ends() {
            reader.awake();
        }
    }

    /// From here on the session rings. `false`: there is work, it is watched as before.
    fn stop_watching(&mut self) -> bool {
        self.declare_sleep();
        if self.is_ready() {
            self.awake();
            return false;
        }
        self.watched = false;
        true
    }
}

/// Makes a session's memory and hands it over.
fn open(
    hello: &[u8; ATTACH_HELLO_BYTES],
    sizes: QueueSizes,
    stream: &Stream,
) -> Result<(StreamReader, StreamWriter), AttachStatus> {
    let hello = AttachHello::parse(hello).map_err(|_not_attach| AttachStatus::Version)?;
    if hello.version != ATTACH_VERSION {
        return Err(AttachStatus::Version);
    }
    // Whose memory it is must be known: the kernel says so, or there is none.
    let credentials = stream.credentials().ok_or(AttachStatus::Unidentified)?;
    let sizes = QueueSizes {
        submission_bytes: granted(hello.submission_bytes, sizes.submission_bytes),
        delivery_bytes: granted(hello.delivery_bytes, sizes.delivery_bytes),
    };
    let answer = AttachAnswer {
        version: ATTACH_VERSION,
        status: AttachStatus::Attached,
        submission_bytes: sizes.submission_bytes as u32,
        delivery_bytes: sizes.delivery_bytes as u32,
    };
    let bytes = sizes.region_bytes();
    let attached = Memfd::new(bytes).and_then(|memory| {
        let region = Region::map(&memory, bytes)?;
        stream.send_memory_now(&answer.emit(), &memory)?;
        Ok(region)
    });
    match attached {
        Ok(region) => {
            let (pid, uid) = (credentials.pid, credentials.uid);
            tracing::debug!(pid, uid, bytes, "session attached by shared memory");
            Ok(daemon_ends(region, sizes))
        }
        Err(error) => {
            tracing::debug!(%error, "no shared memory for a session");
            Err(AttachStatus::Memory)
        }
    }
}

/// What a wish for a queue of so many bytes comes to.
fn granted(wished: u32, most: usize) -> usize {
    if wished == 0 {
        return most;
    }
    let wished = (wished as usize).clamp(SHARED_QUEUE_BYTES_MIN, SHARED_QUEUE_BYTES_MAX);
    wished.next_power_of_two().min(most)
}

/// A byte, which says nothing but that there is something to look at. Where the socket is full of
/// them already, one more would say no more.
fn ring(driver: &mut Driver, stream: StreamKey) {
    if let Some(stream) = driver.stream(stream) {
        let _ = stream.write_now(&[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_granted_within_the_bounds() {
        let most = 1 << 18;
        assert_eq!(granted(0, most), most);
        assert_eq!(granted(1, most), SHARED_QUEUE_BYTES_MIN);
        assert_eq!(granted(100_000, most), 1 << 17);
        assert_eq!(granted(u32::MAX, most), most);
        assert_eq!(granted(u32::MAX, SHARED_QUEUE_BYTES_MAX), SHARED_QUEUE_BYTES_MAX);
    }
}
