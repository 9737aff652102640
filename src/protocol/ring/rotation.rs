//! A ring at work: its order, and where this daemon stands in the rotation of the token.
//! What happens when the token comes by: `visit.rs`. When there is nothing to do: `idle.rs`.

use std::time::Duration;

use crate::base::limits::REST_MICROS_MAX;
use crate::base::{Buffer, Counter, Instant, Rank, Seq, Store};
use crate::wire::data::{Data, DataHeader};
use crate::wire::token::{Notice, Ranges, Token, TokenHeader, emit_repair_request};

use super::super::context::{Context, Scope};
use super::super::output::{Channel, To};
use super::super::timer::{RoundTime, earlier, is_due};
use super::Ring;
use super::flow::Flow;
use super::idle::Rest;
use super::pace::Pace;
use super::repair::{self, Overdue};

/// Rounds after which even a patient daemon takes the token for lost.
const ROUNDS_MAX: u32 = 8;

/// What has come is told at the latest when it is this share of the receive window.
const NOTICE_SHARE: u64 = 32;

/// Measured rounds raise the failure timeout to so many times its floor at most.
const FAILURE_FACTOR_MAX: u32 = 10;

/// A token on its way, kept until there is a sign that it arrived.
struct Passed {
    token: TokenHeader,
    repeat_at: Instant,
    wait: Duration,
}

/// A ring at work.
pub(crate) struct Rotation<B> {
    pub(crate) ring: Ring<B>,
    pub(super) flow: Flow,
    pub(super) overdue: Overdue,
    pub(super) rest: Rest,
    /// What the token says is missing somewhere; as it was passed on, when it is not here.
    pub(super) missing: Ranges,
    /// Packets of the turn at hand that follow the token.
    pub(super) trailing: Vec<B>,
    /// Hop of the token at its last visit.
    pub(super) visit_hop: u64,
    /// The greatest hop of which some daemon is known to have accepted the token. Not the one that
    /// was just passed on: others would repeat it, and take it for a sign that it arrived.
    last_hop: u64,
    /// The token's seq at its last visit: what is missing up to there is not just on its way.
    pub(super) visit_seq: Seq,
    passed: Option<Passed>,
    /// When it was passed on, for as long as it goes round without rest or loss.
    passed_at: Option<Instant>,
    /// When this daemon last passed it on in the rotation.
    pub(super) round_at: Instant,
    /// When there was the last sign that the token moves.
    pub(super) sign_at: Instant,
    round: RoundTime,
    /// The aru that all others were told last.
    pub(super) announced: Seq,
    /// The aru at the last visit of the token, which tells it too.
    pub(super) visit_aru: Seq,
    noticed_at: Instant,
    notice_at: Option<Instant>,
    /// Work waits for memory until then.
    memory_at: Option<Instant>,
}

impl<B: Buffer> Rotation<B> {
    pub(crate) fn new(ring: Ring<B>, cx: &Context<B>, now: Instant) -> Self {
        let flow = Flow::new(&cx.options, ring.set.len());
        Self {
            ring,
            flow,
            overdue: Overdue::default(),
            rest: Rest::default(),
            missing: Ranges::default(),
            trailing: Vec::new(),
            visit_hop: 0,
            last_hop: 0,
            visit_seq: Seq::ZERO,
            passed: None,
            passed_at: None,
            round_at: now,
            sign_at: now,
            round: RoundTime::default(),
            announced: Seq::ZERO,
            visit_aru: Seq::ZERO,
            noticed_at: Instant::ZERO,
            notice_at: None,
            memory_at: None,
        }
    }

