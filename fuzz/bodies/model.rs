//! What a daemon alone should deliver: names, groups and order, in the plainest words.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use madrigal::base::limits::FRAME_HEADER_BYTES;
use madrigal::base::{GroupName, PrivateGroup, Request, SessionId};
use madrigal::wire::session::{Cause, Frame, Regular, kind};

use super::DAEMON;

struct Session {
    name: GroupName,
    wants_membership: bool,
    groups: BTreeSet<GroupName>,
}

/// One delivery that should come.
#[derive(Debug)]
pub(crate) enum Expected {
    /// A message.
    Message { frame: Vec<u8>, targets: BTreeSet<SessionId>, sender: SessionId },
    /// A new view.
    View {
        group: GroupName,
        cause: Cause,
        changed: GroupName,
        members: Vec<GroupName>,
        targets: BTreeSet<SessionId>,
    },
    /// The answer to a session's own leave.
    SelfLeave { group: GroupName, target: SessionId },
    /// The end of a session.
    Ended { session: SessionId },
}

/// The daemon as it should be.
#[derive(Default)]
pub(crate) struct Model {
    sessions: BTreeMap<SessionId, Session>,
    /// Members by the names that order them.
    groups: BTreeMap<GroupName, BTreeMap<GroupName, SessionId>>,
    /// In the one order.
    pub(crate) expected: VecDeque<Expected>,
    /// The last view of each group: no id comes back.
    indices: BTreeMap<GroupName, i32>,
}

impl Model {
    /// Whether a session of that name is connected.
    pub(crate) fn has(&self, name: &GroupName) -> bool {
        self.sessions.values().any(|session| session.name == *name)
    }

    /// A session has got its name.
    pub(crate) fn connect(&mut self, id: SessionId, name: GroupName, wants_membership: bool) {
        let session = Session { name, wants_membership, groups: BTreeSet::new() };
        assert!(self.sessions.insert(id, session).is_none());
    }

    /// A request takes its place in the order.
    pub(crate) fn request(&mut self, id: SessionId, request: &Request<Vec<u8>>) {
        match request {
            Request::Multicast { service: _, self_discard, destinations, frame } => {
                self.multicast(id, *self_discard, usize::from(*destinations), frame);
            }
            Request::Join(group) => {
                let session = self.sessions.get_mut(&id).unwrap();
                if session.groups.insert(*group) {
                    let name = session.name;
                    self.groups.entry(*group).or_default().insert(name, id);
                    self.view(*group, Cause::Join, name);
                }
            }
            Request::Leave(group) => {
                if self.part(id, *group, Cause::Leave) && self.sessions[&id].wants_membership {
                    self.expected.push_back(Expected::SelfLeave { group: *group, target: id });
                }
            }
            Request::Disconnect => {
                for group in self.sessions[&id].groups.clone() {
                    self.part(id, group, Cause::Disconnect);
                }
                self.sessions.remove(&id);
                self.expected.push_back(Expected::Ended { session: id });
            }
        }
    }

    fn multicast(&mut self, id: SessionId, self_discard: bool, destinations: usize, frame: &[u8]) {
        let fields = &frame[FRAME_HEADER_BYTES..];
        let mut targets = BTreeSet::new();
        for field in fields.as_chunks::<32>().0.iter().take(destinations) {
            let Some(name) = GroupName::from_field(field) else { continue };
            if let Some(members) = self.groups.get(&name) {
                targets.extend(members.values().copied());
            }
            let addressed = self.sessions.iter().find(|(_, session)| session.name == name);
            targets.extend(addressed.map(|(&id, _)| id));
        }
        if self_discard {
            targets.remove(&id);
        }
        if !targets.is_empty() {
            let frame = frame.to_vec();
            self.expected.push_back(Expected::Message { frame, targets, sender: id });
        }
    }

    fn part(&mut self, id: SessionId, group: GroupName, cause: Cause) -> bool {
        let session = self.sessions.get_mut(&id).unwrap();
        if !session.groups.remove(&group) {
            return false;
        }
        let name = session.name;
        let members = self.groups.get_mut(&group).unwrap();
        members.remove(&name);
        if members.is_empty() {
            self.groups.remove(&group);
        }
        self.view(group, cause, name);
        true
    }

    fn view(&mut self, group: GroupName, cause: Cause, changed: GroupName) {
        let Some(view) = self.groups.get(&group) else { return };
        let members: Vec<GroupName> = view.keys().copied().collect();
        let wants = |id: &&SessionId| self.sessions[id].wants_membership;
        let targets: BTreeSet<SessionId> = view.values().filter(wants).copied().collect();
        if !targets.is_empty() {
            self.expected.push_back(Expected::View { group, cause, changed, members, targets });
        }
    }

    /// A frame is delivered: it must be the next one.
    pub(crate) fn check_frame(&mut self, bytes: &[u8], to: &[SessionId], from: Option<SessionId>) {
        let expected = self.expected.pop_front().expect("a delivery that nobody asked for");
        let set: BTreeSet<SessionId> = to.iter().copied().collect();
        assert_eq!(set.len(), to.len(), "a session gets it twice");
        let (frame, len) = Frame::parse(bytes).unwrap().expect("a whole frame");
        assert_eq!(len, bytes.len());
        match expected {
            Expected::Message { frame, targets, sender } => {
                assert_eq!((set, from), (targets, Some(sender)));
                assert!(frame == bytes, "the message is changed");
            }
            Expected::View { group, cause, changed, members, targets } => {
                assert_eq!((set, from), (targets, None));
                assert_eq!(frame.header.kind, kind::REGULAR | cause.kind());
                assert_eq!(frame.name, group);
                let found: Vec<_> = frame.names.iter().map(GroupName::from_field).collect();
                let members: Vec<_> = members.into_iter().map(Some).collect();
                assert_eq!(found, members);
                let body = Regular::parse(frame.header.order, frame.data).expect("a body");
                let mut sets = body.sets();
                let named = sets.next().unwrap().map(|name| name.to_group());
                assert_eq!(named.collect::<Vec<_>>(), [Some(changed)]);
                assert!(sets.next().is_none());
                let last = self.indices.insert(group, body.id.index);
                assert!(last.is_none_or(|last| last < body.id.index), "a view comes back");
            }
            Expected::SelfLeave { group, target } => {
                assert_eq!((to, from), (&[target][..], None));
                assert_eq!(frame.header.kind, kind::CAUSED_BY_LEAVE);
                assert_eq!(frame.name, group);
            }
            Expected::Ended { session } => panic!("{session:?} should have ended here"),
        }
    }

    /// A session's end is delivered: it must be the next thing.
    pub(crate) fn check_ended(&mut self, id: SessionId) {
        let expected = self.expected.pop_front();
        let is_next = matches!(expected, Some(Expected::Ended { session }) if session == id);
        assert!(is_next, "{id:?} ended before {expected:?}");
    }
}

/// The address of a session called `name`.
pub(crate) fn private_group(name: &[u8]) -> PrivateGroup {
    PrivateGroup::parse(&[b"#", name, b"#", DAEMON.as_bytes()].concat()).unwrap()
}
