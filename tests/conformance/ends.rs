//! How sessions end, from either side, and how they begin again.

use std::time::{Duration, Instant};

use madrigal::client::{Cause, Event, MulticastError, ReceiveError, Reconnect, Service, Session};

use crate::support::{PATIENCE, Setup, drivers, until};
use crate::{Carrier, Place, everywhere, is_gone, next, next_data, waits};

#[test]
fn requests_before_a_goodbye_are_carried_out() {
    everywhere(
        |setup| setup,
        |place| {
            let mut bob = place.member("bob", "g");
            for (orderly, name) in [(true, "alice"), (false, "carol")] {
                let mut alice = place.connect(name);
                for number in 0..100_u8 {
                    alice.outbox().queue(Service::Fifo, &["g"], 0, &[number]).unwrap();
                }
                alice.outbox().flush().unwrap();
                if orderly {
                    alice.disconnect().unwrap();
                } else {
                    drop(alice);
                }
                for number in 0..100_u8 {
                    assert_eq!(next_data(&mut bob), [number], "{place}, orderly: {orderly}");
                }
                // Its name is free as soon as it is gone.
                until("the name is free", || {
                    let options = place.options().name(name);
                    Session::connect(&place.address(), &options).ok()?.disconnect().ok()
                });
            }
        },
    );
}

#[test]
fn daemon_that_stops_ends_sessions_behind_what_was_delivered() {
    for &driver in drivers() {
        for carrier in [Carrier::Tcp, Carrier::Unix, Carrier::SharedMemory] {
            for wait in waits() {
                let place = Place { daemon: Setup::new(driver).start(), carrier };
                let mut session = place.member("alice", "g");
                session.inbox().set_wait(wait);
                for number in 0..100_u8 {
                    session.multicast(Service::Agreed, &["g"], 0, &[number]).unwrap();
                }
                // The last one is delivered, so all are: the daemon owes them.
                let (mut outbox, mut inbox) = session.split();
                let Event::Message(_) = inbox.receive().unwrap() else { panic!("{place}") };
                let name = place.to_string();
                let mut bob = place.connect("bob");
                bob.multicast(Service::Agreed, &["#bob#localhost"], 0, b"").unwrap();
                next(&mut bob);
                place.daemon.stop();
                let mut got = 1;
                let end = loop {
                    match inbox.receive() {
                        Ok(_) => got += 1,
                        Err(error) => break error,
                    }
                };
                assert!(matches!(end, ReceiveError::Closed), "{name}: {end}");
                assert_eq!(got, 100, "{name}");
                assert!(matches!(inbox.receive(), Err(ReceiveError::Closed)), "{name}: again");
                // TCP takes what is sent first: only the answer to it says that nobody is there.
                let tries = if carrier == Carrier::Tcp { 1000 } else { 1 };
                let told = (0..tries).find_map(|_| {
                    let data = b"nobody is there";
                    let sent = outbox.multicast(Service::Agreed, &["g"], 0, data);
                    sent.and_then(|()| outbox.flush()).err()
                });
                assert!(matches!(told, Some(MulticastError::Closed)), "{name}: {told:?}");
            }
        }
    }
}

/// A daemon that spins takes messages without a bell, so nothing but the socket tells of its end.
#[test]
fn sender_notices_that_a_spinning_daemon_was_killed() {
    for &driver in drivers() {
        for carrier in [Carrier::Unix, Carrier::SharedMemory] {
            let place = Place { daemon: Setup::new(driver).idle("spin").start(), carrier };
            let [mut slow, mut flushing, mut leaving] =
                ["slow", "flushing", "leaving"].map(|name| {
                    let mut session = place.connect(name);
                    let own = session.private_group().to_string();
                    // It is back, so the daemon has taken it and watches the queue.
                    session.multicast(Service::Agreed, &[&own], 0, b"hello").unwrap();
                    assert_eq!(next_data(&mut session), b"hello");
                    session
                });
            let name = place.to_string();
            place.daemon.kill();
            for session in [&mut slow, &mut flushing, &mut leaving] {
                // The kernel takes some milliseconds to close what a killed process has open.
                let end = session.receive_timeout(PATIENCE).map(|_| ());
                assert!(matches!(end, Err(ReceiveError::Closed)), "{name}: {end:?}");
            }
            flushing.outbox().queue(Service::Agreed, &["g"], 0, b"lost").unwrap();
            let flushed = flushing.outbox().flush();
            assert!(matches!(flushed, Err(MulticastError::Closed)), "{name}: {flushed:?}");
            assert!(leaving.disconnect().is_err(), "{name}");
            // One at a time with a pause, as most programs send: a few of them may be lost.
            let told = (0..50).find_map(|_| {
                std::thread::park_timeout(Duration::from_millis(2));
                slow.multicast(Service::Agreed, &["g"], 0, b"lost").err()
            });
            assert!(matches!(told, Some(MulticastError::Closed)), "{name}: {told:?}");
        }
    }
}

