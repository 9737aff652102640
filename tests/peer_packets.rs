//! Are packets between daemons the bytes that `docs/peer-protocol.md` says? Its test vectors are
//! read from the page: what is written must be these bytes, and what is read from them the value
//! that went in. That anything else comes back too: `src/wire/tests.rs`.

use std::net::IpAddr;

use madrigal::base::buffer::{Heap, HeapBuffer};
use madrigal::base::limits::{DAEMONS_MAX, FRAME_HEADER_BYTES};
use madrigal::base::{
    DaemonId, DaemonName, DaemonSet, GroupId, GroupName, PrivateGroup, Rank, RingId, Seq, Service,
    SessionName,
};
use madrigal::config::{Cluster, ClusterDaemon, Identity, Segment};
use madrigal::wire::commit::{Commit, Done, Exchange};
use madrigal::wire::data::{
    DATA_HEADER_BYTES, DataHeader, PART_HEADER_BYTES, Part, Parts, emit_part_header,
};
use madrigal::wire::header::{Envelope, HEADER_BYTES, PacketKind, open};
use madrigal::wire::join::{Contact, Goodbye, Join};
use madrigal::wire::list::List;
use madrigal::wire::ordered::{Change, Component, Ordered, StateWriter};
use madrigal::wire::packet::{Packet, parse};
use madrigal::wire::session::frame::emit_hint;
use madrigal::wire::session::{ByteOrder, Header, kind};
use madrigal::wire::token::{
    Notice, Ranges, SeqRange, TokenHeader, TokenRequest, emit_repair_request,
};

const PAGE: &str = include_str!("../docs/peer-protocol.md");

const CLUSTER: u64 = 0x0123_4567_89ab_cdef;

const RING: RingId = RingId { number: 0x1716_1514_1312_1110, leader: DaemonId::new(0x1b1a_1918) };

const OLD_RING: RingId =
    RingId { number: 0x2726_2524_2322_2120, leader: DaemonId::new(0x2b2a_2928) };

/// One field of a vector, as the page shows it.
struct Field<'p> {
    name: &'p str,
    value: &'p str,
    bytes: Vec<u8>,
}

/// A packet, or what a message of the order contains, as the page shows it.
struct Vector<'p> {
    title: &'p str,
    fields: Vec<Field<'p>>,
}

impl Vector<'_> {
    fn bytes(&self) -> Vec<u8> {
        self.fields.iter().flat_map(|field| field.bytes.iter().copied()).collect()
    }

    fn is_packet(&self) -> bool {
        self.bytes().starts_with(b"MG")
    }
}

fn vectors() -> Vec<Vector<'static>> {
    let field = |line: &'static str| {
        let columns: Vec<_> =
            line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect();
        let [name, value, digits] = columns[..] else { panic!("not three columns: {line}") };
        Field { name, value, bytes: hex(digits) }
    };
    let blocks = PAGE.split("\n```vector ").skip(1);
    let vector = |block: &'static str| {
        let (block, _) = block.split_once("\n```").expect("a vector has an end");
        let mut lines = block.lines();
        let title = lines.next().expect("a vector has a title");
        Vector { title, fields: lines.map(field).collect() }
    };
    blocks.map(vector).collect()
}

