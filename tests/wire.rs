//! Do bytes and values of the client protocol fit together? Golden bytes, recorded bytes, mutated
//! bytes and arbitrary bytes.

mod recorded;

use madrigal::base::event::Violation;
use madrigal::base::limits::{
    BODY_BYTES_MAX, DAEMON_FRAME_BYTES_MAX, FRAME_HEADER_BYTES, GROUP_NAME_BYTES,
};
use madrigal::base::{GroupId, GroupName, NameError, PrivateGroup, Service};
use madrigal::wire::session::frame::{emit_hint, parse_hint};
use madrigal::wire::session::handshake::{
    ACCEPT_BYTES_MAX, AUTH_CHOICE_BYTES, AUTH_IP, AUTH_LIST_BYTES_MAX, AUTH_NULL, HELLO_BYTES_MAX,
    emit_auth_choice, parse_auth_choice,
};
use madrigal::wire::session::membership::{
    emit_regular, emit_self_leave, emit_transitional, parse_id, regular_len,
};
use madrigal::wire::session::{
    Accept, AnswerError, AuthList, AuthMethods, ByteOrder, Cause, Frame, FrameError, Header, Hello,
    Name, Names, Regular, Reject, RequestKind, Version, check_request, kind, to_little,
};
use proptest::prelude::*;
use proptest::sample::Index;
use recorded::hex;
use serde_json::Value;

// ---- Golden bytes: the worked examples of the protocol's description.

fn group(name: &str) -> GroupName {
    GroupName::new(name.as_bytes()).unwrap()
}

fn session(name: &str) -> PrivateGroup {
    PrivateGroup::parse(name.as_bytes()).unwrap()
}

fn names(members: &[&str]) -> Vec<GroupName> {
    members.iter().map(|member| session(member).to_name()).collect()
}

/// Hexadecimal digits of a name field.
fn field(name: &str) -> String {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(GROUP_NAME_BYTES, 0);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn frame(bytes: &[u8]) -> Frame<'_> {
    let (frame, len) = Frame::parse(bytes).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    frame
}

#[test]
fn join_request_is_eighty_bytes() {
    let header = Header {
        order: ByteOrder::Little,
        kind: kind::JOIN,
        name: *session("#b#localhost").to_name().as_field(),
        destinations: 1,
        hint: emit_hint(0, ByteOrder::Little),
        data_len: 0,
    };
    let mut bytes = [0; FRAME_HEADER_BYTES];
    header.emit(&mut bytes);
    let sender = field("#b#localhost");
    let golden = hex(&format!("80000180 {sender} 01000000 80000080 00000000"));
    assert_eq!(bytes[..], golden);
    assert_eq!(Header::parse(&bytes), header);
    assert_eq!(header.frame_len(), Some(80));
    assert_eq!(check_request(&header, &session("#b#localhost")), Ok(RequestKind::Join));
}

#[test]
fn safe_message_carries_its_type_in_the_hint() {
    let golden = hex(&format!(
        "a0000080 {} 01000000 80341280 04000000 {} 73616665",
        field("#b#localhost"),
        field("g")
    ));
    let frame = frame(&golden);
    assert_eq!(frame.header.kind, kind::SAFE);
    assert_eq!(kind::service(frame.header.kind), Some(Service::Safe));
    assert_eq!(frame.header.hint, emit_hint(0x1234, ByteOrder::Little));
    assert_eq!(parse_hint(frame.header.hint), (0x1234, ByteOrder::Little));
    assert_eq!(frame.data, b"safe");
    assert_eq!(Name::new(&frame.names[0]), "g");
}

#[test]
fn hint_of_the_other_byte_order_is_read_by_its_own_mark() {
    assert_eq!(emit_hint(0x1234, ByteOrder::Big), [0x00, 0x12, 0x34, 0x00]);
    assert_eq!(parse_hint([0x00, 0x12, 0x34, 0x00]), (0x1234, ByteOrder::Big));
    for message_type in [0, 1, -1, i16::MIN, i16::MAX] {
        for order in [ByteOrder::Little, ByteOrder::Big] {
            assert_eq!(parse_hint(emit_hint(message_type, order)), (message_type, order));
        }
    }
}

#[test]
fn join_view_names_the_joiner_in_its_only_set() {
    let id = GroupId { daemon: 482_711_334, time: 1_795_391_672, index: 2 };
    let members = names(&["#C#localhost", "#b#localhost"]);
    let mut bytes = vec![0xaa; regular_len(2, 1, 1)];
    let sets = [names(&["#C#localhost"])];
    emit_regular(&mut bytes, Cause::Join, &group("g"), id, members, sets, 0);
    let golden = hex(&format!(
        "80110080 {} 02000000 80000080 38000000 {} {} 2697c51c b880036b 02000000 01000000 00000000
         01000000 {}",
        field("g"),
        field("#C#localhost"),
        field("#b#localhost"),
        field("#C#localhost")
    ));
    assert_eq!(bytes, golden);
}

