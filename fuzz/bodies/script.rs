//! How an input of the `sessions` target tells what happens to a daemon, step by step.

use madrigal::base::GroupName;
use madrigal::base::limits::FRAME_HEADER_BYTES;
use madrigal::wire::session::frame::emit_hint;
use madrigal::wire::session::{ByteOrder, Header, kind};

use super::reader::Reader;

/// Groups that generated requests are about.
pub(crate) const GROUPS: [&[u8]; 4] = [b"g", b"h", b"#a#localhost", b"#b#localhost"];

/// One thing that happens. Connections count from 0 and are taken modulo how many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// A client connects and says all of its handshake.
    Connect { core: u8, membership: bool, name: &'a [u8] },
    /// Bytes come.
    Receive { conn: u8, bytes: &'a [u8] },
    /// A frame comes that breaks no rule, in pieces.
    Request { conn: u8, request: Request },
    /// The connection breaks.
    Ended { conn: u8 },
    /// The socket takes nothing until further notice, or again.
    Stall { conn: u8, stalled: bool },
    /// The stalled socket takes so many bytes after all.
    Accept { conn: u8, bytes: usize },
    /// A core is told to take nothing, or to go on.
    Throttle { core: u8, throttled: bool },
    /// So many of the next stores fail.
    Memory { failures: u8 },
    /// Time passes.
    Time { millis: usize },
    /// A core that is short of memory drops who holds most.
    Relieve { core: u8 },
}

/// A request that breaks no rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    kind: u8,
    groups: u8,
    order: u8,
    data: usize,
    /// Bytes of each piece in which it arrives.
    pub(crate) piece: usize,
}

impl<'a> Step<'a> {
    /// The next step of a script.
    pub(crate) fn read(script: &mut Reader<'a>) -> Option<Self> {
        if script.is_empty() {
            return None;
        }
        let code = script.byte();
        let who = script.byte();
        let (conn, core) = (who, who & 1);
        Some(match code % 16 {
            0 => {
                let len = usize::from(script.byte() % 12);
                Self::Connect { core, membership: who & 2 == 0, name: script.bytes(len) }
            }
            1 | 2 => {
                let len = script.short();
                Self::Receive { conn, bytes: script.bytes(len) }
            }
            3..=8 => {
                let (kind, groups, order) = (script.byte(), script.byte(), script.byte());
                let data = script.short() % 3000;
                let piece = 1 + usize::from(script.byte()) * 16;
                let request = Request { kind, groups, order, data, piece };
                Self::Request { conn, request }
            }
            9 => Self::Ended { conn },
            10 => Self::Stall { conn, stalled: script.byte() & 1 == 0 },
            11 => Self::Accept { conn, bytes: script.short() },
            12 => Self::Throttle { core, throttled: script.byte() & 1 == 0 },
            13 => Self::Memory { failures: script.byte() % 8 },
            14 => Self::Time { millis: script.short() },
            _ => Self::Relieve { core },
        })
    }
}

impl Request {
    /// The frame, from the session whose private group is `sender`.
    pub(crate) fn frame(&self, sender: &GroupName) -> Vec<u8> {
        let order = if self.order & 1 == 0 { ByteOrder::Little } else { ByteOrder::Big };
        let kinds = [kind::JOIN, kind::LEAVE, kind::RELIABLE, kind::AGREED, kind::SAFE, kind::KILL];
        let kind = match self.kind {
            // Rare: it ends the session.
            255 => kinds[5],
            kind => kinds[usize::from(kind) % 5],
        };
        let discard = if self.order & 2 == 0 { 0 } else { kind::SELF_DISCARD };
        let chosen = (0..8).filter(|bit| self.groups >> bit & 1 == 1);
        let groups: Vec<_> = chosen.map(|bit| GROUPS[bit % GROUPS.len()]).collect();
        let header = Header {
            order,
            kind: kind | discard,
            name: *sender.as_field(),
            destinations: groups.len() as i32,
            hint: emit_hint(i16::from(self.order), order),
            data_len: self.data as i32,
        };
        let mut bytes = vec![0; FRAME_HEADER_BYTES];
        header.emit(bytes.first_chunk_mut().unwrap());
        for group in groups {
            let end = bytes.len() + 32;
            bytes.extend_from_slice(group);
            bytes.resize(end, 0);
        }
        bytes.extend((0..self.data).map(|at| at as u8));
        bytes
    }
}

/// Writes scripts: where corpora come from.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    /// A script for a daemon with these bounds; see `sessions::bounds`.
    pub(crate) fn new(bounds: u8) -> Self {
        Self(vec![bounds])
    }

    /// [`Step::Connect`].
    pub(crate) fn connect(&mut self, core: u8, membership: bool, name: &[u8]) {
        let who = core & 1 | if membership { 0 } else { 2 };
        self.0.extend_from_slice(&[0, who, name.len() as u8]);
        self.0.extend_from_slice(name);
    }

    /// [`Step::Receive`], as often as the length needs it.
    pub(crate) fn receive(&mut self, conn: u8, bytes: &[u8]) {
        for part in bytes.chunks(usize::from(u16::MAX)) {
            self.0.extend_from_slice(&[1, conn]);
            self.0.extend_from_slice(&(part.len() as u16).to_le_bytes());
            self.0.extend_from_slice(part);
        }
    }

    /// [`Step::Ended`].
    pub(crate) fn ended(&mut self, conn: u8) {
        self.0.extend_from_slice(&[9, conn]);
    }
}
