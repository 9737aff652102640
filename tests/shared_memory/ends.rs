//! What is left of a session that is over.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use madrigal::client::{Options, Service, Session, Transport};
use madrigal::wire::session::{ByteOrder, kind};

use crate::support::{Frame, Setup, drivers, until};
use crate::{Bystander, Raw, await_holdings, holdings};

/// How long such a client goes on.
const GOING_ON: Duration = Duration::from_millis(30);

#[test]
fn what_is_published_behind_the_end_of_a_session_is_not_heard() {
    for &driver in drivers() {
        for cores in [1, 2] {
            let daemon = Setup::new(driver).cores(cores).idle("adaptive").start();
            let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
            bystander.check();
            for number in 0..20 {
                let raw = Raw::member_with(&daemon, &format!("ghost{number}"), 1 << 18);
                haunt(raw, &format!("#ghost{number}#localhost"));
                bystander.check();
            }
            daemon.wait_for_count("sessions_ended", 20);
        }
    }
}

/// Closes the socket and goes on publishing.
fn haunt(raw: Raw, sender: &str) {
    let Raw { socket, mut writer, sizes, .. } = raw;
    let frame = Frame::new(ByteOrder::NATIVE, kind::AGREED, sender, &["none"]);
    let frames = frame.with_data(&[0; 24]).bytes().repeat(300);
    let start = Instant::now();
    let mut socket = Some(socket);
    let mut published = 0;
    while start.elapsed() < 2 * GOING_ON {
        if start.elapsed() > GOING_ON && socket.take().is_some() {
            published = 0;
        }
        for _ in 0..100 {
            if writer.write(&frames) == Ok(true) {
                let _ = writer.publish();
                published += frames.len();
            }
        }
    }
    // What was there when it ended, some before that was seen, and a queue that nobody reads.
    let most = 4 * sizes.submission_bytes;
    assert!(published <= most, "{published} bytes were read of a session that was over");
}

/// Bytes of memory that a client still has, though it only kept the descriptor.
fn bytes_there(memory: &OwnedFd) -> usize {
    512 * usize::try_from(rustix::fs::fstat(memory).unwrap().st_blocks).unwrap()
}

#[test]
fn memory_of_a_session_that_is_over_goes_back_whoever_keeps_the_descriptor() {
    for &driver in drivers() {
        let daemon = Setup::new(driver).start();
        let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
        bystander.check();
        let before = holdings(&daemon);
        let kept: Vec<_> = (0..20)
            .map(|number| match number % 2 {
                0 => Raw::attach(&daemon).memory,
                _ => Raw::member(&daemon, &format!("keeper{number}")).memory,
            })
            .collect();
        await_holdings(&daemon, &mut bystander, before);
        let there: usize = kept.iter().map(bytes_there).sum();
        assert_eq!(there, 0, "bytes of {} sessions that are over", kept.len());
    }
}

#[test]
fn whom_the_daemon_hangs_up_on_keeps_what_it_has_not_read_and_no_more() {
    for &driver in drivers() {
        let daemon = Setup::new(driver).section("sessions", "messages_max = 50").start();
        let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
        let raw = Raw::member_with(&daemon, "deaf", 1 << 18);
        let memory = raw.memory.try_clone().unwrap();
        while raw.ring() {
            bystander.0.multicast(Service::Agreed, &["g"], 0, &[7; 999]).unwrap();
            bystander.check();
        }
        let Raw { socket, mut reader, sizes, .. } = raw;
        drop(socket);
        daemon.wait_for_count("sessions_slow", 1);
        let most = 4096 + sizes.delivery_bytes;
        until("the rest is given back", || (bytes_there(&memory) <= most).then_some(()));
        let mut read = Vec::new();
        let mut into = [0; 4096];
        while let len @ 1.. = reader.read(&mut into).unwrap() {
            read.extend_from_slice(&into[..len]);
        }
        let sevens = read.iter().filter(|&&byte| byte == 7).count();
        assert!(sevens > sizes.delivery_bytes / 2, "{sevens} bytes of messages");
    }
}

#[test]
fn those_who_find_no_shared_memory_use_the_socket() {
    for &driver in drivers() {
        let daemon = Setup::new(driver).section("memory", "shared_bytes_max = 1000000").start();
        let address = format!("unix:{}", daemon.socket().display());
        let connect = || Session::connect(&address, &Options::new()).unwrap();
        let first = connect();
        assert!(first.why_socket().is_none());
        let mut second = connect();
        assert!(second.why_socket().is_some());
        second.multicast(Service::Agreed, &["g"], 0, b"by the socket").unwrap();
        assert_eq!(daemon.counter("attaches_refused"), 1);
        drop(first);
        until("there is room again", || connect().why_socket().is_none().then_some(()));
    }
}

/// What is locked into memory goes back to the system all the same.
#[test]
fn sessions_leave_no_locked_memory_behind() {
    for &driver in drivers() {
        let memory = "session_queue_bytes = 16384\nshared_bytes_max = 1048576\nlock = true";
        let daemon = Setup::new(driver).section("memory", memory).start();
        let address = format!("unix:{}", daemon.socket().display());
        let options = Options::new().transport(Transport::SharedMemory);
        for ended in 1..=60 {
            drop(Session::connect(&address, &options).expect("there is room for one"));
            daemon.wait_for_count("sessions_ended", ended);
        }
    }
}