#[test]
fn transitional_signal_is_sixty_bytes() {
    let id = GroupId { daemon: -1_519_029_226, time: 1_795_392_698, index: 4 };
    let golden = hex(&format!(
        "80200080 {} 00000000 80000080 0c000000 167475a5 ba84036b 04000000",
        field("g")
    ));
    assert_eq!(emit_transitional(&group("g"), id)[..], golden);
    assert_eq!(parse_id(ByteOrder::Little, frame(&golden).data.try_into().unwrap()), id);
}

#[test]
fn merge_view_differs_between_daemons_only_in_the_own_sets_offset() {
    let id = GroupId { daemon: -1_519_029_226, time: 1_795_392_725, index: 1 };
    let emit = |own_set| {
        let mut bytes = vec![0xaa; regular_len(3, 2, 3)];
        let members = names(&["#z1#dz", "#a1#da", "#m1#dm"]);
        let sets = [names(&["#a1#da", "#m1#dm"]), names(&["#z1#dz"])];
        emit_regular(&mut bytes, Cause::Network, &group("g"), id, members, sets, own_set);
        bytes
    };
    let at_z1 = emit(1);
    let head = hex(&format!("80180080 {} 03000000 80000080 7c000000", field("g")));
    assert_eq!(at_z1[..FRAME_HEADER_BYTES], head);
    let offset = FRAME_HEADER_BYTES + 3 * GROUP_NAME_BYTES + 16;
    assert_eq!(at_z1[offset..offset + 4], [0x44, 0, 0, 0]);
    let mut at_a1 = emit(0);
    assert_eq!(at_a1[offset..offset + 4], [0, 0, 0, 0]);
    at_a1[offset] = 0x44;
    assert_eq!(at_a1, at_z1);

    let view = Regular::parse(ByteOrder::Little, frame(&at_z1).data).unwrap();
    assert_eq!((view.id, view.own_set()), (id, 1));
    let sets: Vec<Vec<Name<'_>>> = view.sets().map(Iterator::collect).collect();
    assert_eq!(sets[0][1], "#m1#dm");
    assert_eq!(sets[1], [Name::new(session("#z1#dz").to_name().as_field())]);
}

#[test]
fn self_leave_is_a_bare_header() {
    let golden = hex(&format!("80020080 {} 00000000 80000080 00000000", field("h")));
    assert_eq!(emit_self_leave(&group("h"))[..], golden);
}

// ---- Handshake.

#[test]
fn hello_is_read_as_soon_as_it_is_complete() {
    let bytes = b"\x05\x00\x01\x11\x05alicepipelined";
    for len in 0..10 {
        assert_eq!(Hello::parse(&bytes[..len]), Ok(None), "{len}");
    }
    let (hello, consumed) = Hello::parse(bytes).unwrap().unwrap();
    assert_eq!(consumed, 10);
    assert_eq!(hello, Hello { version: Version::SPOKEN, flags: 0x11, name: b"alice" });
    assert!(hello.wants_membership());
    assert_eq!(hello.priority(), 1);
}

#[test]
fn old_hello_has_no_patch_byte() {
    let (hello, consumed) = Hello::parse(b"\x03\x0e\x01\x01x").unwrap().unwrap();
    assert_eq!(hello, Hello { version: Version::new(3, 14, 0), flags: 1, name: b"x" });
    assert_eq!(consumed, 5);
    assert!(!hello.version.has_patch() && !hello.version.has_auth());
    let (hello, _) = Hello::parse(b"\x03\x0f\x09\x00\x00").unwrap().unwrap();
    assert_eq!(hello.version, Version::new(3, 15, 9));
    assert!(hello.version.has_patch() && !hello.version.has_auth());
    let (hello, _) = Hello::parse(b"\x03\x10\x00\x00\x00").unwrap().unwrap();
    assert!(hello.version.has_auth());
}

#[test]
fn hello_is_rejected_as_early_as_its_bytes_allow() {
    assert_eq!(Hello::parse(b"\x00"), Err(Reject::Version));
    assert_eq!(Hello::parse(b"\x03"), Ok(None));
    assert_eq!(Hello::parse(b"\x03\x00"), Err(Reject::Version));
    assert_eq!(Hello::parse(b"\x02\x09"), Err(Reject::Version));
    assert_eq!(Hello::parse(b"\x03\x01"), Ok(None));
    assert_eq!(Hello::parse(b"\x05\x00\x01\x01\x0b"), Err(Reject::IllegalName));
    assert_eq!(Hello::parse(b"\x05\x00\x01\x01\xff"), Err(Reject::IllegalName));
    assert_eq!(Hello::parse(b"\x05\x00\x01\x01\x0a"), Ok(None));
}

