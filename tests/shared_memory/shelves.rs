//! Long messages that several sessions receive are stored once, and nobody notices.

use std::thread;

use madrigal::client::{Event, Options, ReceiveError, Service, Session, Transport, Wait};

use crate::Random;
use crate::support::{Daemon, Setup, drivers, until};

/// Room for a few messages, so that shelves are full, wait for a reader, and are used again.
const TIGHT: &str = "session_queue_bytes = 65536\nshelf_from_bytes = 4096\nshelf_bytes = 400000";

fn member(daemon: &Daemon, name: &str) -> Session {
    let options = Options::new().name(name).transport(Transport::SharedMemory).wait(Wait::Park);
    let address = format!("unix:{}", daemon.socket().display());
    let mut session = Session::connect(&address, &options).unwrap();
    session.join("g").unwrap();
    session
}

/// Waits until it sees so many members.
fn wait_for_members(session: &mut Session, members: usize) {
    loop {
        if let Event::View(view) = session.receive().unwrap()
            && view.members().len() == members
        {
            return;
        }
    }
}

fn data(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number as usize * 31 + at * 7) as u8).collect()
}

/// The lengths of the messages of a test, in their order.
fn lengths(messages: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut random = Random(5);
    (0..messages as u64).map(move |number| {
        let most = if random.below(4) == 0 { 100_000 } else { 9_000 };
        (number, random.below(most))
    })
}

#[test]
fn many_sessions_get_the_same_long_messages_whole_and_in_order() {
    const MESSAGES: usize = 600;
    const RECEIVERS: usize = 5;
    for &driver in drivers() {
        let daemon = Setup::new(driver).section("memory", TIGHT).start();
        let receivers: Vec<_> =
            (0..RECEIVERS).map(|number| member(&daemon, &format!("r{number}"))).collect();
        let mut sender = member(&daemon, "sender");
        wait_for_members(&mut sender, RECEIVERS + 1);
        let threads: Vec<_> = receivers
            .into_iter()
            .map(|mut receiver| {
                thread::spawn(move || {
                    wait_for_members(&mut receiver, RECEIVERS + 1);
                    for (number, len) in lengths(MESSAGES) {
                        let Event::Message(message) = receiver.receive().unwrap() else {
                            panic!("message {number} comes next")
                        };
                        assert!(message.data() == data(number, len), "message {number}");
                    }
                })
            })
            .collect();
        for (number, len) in lengths(MESSAGES) {
            sender.multicast(Service::Agreed, &["g"], 0, &data(number, len)).unwrap();
            // The sender is a member too, and must not be the slow one.
            while sender.try_receive().unwrap().is_some() {}
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        until("something is shared", || (daemon.counter("frames_shelved") > 0).then_some(()));
        assert_eq!(daemon.counter("sessions_violated"), 0);
    }
}

#[test]
fn what_a_session_holds_stays_as_it_is_though_the_daemon_ends_the_session() {
    for &driver in drivers() {
        let setup = Setup::new(driver).section("memory", TIGHT);
        let daemon = setup.section("sessions", "messages_max = 50").start();
        let mut holders: Vec<_> =
            (0..3).map(|number| member(&daemon, &format!("h{number}"))).collect();
        let mut sender = member(&daemon, "sender");
        wait_for_members(&mut sender, 4);
        holders.iter_mut().for_each(|holder| wait_for_members(holder, 4));
        let mut random = Random(9);
        let first = data(0, 50_000);
        sender.multicast(Service::Agreed, &["g"], 0, &first).unwrap();
        let lent: Vec<_> = holders.iter_mut().map(|holder| holder.receive().unwrap()).collect();
        until("some of it is shared", || (daemon.counter("frames_shelved") > 0).then_some(()));
        // None of them reads on, so all are ended, and others come and go.
        let mut number = 0;
        until("the holders are ended", || {
            for _ in 0..20 {
                number += 1;
                let data = data(number, 1 + random.below(60_000));
                sender.multicast(Service::Agreed, &["g"], 0, &data).unwrap();
                while sender.try_receive().unwrap().is_some() {}
            }
            (daemon.counter("sessions_slow") >= 3).then_some(())
        });
        let mut others: Vec<_> =
            (0..3).map(|number| member(&daemon, &format!("o{number}"))).collect();
        for other in &mut others {
            while !matches!(other.receive().unwrap(), Event::View(_)) {}
        }
        for _ in 0..60 {
            number += 1;
            let data = data(number, 50_000);
            sender.multicast(Service::Agreed, &["g"], 0, &data).unwrap();
            while sender.try_receive().unwrap().is_some() {}
            for other in &mut others {
                loop {
                    if let Event::Message(message) = other.receive().unwrap()
                        && message.data() == data
                    {
                        break;
                    }
                }
            }
        }
        for event in lent {
            let Event::Message(message) = event else { panic!("it is the message") };
            assert!(message.data() == first, "it is what it was");
        }
        for mut holder in holders {
            // What had come before the end is there, and then the end.
            let end = loop {
                match holder.receive() {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert!(matches!(end, ReceiveError::Closed), "{end}");
        }
    }
}
