//! What a daemon puts into the order: requests of its sessions, and what it knows of groups when a
//! configuration has changed. `docs/peer-protocol.md`, "Content of messages".
//!
//! A message is its whole frame, little-endian, so that its receivers get it without a copy. Its
//! first byte has the byte-order mark; everything else begins with a smaller one that says what it
//! is.

use crate::base::limits::FRAME_HEADER_BYTES;
use crate::base::{
    DaemonName, DaemonSet, GroupId, GroupName, PrivateGroup, Rank, RingId, SessionName,
};

use super::codec::Reader;
use super::session::{ByteOrder, Header, RequestKind, check_request};

const MARK: u8 = 0x80;
const JOIN: u8 = 1;
const LEAVE: u8 = 2;
const DISCONNECT: u8 = 3;
const STATE: u8 = 4;

/// What a daemon put into the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordered<'a> {
    /// A message of a session: the bytes are its frame.
    Multicast {
        /// The sender itself gets no copy.
        self_discard: bool,
        /// Destination fields behind the frame's header.
        destinations: u8,
    },
    /// The session asks for its own membership.
    Change(Change),
    /// A part of what the sender's component knows of groups.
    State(State<'a>),
}

/// A session's request about its own membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It becomes a member.
    Join(SessionName, GroupName),
    /// It is no longer one.
    Leave(SessionName, GroupName),
    /// It leaves all its groups and is no more.
    Disconnect(SessionName),
}

impl<'a> Ordered<'a> {
    /// Reads what the daemon called `origin` put into the order. `None` where that is nothing that
    /// a daemon would.
    pub fn parse(bytes: &'a [u8], origin: DaemonName) -> Option<Self> {
        let (&first, rest) = bytes.split_first()?;
        if first & MARK != 0 {
            return multicast(bytes, origin);
        }
        if first == STATE {
            return State::parse(bytes).map(Ordered::State);
        }
        let mut reader = Reader::new(rest);
        let session = SessionName::new(short(&mut reader)?).ok()?;
        let change = match first {
            JOIN => Change::Join(session, group(&mut reader)?),
            LEAVE => Change::Leave(session, group(&mut reader)?),
            DISCONNECT => Change::Disconnect(session),
            _ => return None,
        };
        reader.end()?;
        Some(Ordered::Change(change))
    }
}

fn multicast<'a>(bytes: &'a [u8], origin: DaemonName) -> Option<Ordered<'a>> {
    let header = Header::parse(bytes.first_chunk::<FRAME_HEADER_BYTES>()?);
    let sender = GroupName::from_field(&header.name)?;
    let sender = PrivateGroup::parse(sender.as_bytes()).ok()?;
    let is_whole = header.order == ByteOrder::Little && header.frame_len() == Some(bytes.len());
    if !is_whole || sender.daemon != origin {
        return None;
    }
    match check_request(&header, &sender).ok()? {
        RequestKind::Multicast { service: _, self_discard } => {
            let destinations = u8::try_from(header.destinations).ok()?;
            Some(Ordered::Multicast { self_discard, destinations })
        }
        RequestKind::Join | RequestKind::Leave | RequestKind::Kill => None,
    }
}

impl Change {
    /// Bytes that it takes.
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::Join(session, group) => {
                bytes.push(JOIN);
                put_short(&mut bytes, session.as_bytes());
                put_short(&mut bytes, group.as_bytes());
            }
            Self::Leave(session, group) => {
                bytes.push(LEAVE);
                put_short(&mut bytes, session.as_bytes());
                put_short(&mut bytes, group.as_bytes());
            }
            Self::Disconnect(session) => {
                bytes.push(DISCONNECT);
                put_short(&mut bytes, session.as_bytes());
            }
        }
        bytes
    }
}

/// Daemons that share one table of groups: they came through all configurations together since
/// they last computed views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// The ring in which they did.
    pub base: RingId,
    /// Those of it who moved together ever since.
    pub together: DaemonSet,
}

