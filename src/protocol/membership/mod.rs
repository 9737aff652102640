//! Membership: who is in the ring. One type for each state, one table of what each state does
//! with each input, one place where the state changes.
//!
//! Operational, gather, commit and recovery are Totem's; what differs is said where it is.

pub(crate) mod commit;
pub(crate) mod configuration;
pub(crate) mod gather;
pub(crate) mod links;
pub(crate) mod merge_detect;
pub(crate) mod operational;
pub(crate) mod recovery;

use crate::base::event::GatherReason;
use crate::base::{Buffer, Counter, DaemonSet, Event, Instant, Rank, RingId, Store};
use crate::wire;
use crate::wire::data::Data;
use crate::wire::list::List;
use crate::wire::packet::Packet;

use super::context::{Context, Scope};
use super::output::{Kind, Output, ids};
use super::ring::Ring;
use commit::{Commit, Info};
use gather::Gather;
use operational::Operational;
use recovery::Recovery;

/// What a daemon is at.
#[expect(clippy::large_enum_variant, reason = "there is one, and it is most often the largest")]
pub(crate) enum State<B> {
    /// Its ring works.
    Operational(Operational<B>),
    /// It looks for a ring.
    Gather(Gather<B>),
    /// It learns what the others of its ring to be bring along.
    Commit(Commit<B>),
    /// It completes its old ring.
    Recovery(Recovery<B>),
    /// It has said goodbye.
    Stopped,
}

/// What follows from an input.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Next {
    /// The state stays.
    Stay,
    /// Look for a ring.
    Gather(GatherReason),
    /// Look for a ring, and look at the input again there.
    GatherWith(GatherReason),
    /// Take part in an attempt.
    Commit(Box<wire::commit::Commit>),
    /// Everybody's part is known.
    Recover,
    /// Everybody is done.
    Install,
    /// Everybody is done, as the input shows, which belongs to the new ring.
    InstallWith,
    /// Nobody else is there: the ring of one goes on.
    Resume,
    /// Goodbye was said.
    Stop,
}

impl<B: Buffer> State<B> {
    /// The state of a daemon that starts: it is a ring of its own, and looks for others.
    pub(crate) fn start<S: Store<Buffer = B>>(scope: &mut Scope<'_, S>) -> Self {
        let leader = scope.cx.id(scope.cx.me);
        let id = RingId { number: scope.cx.number_max, leader };
        let (alone, window) = (DaemonSet::only(scope.cx.me), scope.cx.window());
        let ring = Ring::new(id, alone, window, scope.cx.daemons.len());
        announce(&ring, id, scope.cx);
        let others = scope.cx.links.others();
        if others.is_empty() {
            return Self::Operational(Operational::new(ring, List::default(), scope.cx, scope.now));
        }
        let gather = Gather::new(ring, others, Instant::ZERO, scope.cx, scope.now);
        begin_gather(&gather, GatherReason::Start, scope.cx);
        Self::Gather(gather)
    }

    /// The ring whose messages are being delivered; none once it stopped.
    pub(crate) fn ring(&self) -> Option<&Ring<B>> {
        match self {
            Self::Operational(s) => Some(s.ring()),
            Self::Gather(s) => Some(&s.old),
            Self::Commit(s) => Some(&s.old),
            Self::Recovery(s) => Some(&s.old),
            Self::Stopped => None,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Operational(_) => "operational",
            Self::Gather(_) => "gather",
            Self::Commit(_) => "commit",
            Self::Recovery(_) => "recovery",
            Self::Stopped => "stopped",
        }
    }

    pub(crate) fn deadline(&self, cx: &Context<B>) -> Option<Instant> {
        match self {
            Self::Operational(s) => s.deadline(cx),
            Self::Gather(s) => s.deadline(cx),
            Self::Commit(s) => Some(s.attempt.deadline(cx)),
            Self::Recovery(s) => s.deadline(cx),
            Self::Stopped => None,
        }
    }

