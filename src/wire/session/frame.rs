//! Frames: a header of 48 bytes, destinations or members, data.

use std::ops::Range;

use crate::base::limits::{DAEMON_FRAME_BYTES_MAX, FRAME_HEADER_BYTES, GROUP_NAME_BYTES};

use super::kind;
use super::name::Name;

const KIND: Range<usize> = 0..4;
const NAME: Range<usize> = KIND.end..KIND.end + GROUP_NAME_BYTES;
const DESTINATIONS: Range<usize> = NAME.end..NAME.end + 4;
const HINT: Range<usize> = DESTINATIONS.end..DESTINATIONS.end + 4;
const DATA_LEN: Range<usize> = HINT.end..HINT.end + 4;
const _: () = assert!(DATA_LEN.end == FRAME_HEADER_BYTES);

/// What a reject has between header and destinations: the type of the request given back.
const OLD_KIND_BYTES: usize = 4;

/// The mark in the first and in the last byte of a field.
pub(super) const MARK_BYTE: u8 = 0x80;

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
        let name = (&head[NAME]).try_into().expect("the range is as long as a name");
        let name = Name::new(name);
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
