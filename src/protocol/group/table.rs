//! The groups that exist, and who is in them.

use std::collections::BTreeMap;

use crate::base::{GroupId, GroupName, SessionId};
use crate::protocol::configuration::Configuration;

/// A member of a group, wherever its daemon is.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its daemon's place in the order of member lists.
    pub(crate) rank: usize,
    /// Its private group.
    pub(crate) name: GroupName,
    /// Which session it is, where it is one of this daemon.
    pub(crate) session: Option<SessionId>,
    /// It is to get membership messages from this daemon.
    pub(crate) wants_views: bool,
}

/// Where a group stands in the table; valid while the group exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupKey(usize);

/// One group and its current view.
pub(crate) struct Group {
    pub(crate) name: GroupName,
    pub(crate) id: GroupId,
    /// In the order of member lists: by daemon, then bytewise by name.
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

    /// Local members that get membership messages.
    pub(crate) fn watchers(&self) -> impl Iterator<Item = SessionId> {
        self.members.iter().filter(|member| member.wants_views).filter_map(|member| member.session)
    }

    pub(crate) fn position(&self, rank: usize, name: &GroupName) -> Result<usize, usize> {
        self.members
            .binary_search_by(|member| member.rank.cmp(&rank).then_with(|| member.name.cmp(name)))
    }

    /// Adds a member where `position` found room for it.
    pub(crate) fn insert(&mut self, at: usize, member: Member) {
        self.local.extend(member.session);
        self.members.insert(at, member);
    }

    pub(crate) fn remove(&mut self, at: usize) -> Member {
        let member = self.members.remove(at);
        if let Some(session) = member.session {
            let local = self.local.iter().position(|&id| id == session);
            self.local.swap_remove(local.expect("a local member is among the local ones"));
        }
        member
    }
}

/// All groups, by name.
pub(crate) struct Table {
    names: BTreeMap<GroupName, GroupKey>,
    groups: Vec<Option<Group>>,
    free: Vec<GroupKey>,
    /// The highest index of any group that has dissolved in this configuration.
    ///
    /// New groups count on from it, so that no group id ever comes back. (Spread's do: its groups
    /// always start at 1.)
    dissolved_index: i32,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { names: BTreeMap::new(), groups: Vec::new(), free: Vec::new(), dissolved_index: 0 }
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

    /// Makes an empty group; its first change will have the first unused group id.
    pub(crate) fn create(&mut self, name: GroupName, configuration: &Configuration) -> GroupKey {
        let id = configuration.group_id(self.dissolved_index);
        let group = Group { name, id, members: Vec::new(), local: Vec::new() };
        let key = self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            GroupKey(self.groups.len() - 1)
        });
        self.groups[key.0] = Some(group);
        self.names.insert(name, key);
        key
    }

    /// Forgets a group whose last member is gone.
    pub(crate) fn dissolve(&mut self, key: GroupKey) {
        let group = self.groups[key.0].take().expect("the group of a key exists");
        assert!(group.members.is_empty(), "a group with members does not dissolve");
        self.dissolved_index = self.dissolved_index.max(group.id.index);
        self.names.remove(&group.name);
        self.free.push(key);
    }
}
