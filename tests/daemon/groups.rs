//! Names and groups over time.

use madrigal::wire::session::kind;

use crate::plainly;
use crate::support::{Client, Setup, drivers, until};

#[test]
fn name_is_free_once_its_session_is_over() {
    plainly(|daemon| {
        let mut watcher = Client::open(daemon, "watcher");
        watcher.join("g");
        watcher.receive();
        for round in 0..40 {
            let mut client = Client::open(daemon, "again");
            client.join("g");
            client.receive();
            watcher.receive();
            if round % 2 == 0 {
                client.disconnect();
            } else {
                client.half_close();
            }
            // The others hear of it before the name is free, and not later than the client.
            client.expect_end();
            let gone = watcher.receive();
            let (own, name) = (watcher.name.clone(), client.name.clone());
            gone.expect_view(kind::CAUSED_BY_DISCONNECT, "g", &[&own], &name);
        }
    });
}

#[test]
fn name_of_a_client_that_just_vanished_is_soon_free() {
    plainly(|daemon| {
        for _ in 0..20 {
            let mut client = until("the name is free", || {
                let mut client = Client::silent(daemon);
                client.say_hello("crash", false);
                (client.try_take(1) == [5]).then_some(client)
            });
            client.take(5);
            client.choose();
            client.take_accept();
        }
    });
}

#[test]
fn group_id_is_the_same_for_all_members_and_never_comes_back() {
    plainly(|daemon| {
        let (mut a, mut b) = (Client::open(daemon, "a"), Client::open(daemon, "b"));
        let mut ids = Vec::new();
        for _ in 0..10 {
            a.join("g");
            ids.push(a.receive().group_id());
            b.join("g");
            let (of_a, of_b) = (a.receive().group_id(), b.receive().group_id());
            assert_eq!(of_a, of_b);
            ids.push(of_a);
            a.leave("g");
            assert_eq!(a.receive().kind(), kind::CAUSED_BY_LEAVE);
            ids.push(b.receive().group_id());
            b.leave("g");
            assert_eq!(b.receive().kind(), kind::CAUSED_BY_LEAVE);
        }
        for (at, id) in ids.iter().enumerate() {
            assert!(!ids[..at].contains(id), "{id:?} twice");
        }
    });
}

#[test]
fn two_thousand_members_are_listed_in_order_and_all_get_the_message() {
    const MEMBERS: usize = 2_000;
    for (&driver, cores) in drivers().iter().zip([1, 3]) {
        let daemon = &Setup::new(driver).cores(cores).start();
        let mut first = Client::open(daemon, "first");
        first.join("g");
        first.receive();
        let mut crowd: Vec<_> = (0..MEMBERS)
            .map(|n| {
                let mut client = Client::open_plain(daemon, &format!("m{n}"));
                client.join("g");
                // Each in its turn, so that views can be foretold.
                let view = first.receive();
                assert_eq!(view.changed(), [client.name.as_str()]);
                assert_eq!(view.names().len(), n + 2);
                client
            })
            .collect();
        let mut last = Client::open(daemon, "last");
        last.join("g");
        let mut names: Vec<_> = crowd.iter().map(|client| client.name.clone()).collect();
        names.extend([first.name.clone(), last.name.clone()]);
        names.sort();
        for client in [&mut first, &mut last] {
            assert_eq!(client.receive().names(), names);
        }
        last.multicast(kind::SAFE, &["g"], b"to all");
        for client in crowd.iter_mut().chain([&mut first, &mut last]) {
            assert_eq!(client.receive().data(), b"to all");
        }
        drop(crowd);
        for left in (2..MEMBERS + 2).rev() {
            let (of_first, of_last) = (first.receive(), last.receive());
            assert_eq!(of_first, of_last);
            assert_eq!(of_first.kind(), kind::REGULAR | kind::CAUSED_BY_DISCONNECT);
            assert_eq!(of_first.names().len(), left);
        }
    }
}
