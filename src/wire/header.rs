//! What every packet between daemons begins with, and its checksum.

use crate::base::limits::DAEMONS_MAX;
use crate::base::{Rank, Store};

use super::codec::{Reader, Writer};

/// Bytes of the header.
pub const HEADER_BYTES: usize = 20;

/// First two bytes of every packet.
const MAGIC: u16 = 0x474d;

/// Version of all packet formats together.
pub const VERSION: u8 = 1;

/// Where the checksum stands; it covers everything else.
const CHECKSUM: std::ops::Range<usize> = 4..8;

/// What a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PacketKind {
    /// Messages with a place in the order.
    Data = 1,
    /// The token.
    Token = 2,
    /// A wish for the token.
    TokenRequest = 3,
    /// What its sender has received.
    Notice = 4,
    /// A wish for packets that were missed.
    RepairRequest = 5,
    /// A daemon looks for a configuration.
    Join = 6,
    /// A daemon is in a ring, and which.
    Presence = 7,
    /// A configuration has been agreed on.
    Commit = 8,
    /// What its sender has of its old ring.
    Exchange = 9,
    /// Its sender has all that it needs of its old ring.
    Done = 10,
    /// Its sender stops.
    Goodbye = 11,
    /// What its sender's cluster is, for daemons of another one.
    Identity = 12,
}

impl PacketKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Data,
        Self::Token,
        Self::TokenRequest,
        Self::Notice,
        Self::RepairRequest,
        Self::Join,
        Self::Presence,
        Self::Commit,
        Self::Exchange,
        Self::Done,
        Self::Goodbye,
        Self::Identity,
    ];
}

/// Why a datagram is not a packet of this cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// It is no packet of ours, or of another version.
    #[error("not a packet of version {VERSION}")]
    Foreign,
    /// It belongs to another cluster, or one with another configuration.
    #[error("a packet of another cluster")]
    Cluster,
    /// Its checksum is wrong.
    #[error("a damaged packet")]
    Damaged,
    /// Its fields do not fit together.
    #[error("a packet whose fields do not fit together")]
    Malformed,
}

/// Who sends: what the header says beside the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Identity of the cluster.
    pub cluster: u64,
    /// The sender.
    pub sender: Rank,
}

