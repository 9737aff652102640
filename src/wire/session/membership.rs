//! Membership messages: new views, the transitional signal, and the answer to one's own leave.
//!
//! The daemon's are little-endian; a client reads both orders.

use crate::base::limits::{FRAME_HEADER_BYTES, GROUP_NAME_BYTES};
use crate::base::{GroupId, GroupName};

use super::frame::{ByteOrder, Header, emit_hint};
use super::kind;
use super::name::Names;

/// Bytes of a group id.
pub const GROUP_ID_BYTES: usize = 12;

/// Bytes of a transitional signal.
pub const TRANSITIONAL_BYTES: usize = FRAME_HEADER_BYTES + GROUP_ID_BYTES;

/// Bytes of the answer to one's own leave.
pub const SELF_LEAVE_BYTES: usize = FRAME_HEADER_BYTES;

/// Group id, number of sets, offset of the receiver's own.
const REGULAR_HEAD_BYTES: usize = GROUP_ID_BYTES + COUNT_BYTES + COUNT_BYTES;
const COUNT_BYTES: usize = 4;

/// Why there is a new view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A member joined.
    Join,
    /// A member left.
    Leave,
    /// A member disconnected.
    Disconnect,
    /// Daemons were lost or found.
    Network,
}

impl Cause {
    const ALL: [Self; 4] = [Self::Join, Self::Leave, Self::Disconnect, Self::Network];

    /// The type of the membership message.
    pub const fn kind(self) -> u32 {
        kind::REGULAR
            | match self {
                Self::Join => kind::CAUSED_BY_JOIN,
                Self::Leave => kind::CAUSED_BY_LEAVE,
                Self::Disconnect => kind::CAUSED_BY_DISCONNECT,
                Self::Network => kind::CAUSED_BY_NETWORK,
            }
    }

    /// The cause that a type tells; `None` unless it has [`kind::REGULAR`] and exactly one cause.
    pub fn of(kind: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| kind & kind::MEMBERSHIP == cause.kind())
    }
}

/// Bytes of the frame that tells a view of `members` members with `sets` virtual-synchrony sets,
/// which have `set_members` members together.
///
/// A join, leave or disconnect has one set of one member: the one that it is about.
pub const fn regular_len(members: usize, sets: usize, set_members: usize) -> usize {
    FRAME_HEADER_BYTES
        + GROUP_NAME_BYTES * members
        + REGULAR_HEAD_BYTES
        + COUNT_BYTES * sets
        + GROUP_NAME_BYTES * set_members
}

/// Writes the frame that tells a new view, into as many bytes as [`regular_len`] says.
///
/// `own_set` is the index of the set in `sets` that the receivers belong to; 0 for a join, leave or
/// disconnect.
///
/// # Panics
///
/// When `into` has another length, or there is no set `own_set`.
pub fn emit_regular<S: IntoIterator<Item = GroupName>>(
    into: &mut [u8],
    cause: Cause,
    group: &GroupName,
    id: GroupId,
    members: impl IntoIterator<Item = GroupName>,
    sets: impl IntoIterator<Item = S>,
    own_set: usize,
) {
    let mut writer = Writer { into, end: FRAME_HEADER_BYTES };
    let destinations = writer.names(members);
    let data = writer.end;
    writer.put(&emit_id(id));
    let head = writer.end;
    writer.put(&[0; 2 * COUNT_BYTES]);
    let first_set = writer.end;
    let mut own_offset = None;
    let mut set_count = 0;
    for (index, set) in sets.into_iter().enumerate() {
        if index == own_set {
            own_offset = Some(writer.end - first_set);
        }
        writer.set(set);
        set_count += 1;
    }
    let own_offset = own_offset.expect("the receivers' own set is one of the sets");
    let end = writer.end;
    assert_eq!(end, writer.into.len(), "regular_len says how long the frame is");
    writer.end = head;
    writer.put(&count(set_count));
    writer.put(&count(own_offset));
    put_header(into, cause.kind(), group, destinations, end - data);
}

/// The frame that says that a view is about to end; `id` is that view's.
pub fn emit_transitional(group: &GroupName, id: GroupId) -> [u8; TRANSITIONAL_BYTES] {
    let mut frame = [0; TRANSITIONAL_BYTES];
    put_header(&mut frame, kind::TRANSITIONAL, group, 0, GROUP_ID_BYTES);
    frame[FRAME_HEADER_BYTES..].copy_from_slice(&emit_id(id));
    frame
}

