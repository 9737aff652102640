//! The group layer: joins, leaves and disconnects in their order become views; messages find
//! their receivers. What clients see of it follows the Spread 5 client protocol, sections 6 to 12.
//!
//! All daemons of a component have the same table, because they apply the same changes in the same
//! order. What follows from a change of the configuration is in `change`.

mod change;
mod directory;
mod exchange;
mod news;
mod sessions;
mod table;

use std::collections::VecDeque;

use crate::base::limits::{FRAME_HEADER_BYTES, GROUP_NAME_BYTES};
use crate::base::{
    Buffer, DaemonSet, GroupName, PrivateGroup, Rank, SessionId, SessionName, Store,
};
use crate::wire::ordered::{Change, Component};
use crate::wire::session::Cause;

use super::configuration::{Daemon, Epoch};
use super::delivery::Stream;
use change::Phase;
use directory::{Destination, Directory};
use news::{Names, News, Pending, Sets};
use sessions::LocalSessions;
use table::{GroupKey, Local, Member, Table};

pub use sessions::NameTaken;

/// Which way a message takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Into the delivery stream at once, if nobody elsewhere is meant.
    Local,
    /// It came out of the order.
    Ordered,
}

/// The groups of the configuration and the sessions of this daemon.
pub(crate) struct Groups<B> {
    daemons: Vec<Daemon>,
    me: Rank,
    sessions: LocalSessions,
    table: Table,
    directory: Directory,
    /// Those who share this table.
    component: Component,
    /// Those whose sessions' requests this table can take: who shared it when the ring began.
    known: DaemonSet,
    /// Where the ids of new groups come from.
    epoch: Epoch,
    phase: Phase<B>,
    /// What was ordered and has not taken effect, and who put it there.
    due: VecDeque<(Rank, B)>,
    pending: Pending,
    /// Receivers of the message at hand.
    targets: Vec<SessionId>,
    /// A part of what is told in an exchange ends behind so many bytes.
    state_part_bytes: usize,
}

