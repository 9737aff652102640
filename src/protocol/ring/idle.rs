//! When there is little to do: the token rests, and whoever needs it asks for it. It need not go
//! round to be of use: it may be handed to anyone, and the rotation goes on from there.
//!
//! A rotation serves many who send. Where one alone sends, the token stays with it, and where two
//! send in turns, as programs do that ask and answer, it goes to the other one together with the
//! data: so a message costs one trip, not three for asking, granting and sending.

use std::time::Duration;

use crate::base::{Buffer, Counter, DaemonSet, Instant, Rank, Seq, Store};
use crate::wire::token::{TokenHeader, TokenRequest};

use super::super::context::{Context, Scope};
use super::super::timer::{earlier, is_due};
use super::rotation::Rotation;

/// The token goes round to collect what everybody has when more than this share of the receive
/// windows is not known to be with everybody.
const LINGER_SHARE: u64 = 8;

/// Where the token rests, and who would like to have it.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// It rests here.
    here: Option<Here>,
    /// It rests with another daemon.
    there: Option<There>,
    /// Who asked for it since it was here.
    wanted_by: DaemonSet,
    /// Who had something to send since this daemon had.
    senders: DaemonSet,
    /// This daemon needs it.
    need: Option<Need>,
}

/// The token rests here.
#[derive(Clone, Copy, Debug)]
struct Here {
    token: TokenHeader,
    until: Instant,
    /// How long it might.
    rest: Duration,
}

/// The token rests with another daemon.
#[derive(Clone, Copy, Debug)]
struct There {
    rank: Rank,
    /// For how long at most.
    rest: Duration,
}

/// The token is needed, and is not here.
#[derive(Clone, Copy, Debug)]
struct Need {
    /// When to ask for it.
    ask_at: Instant,
    /// How long to wait before asking again.
    wait: Duration,
}

impl Rest {
    /// For how long it might rest from when it came to rest here; zero where it does not.
    pub(super) fn duration(&self) -> Duration {
        self.here.map_or(Duration::ZERO, |here| here.rest)
    }

    /// Whether the token rests here.
    pub(crate) fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// Whether nobody asked for it.
    pub(super) fn is_unwanted(&self) -> bool {
        self.wanted_by.is_empty()
    }

    /// The last place that was given away, while it rests here.
    pub(super) fn seq(&self) -> Option<Seq> {
        self.here.map(|here| here.token.seq)
    }

    /// Whether it rests with another daemon, and with which.
    pub(super) fn place(&self) -> Option<Rank> {
        self.there.map(|there| there.rank)
    }

    /// It is to be had there: it rests for so long at most, or that daemon passed it to this one.
    pub(super) fn rests_at(&mut self, rank: Rank, rest: Duration) {
        self.there = Some(There { rank, rest });
    }

    /// How long there may be no sign of it, because it rests.
    pub(super) fn silence(&self) -> Duration {
        self.there.map_or(Duration::ZERO, |there| there.rest)
    }

    /// Whoever has it is asked for it, and answers at once: it rested for no longer than that.
    fn end_silence(&mut self, rested: Duration) {
        if let Some(There { rest, .. }) = &mut self.there {
            *rest = rested.min(*rest);
        }
    }

    /// Another daemon had something to send.
    pub(super) fn sent_by(&mut self, rank: Rank) {
        self.senders.insert(rank);
    }

    /// This daemon had something to send.
    pub(super) fn sent(&mut self) {
        self.senders = DaemonSet::EMPTY;
    }

    /// There was a sign that it moves.
    pub(super) fn moved(&mut self) {
        self.there = None;
    }

    /// It is here.
    pub(super) fn visited(&mut self) {
        self.moved();
        self.need = None;
    }

    /// It goes on from here, and so comes by all who asked.
    pub(super) fn left(&mut self) {
        self.wanted_by = DaemonSet::EMPTY;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earlier(self.here.map(|here| here.until), self.need.map(|need| need.ask_at))
    }
}

impl<B: Buffer> Rotation<B> {
    /// Nothing is outstanding: whoever asked for the token gets it, else it rests here.
    pub(super) fn rest_or_grant<S: Store<Buffer = B>>(
        &mut self,
        mut token: TokenHeader,
        scope: &mut Scope<'_, S>,
    ) {
        (token.flow, token.repeated) = (0, 0);
        if !self.rest.wanted_by.is_empty() {
            return self.grant(token, scope);
        }
        scope.cx.out.count(Counter::TokensParked);
        let rest = scope.cx.timing.rest;
        self.rest.here = Some(Here { token, until: scope.now + rest, rest });
        // All others learn that it is safe with us, and that everybody has everything.
        self.tell_all(scope);
    }

