//! Operational: the ring works. What ends that is decided here: a daemon lost, or one found.

use std::time::Duration;

use crate::base::event::GatherReason;
use crate::base::limits::DAEMONS_MAX;
use crate::base::{Buffer, DaemonSet, Instant, Rank, Store};
use crate::wire::commit::Done;
use crate::wire::join::Contact;
use crate::wire::list::List;

use super::super::context::{Context, Scope};
use super::super::ring::Ring;
use super::super::ring::rotation::Rotation;
use super::super::timer::earlier;
use super::Next;
use super::merge_detect::could_merge;

/// The state of a daemon whose ring works.
pub(crate) struct Operational<B> {
    pub(crate) rotation: Rotation<B>,
    /// The life of each daemon of the ring, in order. Of a ring of one, nothing.
    incarnations: List<u64, DAEMONS_MAX>,
    shown_at: Option<Instant>,
    /// Whom this daemon then said to hear.
    shown: DaemonSet,
    /// When this daemon is the one of its ring that shows itself to those who are not heard.
    turn_at: Option<Instant>,
    /// When it last looked whether the next daemon is there.
    probed_at: Instant,
    /// Somebody should know sooner that it is heard.
    is_asked: bool,
    /// The first in whose place another one is, or that could be merged: seen by the clock.
    found: Option<Rank>,
}

impl<B: Buffer> Operational<B> {
    pub(crate) fn new(
        ring: Ring<B>,
        incarnations: List<u64, DAEMONS_MAX>,
        cx: &Context<B>,
        now: Instant,
    ) -> Self {
        let rotation = Rotation::new(ring, cx, now);
        Self {
            rotation,
            incarnations,
            shown_at: None,
            shown: DaemonSet::EMPTY,
            turn_at: Some(Instant::ZERO),
            probed_at: now,
            is_asked: false,
            found: None,
        }
    }

    pub(crate) fn ring(&self) -> &Ring<B> {
        &self.rotation.ring
    }

    fn incarnation(&self, rank: Rank) -> Option<u64> {
        let index = self.ring().set.iter().position(|member| member == rank)?;
        self.incarnations.get(index).copied()
    }

