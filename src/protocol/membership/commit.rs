//! Commit: the set of daemons is agreed on, and each tells all others what it has of its old ring.
//!
//! Totem sends a commit token round the ring twice for this; ours multicast at once, so that it
//! takes one trip however many daemons there are.

use crate::base::{Buffer, DaemonSet, Instant, Rank, RingId, Seq, Store};
use crate::wire::commit::{self, Exchange};
use crate::wire::join::Join;

use super::super::context::{Context, Scope};
use super::super::ring::Ring;
use super::Next;
use super::gather::Gather;

/// After so many failure timeouts without progress an attempt is given up.
const STUCK_FACTOR: u32 = 2;

/// What one daemon brings along from its old ring.
#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) old_ring: RingId,
    pub(crate) aru: Seq,
    pub(crate) safe: Seq,
    pub(crate) obliged: DaemonSet,
    /// Packets of the new ring that it can keep.
    pub(crate) window: u16,
    /// Packets above `aru`, a bit for each.
    pub(crate) held: Vec<u8>,
}

impl Info {
    pub(crate) fn new(exchange: &Exchange<'_>) -> Self {
        Self {
            old_ring: exchange.old_ring,
            aru: exchange.aru,
            safe: exchange.safe,
            obliged: exchange.obliged,
            window: exchange.window,
            held: exchange.held.to_vec(),
        }
    }

    /// Whether the daemon has received the packet at `seq` of its old ring.
    pub(crate) fn has(&self, seq: Seq) -> bool {
        let Some(bit) = seq.get().checked_sub(self.aru.get() + 1) else { return true };
        let byte = usize::try_from(bit / 8).ok().and_then(|byte| self.held.get(byte));
        byte.is_some_and(|byte| byte >> (bit % 8) & 1 != 0)
    }

    /// The last packet that it has.
    pub(crate) fn high(&self) -> Seq {
        let bits = match self.held.last() {
            Some(last) => self.held.len() as u64 * 8 - u64::from(last.leading_zeros()),
            None => 0,
        };
        Seq::new(self.aru.get() + bits)
    }
}

/// An attempt to form a ring, as far as it has come.
pub(crate) struct Attempt {
    pub(crate) commit: commit::Commit,
    /// What each daemon brings along, by rank.
    infos: Vec<Option<Info>>,
    /// Whose is known.
    pub(crate) seen: DaemonSet,
    /// Who has all it needs.
    pub(crate) done: DaemonSet,
    began: Instant,
    progress_at: Instant,
    pub(crate) said_at: Instant,
}

impl Attempt {
    fn new(commit: commit::Commit, daemons: usize, now: Instant) -> Self {
        Self {
            commit,
            infos: vec![None; daemons],
            seen: DaemonSet::EMPTY,
            done: DaemonSet::EMPTY,
            began: now,
            progress_at: now,
            said_at: now,
        }
    }

    pub(crate) fn ring(&self) -> RingId {
        self.commit.ring
    }

    pub(crate) fn members(&self) -> DaemonSet {
        self.commit.members
    }

    pub(crate) fn info(&self, rank: Rank) -> Option<&Info> {
        self.infos[rank.index()].as_ref()
    }

    /// The window of the new ring: no more than any of its daemons can keep.
    pub(crate) fn window(&self) -> u16 {
        let windows = self.infos.iter().flatten().map(|info| info.window);
        windows.min().expect("every daemon knows what it brings along itself")
    }

    fn learn(&mut self, rank: Rank, info: Info, now: Instant) {
        // The first word of a daemon counts: all others base their plans on it.
        let known = &mut self.infos[rank.index()];
        if known.is_none() {
            *known = Some(info);
            self.seen.insert(rank);
            self.progress_at = now;
        }
    }

    /// Others say who has all it needs.
    pub(crate) fn learn_done(&mut self, done: DaemonSet, now: Instant) {
        let done = self.done.union(done.intersection(self.members()));
        if done != self.done {
            self.done = done;
            self.progress_at = now;
        }
    }

    /// Something was received that the attempt needs.
    pub(crate) fn progress(&mut self, now: Instant) {
        self.progress_at = now;
    }

    /// Sends what `me` brings along, to everybody or to one who missed it.
    pub(crate) fn say<S: Store>(&mut self, to: Option<Rank>, scope: &mut Scope<'_, S>) {
        let Some(info) = &self.infos[scope.cx.me.index()] else { return };
        let exchange = Exchange {
            ring: self.commit.ring,
            old_ring: info.old_ring,
            aru: info.aru,
            safe: info.safe,
            obliged: info.obliged,
            seen: self.seen,
            window: info.window,
            held: &info.held,
        };
        let packet = exchange.emit(scope.cx.envelope, scope.store);
        scope.cx.send(to, packet);
        if to.is_none() {
            self.said_at = scope.now;
        }
    }

