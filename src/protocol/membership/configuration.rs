//! From one ring to the next: what is delivered of the old one, and on which side of the
//! transitional configuration.
//!
//! Totem's rules, with what Extended Virtual Synchrony asks for: those who move together deliver
//! the same set of messages, the same part of it in the regular configuration; a safe message that
//! not everybody is known to have comes only in the transitional one; behind a gap only messages
//! of those who move along are delivered, or of those who may have moved along without us knowing.

use crate::base::{Buffer, DaemonId, DaemonSet, RingId, Seq, Store};

use super::super::output::{Kind, Output, ids};
use super::super::ring::Ring;
use super::super::ring::delivery::{Sink, Stop};
use super::super::ring::window::Window;
use super::commit::Attempt;

/// What those who move together from one ring agree on: each computes it from the same exchanges.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Those who move together.
    pub(crate) movers: DaemonSet,
    /// Whose messages are delivered even behind a gap.
    pub(crate) obliged: DaemonSet,
    /// Everybody of the old ring had everything up to here.
    safe: Seq,
    /// Somebody has everything up to here.
    aru: Seq,
    /// Packets above `aru` that somebody has, a bit for each.
    above: Vec<u8>,
    high: Seq,
}

impl Plan {
    pub(crate) fn new(attempt: &Attempt, old_ring: RingId) -> Self {
        let together = || {
            let all = attempt.members().iter().filter_map(|rank| Some((rank, attempt.info(rank)?)));
            all.filter(|(_, info)| info.old_ring == old_ring)
        };
        let movers: DaemonSet = together().map(|(rank, _)| rank).collect();
        let obliged = together().fold(movers, |all, (_, info)| all.union(info.obliged));
        let safe = together().map(|(_, info)| info.safe).max().unwrap_or_default();
        let aru = together().map(|(_, info)| info.aru).max().unwrap_or_default();
        let high = together().map(|(_, info)| info.high()).max().unwrap_or_default();
        let places = high.get() - aru.get();
        let mut above = vec![0; places.div_ceil(8) as usize];
        for bit in 0..places {
            let seq = Seq::new(aru.get() + 1 + bit);
            if together().any(|(_, info)| info.has(seq)) {
                above[(bit / 8) as usize] |= 1 << (bit % 8);
            }
        }
        Self { movers, obliged, safe, aru, above, high }
    }

    /// Whether somebody has the packet at `seq`.
    fn contains(&self, seq: Seq) -> bool {
        let Some(bit) = seq.get().checked_sub(self.aru.get() + 1) else { return true };
        self.above.get((bit / 8) as usize).is_some_and(|byte| byte >> (bit % 8) & 1 != 0)
    }

    /// Packets that somebody has and `window` lacks.
    pub(crate) fn missing<B: Buffer>(&self, window: &Window<B>) -> impl Iterator<Item = Seq> {
        let places = (window.aru().get() + 1..=self.high.get()).map(Seq::new);
        places.filter(|&seq| self.contains(seq) && !window.has(seq))
    }
}

/// Everything that is delivered of the old ring before `next` is installed, with its transitional
/// configuration.
///
/// `None` when memory for a message in parts is lacking.
pub(crate) fn stage<S: Store>(
    old: &Ring<S::Buffer>,
    next: RingId,
    plan: &Plan,
    daemons: &[DaemonId],
    store: &mut S,
) -> Option<Vec<Output<S::Buffer>>> {
    let mut staged = Vec::new();
    // The attempt may fail: the ring keeps its own account until it succeeds.
    let mut delivery = old.delivery.clone();
    let mut unbroken = delivery.delivered();
    while unbroken < plan.high && plan.contains(unbroken.next()) {
        unbroken = unbroken.next();
    }
    let mut take = |output| staged.push(output);
    let mut sink = Sink { daemons, phase: Kind::Regular, take: &mut take };
    match delivery.advance(&old.window, unbroken, plan.safe, &mut sink, store) {
        Stop::Memory => return None,
        Stop::Gap | Stop::Unsafe => {}
    }
    let members = ids(daemons, plan.movers);
    let (kind, ring, from) = (Kind::Transitional, next, old.id);
    (sink.take)(Output::Configuration { kind, ring, members, from });
    sink.phase = Kind::Transitional;
    while delivery.delivered() < plan.high {
        let seq = delivery.delivered().next();
        let packet = old.window.get(seq).filter(|_| plan.contains(seq));
        let counts = |origin| seq <= unbroken || plan.obliged.contains(origin);
        if let Some(packet) = packet.filter(|packet| counts(packet.origin))
            && delivery.packet(seq, packet, true, &mut sink, store).is_some()
        {
            return None;
        }
        delivery.skip();
    }
    Some(staged)
}
