//! Frames: a header of 48 bytes, destinations or members, data.

use std::fmt;
use std::ops::Range;

use crate::base::event::Violation;
use crate::base::limits::{
    BODY_BYTES_MAX, DAEMON_FRAME_BYTES_MAX, DESTINATIONS_MAX, FRAME_HEADER_BYTES, GROUP_NAME_BYTES,
};
use crate::base::name::write_name;
use crate::base::{GroupName, PrivateGroup, Service};

/// Bits of a frame's type.
pub mod kind {
    use crate::base::Service;

    /// [`Service::Unreliable`].
    pub const UNRELIABLE: u32 = 0x0000_0001;
    /// [`Service::Reliable`].
    pub const RELIABLE: u32 = 0x0000_0002;
    /// [`Service::Fifo`].
    pub const FIFO: u32 = 0x0000_0004;
    /// [`Service::Causal`].
    pub const CAUSAL: u32 = 0x0000_0008;
    /// [`Service::Agreed`].
    pub const AGREED: u32 = 0x0000_0010;
    /// [`Service::Safe`].
    pub const SAFE: u32 = 0x0000_0020;
    /// The six services; exactly one of them makes a frame a message.
    pub const SERVICES: u32 = UNRELIABLE | RELIABLE | FIFO | CAUSAL | AGREED | SAFE;
    /// The sender itself gets no copy.
    pub const SELF_DISCARD: u32 = 0x0000_0040;
    /// A view changed because a member joined.
    pub const CAUSED_BY_JOIN: u32 = 0x0000_0100;
    /// A view changed because a member left; without [`REGULAR`], the answer to one's own leave.
    pub const CAUSED_BY_LEAVE: u32 = 0x0000_0200;
    /// A view changed because a member disconnected.
    pub const CAUSED_BY_DISCONNECT: u32 = 0x0000_0400;
    /// A view changed because daemons were lost or found.
    pub const CAUSED_BY_NETWORK: u32 = 0x0000_0800;
    /// A new view.
    pub const REGULAR: u32 = 0x0000_1000;
    /// The transitional signal: the view is about to end.
    pub const TRANSITIONAL: u32 = 0x0000_2000;
    /// All membership bits.
    pub const MEMBERSHIP: u32 = 0x0000_3f00;
    /// Without meaning here, passed on.
    pub const INTERNAL_14: u32 = 0x0000_4000;
    /// Without meaning here, passed on.
    pub const INTERNAL_15: u32 = 0x0000_8000;
    /// Asks to join a group.
    pub const JOIN: u32 = 0x0001_0000;
    /// Asks to leave a group.
    pub const LEAVE: u32 = 0x0002_0000;
    /// Says goodbye.
    pub const KILL: u32 = 0x0004_0000;
    /// Between Spread's daemons only.
    pub const GROUPS: u32 = 0x0008_0000;
    /// Without meaning here, passed on.
    pub const INTERNAL_20: u32 = 0x0010_0000;
    /// Without meaning here, passed on.
    pub const INTERNAL_21: u32 = 0x0020_0000;
    /// The daemon gives a request back.
    pub const REJECT: u32 = 0x0040_0000;
    /// Spread's argument of a receive call; passed on.
    pub const DROP_RECV: u32 = 0x0100_0000;
    /// Of the flush library; passed on.
    pub const DONT_BLOCK: u32 = 0x1000_0000;
    /// Of the flush library; passed on.
    pub const FLUSH_REQ: u32 = 0x2000_0000;
    /// Of the flush library, on the wire; passed on.
    pub const SUBGROUP_CAST: u32 = 0x4000_0000;
    /// Not a flag: where set, the integers are little-endian.
    pub const MARK: u32 = 0x8000_0080;
    /// A frame of a client has exactly one of these.
    pub const REQUESTS: u32 = SERVICES | JOIN | LEAVE | KILL;
    /// A client that sets one of these would confuse other clients.
    pub const DAEMON_ONLY: u32 = MEMBERSHIP | GROUPS | REJECT;

    // Reversing the bytes of the mark does not change it, so it can be read before the order.
    const _: () = assert!(MARK.swap_bytes() == MARK);
    const _: () = assert!(REQUESTS & (DAEMON_ONLY | MARK | SELF_DISCARD) == 0);

    /// The bit that asks for `service`.
    pub const fn of(service: Service) -> u32 {
        match service {
            Service::Unreliable => UNRELIABLE,
            Service::Reliable => RELIABLE,
            Service::Fifo => FIFO,
            Service::Causal => CAUSAL,
            Service::Agreed => AGREED,
            Service::Safe => SAFE,
        }
    }

