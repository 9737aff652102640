//! One ring's order as this daemon has it: what it received, what others are known to have, and
//! what was delivered. How the token goes round: `visit.rs` and `idle.rs`.

pub(crate) mod delivery;
pub(crate) mod flow;
pub(crate) mod idle;
pub(crate) mod pace;
pub(crate) mod pack;
pub(crate) mod repair;
pub(crate) mod rotation;
pub(crate) mod visit;
pub(crate) mod window;

use crate::base::{Buffer, Counter, DaemonSet, Rank, RingId, Seq, Store};
use crate::wire::data::Data;
use crate::wire::token::RepairRequest;

use super::context::{Context, Scope};
use super::output::{Kind, Output};
use delivery::{Delivery, Sink, Stop};
use pace::Repeats;
use window::{Inserted, Stored, Window};

/// One ring's order.
pub(crate) struct Ring<B> {
    pub(crate) id: RingId,
    pub(crate) set: DaemonSet,
    /// Packets between the slowest daemon and the newest one that each of its daemons can keep.
    pub(crate) window_packets: u64,
    pub(crate) window: Window<B>,
    pub(crate) delivery: Delivery<B>,
    /// What each daemon of the cluster is known to have without a gap; of interest for `set`.
    arus: Vec<Seq>,
    /// Everybody has everything up to here.
    safe: Seq,
    /// Daemons whose messages this one may have promised to deliver even behind a gap: some that
    /// were with it in an attempt to form a ring may have succeeded without it.
    pub(crate) obliged: DaemonSet,
    /// The last packet in which a safe message ends.
    pub(crate) safe_high: Seq,
    /// Delivery waits for memory.
    pub(crate) is_blocked: bool,
}

impl<B: Buffer> Ring<B> {
    pub(crate) fn new(id: RingId, set: DaemonSet, window_packets: u16, daemons: usize) -> Self {
        Self {
            id,
            set,
            window_packets: u64::from(window_packets),
            window: Window::new(),
            delivery: Delivery::new(daemons),
            arus: vec![Seq::ZERO; daemons],
            safe: Seq::ZERO,
            obliged: DaemonSet::EMPTY,
            safe_high: Seq::ZERO,
            is_blocked: false,
        }
    }

    /// Everybody has everything up to here, as far as is known.
    pub(crate) fn safe(&self) -> Seq {
        self.safe
    }

    /// What `rank` is known to have without a gap.
    pub(crate) fn aru_of(&self, rank: Rank) -> Seq {
        self.arus[rank.index()]
    }

    /// How far each daemon of the ring is behind `seq`, in order.
    pub(crate) fn lags(&self, seq: Seq) -> impl ExactSizeIterator<Item = u32> {
        self.set.iter().map(move |rank| {
            let lag = seq.get().saturating_sub(self.aru_of(rank).get());
            u32::try_from(lag).unwrap_or(u32::MAX)
        })
    }

    /// Whether this daemon is all there is of the ring.
    pub(crate) fn is_alone(&self) -> bool {
        self.set.len() == 1
    }

    /// Whether everybody has everything that was ever sent.
    pub(crate) fn is_stable(&self) -> bool {
        self.window.aru() == self.window.high() && self.safe == self.window.high()
    }

    /// Learns what a daemon of the ring has.
    pub(crate) fn learn_aru(&mut self, rank: Rank, aru: Seq) {
        let known = &mut self.arus[rank.index()];
        if aru <= *known {
            return;
        }
        // Only who was last can have held back the rest.
        let was_last = *known <= self.safe;
        *known = aru;
        if was_last {
            self.learn_slowest();
        }
    }

    /// Learns how far each daemon of the ring is behind `seq`, in order.
    pub(crate) fn learn_lags(&mut self, seq: Seq, lags: impl Iterator<Item = u32>) {
        for (rank, lag) in self.set.iter().zip(lags) {
            let aru = Seq::new(seq.get().saturating_sub(u64::from(lag)));
            let known = &mut self.arus[rank.index()];
            *known = aru.max(*known);
        }
        self.learn_slowest();
    }

    fn learn_slowest(&mut self) {
        let arus = self.set.iter().map(|rank| self.arus[rank.index()]);
        self.learn_safe(arus.min().unwrap_or_default());
    }

    /// Learns what everybody has.
    pub(crate) fn learn_safe(&mut self, safe: Seq) {
        // Nobody but this daemon knows what it has.
        self.safe = self.safe.max(safe.min(self.window.aru()));
    }

    /// Takes a packet of this ring; `true` where it was missing.
    pub(crate) fn receive(&mut self, me: Rank, from: Rank, data: &Data<'_>, bytes: &B) -> bool {
        let header = &data.header;
        let packet = Stored {
            bytes: bytes.clone(),
            origin: from,
            used: data.used() as u16,
            is_safe: data.completes_safe(),
            repeats: Repeats::default(),
        };
        let is_safe = packet.is_safe;
        let is_new = self.window.insert(header.seq, packet) == Inserted::New;
        if is_new {
            self.received(me, header.seq, is_safe);
        }
        is_new
    }

    /// Accounts for a packet that went into the window.
    pub(crate) fn received(&mut self, me: Rank, seq: Seq, is_safe: bool) {
        if is_safe {
            self.safe_high = self.safe_high.max(seq);
        }
        self.learn_aru(me, self.window.aru());
    }

    /// Gives a place to a message that only this daemon has to get.
    pub(crate) fn place_alone(&mut self) -> Seq {
        let seq = self.window.place_alone();
        self.delivery.skip();
        self.safe = seq;
        seq
    }

    /// Delivers what may be delivered in the regular configuration, and lets go of what nobody
    /// needs any more.
    pub(crate) fn deliver<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        let Context { daemons, out, .. } = scope.cx;
        let limit = self.window.aru();
        let mut delivered = 0;
        let mut take = |output: Output<B>| {
            delivered += 1;
            out.outputs.push_back(output);
        };
        let mut sink = Sink { daemons, phase: Kind::Regular, take: &mut take };
        let stop = self.delivery.advance(&self.window, limit, self.safe, &mut sink, scope.store);
        scope.cx.out.tally.add(Counter::MessagesOrdered, delivered);
        self.is_blocked = stop == Stop::Memory;
        self.window.discard(self.safe.min(self.delivery.delivered()));
    }

    /// Repeats packets for one who asks, in whatever state: they may be all that it waits for.
    pub(crate) fn answer<S: Store<Buffer = B>>(
        &self,
        from: Rank,
        request: &RepairRequest<'_>,
        scope: &mut Scope<'_, S>,
    ) {
        let places = repair::places(request.missing.iter().collect(), &self.window);
        for seq in places.take(crate::base::limits::REPAIR_PACKETS_MAX) {
            if let Some(packet) = self.window.get(seq) {
                scope.cx.out.count(Counter::PacketsRepaired);
                scope.cx.send(Some(from), Some(packet.bytes.clone()));
            }
        }
    }
}
