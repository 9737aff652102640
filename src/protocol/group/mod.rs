//! The group layer: joins, leaves and disconnects in their order become views; messages find
//! their receivers. What clients see of it follows the Spread 5 client protocol, sections 6 to 9.

mod directory;
mod sessions;
mod table;
mod view;

use crate::base::limits::{FRAME_HEADER_BYTES, GROUP_NAME_BYTES};
use crate::base::{Buffer, DaemonName, GroupName, PrivateGroup, SessionId, SessionName, Store};

use super::configuration::Configuration;
use super::delivery::Stream;
use directory::{Destination, Directory};
use sessions::LocalSessions;
use table::{GroupKey, Member, Table};
use view::Cause;

pub use sessions::NameTaken;

/// Whether a request was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Outcome {
    /// Fully.
    Done,
    /// The store had no room for a membership message: to be called again with the same request,
    /// which then goes on where it stopped.
    Blocked,
}

/// The groups of the configuration and the sessions of this daemon.
pub(crate) struct Groups {
    configuration: Configuration,
    rank: usize,
    sessions: LocalSessions,
    table: Table,
    directory: Directory,
    /// Receivers of the message at hand.
    targets: Vec<SessionId>,
}

impl Groups {
    pub(crate) fn new(daemon: DaemonName, configuration: Configuration) -> Self {
        let rank = configuration.rank(daemon).expect("a daemon is in its own configuration");
        Self {
            configuration,
            rank,
            sessions: LocalSessions::new(daemon),
            table: Table::new(),
            directory: Directory::new(),
            targets: Vec::new(),
        }
    }

    pub(crate) fn connect(
        &mut self,
        session: SessionId,
        name: Option<SessionName>,
        wants_membership: bool,
    ) -> Result<PrivateGroup, NameTaken> {
        let name = self.sessions.connect(session, name, wants_membership)?;
        self.directory.invalidate();
        Ok(name)
    }

    /// Delivers `frame` once to each session that any of its destinations means.
    pub(crate) fn multicast<B: Buffer>(
        &mut self,
        sender: SessionId,
        self_discard: bool,
        destinations: u8,
        frame: &B,
        out: &mut Stream<B>,
    ) -> Outcome {
        let fields = frame.as_ref()[FRAME_HEADER_BYTES..].chunks_exact(GROUP_NAME_BYTES);
        self.targets.clear();
        for field in fields.take(usize::from(destinations)) {
            match self.resolve(field.try_into().expect("chunks of a field's size")) {
                Destination::Group(key) => {
                    let local = self.table.get(key).local();
                    if destinations == 1 && !self_discard {
                        out.push(frame.clone(), local, Some(sender));
                        return Outcome::Done;
                    }
                    self.targets.extend_from_slice(local);
                }
                Destination::Session(session) => self.targets.push(session),
                Destination::Nobody => {}
            }
        }
        if destinations > 1 {
            self.targets.sort_unstable();
            self.targets.dedup();
        }
        if self_discard {
            self.targets.retain(|&target| target != sender);
        }
        out.push(frame.clone(), &self.targets, Some(sender));
        Outcome::Done
    }

    fn resolve(&mut self, field: &[u8; GROUP_NAME_BYTES]) -> Destination {
        // A field without an end is no name that anybody could have.
        let Some(name) = GroupName::from_field(field) else { return Destination::Nobody };
        let (sessions, table) = (&self.sessions, &self.table);
        self.directory.resolve(&name, |name| {
            if name.is_private() {
                let private = PrivateGroup::parse(name.as_bytes()).ok();
                let session = private.and_then(|private| sessions.find(&private));
                session.map_or(Destination::Nobody, Destination::Session)
            } else {
                table.find(name).map_or(Destination::Nobody, Destination::Group)
            }
        })
    }

