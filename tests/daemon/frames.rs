//! Sessions that break the protocol, and those that use it to the limit.

use std::time::Duration;

use madrigal::base::limits::{BODY_BYTES_MAX, DESTINATIONS_MAX, GROUP_NAME_BYTES};
use madrigal::sim::rng::Rng;
use madrigal::wire::session::{ByteOrder, Header, kind};

use crate::plainly;
use crate::support::{Client, Daemon, Frame};

/// A member of `g` that looks who else is.
fn watcher(daemon: &Daemon) -> Client {
    let mut watcher = Client::open(daemon, "watcher");
    watcher.join("g");
    watcher.receive();
    watcher
}

/// A client that has joined `g`, as the watcher has seen.
fn joined(daemon: &Daemon, watcher: &mut Client, name: &str) -> Client {
    let mut client = Client::open(daemon, name);
    client.join("g");
    assert!(client.receive().is_view());
    assert_eq!(watcher.receive().changed(), [client.name.as_str()]);
    client
}

/// The watcher sees one disconnect, and nothing else.
fn expect_gone(watcher: &mut Client, name: &str) {
    let own = watcher.name.clone();
    watcher.receive().expect_view(kind::CAUSED_BY_DISCONNECT, "g", &[&own], name);
    watcher.expect_nothing();
}

/// Headers that no session may send, one rule broken in each.
fn violations(client: &Client) -> Vec<(&'static str, Frame)> {
    let frame = || client.frame(kind::AGREED, &["g"]);
    let with = |change: fn(&mut Header)| frame().with_header(change);
    vec![
        ("no request", with(|header| header.kind = 0)),
        ("two services", with(|header| header.kind |= kind::SAFE)),
        ("join and kill", with(|header| header.kind = kind::JOIN | kind::KILL)),
        ("a view", with(|header| header.kind |= kind::REGULAR)),
        ("a transitional signal", with(|header| header.kind |= kind::TRANSITIONAL)),
        ("a reject", with(|header| header.kind |= kind::REJECT)),
        ("between daemons", with(|header| header.kind |= kind::GROUPS)),
        ("sender without end", with(|header| header.name = [b'x'; GROUP_NAME_BYTES])),
        ("no sender", with(|header| header.name = [0; GROUP_NAME_BYTES])),
        ("-1 destinations", with(|header| header.destinations = -1)),
        ("fewest destinations", with(|header| header.destinations = i32::MIN)),
        ("101 destinations", with(|header| header.destinations = 101)),
        ("most destinations", with(|header| header.destinations = i32::MAX)),
        ("-1 bytes", with(|header| header.data_len = -1)),
        ("fewest bytes", with(|header| header.data_len = i32::MIN)),
        ("one byte too many", with(|header| header.data_len = BODY_BYTES_MAX as i32 - 31)),
        ("most bytes", with(|header| header.data_len = i32::MAX)),
        ("odd hint", with(|header| header.hint[0] |= 1)),
    ]
}

#[test]
fn header_that_lies_ends_its_session_and_no_other() {
    plainly(|daemon| {
        let mut watcher = watcher(daemon);
        for (n, order) in [ByteOrder::Little, ByteOrder::Big].into_iter().enumerate() {
            let probe = Client::open(daemon, &format!("probe{n}")).with_order(order);
            for rule in 0..violations(&probe).len() {
                let name = format!("v{n}{rule}");
                let mut client = joined(daemon, &mut watcher, &name).with_order(order);
                let (what, frame) = violations(&client).swap_remove(rule);
                println!("{what}");
                // Only the header: it must be found out before its body comes.
                client.send(&frame.bytes()[..48]);
                client.expect_end();
                expect_gone(&mut watcher, &client.name);
            }
        }
    });
}

#[test]
fn half_a_byte_order_mark_ends_the_session() {
    plainly(|daemon| {
        let mut watcher = watcher(daemon);
        for (n, place) in [0, 3].into_iter().enumerate() {
            let mut client = joined(daemon, &mut watcher, &format!("half{n}"));
            let mut bytes = client.frame(kind::AGREED, &["g"]).bytes().to_vec();
            bytes[place] &= 0x7f;
            // With more behind it than any reading of its lengths would want.
            bytes.resize(200_000, 0);
            // The daemon closes before it has read all.
            let _ = client.try_send(&bytes);
            client.expect_end();
            expect_gone(&mut watcher, &client.name);
        }
    });
}

#[test]
fn client_that_vanishes_within_a_frame_is_one_disconnect() {
    plainly(|daemon| {
        let mut watcher = watcher(daemon);
        for (n, cut) in [0, 1, 47, 48, 79, 80, 81, 179].into_iter().enumerate() {
            let mut client = joined(daemon, &mut watcher, &format!("cut{n}"));
            let frame = client.frame(kind::SAFE, &["g"]).with_data(&[7; 100]);
            client.send(&frame.bytes()[..cut]);
            let name = client.name.clone();
            match n % 3 {
                0 => drop(client),
                1 => client.half_close(),
                _ => {
                    client.socket().set_linger(Some(Duration::ZERO)).unwrap();
                    drop(client);
                }
            }
            expect_gone(&mut watcher, &name);
        }
    });
}