#[test]
fn membership_is_wanted_by_odd_flags_that_are_not_negative() {
    for (flags, wanted) in [(0, false), (1, true), (0x10, false), (0x11, true), (0x7f, true)] {
        let hello = Hello { version: Version::SPOKEN, flags, name: b"" };
        assert_eq!(hello.wants_membership(), wanted, "{flags:#x}");
    }
    assert!(!Hello { version: Version::SPOKEN, flags: 0x81, name: b"" }.wants_membership());
}

#[test]
fn auth_list_has_spreads_order() {
    let list = |null, ip| {
        let mut bytes = [0xaa; AUTH_LIST_BYTES_MAX];
        let len = AuthMethods { null, ip }.emit(&mut bytes);
        bytes[..len].to_vec()
    };
    assert_eq!(list(true, false), b"\x05NULL ");
    assert_eq!(list(true, true), b"\x08NULL IP ");
    assert_eq!(list(false, true), b"\x03IP ");
    assert_eq!(list(false, false), b"\x00");
}

#[test]
fn auth_list_or_reject_answers_the_hello() {
    assert_eq!(AuthList::parse(b""), Ok(None));
    assert_eq!(AuthList::parse(b"\x05NULL"), Ok(None));
    let (list, len) = AuthList::parse(b"\x08NULL IP and more").unwrap().unwrap();
    assert_eq!(len, 9);
    assert_eq!(list.methods().collect::<Vec<_>>(), [AUTH_NULL, AUTH_IP]);
    assert!(list.contains(b"IP") && !list.contains(b"I") && !list.contains(b"PWORD"));
    for reject in Reject::ALL {
        assert_eq!(AuthList::parse(&[reject.to_byte()]), Err(AnswerError::Rejected(reject)));
        assert_eq!(Reject::from_byte(reject.to_byte()), Some(reject));
    }
    assert_eq!(AuthList::parse(&[0x80]), Err(AnswerError::UnknownReject(-128)));
    assert_eq!(Reject::ALL.map(Reject::code), [-3, -4, -5, -6, -7, -9]);
}

#[test]
fn auth_choice_ends_at_the_first_empty_slot_and_after_three() {
    let methods = |choice: &[u8; AUTH_CHOICE_BYTES]| -> Vec<Vec<u8>> {
        parse_auth_choice(choice).map(<[u8]>::to_vec).collect()
    };
    let both = emit_auth_choice(&[AUTH_NULL, AUTH_IP]);
    assert_eq!(methods(&both), [AUTH_NULL, AUTH_IP]);
    let mut gap = both;
    gap[0] = 0;
    assert_eq!(methods(&gap), Vec::<Vec<u8>>::new());
    assert_eq!(methods(&[b'x'; AUTH_CHOICE_BYTES]), vec![vec![b'x'; 30]; 3]);
    let allowed = AuthMethods { null: true, ip: false };
    assert!(allowed.allows(AUTH_NULL) && !allowed.allows(AUTH_IP) && !allowed.allows(b"NUL"));
}

#[test]
fn accept_has_a_patch_byte_for_clients_that_know_it() {
    let accept = Accept { version: Version::SPOKEN, group: session("#alice#localhost") };
    for (client, golden) in [
        (Version::SPOKEN, "01 05 00 01 10 23616c696365236c6f63616c686f7374"),
        (Version::new(3, 15, 0), "01 05 00 01 10 23616c696365236c6f63616c686f7374"),
        (Version::new(3, 14, 0), "01 05 00 10 23616c696365236c6f63616c686f7374"),
    ] {
        let mut bytes = [0xaa; ACCEPT_BYTES_MAX];
        let len = accept.emit(client, &mut bytes);
        assert_eq!(bytes[..len], hex(golden), "{client}");
        for incomplete in 0..len {
            assert_eq!(Accept::parse(&bytes[..incomplete], client), Ok(None), "{incomplete}");
        }
        let (parsed, consumed) = Accept::parse(&bytes, client).unwrap().unwrap();
        assert_eq!(consumed, len);
        assert_eq!(parsed.group, accept.group);
    }
}

