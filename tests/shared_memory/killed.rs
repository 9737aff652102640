//! Processes that end at any moment, with `kill -9`, and processes that stand still.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use madrigal::client::{MulticastError, Options, Service, Session, Transport, Wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Daemon, Setup, drivers};
use crate::{Bystander, Random, await_holdings, holdings};

/// Processes that are killed for each daemon; each of them has several sessions.
const KILLS: u64 = 1000;

/// Sessions of a process that is killed.
const SESSIONS: usize = 4;

/// Tells this program that it is the process to be killed.
const VICTIM: &str = "MADRIGAL_TEST_VICTIM";

/// Not a test by itself: what a victim runs.
#[test]
fn victim() {
    let Ok(address) = std::env::var(VICTIM) else { return };
    let options = Options::new().transport(Transport::SharedMemory).wait(Wait::Park);
    let mut sessions: Vec<_> =
        (0..SESSIONS).map(|_| Session::connect(&address, &options).unwrap()).collect();
    for session in &mut sessions {
        session.join("g").unwrap();
        session.outbox().set_nonblocking(true);
    }
    println!("\nready");
    for number in 0_usize.. {
        for session in &mut sessions {
            let data = vec![number as u8; number * 37 % 9000];
            match session.multicast(Service::Agreed, &["g"], 0, &data) {
                Ok(()) | Err(MulticastError::WouldBlock) => {}
                Err(error) => panic!("{error}"),
            }
            while session.try_receive().unwrap().is_some() {}
        }
    }
}

/// A process with sessions in full work.
fn start_victim(daemon: &Daemon) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::victim", "--nocapture"])
        .env(VICTIM, format!("unix:{}", daemon.socket().display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"), "the victim did not start");
    child
}

#[test]
fn processes_killed_at_any_moment_leave_nothing_behind() {
    for &driver in drivers() {
        let setup = Setup::new(driver).cores(2).idle("adaptive");
        // Some die while they look at what they share.
        let daemon =
            setup.section("memory", "session_queue_bytes = 16384\nshelf_from_bytes = 4096").start();
        let mut near = Bystander::new(&daemon, Transport::SharedMemory);
        let mut far = Bystander::new(&daemon, Transport::Socket);
        near.check();
        far.check();
        let before = holdings(&daemon);
        let mut random = Random(1);
        for _ in 0..KILLS {
            let mut victim = start_victim(&daemon);
            for _ in 0..random.below(8) {
                near.check();
                far.check();
            }
            victim.kill().unwrap();
            victim.wait().unwrap();
        }
        await_holdings(&daemon, &mut near, before);
        assert_eq!(daemon.counter("sessions_violated"), 0, "the dead told no lies");
        assert!(daemon.counter("frames_shelved") > 0, "some of it was shared");
        assert_eq!(daemon.counter("sessions_started"), KILLS * SESSIONS as u64 + 2);
    }
}

#[test]
fn process_that_stands_still_is_slow_and_harms_nobody() {
    for &driver in drivers() {
        let setup = Setup::new(driver).section("sessions", "messages_max = 200");
        let daemon = setup.start();
        let mut near = Bystander::new(&daemon, Transport::SharedMemory);
        near.check();
        let before = holdings(&daemon);
        let mut victim = start_victim(&daemon);
        kill_process(Pid::from_child(&victim), Signal::STOP).unwrap();
        // They are members of the group, and none of them reads.
        while daemon.counter("sessions_slow") < SESSIONS as u64 {
            for _ in 0..100 {
                near.0.multicast(Service::Agreed, &["g"], 0, &[0; 2000]).unwrap();
                near.check();
            }
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        await_holdings(&daemon, &mut near, before);
    }
}