#[test]
fn daemon_that_is_killed_is_noticed_at_once_and_met_again() {
    for &driver in drivers() {
        for carrier in [Carrier::Unix, Carrier::SharedMemory] {
            let setup = Setup::new(driver);
            let place = Place { daemon: setup.start(), carrier };
            let (address, options) = (place.address(), place.options().name("alice"));
            let directory = place.daemon.directory();
            let mut waiters: Vec<_> = waits()
                .into_iter()
                .zip(["parked", "adaptive", "spinning"])
                .map(|(wait, name)| {
                    let mut session = place.connect(name);
                    session.inbox().set_wait(wait);
                    session
                })
                .collect();
            std::thread::scope(|scope| {
                let wait = |session| Session::receive_timeout(session, PATIENCE).map(|_| ());
                let ends: Vec<_> =
                    waiters.iter_mut().map(|session| scope.spawn(move || wait(session))).collect();
                place.daemon.kill();
                for end in ends {
                    assert!(matches!(end.join().unwrap(), Err(ReceiveError::Closed)));
                }
            });
            let refused = Session::connect(&address, &options);
            assert!(is_gone(&refused), "{carrier:?}: {refused:?}");
            let options = options.retry_for(PATIENCE);
            let start = Instant::now();
            let again = std::thread::spawn(move || Session::connect(&address, &options));
            let daemon = setup.try_start_in(directory).unwrap();
            let mut session = again.join().unwrap().unwrap();
            assert!(start.elapsed() < PATIENCE);
            session.multicast(Service::Agreed, &["#alice#localhost"], 0, b"back").unwrap();
            assert_eq!(next_data(&mut session), b"back");
            drop(session);
            daemon.stop();
        }
    }
}

/// The next event, which must be the view of `group` by which this session joined it.
fn expect_own_join(session: &mut Session, group: &str) {
    let own = session.private_group().to_string();
    let Event::View(view) = next(session) else { panic!("the view of {group} comes next") };
    assert!(matches!(view.cause(), Cause::Join(member) if member == own.as_str()));
    assert_eq!(view.group(), group);
}

#[test]
fn session_that_was_lost_comes_back_into_its_groups() {
    for &driver in drivers() {
        for carrier in [Carrier::Unix, Carrier::SharedMemory] {
            let setup = Setup::new(driver);
            let place = Place { daemon: setup.start(), carrier };
            let directory = place.daemon.directory();
            let mut session = place.member("alice", "g");
            for group in ["left", "h"] {
                session.join(group).unwrap();
                expect_own_join(&mut session, group);
            }
            session.leave("left").unwrap();
            assert!(matches!(next(&mut session), Event::SelfLeave { .. }));
            place.daemon.kill();
            let lost = session.receive_timeout(PATIENCE);
            assert!(matches!(lost, Err(ReceiveError::Closed)), "{carrier:?}: {lost:?}");
            let once = Reconnect::new().give_up_after(Duration::ZERO);
            let refused = session.reconnect(&once);
            assert!(is_gone(&refused), "{carrier:?}: {refused:?}");
            assert!(matches!(session.receive(), Err(ReceiveError::Closed)), "{carrier:?}");
            assert!(matches!(session.join("i"), Err(MulticastError::Closed)), "{carrier:?}");
            let again = std::thread::spawn(move || {
                session.reconnect(&Reconnect::new().give_up_after(PATIENCE)).unwrap();
                session
            });
            let daemon = setup.try_start_in(directory).unwrap();
            let mut session = again.join().unwrap();
            assert_eq!(session.private_group().to_string(), "#alice#localhost");
            expect_own_join(&mut session, "g");
            expect_own_join(&mut session, "h");
            session.multicast(Service::Agreed, &["g", "left"], 0, b"back").unwrap();
            assert_eq!(next_data(&mut session), b"back");
            drop(session);
            daemon.stop();
        }
    }
}

#[test]
fn session_that_goes_on_is_ended_before_it_connects_again() {
    everywhere(
        |setup| setup,
        |place| {
            let mut session = place.member("alice", "g");
            let mut bob = place.member("bob", "g");
            assert!(matches!(next(&mut session), Event::View(_)));
            session.outbox().set_nonblocking(true);
            session.outbox().queue(Service::Agreed, &["g"], 0, b"never sent").unwrap();
            session.reconnect(&Reconnect::new().give_up_after(PATIENCE)).unwrap();
            expect_own_join(&mut session, "g");
            session.multicast(Service::Agreed, &["g"], 0, b"first").unwrap();
            assert_eq!(next_data(&mut session), b"first", "{place}");
            // Others see one member go and another one come.
            let mut causes = Vec::new();
            while causes.len() < 2 {
                let Event::View(view) = next(&mut bob) else { panic!("{place}: views come first") };
                causes.push(matches!(view.cause(), Cause::Disconnect(_)));
            }
            assert_eq!(causes, [true, false], "{place}");
            assert_eq!(next_data(&mut bob), b"first", "{place}");
        },
    );
}