#[test]
fn accept_that_is_none_is_told_from_a_reject() {
    let parse = |bytes: &[u8]| Accept::parse(bytes, Version::SPOKEN);
    assert_eq!(parse(b"\xf7"), Err(AnswerError::Rejected(Reject::Auth)));
    assert_eq!(parse(b"HTTP/1.1 400"), Err(AnswerError::Malformed));
    assert_eq!(parse(b"\x01\x05\x00\x01\x20"), Err(AnswerError::Malformed));
    assert_eq!(parse(b"\x01\x85\x00\x01\x01x"), Err(AnswerError::Malformed));
    let private = AnswerError::PrivateGroup(NameError::NotPrivate);
    assert_eq!(parse(b"\x01\x05\x00\x01\x01x"), Err(private));
}

// ---- Requests.

fn request(kind: u32) -> Header {
    Header {
        order: ByteOrder::Little,
        kind,
        name: *session("#a#d").to_name().as_field(),
        destinations: 1,
        hint: emit_hint(0, ByteOrder::Little),
        data_len: 0,
    }
}

fn check(header: &Header) -> Result<RequestKind, Violation> {
    check_request(header, &session("#a#d"))
}

#[test]
fn requests_ask_for_exactly_one_thing() {
    for service in Service::ALL {
        let kind = kind::of(service);
        let asked = RequestKind::Multicast { service, self_discard: false };
        assert_eq!(check(&request(kind)), Ok(asked));
        let asked = RequestKind::Multicast { service, self_discard: true };
        assert_eq!(check(&request(kind | kind::SELF_DISCARD)), Ok(asked));
    }
    assert_eq!(check(&request(kind::JOIN)), Ok(RequestKind::Join));
    assert_eq!(check(&request(kind::LEAVE)), Ok(RequestKind::Leave));
    assert_eq!(check(&request(kind::KILL)), Ok(RequestKind::Kill));
    for kind in [0, kind::SELF_DISCARD, kind::SAFE | kind::FIFO, kind::JOIN | kind::LEAVE] {
        assert_eq!(check(&request(kind)), Err(Violation::NotOneRequest { kind }), "{kind:#x}");
    }
}

#[test]
fn bits_without_meaning_pass_and_bits_of_daemons_do_not() {
    for bits in [
        kind::SUBGROUP_CAST,
        kind::DROP_RECV,
        kind::DONT_BLOCK,
        kind::FLUSH_REQ,
        kind::INTERNAL_14,
        kind::INTERNAL_15,
        kind::INTERNAL_20,
        kind::INTERNAL_21,
    ] {
        let header = request(kind::AGREED | bits);
        let service = Service::Agreed;
        assert_eq!(check(&header), Ok(RequestKind::Multicast { service, self_discard: false }));
    }
    let membership = (8..14).map(|shift| 1 << shift);
    let half_marks = [0x80, 0x8000_0000];
    for bit in membership.chain([kind::GROUPS, kind::REJECT]).chain(half_marks) {
        let kind = kind::AGREED | bit;
        assert_eq!(check(&request(kind)), Err(Violation::DaemonOnly { kind }), "{bit:#x}");
    }
}

#[test]
fn sender_must_be_the_session_itself() {
    let sent_by = |name: &[u8]| {
        let mut header = request(kind::AGREED);
        header.name = [0; GROUP_NAME_BYTES];
        header.name[..name.len()].copy_from_slice(name);
        check(&header)
    };
    assert!(sent_by(b"#a#d").is_ok());
    assert!(sent_by(b"#a#d\0garbage").is_ok());
    let found = session("#b#d");
    assert_eq!(sent_by(b"#b#d"), Err(Violation::SenderForeign { found }));
    let found = session("#a#e");
    assert_eq!(sent_by(b"#a#e"), Err(Violation::SenderForeign { found }));
    assert_eq!(sent_by(b"zzz"), Err(Violation::SenderIllegal(NameError::NotPrivate)));
    // A name that fills its field ends at byte 31 all the same.
    let mut long = *b"#a#dddddddddddddddddddddddddddd#";
    assert!(matches!(sent_by(&long), Err(Violation::SenderIllegal(NameError::TooLong { .. }))));
    long[4..31].fill(0);
    assert!(sent_by(&long).is_ok());
}

