//! Receiving from daemons that send in any way, and from broken ones.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use madrigal::base::limits::{DAEMON_FRAME_BYTES_MAX, FRAME_HEADER_BYTES};
use madrigal::base::{GroupId, GroupName, PrivateGroup};
use madrigal::client::{Event, Options, ReceiveError, Service, Session};
use madrigal::wire::session::frame::emit_hint;
use madrigal::wire::session::membership::{emit_regular, emit_transitional, regular_len};
use madrigal::wire::session::{ByteOrder, Cause, Header, kind};

use crate::{daemon, line::line};

/// A message of `data` from `#b#d` to nobody in particular.
pub(crate) fn message(data: &[u8]) -> Vec<u8> {
    with_lengths(kind::AGREED, 0, data.len() as i32, data)
}

fn with_lengths(kind: u32, destinations: i32, data_len: i32, data: &[u8]) -> Vec<u8> {
    let order = ByteOrder::NATIVE;
    let name = *PrivateGroup::parse(b"#b#d").unwrap().to_name().as_field();
    let hint = emit_hint(7, order);
    let header = Header { order, kind, name, destinations, hint, data_len };
    let mut bytes = [0; FRAME_HEADER_BYTES];
    header.emit(&mut bytes);
    [&bytes, data].concat()
}

/// A session whose daemon sends `bytes` after the handshake and closes.
fn session_that_receives(bytes: Vec<u8>) -> Session {
    let daemon = daemon::unix(move |mut stream| {
        daemon::accept(&mut stream);
        stream.write_all(&bytes).unwrap();
    });
    let session = Session::connect(&daemon.address, &Options::new()).unwrap();
    daemon.join();
    session
}

/// A session, and the daemon's end of it.
fn pair() -> (Session, UnixStream) {
    let daemon = daemon::unix(|mut stream| {
        daemon::accept(&mut stream);
        stream
    });
    let session = Session::connect(&daemon.address, &Options::new()).unwrap();
    (session, daemon.join())
}

fn data(event: &Event<'_>) -> Vec<u8> {
    let Event::Message(message) = event else { panic!("{event:?}") };
    message.data().to_vec()
}

#[test]
fn message_tells_all_that_its_sender_said() {
    let mut session = session_that_receives(message(b"hello"));
    let Event::Message(message) = session.receive().unwrap() else { panic!("no message") };
    assert_eq!(message.sender(), "#b#d");
    assert_eq!(message.service(), Service::Agreed);
    assert_eq!((message.message_type(), message.endian_mismatch()), (7, false));
    assert!(!message.self_discard());
    assert_eq!(message.groups().len(), 0);
    assert_eq!(message.data(), b"hello");
}

#[test]
fn try_receive_takes_what_is_there_and_never_waits() {
    let (mut session, mut daemon) = pair();
    assert!(session.try_receive().unwrap().is_none());
    assert!(!session.has_buffered());
    daemon.write_all(&[message(b"1"), message(b"2"), message(b"3")].concat()).unwrap();
    assert_eq!(data(&session.receive().unwrap()), b"1");
    assert!(session.has_buffered());
    assert_eq!(data(&session.try_receive().unwrap().unwrap()), b"2");
    assert!(session.has_buffered());
    assert_eq!(data(&session.receive_timeout(Duration::ZERO).unwrap().unwrap()), b"3");
    assert!(!session.has_buffered());
    assert!(session.try_receive().unwrap().is_none());
    assert!(session.receive_timeout(Duration::from_millis(1)).unwrap().is_none());
    drop(daemon);
    assert!(matches!(session.try_receive(), Err(ReceiveError::Closed)));
    assert!(matches!(session.receive_timeout(Duration::MAX), Err(ReceiveError::Closed)));
    assert!(matches!(session.receive(), Err(ReceiveError::Closed)));
}

#[test]
fn part_of_a_frame_is_no_event() {
    let (mut session, mut daemon) = pair();
    let frame = message(b"in two parts");
    let (first, second) = frame.split_at(50);
    daemon.write_all(first).unwrap();
    assert!(session.receive_timeout(Duration::from_millis(1)).unwrap().is_none());
    assert!(!session.has_buffered());
    daemon.write_all(second).unwrap();
    assert_eq!(data(&session.receive().unwrap()), b"in two parts");
}

