//! The sessions of this daemon: their names, and which groups each is in.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{DaemonName, GroupName, PrivateGroup, SessionId, SessionName};

/// The session's name is taken by another session of this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another session of this daemon has that name")]
pub struct NameTaken;

/// One connected session.
pub(crate) struct LocalSession {
    id: SessionId,
    pub(crate) name: PrivateGroup,
    pub(crate) wants_membership: bool,
    /// In the order in which a disconnect leaves them.
    pub(crate) groups: BTreeSet<GroupName>,
}

/// All connected sessions, by id and by name.
pub(crate) struct LocalSessions {
    daemon: DaemonName,
    /// By core, then by slot.
    by_id: Vec<Vec<Option<LocalSession>>>,
    by_name: BTreeMap<SessionName, SessionId>,
    automatic: u32,
}

impl LocalSessions {
    pub(crate) fn new(daemon: DaemonName) -> Self {
        Self { daemon, by_id: Vec::new(), by_name: BTreeMap::new(), automatic: 0 }
    }

    pub(crate) fn connect(
        &mut self,
        id: SessionId,
        name: Option<SessionName>,
        wants_membership: bool,
    ) -> Result<PrivateGroup, NameTaken> {
        let session = match name {
            Some(name) if self.by_name.contains_key(&name) => return Err(NameTaken),
            Some(name) => name,
            None => self.automatic_name(id),
        };
        let name = PrivateGroup { session, daemon: self.daemon };
        if self.by_id.len() <= id.core() {
            self.by_id.resize_with(id.core() + 1, Vec::new);
        }
        let slots = &mut self.by_id[id.core()];
        if slots.len() <= id.slot() {
            slots.resize_with(id.slot() + 1, || None);
        }
        assert!(slots[id.slot()].is_none(), "{id:?} takes a slot whose session has not ended");
        slots[id.slot()] =
            Some(LocalSession { id, name, wants_membership, groups: BTreeSet::new() });
        self.by_name.insert(session, id);
        Ok(name)
    }

    /// Spread's shape of automatic names, `r<number>-<number>`; only uniqueness matters.
    fn automatic_name(&mut self, id: SessionId) -> SessionName {
        loop {
            self.automatic = (self.automatic + 1) % 10_000;
            let text = format!("r{}-{}", self.automatic, id.slot() % 10_000);
            let name = SessionName::new(text.as_bytes()).expect("at most ten legal characters");
            if !self.by_name.contains_key(&name) {
                return name;
            }
        }
    }

    pub(crate) fn remove(&mut self, id: SessionId) {
        let slot = &mut self.by_id[id.core()][id.slot()];
        let session = slot.take().expect("only a connected session is removed");
        assert_eq!(session.id, id);
        self.by_name.remove(&session.name.session);
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&LocalSession> {
        let session = self.by_id.get(id.core())?.get(id.slot())?.as_ref()?;
        (session.id == id).then_some(session)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut LocalSession> {
        let session = self.by_id.get_mut(id.core())?.get_mut(id.slot())?.as_mut()?;
        (session.id == id).then_some(session)
    }

    /// The session that `name` addresses, if it is one of this daemon.
    pub(crate) fn find(&self, name: &PrivateGroup) -> Option<SessionId> {
        if name.daemon != self.daemon {
            return None;
        }
        self.by_name.get(&name.session).copied()
    }
}
