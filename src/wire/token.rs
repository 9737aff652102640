//! The token, and what is said about it and about missing packets outside of it.

use crate::base::limits::{
    DAEMONS_MAX, PEER_DATAGRAM_BYTES_MIN, REPAIR_RANGES_MAX, REST_MICROS_MAX,
};
use crate::base::{Rank, RingId, Seq, Store};

use super::codec::{Reader, Writer};
use super::header::{Envelope, HEADER_BYTES, PacketKind};
use super::list::{Item, List, Listed};

/// A run of packets: `len` of them from `start` on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeqRange {
    /// The first.
    pub start: Seq,
    /// How many, at least 1.
    pub len: u32,
}

/// Runs of packets that somebody misses.
pub type Ranges = List<SeqRange, REPAIR_RANGES_MAX>;

/// The token: who holds it may send. Its fields, without what differs from daemon to daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHeader {
    /// Its ring.
    pub ring: RingId,
    /// Counts the times it was passed on, so that a copy is known as one.
    pub hop: u64,
    /// Who holds it from now on.
    pub to: Rank,
    /// So many more times it is passed on before it may rest.
    pub tour: u8,
    /// Whether it was handed over out of turn, to one who is expected to need it.
    pub handed: bool,
    /// The last place that was given away.
    pub seq: Seq,
    /// Bytes sent during the last rotation, but for repetitions.
    pub flow: u32,
    /// Bytes of packets that were repeated during the last rotation.
    pub repeated: u32,
}

/// A token as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Fields.
    pub header: TokenHeader,
    /// For each daemon of the ring, in order: how far its aru is behind `seq`. At most
    /// [`DAEMONS_MAX`].
    pub lags: Listed<'a, u32>,
    /// What is missing somewhere. At most [`REPAIR_RANGES_MAX`].
    pub missing: Listed<'a, SeqRange>,
}

// The fullest token fits a datagram.
const _: () = assert!(
    HEADER_BYTES + TOKEN_FIELDS_BYTES + 4 * DAEMONS_MAX + SeqRange::BYTES * REPAIR_RANGES_MAX
        <= PEER_DATAGRAM_BYTES_MIN
);

const TOKEN_FIELDS_BYTES: usize = 12 + 8 + 1 + 1 + 1 + 8 + 4 + 4 + 1 + 1;

impl Item for u32 {
    const BYTES: usize = 4;

    fn read(bytes: &[u8]) -> Self {
        bytes.first_chunk().copied().map_or(0, Self::from_le_bytes)
    }
}

impl Item for SeqRange {
    const BYTES: usize = 8 + 4;

    fn read(bytes: &[u8]) -> Self {
        let mut from = Reader::new(bytes);
        Self { start: from.seq().unwrap_or_default(), len: from.u32().unwrap_or_default() }
    }
}

fn parse_ranges<'a>(from: &mut Reader<'a>, count: u8) -> Option<Listed<'a, SeqRange>> {
    let count = usize::from(count);
    let ranges = Listed::<SeqRange>::new(from.bytes(count * SeqRange::BYTES)?);
    let are_sane = ranges.iter().all(|range| range.start > Seq::ZERO && range.len > 0);
    (count <= REPAIR_RANGES_MAX && are_sane).then_some(ranges)
}

fn emit_ranges(to: &mut Writer<'_>, ranges: &[SeqRange]) {
    for range in ranges {
        to.seq(range.start);
        to.u32(range.len);
    }
}

impl<'a> Token<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (ring, hop) = (from.ring()?, from.u64()?);
        let to = Rank::new(usize::from(from.u8()?))?;
        let (tour, handed, seq) = (from.u8()?, from.flag()?, from.seq()?);
        let (flow, repeated) = (from.u32()?, from.u32()?);
        let (daemons, runs) = (usize::from(from.u8()?), from.u8()?);
        if daemons > DAEMONS_MAX {
            return None;
        }
        let lags = Listed::new(from.bytes(daemons * u32::BYTES)?);
        let missing = parse_ranges(&mut from, runs)?;
        from.end()?;
        let header = TokenHeader { ring, hop, to, tour, handed, seq, flow, repeated };
        Some(Self { header, lags, missing })
    }
}

