//! Messages that wait for their turn, and how they become packets: small ones together in one,
//! large ones in parts.

use std::collections::VecDeque;

use crate::base::{Buffer, Rank, Service, Store};
use crate::wire::data::{DataHeader, PART_HEADER_BYTES, Part, emit_part_header};
use crate::wire::header::Envelope;

use super::pace::Repeats;
use super::window::Stored;

/// A message is only split to fill a packet if so much of it fits: a part costs its receivers a
/// copy, and a shorter rest is cheaper to leave empty.
pub(crate) const FILLER_BYTES_MIN: usize = 256;

/// A message that waits.
struct Waiting<B> {
    service: Service,
    payload: B,
    /// Bytes of it that have a place already.
    placed: usize,
    /// Whether any part has, be it of no bytes.
    began: bool,
    /// Whether it goes before all that do not.
    goes_first: bool,
}

impl<B: Buffer> Waiting<B> {
    fn new(service: Service, payload: B, goes_first: bool) -> Self {
        Self { service, payload, placed: 0, began: false, goes_first }
    }

    /// What it counts in the backlog.
    fn cost(&self) -> usize {
        self.payload.as_ref().len() + MESSAGE_COST_BYTES
    }
}

/// Messages of this daemon that have no place yet, in the order of submission.
pub(crate) struct Backlog<B> {
    messages: VecDeque<Waiting<B>>,
    bytes: usize,
    /// Of these, bytes of messages that go first.
    first_bytes: usize,
    /// The packet at hand: its parts.
    plan: Vec<Part>,
}

/// What waiting costs beside the bytes themselves.
const MESSAGE_COST_BYTES: usize = 64;

