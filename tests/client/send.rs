//! Sending to daemons that read as they like.

use std::io::{IoSlice, Read};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Sender, channel};

use madrigal::base::limits::{CLIENT_BATCH_BYTES, CLIENT_FRAME_BYTES_MAX};
use madrigal::client::{Multicast, MulticastError, Options, Outbox, Service, Session, kind};
use madrigal::wire::session::{Frame, Name};
use rustix::event::{PollFd, PollFlags, poll};

use crate::daemon::{self, Daemon};

/// A session whose daemon begins to read when told to, and in the end returns what it read.
fn held() -> (Session, Sender<()>, Daemon<Vec<u8>>) {
    let (go, wait) = channel();
    let daemon = daemon::unix(move |mut stream: UnixStream| {
        daemon::accept(&mut stream);
        // Either told to, or the client's test is over.
        let _ = wait.recv();
        daemon::read_to_end(stream)
    });
    let session = Session::connect(&daemon.address, &Options::new()).unwrap();
    (session, go, daemon)
}

fn frames(mut bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (frame, len) = Frame::parse(bytes).unwrap().expect("whole frames only");
        frames.push(frame);
        bytes = &bytes[len..];
    }
    frames
}

/// Data that tells its number and is long or short by turns.
fn numbered(number: u32) -> Vec<u8> {
    let len = [0, 10, 5_000, 100_000][number as usize % 4];
    let mut data = number.to_le_bytes().to_vec();
    data.extend((0..len).map(|index: u32| (index.wrapping_mul(31) ^ number) as u8));
    data
}

fn assert_numbered(bytes: &[u8], count: u32) {
    let frames = frames(bytes);
    let (kill, messages) = frames.split_last().unwrap();
    assert_eq!(kill.header.kind, kind::KILL);
    assert_eq!(messages.len() as u32, count);
    for (number, frame) in (0..).zip(messages) {
        assert!(frame.data == numbered(number), "message {number}");
        assert_eq!(Name::new(&frame.names[0]), "g");
    }
}

#[test]
fn blocking_sends_wait_for_the_daemon_and_lose_nothing() {
    let (mut session, go, daemon) = held();
    go.send(()).unwrap();
    for number in 0..200 {
        let data = numbered(number);
        let sent = match number % 3 {
            0 => session.multicast(Service::Agreed, &["g"], 0, &data),
            1 => session.outbox().queue(Service::Agreed, &["g"], 0, &data),
            _ => {
                let pieces: Vec<IoSlice<'_>> =
                    data.chunks(1 + data.len() / 40).map(IoSlice::new).collect();
                session.outbox().multicast_vectored(Service::Agreed, &["g"], 0, &pieces)
            }
        };
        sent.unwrap();
    }
    session.disconnect().unwrap();
    assert_numbered(&daemon.join(), 200);
}

