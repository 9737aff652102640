//! Much at a time: batches, event loops, two threads, receivers that are slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use madrigal::client::{Event, MulticastError, Options, ReceiveError, Service, Session};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::{Daemon, PATIENCE, Setup};
use crate::{Carrier, Place, everywhere, next, next_data, pattern};

/// Small queues and small bounds, so that both are met often.
const TIGHT: &str = "pool_bytes_max = 4000000\nsession_queue_bytes = 16384";

/// A daemon that holds senders back early.
fn holding(setup: Setup) -> Setup {
    let bounds = "messages_max = 100\nbytes_max = 500000\nslow_receiver = \"hold\"";
    setup.section("memory", TIGHT).section("sessions", bounds)
}

/// Whether the daemon has stopped to read from somebody.
fn is_held(daemon: &Daemon) -> bool {
    daemon.counter("reads_paused") > 0
}

fn until_held(place: &Place) {
    let deadline = Instant::now() + PATIENCE;
    while !is_held(&place.daemon) {
        assert!(Instant::now() < deadline, "{place}: nobody is held back");
    }
}

#[test]
fn batches_of_any_size_arrive_in_order() {
    everywhere(
        |setup| setup.section("memory", "session_queue_bytes = 16384"),
        |place| {
            let session = place.member("alice", "g");
            let (mut outbox, mut inbox) = session.split();
            const MESSAGES: usize = 5_000;
            let sender = std::thread::spawn(move || {
                for number in 0..MESSAGES {
                    let data = pattern(number, number % 300);
                    outbox.queue(Service::Fifo, &["g"], 0, &data).unwrap();
                }
                outbox.flush().unwrap();
                outbox
            });
            for number in 0..MESSAGES {
                let Event::Message(message) = inbox.receive().unwrap() else { panic!("{place}") };
                assert!(message.data() == pattern(number, number % 300), "{place}: {number}");
            }
            sender.join().unwrap();
        },
    );
}

#[test]
fn event_loop_with_one_thread_sends_and_receives_more_than_all_queues_hold() {
    everywhere(
        |setup| setup.section("memory", "session_queue_bytes = 16384"),
        |place| {
            let mut session = place.member("alice", "g");
            session.outbox().set_nonblocking(true);
            const MESSAGES: usize = 300;
            let (mut sent, mut received) = (0, 0);
            while received < MESSAGES {
                while sent < MESSAGES {
                    let data = pattern(sent, 20_000);
                    match session.multicast(Service::Agreed, &["g"], 0, &data) {
                        Ok(()) => sent += 1,
                        Err(MulticastError::WouldBlock) => break,
                        Err(error) => panic!("{place}: {error}"),
                    }
                }
                while let Some(event) = session.try_receive().unwrap() {
                    let Event::Message(message) = event else { panic!("{place}") };
                    assert!(message.data() == pattern(received, 20_000), "{place}: {received}");
                    received += 1;
                }
                let mut wanted = PollFlags::IN;
                if session.outbox().wants_write() {
                    wanted |= PollFlags::OUT;
                }
                let mut fds = [PollFd::new(&session, wanted)];
                if received < MESSAGES {
                    poll(&mut fds, None).unwrap();
                }
                if fds[0].revents().contains(PollFlags::OUT) {
                    match session.outbox().flush() {
                        Ok(()) | Err(MulticastError::WouldBlock) => {}
                        Err(error) => panic!("{place}: {error}"),
                    }
                }
            }
        },
    );
}