    /// The service whose bit is set in `kind`; the strongest if there are several.
    pub fn service(kind: u32) -> Option<Service> {
        Service::ALL.into_iter().rev().find(|&service| kind & of(service) != 0)
    }
}

const KIND: Range<usize> = 0..4;
const NAME: Range<usize> = KIND.end..KIND.end + GROUP_NAME_BYTES;
const DESTINATIONS: Range<usize> = NAME.end..NAME.end + 4;
const HINT: Range<usize> = DESTINATIONS.end..DESTINATIONS.end + 4;
const DATA_LEN: Range<usize> = HINT.end..HINT.end + 4;
const _: () = assert!(DATA_LEN.end == FRAME_HEADER_BYTES);

/// What a reject has between header and destinations: the type of the request given back.
const OLD_KIND_BYTES: usize = 4;

const MARK_BYTE: u8 = 0x80;

/// Order of the bytes of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// The order of this machine.
    pub const NATIVE: Self = if cfg!(target_endian = "little") { Self::Little } else { Self::Big };

    /// The order that the mark in a type or a hint tells: little where it is complete.
    pub const fn of(field: [u8; 4]) -> Self {
        if field[0] & MARK_BYTE != 0 && field[3] & MARK_BYTE != 0 {
            Self::Little
        } else {
            Self::Big
        }
    }

    /// Reads an unsigned integer.
    pub const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Reads a signed integer.
    pub const fn i32(self, bytes: [u8; 4]) -> i32 {
        self.u32(bytes).cast_signed()
    }

    /// Writes an unsigned integer.
    pub const fn bytes(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    /// The mark that a writer of this order sets.
    const fn mark(self) -> u32 {
        match self {
            Self::Little => kind::MARK,
            Self::Big => 0,
        }
    }
}

/// The hint of a message whose sender writes integers in `order`.
pub const fn emit_hint(message_type: i16, order: ByteOrder) -> [u8; 4] {
    let value = (message_type.cast_unsigned() as u32) << 8;
    order.bytes(value | order.mark())
}

/// The message type in a hint, and the byte order of the sender.
pub const fn parse_hint(hint: [u8; 4]) -> (i16, ByteOrder) {
    let order = ByteOrder::of(hint);
    let value = order.u32(hint) >> 8 & 0xffff;
    ((value as u16).cast_signed(), order)
}

/// The first 48 bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Order of its integers, except of the hint, and of those in membership bodies.
    pub order: ByteOrder,
    /// Type bits without the mark; half a mark, which is malformed, stays.
    pub kind: u32,
    /// Sender, or the group of a membership message; bytes behind the first NUL mean nothing.
    pub name: [u8; GROUP_NAME_BYTES],
    /// Number of name fields behind the header.
    pub destinations: i32,
    /// Message type in the sender's own byte order, and the mark of that.
    pub hint: [u8; 4],
    /// Bytes behind the name fields.
    pub data_len: i32,
}

impl Header {
    /// Reads a header; nothing in it is checked.
    pub fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Self {
        let field = four(bytes, KIND);
        let order = ByteOrder::of(field);
        Self {
            order,
            kind: order.u32(field) & !order.mark(),
            name: bytes[NAME].try_into().expect("the range is as long as a name"),
            destinations: order.i32(four(bytes, DESTINATIONS)),
            hint: four(bytes, HINT),
            data_len: order.i32(four(bytes, DATA_LEN)),
        }
    }

    /// Writes the header in its byte order.
    pub fn emit(&self, into: &mut [u8; FRAME_HEADER_BYTES]) {
        into[KIND].copy_from_slice(&self.order.bytes(self.kind | self.order.mark()));
        into[NAME].copy_from_slice(&self.name);
        let destinations = self.destinations.cast_unsigned();
        into[DESTINATIONS].copy_from_slice(&self.order.bytes(destinations));
        into[HINT].copy_from_slice(&self.hint);
        into[DATA_LEN].copy_from_slice(&self.order.bytes(self.data_len.cast_unsigned()));
    }

    /// Bytes of name fields and data; `None` where a number is negative.
    pub fn body_len(&self) -> Option<usize> {
        let destinations = usize::try_from(self.destinations).ok()?;
        let data = usize::try_from(self.data_len).ok()?;
        destinations.checked_mul(GROUP_NAME_BYTES)?.checked_add(data)
    }

