//! What is to be told to sessions of this daemon: decided when something takes its place in the
//! order, told as soon as there is memory for it, before anything else takes its place.

use std::collections::VecDeque;

use crate::base::{
    Buffer, DaemonSet, GroupName, PrivateGroup, Rank, SessionId, SessionName, Store,
};
use crate::protocol::configuration::Daemon;
use crate::protocol::delivery::Stream;
use crate::wire::session::Cause;
use crate::wire::session::membership::{
    emit_regular, emit_self_leave, emit_transitional, regular_len,
};

use super::table::{Group, GroupKey, Local, Member, Table};

/// One thing to tell.
pub(crate) enum News {
    /// The view of a group after a member joined, left or disconnected.
    View { group: GroupKey, cause: Cause, changed: (Rank, SessionName) },
    /// The view of a group after daemons were lost or found.
    Network { group: GroupKey, sets: Sets },
    /// The transitional signal for a group.
    Signal { group: GroupKey },
    /// A session left a group.
    Left { group: GroupName, session: SessionId },
    /// A session is over.
    Ended { session: SessionId },
}

/// The virtual-synchrony sets of a view.
#[derive(Clone)]
pub(crate) struct Sets {
    /// The members on each of these came together.
    pub(crate) daemons: Vec<DaemonSet>,
    /// This one came alone, whatever its daemon is.
    pub(crate) apart: Option<(Rank, SessionName)>,
}

/// What waits to be told.
pub(crate) struct Pending {
    news: VecDeque<News>,
    /// Receivers of the message at hand.
    targets: Vec<SessionId>,
}

/// What is needed to name members.
pub(crate) struct Names<'a> {
    pub(crate) daemons: &'a [Daemon],
    pub(crate) me: Rank,
}

impl Names<'_> {
    fn of(&self, rank: Rank, session: SessionName) -> GroupName {
        PrivateGroup { session, daemon: self.daemons[rank.index()].name }.to_name()
    }

    fn member(&self, member: &Member) -> GroupName {
        self.of(member.rank, member.session)
    }
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self { news: VecDeque::new(), targets: Vec::new() }
    }

    /// Bytes of what waits to be told.
    pub(crate) fn retained_bytes(&self) -> usize {
        self.news.len() * size_of::<News>()
    }

    pub(crate) fn push(&mut self, news: News) {
        self.news.push_back(news);
    }

    /// Tells all; `false` where memory for the next is lacking: to be called again.
    #[must_use]
    pub(crate) fn tell<S: Store>(
        &mut self,
        table: &Table,
        names: &Names<'_>,
        store: &mut S,
        out: &mut Stream<S::Buffer>,
    ) -> bool {
        while let Some(news) = self.news.pop_front() {
            if !self.tell_one(&news, table, names, store, out) {
                self.news.push_front(news);
                return false;
            }
        }
        true
    }

    fn tell_one<S: Store>(
        &mut self,
        news: &News,
        table: &Table,
        names: &Names<'_>,
        store: &mut S,
        out: &mut Stream<S::Buffer>,
    ) -> bool {
        self.targets.clear();
        let frame = match news {
            News::View { group, cause, changed } => {
                let group = table.get(*group);
                self.targets.extend(group.watchers());
                self.frame(|| changed_view(group, *cause, *changed, names, store))
            }
            News::Network { group, sets } => {
                return self.network(table.get(*group), sets, names, store, out);
            }
            News::Signal { group } => {
                let group = table.get(*group);
                self.targets.extend(group.watchers());
                self.frame(|| store.copy(&emit_transitional(&group.name, group.id)))
            }
            News::Left { group, session } => {
                self.targets.push(*session);
                self.frame(|| store.copy(&emit_self_leave(group)))
            }
            News::Ended { session } => {
                out.push_ended(*session);
                return true;
            }
        };
        self.send(frame, out)
    }

    /// A frame, if somebody is to get it.
    fn frame<B>(&self, frame: impl FnOnce() -> Option<B>) -> Option<Option<B>> {
        if self.targets.is_empty() { Some(None) } else { frame().map(Some) }
    }

    fn send<B: Buffer>(&self, frame: Option<Option<B>>, out: &mut Stream<B>) -> bool {
        let Some(frame) = frame else { return false };
        if let Some(frame) = frame {
            out.push(frame, &self.targets, None);
        }
        true
    }

    /// Tells a network view. The member that came alone has its own set pointed out to it.
    fn network<S: Store>(
        &mut self,
        group: &Group,
        sets: &Sets,
        names: &Names<'_>,
        store: &mut S,
        out: &mut Stream<S::Buffer>,
    ) -> bool {
        let (sets, own, apart) = sets.split(group, names.me);
        let apart = apart.filter(|local| local.wants_views).map(|local| local.id);
        let others = group.watchers().filter(|&watcher| Some(watcher) != apart);
        self.targets.extend(others);
        let mut frame = |own_set| network_view(group, &sets, own_set, names, store);
        // Both before either is told: this may be called again.
        let to_others = self.frame(|| frame(own.expect("who watches came in a set")));
        let to_apart = apart.map(|_| frame(sets.len() - 1));
        if to_others.is_none() || to_apart.as_ref().is_some_and(Option::is_none) {
            return false;
        }
        if let (Some(id), Some(Some(frame))) = (apart, to_apart) {
            out.push(frame, &[id], None);
        }
        self.send(to_others, out)
    }
}

impl Sets {
    /// The members of each set that has any, the place of the set of daemon `me`, and the member
    /// that came alone, if it is connected here; its set is the last one.
    fn split<'a>(
        &self,
        group: &'a Group,
        me: Rank,
    ) -> (Vec<Vec<&'a Member>>, Option<usize>, Option<Local>) {
        let is_apart = |member: &&Member| self.apart == Some((member.rank, member.session));
        let mut sets: Vec<Vec<&Member>> = Vec::new();
        let mut own = None;
        for daemons in &self.daemons {
            let members = group.members().iter().filter(|member| daemons.contains(member.rank));
            let set: Vec<_> = members.filter(|member| !is_apart(member)).collect();
            if !set.is_empty() {
                own = own.or(daemons.contains(me).then_some(sets.len()));
                sets.push(set);
            }
        }
        let apart = group.members().iter().find(is_apart);
        sets.extend(apart.map(|member| vec![member]));
        (sets, own, apart.and_then(|member| member.local))
    }
}

fn changed_view<S: Store>(
    group: &Group,
    cause: Cause,
    (rank, session): (Rank, SessionName),
    names: &Names<'_>,
    store: &mut S,
) -> Option<S::Buffer> {
    store.store(regular_len(group.members().len(), 1, 1), |into| {
        let members = group.members().iter().map(|member| names.member(member));
        let changed = [[names.of(rank, session)]];
        emit_regular(into, cause, &group.name, group.id, members, changed, 0);
    })
}

fn network_view<S: Store>(
    group: &Group,
    sets: &[Vec<&Member>],
    own_set: usize,
    names: &Names<'_>,
    store: &mut S,
) -> Option<S::Buffer> {
    let count = group.members().len();
    store.store(regular_len(count, sets.len(), count), |into| {
        let members = group.members().iter().map(|member| names.member(member));
        let sets = sets.iter().map(|set| set.iter().map(|member| names.member(member)));
        emit_regular(into, Cause::Network, &group.name, group.id, members, sets, own_set);
    })
}
