//! What a completion of io_uring belongs to, and memory that a send lends to the kernel.
#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;

use crate::mem::pool::Slice;

/// One operation in flight, as it travels through the kernel and back in 64 bits.
///
/// Slots are not reused before their last completion was seen, so they need no generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OpKey {
    /// Multishot accept of a listener.
    Accept(u32),
    /// One-shot poll of a listener that ran out of descriptors.
    Connectable(u32),
    /// Multishot receive of a stream.
    Receive(u32),
    /// The one send of a stream.
    Send(u32),
    /// The read of our bell's eventfd.
    Bell,
    /// Multishot receive of a datagram socket.
    Datagrams(u32),
    /// Another driver rang: posted by its io_uring, an operation of its own and not of ours.
    Woken,
    /// Our ringing of another driver; completes only when that failed.
    Ring(u32),
    /// A cancellation; completes only when there was nothing to cancel.
    Cancel,
}

impl OpKey {
    pub(super) fn encode(self) -> u64 {
        let (kind, slot) = match self {
            Self::Accept(slot) => (0_u64, slot),
            Self::Connectable(slot) => (1, slot),
            Self::Receive(slot) => (2, slot),
            Self::Send(slot) => (3, slot),
            Self::Bell => (4, 0),
            Self::Woken => (5, 0),
            Self::Ring(slot) => (6, slot),
            Self::Cancel => (7, 0),
            Self::Datagrams(slot) => (8, slot),
        };
        kind << 32 | u64::from(slot)
    }

    pub(super) fn decode(user_data: u64) -> Self {
        let slot = user_data as u32;
        match user_data >> 32 {
            0 => Self::Accept(slot),
            1 => Self::Connectable(slot),
            2 => Self::Receive(slot),
            3 => Self::Send(slot),
            4 => Self::Bell,
            5 => Self::Woken,
            6 => Self::Ring(slot),
            7 => Self::Cancel,
            8 => Self::Datagrams(slot),
            kind => unreachable!("operations have kinds 0 to 8, not {kind}"),
        }
    }

    /// Whether each operation of this kind ends with exactly one completion without `MORE`.
    pub(super) fn always_completes(self) -> bool {
        match self {
            Self::Accept(_)
            | Self::Connectable(_)
            | Self::Receive(_)
            | Self::Send(_)
            | Self::Datagrams(_)
            | Self::Bell => true,
            Self::Woken | Self::Ring(_) | Self::Cancel => false,
        }
    }
}

/// A message header with nothing in it.
pub(super) fn empty_header() -> libc::msghdr {
    // SAFETY: a message header is integers and pointers, for which all zeroes are valid; zero is
    // "none" for each of its parts.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

/// The pieces of one send, and how the kernel wants to be told of them.
///
/// Whatever the kernel is told the address of lies on the heap, so the value itself may move.
pub(super) struct SendMemory {
    /// Keeps the bytes alive.
    pieces: Vec<Slice>,
    /// Where they are.
    vectors: Vec<libc::iovec>,
    header: Box<libc::msghdr>,
}

/// Where the bytes of a send are: addresses into a [`SendMemory`].
pub(super) enum SendShape {
    /// One run of bytes.
    Piece(libc::iovec),
    /// Several, for `sendmsg`.
    Message(*const libc::msghdr),
}

impl SendMemory {
    pub(super) fn new() -> Self {
        Self { pieces: Vec::new(), vectors: Vec::new(), header: Box::new(empty_header()) }
    }

    /// Keeps the pieces; there must be none from before.
    pub(super) fn fill<'a>(&mut self, pieces: impl Iterator<Item = &'a Slice>) {
        debug_assert!(self.pieces.is_empty());
        self.pieces.extend(pieces.cloned());
    }

    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// Describes the pieces. The result is good until the next change of `self`.
    pub(super) fn shape(&mut self) -> SendShape {
        // The address of a piece's bytes does not change when the piece itself moves: they lie in
        // the pool.
        let vector = |piece: &Slice| libc::iovec {
            iov_base: piece.as_ptr().cast_mut().cast(),
            iov_len: piece.len(),
        };
        if let [piece] = self.pieces.as_slice() {
            return SendShape::Piece(vector(piece));
        }
        self.vectors.clear();
        self.vectors.extend(self.pieces.iter().map(vector));
        self.header.msg_iov = self.vectors.as_mut_ptr();
        self.header.msg_iovlen = self.vectors.len() as _;
        SendShape::Message(&raw const *self.header)
    }

    /// Lets go of the pieces.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
    }
}

impl fmt::Debug for SendMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendMemory({} pieces)", self.pieces.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_the_way_through_the_kernel() {
        for slot in [0, 1, u32::MAX] {
            for key in [
                OpKey::Accept(slot),
                OpKey::Connectable(slot),
                OpKey::Receive(slot),
                OpKey::Send(slot),
                OpKey::Bell,
                OpKey::Woken,
                OpKey::Ring(slot),
                OpKey::Cancel,
                OpKey::Datagrams(slot),
            ] {
                assert_eq!(OpKey::decode(key.encode()), key);
            }
        }
    }
}