#[test]
fn descriptor_tells_of_events_however_the_receiver_waits() {
    everywhere(
        |setup| setup,
        |place| {
            let mut alice = place.member("alice", "g");
            let mut bob = place.connect("bob");
            let patience = Timespec::try_from(PATIENCE).unwrap();
            for wait in crate::waits() {
                alice.inbox().set_wait(wait);
                for number in 0..50 {
                    assert!(alice.try_receive().unwrap().is_none(), "{place}: {number}");
                    bob.multicast(Service::Agreed, &["g"], 0, &pattern(number, 10)).unwrap();
                    // A bell may be older than what it rang for, so looking once is not enough.
                    let data = loop {
                        let mut fds = [PollFd::new(&alice, PollFlags::IN)];
                        let ready = poll(&mut fds, Some(&patience)).unwrap();
                        assert_eq!(ready, 1, "{place}, {wait:?}: nothing tells of {number}");
                        if let Some(event) = alice.try_receive().unwrap() {
                            let Event::Message(message) = event else { panic!("{place}") };
                            break message.data().to_vec();
                        }
                    };
                    assert!(data == pattern(number, 10), "{place}, {wait:?}: {number}");
                }
            }
        },
    );
}

#[test]
fn receiver_gives_all_room_back_however_it_waits() {
    everywhere(
        |setup| setup,
        |place| {
            let mut session = place.member("alice", "g");
            for wait in crate::waits() {
                session.inbox().set_wait(wait);
                // A long one may need a whole queue of the default size, as it must not go around
                // its end; the short ones are too little to be given back at once.
                for len in [60_000, 130_000, 60_000, 110_000].repeat(10) {
                    session.multicast(Service::Agreed, &["g"], 0, &pattern(len, len)).unwrap();
                    assert!(next_data(&mut session) == pattern(len, len), "{place}: {len}");
                }
            }
        },
    );
}

