//! The sessions of this daemon: their names, and what they want to hear.

use std::collections::BTreeMap;

use crate::base::{DaemonName, PrivateGroup, SessionId, SessionName};
use crate::protocol::by_session::BySession;

/// The session's name is taken by another session of this daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another session of this daemon has that name")]
pub struct NameTaken;

/// One connected session.
#[derive(Clone, Copy)]
pub(crate) struct LocalSession {
    pub(crate) name: SessionName,
    pub(crate) wants_membership: bool,
}

/// All connected sessions, by id and by name.
pub(crate) struct LocalSessions {
    daemon: DaemonName,
    by_id: BySession<LocalSession>,
    by_name: BTreeMap<SessionName, SessionId>,
    automatic: u32,
}

impl LocalSessions {
    pub(crate) fn new(daemon: DaemonName) -> Self {
        Self { daemon, by_id: BySession::new(), by_name: BTreeMap::new(), automatic: 0 }
    }

    pub(crate) fn connect(
        &mut self,
        id: SessionId,
        name: Option<SessionName>,
        wants_membership: bool,
    ) -> Result<PrivateGroup, NameTaken> {
        let name = match name {
            Some(name) if self.by_name.contains_key(&name) => return Err(NameTaken),
            Some(name) => name,
            None => self.automatic_name(id),
        };
        self.by_id.insert(id, LocalSession { name, wants_membership });
        self.by_name.insert(name, id);
        Ok(PrivateGroup { session: name, daemon: self.daemon })
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

    /// Frees the name of a session that is no more.
    pub(crate) fn remove(&mut self, name: SessionName) {
        if let Some(id) = self.by_name.remove(&name) {
            self.by_id.remove(id);
        }
    }

    pub(crate) fn name(&self, id: SessionId) -> Option<SessionName> {
        self.by_id.get(id).map(|session| session.name)
    }

    pub(crate) fn find(&self, name: SessionName) -> Option<(SessionId, LocalSession)> {
        let id = *self.by_name.get(&name)?;
        Some((id, *self.by_id.get(id).expect("sessions are known by id as by name")))
    }
}