/// The bytes that the page shows under `title`.
fn shown(title: &str) -> Vec<u8> {
    let mut vectors = vectors().into_iter();
    vectors.find(|vector| vector.title == title).expect("the page has it").bytes()
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u32> =
        digits.chars().filter(|c| *c != ' ').map(|c| c.to_digit(16).expect("a digit")).collect();
    assert!(digits.len().is_multiple_of(2));
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

// ---- The page by itself: values and bytes of its fields, and its checksum.

/// What a value is as `len` bytes, by the words of the page alone.
fn encode(value: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut set = |bit: usize| bytes[bit / 8] |= 1 << (bit % 8);
    if let Some(ranks) = value.strip_prefix('{') {
        let ranks = ranks.trim_end_matches('}').split(", ");
        ranks.for_each(|rank| set(rank.parse().expect("a rank")));
    } else if value.starts_with("aru + ") {
        let places = value.split(", ").map(|place| place.trim_start_matches("aru + "));
        places.for_each(|place| set(place.parse::<usize>().expect("a place") - 1));
    } else if let Some(text) = value.strip_prefix('"') {
        let text = text.trim_end_matches('"').as_bytes();
        bytes[..text.len()].copy_from_slice(text);
    } else if let Ok(address) = value.parse() {
        match address {
            IpAddr::V4(address) => bytes.copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.copy_from_slice(&address.octets()),
        }
    } else {
        let number = match value.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => value.replace(',', "").parse(),
        };
        let number = number.expect("a number").to_le_bytes();
        let kept = len.min(number.len());
        assert!(number[kept..].iter().all(|&byte| byte == 0), "{value} in {len} bytes");
        bytes[..kept].copy_from_slice(&number[..kept]);
    }
    bytes
}

#[test]
fn the_values_on_the_page_are_its_bytes() {
    for Vector { title, fields } in vectors() {
        for Field { name, value, bytes } in fields {
            if name == "header" {
                let checksum = u32::from_le_bytes(bytes[4..8].try_into().unwrap());
                assert_eq!(value, format!("kind {}, {checksum:#010x}", bytes[3]), "{title}");
            } else {
                assert_eq!(encode(value, bytes.len()), bytes, "{title}: {name}");
            }
        }
    }
}

/// The checksum again, as the page has it and the code has not.
fn checksum(packet: &[u8]) -> u32 {
    const M: u64 = 0x9e37_79b9_7f4a_7c15;
    let k = [1, 3, 5, 7].map(|factor| M.wrapping_mul(factor));
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        (product >> 64) as u64 ^ product as u64
    };
    let mut lanes = k.map(|key| key.rotate_left(32));
    lanes[0] ^= packet.len() as u64;
    lanes[1] ^= u64::from(u32::from_le_bytes(packet[..4].try_into().unwrap()));
    let mut rest = packet[8..].to_vec();
    rest.resize((rest.len() / 64 + 1) * 64, 0);
    for block in rest.chunks(64) {
        let words = block.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let w: Vec<u64> = words.collect();
        for i in 0..4 {
            lanes[i] = fold(lanes[i] ^ w[2 * i], k[i] ^ w[2 * i + 1]);
        }
    }
    let [a, b, c, d] = lanes;
    let x = fold(fold(a, b) ^ k[0], fold(c, d) ^ k[1]);
    (x ^ x >> 32) as u32
}

#[test]
fn the_checksum_is_the_one_of_the_page() {
    let packets: Vec<_> = vectors().into_iter().filter(Vector::is_packet).collect();
    for packet in &packets {
        let bytes = packet.bytes();
        assert_eq!(checksum(&bytes).to_le_bytes(), bytes[4..8], "{}", packet.title);
    }
    // Also where the last block is empty, and where there is more than one.
    let lengths: Vec<_> = packets.iter().map(|packet| packet.bytes().len() - 8).collect();
    assert!(lengths.iter().any(|len| len % 64 == 0), "{lengths:?}");
    assert!(lengths.iter().any(|len| len / 64 > 0 && len % 64 > 0), "{lengths:?}");
}

#[test]
fn every_kind_of_packet_is_on_the_page() {
    let packets: Vec<_> = vectors().into_iter().filter(Vector::is_packet).collect();
    let kinds: Vec<_> = packets.iter().map(|packet| packet.bytes()[3]).collect();
    assert_eq!(kinds, PacketKind::ALL.map(|kind| kind as u8));
}