impl Envelope {
    /// Stores a packet of `kind` with `body_bytes` bytes behind the header, which `fill` writes.
    ///
    /// `None` when the store is exhausted.
    pub fn seal<S: Store>(
        self,
        store: &mut S,
        kind: PacketKind,
        body_bytes: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<S::Buffer> {
        let write = |packet: &mut [u8]| {
            let (header, body) = packet.split_at_mut(HEADER_BYTES);
            fill(body);
            let mut to = Writer::new(header);
            to.u16(MAGIC);
            to.u8(VERSION);
            to.u8(kind as u8);
            to.u32(0);
            to.u64(self.cluster);
            to.u8(self.sender.index() as u8);
            to.bytes(&[0; 3]);
            to.end();
            let checksum = checksum(packet);
            packet[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
        };
        let bytes = HEADER_BYTES + body_bytes;
        match kind {
            // Kept until everybody has it.
            PacketKind::Data => store.store_if_ample(bytes, write),
            _ => store.store_brief(bytes, write),
        }
    }
}

/// Whether a packet of our own making is one of data.
pub fn is_data(packet: &[u8]) -> bool {
    packet.get(3) == Some(&(PacketKind::Data as u8))
}

/// Whether a packet looks like an identity.
pub fn is_identity(packet: &[u8]) -> bool {
    packet.get(3) == Some(&(PacketKind::Identity as u8))
}

/// The kind of a packet of our own making.
pub fn kind(packet: &[u8]) -> Option<PacketKind> {
    let byte = *packet.get(3)?;
    PacketKind::ALL.into_iter().find(|kind| *kind as u8 == byte)
}

/// The cluster that a datagram names, if it begins like a packet of this version. Nothing else of
/// it is looked at: [`open`] does that.
pub fn cluster(packet: &[u8]) -> Option<u64> {
    let mut from = Reader::new(packet);
    let (Some(MAGIC), Some(VERSION)) = (from.u16(), from.u8()) else { return None };
    // Kind and checksum.
    from.bytes(5)?;
    from.u64()
}

/// Checks the header of a datagram, and that nothing of it was damaged.
///
/// # Errors
///
/// It is not an undamaged packet of `cluster`.
pub fn open(cluster: u64, packet: &[u8]) -> Result<(PacketKind, Rank, &[u8]), Reject> {
    let mut from = Reader::new(packet);
    let (Some(MAGIC), Some(VERSION), Some(kind)) = (from.u16(), from.u8(), from.u8()) else {
        return Err(Reject::Foreign);
    };
    let kind = PacketKind::ALL.into_iter().find(|&known| known as u8 == kind);
    let found = from.u32();
    if from.u64() != Some(cluster) {
        return Err(Reject::Cluster);
    }
    let (Some(sender), Some([0, 0, 0])) = (from.u8(), from.bytes(3)) else {
        return Err(Reject::Malformed);
    };
    if found != Some(checksum(packet)) {
        return Err(Reject::Damaged);
    }
    let kind = kind.ok_or(Reject::Foreign)?;
    let sender = Rank::new(usize::from(sender)).ok_or(Reject::Malformed)?;
    Ok((kind, sender, from.rest()))
}

// A rank fits the header's byte.
const _: () = assert!(DAEMONS_MAX <= 256);

/// Odd multiples of the golden ratio: without pattern.
const KEYS: [u64; LANES] = {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    [GOLDEN, GOLDEN.wrapping_mul(3), GOLDEN.wrapping_mul(5), GOLDEN.wrapping_mul(7)]
};

/// So many multiplications are under way at a time: each alone waits for the one before.
const LANES: usize = 4;

/// Bytes that the lanes absorb in one step.
const BLOCK_BYTES: usize = 16 * LANES;

/// UDP's own checksum misses what breaks behind it, in memory or in offloads. Each multiplication
/// mixes sixteen bytes; sums alone would be faster, but errors in two high bits cancel out there.
fn checksum(packet: &[u8]) -> u32 {
    let mut lanes = KEYS.map(|key| key.rotate_left(32));
    lanes[0] ^= packet.len() as u64;
    let (header, body) = packet.split_at(CHECKSUM.end.min(packet.len()));
    for (index, &byte) in header.iter().take(CHECKSUM.start).enumerate() {
        lanes[1] ^= u64::from(byte) << (8 * index);
    }
    let (blocks, rest) = body.as_chunks();
    for block in blocks {
        absorb(&mut lanes, block);
    }
    let mut last = [0; BLOCK_BYTES];
    last[..rest.len()].copy_from_slice(rest);
    absorb(&mut lanes, &last);
    let [a, b, c, d] = lanes;
    let mixed = fold(fold(a, b) ^ KEYS[0], fold(c, d) ^ KEYS[1]);
    (mixed ^ mixed >> 32) as u32
}

fn absorb(lanes: &mut [u64; LANES], block: &[u8; BLOCK_BYTES]) {
    let (words, _) = block.as_chunks();
    let word = |index: usize| u64::from_le_bytes(words[index]);
    for (index, lane) in lanes.iter_mut().enumerate() {
        *lane = fold(*lane ^ word(2 * index), KEYS[index] ^ word(2 * index + 1));
    }
}

/// Both halves of the product of two numbers.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::Heap;

    const ENVELOPE: Envelope = Envelope { cluster: 7, sender: Rank::new(3).unwrap() };

    fn sealed(len: usize) -> Vec<u8> {
        let fill = |body: &mut [u8]| body.fill(0xab);
        ENVELOPE.seal(&mut Heap, PacketKind::Notice, len, fill).unwrap().as_ref().to_vec()
    }

    #[test]
    fn a_packet_opens_where_it_belongs() {
        for len in [0, 1, 51, 52, 53, 1_400] {
            let packet = sealed(len);
            let body = vec![0xab; len];
            assert_eq!(open(7, &packet), Ok((PacketKind::Notice, ENVELOPE.sender, &body[..])));
            assert_eq!(open(8, &packet), Err(Reject::Cluster));
            assert_eq!(cluster(&packet), Some(7));
            assert!(!is_data(&packet));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let packet = sealed(77);
        for bit in 0..packet.len() * 8 {
            let mut damaged = packet.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(7, &damaged).is_err(), "bit {bit}");
        }
        for len in 0..packet.len() {
            assert!(open(7, &packet[..len]).is_err(), "{len} bytes");
            assert_eq!(cluster(&packet[..len]), (len >= 16).then_some(7), "{len} bytes");
        }
        assert_eq!(cluster(b"GET / HTTP/1.1\r\n\r\n"), None);
    }
}