#[test]
fn half_close_and_kill_are_disconnects_after_all_that_was_sent() {
    plainly(|daemon| {
        let mut watcher = watcher(daemon);
        for kill in [false, true] {
            let mut client = joined(daemon, &mut watcher, "leaver");
            let name = client.name.clone();
            let mut bytes = Vec::new();
            for n in 0..10 {
                bytes.extend(client.frame(kind::FIFO, &["g"]).with_data(&[n]).bytes());
            }
            if kill {
                bytes.extend(client.frame(kind::KILL, &[&name]).bytes());
                // It is not read any more.
                bytes.extend(client.frame(kind::FIFO, &["g"]).with_data(b"late").bytes());
            }
            client.send(&bytes);
            if !kill {
                client.half_close();
            }
            for n in 0..10 {
                assert_eq!(watcher.receive().data(), [n]);
            }
            expect_gone(&mut watcher, &name);
            client.end();
        }
    });
}

#[test]
fn noise_ends_sessions_and_harms_nobody() {
    plainly(|daemon| {
        let mut random = Rng::new(1);
        let mut watcher = watcher(daemon);
        for n in 0..60 {
            let mut client = joined(daemon, &mut watcher, &format!("noise{n}"));
            let mut bytes = client.frame(kind::AGREED, &["h"]).with_data(&[0; 64]).bytes().to_vec();
            // From a few changed bytes to nothing but noise.
            let changes = 1 + n * 4;
            for _ in 0..changes {
                let at = random.index(bytes.len());
                bytes[at] = random.bits() as u8;
            }
            // The daemon may close before it has read all.
            let _ = client.try_send(&bytes);
            let name = client.name.clone();
            client.half_close();
            client.end();
            let mut frames = watcher.sync();
            let last = frames.pop().expect("a disconnect");
            assert_eq!(last.changed(), [name], "{last:?}");
            // A changed destination can be `g` by chance; whatever else came is a message.
            assert!(frames.iter().all(|frame| !frame.is_view()), "{frames:?}");
        }
    });
}

#[test]
fn largest_messages_and_longest_lists_are_delivered_whole() {
    plainly(|daemon| {
        let (mut a, mut b) = (Client::open(daemon, "a"), Client::open_tcp(daemon, "b"));
        b.join("g");
        b.receive();
        let groups: Vec<String> = (0..DESTINATIONS_MAX).map(|n| format!("g{n}")).collect();
        let mut groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        groups[DESTINATIONS_MAX - 1] = "g";
        for groups in [&["g"][..], &groups[90..], &groups] {
            for len in [0, 1, BODY_BYTES_MAX - GROUP_NAME_BYTES * groups.len()] {
                let data: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
                let sent = a.frame(kind::SAFE, groups).with_data(&data);
                a.send(sent.bytes());
                assert_eq!(b.receive(), sent);
            }
        }
        a.expect_nothing();
        b.expect_nothing();
    });
}

#[test]
fn clients_of_both_byte_orders_understand_each_other() {
    plainly(|daemon| {
        let mut little = Client::open(daemon, "little");
        let mut big = Client::open(daemon, "big").with_order(ByteOrder::Big);
        let names = [big.name.clone(), little.name.clone()];
        little.join("g");
        little.receive().expect_view(kind::CAUSED_BY_JOIN, "g", &[&names[1]], &names[1]);
        big.join("g");
        for client in [&mut little, &mut big] {
            let view = client.receive();
            view.expect_view(kind::CAUSED_BY_JOIN, "g", &[&names[0], &names[1]], &names[0]);
        }
        for from_big in [false, true] {
            let (from, order) = if from_big {
                (&mut big, ByteOrder::Big)
            } else {
                (&mut little, ByteOrder::Little)
            };
            let sent = from.frame(kind::CAUSAL, &["g", "h"]).with_type(-2).with_data(b"12345678");
            from.send(sent.bytes());
            for client in [&mut little, &mut big] {
                let got = client.receive();
                // Integers in the daemon's order, the hint and the data in the sender's.
                assert_eq!(got.header().order, ByteOrder::NATIVE);
                assert_eq!(got.message_type(), (-2, order));
                assert_eq!(got.header().hint, sent.header().hint);
                assert_eq!((got.kind(), got.name()), (sent.kind(), sent.name()));
                assert_eq!((got.names(), got.data()), (sent.names(), sent.data()));
            }
        }
        big.leave("g");
        assert_eq!(big.receive().kind(), kind::CAUSED_BY_LEAVE);
        little.receive().expect_view(kind::CAUSED_BY_LEAVE, "g", &[&names[1]], &names[0]);
        big.disconnect();
        big.expect_end();
    });
}
