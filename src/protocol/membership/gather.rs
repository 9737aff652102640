//! Gather: daemons that look for a ring tell each other whom they hear, until a set of daemons in
//! which everybody hears everybody agrees that it is one.
//!
//! Totem's joins carry whom a daemon has heard of and whom it has given up; ours carry whom it
//! hears, so that each daemon can see for itself which links work both ways, and one-way links
//! end in a stable split instead of rings that come and go.

use std::time::Duration;

use crate::base::{Buffer, Counter, DaemonSet, Instant, Rank, RingId, Store};
use crate::wire::commit::Commit;
use crate::wire::join::Join;
use crate::wire::list::List;

use super::super::context::{Context, Scope};
use super::super::ring::Ring;
use super::super::timer::earlier;
use super::Next;
use super::commit::Info;

/// After so many failure timeouts nobody is waited for any more.
const WAIT_FACTOR: u32 = 2;

/// One failure timeout divided by this is waited for an answer before a daemon goes on alone.
const ANSWER_SHARE: u32 = 8;

/// After so many, those who propose a ring without this daemon are left to it.
const YIELD_FACTOR: u32 = 3;

/// After so many, this daemon goes on alone, and tries to merge from there.
const ALONE_FACTOR: u32 = 5;

#[derive(Clone, Copy, Debug)]
struct Heard {
    join: Join,
    first_at: Instant,
    at: Instant,
}

/// The state of a daemon that looks for a ring.
pub(crate) struct Gather<B> {
    pub(crate) old: Ring<B>,
    began: Instant,
    /// Whom it waits for, as they were there a moment ago.
    expected: DaemonSet,
    /// Until then nothing was to be heard from the daemons of the old ring: it rested.
    excused_until: Instant,
    /// Joins of this gathering, by rank.
    joins: Vec<Option<Heard>>,
    /// Joins came in since then that were not looked at.
    unseen_since: Option<Instant>,
    joined: DaemonSet,
    /// Whom it hears in whatever state.
    heard: DaemonSet,
    proposal: DaemonSet,
    settled: bool,
    /// What was said last is out of date.
    has_news: bool,
    said_at: Option<Instant>,
    /// When there is no news it is said again after so long.
    repeat: Duration,
    /// When somebody need not be waited for any longer.
    waits_until: Option<Instant>,
    /// Exchanges that overtook their commit, by rank.
    pub(crate) early: Vec<Option<(RingId, Info)>>,
}

impl<B: Buffer> Gather<B> {
    pub(crate) fn new(
        old: Ring<B>,
        expected: DaemonSet,
        excused_until: Instant,
        cx: &Context<B>,
        now: Instant,
    ) -> Self {
        let me = DaemonSet::only(cx.me);
        Self {
            old,
            began: now,
            expected: expected.without(me),
            excused_until,
            joins: vec![None; cx.daemons.len()],
            unseen_since: None,
            joined: me,
            heard: me,
            proposal: me,
            settled: false,
            has_news: true,
            said_at: None,
            repeat: cx.timing.repeat_first,
            waits_until: None,
            early: vec![None; cx.daemons.len()],
        }
    }

    /// A join that was accepted. Joins come in crowds: they are looked at together, when all that
    /// are here have been taken.
    pub(crate) fn on_join(&mut self, from: Rank, join: &Join, now: Instant) {
        let known = &mut self.joins[from.index()];
        let first_at = known.map_or(now, |known| known.first_at);
        *known = Some(Heard { join: *join, first_at, at: now });
        self.unseen_since.get_or_insert(now);
    }

    /// Another daemon found that everybody agrees.
    pub(crate) fn on_commit<S: Store<Buffer = B>>(
        &mut self,
        commit: &Commit,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        if self.unseen_since.is_some() {
            let next = self.look(scope);
            if next != Next::Stay {
                return next;
            }
        }
        if self.agrees(commit, scope.cx) {
            return Next::Commit(Box::new(*commit));
        }
        scope.cx.out.count(Counter::PacketsStale);
        Next::Stay
    }

    /// What another daemon brings along to an attempt that this one does not know of yet.
    pub(crate) fn on_exchange(&mut self, from: Rank, ring: RingId, info: Info) {
        self.early[from.index()] = Some((ring, info));
    }

