//! From packets in their order to messages: which may be delivered, and whole messages from parts.

use crate::base::limits::ORDERED_BYTES_MAX;
use crate::base::{Buffer, DaemonId, Rank, Seq, Service, Store};
use crate::wire::data::{Part, Parts};

use super::super::output::{Kind, Output, Place};
use super::pack::FILLER_BYTES_MIN;
use super::window::{Stored, Window};

/// How far a ring's messages were delivered.
#[derive(Clone)]
pub(crate) struct Delivery<B> {
    /// All messages of the packets up to here were.
    delivered: Seq,
    /// Of the packet behind it, so many parts were dealt with, and so many messages delivered.
    parts: usize,
    messages: u16,
    /// For each daemon of the cluster, the parts of the message that its last packet did not end.
    pieces: Vec<Pieces<B>>,
}

/// Parts of a message that has not ended.
#[derive(Clone)]
struct Pieces<B> {
    parts: Vec<B>,
    bytes: usize,
}

impl<B> Pieces<B> {
    fn clear(&mut self) {
        self.parts.clear();
        self.bytes = 0;
    }
}

/// Parts of the longest message, as long as daemons make them.
const PIECES_MAX: usize = ORDERED_BYTES_MAX / FILLER_BYTES_MIN;

/// Why delivery stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Everything was dealt with up to the place asked for, or up to a packet that is missing.
    Gap,
    /// A safe message that not everybody is known to have.
    Unsafe,
    /// No memory for a message in parts: to be called again.
    Memory,
}

impl<B: Buffer> Delivery<B> {
    pub(crate) fn new(daemons: usize) -> Self {
        let pieces = (0..daemons).map(|_| Pieces { parts: Vec::new(), bytes: 0 }).collect();
        Self { delivered: Seq::ZERO, parts: 0, messages: 0, pieces }
    }

    /// All messages of the packets up to here were delivered.
    pub(crate) fn delivered(&self) -> Seq {
        self.delivered
    }

    /// Bytes of messages that have not ended.
    pub(crate) fn retained(&self) -> usize {
        let cost = |pieces: &Pieces<B>| pieces.bytes + pieces.parts.len() * size_of::<B>();
        self.pieces.iter().map(cost).sum()
    }

    /// Delivers in order up to `limit`, as far as packets are there and safe messages are safe.
    pub(crate) fn advance<S: Store<Buffer = B>>(
        &mut self,
        window: &Window<B>,
        limit: Seq,
        safe: Seq,
        sink: &mut Sink<'_, B>,
        store: &mut S,
    ) -> Stop {
        while self.delivered < limit {
            let seq = self.delivered.next();
            let Some(packet) = window.get(seq) else { return Stop::Gap };
            if let Some(stop) = self.packet(seq, packet, seq <= safe, sink, store) {
                return stop;
            }
            self.skip();
        }
        Stop::Gap
    }

    /// Goes on behind the packet at hand.
    pub(crate) fn skip(&mut self) {
        self.delivered = self.delivered.next();
        (self.parts, self.messages) = (0, 0);
    }

    /// Delivers what ends in `packet`. `Some` where it stops before its end.
    pub(crate) fn packet<S: Store<Buffer = B>>(
        &mut self,
        seq: Seq,
        packet: &Stored<B>,
        is_safe: bool,
        sink: &mut Sink<'_, B>,
        store: &mut S,
    ) -> Option<Stop> {
        let parts = Parts::of_packet(packet.bytes.as_ref(), usize::from(packet.used));
        for part in parts.skip(self.parts) {
            if part.last && part.service == Service::Safe && !is_safe {
                return Some(Stop::Unsafe);
            }
            match self.part(packet, &part, store) {
                Whole::Yes(payload) => {
                    let place = Place { seq, index: self.messages };
                    self.messages += 1;
                    sink.deliver(packet.origin, place, part.service, payload);
                }
                Whole::NotYet => {}
                Whole::NoMemory => return Some(Stop::Memory),
            }
            self.parts += 1;
        }
        None
    }

    fn part<S: Store<Buffer = B>>(
        &mut self,
        packet: &Stored<B>,
        part: &Part,
        store: &mut S,
    ) -> Whole<B> {
        let pieces = &mut self.pieces[packet.origin.index()];
        let mut piece = packet.bytes.clone();
        piece.truncate(part.start + part.len);
        piece.advance(part.start);
        if part.first {
            // The message before was broken off when its sender came into this ring.
            pieces.clear();
        }
        match (part.first, part.last) {
            (true, true) => Whole::Yes(piece),
            // Its beginning lies in a gap, or it was broken off.
            (false, _) if pieces.parts.is_empty() => Whole::NotYet,
            (_, false) => {
                pieces.parts.push(piece);
                pieces.bytes += part.len;
                if pieces.bytes > ORDERED_BYTES_MAX || pieces.parts.len() > PIECES_MAX {
                    // No daemon begins such a message.
                    pieces.clear();
                }
                Whole::NotYet
            }
            (false, true) => {
                let whole = store.store(pieces.bytes + part.len, |mut into| {
                    for piece in pieces.parts.iter().chain([&piece]) {
                        let (field, rest) = into.split_at_mut(piece.as_ref().len());
                        field.copy_from_slice(piece.as_ref());
                        into = rest;
                    }
                });
                whole.map_or(Whole::NoMemory, |whole| {
                    pieces.clear();
                    Whole::Yes(whole)
                })
            }
        }
    }
}

enum Whole<B> {
    Yes(B),
    NotYet,
    NoMemory,
}

/// Where delivered messages go.
pub(crate) struct Sink<'a, B> {
    /// Daemons of the cluster, by rank.
    pub(crate) daemons: &'a [DaemonId],
    /// The kind of configuration that messages are delivered in.
    pub(crate) phase: Kind,
    /// Takes them.
    pub(crate) take: &'a mut dyn FnMut(Output<B>),
}

impl<B> Sink<'_, B> {
    fn deliver(&mut self, origin: Rank, place: Place, service: Service, payload: B) {
        let (origin, phase) = (self.daemons[origin.index()], self.phase);
        (self.take)(Output::Deliver { origin, place, service, payload, phase });
    }
}