#[test]
fn nonblocking_sends_stop_at_a_bounded_batch_and_go_on() {
    let (session, go, daemon) = held();
    let (mut outbox, _inbox) = session.split();
    outbox.set_nonblocking(true);
    let mut number = 0;
    let send = |outbox: &mut Outbox, number: u32| {
        let data = numbered(number);
        match number % 3 {
            0 => outbox.multicast(Service::Agreed, &["g"], 0, &data),
            1 => outbox.queue(Service::Agreed, &["g"], 0, &data),
            _ => outbox.multicast_vectored(Service::Agreed, &["g"], 0, &[IoSlice::new(&data)]),
        }
    };
    loop {
        match send(&mut outbox, number) {
            Ok(()) => number += 1,
            Err(MulticastError::WouldBlock) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(outbox.queued_bytes() <= CLIENT_BATCH_BYTES + CLIENT_FRAME_BYTES_MAX);
    }
    assert!(outbox.wants_write());
    assert!(matches!(outbox.flush(), Err(MulticastError::WouldBlock)));
    go.send(()).unwrap();
    while number < 400 {
        match send(&mut outbox, number) {
            Ok(()) => number += 1,
            Err(MulticastError::WouldBlock) => {
                poll(&mut [PollFd::new(&outbox, PollFlags::OUT)], None).unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    outbox.disconnect().unwrap();
    assert_numbered(&daemon.join(), number);
}

#[test]
fn queued_messages_leave_with_the_flush() {
    let (mut session, go, daemon) = held();
    for number in 0..3 {
        session.outbox().queue(Service::Fifo, &["g"], 0, &[number]).unwrap();
    }
    assert_eq!(session.outbox().queued_bytes(), 3 * 81);
    session.outbox().flush().unwrap();
    assert!(!session.outbox().wants_write());
    // Dropped without another flush: the last one is lost, as documented.
    session.outbox().queue(Service::Fifo, &["g"], 0, b"lost").unwrap();
    drop(session);
    go.send(()).unwrap();
    assert_eq!(frames(&daemon.join()).len(), 3);
}

#[test]
fn full_batch_is_written_without_being_asked() {
    let (mut session, go, daemon) = held();
    go.send(()).unwrap();
    for _ in 0..1000 {
        session.outbox().queue(Service::Fifo, &["g"], 0, &[0; 920]).unwrap();
        assert!(session.outbox().queued_bytes() < CLIENT_BATCH_BYTES);
    }
    session.disconnect().unwrap();
    assert_eq!(frames(&daemon.join()).len(), 1001);
}

#[test]
fn refused_requests_leave_nothing_behind() {
    let (mut session, go, daemon) = held();
    let service = Service::Agreed;
    let many = vec!["g"; 101];
    let error = session.multicast(service, &many, 0, b"").unwrap_err();
    assert!(matches!(error, MulticastError::TooManyGroups { found: 101, max: 100 }), "{error}");
    let error = session.multicast(service, &["g"], 0, &[0; 143_969]).unwrap_err();
    assert!(matches!(error, MulticastError::TooLong { bytes: 144_001, max: 144_000 }), "{error}");
    for group in ["", "a b", "a#b", "#a", "#a#", "#a b#d", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"] {
        let error = session.multicast(service, &["g", group], 0, b"").unwrap_err();
        let told =
            matches!(&error, MulticastError::IllegalGroup { group: found, .. } if found == group);
        assert!(told, "{error}");
        assert!(matches!(session.join(group), Err(MulticastError::IllegalGroup { .. })));
        assert!(matches!(session.leave(group), Err(MulticastError::IllegalGroup { .. })));
    }
    assert!(matches!(session.join("#a#d"), Err(MulticastError::IllegalGroup { .. })));
    for bits in [kind::SAFE, kind::JOIN, kind::REJECT, kind::GROUPS, kind::REGULAR, kind::MARK] {
        let multicast = Multicast::new(service).type_bits(bits | kind::SUBGROUP_CAST);
        let error = session.outbox().multicast_with(&multicast, &["g"], b"").unwrap_err();
        assert!(matches!(error, MulticastError::IllegalBits { bits: found } if found == bits));
    }
    assert!(!session.outbox().wants_write());
    session.multicast(service, &["#b#d", "g"], 0, &[0; 143_936]).unwrap_or_else(|_| unreachable!());
    session.disconnect().unwrap();
    drop(go);
    assert_eq!(frames(&daemon.join()).len(), 2);
}

#[test]
fn limits_of_spreads_daemon_are_kept_on_request() {
    let daemon = daemon::unix(|mut stream| {
        daemon::accept(&mut stream);
        daemon::read_to_end(stream)
    });
    let options = Options::new().spread_limits(true);
    let mut session = Session::connect(&daemon.address, &options).unwrap();
    let service = Service::Safe;
    let error = session.multicast(service, &["g"; 44], 0, b"").unwrap_err();
    assert!(matches!(error, MulticastError::TooManyGroups { found: 44, max: 43 }), "{error}");
    let error = session.multicast(service, &["g"], 0, &[0; 143_121]).unwrap_err();
    assert!(matches!(error, MulticastError::TooLong { bytes: 143_153, max: 143_152 }), "{error}");
    session.multicast(service, &["g"; 43], 0, b"").unwrap();
    session.multicast(service, &["g"], 0, &[0; 143_120]).unwrap();
    session.disconnect().unwrap();
    assert_eq!(frames(&daemon.join()).len(), 3);
}

#[test]
fn daemon_that_is_gone_ends_sending() {
    let daemon = daemon::unix(|mut stream| daemon::accept(&mut stream));
    let mut session = Session::connect(&daemon.address, &Options::new()).unwrap();
    daemon.join();
    // The kernel may take a few before it knows.
    let error = (0..10).find_map(|_| session.join("g").err()).unwrap();
    assert!(matches!(error, MulticastError::Closed), "{error}");
    assert!(matches!(session.outbox().flush(), Err(MulticastError::Closed)));
    let error = session.multicast(Service::Safe, &["g"], 0, b"x").unwrap_err();
    assert!(matches!(error, MulticastError::Closed), "{error}");
    assert_eq!(session.disconnect().unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn hello_arrives_in_one_piece() {
    let daemon = daemon::unix(|mut stream| {
        let mut bytes = [0; 100];
        let len = stream.read(&mut bytes).unwrap();
        bytes[..len].to_vec()
    });
    let options = Options::new().name("0123456789").membership(false).priority(true);
    Session::connect(&daemon.address, &options).unwrap_err();
    assert_eq!(daemon.join(), b"\x05\x00\x01\x10\x0a0123456789");
}