    /// Bytes of the whole frame; `None` where a number is negative.
    pub fn frame_len(&self) -> Option<usize> {
        self.body_len()?.checked_add(FRAME_HEADER_BYTES + self.old_kind_len())
    }

    fn old_kind_len(&self) -> usize {
        if self.kind & kind::REJECT == 0 { 0 } else { OLD_KIND_BYTES }
    }
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Deliver the frame to its destinations.
    Multicast {
        /// Asked for by the sender.
        service: Service,
        /// Whether the sender gets no copy.
        self_discard: bool,
    },
    /// Make the session a member of the group in the first name field.
    Join,
    /// End its membership in the group in the first name field.
    Leave,
    /// End the session.
    Kill,
}

/// Checks what a session sent before anything behind the header is looked at.
///
/// `own` is the session. Behind an `Ok`, [`Header::body_len`] is at most
/// [`BODY_BYTES_MAX`] and there are at most [`DESTINATIONS_MAX`] name fields, possibly none.
///
/// # Errors
///
/// The first check that fails; the session is to be dropped.
pub fn check_request(header: &Header, own: &PrivateGroup) -> Result<RequestKind, Violation> {
    let request = request_kind(header.kind)?;
    check_sender(&header.name, own)?;
    let destinations = usize::try_from(header.destinations).ok();
    if destinations.is_none_or(|count| count > DESTINATIONS_MAX) {
        return Err(Violation::Destinations { found: header.destinations });
    }
    // The lowest byte without the mark and the highest without it: the same two in both orders.
    if (header.hint[0] | header.hint[3]) & !MARK_BYTE != 0 {
        return Err(Violation::Hint { hint: header.order.u32(header.hint) });
    }
    if header.body_len().is_none_or(|len| len > BODY_BYTES_MAX) {
        return Err(Violation::DataLength { found: header.data_len });
    }
    Ok(request)
}

fn request_kind(kind: u32) -> Result<RequestKind, Violation> {
    let requests = kind & kind::REQUESTS;
    if !requests.is_power_of_two() {
        return Err(Violation::NotOneRequest { kind });
    }
    // Half a byte-order mark comes from no client; passed on, it would be read as a whole one.
    if kind & (kind::DAEMON_ONLY | kind::MARK) != 0 {
        return Err(Violation::DaemonOnly { kind });
    }
    Ok(match kind::service(requests) {
        Some(service) => {
            RequestKind::Multicast { service, self_discard: kind & kind::SELF_DISCARD != 0 }
        }
        None if requests == kind::JOIN => RequestKind::Join,
        None if requests == kind::LEAVE => RequestKind::Leave,
        None => RequestKind::Kill,
    })
}

fn check_sender(field: &[u8; GROUP_NAME_BYTES], own: &PrivateGroup) -> Result<(), Violation> {
    if own.is_named_by(field) {
        return Ok(());
    }
    let text = field[..GROUP_NAME_BYTES - 1].split(|&byte| byte == 0).next().unwrap_or_default();
    match PrivateGroup::parse(text) {
        Ok(found) => Err(Violation::SenderForeign { found }),
        Err(error) => Err(Violation::SenderIllegal(error)),
    }
}

/// Makes the header of an accepted frame little-endian, in place; its hint, names and data stay.
///
/// # Panics
///
/// When `frame` is shorter than a header.
pub fn to_little(frame: &mut [u8]) {
    let Some(bytes) = frame.first_chunk_mut::<FRAME_HEADER_BYTES>() else {
        panic!("an accepted frame has a header");
    };
    if ByteOrder::of(four(bytes, KIND)) == ByteOrder::Big {
        for field in [KIND, DESTINATIONS, DATA_LEN] {
            bytes[field].reverse();
        }
        bytes[KIND.start] |= MARK_BYTE;
        bytes[KIND.end - 1] |= MARK_BYTE;
    }
}

/// A name field as it came: up to 32 bytes, of any value, and whatever is behind the first NUL.
///
/// Two are equal when their bytes up to the NUL are.
#[derive(Clone, Copy)]
pub struct Name<'a>(&'a [u8; GROUP_NAME_BYTES]);

impl<'a> Name<'a> {
    /// Wraps a field.
    pub const fn new(field: &'a [u8; GROUP_NAME_BYTES]) -> Self {
        Self(field)
    }