    /// What another daemon brings along.
    pub(crate) fn on_exchange<S: Store>(
        &mut self,
        from: Rank,
        exchange: &Exchange<'_>,
        scope: &mut Scope<'_, S>,
    ) {
        scope.cx.alive(scope.now, from);
        self.learn(from, Info::new(exchange), scope.now);
        // At the beginning nobody has seen anything, and all speak at once.
        let is_late = scope.now.since(self.said_at) >= scope.cx.timing.spacing;
        if !exchange.seen.contains(scope.cx.me) && is_late {
            self.say(Some(from), scope);
        }
    }

    /// A daemon of the attempt looks for a ring again, or still.
    pub(crate) fn on_join<S: Store>(
        &self,
        from: Rank,
        join: &Join,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        use crate::base::event::GatherReason::Left;
        if !self.members().contains(from) {
            // It can be merged once this is over.
            return Next::Stay;
        }
        let left = Next::Gather(Left(scope.cx.id(from)));
        let contact = &join.contact;
        if self.commit.incarnation(from) != Some(contact.incarnation)
            || contact.number_max >= self.ring().number
        {
            return left;
        }
        if self.seen.contains(from) {
            // It was said before the daemon took part.
            return Next::Stay;
        }
        if join.proposal != self.members() {
            return left;
        }
        if self.members().first() == Some(scope.cx.me) {
            let packet = self.commit.emit(scope.cx.envelope, scope.store);
            scope.cx.send(Some(from), packet);
        }
        Next::Stay
    }

    /// When to look whether everybody is still there.
    pub(crate) fn deadline<B: Buffer>(&self, cx: &Context<B>) -> Instant {
        self.said_at + cx.timing.repeat
    }

    /// Whether the attempt has to be given up: somebody fell silent, or nothing moves although
    /// everybody is there. `waits_for` are those who hold it up.
    pub(crate) fn check<B: Buffer>(
        &self,
        waits_for: DaemonSet,
        cx: &mut Context<B>,
        now: Instant,
    ) -> Next {
        use crate::base::event::GatherReason::Stuck;
        let failure = cx.timing.failure;
        let others = self.members().without(DaemonSet::only(cx.me));
        let is_silent = |rank: Rank| {
            let heard_at = cx.links.heard_at(rank).unwrap_or(self.began).max(self.began);
            now.since(heard_at) >= failure
        };
        let silent: DaemonSet = others.iter().filter(|&rank| is_silent(rank)).collect();
        if !silent.is_empty() {
            silent.iter().for_each(|rank| cx.links.lost(rank));
            return Next::Gather(Stuck);
        }
        if now.since(self.progress_at) >= failure * STUCK_FACTOR {
            for rank in waits_for.intersection(others).iter() {
                cx.links.distrust(now, rank, failure);
            }
            return Next::Gather(Stuck);
        }
        Next::Stay
    }
}

/// The state of a daemon that learns what the others bring along.
pub(crate) struct Commit<B> {
    pub(crate) old: Ring<B>,
    pub(crate) attempt: Attempt,
}

impl<B: Buffer> Commit<B> {
    pub(crate) fn new<S: Store<Buffer = B>>(
        gather: Gather<B>,
        commit: commit::Commit,
        scope: &mut Scope<'_, S>,
    ) -> Self {
        let (old, early) = (gather.old, gather.early);
        scope.cx.number_max = commit.ring.number;
        let mut attempt = Attempt::new(commit, scope.cx.daemons.len(), scope.now);
        for (index, early) in early.into_iter().enumerate() {
            if let (Some(rank), Some((ring, info))) = (Rank::new(index), early)
                && ring == commit.ring
                && commit.members.contains(rank)
            {
                attempt.learn(rank, info, scope.now);
            }
        }
        let mine = Info {
            old_ring: old.id,
            aru: old.window.aru(),
            safe: old.safe(),
            obliged: old.obliged,
            window: scope.cx.window(),
            held: old.window.map(),
        };
        attempt.learn(scope.cx.me, mine, scope.now);
        if commit.members.first() == Some(scope.cx.me) && commit.members.len() > 1 {
            let packet = commit.emit(scope.cx.envelope, scope.store);
            scope.cx.send(None, packet);
        }
        if commit.members.len() > 1 {
            attempt.say(None, scope);
        }
        Self { old, attempt }
    }

    /// Whether everybody's part is known.
    pub(crate) fn conclude(&self) -> Next {
        if self.attempt.seen == self.attempt.members() { Next::Recover } else { Next::Stay }
    }

    pub(crate) fn on_timeout<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) -> Next {
        let waits_for = self.attempt.members().without(self.attempt.seen);
        let next = self.attempt.check(waits_for, scope.cx, scope.now);
        if matches!(next, Next::Stay) && scope.now >= self.attempt.deadline(scope.cx) {
            self.attempt.say(None, scope);
        }
        next
    }
}
