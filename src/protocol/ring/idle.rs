//! When there is nothing to do: the token rests, and whoever needs it asks for it. With nothing
//! outstanding it may be handed to anyone; the rotation goes on from there.

use std::time::Duration;

use crate::base::{Buffer, Counter, DaemonSet, Instant, Rank, Seq, Store};
use crate::wire::token::{TokenHeader, TokenRequest};

use super::super::context::Scope;
use super::super::timer::{earlier, is_due};
use super::rotation::Rotation;

/// Where the token rests, and who would like to have it.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// It rests here, until then at most.
    here: Option<(TokenHeader, Instant)>,
    /// It rests with another daemon.
    there: Option<Rank>,
    /// Who asked for it since it was here.
    wanted_by: DaemonSet,
    /// When to ask for it, and how long to wait before asking again.
    ask_at: Option<(Instant, Duration)>,
}

impl Rest {
    /// Whether the token rests here.
    pub(crate) fn is_here(&self) -> bool {
        self.here.is_some()
    }

    /// The last place that was given away, while it rests here.
    pub(super) fn seq(&self) -> Option<Seq> {
        self.here.map(|(token, _)| token.seq)
    }

    /// Whether it rests with another daemon, and with which.
    pub(super) fn place(&self) -> Option<Rank> {
        self.there
    }

    /// A daemon said that it rests there.
    pub(super) fn rests_at(&mut self, rank: Rank) {
        self.there = Some(rank);
    }

    /// There was a sign that it moves.
    pub(super) fn moved(&mut self) {
        self.there = None;
    }

    /// It is here.
    pub(super) fn visited(&mut self) {
        (self.there, self.ask_at) = (None, None);
    }

    /// It goes on from here, and so comes by all who asked.
    pub(super) fn left(&mut self) {
        self.wanted_by = DaemonSet::EMPTY;
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        earlier(self.here.map(|(_, until)| until), self.ask_at.map(|(at, _)| at))
    }
}

impl<B: Buffer> Rotation<B> {
    /// Nothing is outstanding: whoever asked for the token gets it, else it rests here.
    pub(super) fn rest_or_grant<S: Store<Buffer = B>>(
        &mut self,
        mut token: TokenHeader,
        scope: &mut Scope<'_, S>,
    ) {
        token.flow = 0;
        if !self.rest.wanted_by.is_empty() {
            return self.grant(token, scope);
        }
        scope.cx.out.count(Counter::TokensParked);
        self.rest.here = Some((token, scope.now + scope.cx.timing.tour));
        // All others learn that it is safe with us, and that everybody has everything.
        self.tell_all(scope);
    }

    /// Another daemon asks for the token.
    pub(crate) fn on_request<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        scope: &mut Scope<'_, S>,
    ) {
        self.rest.wanted_by.insert(from);
        if let Some((_, until)) = &mut self.rest.here {
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
    }

    /// A message waits that was just submitted.
    pub(crate) fn on_submit<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        if let Some((token, _)) = self.rest.here.take() {
            return self.visit(token, scope);
        }
        if self.rest.ask_at.is_some() {
            return;
        }
        if self.rest.there.is_some() {
            self.ask(scope);
        } else {
            // It goes round and should be here soon.
            let wait = self.patience(scope.cx);
            self.rest.ask_at = Some((scope.now + wait, wait));
        }
    }

    /// Asks for the token if it is needed.
    pub(super) fn ask<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        if scope.cx.backlog.is_empty() || self.rest.is_here() {
            self.rest.ask_at = None;
            return;
        }
        let wait = self.rest.ask_at.map_or(self.patience(scope.cx), |(_, wait)| wait * 2);
        let wait = wait.min(scope.cx.timing.failure / 8);
        self.rest.ask_at = Some((scope.now + wait, wait));
        let request = TokenRequest { ring: self.ring.id };
        let packet = request.emit(scope.cx.envelope, scope.store);
        scope.cx.send(self.rest.there, packet);
    }

    pub(super) fn on_rest_timeout<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        if is_due(scope.now, self.rest.here.map(|(_, until)| until))
            && let Some((mut token, _)) = self.rest.here.take()
        {
            if !self.rest.wanted_by.is_empty() {
                return self.grant(token, scope);
            }
            // One round without rest shows everybody that everybody is there.
            token.tour = self.ring.set.len() as u8;
            let next = self.ring.set.successor(scope.cx.me).expect("a ring has daemons");
            self.pass(token, next, scope);
        }
        if is_due(scope.now, self.rest.ask_at.map(|(at, _)| at)) {
            self.ask(scope);
        }
    }
}