    /// A daemon says of itself where it is. Joins and presence are looked at alike.
    pub(crate) fn on_contact<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        contact: &Contact,
        looks: bool,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        let ring = self.ring();
        if ring.set.contains(from) {
            let is_same_life = self.incarnation(from) == Some(contact.incarnation);
            // Said before it came into this ring.
            let is_old = is_same_life && contact.number_max < ring.id.number;
            let is_here = is_same_life && contact.ring == ring.id && !looks;
            if is_here {
                self.take_turn(from, scope.cx, scope.now);
            }
            return match is_old || is_here {
                true => Next::Stay,
                false => Next::Gather(GatherReason::Left(scope.cx.id(from))),
            };
        }
        if self.could_merge(from, scope.cx, scope.now) {
            return self.gather_with(from, scope.cx);
        }
        // Where either does not know that it is heard, the others have to see it too.
        self.is_asked |= !contact.heard.contains(scope.cx.me) || !self.shown.contains(from);
        Next::Stay
    }

    /// Whether to gather with a daemon outside. Not before all others are at work in this ring:
    /// they would come from the one before it, each on its own.
    fn could_merge(&self, foreign: Rank, cx: &Context<B>, now: Instant) -> bool {
        self.rotation.is_under_way()
            && could_merge(&cx.links, cx.me, self.ring().set, foreign, now, cx.timing.failure)
    }

    fn gather_with(&mut self, foreign: Rank, cx: &Context<B>) -> Next {
        self.found = Some(foreign);
        Next::Gather(GatherReason::Found(cx.id(foreign)))
    }

    /// A daemon that is still recovering asks whether all others are done.
    pub(crate) fn on_done<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        done: &Done,
        scope: &mut Scope<'_, S>,
    ) {
        let (ring, set) = (self.ring().id, self.ring().set);
        if !done.seen.contains_all(set) {
            let packet = Done { ring, seen: set }.emit(scope.cx.envelope, scope.store);
            scope.cx.send(Some(from), packet);
        }
    }

    /// Whom to wait for when this daemon leaves its ring.
    pub(crate) fn expected(&self, cx: &Context<B>, now: Instant) -> DaemonSet {
        let found = self.found.and_then(|rank| cx.links.contact(now, cx.timing.hearing, rank));
        let foreign = found.map_or(DaemonSet::EMPTY, |contact| contact.members);
        self.found.into_iter().fold(self.ring().set.union(foreign), DaemonSet::with)
    }

    fn show_at(&self, cx: &Context<B>) -> Option<Instant> {
        if !self.rotation.is_under_way() {
            return None;
        }
        let wait = match self.is_asked {
            true => cx.timing.spacing,
            // There is nobody else to be found.
            false if self.ring().set == cx.links.others().with(cx.me) => return None,
            false if self.ring().set.contains_all(self.shown) => return self.turn_at,
            false => cx.timing.presence,
        };
        Some(self.shown_at.map_or(Instant::ZERO, |shown_at| shown_at + wait))
    }

    /// A daemon of the ring has shown itself: after it, the others do in turn.
    fn take_turn(&mut self, shown: Rank, cx: &Context<B>, now: Instant) {
        let (mut rank, mut turns) = (shown, 0);
        while let Some(next) = self.ring().set.successor(rank) {
            (rank, turns) = (next, turns + 1);
            if rank == cx.me {
                break;
            }
        }
        self.turn_at = Some(now + cx.timing.search * turns);
    }

    /// When to look whether the next daemon is there: a token that rests goes on a tour sooner, so
    /// one that gives no sign may be with a process that is no more. Where nothing listens, the
    /// answer to a datagram says so.
    fn probe_at(&self, cx: &Context<B>) -> Option<Instant> {
        let (silent_since, expected) = self.rotation.silent_since(cx)?;
        Some(silent_since.max(self.probed_at) + expected * 5 / 4)
    }

    pub(crate) fn deadline(&self, cx: &Context<B>) -> Option<Instant> {
        let shows = earlier(self.show_at(cx), self.probe_at(cx));
        earlier(self.rotation.deadline(cx), shows)
    }

    pub(crate) fn on_timeout<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) -> Next {
        if self.rotation.is_lost(scope.cx, scope.now) {
            if let Some(suspect) = self.rotation.suspect() {
                let first: Duration = scope.cx.timing.failure;
                scope.cx.links.distrust(scope.now, suspect, first);
            }
            return Next::Gather(GatherReason::TokenLost);
        }
        self.rotation.on_timeout(scope);
        if self.probe_at(scope.cx).is_some_and(|at| at <= scope.now) {
            self.probed_at = scope.now;
            let next = self.ring().set.successor(scope.cx.me);
            self.show(next, scope);
            self.rotation.seek(scope);
        }
        if self.show_at(scope.cx).is_some_and(|at| at <= scope.now) {
            self.shown_at = Some(scope.now);
            self.is_asked = false;
            self.take_turn(scope.cx.me, scope.cx, scope.now);
            self.show(None, scope);
            let heard = scope.cx.links.heard(scope.now, scope.cx.timing.hearing);
            let foreign = heard.without(self.ring().set);
            let mut candidates = foreign.iter();
            let found = candidates.find(|&rank| self.could_merge(rank, scope.cx, scope.now));
            if let Some(rank) = found {
                return self.gather_with(rank, scope.cx);
            }
        }
        Next::Stay
    }

    /// Shows that this daemon is here, in which ring, and whom it hears: one other, or all.
    pub(super) fn show<S: Store<Buffer = B>>(
        &mut self,
        to: Option<Rank>,
        scope: &mut Scope<'_, S>,
    ) {
        let heard = scope.cx.links.heard(scope.now, scope.cx.timing.hearing);
        let contact = scope.cx.contact(&self.rotation.ring, heard);
        let packet = contact.emit(scope.cx.envelope, scope.store);
        scope.cx.send(to, packet);
        if to.is_none() {
            self.shown = heard;
        }
    }
}