impl TokenHeader {
    /// Stores the packet with these lists; `None` when the store is exhausted.
    pub fn emit<S: Store>(
        &self,
        lags: impl ExactSizeIterator<Item = u32>,
        missing: &Ranges,
        envelope: Envelope,
        store: &mut S,
    ) -> Option<S::Buffer> {
        let daemons = lags.len();
        assert!(daemons <= DAEMONS_MAX, "a token has a lag for each daemon");
        let lists = u32::BYTES * daemons + SeqRange::BYTES * missing.len();
        envelope.seal(store, PacketKind::Token, TOKEN_FIELDS_BYTES + lists, |body| {
            let mut to = Writer::new(body);
            to.ring(self.ring);
            to.u64(self.hop);
            to.u8(self.to.index() as u8);
            to.u8(self.tour);
            to.flag(self.handed);
            to.seq(self.seq);
            to.u32(self.flow);
            to.u32(self.repeated);
            to.u8(daemons as u8);
            to.u8(missing.len() as u8);
            lags.for_each(|lag| to.u32(lag));
            emit_ranges(&mut to, missing);
            to.end();
        })
    }
}

/// A daemon has something to send and asks whoever holds a resting token for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// Ring of the token.
    pub ring: RingId,
}

impl TokenRequest {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let ring = from.ring()?;
        from.end()?;
        Some(Self { ring })
    }

    /// Stores the packet; `None` when the store is exhausted.
    pub fn emit<S: Store>(&self, envelope: Envelope, store: &mut S) -> Option<S::Buffer> {
        envelope.seal(store, PacketKind::TokenRequest, 12, |body| {
            let mut to = Writer::new(body);
            to.ring(self.ring);
            to.end();
        })
    }
}

/// What a daemon has received, from one that sends no data; also a sign that it has the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Ring.
    pub ring: RingId,
    /// Last hop of the token that its sender knows of.
    pub hop: u64,
    /// All packets up to here have reached it.
    pub aru: Seq,
    /// All packets up to here have reached everybody, as it knows.
    pub safe: Seq,
    /// The token rests with it, and goes on a tour after so many microseconds at the latest; 0: it
    /// does not rest there. At most [`REST_MICROS_MAX`].
    pub rest_micros: u32,
}

impl Notice {
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (ring, hop) = (from.ring()?, from.u64()?);
        let (aru, safe, rest_micros) = (from.seq()?, from.seq()?, from.u32()?);
        from.end()?;
        (rest_micros <= REST_MICROS_MAX).then_some(Self { ring, hop, aru, safe, rest_micros })
    }

    /// Stores the packet; `None` when the store is exhausted.
    pub fn emit<S: Store>(&self, envelope: Envelope, store: &mut S) -> Option<S::Buffer> {
        envelope.seal(store, PacketKind::Notice, 12 + 3 * 8 + 4, |body| {
            let mut to = Writer::new(body);
            to.ring(self.ring);
            to.u64(self.hop);
            to.seq(self.aru);
            to.seq(self.safe);
            to.u32(self.rest_micros);
            to.end();
        })
    }
}

/// A daemon misses packets and asks one that has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairRequest<'a> {
    /// Ring of the packets.
    pub ring: RingId,
    /// Which.
    pub missing: Listed<'a, SeqRange>,
}

impl<'a> RepairRequest<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let (ring, runs) = (from.ring()?, from.u8()?);
        let missing = parse_ranges(&mut from, runs)?;
        from.end()?;
        Some(Self { ring, missing })
    }
}

/// Stores a repair request; `None` when the store is exhausted.
pub fn emit_repair_request<S: Store>(
    ring: RingId,
    missing: &Ranges,
    envelope: Envelope,
    store: &mut S,
) -> Option<S::Buffer> {
    let len = 12 + 1 + SeqRange::BYTES * missing.len();
    envelope.seal(store, PacketKind::RepairRequest, len, |body| {
        let mut to = Writer::new(body);
        to.ring(ring);
        to.u8(missing.len() as u8);
        emit_ranges(&mut to, missing);
        to.end();
    })
}
