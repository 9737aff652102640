//! How a new ring comes about once its daemons have agreed on who they are.

use crate::base::limits::{
    DAEMONS_MAX, PEER_DATAGRAM_BYTES_MIN, RING_NUMBER_MAX, RING_WINDOW_PACKETS,
};
use crate::base::{DaemonSet, Rank, RingId, Seq, Store};

use super::codec::{Reader, Writer};
use super::header::{Envelope, HEADER_BYTES, PacketKind};
use super::join::is_life;
use super::list::List;

/// The leader's word that everybody proposed the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The ring to be.
    pub ring: RingId,
    /// Its daemons.
    pub members: DaemonSet,
    /// The life of each of them, in order: another life has not agreed.
    pub incarnations: List<u64, DAEMONS_MAX>,
}

// The greatest commit fits a datagram.
const _: () = assert!(HEADER_BYTES + 12 + 16 + 8 * DAEMONS_MAX <= PEER_DATAGRAM_BYTES_MIN);

impl Commit {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (ring, members) = (from.ring()?, from.set()?);
        let mut incarnations = List::default();
        for _ in 0..members.len() {
            if !incarnations.push(from.u64()?) {
                return None;
            }
        }
        from.end()?;
        let are_lives = incarnations.iter().all(|&incarnation| is_life(incarnation));
        let is_sane = are_lives && ring.number <= RING_NUMBER_MAX;
        is_sane.then_some(Self { ring, members, incarnations })
    }

    /// The life of `rank` that agreed.
    pub fn incarnation(&self, rank: Rank) -> Option<u64> {
        let index = self.members.iter().position(|member| member == rank)?;
        self.incarnations.get(index).copied()
    }

    /// Stores the packet; `None` when the store is exhausted.
    pub fn emit<S: Store>(&self, envelope: Envelope, store: &mut S) -> Option<S::Buffer> {
        let len = 12 + 16 + 8 * self.incarnations.len();
        envelope.seal(store, PacketKind::Commit, len, |body| {
            let mut to = Writer::new(body);
            to.ring(self.ring);
            to.set(self.members);
            for &incarnation in self.incarnations.iter() {
                to.u64(incarnation);
            }
            to.end();
        })
    }
}

/// What a daemon brings along from its old ring; the same each time that it is sent for one
/// attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange<'a> {
    /// The ring to be.
    pub ring: RingId,
    /// The ring its sender comes from.
    pub old_ring: RingId,
    /// All packets of the old ring up to here have reached it.
    pub aru: Seq,
    /// All packets up to here have reached everybody of the old ring, as it knows.
    pub safe: Seq,
    /// Daemons whose messages it may have promised to deliver even behind a gap.
    pub obliged: DaemonSet,
    /// Whose exchanges it has received: this is the only field that changes.
    pub seen: DaemonSet,
    /// Packets between the slowest daemon and the newest packet that it can keep, from 1 to
    /// [`RING_WINDOW_PACKETS`].
    pub window: u16,
    /// Packets above `aru` that it has, a bit for each, the lowest for the one behind `aru`.
    pub held: &'a [u8],
}

const _: () = assert!(RING_WINDOW_PACKETS <= u16::MAX as usize);

const EXCHANGE_FIELDS_BYTES: usize = 12 + 12 + 8 + 8 + 16 + 16 + 2 + 2;

// The greatest exchange fits a datagram.
const _: () = assert!(
    HEADER_BYTES + EXCHANGE_FIELDS_BYTES + RING_WINDOW_PACKETS / 8 <= PEER_DATAGRAM_BYTES_MIN
);

impl<'a> Exchange<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (ring, old_ring) = (from.ring()?, from.ring()?);
        let (aru, safe) = (from.seq()?, from.seq()?);
        let (obliged, seen) = (from.set()?, from.set()?);
        let window = from.u16()?;
        let held_bytes = usize::from(from.u16()?);
        let held = from.bytes(held_bytes)?;
        from.end()?;
        // Behind each place that it has there is another one.
        let is_placed = aru.get().checked_add(8 * held_bytes as u64 + 1).is_some();
        let is_map = held_bytes <= RING_WINDOW_PACKETS / 8 && held.last() != Some(&0);
        let is_window = (1..=RING_WINDOW_PACKETS).contains(&usize::from(window));
        if !is_map || !is_window || safe > aru || !is_placed {
            return None;
        }
        Some(Self { ring, old_ring, aru, safe, obliged, seen, window, held })
    }

    /// Stores the packet; `None` when the store is exhausted.
    pub fn emit<S: Store>(&self, envelope: Envelope, store: &mut S) -> Option<S::Buffer> {
        let len = EXCHANGE_FIELDS_BYTES + self.held.len();
        envelope.seal(store, PacketKind::Exchange, len, |body| {
            let mut to = Writer::new(body);
            to.ring(self.ring);
            to.ring(self.old_ring);
            to.seq(self.aru);
            to.seq(self.safe);
            to.set(self.obliged);
            to.set(self.seen);
            to.u16(self.window);
            to.u16(self.held.len() as u16);
            to.bytes(self.held);
            to.end();
        })
    }
}

/// Its sender has all that it needs of its old ring, and will keep what it promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The ring to be.
    pub ring: RingId,
    /// Who has said so, as the sender knows.
    pub seen: DaemonSet,
}

impl Done {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (ring, seen) = (from.ring()?, from.set()?);
        from.end()?;
        Some(Self { ring, seen })
    }

    /// Stores the packet; `None` when the store is exhausted.
    pub fn emit<S: Store>(&self, envelope: Envelope, store: &mut S) -> Option<S::Buffer> {
        envelope.seal(store, PacketKind::Done, 12 + 16, |body| {
            let mut to = Writer::new(body);
            to.ring(self.ring);
            to.set(self.seen);
            to.end();
        })
    }
}
