//! What is sent arrives, once, whole, in order, with everything that belongs to it.

use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};

use madrigal::client::{
    Cause, ConnectError, Event, Multicast, MulticastError, Reject, Service, Session,
};

use crate::{everywhere, next, next_data, pattern, waits};

/// Every length around a bound: of a word, of a record, of half a queue, of a message.
const LENGTHS: [usize; 18] = [
    0, 1, 7, 8, 9, 100, 4095, 4096, 4097, 16_000, 32_680, 65_536, 131_000, 131_064, 131_072,
    140_000, 143_967, 143_968,
];

#[test]
fn message_of_any_length_arrives_as_it_was_sent() {
    everywhere(
        |setup| setup,
        |place| {
            let mut session = place.member("alice", "g");
            for round in 0..3 {
                session.inbox().set_wait(waits()[round]);
                for (number, len) in LENGTHS.into_iter().enumerate() {
                    let sent = pattern(number + round, len);
                    let mut outbox = |multicast: &Multicast| match round {
                        0 => session.outbox().multicast_with(multicast, &["g"], &sent),
                        1 => session.outbox().multicast_fill(multicast, &["g"], len, |bytes| {
                            bytes.copy_from_slice(&sent);
                        }),
                        _ => {
                            let (head, tail) = sent.split_at(len / 3);
                            let pieces = [IoSlice::new(head), IoSlice::new(tail)];
                            let service = multicast.service;
                            session.outbox().multicast_vectored(service, &["g"], 7, &pieces)
                        }
                    };
                    outbox(&Multicast::new(Service::Agreed).message_type(7)).unwrap();
                    let Event::Message(message) = next(&mut session) else {
                        panic!("{place}: no message of {len} bytes");
                    };
                    assert_eq!(message.message_type(), 7);
                    assert!(message.data() == sent, "{place}: {len} bytes in round {round}");
                }
            }
        },
    );
}

#[test]
fn all_services_keep_what_belongs_to_a_message() {
    use Service::{Agreed, Causal, Fifo, Reliable, Safe, Unreliable};
    everywhere(
        |setup| setup,
        |place| {
            let mut alice = place.member("alice", "g");
            let mut bob = place.member("bob", "g");
            assert!(matches!(next(&mut alice), Event::View(_)));
            for service in [Unreliable, Reliable, Fifo, Causal, Agreed, Safe] {
                bob.multicast(service, &["g", "elsewhere"], -3, b"data").unwrap();
                let sender = bob.private_group().to_string();
                for session in [&mut alice, &mut bob] {
                    let Event::Message(message) = next(session) else { panic!("{place}") };
                    assert_eq!(message.service(), service);
                    assert_eq!(message.sender().to_string(), sender);
                    assert_eq!(message.message_type(), -3);
                    let groups: Vec<_> = message.groups().map(|name| name.to_string()).collect();
                    assert_eq!(groups, ["g", "elsewhere"]);
                    assert_eq!(message.data(), b"data");
                }
            }
            let quiet = Multicast::new(Agreed).self_discard(true);
            bob.outbox().multicast_with(&quiet, &["g"], b"to others").unwrap();
            bob.multicast(Agreed, &["g"], 0, b"to all").unwrap();
            assert_eq!(next_data(&mut alice), b"to others");
            assert_eq!(next_data(&mut alice), b"to all");
            assert_eq!(next_data(&mut bob), b"to all");
        },
    );
}

#[test]
fn two_senders_are_seen_in_one_order() {
    everywhere(
        |setup| setup,
        |place| {
            let mut sessions = [place.member("alice", "g"), place.member("bob", "g")];
            let mut watcher = place.member("carol", "g");
            let names: Vec<_> =
                sessions.iter().map(|session| session.private_group().to_string()).collect();
            const EACH: usize = 500;
            std::thread::scope(|scope| {
                for session in &mut sessions {
                    scope.spawn(move || {
                        for number in 0..EACH {
                            let data = number.to_le_bytes();
                            let outbox = session.outbox();
                            outbox.queue(Service::Agreed, &["g"], 0, &data).unwrap();
                            if number % 7 == 0 {
                                outbox.flush().unwrap();
                            }
                        }
                        session.outbox().flush().unwrap();
                    });
                }
            });
            let mut orders = Vec::new();
            for session in sessions.iter_mut().chain([&mut watcher]) {
                let mut order = Vec::new();
                while order.len() < 2 * EACH {
                    if let Event::Message(message) = next(session) {
                        order.push((message.sender().to_string(), message.data().to_vec()));
                    }
                }
                orders.push(order);
            }
            assert!(orders.iter().all(|order| *order == orders[0]), "{place}: two orders");
            for name in names {
                let of_one = orders[0].iter().filter(|(sender, _)| *sender == name);
                let numbers: Vec<_> = of_one.map(|(_, data)| data.clone()).collect();
                let sent: Vec<_> = (0..EACH).map(|n| n.to_le_bytes().to_vec()).collect();
                assert!(numbers == sent, "{place}: the order of {name}");
            }
        },
    );
}

