//! Recovery: those who come from the same ring complete each other's packets of it, and get ready
//! to deliver the same. What is delivered then: `configuration.rs`.

use crate::base::limits::REPAIR_PACKETS_MAX;
use crate::base::{Buffer, Counter, DaemonSet, Instant, Rank, Seq, Store};
use crate::wire::commit::Done;
use crate::wire::token::{Ranges, emit_repair_request};

use super::super::context::{Context, Scope};
use super::super::output::Output;
use super::super::ring::Ring;
use super::super::ring::window::push_seq;
use super::super::timer::earlier;
use super::Next;
use super::commit::Attempt;
use super::configuration::{self, Plan};

/// Daemons that are asked at a time: what they answer fits any receive buffer.
const ANSWERING_MAX: usize = 2;

/// The state of a daemon that completes its old ring.
pub(crate) struct Recovery<B> {
    pub(crate) old: Ring<B>,
    pub(crate) attempt: Attempt,
    plan: Plan,
    /// Packets that were asked for last and have not come.
    asked: Vec<Seq>,
    asked_at: Option<Instant>,
    tries: usize,
    /// What will be delivered once everybody is done.
    staged: Option<Vec<Output<B>>>,
    memory_at: Option<Instant>,
}

impl<B: Buffer> Recovery<B> {
    pub(crate) fn new<S: Store<Buffer = B>>(
        old: Ring<B>,
        attempt: Attempt,
        scope: &mut Scope<'_, S>,
    ) -> Self {
        let plan = Plan::new(&attempt, old.id);
        let mut recovery = Self {
            old,
            attempt,
            plan,
            asked: Vec::new(),
            asked_at: None,
            tries: 0,
            staged: None,
            memory_at: None,
        };
        recovery.go_on(scope);
        recovery
    }

    /// Whether this daemon has all it needs.
    pub(crate) fn is_done(&self) -> bool {
        self.staged.is_some()
    }

    /// Gives up what is needed to install the new ring.
    pub(crate) fn into_parts(self) -> (Attempt, Vec<Output<B>>) {
        (self.attempt, self.staged.expect("a daemon installs a ring only when it is done"))
    }

    /// A packet of the old ring came in.
    pub(crate) fn on_packet<S: Store<Buffer = B>>(
        &mut self,
        seq: Seq,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        self.attempt.progress(scope.now);
        self.asked.retain(|&asked| asked != seq);
        if self.asked.is_empty() {
            self.go_on(scope);
        }
        self.conclude()
    }

    /// Asks for what is missing; with nothing missing, gets ready.
    fn go_on<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        if self.is_done() {
            return;
        }
        self.ask(scope);
        if !self.asked.is_empty() {
            return;
        }
        self.staged = configuration::stage(
            &self.old,
            self.attempt.ring(),
            &self.plan,
            &scope.cx.daemons,
            scope.store,
        );
        self.memory_at = None;
        if self.staged.is_none() {
            self.memory_at = Some(scope.now + scope.cx.timing.memory);
            return scope.cx.out.count(Counter::PoolExhausted);
        }
        // From here on others may deliver what we have, and trust that we will.
        self.old.obliged = self.plan.obliged;
        self.attempt.learn_done(DaemonSet::only(scope.cx.me), scope.now);
        self.say_done(None, scope);
    }

    fn say_done<S: Store<Buffer = B>>(&mut self, to: Option<Rank>, scope: &mut Scope<'_, S>) {
        if self.attempt.members().len() > 1 {
            let done = Done { ring: self.attempt.ring(), seen: self.attempt.done };
            let packet = done.emit(scope.cx.envelope, scope.store);
            scope.cx.send(to, packet);
        }
        if to.is_none() {
            self.attempt.said_at = scope.now;
        }
    }

    /// Asks those who have what is missing, each for another part, in turn when it does not come.
    fn ask<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        self.asked.clear();
        let others = self.plan.movers.without(DaemonSet::only(scope.cx.me));
        // No more than they answer, or the rest would come only when it is asked for again.
        let asked_max = REPAIR_PACKETS_MAX * others.len().clamp(1, ANSWERING_MAX);
        self.asked.extend(self.plan.missing(&self.old.window).take(asked_max));
        self.asked_at = (!self.asked.is_empty()).then_some(scope.now);
        let mut requests: Vec<(Rank, Ranges)> = Vec::new();
        for (index, &seq) in self.asked.iter().enumerate() {
            let has_it = |rank: &Rank| self.attempt.info(*rank).is_some_and(|info| info.has(seq));
            let holders = others.iter().filter(has_it).count();
            // Neighbours from the same one, so that they are few ranges.
            let turn = (index / 16 + self.tries) % holders.max(1);
            let Some(holder) = others.iter().filter(has_it).nth(turn) else { continue };
            match requests.iter_mut().find(|(rank, _)| *rank == holder) {
                Some((_, ranges)) => {
                    // What does not fit is asked for next time.
                    let _ = push_seq(ranges, seq);
                }
                None => {
                    let mut ranges = Ranges::default();
                    let _ = push_seq(&mut ranges, seq);
                    requests.push((holder, ranges));
                }
            }
        }
        self.tries += 1;
        scope.cx.out.tally.add(Counter::RepairsRequested, self.asked.len() as u64);
        for (holder, missing) in requests {
            let ring = self.old.id;
            let packet = emit_repair_request(ring, &missing, scope.cx.envelope, scope.store);
            scope.cx.send(Some(holder), packet);
        }
    }

    /// Another daemon has all it needs.
    pub(crate) fn on_done<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        done: &Done,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        scope.cx.alive(scope.now, from);
        self.attempt.learn_done(done.seen.with(from), scope.now);
        let is_late = scope.now.since(self.attempt.said_at) >= scope.cx.timing.spacing;
        if self.is_done() && !done.seen.contains(scope.cx.me) && is_late {
            self.say_done(Some(from), scope);
        }
        self.conclude()
    }

    /// Whether everybody is done.
    pub(crate) fn conclude(&self) -> Next {
        let all = self.is_done() && self.attempt.done == self.attempt.members();
        if all { Next::Install } else { Next::Stay }
    }

    pub(crate) fn deadline(&self, cx: &Context<B>) -> Option<Instant> {
        let ask = self.asked_at.map(|at| at + cx.timing.repair * 2);
        earlier(Some(self.attempt.deadline(cx)), earlier(ask, self.memory_at))
    }

    pub(crate) fn on_timeout<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) -> Next {
        let waits_for = self.attempt.members().without(self.attempt.done);
        let next = self.attempt.check(waits_for, scope.cx, scope.now);
        if !matches!(next, Next::Stay) {
            return next;
        }
        let asked = self.asked_at.filter(|_| !self.is_done());
        let ask_again = asked.is_some_and(|at| scope.now >= at + scope.cx.timing.repair * 2);
        if ask_again || self.memory_at.is_some_and(|at| scope.now >= at) {
            self.go_on(scope);
        }
        if scope.now >= self.attempt.deadline(scope.cx) {
            if self.is_done() {
                self.say_done(None, scope);
            } else {
                self.attempt.say(None, scope);
            }
        }
        self.conclude()
    }
}
