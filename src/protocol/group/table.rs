//! The groups that exist, and who is in them.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{DaemonSet, GroupId, GroupName, Rank, SessionId, SessionName};

/// A member of a group, wherever its daemon is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Its daemon.
    pub(crate) rank: Rank,
    /// Its name there.
    pub(crate) session: SessionName,
    /// Where it is a session of this daemon.
    pub(crate) local: Option<Local>,
}

/// A member that is connected here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Local {
    pub(crate) id: SessionId,
    /// It gets membership messages.
    pub(crate) wants_views: bool,
}

impl Member {
    /// The order of member lists: by daemon, then bytewise by private group, where the `#` that
    /// follows the session's name is lower than any character of a name.
    fn place(&self) -> (Rank, SessionName) {
        (self.rank, self.session)
    }
}

/// Where a group stands in the table; valid while the group exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupKey(usize);

/// One group and its current view.
pub(crate) struct Group {
    pub(crate) name: GroupName,
    pub(crate) id: GroupId,
    /// It lost members; they are listed until the next view is computed.
    pub(crate) is_changed: bool,
    /// In the order of member lists.
    members: Vec<Member>,
    /// The members that are sessions of this daemon: who gets data here.
    local: Vec<SessionId>,
}

impl Group {
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(crate) fn local(&self) -> &[SessionId] {
        &self.local
    }

    /// Whether all members are sessions of this daemon.
    pub(crate) fn is_local(&self) -> bool {
        self.local.len() == self.members.len()
    }

    /// Local members that get membership messages.
    pub(crate) fn watchers(&self) -> impl Iterator<Item = SessionId> {
        let local = self.members.iter().filter_map(|member| member.local);
        local.filter(|local| local.wants_views).map(|local| local.id)
    }

    /// Whether it has members outside `daemons`.
    pub(crate) fn has_lost(&self, daemons: DaemonSet) -> bool {
        self.members.iter().any(|member| !daemons.contains(member.rank))
    }

    fn position(&self, rank: Rank, session: SessionName) -> Result<usize, usize> {
        self.members.binary_search_by_key(&(rank, session), Member::place)
    }
}

/// All groups, by name.
pub(crate) struct Table {
    names: BTreeMap<GroupName, GroupKey>,
    groups: Vec<Option<Group>>,
    free: Vec<GroupKey>,
    /// The groups of each member, in the order in which a disconnect leaves them.
    of_member: BTreeMap<(Rank, SessionName), BTreeSet<GroupName>>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            names: BTreeMap::new(),
            groups: Vec::new(),
            free: Vec::new(),
            of_member: BTreeMap::new(),
        }
    }

    pub(crate) fn find(&self, name: &GroupName) -> Option<GroupKey> {
        self.names.get(name).copied()
    }

    pub(crate) fn get(&self, key: GroupKey) -> &Group {
        self.groups[key.0].as_ref().expect("the group of a key exists")
    }

    pub(crate) fn get_mut(&mut self, key: GroupKey) -> &mut Group {
        self.groups[key.0].as_mut().expect("the group of a key exists")
    }

    /// All groups in the order of their names, from `first` on.
    pub(crate) fn iter_from(&self, first: GroupName) -> impl Iterator<Item = (GroupKey, &Group)> {
        self.names.range(first..).map(|(_, &key)| (key, self.get(key)))
    }

    /// All groups in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (GroupKey, &Group)> {
        self.names.values().map(|&key| (key, self.get(key)))
    }

    /// Makes an empty group. Its id is that before its first change.
    pub(crate) fn create(&mut self, name: GroupName, id: GroupId) -> GroupKey {
        let group = Group { name, id, is_changed: false, members: Vec::new(), local: Vec::new() };
        let key = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            GroupKey(self.groups.len() - 1)
        });
        self.groups[key.0] = Some(group);
        self.names.insert(name, key);
        key
    }

    /// Forgets a group, and who was in it. Returns its last id.
    pub(crate) fn dissolve(&mut self, key: GroupKey) -> GroupId {
        let group = self.groups[key.0].take().expect("the group of a key exists");
        for member in &group.members {
            self.forget(member, &group.name);
        }
        self.names.remove(&group.name);
        self.free.push(key);
        group.id
    }

    /// Adds a member. Returns whether it was none before.
    pub(crate) fn insert(&mut self, key: GroupKey, member: Member) -> bool {
        let group = self.groups[key.0].as_mut().expect("the group of a key exists");
        let Err(at) = group.position(member.rank, member.session) else { return false };
        group.local.extend(member.local.map(|local| local.id));
        group.members.insert(at, member);
        self.of_member.entry(member.place()).or_default().insert(group.name);
        true
    }

    /// Takes a member out. Returns whether it was one.
    pub(crate) fn remove(&mut self, key: GroupKey, rank: Rank, session: SessionName) -> bool {
        let group = self.get_mut(key);
        let Ok(at) = group.position(rank, session) else { return false };
        let member = group.members.remove(at);
        if let Some(local) = member.local {
            let at = group.local.iter().position(|&id| id == local.id);
            group.local.swap_remove(at.expect("a local member is among the local ones"));
        }
        let name = group.name;
        self.forget(&member, &name);
        true
    }

    /// Takes out all members outside `daemons`.
    pub(crate) fn remove_lost(&mut self, key: GroupKey, daemons: DaemonSet) {
        let group = self.groups[key.0].as_mut().expect("the group of a key exists");
        let name = group.name;
        let is_lost = |member: &mut Member| !daemons.contains(member.rank);
        let lost: Vec<Member> = group.members.extract_if(.., is_lost).collect();
        for member in &lost {
            self.forget(member, &name);
        }
    }

    /// All members are on daemon `from`, which is called `to` from now on.
    pub(crate) fn rename_daemon(&mut self, from: Rank, to: Rank) {
        for member in self.groups.iter_mut().flatten().flat_map(|group| &mut group.members) {
            assert_eq!(member.rank, from, "nobody else is in any group");
            member.rank = to;
        }
        let groups = std::mem::take(&mut self.of_member).into_iter();
        self.of_member = groups.map(|((_, session), groups)| ((to, session), groups)).collect();
    }

    fn forget(&mut self, member: &Member, group: &GroupName) {
        if let Some(groups) = self.of_member.get_mut(&member.place()) {
            groups.remove(group);
            if groups.is_empty() {
                self.of_member.remove(&member.place());
            }
        }
    }

    /// The first group, by name, that the member is in.
    pub(crate) fn first_of(&self, rank: Rank, session: SessionName) -> Option<GroupName> {
        self.of_member.get(&(rank, session))?.first().copied()
    }
}