    /// The table: what each state does with each packet.
    pub(crate) fn on_packet<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        packet: &Packet<'_>,
        bytes: &B,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        match packet {
            Packet::Data(data) => self.on_data(from, data, bytes, scope),
            Packet::Token(token) if self.takes_part(from, token.header.ring) => match self {
                Self::Operational(s) => {
                    s.rotation.on_token(from, token, scope);
                    Next::Stay
                }
                Self::Recovery(_) => Next::InstallWith,
                Self::Gather(_) | Self::Commit(_) | Self::Stopped => stale(scope),
            },
            Packet::TokenRequest(request) if self.takes_part(from, request.ring) => match self {
                Self::Operational(s) => {
                    s.rotation.on_request(from, scope);
                    Next::Stay
                }
                Self::Recovery(_) => Next::InstallWith,
                Self::Gather(_) | Self::Commit(_) | Self::Stopped => stale(scope),
            },
            Packet::Notice(notice) if self.takes_part(from, notice.ring) => match self {
                Self::Operational(s) => {
                    s.rotation.on_notice(from, notice, scope);
                    Next::Stay
                }
                Self::Recovery(_) => Next::InstallWith,
                Self::Gather(_) | Self::Commit(_) | Self::Stopped => stale(scope),
            },
            // Of a ring that is over, or that this daemon is not in.
            Packet::Token(_) | Packet::TokenRequest(_) | Packet::Notice(_) => stale(scope),
            Packet::RepairRequest(request) => match self.ring() {
                Some(ring) if ring.id == request.ring && ring.set.contains(from) => {
                    ring.answer(from, request, scope);
                    Next::Stay
                }
                Some(_) | None => stale(scope),
            },
            Packet::Join(join) => match self {
                Self::Operational(s) => again(s.on_contact(from, &join.contact, true, scope)),
                Self::Gather(s) => {
                    s.on_join(from, join, scope.now);
                    Next::Stay
                }
                Self::Commit(s) => again(s.attempt.on_join(from, join, scope)),
                Self::Recovery(s) => again(s.attempt.on_join(from, join, scope)),
                Self::Stopped => Next::Stay,
            },
            Packet::Presence(contact) => match self {
                Self::Operational(s) => s.on_contact(from, contact, false, scope),
                Self::Gather(s) => s.on_timeout(scope),
                // It can be merged once this is over.
                Self::Commit(_) | Self::Recovery(_) | Self::Stopped => Next::Stay,
            },
            Packet::Commit(commit) => match self {
                Self::Gather(s) => s.on_commit(commit, scope),
                // The leader repeats itself, or was not there when this was decided.
                Self::Operational(_) | Self::Commit(_) | Self::Recovery(_) | Self::Stopped => {
                    stale(scope)
                }
            },
            Packet::Exchange(exchange) => self.on_exchange(from, exchange, scope),
            Packet::Done(done) => self.on_done(from, done, scope),
            Packet::Goodbye(_) => self.on_gone(from, GatherReason::Goodbye, scope),
        }
    }

    /// Whether `ring` is the one that works, or the one that is about to, and `from` is in it. A
    /// packet of the latter shows that its sender saw everybody done.
    fn takes_part(&self, from: Rank, ring: RingId) -> bool {
        match self {
            Self::Operational(s) => s.ring().id == ring && s.ring().set.contains(from),
            Self::Recovery(s) => {
                s.attempt.ring() == ring && s.attempt.members().contains(from) && s.is_done()
            }
            Self::Gather(_) | Self::Commit(_) | Self::Stopped => false,
        }
    }

    fn on_data<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        data: &Data<'_>,
        bytes: &B,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        let (me, header) = (scope.cx.me, &data.header);
        let is_ours = self.ring().is_some_and(|r| r.id == header.ring && r.set.contains(from));
        match self {
            Self::Operational(s) if is_ours => {
                s.rotation.on_data(from, data, bytes, scope);
                Next::Stay
            }
            // The old ring's messages are still of use: the more this daemon has of them, the
            // less it will have to ask for.
            Self::Gather(s) if is_ours => {
                s.old.receive(me, from, data, bytes);
                Next::Stay
            }
            Self::Commit(s) if is_ours => {
                s.old.receive(me, from, data, bytes);
                Next::Stay
            }
            Self::Recovery(s) if is_ours => match s.old.receive(me, from, data, bytes) {
                true => s.on_packet(header.seq, scope),
                false => Next::Stay,
            },
            Self::Recovery(_) if self.takes_part(from, header.ring) => Next::InstallWith,
            Self::Operational(_)
            | Self::Gather(_)
            | Self::Commit(_)
            | Self::Recovery(_)
            | Self::Stopped => stale(scope),
        }
    }

    fn on_exchange<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        exchange: &wire::commit::Exchange<'_>,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        match self {
            Self::Gather(s) if exchange.ring.number > scope.cx.number_max => {
                s.on_exchange(from, exchange.ring, Info::new(exchange));
                Next::Stay
            }
            Self::Commit(s) if s.attempt.ring() == exchange.ring => {
                if !s.attempt.members().contains(from) {
                    return stale(scope);
                }
                s.attempt.on_exchange(from, exchange, scope);
                s.conclude()
            }
            Self::Recovery(s) if s.attempt.ring() == exchange.ring => {
                if !s.attempt.members().contains(from) {
                    return stale(scope);
                }
                s.attempt.on_exchange(from, exchange, scope);
                Next::Stay
            }
            Self::Operational(_)
            | Self::Gather(_)
            | Self::Commit(_)
            | Self::Recovery(_)
            | Self::Stopped => stale(scope),
        }
    }

    fn on_done<S: Store<Buffer = B>>(
        &mut self,
        from: Rank,
        done: &wire::commit::Done,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        match self {
            Self::Operational(s) if s.ring().id == done.ring && s.ring().set.contains(from) => {
                s.on_done(from, done, scope);
                Next::Stay
            }
            Self::Commit(s) if s.attempt.ring() == done.ring => {
                if !s.attempt.members().contains(from) {
                    return stale(scope);
                }
                s.attempt.learn_done(done.seen.with(from), scope.now);
                scope.cx.alive(scope.now, from);
                Next::Stay
            }
            Self::Recovery(s) if s.attempt.ring() == done.ring => {
                if !s.attempt.members().contains(from) {
                    return stale(scope);
                }
                s.on_done(from, done, scope)
            }
            Self::Operational(_)
            | Self::Gather(_)
            | Self::Commit(_)
            | Self::Recovery(_)
            | Self::Stopped => stale(scope),
        }
    }

    /// A daemon is not there any more, for a reason that was checked.
    pub(crate) fn on_gone<S: Store<Buffer = B>>(
        &mut self,
        rank: Rank,
        reason: fn(crate::base::DaemonId) -> GatherReason,
        scope: &mut Scope<'_, S>,
    ) -> Next {
        let gather = Next::Gather(reason(scope.cx.id(rank)));
        match self {
            Self::Operational(s) if s.ring().set.contains(rank) => gather,
            Self::Gather(s) => s.on_gone(rank, scope),
            Self::Commit(s) if s.attempt.members().contains(rank) => gather,
            Self::Recovery(s) if s.attempt.members().contains(rank) => gather,
            // It was none of ours.
            Self::Operational(_) | Self::Commit(_) | Self::Recovery(_) | Self::Stopped => {
                Next::Stay
            }
        }
    }

    /// A daemon may not be there any more, which is to be found out.
    pub(crate) fn on_doubt<S: Store<Buffer = B>>(&mut self, rank: Rank, scope: &mut Scope<'_, S>) {
        match self {
            Self::Operational(s) if s.ring().set.contains(rank) => s.show(Some(rank), scope),
            // Who gathers sends to each daemon that it waits for anyway.
            Self::Operational(_)
            | Self::Gather(_)
            | Self::Commit(_)
            | Self::Recovery(_)
            | Self::Stopped => {}
        }
    }

    pub(crate) fn on_timeout<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) -> Next {
        match self {
            Self::Operational(s) => s.on_timeout(scope),
            Self::Gather(s) => s.on_timeout(scope),
            Self::Commit(s) => s.on_timeout(scope),
            Self::Recovery(s) => s.on_timeout(scope),
            Self::Stopped => Next::Stay,
        }
    }

    /// A message was put into the backlog.
    pub(crate) fn on_submit<S: Store<Buffer = B>>(&mut self, scope: &mut Scope<'_, S>) {
        match self {
            Self::Operational(s) if s.ring().is_alone() => {
                scope.cx.deliver_alone(&mut s.rotation.ring);
            }
            Self::Operational(s) => s.rotation.on_submit(scope),
            // It waits for the ring to come.
            Self::Gather(_) | Self::Commit(_) | Self::Recovery(_) | Self::Stopped => {}
        }
    }

    /// The only place where the state changes.
    #[must_use]
    pub(crate) fn enter<S: Store<Buffer = B>>(self, next: Next, scope: &mut Scope<'_, S>) -> Self {
        match (next, self) {
            (Next::Stay, state) => state,
            (Next::Gather(reason) | Next::GatherWith(reason), state) => {
                state.enter_gather(reason, scope)
            }
            (Next::Commit(commit), Self::Gather(s)) => {
                let commit = Commit::new(s, *commit, scope);
                let next = commit.conclude();
                Self::Commit(commit).enter(next, scope)
            }
            (Next::Recover, Self::Commit(s)) => {
                let recovery = Recovery::new(s.old, s.attempt, scope);
                let next = recovery.conclude();
                Self::Recovery(recovery).enter(next, scope)
            }
            (Next::Install | Next::InstallWith, Self::Recovery(s)) => s.install(scope),
            (Next::Resume, Self::Gather(s)) => {
                assert!(s.old.is_alone(), "only a ring of one can go on without the others");
                let none = List::default();
                Self::Operational(Operational::new(s.old, none, scope.cx, scope.now)).begin(scope)
            }
            (Next::Stop, _) => Self::Stopped,
            (
                next @ (Next::Commit(_) | Next::Resume),
                state
                @ (Self::Operational(_) | Self::Commit(_) | Self::Recovery(_) | Self::Stopped),
            )
            | (
                next @ Next::Recover,
                state
                @ (Self::Operational(_) | Self::Gather(_) | Self::Recovery(_) | Self::Stopped),
            )
            | (
                next @ (Next::Install | Next::InstallWith),
                state @ (Self::Operational(_) | Self::Gather(_) | Self::Commit(_) | Self::Stopped),
            ) => unreachable!("{} does not lead to {next:?}", state.name()),
        }
    }

    fn enter_gather<S: Store<Buffer = B>>(
        self,
        reason: GatherReason,
        scope: &mut Scope<'_, S>,
    ) -> Self {
        let never = Instant::ZERO;
        let (old, expected, excused_until) = match self {
            Self::Operational(s) => {
                let expected = s.expected(scope.cx, scope.now);
                let excused_until = s.rotation.excused_until(scope.now);
                scope.cx.links.were_here(scope.now, s.ring().set);
                if let Some(suspect) = s.rotation.suspect() {
                    scope.cx.links.doubt(scope.now, suspect, scope.cx.timing.failure);
                }
                (s.rotation.ring, expected, excused_until)
            }
            Self::Gather(s) => (s.old, DaemonSet::EMPTY, never),
            Self::Commit(s) => (s.old, s.attempt.members(), never),
            Self::Recovery(s) => (s.old, s.attempt.members(), never),
            Self::Stopped => return Self::Stopped,
        };
        let gather = Gather::new(old, expected, excused_until, scope.cx, scope.now);
        begin_gather(&gather, reason, scope.cx);
        Self::Gather(gather)
    }

    /// Sets a new ring to work, or the ring of one that goes on.
    fn begin<S: Store<Buffer = B>>(mut self, scope: &mut Scope<'_, S>) -> Self {
        if let Self::Operational(s) = &mut self {
            if s.ring().is_alone() {
                scope.cx.deliver_alone(&mut s.rotation.ring);
            } else if s.ring().set.first() == Some(scope.cx.me) {
                s.rotation.begin(scope);
            }
        }
        self
    }
}

