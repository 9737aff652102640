//! What may come before a session.

use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;

use madrigal::base::limits::ATTACHES_PER_TURN;
use madrigal::client::{Options, Session, Transport};
use madrigal::wire::session::attach::ATTACH_VERSION;
use madrigal::wire::session::{AttachHello, AttachStatus};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Setup, drivers};
use crate::{Bystander, answer, await_holdings, door, holdings};

fn hello(version: u32, submission_bytes: u32) -> [u8; 24] {
    AttachHello { version, submission_bytes, delivery_bytes: 0 }.emit()
}

#[test]
fn hello_may_come_in_pieces_and_wishes_are_bounded() {
    for &driver in drivers() {
        let daemon = Setup::new(driver).section("memory", "session_queue_bytes = 65536").start();
        for (wished, granted) in [(0, 65536), (1, 16384), (20_000, 32768), (u32::MAX, 65536)] {
            let mut socket = door(&daemon);
            for byte in hello(ATTACH_VERSION, wished) {
                socket.write_all(&[byte]).unwrap();
            }
            let (answer, memory) = answer(&socket);
            assert_eq!((answer.status, answer.submission_bytes), (AttachStatus::Attached, granted));
            assert_eq!(answer.delivery_bytes, 65536);
            let memory = memory.unwrap();
            let bytes = 4096 + u64::from(granted) + 65536;
            assert_eq!(rustix::fs::fstat(&memory).unwrap().st_size as u64, bytes);
            assert!(rustix::fs::ftruncate(&memory, 0).is_err(), "the memory can be cut off");
        }
    }
}

#[test]
fn anything_else_is_told_and_costs_nothing() {
    for &driver in drivers() {
        let daemon = Setup::new(driver).start();
        let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
        bystander.check();
        let before = holdings(&daemon);
        for wrong in [hello(ATTACH_VERSION + 1, 0), *b"GET / HTTP/1.1\r\nHost: a\r", [0; 24]] {
            let mut socket = door(&daemon);
            socket.write_all(&wrong).unwrap();
            let (answer, memory) = answer(&socket);
            assert_eq!((answer.status, answer.version), (AttachStatus::Version, ATTACH_VERSION));
            assert!(memory.is_none());
            assert_eq!(socket.read(&mut [0]).unwrap(), 0, "the daemon hangs up");
        }
        for len in [0, 1, 23] {
            door(&daemon).write_all(&hello(ATTACH_VERSION, 0)[..len]).unwrap();
        }
        // Attached, and gone without a word.
        for _ in 0..20 {
            door(&daemon).write_all(&hello(ATTACH_VERSION, 0)).unwrap();
        }
        await_holdings(&daemon, &mut bystander, before);
    }
}

#[test]
fn silence_ends_with_the_handshake_timeout() {
    for &driver in drivers() {
        let setup = Setup::new(driver).section("sessions", "handshake_timeout_ms = 100");
        let daemon = setup.start();
        let mut silent = door(&daemon);
        let mut attached = door(&daemon);
        attached.write_all(&hello(ATTACH_VERSION, 0)).unwrap();
        let _memory = answer(&attached);
        for socket in [&mut silent, &mut attached] {
            assert_eq!(socket.read(&mut [0; 64]).unwrap(), 0, "the daemon hangs up");
        }
    }
}

#[test]
fn quota_holds_for_shared_memory_too() {
    for &driver in drivers() {
        let daemon = Setup::new(driver).section("sessions", "max = 1").start();
        let _only = Bystander::new(&daemon, Transport::SharedMemory);
        let socket = door(&daemon);
        assert_eq!(answer(&socket).0.status, AttachStatus::Quota);
    }
}

#[test]
fn whoever_puts_a_file_in_the_way_stops_no_daemon() {
    for &driver in drivers() {
        let directory = Arc::new(TempDir::new().unwrap());
        let in_the_way = directory.path().join("0.shm");
        fs::write(&in_the_way, "mine").unwrap();
        let daemon = Setup::new(driver).try_start_in(directory.clone()).unwrap();
        daemon.wait_for_log("no sessions over shared memory");
        let address = format!("unix:{}", daemon.socket().display());
        let session = Session::connect(&address, &Options::new()).unwrap();
        assert!(session.why_socket().is_some());
        drop(session);
        daemon.stop();
        assert_eq!(fs::read_to_string(in_the_way).unwrap(), "mine");
    }
}

#[test]
fn those_who_come_at_once_are_attached_in_turn() {
    const COMERS: u64 = 40;
    for &driver in drivers() {
        let daemon = Setup::new(driver).start();
        let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
        bystander.check();
        let before = daemon.counter("turns_busy");
        daemon.signal(Signal::STOP);
        let sockets: Vec<_> = (0..COMERS)
            .map(|_| {
                let mut socket = door(&daemon);
                socket.write_all(&hello(ATTACH_VERSION, 1)).unwrap();
                socket
            })
            .collect();
        daemon.signal(Signal::CONT);
        for socket in &sockets {
            assert_eq!(answer(socket).0.status, AttachStatus::Attached);
        }
        let turns = daemon.counter("turns_busy") - before;
        // The last one is counted when it is over.
        assert!(turns + 1 >= COMERS / ATTACHES_PER_TURN as u64, "{turns} turns");
    }
}
