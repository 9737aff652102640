//! Data packets: messages and parts of messages with a place in a ring's order.

use crate::base::{Rank, RingId, Seq, Service, Store};

use super::codec::{Reader, Writer};
use super::header::{Envelope, HEADER_BYTES, PacketKind};

/// Bytes of a packet before its parts.
pub const DATA_HEADER_BYTES: usize = HEADER_BYTES + 12 + 4 * 8 + 4;

/// Bytes before the content of each part.
pub const PART_HEADER_BYTES: usize = 4;

const SERVICE_BITS: u8 = 0x07;
const FIRST: u8 = 0x08;
const LAST: u8 = 0x10;

/// The fields of a data packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// Ring whose order it is in.
    pub ring: RingId,
    /// Its place.
    pub seq: Seq,
    /// Hop of the token under which it was first sent.
    pub hop: u64,
    /// All packets up to here had reached the sender.
    pub aru: Seq,
    /// All packets up to here had reached everybody, as the sender knew.
    pub safe: Seq,
    /// Who has the token after this turn, if it does not go round: the sender, or the one to whom
    /// it is handed. As it seemed when the packet was made.
    pub keeper: Option<Rank>,
}

/// A data packet as it came: its header, and its parts, which are well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Fields.
    pub header: DataHeader,
    parts: &'a [u8],
}

/// One message, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// What the message's sender asked for.
    pub service: Service,
    /// Whether the message begins here.
    pub first: bool,
    /// Whether it ends here.
    pub last: bool,
    /// Where in the packet the content begins.
    pub start: usize,
    /// Bytes of content.
    pub len: usize,
}

/// Parts of a packet that was checked, in order.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Data<'a> {
    /// Reads the body of a data packet; nothing but well-formed parts is let through.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut from = Reader::new(body);
        let ring = from.ring()?;
        let (seq, hop, aru, safe) = (from.seq()?, from.u64()?, from.seq()?, from.seq()?);
        let used = usize::from(from.u16()?);
        let keeper = match from.u8()? {
            0 => None,
            place => Some(Rank::new(usize::from(place) - 1)?),
        };
        if from.u8()? != 0 || seq == Seq::ZERO {
            return None;
        }
        let parts = from.bytes(used)?;
        let mut rest = Reader::new(parts);
        while !rest.rest().is_empty() {
            let len = usize::from(rest.u16()?);
            let flags = rest.u8()?;
            let service = usize::from(flags & SERVICE_BITS);
            let is_known = flags & !(SERVICE_BITS | FIRST | LAST) == 0;
            if !is_known || service >= Service::ALL.len() || rest.u8()? != 0 {
                return None;
            }
            rest.bytes(len)?;
        }
        Some(Self { header: DataHeader { ring, seq, hop, aru, safe, keeper }, parts })
    }

    /// Whether a safe message ends in it.
    pub fn completes_safe(&self) -> bool {
        let parts = Parts { bytes: self.parts, at: 0, end: self.parts.len() };
        parts.into_iter().any(|part| part.last && part.service == Service::Safe)
    }

    /// Bytes of its parts.
    pub fn used(&self) -> usize {
        self.parts.len()
    }
}

impl<'a> Parts<'a> {
    /// The parts of a whole packet that [`Data`] was read from, of which `used` bytes are in use.
    pub fn of_packet(packet: &'a [u8], used: usize) -> Self {
        Self { bytes: packet, at: DATA_HEADER_BYTES, end: DATA_HEADER_BYTES + used }
    }
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        if self.at >= self.end {
            return None;
        }
        let header = self.bytes.get(self.at..self.at + PART_HEADER_BYTES)?;
        let len = usize::from(u16::from_le_bytes([header[0], header[1]]));
        let flags = header[2];
        let start = self.at + PART_HEADER_BYTES;
        self.at = start + len;
        Some(Part {
            service: Service::ALL[usize::from(flags & SERVICE_BITS)],
            first: flags & FIRST != 0,
            last: flags & LAST != 0,
            start,
            len,
        })
    }
}

/// Writes the header of a part.
pub fn emit_part_header(part: &Part, into: &mut [u8]) {
    let mut to = Writer::new(into);
    to.u16(part.len as u16);
    let service = Service::ALL.iter().position(|&service| service == part.service);
    let mut flags = service.expect("all services are in ALL") as u8;
    flags |= if part.first { FIRST } else { 0 };
    flags |= if part.last { LAST } else { 0 };
    to.u8(flags);
    to.u8(0);
    to.end();
}

impl DataHeader {
    /// Stores a packet with `used` bytes of parts, which `fill` writes, in `body` bytes of room;
    /// what is left of the room is zero, so that packets can be of one size.
    ///
    /// `None` when the store is exhausted.
    pub fn emit<S: Store>(
        &self,
        envelope: Envelope,
        store: &mut S,
        used: usize,
        room: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Option<S::Buffer> {
        const FIELDS: usize = DATA_HEADER_BYTES - HEADER_BYTES;
        assert!(used <= room);
        envelope.seal(store, PacketKind::Data, FIELDS + room, |body| {
            let (fields, parts) = body.split_at_mut(FIELDS);
            let mut to = Writer::new(fields);
            to.ring(self.ring);
            to.seq(self.seq);
            to.u64(self.hop);
            to.seq(self.aru);
            to.seq(self.safe);
            to.u16(used as u16);
            to.u8(self.keeper.map_or(0, |rank| rank.index() as u8 + 1));
            to.u8(0);
            to.end();
            let (parts, padding) = parts.split_at_mut(used);
            fill(parts);
            padding.fill(0);
        })
    }
}