#[test]
fn descriptor_is_readable_when_an_event_is_there() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let (mut session, mut daemon) = pair();
    let readable = |session: &Session| {
        let mut fds = [PollFd::new(session, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
    };
    assert!(!readable(&session));
    daemon.write_all(&message(b"x")).unwrap();
    assert!(readable(&session));
    session.receive().unwrap();
    assert!(!readable(&session));
}

#[test]
fn stream_that_ends_anywhere_yields_its_whole_events() {
    let id = GroupId { daemon: 1, time: 2, index: 3 };
    let group = GroupName::new(b"g").unwrap();
    let own = PrivateGroup::parse(b"#a#d").unwrap().to_name();
    let mut view = vec![0; regular_len(1, 1, 1)];
    emit_regular(&mut view, Cause::Network, &group, id, [own], [[own]], 0);
    let frames = [message(b"first"), view, emit_transitional(&group, id).to_vec()];
    let ends: Vec<usize> = frames
        .iter()
        .scan(0, |end, frame| {
            *end += frame.len();
            Some(*end)
        })
        .collect();
    let bytes = frames.concat();
    for len in 0..=bytes.len() {
        let mut session = session_that_receives(bytes[..len].to_vec());
        for _ in ends.iter().filter(|&&end| end <= len) {
            session.receive().unwrap();
        }
        assert!(matches!(session.receive(), Err(ReceiveError::Closed)), "{len}");
        assert!(matches!(session.receive(), Err(ReceiveError::Closed)), "{len}");
    }
}

#[test]
fn lengths_of_no_frame_are_refused_again_and_again() {
    let too_long = DAEMON_FRAME_BYTES_MAX as i32;
    for (destinations, data_len) in
        [(-1, 0), (0, -1), (0, too_long), (i32::MAX, i32::MAX), (i32::MIN, i32::MIN)]
    {
        let bad = with_lengths(kind::AGREED, destinations, data_len, b"");
        let mut session = session_that_receives([message(b"good"), bad].concat());
        assert_eq!(data(&session.receive().unwrap()), b"good");
        for _ in 0..2 {
            assert!(session.has_buffered());
            assert!(matches!(session.receive(), Err(ReceiveError::Frame(_))));
            assert!(matches!(session.try_receive(), Err(ReceiveError::Frame(_))));
        }
    }
}

#[test]
fn long_claim_without_bytes_behind_it_ends_as_the_stream_does() {
    let claim = with_lengths(kind::AGREED, 0, DAEMON_FRAME_BYTES_MAX as i32 / 2, b"not much");
    let mut session = session_that_receives(claim);
    assert!(matches!(session.receive(), Err(ReceiveError::Closed)));
}

#[test]
fn frame_far_larger_than_the_buffer_arrives_whole() {
    let long: Vec<u8> = (0..3_000_000_u32).map(|index| (index % 251) as u8).collect();
    let frames = [message(b"before"), message(&long), message(b"after")].concat();
    let daemon = daemon::unix(move |mut stream| {
        daemon::accept(&mut stream);
        stream.write_all(&frames).unwrap();
    });
    let mut session = Session::connect(&daemon.address, &Options::new()).unwrap();
    assert_eq!(data(&session.receive().unwrap()), b"before");
    assert!(data(&session.receive().unwrap()) == long);
    assert_eq!(data(&session.receive().unwrap()), b"after");
    daemon.join();
}

#[test]
fn bodies_that_contradict_their_type_are_refused() {
    let view = |body: &[u8]| {
        with_lengths(kind::REGULAR | kind::CAUSED_BY_JOIN, 0, body.len() as i32, body)
    };
    let mut no_sets = [0; 20];
    let mut endless = [0; 20];
    endless[12..16].copy_from_slice(&i32::MAX.to_ne_bytes());
    let mut nobody_joined = [0; 24];
    nobody_joined[12..16].copy_from_slice(&1_i32.to_ne_bytes());
    let mut offset_inside = nobody_joined;
    offset_inside[16] = 4;
    no_sets[0] = 1;
    let two_causes = kind::REGULAR | kind::CAUSED_BY_JOIN | kind::CAUSED_BY_LEAVE;
    for bad in [
        view(b""),
        view(&no_sets),
        view(&endless),
        view(&nobody_joined),
        view(&offset_inside),
        with_lengths(two_causes, 0, 0, b""),
        with_lengths(kind::TRANSITIONAL, 0, 11, &[0; 11]),
        with_lengths(kind::CAUSED_BY_JOIN, 0, 0, b""),
        with_lengths(0, 0, 0, b""),
    ] {
        let mut session = session_that_receives(bad);
        for _ in 0..2 {
            let error = session.receive().map(|event| line(&event)).unwrap_err();
            assert!(matches!(error, ReceiveError::Malformed { .. }), "{error}");
        }
    }
}

#[test]
fn halves_work_in_two_threads() {
    let daemon = daemon::unix(|mut stream| {
        daemon::accept(&mut stream);
        stream.write_all(&message(b"to the inbox")).unwrap();
        daemon::read_to_end(stream)
    });
    let (mut outbox, mut inbox) =
        Session::connect(&daemon.address, &Options::new()).unwrap().split();
    let (told, asked) = channel();
    let receiver = std::thread::spawn(move || {
        told.send(data(&inbox.receive().unwrap())).unwrap();
        inbox.private_group().to_string()
    });
    assert_eq!(asked.recv().unwrap(), b"to the inbox");
    outbox.multicast(Service::Fifo, &["g"], 0, b"from the outbox").unwrap();
    outbox.disconnect().unwrap();
    assert_eq!(receiver.join().unwrap(), "#a#d");
    assert_eq!(daemon.join().len(), 48 + 32 + 15 + 80);
}