/// A part of what one component knows of groups, for the other daemons of a new ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State<'a> {
    /// The new ring: a part that was meant for an earlier one says nothing.
    pub ring: RingId,
    /// Whose table it is.
    pub component: Component,
    /// No part follows.
    pub is_last: bool,
    groups: &'a [u8],
}

/// One group as a component knows it; in several parts where it has many members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupState<'a> {
    /// Its name.
    pub name: GroupName,
    /// The view that its members have.
    pub id: GroupId,
    /// Members were lost since.
    pub is_changed: bool,
    members: &'a [u8],
}

impl<'a> State<'a> {
    /// Reads a part.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != STATE {
            return None;
        }
        let ring = reader.ring()?;
        let component = Component { base: reader.ring()?, together: reader.set()? };
        let is_last = reader.flag()?;
        let groups = reader.rest();
        while !reader.is_empty() {
            GroupState::parse(&mut reader)?;
        }
        Some(Self { ring, component, is_last, groups })
    }

    /// Its groups, in the order of their names.
    pub fn groups(&self) -> impl Iterator<Item = GroupState<'a>> + use<'a> {
        let mut reader = Reader::new(self.groups);
        std::iter::from_fn(move || GroupState::parse(&mut reader))
    }
}

impl<'a> GroupState<'a> {
    fn parse(reader: &mut Reader<'a>) -> Option<Self> {
        let name = group(reader)?;
        let mut integer = || reader.u32().map(u32::cast_signed);
        let id = GroupId { daemon: integer()?, time: integer()?, index: integer()? };
        let is_changed = reader.flag()?;
        let members = {
            let len = reader.u32()?;
            reader.bytes(usize::try_from(len).ok()?)?
        };
        let mut unread = Reader::new(members);
        while !unread.is_empty() {
            member(&mut unread)?;
        }
        Some(Self { name, id, is_changed, members })
    }

    /// The members: where each is connected, and by which name.
    pub fn members(&self) -> impl Iterator<Item = (Rank, SessionName)> + use<'a> {
        let mut reader = Reader::new(self.members);
        std::iter::from_fn(move || member(&mut reader))
    }
}

fn member(reader: &mut Reader<'_>) -> Option<(Rank, SessionName)> {
    let rank = Rank::new(usize::from(reader.u8()?))?;
    Some((rank, SessionName::new(short(reader)?).ok()?))
}

fn group(reader: &mut Reader<'_>) -> Option<GroupName> {
    GroupName::new(short(reader)?).ok()
}

fn short<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let len = reader.u8()?;
    reader.bytes(usize::from(len))
}

fn put_short(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.push(u8::try_from(text.len()).expect("names are short"));
    bytes.extend_from_slice(text);
}

/// Writes one [`State`].
#[derive(Debug)]
pub struct StateWriter {
    bytes: Vec<u8>,
    last_flag: usize,
}

impl StateWriter {
    /// Begins a part.
    pub fn new(ring: RingId, component: Component) -> Self {
        let mut bytes = vec![STATE];
        for ring in [ring, component.base] {
            bytes.extend_from_slice(&ring.number.to_le_bytes());
            bytes.extend_from_slice(&ring.leader.get().to_le_bytes());
        }
        bytes.extend_from_slice(&component.together.bits().to_le_bytes());
        let last_flag = bytes.len();
        bytes.push(0);
        Self { bytes, last_flag }
    }

