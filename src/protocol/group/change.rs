//! Groups across configurations: the transitional signal, the exchange of state where daemons come
//! together that have different tables, and the views that follow.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Buffer, DaemonSet, GroupName, Rank, RingId};
use crate::protocol::configuration::{Daemon, Epoch};
use crate::wire::ordered::{Component, State};

use super::Groups;
use super::exchange::{Exchange, Foreign, Part};
use super::news::{News, Sets};

/// How far the groups are behind the daemons.
pub(super) enum Phase<B> {
    /// All daemons of the ring share the table.
    Settled,
    /// The ring was left.
    Transitional,
    /// A ring is there, and its daemons tell each other of their groups.
    Exchange(Exchange<B>),
}

impl<B: Buffer> Groups<B> {
    /// Whether all daemons of the ring share the table. Requests that are put into the order
    /// before that would only wait.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Settled)
    }

    /// Bytes of what is kept for what has not taken effect or is still to be told.
    pub(crate) fn retained_bytes(&self) -> usize {
        let exchange = match &self.phase {
            Phase::Exchange(exchange) => exchange.retained_bytes(),
            Phase::Settled | Phase::Transitional => 0,
        };
        let due = self.due.iter().map(|(_, payload)| payload.as_ref().len());
        exchange + due.sum::<usize>() + self.pending.retained_bytes()
    }

    /// Takes what the order brings of daemon `origin`. Returns `false` for what no daemon would
    /// say.
    #[must_use]
    pub(crate) fn handle_ordered(&mut self, origin: Rank, payload: B) -> bool {
        let Phase::Exchange(exchange) = &mut self.phase else {
            self.due.push_back((origin, payload));
            return true;
        };
        match State::parse(payload.as_ref()) {
            // It waited for its place while its ring was left.
            Some(state) if state.ring != exchange.ring() => {}
            Some(state) if !exchange.may_tell(origin, &state.component) => return false,
            Some(state) => {
                if exchange.hear(&state, payload.clone()) {
                    self.conclude();
                }
            }
            None => exchange.wait(origin, payload),
        }
        true
    }

    /// What takes effect next. Not while something is still to be told.
    pub(crate) fn next_due(&mut self) -> Option<(Rank, B)> {
        self.due.pop_front()
    }

    /// Ends an exchange because its ring is being left: what was ordered meanwhile is due, in the
    /// views that there are. Returns whether there was one.
    pub(crate) fn abandon_exchange(&mut self) -> bool {
        let Phase::Exchange(exchange) = &mut self.phase else { return false };
        self.due = exchange.take_waiting();
        self.phase = Phase::Transitional;
        true
    }

    /// The ring is being left; `members` of it move on together with this daemon to ring `next`.
    pub(crate) fn handle_transitional(&mut self, members: DaemonSet, next: RingId) {
        let together = self.component.together.intersection(members);
        self.component.together = together;
        self.phase = Phase::Transitional;
        let leader = together.first().expect("a daemon moves with itself");
        self.epoch = Epoch::before_ring(next, self.daemons[leader.index()].id);
        let groups = self.table.iter();
        let lost = groups.filter(|(_, group)| !group.is_changed && group.has_lost(together));
        let lost: Vec<_> = lost.map(|(key, _)| key).collect();
        for key in lost {
            self.table.get_mut(key).is_changed = true;
            self.pending.push(News::Signal { group: key });
        }
    }

    /// A ring is there.
    pub(crate) fn handle_regular(&mut self, ring: RingId, members: DaemonSet) {
        if self.component.together == members {
            return self.settle(ring, members, &[members], BTreeMap::new());
        }
        self.known = self.component.together;
        let (own, part_bytes) = (self.component, self.state_part_bytes);
        self.phase = Phase::Exchange(Exchange::new(ring, members, own, self.me, part_bytes));
    }

    /// The cluster has other daemons from now on. This one is alone in its ring, under the name
    /// that it had; a first ring of the new cluster follows.
    pub(crate) fn handle_reload(&mut self, daemons: Vec<Daemon>, me: Rank) {
        assert!(self.is_settled() && self.component.together == DaemonSet::only(self.me));
        self.table.rename_daemon(self.me, me);
        self.component.together = DaemonSet::only(me);
        self.known = self.component.together;
        (self.daemons, self.me) = (daemons, me);
        self.directory.invalidate();
    }

    /// What this daemon is to put into the order next, ahead of everything else.
    pub(crate) fn next_state(&self) -> Option<Part> {
        match &self.phase {
            Phase::Exchange(exchange) => exchange.next_part(&self.table),
            Phase::Settled | Phase::Transitional => None,
        }
    }

    /// It is in the order.
    pub(crate) fn state_told(&mut self, part: &Part) {
        if let Phase::Exchange(exchange) = &mut self.phase {
            exchange.told(part);
        }
    }

    /// Everybody's state is known.
    fn conclude(&mut self) {
        let Phase::Exchange(exchange) = &mut self.phase else { return };
        let (ring, members) = (exchange.ring(), exchange.members());
        let (sets, foreign) = (exchange.components(), exchange.foreign());
        let waiting = exchange.take_waiting();
        self.settle(ring, members, &sets, foreign);
        self.due = waiting;
    }

    /// Computes the views of ring `ring`: the same at all its daemons. `sets` are those who came
    /// together.
    fn settle(
        &mut self,
        ring: RingId,
        members: DaemonSet,
        sets: &[DaemonSet],
        mut foreign: BTreeMap<GroupName, Vec<Foreign>>,
    ) {
        let epoch = Epoch::of_ring(ring);
        let changed = self.table.iter().filter(|(_, group)| group.is_changed);
        let names = changed.map(|(_, group)| group.name).chain(foreign.keys().copied());
        let names: BTreeSet<GroupName> = names.collect();
        for name in names {
            let others = foreign.remove(&name).unwrap_or_default();
            self.renew(name, &others, sets, &epoch);
        }
        self.component = Component { base: ring, together: members };
        self.known = members;
        self.epoch = epoch;
        self.phase = Phase::Settled;
        self.directory.invalidate();
    }

    /// Computes the view of one group that lost members, or that other components know: a new one
    /// where members were lost or come together, else the one that it has.
    fn renew(&mut self, name: GroupName, others: &[Foreign], sets: &[DaemonSet], epoch: &Epoch) {
        let mut is_changed = others.iter().any(|other| other.is_changed);
        let mut sources = others.len();
        let mut key = self.table.find(&name);
        if let Some(own) = key {
            self.table.remove_lost(own, self.component.together);
            let group = self.table.get(own);
            if group.members().is_empty() {
                self.table.dissolve(own);
                key = None;
            } else {
                is_changed |= group.is_changed;
                sources += 1;
            }
        }
        let Some(key) = key.or_else(|| {
            let id = others.first()?.id;
            Some(self.table.create(name, id))
        }) else {
            return;
        };
        for member in others.iter().flat_map(|other| &other.members) {
            self.table.insert(key, *member);
        }
        let group = self.table.get_mut(key);
        group.is_changed = false;
        if is_changed || sources > 1 {
            group.id = epoch.first();
            let sets = Sets { daemons: sets.to_vec(), apart: None };
            self.pending.push(News::Network { group: key, sets });
        }
    }
}
