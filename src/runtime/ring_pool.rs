//! The ring core's memory: a pool, and what is kept for times when that is full.
//!
//! Sessions that do not read hold on to what they were sent, and any packet that is kept holds the
//! whole chunk that it lies in. When the pool is full no more is taken, which holds up all daemons.
//! But the ring must stay whole, so tokens and what forms rings have memory of their own, and what
//! is under way must come to its end, or no memory would come back: so has the next packet in
//! order, and what is made of packets for sessions.

use crate::base::limits::{CHUNK_BYTES, RING_RESERVE_BYTES, RING_SPARE_BYTES};
use crate::base::{Buffer, Store};
use crate::mem::pool::{Pool, PoolOptions, Slice};

/// The pool of the ring core, with its reserves.
pub(super) struct RingPool {
    pool: Pool,
    /// For what has to be delivered.
    spare: Pool,
    /// For what daemons tell each other.
    reserve: Pool,
    /// The pool had no room since this was asked.
    lacks: bool,
}

// While one chunk is in use another one can be filled.
const _: () = assert!(RING_RESERVE_BYTES >= 2 * CHUNK_BYTES && RING_SPARE_BYTES >= 2 * CHUNK_BYTES);

impl RingPool {
    pub(super) fn new(bytes_max: usize) -> Self {
        let pool = |bytes_max| Pool::new(PoolOptions { bytes_max });
        let (spare, reserve) = (pool(RING_SPARE_BYTES), pool(RING_RESERVE_BYTES));
        Self { pool: pool(bytes_max), spare, reserve, lacks: false }
    }

    /// Whether the pool had no room for something since the last call.
    pub(super) fn take_lack(&mut self) -> bool {
        std::mem::take(&mut self.lacks)
    }

    /// Stores packets that came together, if there is room.
    pub(super) fn store_batch(&mut self, bytes: &[u8]) -> Option<Slice> {
        self.store_if_ample(bytes.len(), |into| into.copy_from_slice(bytes))
    }

    /// Stores one packet that is no data.
    pub(super) fn store_brief_packet(&mut self, packet: &[u8]) -> Option<Slice> {
        self.store_brief(packet.len(), |into| into.copy_from_slice(packet))
    }
}

/// Stores in the first of them that has room.
fn first_of(
    pools: [&mut Pool; 2],
    len: usize,
    fill: impl FnOnce(&mut [u8]),
    lacks: &mut bool,
) -> Option<Slice> {
    // Called once: by the one that stores.
    let mut fill = Some(fill);
    let mut fill = |into: &mut [u8]| fill.take().expect("stored once")(into);
    let [pool, other] = pools;
    let stored = pool.store(len, &mut fill);
    *lacks |= stored.is_none();
    stored.or_else(|| other.store(len, &mut fill))
}

impl Store for RingPool {
    type Buffer = Slice;

    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Slice> {
        first_of([&mut self.pool, &mut self.spare], len, fill, &mut self.lacks)
    }

    fn store_brief(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Slice> {
        first_of([&mut self.pool, &mut self.reserve], len, fill, &mut self.lacks)
    }

    fn store_if_ample(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Slice> {
        let stored = self.pool.store(len, fill);
        self.lacks |= stored.is_none();
        stored
    }
}

/// The packets of a batch of which each but the last has `segment` bytes.
pub(super) fn split(batch: Slice, segment: usize, mut each: impl FnMut(Slice)) {
    let mut rest = batch;
    while segment > 0 && rest.len() > segment {
        let mut packet = rest.clone();
        packet.truncate(segment);
        rest.advance(segment);
        each(packet);
    }
    each(rest);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rank;
    use crate::wire::header::{Envelope, PacketKind};

    fn full() -> (RingPool, Vec<Slice>) {
        let mut pool = RingPool::new(4 * CHUNK_BYTES);
        let held = std::iter::from_fn(|| pool.store_batch(&[1; CHUNK_BYTES / 2]));
        let held: Vec<Slice> = held.collect();
        assert_eq!(held.len(), 8);
        assert!(pool.take_lack() && !pool.take_lack());
        (pool, held)
    }

    fn filled(mut store: impl FnMut() -> Option<Slice>) -> Vec<Slice> {
        std::iter::from_fn(&mut store).collect()
    }

    #[test]
    fn of_what_daemons_send_only_data_needs_the_pool() {
        let (mut pool, held) = full();
        let envelope = Envelope { cluster: 7, sender: Rank::new(0).unwrap() };
        let seal = |pool: &mut RingPool, kind| envelope.seal(pool, kind, 100, |into| into.fill(0));
        // Again and again, as what is brief is let go of.
        for _ in 0..1_000 {
            for kind in PacketKind::ALL {
                assert_eq!(seal(&mut pool, kind).is_none(), kind == PacketKind::Data, "{kind:?}");
            }
        }
        assert!(pool.take_lack());
        drop(held);
        assert!(seal(&mut pool, PacketKind::Data).is_some());
        assert!(!pool.take_lack());
    }

    #[test]
    fn what_sessions_hold_takes_nothing_from_the_ring() {
        let (mut pool, _held) = full();
        let views = filled(|| pool.copy(&[2; 1_000]));
        assert!((500..=RING_SPARE_BYTES / 1_000).contains(&views.len()), "{}", views.len());
        let tokens = filled(|| pool.store_brief_packet(&[3; 1_000]));
        assert!((500..=RING_RESERVE_BYTES / 1_000).contains(&tokens.len()), "{}", tokens.len());
        assert!(views.iter().all(|view| **view == [2; 1_000]));
    }
}
