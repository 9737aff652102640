//! The receive window: packets of one ring from the oldest that somebody may miss to the newest.
//! When their messages are delivered: `delivery.rs`.

use std::collections::VecDeque;

use crate::base::limits::RING_WINDOW_PACKETS;
use crate::base::{Buffer, Rank, Seq};
use crate::wire::token::{Ranges, SeqRange};

use super::pace::Repeats;

/// Slots of a window. Senders keep within one window of the slowest daemon's aru, and what is
/// received may wait for memory to be delivered for another one.
const SLOTS_MAX: usize = 2 * RING_WINDOW_PACKETS;

/// A packet as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct Stored<B> {
    /// The whole datagram, to be sent again as it is.
    pub(crate) bytes: B,
    /// Whose messages are in it.
    pub(crate) origin: Rank,
    /// Bytes of its parts.
    pub(crate) used: u16,
    /// Whether a safe message ends in it.
    pub(crate) is_safe: bool,
    /// How often this daemon repeated it.
    pub(crate) repeats: Repeats,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It was missing.
    New,
    /// It was there already, or everybody has it.
    Known,
    /// It is further ahead than any sender may be, or than there is room for.
    Beyond,
}

/// Packets of one ring.
pub(crate) struct Window<B> {
    /// The packet behind `base` first.
    slots: VecDeque<Option<Stored<B>>>,
    /// Packets up to here are not kept any more.
    base: Seq,
    /// Everything up to here was received.
    aru: Seq,
    /// The last place that was given away, as far as is known.
    high: Seq,
    /// Bytes of all packets.
    retained: usize,
}

impl<B: Buffer> Window<B> {
    pub(crate) fn new() -> Self {
        let (base, aru, high) = (Seq::ZERO, Seq::ZERO, Seq::ZERO);
        Self { slots: VecDeque::new(), base, aru, high, retained: 0 }
    }

    pub(crate) fn base(&self) -> Seq {
        self.base
    }

    pub(crate) fn aru(&self) -> Seq {
        self.aru
    }

    pub(crate) fn high(&self) -> Seq {
        self.high
    }

    pub(crate) fn retained(&self) -> usize {
        self.retained
    }

    fn slot(&self, seq: Seq) -> Option<usize> {
        seq.get().checked_sub(self.base.get() + 1).map(|slot| slot as usize)
    }

    /// The packet at `seq`, where it is kept.
    pub(crate) fn get(&self, seq: Seq) -> Option<&Stored<B>> {
        self.slots.get(self.slot(seq)?)?.as_ref()
    }

    /// As [`Window::get`], to count that it is repeated.
    pub(crate) fn get_mut(&mut self, seq: Seq) -> Option<&mut Stored<B>> {
        let slot = self.slot(seq)?;
        self.slots.get_mut(slot)?.as_mut()
    }

    /// Whether the packet at `seq` was received, even if it is not kept any more.
    pub(crate) fn has(&self, seq: Seq) -> bool {
        seq <= self.aru || self.get(seq).is_some()
    }

    /// The last place that may have been given away: senders keep within one window of the
    /// slowest daemon, and this one may be the slowest.
    pub(crate) fn limit(&self) -> Seq {
        Seq::new(self.aru.get().saturating_add(RING_WINDOW_PACKETS as u64))
    }

    /// Learns that places up to `seq` were given away.
    pub(crate) fn raise_high(&mut self, seq: Seq) {
        self.high = self.high.max(seq);
    }

    pub(crate) fn insert(&mut self, seq: Seq, packet: Stored<B>) -> Inserted {
        if self.has(seq) {
            return Inserted::Known;
        }
        let slot = self.slot(seq).filter(|&slot| slot < SLOTS_MAX && seq <= self.limit());
        let Some(slot) = slot else { return Inserted::Beyond };
        self.retained += packet.bytes.as_ref().len();
        if slot < self.slots.len() {
            self.slots[slot] = Some(packet);
        } else {
            // Most often none is missing in between.
            while self.slots.len() < slot {
                self.slots.push_back(None);
            }
            self.slots.push_back(Some(packet));
        }
        self.raise_high(seq);
        while self.get(self.aru.next()).is_some() {
            self.aru = self.aru.next();
        }
        Inserted::New
    }

    /// Gives a place away that needs no packet, because nobody else is there to get one.
    pub(crate) fn place_alone(&mut self) -> Seq {
        assert!(self.slots.is_empty() && self.aru == self.high);
        let seq = self.high.next();
        (self.base, self.aru, self.high) = (seq, seq, seq);
        seq
    }