#[test]
fn lengths_are_checked_before_they_are_added() {
    let with = |destinations, data_len| {
        let header = Header { destinations, data_len, ..request(kind::AGREED) };
        check(&header).map(|_| header.body_len().unwrap())
    };
    assert_eq!(with(0, 0), Ok(0));
    assert_eq!(with(100, 0), Ok(3200));
    assert_eq!(with(0, 144_000), Ok(BODY_BYTES_MAX));
    assert_eq!(with(100, 140_800), Ok(BODY_BYTES_MAX));
    for found in [-1, 101, i32::MIN, i32::MAX] {
        assert_eq!(with(found, 0), Err(Violation::Destinations { found }));
    }
    for (destinations, found) in
        [(0, 144_001), (1, 143_969), (100, 140_801), (1, -1), (0, i32::MAX), (1, i32::MIN)]
    {
        assert_eq!(with(destinations, found), Err(Violation::DataLength { found }));
    }
    // The destinations are looked at before the hint, and that before the length.
    let mut header = Header { destinations: -1, data_len: -1, ..request(kind::AGREED) };
    header.hint[0] |= 1;
    assert_eq!(check(&header), Err(Violation::Destinations { found: -1 }));
    header.destinations = 0;
    assert_eq!(check(&header), Err(Violation::Hint { hint: 0x8000_0081 }));
}

#[test]
fn names_are_shown_as_they_are_unless_they_are_no_text() {
    let shown = |bytes: &[u8]| {
        let mut field = [0; GROUP_NAME_BYTES];
        field[..bytes.len()].copy_from_slice(bytes);
        let name = Name::new(&field);
        assert!(name.to_group().is_none_or(|group| group.to_string() == name.to_string()));
        name.to_string()
    };
    assert_eq!(shown(b"it's~{}|\\$"), r"it's~{}|\$");
    assert_eq!(shown(b"a b\x01\xff"), r"a b\x01\xff");
    assert_eq!(shown(&[b'x'; 32]), "x".repeat(32));
}

#[test]
fn hint_may_hold_a_message_type_and_any_mark() {
    let with = |hint| check(&Header { hint, ..request(kind::AGREED) }).is_ok();
    for hint in [[0; 4], [0x80, 0, 0, 0x80], [0x80, 0xff, 0xff, 0x80], [0x80, 1, 2, 0]] {
        assert!(with(hint), "{hint:x?}");
    }
    for hint in [[1, 0, 0, 0], [0, 0, 0, 0x40], [0x81, 0, 0, 0x80]] {
        assert!(!with(hint), "{hint:x?}");
    }
}

#[test]
fn half_a_mark_from_a_daemon_is_malformed() {
    let mut bytes = emit_self_leave(&group("g"));
    bytes[3] &= 0x7f;
    assert!(matches!(Frame::parse(&bytes), Err(FrameError::Mark { .. })));
}

#[test]
fn daemon_frames_are_bounded() {
    let mut header = request(kind::AGREED);
    let fits = DAEMON_FRAME_BYTES_MAX - FRAME_HEADER_BYTES - GROUP_NAME_BYTES;
    let mut bytes = [0; FRAME_HEADER_BYTES];
    for (destinations, data_len, len) in [
        (1, fits as i32, Some(DAEMON_FRAME_BYTES_MAX)),
        (1, fits as i32 + 1, None),
        (-1, 0, None),
        (0, -1, None),
        (i32::MAX, i32::MAX, None),
    ] {
        (header.destinations, header.data_len) = (destinations, data_len);
        header.emit(&mut bytes);
        assert_eq!(Frame::len(&bytes).ok(), len.map(Some));
    }
}

// ---- Recorded bytes.

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn number(value: &Value) -> u32 {
    u32::from_str_radix(value.as_str().unwrap().strip_prefix("0x").unwrap(), 16).unwrap()
}

fn order(value: &Value) -> ByteOrder {
    if value == "LE" { ByteOrder::Little } else { ByteOrder::Big }
}

/// The recorder made one character of each byte.
fn latin1(name: Name<'_>) -> String {
    name.as_bytes().iter().map(|&byte| char::from(byte)).collect()
}

fn assert_names(found: Names<'_>, described: &Value, place: &str) {
    let described = texts(described);
    assert_eq!(found.len(), described.len(), "{place}");
    for (name, described) in found.zip(described) {
        assert_eq!(latin1(name), described, "{place}");
    }
}