#[test]
fn ping_pong_works_however_the_sides_wait() {
    for idle in ["park", "adaptive"] {
        everywhere(
            |setup| setup.idle(idle),
            |place| {
                for (wait, name) in waits().into_iter().zip(["alice", "bob", "carol"]) {
                    let mut session = place.member(name, "g");
                    session.inbox().set_wait(wait);
                    for number in 0..50_u32 {
                        let data = number.to_le_bytes();
                        session.multicast(Service::Agreed, &["g"], 0, &data).unwrap();
                        assert!(matches!(
                            session.receive().unwrap(),
                            Event::Message(message) if message.data() == data
                        ));
                    }
                    // Else the next one's view would come in between.
                    session.leave("g").unwrap();
                    assert!(matches!(session.receive().unwrap(), Event::SelfLeave { .. }));
                }
            },
        );
    }
}

#[test]
fn views_tell_who_came_and_went() {
    everywhere(
        |setup| setup,
        |place| {
            let mut alice = place.member("alice", "g");
            let mut bob = place.member("bob", "g");
            let bobs_name = bob.private_group().to_string();
            let cause = |session: &mut Session| {
                let Event::View(view) = next(session) else { panic!("no view") };
                assert_eq!(view.group(), "g");
                let members = view.members().map(|name| name.to_string()).collect::<Vec<_>>();
                (format!("{:?}", view.cause()), members.len())
            };
            let join = cause(&mut alice);
            assert!(join.0.contains("Join") && join.0.contains(&bobs_name) && join.1 == 2);
            bob.leave("g").unwrap();
            assert!(matches!(next(&mut bob), Event::SelfLeave { group } if group == "g"));
            let leave = cause(&mut alice);
            assert!(leave.0.contains("Leave") && leave.1 == 1, "{leave:?}");
            drop(bob);
            let carol = place.member("carol", "g");
            assert_eq!(cause(&mut alice).1, 2);
            // Without a goodbye.
            drop(carol);
            let Event::View(view) = next(&mut alice) else { panic!("no view") };
            assert!(matches!(view.cause(), Cause::Disconnect(_)), "{:?}", view.cause());
        },
    );
}

#[test]
fn handshake_and_requests_are_refused_alike() {
    everywhere(
        |setup| setup,
        |place| {
            let mut alice = place.connect("alice");
            assert_eq!(alice.private_group().to_string(), "#alice#localhost");
            let again = Session::connect(&place.address(), &place.options().name("alice"));
            assert!(
                matches!(again, Err(ConnectError::Rejected(Reject::NotUnique))),
                "{place}: {again:?}"
            );
            let bodyless = alice.multicast(Service::Agreed, &["g"], 0, &[0; 144_000]);
            assert!(matches!(bodyless, Err(MulticastError::TooLong { .. })));
            assert!(matches!(alice.join("#x#y"), Err(MulticastError::IllegalGroup { .. })));
            alice.multicast(Service::Agreed, &["#alice#localhost"], 0, b"to myself").unwrap();
            assert_eq!(next_data(&mut alice), b"to myself");
        },
    );
}

#[test]
fn message_whose_data_could_not_be_written_leaves_nothing_behind() {
    everywhere(
        |setup| setup,
        |place| {
            let mut session = place.member("alice", "g");
            let multicast = Multicast::new(Service::Agreed);
            session.outbox().queue(Service::Agreed, &["g"], 0, b"before").unwrap();
            // Short ones, and one that finds no place in a record.
            for len in [10, 5_000, 140_000] {
                let outbox = session.outbox();
                let fill = |_: &mut [u8]| std::panic::panic_any("the data are not there");
                let fail = || outbox.multicast_fill(&multicast, &["g", "h"], len, fill);
                assert!(catch_unwind(AssertUnwindSafe(fail)).is_err(), "{place}");
            }
            session.multicast(Service::Agreed, &["g"], 0, b"after").unwrap();
            assert_eq!(next_data(&mut session), b"before", "{place}");
            assert_eq!(next_data(&mut session), b"after", "{place}");
        },
    );
}