    /// Keeps packets up to `seq` no longer.
    pub(crate) fn discard(&mut self, seq: Seq) {
        assert!(seq <= self.aru, "what was not received cannot be discarded");
        while self.base < seq {
            let packet = self.slots.pop_front().expect("received packets have slots");
            self.retained -= packet.map_or(0, |packet| packet.bytes.as_ref().len());
            self.base = self.base.next();
        }
    }

    /// Places up to `limit` whose packets were not received, in order.
    pub(crate) fn missing(&self, limit: Seq) -> impl Iterator<Item = Seq> {
        let limit = limit.min(self.high).get();
        (self.aru.get() + 1..=limit).map(Seq::new).filter(|&seq| self.get(seq).is_none())
    }

    /// A map of what was received above the aru: a bit for each place, the lowest for the first.
    /// It ends with the last packet.
    pub(crate) fn map(&self) -> Vec<u8> {
        let mut map = Vec::new();
        let first = self.aru.get() + 1;
        for place in first..=self.high.get() {
            if self.get(Seq::new(place)).is_some() {
                let bit = (place - first) as usize;
                map.resize(bit / 8 + 1, 0);
                map[bit / 8] |= 1 << (bit % 8);
            }
        }
        assert!(map.len() <= RING_WINDOW_PACKETS / 8, "senders keep within the window");
        map
    }
}

/// Adds `seq` to `ranges`, which are in order up to here; returns whether there was room.
#[must_use]
pub(crate) fn push_seq(ranges: &mut Ranges, seq: Seq) -> bool {
    if let Some(last) = ranges.as_mut_slice().last_mut()
        && last.start.get() + u64::from(last.len) == seq.get()
    {
        last.len += 1;
        return true;
    }
    ranges.push(SeqRange { start: seq, len: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Store;
    use crate::base::buffer::{Heap, HeapBuffer};

    fn packet() -> Stored<HeapBuffer> {
        let bytes = Heap.copy(b"four").unwrap();
        let (origin, repeats) = (Rank::new(0).unwrap(), Repeats::default());
        Stored { bytes, origin, used: 0, is_safe: false, repeats }
    }

    fn window(received: &[u64]) -> Window<HeapBuffer> {
        let mut window = Window::new();
        for &seq in received {
            assert_eq!(window.insert(Seq::new(seq), packet()), Inserted::New);
        }
        window
    }

    #[test]
    fn aru_stops_at_the_first_gap_and_jumps_when_it_is_filled() {
        let mut window = window(&[1, 2, 4, 5, 7]);
        assert_eq!((window.aru(), window.high()), (Seq::new(2), Seq::new(7)));
        assert_eq!(window.missing(Seq::new(9)).map(Seq::get).collect::<Vec<_>>(), [3, 6]);
        assert_eq!(window.insert(Seq::new(3), packet()), Inserted::New);
        assert_eq!(window.insert(Seq::new(3), packet()), Inserted::Known);
        assert_eq!(window.aru(), Seq::new(5));
    }

    #[test]
    fn what_is_discarded_counts_as_received() {
        let mut window = window(&[1, 2, 3]);
        window.discard(Seq::new(2));
        assert!(window.has(Seq::new(1)) && window.get(Seq::new(1)).is_none());
        assert_eq!(window.insert(Seq::new(2), packet()), Inserted::Known);
        assert_eq!(window.retained(), 4);
    }

    #[test]
    fn nobody_makes_the_window_grow_without_bound() {
        let mut window = window(&[]);
        assert_eq!(window.insert(Seq::new(u64::MAX), packet()), Inserted::Beyond);
        let limit = window.limit();
        assert_eq!(window.insert(limit.next(), packet()), Inserted::Beyond);
        assert_eq!(window.insert(limit, packet()), Inserted::New);
        // Nothing is let go of.
        for seq in 1..=SLOTS_MAX as u64 {
            assert_ne!(window.insert(Seq::new(seq), packet()), Inserted::Beyond);
        }
        assert_eq!(window.insert(Seq::new(SLOTS_MAX as u64 + 1), packet()), Inserted::Beyond);
    }

    #[test]
    fn the_map_says_what_is_above_the_aru() {
        let map = window(&[1, 3, 5, 12]).map();
        assert_eq!(map, [0b0000_1010, 0b0000_0100]);
        assert!(window(&[1, 2]).map().is_empty());
    }

    #[test]
    fn neighbours_become_one_range() {
        let mut ranges = Ranges::default();
        for seq in [3, 4, 5, 9] {
            assert!(push_seq(&mut ranges, Seq::new(seq)));
        }
        assert_eq!(
            ranges.iter().map(|r| (r.start.get(), r.len)).collect::<Vec<_>>(),
            [(3, 3), (9, 1)]
        );
    }
}
