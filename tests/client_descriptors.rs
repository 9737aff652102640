//! A client that runs out of descriptors: its session ends and says why, and what was delivered
//! before is right.
//!
//! A binary of its own with one test, as it lowers the limit of the whole process.

#[path = "support/mod.rs"]
mod support;

use std::fs::File;

use madrigal::client::{Event, Options, ReceiveError, Service, Session, Transport};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{Daemon, PATIENCE, Setup, drivers, until};

/// Descriptors in all: enough for the test itself.
const LIMIT: u64 = 64;

/// Small shelves, so that a session is soon handed another one.
const SHELVES: &str = "shelf_from_bytes = 4096\nshelf_bytes = 400000";

/// Long enough for a shelf.
const MESSAGE_BYTES: usize = 50_000;

fn connect(daemon: &Daemon, transport: Transport) -> Session {
    let options = Options::new().membership(false).transport(transport);
    Session::connect(&format!("unix:{}", daemon.socket().display()), &options).unwrap()
}

fn member(daemon: &Daemon) -> Session {
    let mut session = connect(daemon, Transport::SharedMemory);
    session.join("g").unwrap();
    let own = session.private_group().to_string();
    session.multicast(Service::Agreed, &[&own], 0, b"joined").unwrap();
    assert_eq!(next(&mut session).unwrap(), b"joined");
    session
}

fn next(session: &mut Session) -> Result<Vec<u8>, ReceiveError> {
    match session.receive_timeout(PATIENCE)?.expect("something comes") {
        Event::Message(message) => Ok(message.data().to_vec()),
        other => panic!("{other:?}"),
    }
}

/// Opens files until no descriptor is left.
fn hoard() -> Vec<File> {
    std::iter::from_fn(|| File::open("/dev/null").ok()).collect()
}

#[test]
fn sessions_without_a_descriptor_end_and_say_why() {
    let drivers = drivers();
    let limit = getrlimit(Resource::Nofile);
    for &driver in drivers {
        let daemon = Setup::new(driver).section("memory", SHELVES).start();
        setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), ..limit }).unwrap();
        shelves_are_not_mistaken(&daemon);
        attaching_is_refused(&daemon);
        setrlimit(Resource::Nofile, limit).unwrap();
    }
}

fn shelves_are_not_mistaken(daemon: &Daemon) {
    let mut receivers: Vec<_> = (0..3).map(|_| member(daemon)).collect();
    // By the socket: it needs no descriptor when it receives.
    let mut sender = connect(daemon, Transport::Socket);
    let mut send = |number: u8| {
        sender.multicast(Service::Agreed, &["g"], 0, &[number; MESSAGE_BYTES]).unwrap();
    };
    let hoard = hoard();
    send(0);
    let mut without = Vec::new();
    for (index, receiver) in receivers.iter_mut().enumerate() {
        match next(receiver) {
            // The first one that the daemon serves gets a copy.
            Ok(data) => assert!(data == [0; MESSAGE_BYTES]),
            Err(error) => {
                assert!(matches!(error, ReceiveError::NoDescriptor), "{error}");
                without.push(index);
            }
        }
    }
    assert!(!without.is_empty(), "nothing was put on a shelf");
    // Descriptors alone do not help: which shelf is which is not known any more.
    drop(hoard);
    for number in 1..20 {
        send(number);
        for (index, receiver) in receivers.iter_mut().enumerate() {
            match next(receiver) {
                Ok(data) => assert!(data == [number; MESSAGE_BYTES], "{index} gets {number}"),
                Err(error) => assert!(matches!(error, ReceiveError::NoDescriptor), "{error}"),
            }
            assert!(!without.contains(&index) || next(receiver).is_err(), "{index} goes on");
        }
    }
}

fn attaching_is_refused(daemon: &Daemon) {
    let mut hoard = hoard();
    // One for the socket.
    hoard.pop();
    let address = format!("unix:{}", daemon.socket().display());
    let options = Options::new().transport(Transport::SharedMemory);
    // The kernel closes what it could not hand over when it gets to it.
    let error = until("connecting fails", || Session::connect(&address, &options).err());
    assert!(error.to_string().contains("no descriptor left"), "{error}");
}