    /// Makes the ring's first token, as its leader does.
    pub(crate) fn begin<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        let token = TokenHeader {
            ring: self.ring.id,
            hop: 1,
            to: scope.cx.me,
            tour: self.ring.set.len() as u8,
            handed: false,
            seq: Seq::ZERO,
            flow: 0,
            repeated: 0,
        };
        self.visit(token, scope);
    }

    /// The token, for this daemon.
    pub(crate) fn on_token<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        token: &Token<'_>,
        scope: &mut Scope<'_, S>,
    ) {
        let header = token.header;
        if header.to != scope.cx.me || token.lags.len() != self.ring.set.len() {
            return scope.cx.out.count(Counter::PacketsStale);
        }
        if header.hop <= self.visit_hop {
            // Whoever repeats it saw no sign that it arrived.
            scope.cx.out.count(Counter::PacketsStale);
            let notice = self.notice();
            let packet = notice.emit(scope.cx.envelope, scope.store);
            return scope.cx.send(Some(from), packet);
        }
        // There is one token. It knows each place that was given away, and can be passed on.
        let window = &self.ring.window;
        let is_sane = !self.rest.is_here()
            && (window.high()..=window.limit()).contains(&header.seq)
            && header.hop != u64::MAX;
        if !is_sane {
            return scope.cx.out.count(Counter::PacketsStale);
        }
        if let Some(passed_at) = self.passed_at.take() {
            self.round.record(scope.now.since(passed_at));
        }
        self.on_sign(header.hop, false, scope);
        self.learn(token);
        self.visit(header, scope);
    }

    /// Takes what the token says about everybody.
    fn learn(&mut self, token: &Token<'_>) {
        self.missing.truncate(0);
        for range in token.missing.iter() {
            assert!(self.missing.push(range), "a token's list is checked");
        }
        let seq = token.header.seq;
        self.ring.window.raise_high(seq);
        self.ring.learn_lags(seq, token.lags.iter());
    }

    /// A packet of the order.
    pub(crate) fn on_data<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        data: &Data<'_>,
        bytes: &B,
        scope: &mut Scope<'_, S>,
    ) {
        let header = &data.header;
        if self.rest.seq().is_some_and(|seq| seq < header.seq) {
            // Nobody but this daemon can give places away.
            return scope.cx.out.count(Counter::PacketsStale);
        }
        let is_new = self.ring.receive(scope.cx.me, from, data, bytes);
        scope.cx.out.count(if is_new {
            Counter::PacketsReceived
        } else {
            Counter::PacketsDuplicate
        });
        // Whoever gave it a place has the token, perhaps still from the same visit.
        self.on_sign(header.hop, is_new, scope);
        if is_new {
            self.rest.sent_by(from);
        }
        self.on_keeper(from, header, scope);
        self.ring.learn_aru(from, header.aru);
        self.ring.learn_safe(header.safe);
        self.settle(scope);
    }

    /// Learns from data where the token is, unless it moved on since.
    fn on_keeper<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        header: &DataHeader,
        scope: &mut Scope<'_, S>,
    ) {
        let Some(keeper) = header.keeper.filter(|&keeper| self.ring.set.contains(keeper)) else {
            return;
        };
        if header.hop < self.last_hop.max(self.visit_hop) || self.rest.is_here() {
            return;
        }
        self.passed_at = None;
        if keeper == scope.cx.me {
            // It will come. Who sent it has it, if it got lost.
            return self.rest.rests_at(from, scope.cx.timing.tour);
        }
        if self.rest.place() != Some(keeper) {
            self.rest.rests_at(keeper, scope.cx.timing.tour);
            self.ask(scope);
        }
    }

    /// Word of what another daemon has.
    pub(crate) fn on_notice<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        notice: &Notice,
        scope: &mut Scope<'_, S>,
    ) {
        self.on_sign(notice.hop, notice.rest_micros > 0, scope);
        self.ring.learn_aru(from, notice.aru);
        self.ring.learn_safe(notice.safe);
        let rest = Duration::from_micros(notice.rest_micros.into());
        if !rest.is_zero() && notice.hop >= self.last_hop && !self.rest.is_here() {
            self.passed_at = None;
            self.rest.rests_at(from, rest);
            self.ask(scope);
        }
        self.settle(scope);
    }

    /// Any packet of the ring shows which hop its sender knew. `by_holder`: that it had the token.
    fn on_sign<S: Store<Buffer = B>>(&mut self, hop: u64, by_holder: bool, scope: &Scope<'_, S>) {
        if hop > self.last_hop || by_holder && hop == self.last_hop {
            if scope.now.since(self.sign_at) > scope.cx.timing.tour * 2 {
                self.woke(scope.now);
            }
            self.sign_at = scope.now;
        }
        if hop > self.last_hop {
            self.last_hop = hop;
            self.rest.moved();
        }
        if self.passed.as_ref().is_some_and(|passed| hop >= passed.token.hop) {
            self.passed = None;
        }
    }

    /// The token had come to rest, as it does when everybody is known to be there, and is of use
    /// again: it need not go round for a while.
    pub(super) fn woke(&mut self, now: Instant) {
        self.round_at = now;
    }

    /// Passes the token on in the rotation.
    pub(super) fn pass_on<S: Store<Buffer = B>>(
        &mut self,
        token: TokenHeader,
        scope: &mut Scope<'_, S>,
    ) {
        self.round_at = scope.now;
        let next = self.ring.set.successor(scope.cx.me).expect("a ring has daemons");
        self.pass(token, next, scope);
    }

    /// Remembers a token that goes out, and sends it.
    pub(super) fn pass<S: Store<Buffer = B>>(
        &mut self,
        mut token: TokenHeader,
        to: Rank,
        scope: &mut Scope<'_, S>,
    ) {
        self.rest.left();
        token.hop += 1;
        token.to = to;
        token.tour = token.tour.saturating_sub(1);
        self.sign_at = scope.now;
        // Where it is handed over it waits, which is no time of a round.
        self.passed_at = (!token.handed).then_some(scope.now);
        let wait = self.patience(scope.cx);
        self.emit_token(&token, scope);
        self.passed = Some(Passed { token, repeat_at: scope.now + wait, wait });
    }

    /// Sends the token that was passed on last once more.
    pub(super) fn repeat<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        let Some(passed) = &mut self.passed else { return };
        passed.wait = (passed.wait * 2).min(scope.cx.timing.failure / 8);
        passed.repeat_at = scope.now + passed.wait;
        self.passed_at = None;
        let token = passed.token;
        scope.cx.out.count(Counter::TokensRepeated);
        self.emit_token(&token, scope);
    }

    fn emit_token<S: Store<Buffer = B>>(&self, token: &TokenHeader, scope: &mut Scope<'_, S>) {
        let to = To::Daemon(scope.cx.id(token.to));
        let lags = self.ring.lags(token.seq);
        match token.emit(lags, &self.missing, scope.cx.envelope, scope.store) {
            Some(bytes) => scope.cx.out.send(to, Channel::Token, bytes),
            // It will be repeated.
            None => scope.cx.out.count(Counter::PoolExhausted),
        }
    }

    /// How long a sign of the token may take, by the rounds that were measured.
    pub(super) fn patience(&self, cx: &Context<B>) -> Duration {
        (self.round.bound() * 2).max(cx.options.token_repeat).min(cx.timing.failure / 8)
    }

    /// Who cannot be reached with the token, when it is lost.
    pub(crate) fn suspect(&self) -> Option<Rank> {
        self.passed.as_ref().map(|passed| passed.token.to)
    }

    /// When the token counts as lost. Never while it rests here.
    fn lost_at(&self, cx: &Context<B>) -> Option<Instant> {
        if self.ring.is_alone() || self.rest.is_here() {
            return None;
        }
        let floor = cx.timing.failure;
        let failure = (self.round.bound() * ROUNDS_MAX).clamp(floor, floor * FAILURE_FACTOR_MAX);
        Some(self.sign_at + self.rest.silence() + failure)
    }

    /// Since when there is no sign of the token, and how soon there was to be one. None while it
    /// rests here.
    pub(crate) fn silent_since(&self, cx: &Context<B>) -> Option<(Instant, Duration)> {
        let expected = self.rest.silence().max(cx.timing.tour);
        (!self.ring.is_alone() && !self.rest.is_here()).then_some((self.sign_at, expected))
    }

    /// Whether all daemons of the ring have had the token, and so are all at work in it.
    pub(crate) fn is_under_way(&self) -> bool {
        let hop = self.last_hop.max(self.visit_hop);
        self.ring.is_alone() || hop > self.ring.set.len() as u64
    }

    /// Until when nothing was to be heard from the others: they did what they had to do for the
    /// token to come so far, and since then it rests.
    pub(crate) fn excused_until(&self, now: Instant) -> Instant {
        match self.rest.is_here() {
            true => now,
            false => now.min(self.sign_at + self.rest.silence()),
        }
    }

    /// Whether the token is lost.
    pub(crate) fn is_lost(&self, cx: &Context<B>, now: Instant) -> bool {
        is_due(now, self.lost_at(cx))
    }

    /// When there is something to do.
    pub(crate) fn deadline(&self, cx: &Context<B>) -> Option<Instant> {
        let aru = self.ring.window.aru();
        let allowance = cx.options.reorder_allowance;
        let repeat = self.passed.as_ref().map(|passed| passed.repeat_at);
        let overdue = self.overdue.deadline(aru, allowance, self.repair_patience(cx));
        [self.lost_at(cx), repeat, overdue, self.notice_at, self.memory_at, self.rest.deadline()]
            .into_iter()
            .fold(None, earlier)
    }

    pub(crate) fn on_timeout<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        let now = scope.now;
        if self.passed.as_ref().is_some_and(|passed| passed.repeat_at <= now) {
            self.repeat(scope);
        }
        self.on_rest_timeout(scope);
        self.settle(scope);
        if is_due(now, self.notice_at) {
            self.tell_all(scope);
        }
    }

    /// Does what any input may have made possible: delivers, asks for repairs, will tell what is
    /// here.
    pub(crate) fn settle<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        self.ring.deliver(scope);
        self.memory_at = self.ring.is_blocked.then(|| scope.now + scope.cx.timing.memory);
        self.repair(scope);
        self.notice_at = self.next_notice(scope.cx, scope.now);
    }

    /// Asks for what is overdue outside of the token, where that had time to bring it.
    fn repair<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        let (aru, high) = (self.ring.window.aru(), self.ring.window.high());
        if !self.overdue.observe(scope.now, aru, high, scope.cx.options.reorder_allowance) {
            return;
        }
        let patience = self.repair_patience(scope.cx);
        let longest = scope.cx.timing.repair_longest;
        let tries = self.overdue.may_ask(scope.now, aru, patience, longest);
        let Some(tries) = tries else { return };
        let missing = repair::missing(&self.ring.window, self.overdue.limit());
        let Some(first) = missing.first() else { return };
        // Who is known to have it, each in turn; else anybody.
        let others = self.ring.set.without(crate::base::DaemonSet::only(scope.cx.me));
        let has_it = |rank: &Rank| self.ring.aru_of(*rank) >= first.start;
        let known = others.iter().filter(has_it).count();
        let turn = tries as usize;
        let to = match known {
            0 => others.iter().nth(turn % others.len().max(1)),
            _ => others.iter().filter(has_it).nth(turn % known),
        };
        let Some(to) = to else { return };
        let asked = missing.iter().map(|range| u64::from(range.len)).sum();
        scope.cx.out.tally.add(Counter::RepairsRequested, asked);
        let ring = self.ring.id;
        let packet = emit_repair_request(ring, &missing, scope.cx.envelope, scope.store);
        scope.cx.send(Some(to), packet);
    }

    fn repair_patience(&self, cx: &Context<B>) -> Duration {
        cx.timing.repair.max(self.round.bound() * 2)
    }

    /// The same packet is repeated no sooner than whoever misses it may have it, and did not ask
    /// in vain: after a round, and what a packet may be late.
    pub(super) fn repair_pace(&self, cx: &Context<B>, now: Instant) -> Pace {
        let first = cx.options.reorder_allowance.max(self.round.bound());
        Pace { now, first, longest: cx.timing.repair_longest.max(first) }
    }

    /// What this daemon would tell of itself.
    pub(super) fn notice(&self) -> Notice {
        Notice {
            ring: self.ring.id,
            hop: self.last_hop.max(self.visit_hop),
            aru: self.ring.window.aru(),
            safe: self.ring.safe(),
            rest_micros: u32::try_from(self.rest.duration().as_micros()).unwrap_or(REST_MICROS_MAX),
        }
    }

    /// When to tell all others what is here: as soon as all packets that came together have been
    /// taken, unless that was done a moment ago. For the sake of safe messages; who sends data
    /// under load does so too, as they leave once in a round only. And when much has come while the
    /// token did not come by.
    fn next_notice(&self, cx: &Context<B>, now: Instant) -> Option<Instant> {
        if self.ring.is_alone() {
            return None;
        }
        let aru = self.ring.window.aru();
        let safe_high = self.ring.safe_high;
        let is_news = aru > self.announced && safe_high > self.announced;
        // That this daemon knows a message to be safe does not tell the others that it has it.
        let is_awaited = is_news && (self.ring.safe() < safe_high || self.visit_aru < safe_high);
        let untold = aru.get() - self.announced.max(self.visit_aru).get();
        let much = (self.ring.window_packets / NOTICE_SHARE).max(1);
        if !is_awaited && untold < much {
            return None;
        }
        // Each notice goes to everybody: the larger the ring, the rarer.
        let interval = cx.options.notice_interval * (self.ring.set.len() as u32).div_ceil(2);
        Some(now.max(self.noticed_at + interval))
    }

    /// Sends a notice to everybody.
    pub(super) fn tell_all<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        (self.noticed_at, self.notice_at) = (scope.now, None);
        self.announced = self.ring.window.aru();
        let packet = self.notice().emit(scope.cx.envelope, scope.store);
        scope.cx.send(None, packet);
    }
}
