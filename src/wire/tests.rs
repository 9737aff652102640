//! Packets between daemons: what is written is read back, and nothing that is read can do harm.

use proptest::collection::vec;
use proptest::prelude::*;

use super::commit::{Commit, Done, Exchange};
use super::data::{DataHeader, PART_HEADER_BYTES, Part, Parts, emit_part_header};
use super::header::{Envelope, PacketKind};
use super::join::{Contact, Goodbye, Join};
use super::list::List;
use super::packet::{Packet, parse};
use super::token::{Notice, Ranges, SeqRange, TokenHeader, TokenRequest, emit_repair_request};
use crate::base::buffer::{Heap, HeapBuffer};
use crate::base::limits::{
    DAEMONS_MAX, INCARNATION_MAX, PEER_DATAGRAM_BYTES_MIN, REST_MICROS_MAX, RING_NUMBER_MAX,
};
use crate::base::{DaemonId, DaemonSet, Rank, RingId, Seq, Service};

const CLUSTER: u64 = 0x1234_5678_9abc_def0;

fn envelope() -> Envelope {
    Envelope { cluster: CLUSTER, sender: Rank::new(5).unwrap() }
}

/// Reads back what was written; everything but data fits the smallest datagram.
fn read(packet: Option<HeapBuffer>, check: impl FnOnce(Packet<'_>)) {
    let bytes = packet.expect("the heap has no bound");
    let bytes: &[u8] = bytes.as_ref();
    let (sender, packet) = parse(CLUSTER, bytes).expect("our own packets are well-formed");
    assert_eq!(sender, envelope().sender);
    assert!(matches!(packet, Packet::Data(_)) || bytes.len() <= PEER_DATAGRAM_BYTES_MIN);
    check(packet);
}

fn ring() -> impl Strategy<Value = RingId> {
    any::<(u64, u32)>()
        .prop_map(|(number, leader)| RingId { number, leader: DaemonId::new(leader) })
}

fn set() -> impl Strategy<Value = DaemonSet> {
    any::<u128>().prop_map(DaemonSet::from_bits)
}

fn seq() -> impl Strategy<Value = Seq> {
    (1..=u64::MAX).prop_map(Seq::new)
}

fn ranges() -> impl Strategy<Value = Ranges> {
    vec((seq(), 1..=u32::MAX), 0..=32).prop_map(|runs| {
        let mut ranges = Ranges::default();
        for (start, len) in runs {
            assert!(ranges.push(SeqRange { start, len }));
        }
        ranges
    })
}

fn list<T: Copy + Default>(items: Vec<T>) -> List<T, DAEMONS_MAX> {
    let mut list = List::default();
    assert!(items.into_iter().all(|item| list.push(item)));
    list
}

fn contact() -> impl Strategy<Value = Contact> {
    (any::<[u64; 3]>(), ring(), set(), set()).prop_map(
        |([incarnation, serial, number_max], ring, members, heard)| Contact {
            incarnation: incarnation.clamp(1, INCARNATION_MAX),
            serial,
            ring,
            members,
            heard,
            number_max: number_max.min(RING_NUMBER_MAX),
        },
    )
}

proptest! {
    #[test]
    fn tokens_come_back(
        ring in ring(), hop: u64, to in 0..DAEMONS_MAX, (tour, handed) in any::<(u8, bool)>(),
        seq in seq(), (flow, repeated) in any::<(u32, u32)>(),
        lags in vec(any::<u32>(), 0..=DAEMONS_MAX), missing in ranges(),
    ) {
        let to = Rank::new(to).unwrap();
        let header = TokenHeader { ring, hop, to, tour, handed, seq, flow, repeated };
        let packet = header.emit(lags.iter().copied(), &missing, envelope(), &mut Heap);
        read(packet, |read| {
            let Packet::Token(token) = read else { panic!("{read:?}") };
            assert_eq!(token.header, header);
            assert!(token.lags.iter().eq(lags) && token.missing.iter().eq(missing.iter().copied()));
        });
    }

    #[test]
    fn requests_and_notices_come_back(
        ring in ring(), hop: u64, aru in seq(), safe in seq(),
        rest_micros in 0..=REST_MICROS_MAX, missing in ranges(),
    ) {
        let notice = Notice { ring, hop, aru, safe, rest_micros };
        read(notice.emit(envelope(), &mut Heap), |read| assert_eq!(read, Packet::Notice(notice)));
        let request = TokenRequest { ring };
        read(request.emit(envelope(), &mut Heap), |read| {
            assert_eq!(read, Packet::TokenRequest(request));
        });
        read(emit_repair_request(ring, &missing, envelope(), &mut Heap), |read| {
            let Packet::RepairRequest(request) = read else { panic!("{read:?}") };
            assert_eq!(request.ring, ring);
            assert!(request.missing.iter().eq(missing.iter().copied()));
        });
    }

    #[test]
    fn words_of_membership_come_back(
        contact in contact(), joined in set(), proposal in set(), settled: bool,
        ring in ring(), incarnations in vec(1..=INCARNATION_MAX, 0..=DAEMONS_MAX), seen in set(),
    ) {
        read(contact.emit(envelope(), &mut Heap), |read| {
            assert_eq!(read, Packet::Presence(contact));
        });
        let join = Join { contact, joined, proposal, settled };
        read(join.emit(envelope(), &mut Heap), |read| assert_eq!(read, Packet::Join(join)));
        let members = DaemonSet::first_ranks(incarnations.len());
        let members = if incarnations.is_empty() { DaemonSet::EMPTY } else { members };
        let new_ring = RingId { number: ring.number.min(RING_NUMBER_MAX), ..ring };
        let commit = Commit { ring: new_ring, members, incarnations: list(incarnations) };
        read(commit.emit(envelope(), &mut Heap), |read| {
            assert_eq!(read, Packet::Commit(Box::new(commit)));
        });
        let done = Done { ring, seen };
        read(done.emit(envelope(), &mut Heap), |read| assert_eq!(read, Packet::Done(done)));
        let goodbye = Goodbye { incarnation: contact.incarnation };
        read(goodbye.emit(envelope(), &mut Heap), |read| {
            assert_eq!(read, Packet::Goodbye(goodbye));
        });
    }

    #[test]
    fn exchanges_come_back(
        ring in ring(), old_ring in ring(), aru in 0..u64::MAX >> 1, behind: u64, obliged in set(),
        seen in set(), window in 1..=8_192_u16, mut held in vec(any::<u8>(), 0..=1_024),
    ) {
        if held.last() == Some(&0) {
            held.push(1);
            held.remove(0);
        }
        let (aru, safe) = (Seq::new(aru), Seq::new(aru.saturating_sub(behind)));
        let exchange = Exchange { ring, old_ring, aru, safe, obliged, seen, window, held: &held };
        read(exchange.emit(envelope(), &mut Heap), |read| {
            assert_eq!(read, Packet::Exchange(exchange));
        });
    }

    #[test]
    fn data_comes_back_part_by_part(
        ring in ring(), seq in seq(), hop: u64, padding in 0_usize..50, keeper in 0..=DAEMONS_MAX,
        parts in vec((0..Service::ALL.len(), any::<(bool, bool)>(), 0_usize..200), 0..20),
    ) {
        let (safe, keeper) = (Seq::ZERO, Rank::new(keeper));
        let header = DataHeader { ring, seq, hop, aru: seq, safe, keeper };
        let mut expected = Vec::new();
        let mut content = Vec::new();
        for (service, (first, last), len) in parts {
            let part = Part { service: Service::ALL[service], first, last, start: 0, len };
            let mut field = [0; PART_HEADER_BYTES];
            emit_part_header(&part, &mut field);
            content.extend_from_slice(&field);
            content.extend((0..len).map(|at| at as u8));
            expected.push(part);
        }
        let (used, room) = (content.len(), content.len() + padding);
        let packet = header.emit(envelope(), &mut Heap, used, room, |into| {
            into.copy_from_slice(&content);
        });
        let bytes = packet.clone().unwrap();
        assert!(super::header::is_data(bytes.as_ref()));
        read(packet, |read| {
            let Packet::Data(data) = read else { panic!("{read:?}") };
            assert_eq!((data.header, data.used()), (header, used));
            let safe = expected.iter().any(|part| part.last && part.service == Service::Safe);
            assert_eq!(data.completes_safe(), safe);
        });
        let read: Vec<Part> = Parts::of_packet(bytes.as_ref(), used).collect();
        prop_assert_eq!(read.len(), expected.len());
        for (read, expected) in read.iter().zip(expected) {
            prop_assert_eq!(*read, Part { start: read.start, ..expected });
            let content = &bytes.as_ref()[read.start..read.start + read.len];
            prop_assert!(content.iter().enumerate().all(|(at, &byte)| byte == at as u8));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..2_000)) {
        prop_assert!(parse(CLUSTER, &bytes).is_err());
    }

    /// Bodies that reach the parsers, as their checksum is right.
    #[test]
    fn arbitrary_bodies_do_no_harm(
        kind in 0..PacketKind::ALL.len(), mut body in vec(any::<u8>(), 0..1_500), zero: bool,
    ) {
        if zero {
            // Small numbers get further.
            body.iter_mut().step_by(2).for_each(|byte| *byte = 0);
        }
        let kind = PacketKind::ALL[kind];
        let packet = envelope().seal(&mut Heap, kind, body.len(), |into| {
            into.copy_from_slice(&body);
        });
        let bytes = packet.unwrap();
        if let Ok((_, Packet::Data(data))) = parse(CLUSTER, bytes.as_ref()) {
            for part in Parts::of_packet(bytes.as_ref(), data.used()) {
                prop_assert!(part.start + part.len <= bytes.as_ref().len());
            }
        }
    }
}

#[test]
fn an_exchange_leaves_room_for_a_place_behind_all_that_its_sender_has() {
    let ring = RingId { number: 1, leader: DaemonId::new(1) };
    let is_taken = |aru: u64, held: &[u8]| {
        let set = DaemonSet::EMPTY;
        let (aru, safe) = (Seq::new(aru), Seq::ZERO);
        let exchange =
            Exchange { ring, old_ring: ring, aru, safe, obliged: set, seen: set, window: 1, held };
        let bytes = exchange.emit(envelope(), &mut Heap).unwrap();
        parse(CLUSTER, bytes.as_ref()).is_ok()
    };
    assert!(is_taken(u64::MAX - 1, &[]) && !is_taken(u64::MAX, &[]));
    assert!(is_taken(u64::MAX - 9, &[1]) && !is_taken(u64::MAX - 8, &[1]));
}