    /// Who will need the token next, where that can be told.
    pub(super) fn next_user(
        &self,
        token: &TokenHeader,
        cx: &Context<B>,
        now: Instant,
    ) -> Option<Rank> {
        let unsafe_packets = token.seq.get() - self.ring.safe().get();
        let Rest { wanted_by, senders, .. } = &self.rest;
        // Otherwise it is to show that everybody is there, and to collect what everybody has.
        let may_stay = token.tour == 0
            && now < self.round_at + cx.timing.tour
            && self.missing.is_empty()
            && unsafe_packets < self.ring.window_packets / LINGER_SHARE;
        let one_of = |set: &DaemonSet| set.iter().next().filter(|_| set.len() == 1);
        match (wanted_by.is_empty(), senders.is_empty()) {
            _ if !may_stay => None,
            (true, true) => Some(cx.me),
            (true, false) => one_of(senders),
            (false, true) => one_of(wanted_by),
            (false, false) => one_of(wanted_by).filter(|_| senders.len() == 1),
        }
    }

    /// Lets `user` have the token, for a moment if it does not need it.
    pub(super) fn hand_over<S: Store<Buffer = B>>(
        &mut self,
        mut token: TokenHeader,
        user: Rank,
        scope: &mut Scope<'_, S>,
    ) {
        (token.flow, token.repeated) = (0, 0);
        if user == scope.cx.me {
            let until = scope.now + scope.cx.timing.linger;
            let rest = scope.cx.timing.tour;
            self.rest.here = Some(Here { token, until: until.min(self.round_at + rest), rest });
            return;
        }
        scope.cx.out.count(Counter::TokensHanded);
        token.handed = true;
        self.pass(token, user, scope);
        self.rest.rests_at(user, scope.cx.timing.tour);
    }

    /// Another daemon asks for the token.
    pub(crate) fn on_request<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        scope: &mut Scope<'_, S>,
    ) {
        if self.suspect() == Some(from) {
            // It was on its way there, and got lost.
            return self.repeat(scope);
        }
        self.rest.end_silence(scope.now.since(self.sign_at));
        self.rest.wanted_by.insert(from);
        if let Some(Here { until, .. }) = &mut self.rest.here {
            // Requests come together, as all who wait learn together where it rests.
            *until = scope.now;
        }
    }

    /// Passes the token to the first in ring order of those who asked: so it comes by the others.
    fn grant<S: Store<Buffer = B>>(&mut self, mut token: TokenHeader, scope: &mut Scope<'_, S>) {
        let asked = std::mem::take(&mut self.rest.wanted_by);
        let Some(to) = asked.successor(scope.cx.me) else { return };
        if asked.len() > 1 {
            token.tour = self.ring.set.len() as u8;
        }
        scope.cx.out.count(Counter::TokensGranted);
        self.pass(token, to, scope);
        self.rest.rests_at(to, scope.cx.timing.tour);
    }

    /// A message waits that was just submitted.
    pub(crate) fn on_submit<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        if let Some(Here { until, .. }) = &mut self.rest.here {
            // Messages come together, and leave in the same packets.
            *until = scope.now;
            return;
        }
        if self.rest.need.is_some() {
            return;
        }
        if self.rest.place().is_some() {
            self.ask(scope);
        } else {
            // It goes round and should be here soon.
            let wait = self.patience(scope.cx);
            self.rest.need = Some(Need { ask_at: scope.now + wait, wait });
        }
    }

    /// Asks for the token if it is needed.
    pub(super) fn ask<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        if scope.cx.backlog.is_empty() || self.rest.is_here() {
            self.rest.need = None;
            return;
        }
        let wait = self.rest.need.map_or(self.patience(scope.cx), |need| need.wait * 2);
        let wait = wait.min(scope.cx.timing.failure / 8);
        // Where that brings nothing, all others should know that it is asked for.
        let to = self.rest.place().filter(|_| self.rest.need.is_none());
        self.rest.need = Some(Need { ask_at: scope.now + wait, wait });
        self.rest.end_silence(scope.now.since(self.sign_at));
        self.request_from(to, scope);
    }

    /// Asks all for the token, as there is no sign of it: it may rest, and the word of it got lost.
    pub(crate) fn seek<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        self.request_from(None, scope);
    }

    fn request_from<S: Store<Buffer = B>>(&self, to: Option<Rank>, scope: &mut Scope<'_, S>) {
        let request = TokenRequest { ring: self.ring.id };
        let packet = request.emit(scope.cx.envelope, scope.store);
        scope.cx.send(to, packet);
    }

    pub(super) fn on_rest_timeout<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        if is_due(scope.now, self.rest.here.map(|here| here.until))
            && let Some(Here { mut token, rest, .. }) = self.rest.here.take()
        {
            if !scope.cx.backlog.is_empty() {
                if rest > scope.cx.timing.tour {
                    self.woke(scope.now);
                }
                return self.visit(token, scope);
            }
            if !self.rest.wanted_by.is_empty() {
                return self.grant(token, scope);
            }
            if self.ring.is_stable() {
                // One round without rest shows everybody that everybody is there.
                token.tour = self.ring.set.len() as u8;
            }
            self.pass_on(token, scope);
        }
        if is_due(scope.now, self.rest.need.map(|need| need.ask_at)) {
            self.ask(scope);
        }
    }
}