    /// The name's bytes, without NUL and what is behind it.
    pub fn as_bytes(self) -> &'a [u8] {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(GROUP_NAME_BYTES);
        &self.0[..len]
    }

    /// The whole field.
    pub const fn as_field(self) -> &'a [u8; GROUP_NAME_BYTES] {
        self.0
    }

    /// The name as text. Names that clients may join, and those of sessions, are always ASCII.
    ///
    /// # Errors
    ///
    /// The name is no UTF-8: some client sent to a group of such a name.
    pub fn to_str(self) -> Result<&'a str, std::str::Utf8Error> {
        std::str::from_utf8(self.as_bytes())
    }

    /// A copy that can be kept; `None` if all 32 bytes are used, which makes it no group's name.
    pub fn to_group(self) -> Option<GroupName> {
        GroupName::from_field(self.0)
    }

    /// Reads the name as that of a session.
    ///
    /// # Errors
    ///
    /// It is not of the form `#name#daemon`.
    pub fn to_private_group(self) -> Result<PrivateGroup, crate::base::NameError> {
        PrivateGroup::parse(self.as_bytes())
    }
}

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name<'_> {}

impl PartialEq<str> for Name<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Name<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<GroupName> for Name<'_> {
    fn eq(&self, other: &GroupName) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(self.as_bytes(), f)
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Name fields that lie side by side.
#[derive(Clone)]
pub struct Names<'a>(std::slice::Iter<'a, [u8; GROUP_NAME_BYTES]>);

impl<'a> Names<'a> {
    /// The names in `fields`.
    pub fn new(fields: &'a [[u8; GROUP_NAME_BYTES]]) -> Self {
        Self(fields.iter())
    }
}

impl<'a> Iterator for Names<'a> {
    type Item = Name<'a>;

    fn next(&mut self) -> Option<Name<'a>> {
        self.0.next().map(Name)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Names<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(Name)
    }
}

impl ExactSizeIterator for Names<'_> {}

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// A whole frame as a client receives it; what its kind says is not checked further.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: Header,
    /// The header's name: sender, or the group of a membership message.
    pub name: Name<'a>,
    /// In a reject: the type bits of the request given back, without mark.
    pub old_kind: Option<u32>,
    /// Destinations or members.
    pub names: &'a [[u8; GROUP_NAME_BYTES]],
    /// What follows.
    pub data: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Bytes of the frame that begins `bytes`, as soon as its header is there.
    ///
    /// # Errors
    ///
    /// The header is none of a daemon.
    pub fn len(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some(header) = bytes.first_chunk() else { return Ok(None) };
        Self::checked_len(&Header::parse(header)).map(Some)
    }

    fn checked_len(header: &Header) -> Result<usize, FrameError> {
        let lengths =
            FrameError::Lengths { names: header.destinations, data_bytes: header.data_len };
        if header.kind & kind::MARK != 0 {
            return Err(FrameError::Mark { kind: header.kind });
        }
        header.frame_len().filter(|&len| len <= DAEMON_FRAME_BYTES_MAX).ok_or(lengths)
    }

    /// Reads the frame that begins `bytes`, and says how many bytes it took; `None` while some are
    /// missing.
    ///
    /// # Errors
    ///
    /// The header is none of a daemon.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, FrameError> {
        let Some((head, rest)) = bytes.split_first_chunk() else { return Ok(None) };
        let header = Header::parse(head);
        let name = Name((&head[NAME]).try_into().expect("the range is as long as a name"));
        let len = Self::checked_len(&header)?;
        let Some(rest) = rest.get(..len - FRAME_HEADER_BYTES) else { return Ok(None) };
        let (old, rest) = rest.split_at(header.old_kind_len());
        let old_kind = old.first_chunk().map(|field| header.order.u32(*field) & !kind::MARK);
        let (names, data) = rest.split_at(rest.len() - header.data_len as usize);
        let (names, _) = names.as_chunks();
        Ok(Some((Self { header, name, old_kind, names, data }, len)))
    }
}

/// How a frame of a daemon is malformed; the connection is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The type has half a byte-order mark.
    #[error("type 0x{kind:08x} has half a byte-order mark")]
    Mark {
        /// The type as it was read.
        kind: u32,
    },
    /// A negative number, or more than 64 MiB.
    #[error("{names} names and {data_bytes} bytes of data do not make a frame")]
    Lengths {
        /// Number of name fields.
        names: i32,
        /// Bytes of data.
        data_bytes: i32,
    },
}

fn four(bytes: &[u8; FRAME_HEADER_BYTES], range: Range<usize>) -> [u8; 4] {
    bytes[range].try_into().expect("the range has four bytes")
}