#[test]
fn no_byte_of_a_packet_can_be_damaged_cut_off_or_added_unseen() {
    for packet in vectors().into_iter().filter(Vector::is_packet) {
        let bytes = packet.bytes();
        let cluster = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
        assert!(open(cluster, &bytes).is_ok(), "{}", packet.title);
        for at in 0..bytes.len() {
            for damage in 1..=u8::MAX {
                let mut damaged = bytes.clone();
                damaged[at] ^= damage;
                assert!(open(cluster, &damaged).is_err(), "{}: byte {at}", packet.title);
                assert!(parse(cluster, &damaged).is_err(), "{}: byte {at}", packet.title);
            }
            assert!(open(cluster, &bytes[..at]).is_err(), "{}: {at} bytes", packet.title);
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(open(cluster, &longer).is_err(), "{}", packet.title);
    }
}

// ---- The code against the page.

fn rank(index: usize) -> Rank {
    Rank::new(index).unwrap()
}

fn set(ranks: &[usize]) -> DaemonSet {
    ranks.iter().map(|&index| rank(index)).collect()
}

fn ranges(of: &[(u64, u32)]) -> Ranges {
    let mut ranges = Ranges::default();
    for &(start, len) in of {
        assert!(ranges.push(SeqRange { start: Seq::new(start), len }));
    }
    ranges
}

fn envelope() -> Envelope {
    Envelope { cluster: CLUSTER, sender: rank(5) }
}

/// What was written is what the page shows, which `check` gets to see as it is read.
#[track_caller]
fn agree(title: &str, written: Option<HeapBuffer>, check: impl FnOnce(Packet<'_>)) {
    let shown = shown(title);
    assert_eq!(written.expect("the heap has no bound").as_ref(), shown, "{title} is written");
    let (sender, packet) = parse(CLUSTER, &shown).expect("the page shows whole packets");
    assert_eq!(sender, envelope().sender);
    check(packet);
}

#[test]
fn data_is_as_on_the_page() {
    let header = DataHeader {
        ring: RING,
        seq: Seq::new(0x4746_4544_4342_4140),
        hop: 0x4f4e_4d4c_4b4a_4948,
        aru: Seq::new(0x5756_5554_5352_5150),
        safe: Seq::new(0x5f5e_5d5c_5b5a_5958),
        keeper: Some(rank(3)),
    };
    let start = DATA_HEADER_BYTES + PART_HEADER_BYTES;
    let next = start + 5 + PART_HEADER_BYTES;
    let parts = [
        Part { service: Service::Agreed, first: true, last: true, start, len: 5 },
        Part { service: Service::Safe, first: true, last: false, start: next, len: 3 },
    ];
    let written = header.emit(envelope(), &mut Heap, 16, 68, |into| {
        for (part, content) in parts.iter().zip([&b"hello"[..], b"abc"]) {
            let at = part.start - DATA_HEADER_BYTES;
            emit_part_header(part, &mut into[at - PART_HEADER_BYTES..at]);
            into[at..at + part.len].copy_from_slice(content);
        }
    });
    agree("data", written, |packet| {
        let Packet::Data(data) = packet else { panic!("{packet:?}") };
        assert_eq!((data.header, data.used()), (header, 16));
        assert!(!data.completes_safe());
    });
    assert!(Parts::of_packet(&shown("data"), 16).eq(parts));
}

#[test]
fn the_token_is_as_on_the_page() {
    let header = TokenHeader {
        ring: RING,
        hop: 0x4746_4544_4342_4140,
        to: rank(127),
        tour: 9,
        handed: true,
        seq: Seq::new(0x4f4e_4d4c_4b4a_4948),
        flow: 123_456,
        repeated: 65_432,
    };
    let lags = [7, 1_000_000, 0];
    let missing = ranges(&[(0x4f4e_4d4c_4b4a_4001, 2), (0x4f4e_4d4c_4b4a_4801, 300)]);
    let written = header.emit(lags.into_iter(), &missing, envelope(), &mut Heap);
    agree("token", written, |packet| {
        let Packet::Token(token) = packet else { panic!("{packet:?}") };
        assert_eq!(token.header, header);
        assert!(token.lags.iter().eq(lags) && token.missing.iter().eq(missing.iter().copied()));
    });
}

#[test]
fn words_on_the_token_are_as_on_the_page() {
    let request = TokenRequest { ring: RING };
    agree("token request", request.emit(envelope(), &mut Heap), |packet| {
        assert_eq!(packet, Packet::TokenRequest(request));
    });
    let notice = Notice {
        ring: RING,
        hop: 0x4746_4544_4342_4140,
        aru: Seq::new(0x4f4e_4d4c_4b4a_4948),
        safe: Seq::new(0x5756_5554_5352_5150),
        rest_micros: 600_000,
    };
    agree("notice", notice.emit(envelope(), &mut Heap), |packet| {
        assert_eq!(packet, Packet::Notice(notice));
    });
    let missing = ranges(&[(0x4746_4544_4342_4140, 1), (0x4746_4544_4342_4150, 64)]);
    let written = emit_repair_request(RING, &missing, envelope(), &mut Heap);
    agree("repair request", written, |packet| {
        let Packet::RepairRequest(request) = packet else { panic!("{packet:?}") };
        assert_eq!(request.ring, RING);
        assert!(request.missing.iter().eq(missing.iter().copied()));
    });
}

const INCARNATION: u64 = 0x0000_013a_3938_3736;

#[test]
fn words_of_daemons_on_themselves_are_as_on_the_page() {
    let contact = Contact {
        incarnation: INCARNATION,
        serial: 4_711,
        ring: RING,
        members: set(&[0, 1, 5, 127]),
        heard: set(&[0, 1, 5, 9]),
        number_max: 0x3736_3534_3332_3130,
    };
    let join = Join { contact, joined: set(&[5, 64]), proposal: set(&[1, 5]), settled: true };
    agree("join", join.emit(envelope(), &mut Heap), |packet| {
        assert_eq!(packet, Packet::Join(join));
    });
    agree("presence", contact.emit(envelope(), &mut Heap), |packet| {
        assert_eq!(packet, Packet::Presence(contact));
    });
    let goodbye = Goodbye { incarnation: INCARNATION };
    agree("goodbye", goodbye.emit(envelope(), &mut Heap), |packet| {
        assert_eq!(packet, Packet::Goodbye(goodbye));
    });
}

#[test]
fn words_on_a_new_ring_are_as_on_the_page() {
    let mut incarnations: List<u64, DAEMONS_MAX> = List::default();
    for incarnation in [0x0702_0304_05a1, INCARNATION, 0x0602_0304_05a3] {
        assert!(incarnations.push(incarnation));
    }
    let commit = Commit { ring: RING, members: set(&[2, 5, 100]), incarnations };
    agree("commit", commit.emit(envelope(), &mut Heap), |packet| {
        assert_eq!(packet, Packet::Commit(Box::new(commit)));
    });
    let exchange = Exchange {
        ring: RING,
        old_ring: OLD_RING,
        aru: Seq::new(0x4f4e_4d4c_4b4a_4948),
        safe: Seq::new(0x4746_4544_4342_4140),
        obliged: set(&[5, 6]),
        seen: set(&[2, 127]),
        window: 8_191,
        held: &[0b10, 0b1],
    };
    agree("exchange", exchange.emit(envelope(), &mut Heap), |packet| {
        assert_eq!(packet, Packet::Exchange(exchange));
    });
    let done = Done { ring: RING, seen: set(&[0, 5, 126]) };
    agree("done", done.emit(envelope(), &mut Heap), |packet| {
        assert_eq!(packet, Packet::Done(done));
    });
}

#[test]
fn the_identity_is_as_on_the_page() {
    let segment = |multicast, port| Segment { multicast, port, ..Segment::default() };
    let daemon = |name: &str, id, segment, address: &str| {
        let name = DaemonName::new(name.as_bytes()).unwrap();
        let (id, address) = (DaemonId::new(id), address.parse().unwrap());
        ClusterDaemon { id, name, address, segment, clients: None }
    };
    let cluster = Cluster {
        segments: vec![segment("239.77.68.71".parse().ok(), 4_803), segment(None, 5_000)],
        daemons: vec![
            daemon("d1", 0x0a0b_0c0d, 0, "10.0.0.1"),
            daemon("abc", 0x1a1b_1c1d, 1, "2001:db8::7"),
        ],
        datagram_bytes: 8_972,
        ..Cluster::default()
    };
    let identity = cluster.identity();
    let body = identity.encode();
    let envelope = Envelope { cluster: identity.hash, sender: rank(1) };
    let fill = |into: &mut [u8]| into.copy_from_slice(&body);
    let written = envelope.seal(&mut Heap, PacketKind::Identity, body.len(), fill).unwrap();
    let shown = shown("identity");
    assert_eq!(written.as_ref(), shown);
    let opened = open(identity.hash, &shown);
    assert_eq!(opened, Ok((PacketKind::Identity, rank(1), &shown[HEADER_BYTES..])));
    assert_eq!(Identity::parse(&shown[HEADER_BYTES..]), Some(identity));
}

// ---- What messages of the order contain.

fn daemon() -> DaemonName {
    DaemonName::new(b"d1").unwrap()
}

fn session(name: &str) -> SessionName {
    SessionName::new(name.as_bytes()).unwrap()
}

fn group(name: &str) -> GroupName {
    GroupName::new(name.as_bytes()).unwrap()
}

#[test]
fn a_message_is_as_on_the_page() {
    let order = ByteOrder::Little;
    let header = Header {
        order,
        kind: kind::AGREED,
        name: *PrivateGroup::parse(b"#alice#d1").unwrap().to_name().as_field(),
        destinations: 1,
        hint: emit_hint(0x1234, order),
        data_len: 5,
    };
    let mut written = [0; FRAME_HEADER_BYTES];
    header.emit(&mut written);
    let written = [&written[..], group("group").as_field(), b"hello"].concat();
    let shown = shown("message");
    assert_eq!(written, shown);
    let multicast = Ordered::Multicast { self_discard: false, destinations: 1 };
    assert_eq!(Ordered::parse(&shown, daemon()), Some(multicast));
}

#[test]
fn changes_are_as_on_the_page() {
    let (alice, chat) = (session("alice"), group("chat"));
    for (title, change) in [
        ("join of a group", Change::Join(alice, chat)),
        ("leave of a group", Change::Leave(alice, chat)),
        ("disconnect", Change::Disconnect(alice)),
    ] {
        assert_eq!(change.emit(), shown(title), "{title}");
        assert_eq!(Ordered::parse(&shown(title), daemon()), Some(Ordered::Change(change)));
    }
}

#[test]
fn a_state_is_as_on_the_page() {
    let component = Component { base: OLD_RING, together: set(&[1, 5, 66]) };
    let groups = [
        (
            group("chat"),
            GroupId { daemon: 0x3332_3130, time: 0x3736_3534, index: 0x3b3a_3938 },
            true,
            vec![(rank(1), session("alice")), (rank(66), session("bob"))],
        ),
        (
            group("news"),
            GroupId { daemon: 0x4342_4140, time: 0x4746_4544, index: 0x4b4a_4948 },
            false,
            vec![(rank(5), session("eve"))],
        ),
    ];
    let mut writer = StateWriter::new(RING, component);
    for (name, id, is_changed, members) in &groups {
        let told = writer.group(name, *id, *is_changed, members.iter().copied(), usize::MAX);
        assert_eq!(told, members.len());
    }
    let shown = shown("state");
    assert_eq!(writer.finish(true), shown);
    let Some(Ordered::State(state)) = Ordered::parse(&shown, daemon()) else {
        panic!("the page shows a whole state");
    };
    assert_eq!((state.ring, state.component, state.is_last), (RING, component, true));
    let read = state.groups().map(|it| (it.name, it.id, it.is_changed, it.members().collect()));
    assert!(read.eq(groups));
}