#[test]
fn recorded_hellos_are_read_and_written_back() {
    let mut seen = 0;
    for (place, _, unit, bytes, desc) in recorded::units().filter(|unit| unit.2 == "connect") {
        assert_eq!(unit, "connect");
        let version: Vec<u64> =
            desc["version"].as_array().unwrap().iter().map(|part| part.as_u64().unwrap()).collect();
        let parsed = Hello::parse(&bytes);
        if version[0] < 3 || version[..2] == [3, 0] {
            assert_eq!(parsed, Err(Reject::Version), "{place}");
            continue;
        }
        if desc["name_len"].as_u64() > Some(10) {
            assert_eq!(parsed, Err(Reject::IllegalName), "{place}");
            continue;
        }
        let (hello, consumed) = parsed.unwrap().unwrap();
        assert_eq!(u64::from(hello.version.major), version[0], "{place}");
        assert_eq!(u64::from(hello.version.minor), version[1], "{place}");
        assert_eq!(hello.version.has_patch(), version.len() == 3, "{place}");
        assert_eq!(u32::from(hello.flags), number(&desc["flags_byte"]), "{place}");
        let mut into = [0; HELLO_BYTES_MAX];
        let len = hello.emit(&mut into);
        assert_eq!(into[..len], bytes[..consumed], "{place}");
        seen += 1;
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn recorded_answers_of_daemons_are_read_and_written_back() {
    let mut seen = 0;
    for (place, _, unit, bytes, desc) in recorded::units() {
        match unit.as_str() {
            "auth_list" => {
                let (list, len) = AuthList::parse(&bytes).unwrap().unwrap();
                assert_eq!(len, bytes.len(), "{place}");
                let methods =
                    AuthMethods { null: list.contains(AUTH_NULL), ip: list.contains(AUTH_IP) };
                let mut into = [0; AUTH_LIST_BYTES_MAX];
                let len = methods.emit(&mut into);
                assert_eq!(into[..len], bytes, "{place}");
            }
            "auth_choice" => {
                let methods: Vec<&[u8]> =
                    parse_auth_choice(bytes[..].try_into().unwrap()).collect();
                assert_eq!(emit_auth_choice(&methods)[..], bytes, "{place}");
            }
            "accept" => {
                let described = desc["version"].as_array().unwrap().len();
                let client = if described == 3 { Version::SPOKEN } else { Version::new(3, 14, 0) };
                let (accept, len) = Accept::parse(&bytes, client).unwrap().unwrap();
                assert_eq!(len, bytes.len(), "{place}");
                assert_eq!(accept.group.to_string(), desc["private_group"], "{place}");
                let mut into = [0; ACCEPT_BYTES_MAX];
                let len = accept.emit(client, &mut into);
                assert_eq!(into[..len], bytes, "{place}");
            }
            "reject" => {
                let reject = Reject::from_byte(bytes[0]).unwrap();
                assert_eq!(i64::from(reject.code()), desc["code"].as_i64().unwrap(), "{place}");
            }
            _ => continue,
        }
        seen += 1;
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn recorded_frames_are_read_as_described() {
    let mut seen = 0;
    let messages = recorded::units().filter(|unit| unit.2 == "message");
    for (place, from_daemon, _, bytes, desc) in messages {
        if !from_daemon && desc["num_groups"].as_i64() < Some(0) {
            continue;
        }
        if !from_daemon && desc["data_len"].as_i64() < Some(0) {
            continue;
        }
        let frame = frame(&bytes);
        let header = frame.header;
        assert_eq!(header.kind, number(&desc["type"]), "{place}");
        assert_eq!(header.order, order(&desc["header_order"]), "{place}");
        assert_eq!(latin1(frame.name), desc["name"].as_str().unwrap(), "{place}");
        assert_eq!(frame.data.len() as u64, desc["data_len"].as_u64().unwrap(), "{place}");
        assert_names(Names::new(frame.names), &desc["groups"], &place);
        if let Some(message_type) = desc["mess_type"].as_i64() {
            let described = (message_type as i16, order(&desc["hint_order"]));
            assert_eq!(parse_hint(header.hint), described, "{place}");
        }
        if desc["old_type"].is_string() {
            assert_eq!(frame.old_kind, Some(number(&desc["old_type"])), "{place}");
        }
        let mut into = [0; FRAME_HEADER_BYTES];
        header.emit(&mut into);
        assert_eq!(into[..], bytes[..FRAME_HEADER_BYTES], "{place}");
        seen += 1;
    }
    assert!(seen > 400, "{seen}");
}

fn group_id(desc: &Value) -> GroupId {
    let part = |index: usize| desc["group_id"][index].as_i64().unwrap() as i32;
    GroupId { daemon: part(0), time: part(1), index: part(2) }
}

#[test]
fn recorded_membership_messages_are_read_and_written_back() {
    let mut seen = 0;
    for (place, from_daemon, _, bytes, desc) in recorded::units() {
        if !from_daemon || desc["group_id"].is_null() {
            continue;
        }
        let frame = frame(&bytes);
        let little = frame.header.order == ByteOrder::Little;
        let Some(group) = frame.name.to_group() else { panic!("{place}") };
        if frame.header.kind == kind::TRANSITIONAL {
            let id = parse_id(frame.header.order, frame.data.try_into().unwrap());
            assert_eq!(id, group_id(&desc), "{place}");
            assert!(!little || emit_transitional(&group, id)[..] == bytes, "{place}");
            seen += 1;
            continue;
        }
        let view = Regular::parse(frame.header.order, frame.data).expect(&place);
        assert_eq!(view.id, group_id(&desc), "{place}");
        for (set, described) in view.sets().zip(desc["vs_sets"].as_array().unwrap()) {
            assert_names(set, described, &place);
        }
        let sets: Vec<Vec<GroupName>> =
            view.sets().map(|set| set.map(|name| name.to_group().unwrap()).collect()).collect();
        assert_eq!(sets.len(), desc["vs_sets"].as_array().unwrap().len(), "{place}");
        let before: usize = sets[..view.own_set()].iter().map(|set| 4 + 32 * set.len()).sum();
        assert_eq!(before as u64, desc["local_vs_offset"].as_u64().unwrap(), "{place}");
        let cause = Cause::of(frame.header.kind).unwrap();
        assert_eq!(cause.kind(), frame.header.kind, "{place}");
        if little {
            let members: Vec<GroupName> =
                Names::new(frame.names).map(|name| name.to_group().unwrap()).collect();
            let in_sets = sets.iter().map(Vec::len).sum();
            let mut into = vec![0xaa; regular_len(members.len(), sets.len(), in_sets)];
            emit_regular(&mut into, cause, &group, view.id, members, sets, view.own_set());
            assert_eq!(into, bytes, "{place}");
        }
        seen += 1;
    }
    assert!(seen > 150, "{seen}");
}

#[test]
fn recorded_requests_pass_unless_the_recording_is_of_a_violation() {
    let mut violations = 0;
    for name in recorded::names() {
        let mut sessions = std::collections::BTreeMap::new();
        for line in recorded::read(&name) {
            let recorded::What::Bytes { from_daemon, kind, bytes, desc } = line.what else {
                continue;
            };
            if kind == "accept" {
                let group = session(desc["private_group"].as_str().unwrap());
                sessions.insert(line.conn, group);
            } else if !from_daemon && (kind == "message" || kind == "incomplete") {
                let Some(own) = sessions.get(&line.conn) else { continue };
                let header = Header::parse(bytes.first_chunk().unwrap());
                if check_request(&header, own).is_err() {
                    violations += 1;
                    let expected = ["06", "11", "12"].contains(&&name[..2]);
                    assert!(expected, "{}: {:?}", line.place, check_request(&header, own));
                } else if kind == "incomplete" {
                    // Spread drops it for its length; here, it is only not complete.
                    assert_eq!(header.data_len, 144_000, "{}", line.place);
                    assert_eq!(header.destinations, 1, "{}", line.place);
                }
            }
        }
    }
    // Two service bits in 06, two requests in 11, eleven rules in 12.
    assert_eq!(violations, 13);
}

#[test]
fn recorded_java_frames_become_little_endian_in_place() {
    let mut seen = 0;
    for (place, _, _, bytes, desc) in recorded::units() {
        if desc["header_order"].is_null() || bytes.len() < FRAME_HEADER_BYTES {
            continue;
        }
        let mut converted = bytes.clone();
        to_little(&mut converted);
        let before = Header::parse(bytes.first_chunk().unwrap());
        let after = Header::parse(converted.first_chunk().unwrap());
        assert_eq!(after, Header { order: ByteOrder::Little, ..before }, "{place}");
        assert_eq!(converted[FRAME_HEADER_BYTES..], bytes[FRAME_HEADER_BYTES..], "{place}");
        seen += usize::from(before.order == ByteOrder::Big);
        let once = converted.clone();
        to_little(&mut converted);
        assert_eq!(converted, once, "{place}");
    }
    assert!(seen > 5, "{seen}");
}

// ---- Arbitrary and mutated bytes.

/// Reads everything that can be read from the bytes; what it finds must at least be consistent.
fn read_all(bytes: &[u8]) {
    if let Ok(Some((_, consumed))) = Hello::parse(bytes) {
        assert!(consumed <= bytes.len().min(HELLO_BYTES_MAX));
    } else if bytes.len() >= HELLO_BYTES_MAX {
        assert!(Hello::parse(bytes).is_err());
    }
    if let Ok(Some((list, consumed))) = AuthList::parse(bytes) {
        assert!(consumed <= bytes.len());
        assert!(list.methods().all(|method| !method.is_empty()));
    }
    for version in [Version::SPOKEN, Version::OLDEST] {
        if let Ok(Some((_, consumed))) = Accept::parse(bytes, version) {
            assert!(consumed <= bytes.len().min(ACCEPT_BYTES_MAX));
        }
    }
    if let Some(choice) = bytes.first_chunk() {
        assert!(parse_auth_choice(choice).count() <= 3);
    }
    for order in [ByteOrder::Little, ByteOrder::Big] {
        if let Some(view) = Regular::parse(order, bytes) {
            assert!(view.own_set() < view.sets().len());
            assert_eq!(view.sets().count(), view.sets().len());
        }
    }
    if let Some(header) = bytes.first_chunk() {
        let header = Header::parse(header);
        if check_request(&header, &session("#a#d")).is_ok() {
            assert!(header.body_len().unwrap() <= BODY_BYTES_MAX);
        }
    }
    if let Ok(Some((frame, len))) = Frame::parse(bytes) {
        assert_eq!(Frame::len(bytes), Ok(Some(len)));
        let names = Names::new(frame.names);
        assert_eq!(names.clone().count(), frame.names.len());
        for name in names {
            let _ = (name.to_string(), name.to_str(), name.to_group(), name.to_private_group());
        }
        Regular::parse(frame.header.order, frame.data);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_are_read_without_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        read_all(&bytes);
    }

    #[test]
    fn mutated_recordings_are_read_without_panic(
        pick in any::<Index>(),
        mutations in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        cut in any::<Index>(),
    ) {
        static UNITS: std::sync::OnceLock<Vec<Vec<u8>>> = std::sync::OnceLock::new();
        let units = UNITS.get_or_init(|| {
            recorded::units().map(|unit| unit.3).filter(|bytes| !bytes.is_empty()).collect()
        });
        let mut bytes = pick.get(units).clone();
        for (index, value) in mutations {
            let len = bytes.len().min(300);
            bytes[index.index(len)] = value;
        }
        read_all(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        read_all(&bytes);
    }

    #[test]
    fn headers_survive_their_bytes(
        big in any::<bool>(),
        kind in any::<u32>(),
        name in any::<[u8; 32]>(),
        destinations in any::<i32>(),
        hint in any::<[u8; 4]>(),
        data_len in any::<i32>(),
    ) {
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let kind = kind & !kind::MARK;
        let header = Header { order, kind, name, destinations, hint, data_len };
        let mut bytes = [0; FRAME_HEADER_BYTES];
        header.emit(&mut bytes);
        prop_assert_eq!(Header::parse(&bytes), header);
        to_little(&mut bytes);
        prop_assert_eq!(Header::parse(&bytes), Header { order: ByteOrder::Little, ..header });
    }

    #[test]
    fn views_survive_their_bytes(
        sizes in proptest::collection::vec(0_usize..5, 1..6),
        members in 0_usize..9,
        own in any::<Index>(),
        id in any::<(i32, i32, i32)>(),
    ) {
        let own_set = own.index(sizes.len());
        let name = |index: usize| session(&format!("#m{index}#d")).to_name();
        let sets: Vec<Vec<GroupName>> =
            sizes.iter().map(|&size| (0..size).map(name).collect()).collect();
        let id = GroupId { daemon: id.0, time: id.1, index: id.2 };
        let mut bytes = vec![0; regular_len(members, sets.len(), sizes.iter().sum())];
        let all = (0..members).map(name);
        emit_regular(&mut bytes, Cause::Network, &group("g"), id, all, sets.clone(), own_set);
        let frame = frame(&bytes);
        let view = Regular::parse(ByteOrder::Little, frame.data).unwrap();
        prop_assert_eq!(frame.names.len(), members);
        prop_assert_eq!((view.id, view.own_set()), (id, own_set));
        let found: Vec<Vec<GroupName>> =
            view.sets().map(|set| set.map(|name| name.to_group().unwrap()).collect()).collect();
        prop_assert_eq!(found, sets);
        for len in 0..frame.data.len() {
            prop_assert!(Regular::parse(ByteOrder::Little, &frame.data[..len]).is_none());
        }
        let longer = [frame.data, &[0]].concat();
        prop_assert!(Regular::parse(ByteOrder::Little, &longer).is_none());
    }

    #[test]
    fn frames_arrive_in_any_pieces(pick in any::<Index>(), cut in 0_usize..2000) {
        let frames: Vec<Vec<u8>> = recorded::read("32-three-way-partition-and-merge")
            .into_iter()
            .filter_map(|line| match line.what {
                recorded::What::Bytes { from_daemon, kind, bytes, .. } => {
                    (from_daemon && kind == "message").then_some(bytes)
                }
                recorded::What::Received(_)
                | recorded::What::Call(_)
                | recorded::What::Note(_)
                | recorded::What::Other => None,
            })
            .collect();
        let bytes = pick.get(&frames);
        let part = &bytes[..cut.min(bytes.len() - 1)];
        prop_assert!(Frame::parse(part).unwrap().is_none());
    }
}