    /// Adds a group with as many of its members as keep the part below `bytes_max`, and at least
    /// one. Returns how many that were.
    pub fn group(
        &mut self,
        name: &GroupName,
        id: GroupId,
        is_changed: bool,
        members: impl Iterator<Item = (Rank, SessionName)>,
        bytes_max: usize,
    ) -> usize {
        put_short(&mut self.bytes, name.as_bytes());
        for part in [id.daemon, id.time, id.index] {
            self.bytes.extend_from_slice(&part.to_le_bytes());
        }
        self.bytes.push(u8::from(is_changed));
        let len_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        let mut written = 0;
        for (rank, session) in members {
            if written > 0 && self.bytes.len() >= bytes_max {
                break;
            }
            self.bytes.push(rank.index() as u8);
            put_short(&mut self.bytes, session.as_bytes());
            written += 1;
        }
        let len = (self.bytes.len() - len_at - 4) as u32;
        self.bytes[len_at..len_at + 4].copy_from_slice(&len.to_le_bytes());
        written
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The part.
    pub fn finish(mut self, is_last: bool) -> Vec<u8> {
        self.bytes[self.last_flag] = u8::from(is_last);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DaemonId;

    fn rank(index: usize) -> Rank {
        Rank::new(index).unwrap()
    }

    fn origin() -> DaemonName {
        DaemonName::new(b"d1").unwrap()
    }

    #[test]
    fn changes_come_back() {
        let session = SessionName::new(b"a").unwrap();
        let group = GroupName::new(b"group").unwrap();
        for change in [
            Change::Join(session, group),
            Change::Leave(session, group),
            Change::Disconnect(session),
        ] {
            let bytes = change.emit();
            assert_eq!(Ordered::parse(&bytes, origin()), Some(Ordered::Change(change)));
            assert_eq!(Ordered::parse(&bytes[..bytes.len() - 1], origin()), None);
            assert_eq!(Ordered::parse(&[&bytes[..], &[0]].concat(), origin()), None);
        }
    }

    #[test]
    fn a_group_of_many_members_takes_several_parts() {
        let ring = RingId { number: 7, leader: DaemonId::new(3) };
        let base = RingId { number: 6, leader: DaemonId::new(4) };
        let component = Component { base, together: DaemonSet::first_ranks(3) };
        let (name, id) = (GroupName::new(b"g").unwrap(), GroupId { daemon: -1, time: 2, index: 3 });
        let session = |n: usize| SessionName::new(format!("s{n}").as_bytes()).unwrap();
        let members: Vec<_> = (0..100).map(|n| (rank(n % 3), session(n))).collect();
        let (mut told, mut heard) = (0, Vec::new());
        let mut parts = 0;
        while told < members.len() {
            let mut writer = StateWriter::new(ring, component);
            told += writer.group(&name, id, true, members[told..].iter().copied(), 200);
            let is_last = told == members.len();
            let bytes = writer.finish(is_last);
            assert!(bytes.len() < 220);
            let Some(Ordered::State(state)) = Ordered::parse(&bytes, origin()) else { panic!() };
            assert_eq!((state.ring, state.component, state.is_last), (ring, component, is_last));
            let group = state.groups().next().unwrap();
            assert_eq!((group.name, group.id, group.is_changed), (name, id, true));
            heard.extend(group.members());
            parts += 1;
        }
        assert_eq!(heard, members);
        assert!(parts > 3);
    }

    #[test]
    fn a_frame_of_another_daemons_session_is_none() {
        let order = ByteOrder::Little;
        let sender = PrivateGroup::parse(b"#a#d1").unwrap();
        let header = Header {
            order,
            kind: super::super::session::kind::AGREED,
            name: *sender.to_name().as_field(),
            destinations: 0,
            hint: super::super::session::frame::emit_hint(0, order),
            data_len: 1,
        };
        let mut frame = vec![0; FRAME_HEADER_BYTES + 1];
        header.emit(frame.first_chunk_mut().unwrap());
        let multicast = Ordered::Multicast { self_discard: false, destinations: 0 };
        assert_eq!(Ordered::parse(&frame, origin()), Some(multicast));
        assert_eq!(Ordered::parse(&frame, DaemonName::new(b"d2").unwrap()), None);
        assert_eq!(Ordered::parse(&frame[..FRAME_HEADER_BYTES], origin()), None);
    }
}