    pub(crate) fn join<S: Store>(
        &mut self,
        id: SessionId,
        group: GroupName,
        store: &mut S,
        out: &mut Stream<S::Buffer>,
    ) -> Outcome {
        let Some(session) = self.sessions.get_mut(id) else { return Outcome::Done };
        if !session.groups.insert(group) {
            return Outcome::Done;
        }
        let member = Member {
            rank: self.rank,
            name: session.name.to_name(),
            session: Some(id),
            wants_views: session.wants_membership,
        };
        let key = self.table.find(&group).unwrap_or_else(|| {
            self.directory.invalidate();
            self.table.create(group, &self.configuration)
        });
        let name = member.name;
        let view = self.table.get_mut(key);
        let at = view.position(self.rank, &name).expect_err("no member joins twice");
        view.insert(at, member);
        if self.announce(key, Cause::Join, &name, store, out) == Outcome::Blocked {
            self.take_out(key, at, id);
            return Outcome::Blocked;
        }
        Outcome::Done
    }

    pub(crate) fn leave<S: Store>(
        &mut self,
        id: SessionId,
        group: GroupName,
        store: &mut S,
        out: &mut Stream<S::Buffer>,
    ) -> Outcome {
        let Some(session) = self.sessions.get(id) else { return Outcome::Done };
        if !session.groups.contains(&group) {
            return Outcome::Done;
        }
        let notice = if session.wants_membership {
            let Some(notice) = view::self_leave(&group, store) else { return Outcome::Blocked };
            Some(notice)
        } else {
            None
        };
        if self.part(id, &group, Cause::Leave, store, out) == Outcome::Blocked {
            return Outcome::Blocked;
        }
        if let Some(notice) = notice {
            out.push(notice, &[id], None);
        }
        Outcome::Done
    }

    pub(crate) fn disconnect<S: Store>(
        &mut self,
        id: SessionId,
        store: &mut S,
        out: &mut Stream<S::Buffer>,
    ) -> Outcome {
        while let Some(session) = self.sessions.get(id) {
            let Some(&group) = session.groups.first() else {
                self.sessions.remove(id);
                self.directory.invalidate();
                out.push_ended(id);
                break;
            };
            if self.part(id, &group, Cause::Disconnect, store, out) == Outcome::Blocked {
                return Outcome::Blocked;
            }
        }
        Outcome::Done
    }

    /// Takes a member out of a group that it is in, and tells those who stay.
    fn part<S: Store>(
        &mut self,
        id: SessionId,
        group: &GroupName,
        cause: Cause,
        store: &mut S,
        out: &mut Stream<S::Buffer>,
    ) -> Outcome {
        let name = self.sessions.get(id).expect("who parts is connected").name.to_name();
        let key = self.table.find(group).expect("a group with members exists");
        let view = self.table.get_mut(key);
        let at = view.position(self.rank, &name).expect("who parts is a member");
        let member = view.remove(at);
        if self.announce(key, cause, &name, store, out) == Outcome::Blocked {
            self.table.get_mut(key).insert(at, member);
            return Outcome::Blocked;
        }
        self.forget(key, group, id);
        Outcome::Done
    }

    fn take_out(&mut self, key: GroupKey, at: usize, id: SessionId) {
        let view = self.table.get_mut(key);
        view.remove(at);
        let group = view.name;
        self.forget(key, &group, id);
    }

    fn forget(&mut self, key: GroupKey, group: &GroupName, id: SessionId) {
        self.sessions.get_mut(id).expect("members are connected").groups.remove(group);
        if self.table.get(key).members().is_empty() {
            self.table.dissolve(key);
            self.directory.invalidate();
        }
    }

    /// Gives the changed group its next id, and tells its members here.
    fn announce<S: Store>(
        &mut self,
        key: GroupKey,
        cause: Cause,
        changed: &GroupName,
        store: &mut S,
        out: &mut Stream<S::Buffer>,
    ) -> Outcome {
        let group = self.table.get_mut(key);
        let mut id = group.id;
        id.index = id.index.wrapping_add(1);
        self.targets.clear();
        self.targets.extend(group.watchers());
        if !self.targets.is_empty() {
            let Some(frame) = view::regular(group, id, cause, changed, store) else {
                return Outcome::Blocked;
            };
            out.push(frame, &self.targets, None);
        }
        group.id = id;
        Outcome::Done
    }
}