/// The frame that answers a session's own leave.
pub fn emit_self_leave(group: &GroupName) -> [u8; SELF_LEAVE_BYTES] {
    let mut frame = [0; SELF_LEAVE_BYTES];
    put_header(&mut frame, kind::CAUSED_BY_LEAVE, group, 0, 0);
    frame
}

fn put_header(
    frame: &mut [u8],
    kind: u32,
    group: &GroupName,
    destinations: usize,
    data_len: usize,
) {
    let order = ByteOrder::Little;
    let header = Header {
        order,
        kind,
        name: *group.as_field(),
        destinations: i32::from_le_bytes(count(destinations)),
        hint: emit_hint(0, order),
        data_len: i32::from_le_bytes(count(data_len)),
    };
    header.emit(frame.first_chunk_mut().expect("a frame has a header"));
}

fn emit_id(id: GroupId) -> [u8; GROUP_ID_BYTES] {
    let mut bytes = [0; GROUP_ID_BYTES];
    let (parts, _) = bytes.as_chunks_mut::<4>();
    for (part, value) in parts.iter_mut().zip([id.daemon, id.time, id.index]) {
        *part = value.to_le_bytes();
    }
    bytes
}

fn count(value: usize) -> [u8; COUNT_BYTES] {
    i32::try_from(value).expect("a view's message is far below 2 GiB").to_le_bytes()
}

struct Writer<'a> {
    into: &'a mut [u8],
    end: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.into[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    fn names(&mut self, names: impl IntoIterator<Item = GroupName>) -> usize {
        let mut written = 0;
        for name in names {
            self.put(name.as_field());
            written += 1;
        }
        written
    }

    fn set(&mut self, members: impl IntoIterator<Item = GroupName>) {
        let at = self.end;
        self.put(&count(0));
        let written = self.names(members);
        self.into[at..at + COUNT_BYTES].copy_from_slice(&count(written));
    }
}

/// Reads a group id, the whole data of a transitional signal.
pub fn parse_id(order: ByteOrder, data: &[u8; GROUP_ID_BYTES]) -> GroupId {
    let (parts, _) = data.as_chunks::<4>();
    GroupId { daemon: order.i32(parts[0]), time: order.i32(parts[1]), index: order.i32(parts[2]) }
}

/// The body of a message that tells a new view; its lengths are checked.
#[derive(Clone, Copy, Debug)]
pub struct Regular<'a> {
    /// The view.
    pub id: GroupId,
    own_set: usize,
    sets: Sets<'a>,
}

impl<'a> Regular<'a> {
    /// Reads the data of a membership message whose header is in `order`.
    ///
    /// `None` unless all sets lie side by side, fill the data, and the offset of the receiver's own
    /// set is that of one of them.
    pub fn parse(order: ByteOrder, data: &'a [u8]) -> Option<Self> {
        let (id, rest) = data.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (own_offset, bytes) = rest.split_first_chunk()?;
        let left = usize::try_from(order.i32(*count)).ok()?;
        let own_offset = usize::try_from(order.i32(*own_offset)).ok()?;
        let sets = Sets { order, left, bytes };
        let mut unread = sets;
        let mut own_set = None;
        for index in 0..left {
            if bytes.len() - unread.bytes.len() == own_offset {
                own_set.get_or_insert(index);
            }
            unread.next()?;
        }
        let own_set = own_set?;
        unread.bytes.is_empty().then_some(Self { id: parse_id(order, id), own_set, sets })
    }

    /// The virtual-synchrony sets; at least one.
    pub const fn sets(&self) -> Sets<'a> {
        self.sets
    }

    /// Index of the set that the receiver belongs to.
    pub const fn own_set(&self) -> usize {
        self.own_set
    }
}

/// Virtual-synchrony sets: each the names of members that came together from their last view.
#[derive(Clone, Copy, Debug)]
pub struct Sets<'a> {
    order: ByteOrder,
    left: usize,
    bytes: &'a [u8],
}

impl<'a> Iterator for Sets<'a> {
    type Item = Names<'a>;

    fn next(&mut self) -> Option<Names<'a>> {
        self.left = self.left.checked_sub(1)?;
        let (count, rest) = self.bytes.split_first_chunk()?;
        let count = usize::try_from(self.order.i32(*count)).ok()?;
        let len = count.checked_mul(GROUP_NAME_BYTES)?;
        let (names, rest) = rest.split_at_checked(len)?;
        self.bytes = rest;
        Some(Names::new(names.as_chunks().0))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Sets<'_> {}