    /// A daemon is not there any more.
    pub(crate) fn on_gone<S: Store<Buffer = B>>(
        &mut self,
        rank: Rank,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        self.joins[rank.index()] = None;
        self.expected.remove(rank);
        self.look(scope)
    }

    pub(crate) fn on_timeout<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) -> Next {
        self.look(scope)
    }

    pub(crate) fn deadline(&self, cx: &Context<B>) -> Option<Instant> {
        let Some(said_at) = self.said_at else { return Some(self.began) };
        let timing = &cx.timing;
        let wait = if self.has_news { timing.spacing } else { self.repeat.max(timing.spacing) };
        earlier(earlier(Some(said_at + wait), self.waits_until), self.unseen_since)
    }

    /// Whether this daemon would take part in `commit` now: only in what it proposed.
    fn agrees(&self, commit: &Commit, cx: &Context<B>) -> bool {
        let leader = commit.members.first();
        commit.members == self.proposal
            && commit.ring.number > cx.number_max
            && cx.believes_new(commit.ring.number)
            && commit.incarnation(cx.me) == Some(cx.incarnation)
            && leader.is_some_and(|leader| cx.id(leader) == commit.ring.leader)
    }

    fn join_of(&self, rank: Rank) -> Option<&Join> {
        self.joins[rank.index()].as_ref().map(|heard| &heard.join)
    }

    /// Whom a daemon hears, itself included, by its join.
    fn hears(&self, me: Rank, rank: Rank) -> DaemonSet {
        let heard = match rank == me {
            true => self.joined,
            false => self.join_of(rank).map_or(DaemonSet::EMPTY, |join| join.joined),
        };
        heard.with(rank)
    }

    /// Whether `rank` and this daemon hear each other.
    fn is_mutual(&self, me: Rank, rank: Rank) -> bool {
        self.joined.contains(rank) && self.hears(me, rank).contains(me)
    }

    /// Looks at all that is known: whom to propose, whether to wait, whether everybody agrees.
    fn look<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) -> Next {
        let (now, me) = (scope.now, scope.cx.me);
        let failure = scope.cx.timing.failure;
        self.unseen_since = None;
        let before = (self.joined, self.heard, self.proposal, self.settled);
        for known in &mut self.joins {
            *known = known.filter(|known| now.since(known.at) < failure);
        }
        let others = scope.cx.links.others();
        let joined = others.iter().filter(|&rank| self.join_of(rank).is_some());
        self.joined = joined.collect::<DaemonSet>().with(me);
        self.heard = scope.cx.links.heard(now, scope.cx.timing.hearing);
        self.proposal = self.propose(me, now, failure);
        self.wait(scope.cx, now);
        self.has_news |= before != (self.joined, self.heard, self.proposal, self.settled);
        let next = self.conclude(scope);
        if matches!(next, Next::Stay) {
            self.say(scope);
        }
        next
    }

    /// The first daemons in the configured order that all hear each other, and this one.
    fn propose(&self, me: Rank, now: Instant, failure: Duration) -> DaemonSet {
        let age = now.since(self.began);
        let alone = DaemonSet::only(me);
        if age >= failure * ALONE_FACTOR {
            return alone;
        }
        let is_candidate = |rank: &Rank| {
            let yields = age >= failure * YIELD_FACTOR;
            let wants_us = || self.join_of(*rank).is_some_and(|join| join.proposal.contains(me));
            *rank == me || (self.is_mutual(me, *rank) && (!yields || wants_us()))
        };
        let candidates: DaemonSet = self.joined.iter().filter(is_candidate).collect();
        let first = self.grow(me, DaemonSet::EMPTY, candidates);
        if first.contains(me) { first } else { self.grow(me, alone, candidates) }
    }

    /// `start`, with each of `candidates` in turn that hears all in it, and whom all in it hear.
    fn grow(&self, me: Rank, start: DaemonSet, candidates: DaemonSet) -> DaemonSet {
        let mut all = start;
        // Whom all of them hear.
        let everybody = DaemonSet::from_bits(u128::MAX);
        let hears = |common: DaemonSet, rank| common.intersection(self.hears(me, rank));
        let mut heard_by_all = start.iter().fold(everybody, hears);
        for rank in candidates.iter() {
            if heard_by_all.contains(rank) && self.hears(me, rank).contains_all(all) {
                all.insert(rank);
                heard_by_all = hears(heard_by_all, rank);
            }
        }
        all
    }

    /// Decides whether anybody is worth waiting for: those expected, until the failure timeout has
    /// passed since they were heard, and those whose link to us is only half seen as yet.
    fn wait(&mut self, cx: &Context<B>, now: Instant) {
        let failure = cx.timing.failure;
        let end = self.began + failure * WAIT_FACTOR;
        let until = |rank: Rank| match &self.joins[rank.index()] {
            Some(_) if self.is_mutual(cx.me, rank) => None,
            Some(known) => Some(known.first_at + failure / 2),
            None if self.expected.contains(rank) && !self.is_missed(rank, cx) => {
                let excused_until =
                    if self.old.set.contains(rank) { self.excused_until } else { Instant::ZERO };
                cx.links.heard_at(rank).map(|heard_at| heard_at.max(excused_until) + failure)
            }
            None => None,
        };
        // Where all others are silent, perhaps it was this daemon that stood still: they answer.
        let may_answer = |rank: Rank| cx.links.heard_at(rank).is_some();
        let is_left_alone = self.proposal.len() == 1 && self.expected.iter().any(may_answer);
        let answers = is_left_alone.then(|| self.began + failure / ANSWER_SHARE);
        let others = cx.links.others();
        let waits = others.iter().filter_map(until).chain(answers).map(|until| until.min(end));
        self.waits_until = waits.filter(|&until| now < until).min();
        self.settled = self.waits_until.is_none();
    }

    /// Whether this daemon never heard that one, and somebody who waits for nobody any more does
    /// not hear it either: it is not there to be waited for, and a ring that works would stand
    /// still.
    fn is_missed(&self, rank: Rank, cx: &Context<B>) -> bool {
        let does_without = |join: &Join| join.settled && !join.contact.heard.contains(rank);
        let mut joins = self.joins.iter().flatten();
        !cx.links.was_heard(rank) && joins.any(|known| does_without(&known.join))
    }

    /// Whether all of the proposal agree on it.
    fn conclude<S: Store<Buffer = B>>(&self, scope: &mut Scope<'_, S>) -> Next {
        let cx = &*scope.cx;
        let others = self.proposal.without(DaemonSet::only(cx.me));
        let agrees = |rank: Rank| {
            self.join_of(rank).is_some_and(|join| join.settled && join.proposal == self.proposal)
        };
        if !self.settled || !others.iter().all(agrees) {
            return Next::Stay;
        }
        if others.is_empty() && self.old.is_alone() {
            // Nobody came: the ring of one goes on as it was.
            return Next::Resume;
        }
        if self.proposal.first() != Some(cx.me) {
            return Next::Stay;
        }
        Next::Commit(Box::new(self.commit(cx)))
    }

    fn commit(&self, cx: &Context<B>) -> Commit {
        let mut number = cx.number_max;
        let mut incarnations = List::default();
        for rank in self.proposal.iter() {
            let (incarnation, number_max) = match self.join_of(rank) {
                Some(join) => (join.contact.incarnation, join.contact.number_max),
                None => (cx.incarnation, cx.number_max),
            };
            number = number.max(number_max);
            assert!(incarnations.push(incarnation), "there are not more daemons than that");
        }
        let ring = RingId { number: cx.number_after(number), leader: cx.id(cx.me) };
        Commit { ring, members: self.proposal, incarnations }
    }

    /// Says what has changed, soon, and everything again now and then.
    fn say<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        let is_due = self.deadline(scope.cx).is_some_and(|at| at <= scope.now);
        let spaced = |at: Instant| scope.now >= at + scope.cx.timing.spacing;
        if !is_due || !self.said_at.is_none_or(spaced) {
            return;
        }
        self.said_at = Some(scope.now);
        if !self.has_news {
            self.repeat = (self.repeat * 2).min(scope.cx.timing.repeat);
        }
        self.has_news = false;
        let contact = scope.cx.contact(&self.old, self.heard);
        let (joined, proposal, settled) = (self.joined, self.proposal, self.settled);
        let join = Join { contact, joined, proposal, settled };
        let packet = join.emit(scope.cx.envelope, scope.store);
        // Where nothing listens any more, the answer to a datagram says so, which there is none to
        // one that was multicast.
        for silent in self.old.set.intersection(self.expected).without(self.joined).iter() {
            scope.cx.send(Some(silent), packet.clone());
        }
        scope.cx.send(None, packet);
    }
}