impl<B: Buffer> Groups<B> {
    /// No session, no group. `component` is this daemon alone.
    pub(crate) fn new(
        daemons: Vec<Daemon>,
        me: Rank,
        component: Component,
        state_part_bytes: usize,
    ) -> Self {
        Self {
            sessions: LocalSessions::new(daemons[me.index()].name),
            daemons,
            me,
            table: Table::new(),
            directory: Directory::new(),
            component,
            known: component.together,
            epoch: Epoch::of_ring(component.base),
            phase: Phase::Settled,
            due: VecDeque::new(),
            pending: Pending::new(),
            targets: Vec::new(),
            state_part_bytes,
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

    pub(crate) fn session_name(&self, id: SessionId) -> Option<SessionName> {
        self.sessions.name(id)
    }

    /// Delivers `frame` once to each session here that any of its destinations means. Returns
    /// `false`, and does nothing, if it is to take the local path and somebody elsewhere is meant.
    pub(crate) fn multicast(
        &mut self,
        path: Path,
        sender: Option<SessionId>,
        self_discard: bool,
        destinations: u8,
        frame: &B,
        out: &mut Stream<B>,
    ) -> bool {
        let fields = frame.as_ref()[FRAME_HEADER_BYTES..].chunks_exact(GROUP_NAME_BYTES);
        self.targets.clear();
        for field in fields.take(usize::from(destinations)) {
            match self.resolve(field.try_into().expect("chunks of a field's size")) {
                Destination::Group(key) => {
                    let group = self.table.get(key);
                    if path == Path::Local && !group.is_local() {
                        return false;
                    }
                    if destinations == 1 && !self_discard {
                        out.push(frame.clone(), group.local(), sender);
                        return true;
                    }
                    self.targets.extend_from_slice(group.local());
                }
                Destination::Session(session) => self.targets.push(session),
                Destination::Elsewhere if path == Path::Local => return false,
                Destination::Elsewhere | Destination::Nobody => {}
            }
        }
        if destinations > 1 {
            self.targets.sort_unstable();
            self.targets.dedup();
        }
        if self_discard {
            self.targets.retain(|&target| Some(target) != sender);
        }
        out.push(frame.clone(), &self.targets, sender);
        true
    }

    /// Whether `frame` would take the local path.
    pub(crate) fn is_local(&mut self, destinations: u8, frame: &B) -> bool {
        let fields = frame.as_ref()[FRAME_HEADER_BYTES..].chunks_exact(GROUP_NAME_BYTES);
        let mut fields = fields.take(usize::from(destinations));
        fields.all(|field| {
            match self.resolve(field.try_into().expect("chunks of a field's size")) {
                Destination::Group(key) => self.table.get(key).is_local(),
                Destination::Session(_) | Destination::Nobody => true,
                Destination::Elsewhere => false,
            }
        })
    }

    fn resolve(&mut self, field: &[u8; GROUP_NAME_BYTES]) -> Destination {
        // A field without an end is no name that anybody could have.
        let Some(name) = GroupName::from_field(field) else { return Destination::Nobody };
        let (sessions, table, daemons) = (&self.sessions, &self.table, &self.daemons);
        let me = daemons[self.me.index()].name;
        self.directory.resolve(&name, |name| {
            if !name.is_private() {
                return table.find(name).map_or(Destination::Nobody, Destination::Group);
            }
            match PrivateGroup::parse(name.as_bytes()) {
                Ok(private) if private.daemon == me => {
                    let found = sessions.find(private.session);
                    found.map_or(Destination::Nobody, |(id, _)| Destination::Session(id))
                }
                Ok(private) if daemons.iter().any(|daemon| daemon.name == private.daemon) => {
                    Destination::Elsewhere
                }
                Ok(_) | Err(_) => Destination::Nobody,
            }
        })
    }

    /// Applies a session's request about its membership at its place in the order.
    pub(crate) fn apply(&mut self, origin: Rank, change: Change) {
        if !self.known.contains(origin) {
            // Its daemon applies it to a table of its own, and tells of it in the exchange.
            return;
        }
        match change {
            Change::Join(session, group) => self.join(origin, session, group),
            Change::Leave(session, group) => {
                let left = self.part(origin, session, &group, Cause::Leave);
                let local = self.local(origin, session).filter(|local| local.wants_views && left);
                if let Some(Local { id: session, .. }) = local {
                    self.pending.push(News::Left { group, session });
                }
            }
            Change::Disconnect(session) => {
                while let Some(group) = self.table.first_of(origin, session) {
                    self.part(origin, session, &group, Cause::Disconnect);
                }
                if let Some(Local { id, .. }) = self.local(origin, session) {
                    self.sessions.remove(session);
                    self.directory.invalidate();
                    self.pending.push(News::Ended { session: id });
                }
            }
        }
    }

    /// The session, if it is one of this daemon.
    fn local(&self, origin: Rank, session: SessionName) -> Option<Local> {
        let (id, found) = self.sessions.find(session).filter(|_| origin == self.me)?;
        Some(Local { id, wants_views: found.wants_membership })
    }

    fn join(&mut self, origin: Rank, session: SessionName, name: GroupName) {
        let local = self.local(origin, session);
        if origin == self.me && local.is_none() {
            return;
        }
        let key = self.table.find(&name).unwrap_or_else(|| {
            self.directory.invalidate();
            self.table.create(name, self.epoch.before_new())
        });
        if self.table.insert(key, Member { rank: origin, session, local }) {
            self.announce(key, Cause::Join, (origin, session));
        }
    }

    /// Takes a member out, and tells those who stay. Returns whether it was one.
    fn part(
        &mut self,
        origin: Rank,
        session: SessionName,
        group: &GroupName,
        cause: Cause,
    ) -> bool {
        let Some(key) = self.table.find(group) else { return false };
        if !self.table.remove(key, origin, session) {
            return false;
        }
        if self.table.get(key).members().is_empty() {
            // As if it had been told to somebody: the id is used.
            let group = self.table.get_mut(key);
            group.id = self.epoch.next(group.id);
            self.dissolve(key);
        } else {
            self.announce(key, cause, (origin, session));
        }
        true
    }

    fn dissolve(&mut self, key: GroupKey) {
        let last = self.table.dissolve(key);
        self.epoch.use_up(last);
        self.directory.invalidate();
    }

    /// Gives the changed group its next id, and tells its members here.
    fn announce(&mut self, key: GroupKey, cause: Cause, changed: (Rank, SessionName)) {
        let group = self.table.get_mut(key);
        group.id = self.epoch.next(group.id);
        if group.is_changed {
            // Client protocol, 11.4: what happens to a group that has lost members.
            let apart = (cause == Cause::Join).then_some(changed);
            let sets = Sets { daemons: self.sets_in_transition(), apart };
            self.pending.push(News::Network { group: key, sets });
            self.pending.push(News::Signal { group: key });
        } else {
            self.pending.push(News::View { group: key, cause, changed });
            if group.has_lost(self.component.together) {
                group.is_changed = true;
                self.pending.push(News::Signal { group: key });
            }
        }
    }

    /// Those who move together, and each daemon that is lost by itself.
    fn sets_in_transition(&self) -> Vec<DaemonSet> {
        let everybody = DaemonSet::first_ranks(self.daemons.len());
        let together = self.component.together;
        let lost = everybody.without(together).iter().map(DaemonSet::only);
        std::iter::once(together).chain(lost).collect()
    }

    /// Tells what is to be told; `false` where memory is lacking: to be called again, before
    /// anything else takes its place in the order.
    #[must_use]
    pub(crate) fn tell<S: Store<Buffer = B>>(
        &mut self,
        store: &mut S,
        out: &mut Stream<B>,
    ) -> bool {
        let names = Names { daemons: &self.daemons, me: self.me };
        self.pending.tell(&self.table, &names, store, out)
    }
}

#[cfg(test)]
mod tests;