#[test]
fn receiver_that_never_reads_is_dropped_and_harms_nobody() {
    everywhere(
        |setup| {
            let setup = setup.section("memory", TIGHT);
            setup.section("sessions", "messages_max = 100\nbytes_max = 500000")
        },
        |place| {
            let mut deaf = place.member("deaf", "g");
            let mut alice = place.connect("alice");
            let mut bob = place.member("bob", "g");
            for number in 0..1000 {
                alice.multicast(Service::Agreed, &["g"], 0, &pattern(number, 5_000)).unwrap();
                assert!(next_data(&mut bob) == pattern(number, 5_000), "{place}: {number}");
            }
            place.daemon.wait_for_log("reason=\"slow\"");
            let mut got = 0;
            let end = loop {
                match deaf.receive() {
                    Ok(_) => got += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(end, ReceiveError::Closed), "{place}: {end}");
            assert!(got < 1000, "{place}: it cannot have got all");
        },
    );
}

#[test]
fn senders_are_held_back_for_a_slow_receiver_and_nothing_is_lost() {
    everywhere(holding, |place| {
        let mut slow = place.member("slow", "g");
        let mut alice = place.connect("alice");
        const MESSAGES: usize = 600;
        let sender = std::thread::spawn(move || {
            for number in 0..MESSAGES {
                alice.multicast(Service::Agreed, &["g"], 0, &pattern(number, 5_000)).unwrap();
            }
            alice
        });
        // It stops more than once, because the bounds hold a fraction of all.
        for number in 0..MESSAGES {
            assert!(next_data(&mut slow) == pattern(number, 5_000), "{place}: {number}");
        }
        sender.join().unwrap();
    });
}

/// A session that is the slow receiver of its own messages is held, and learns that there is room
/// for what it gets, all the same.
#[test]
fn who_sends_to_itself_is_held_and_goes_on_when_it_reads() {
    everywhere(holding, |place| {
        let session = place.member("alice", "g");
        let (mut outbox, mut inbox) = session.split();
        const MESSAGES: usize = 600;
        let sender = std::thread::spawn(move || {
            for number in 0..MESSAGES {
                let data = pattern(number, 25_000);
                outbox.multicast(Service::Agreed, &["g"], 0, &data).unwrap();
            }
            outbox
        });
        until_held(place);
        for number in 0..MESSAGES {
            let event = inbox.receive_timeout(PATIENCE).unwrap();
            let Some(Event::Message(message)) = event else { panic!("{place}: {event:?}") };
            assert!(message.data() == pattern(number, 25_000), "{place}: {number}");
        }
        sender.join().unwrap();
    });
}

/// The end of a session is noticed even while nothing is read from it.
#[test]
fn who_is_held_and_goes_is_let_go_of() {
    everywhere(holding, |place| {
        let mut session = place.member("alice", "g");
        session.outbox().set_nonblocking(true);
        let deadline = Instant::now() + PATIENCE;
        let data = pattern(1, 5_000);
        loop {
            match session.multicast(Service::Agreed, &["g"], 0, &data) {
                Ok(()) => {}
                Err(MulticastError::WouldBlock) if is_held(&place.daemon) => break,
                Err(MulticastError::WouldBlock) => {}
                Err(error) => panic!("{place}: {error}"),
            }
            assert!(Instant::now() < deadline, "{place}: nobody is held back");
        }
        drop(session);
        place.daemon.wait_for_log("session ended");
    });
}

/// Who is held waits, and neither it nor the daemon works the while.
#[test]
fn who_is_held_costs_nothing() {
    everywhere(holding, |place| {
        let slow = place.member("slow", "g");
        let mut alice = place.connect("alice");
        let is_enough = Arc::new(AtomicBool::new(false));
        let enough = Arc::clone(&is_enough);
        let sender = std::thread::spawn(move || {
            while !enough.load(Ordering::Relaxed) {
                alice.multicast(Service::Agreed, &["g"], 0, &pattern(1, 25_000)).unwrap();
            }
        });
        until_held(place);
        let turns = || place.daemon.counter("turns_busy");
        let (before, begin) = (turns(), Instant::now());
        while begin.elapsed() < Duration::from_millis(300) {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let turns = turns() - before;
        assert!(turns < 300, "{place}: {turns} turns of the daemon with nothing to do");
        is_enough.store(true, Ordering::Relaxed);
        drop(slow);
        sender.join().unwrap();
    });
}

#[test]
fn what_is_buffered_is_told() {
    everywhere(
        |setup| setup,
        |place| {
            let mut alice = place.member("alice", "g");
            for number in 0..10 {
                alice.multicast(Service::Agreed, &["g"], 0, &pattern(number, 10)).unwrap();
            }
            // Behind all of them: who has this has the others at hand.
            let mut bob = place.member("bob", "g");
            assert!(next_data(&mut alice) == pattern(0, 10), "{place}");
            for number in 1..10 {
                let is_near = alice.has_buffered();
                assert!(is_near || place.carrier != Carrier::SharedMemory, "{place}: {number}");
                assert!(next_data(&mut alice) == pattern(number, 10), "{place}");
            }
            assert!(matches!(next(&mut alice), Event::View(_)), "{place}");
            assert!(!alice.has_buffered(), "{place}");
            bob.leave("g").unwrap();
        },
    );
}

#[test]
fn nothing_comes_when_nothing_was_sent() {
    everywhere(
        |setup| setup,
        |place| {
            let mut session = place.connect("alice");
            let soon = std::time::Duration::from_millis(1);
            for wait in crate::waits() {
                session.inbox().set_wait(wait);
                assert!(session.receive_timeout(soon).unwrap().is_none());
                assert!(session.try_receive().unwrap().is_none());
            }
        },
    );
}

#[test]
fn shared_memory_is_taken_without_asking_and_left_with_a_reason() {
    everywhere(
        |setup| setup,
        |place| {
            let session = Session::connect(&place.address(), &Options::new()).unwrap();
            match place.carrier {
                Carrier::Tcp => assert!(session.why_socket().unwrap().contains("TCP")),
                Carrier::Unix | Carrier::SharedMemory => assert_eq!(session.why_socket(), None),
            }
        },
    );
    everywhere(
        |setup| setup.listen("tcp = [\"127.0.0.1\"]\nshared_memory = false"),
        |place| {
            let mut session = Session::connect(&place.address(), &Options::new()).unwrap();
            let why = session.why_socket().unwrap().to_owned();
            match place.carrier {
                Carrier::Tcp => assert!(why.contains("TCP"), "{why}"),
                _ => assert!(why.contains(".shm does not answer"), "{why}"),
            }
            session.join("g").unwrap();
            assert!(matches!(next(&mut session), Event::View(_)));
        },
    );
}