impl<B: Buffer> Backlog<B> {
    pub(crate) fn new() -> Self {
        Self { messages: VecDeque::new(), bytes: 0, first_bytes: 0, plan: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes that wait and go first.
    pub(crate) fn first_bytes(&self) -> usize {
        self.first_bytes
    }

    pub(crate) fn push(&mut self, service: Service, payload: B) {
        let message = Waiting::new(service, payload, false);
        self.bytes += message.cost();
        self.messages.push_back(message);
    }

    /// Puts a message before all others but those that were put there earlier, and one that is
    /// partly on its way.
    pub(crate) fn push_first(&mut self, service: Service, payload: B) {
        let message = Waiting::new(service, payload, true);
        self.bytes += message.cost();
        self.first_bytes += message.cost();
        let ahead = |other: &&Waiting<B>| other.began || other.goes_first;
        let place = self.messages.iter().take_while(ahead).count();
        self.messages.insert(place, message);
    }

    pub(crate) fn pop(&mut self) -> Option<(Service, B)> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.cost();
        self.first_bytes -= if message.goes_first { message.cost() } else { 0 };
        Some((message.service, message.payload))
    }

    /// Forgets that the first message was begun: its parts in the ring that is left are void.
    pub(crate) fn begin_again(&mut self) {
        if let Some(first) = self.messages.front_mut() {
            (first.placed, first.began) = (0, false);
        }
    }

    /// Decides what goes into a packet with `room` bytes for parts; returns the bytes in use.
    fn plan(&mut self, room: usize) -> usize {
        self.plan.clear();
        let mut used = 0;
        for message in &self.messages {
            let rest = message.payload.as_ref().len() - message.placed;
            let free = room.saturating_sub(used + PART_HEADER_BYTES);
            let part = |len, last| Part {
                service: message.service,
                first: !message.began,
                last,
                start: message.placed,
                len,
            };
            if rest <= free && used + PART_HEADER_BYTES <= room {
                self.plan.push(part(rest, true));
                used += PART_HEADER_BYTES + rest;
            } else {
                if free >= FILLER_BYTES_MIN || used == 0 {
                    self.plan.push(part(free, false));
                    used = room;
                }
                break;
            }
        }
        used
    }

    /// Takes as many messages as fit into one packet of at most `room` bytes of parts.
    ///
    /// Returns the packet and how many messages end in it. `None`, and nothing is taken, when
    /// nothing waits or the store is exhausted.
    pub(crate) fn pack<S: Store<Buffer = B>>(
        &mut self,
        header: DataHeader,
        origin: Rank,
        envelope: Envelope,
        room: usize,
        store: &mut S,
    ) -> Option<(Stored<B>, usize)> {
        if self.messages.is_empty() {
            return None;
        }
        let used = self.plan(room);
        let is_last = self.plan.len() == self.messages.len() && self.plan.iter().all(|p| p.last);
        // All packets of a turn but the last have one size, so that they can leave as a train.
        let room = if is_last { used } else { room };
        let bytes = header.emit(envelope, store, used, room, |mut into| {
            for (part, message) in self.plan.iter().zip(&self.messages) {
                let (field, rest) = into.split_at_mut(PART_HEADER_BYTES);
                emit_part_header(part, field);
                let (content, rest) = rest.split_at_mut(part.len);
                let payload = message.payload.as_ref();
                content.copy_from_slice(&payload[part.start..part.start + part.len]);
                into = rest;
            }
        })?;
        let is_safe = self.plan.iter().any(|part| part.last && part.service == Service::Safe);
        let (used, repeats) = (used as u16, Repeats::default());
        Some((Stored { bytes, origin, used, is_safe, repeats }, self.take_planned()))
    }

    fn take_planned(&mut self) -> usize {
        let mut ended = 0;
        let mut plan = std::mem::take(&mut self.plan);
        for part in plan.drain(..) {
            if part.last {
                let taken = self.pop();
                assert!(taken.is_some(), "what was planned waits");
                ended += 1;
            } else {
                let first = self.messages.front_mut().expect("what was planned waits");
                first.placed += part.len;
                first.began = true;
            }
        }
        self.plan = plan;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::{Heap, HeapBuffer};
    use crate::base::{DaemonId, RingId, Seq};
    use crate::wire::data::Parts;

    fn backlog(lens: &[usize]) -> Backlog<HeapBuffer> {
        let mut backlog = Backlog::new();
        for &len in lens {
            backlog.push(Service::Agreed, Heap.copy(&vec![1; len]).unwrap());
        }
        backlog
    }

    /// Parts of each packet as (len, first, last), for 1,000 bytes of room.
    fn packets(mut backlog: Backlog<HeapBuffer>) -> Vec<Vec<(usize, bool, bool)>> {
        let ring = RingId { number: 1, leader: DaemonId::new(1) };
        let header = DataHeader {
            ring,
            seq: Seq::new(1),
            hop: 1,
            aru: Seq::ZERO,
            safe: Seq::ZERO,
            keeper: None,
        };
        let me = Rank::new(0).unwrap();
        let envelope = Envelope { cluster: 1, sender: me };
        let mut packets = Vec::new();
        let mut sizes = Vec::new();
        while let Some((packet, _)) = backlog.pack(header, me, envelope, 1_000, &mut Heap) {
            sizes.push(packet.bytes.as_ref().len());
            let parts = Parts::of_packet(packet.bytes.as_ref(), usize::from(packet.used));
            packets.push(parts.map(|part| (part.len, part.first, part.last)).collect());
        }
        assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]), "trains have one size: {sizes:?}");
        assert!(sizes.iter().rev().skip(1).all(|&size| size == sizes[0]));
        assert_eq!(backlog.bytes(), 0);
        packets
    }

    #[test]
    fn small_messages_share_a_packet() {
        assert_eq!(
            packets(backlog(&[10, 0, 20])),
            [[(10, true, true), (0, true, true), (20, true, true)]]
        );
    }

    #[test]
    fn large_messages_are_split_and_their_tail_shares() {
        assert_eq!(
            packets(backlog(&[2_000, 5])),
            [
                vec![(996, true, false)],
                vec![(996, false, false)],
                vec![(8, false, true), (5, true, true)],
            ]
        );
    }

    #[test]
    fn a_message_is_split_only_where_that_fills_much() {
        assert_eq!(packets(backlog(&[500, 600]))[0], [(500, true, true), (492, true, false)]);
        assert_eq!(packets(backlog(&[800, 600]))[0], [(800, true, true)]);
    }

    #[test]
    fn what_goes_first_waits_only_for_what_was_begun_and_for_its_like() {
        let header = |seq| {
            let ring = RingId { number: 1, leader: DaemonId::new(1) };
            DataHeader {
                ring,
                seq: Seq::new(seq),
                hop: 1,
                aru: Seq::ZERO,
                safe: Seq::ZERO,
                keeper: None,
            }
        };
        let me = Rank::new(0).unwrap();
        let envelope = Envelope { cluster: 1, sender: me };
        let mut backlog = backlog(&[1_500, 3]);
        let begun = backlog.pack(header(1), me, envelope, 1_000, &mut Heap);
        assert_eq!(begun.map(|(_, ended)| ended), Some(0));
        for len in [1, 2] {
            backlog.push_first(Service::Agreed, Heap.copy(&vec![1; len]).unwrap());
        }
        assert_eq!(backlog.first_bytes(), 1 + 2 + 2 * MESSAGE_COST_BYTES);
        let lens = |backlog: &mut Backlog<HeapBuffer>| {
            std::iter::from_fn(|| backlog.pop())
                .map(|(_, payload)| payload.as_ref().len())
                .collect::<Vec<_>>()
        };
        assert_eq!(lens(&mut backlog), [1_500, 1, 2, 3]);
        assert_eq!((backlog.bytes(), backlog.first_bytes()), (0, 0));
    }

    #[test]
    fn what_goes_first_does_not_wait_for_what_has_to_begin_again() {
        let mut backlog = backlog(&[1_500]);
        let ring = RingId { number: 1, leader: DaemonId::new(1) };
        let header = DataHeader {
            ring,
            seq: Seq::new(1),
            hop: 1,
            aru: Seq::ZERO,
            safe: Seq::ZERO,
            keeper: None,
        };
        let me = Rank::new(0).unwrap();
        let envelope = Envelope { cluster: 1, sender: me };
        assert!(backlog.pack(header, me, envelope, 1_000, &mut Heap).is_some());
        backlog.begin_again();
        backlog.push_first(Service::Agreed, Heap.copy(b"m").unwrap());
        assert_eq!(backlog.pop().map(|(_, payload)| payload.as_ref().len()), Some(1));
    }

    #[test]
    fn any_mix_comes_out_whole() {
        let lens: Vec<usize> = (0..200).map(|i| i * i % 1_777).collect();
        let packets = packets(backlog(&lens));
        let mut sums = vec![0];
        for (len, first, last) in packets.concat() {
            assert_eq!(first, *sums.last().unwrap() == 0 || first);
            *sums.last_mut().unwrap() += len;
            if last {
                sums.push(0);
            }
        }
        sums.pop();
        assert_eq!(sums, lens);
    }
}
