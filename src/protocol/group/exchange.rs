//! What daemons of a new ring tell each other of their groups, where they did not all come
//! together: one daemon of each component tells what the component knows.

use std::collections::{BTreeMap, VecDeque};

use crate::base::{DaemonSet, GroupId, GroupName, Rank, RingId};
use crate::wire::ordered::{Component, State, StateWriter};

use super::table::{Member, Table};

/// One exchange, from the installation of a ring until everybody's state is known or the ring is
/// left.
pub(crate) struct Exchange<B> {
    ring: RingId,
    members: DaemonSet,
    own: Component,
    /// Where this daemon goes on to tell; `None` where it is told, or told by another one.
    cursor: Option<Cursor>,
    /// A part ends behind so many bytes.
    part_bytes: usize,
    heard: Vec<Heard<B>>,
    /// What was ordered meanwhile, with who put it there.
    waiting: VecDeque<(Rank, B)>,
}

#[derive(Clone, Copy)]
struct Cursor {
    group: GroupName,
    members_told: usize,
}

struct Heard<B> {
    component: Component,
    parts: Vec<B>,
    is_whole: bool,
}

/// A group as another component knows it.
pub(crate) struct Foreign {
    pub(crate) component: Component,
    pub(crate) id: GroupId,
    pub(crate) is_changed: bool,
    pub(crate) members: Vec<Member>,
}

impl<B: AsRef<[u8]>> Exchange<B> {
    pub(crate) fn new(
        ring: RingId,
        members: DaemonSet,
        own: Component,
        me: Rank,
        part_bytes: usize,
    ) -> Self {
        let first = GroupName::from_field(&[0; 32]).expect("there is a NUL");
        let tells = own.together.first() == Some(me);
        let cursor = tells.then_some(Cursor { group: first, members_told: 0 });
        let (heard, waiting) = (Vec::new(), VecDeque::new());
        Self { ring, members, own, cursor, part_bytes, heard, waiting }
    }

    /// Keeps what was ordered until the exchange is over.
    pub(crate) fn wait(&mut self, origin: Rank, payload: B) {
        self.waiting.push_back((origin, payload));
    }

    /// What was ordered meanwhile.
    pub(crate) fn take_waiting(&mut self) -> VecDeque<(Rank, B)> {
        std::mem::take(&mut self.waiting)
    }

    /// The next part that this daemon is to put into the order.
    pub(crate) fn next_part(&self, table: &Table) -> Option<Part> {
        let Cursor { group, mut members_told } = self.cursor?;
        let mut writer = StateWriter::new(self.ring, self.own);
        for (_, group) in table.iter_from(group) {
            let known = group.members().iter().map(|member| (member.rank, member.session));
            let known = known.filter(|(rank, _)| self.own.together.contains(*rank));
            let count = known.clone().count();
            while members_told < count {
                if writer.bytes() >= self.part_bytes {
                    let next = Cursor { group: group.name, members_told };
                    return Some(Part { bytes: writer.finish(false), next: Some(next) });
                }
                let left = known.clone().skip(members_told);
                let (id, is_changed) = (group.id, group.is_changed);
                members_told += writer.group(&group.name, id, is_changed, left, self.part_bytes);
            }
            members_told = 0;
        }
        Some(Part { bytes: writer.finish(true), next: None })
    }

    /// A part is in the order.
    pub(crate) fn told(&mut self, part: &Part) {
        self.cursor = part.next;
    }

    /// Whether `origin` may tell of `component`: it is the first of those it speaks for, they are
    /// in the ring, and nobody else speaks for any of them.
    pub(crate) fn may_tell(&self, origin: Rank, component: &Component) -> bool {
        let together = component.together;
        let others = self.heard.iter().map(|heard| &heard.component).chain([&self.own]);
        let mut others = others.filter(|other| *other != component);
        together.first() == Some(origin)
            && self.members.contains_all(together)
            && others.all(|other| other.together.intersection(together).is_empty())
    }

    /// Takes what a daemon told. Returns whether everything is known now.
    pub(crate) fn hear(&mut self, state: &State<'_>, payload: B) -> bool {
        let component = state.component;
        let known = self.heard.iter().position(|heard| heard.component == component);
        let index = known.unwrap_or_else(|| {
            self.heard.push(Heard { component, parts: Vec::new(), is_whole: false });
            self.heard.len() - 1
        });
        let heard = &mut self.heard[index];
        heard.is_whole = state.is_last;
        if component != self.own {
            heard.parts.push(payload);
        }
        let whole = self.heard.iter().filter(|heard| heard.is_whole);
        let told = whole.fold(DaemonSet::EMPTY, |all, heard| all.union(heard.component.together));
        told.contains_all(self.members)
    }

    /// Bytes of what was heard and of what waits.
    pub(crate) fn retained_bytes(&self) -> usize {
        let parts = self.heard.iter().flat_map(|heard| &heard.parts);
        let waiting = self.waiting.iter().map(|(_, payload)| payload);
        parts.chain(waiting).map(|bytes| bytes.as_ref().len()).sum()
    }

    pub(crate) fn ring(&self) -> RingId {
        self.ring
    }

    pub(crate) fn members(&self) -> DaemonSet {
        self.members
    }

    /// Those who came together, in an order that is the same at all daemons.
    pub(crate) fn components(&self) -> Vec<DaemonSet> {
        let mut all: Vec<_> = self.heard.iter().map(|heard| heard.component.together).collect();
        all.sort_unstable_by_key(|together| together.first());
        all
    }

    /// The groups that other components know.
    pub(crate) fn foreign(&self) -> BTreeMap<GroupName, Vec<Foreign>> {
        let mut groups: BTreeMap<GroupName, Vec<Foreign>> = BTreeMap::new();
        for heard in &self.heard {
            let states = heard.parts.iter().filter_map(|part| State::parse(part.as_ref()));
            for group in states.flat_map(|state| state.groups()) {
                let component = heard.component;
                let own = group.members().filter(|(rank, _)| component.together.contains(*rank));
                let own = own.map(|(rank, session)| Member { rank, session, local: None });
                let known = groups.entry(group.name).or_default();
                match known.last_mut().filter(|last| last.component == component) {
                    Some(last) => last.members.extend(own),
                    None => known.push(Foreign {
                        component,
                        id: group.id,
                        is_changed: group.is_changed,
                        members: own.collect(),
                    }),
                }
            }
        }
        groups.retain(|_, known| {
            known.retain(|foreign| !foreign.members.is_empty());
            !known.is_empty()
        });
        groups
    }
}

/// A part of what this daemon tells.
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    next: Option<Cursor>,
}