impl<B: Buffer> Recovery<B> {
    /// Delivers the rest of the old ring, and sets the new one to work.
    fn install<S: Store<Buffer = B>>(self, scope: &mut Scope<'_, S>) -> State<B> {
        let from = self.old.id;
        let (attempt, staged) = self.into_parts();
        for output in staged {
            if matches!(output, Output::Deliver { .. }) {
                scope.cx.out.count(Counter::MessagesOrdered);
            }
            scope.cx.out.outputs.push_back(output);
        }
        // What was begun in the old ring is void there: its end never got a place.
        scope.cx.backlog.begin_again();
        let (id, members, window) = (attempt.ring(), attempt.members(), attempt.window());
        let ring = Ring::new(id, members, window, scope.cx.daemons.len());
        announce(&ring, from, scope.cx);
        let incarnations = attempt.commit.incarnations;
        let operational = Operational::new(ring, incarnations, scope.cx, scope.now);
        State::Operational(operational).begin(scope)
    }
}

fn announce<B: Buffer>(ring: &Ring<B>, from: RingId, cx: &mut Context<B>) {
    let members = ids(&cx.daemons, ring.set);
    cx.out.count(Counter::ConfigurationsInstalled);
    cx.out.tell(Event::ConfigurationInstalled { ring: ring.id, daemons: members.clone() });
    let (kind, ring) = (Kind::Regular, ring.id);
    cx.out.outputs.push_back(Output::Configuration { kind, ring, members, from });
}

fn begin_gather<B: Buffer>(gather: &Gather<B>, reason: GatherReason, cx: &mut Context<B>) {
    cx.out.count(Counter::GathersStarted);
    cx.out.tell(Event::GatherStarted { ring: gather.old.id, reason });
}

/// The new state has to look at the same input.
fn again(next: Next) -> Next {
    match next {
        Next::Gather(reason) => Next::GatherWith(reason),
        other @ (Next::Stay
        | Next::GatherWith(_)
        | Next::Commit(_)
        | Next::Recover
        | Next::Install
        | Next::InstallWith
        | Next::Resume
        | Next::Stop) => other,
    }
}

fn stale<S: Store>(scope: &mut Scope<'_, S>) -> Next {
    scope.cx.out.count(Counter::PacketsStale);
    Next::Stay
}

#[cfg(test)]
mod tests;
