//! Connections that are not sessions yet.

use std::time::{Duration, Instant};

use madrigal::wire::session::Reject;
use madrigal::wire::session::handshake::emit_auth_choice;

use crate::support::{Client, Daemon, Setup, drivers, until};
use crate::{everywhere, plainly};

fn expect_reject(client: &mut Client, reject: Reject) {
    assert_eq!(client.end().bytes, [reject.to_byte()], "{reject:?}");
}

#[test]
fn connection_that_stops_talking_is_closed_and_its_name_is_free() {
    let short = |setup: Setup| setup.section("sessions", "handshake_timeout_ms = 100");
    everywhere(short, |daemon| {
        let mut open = Client::silent(daemon);
        let mut silent = Client::silent(daemon);
        let mut greeting = Client::silent(daemon);
        greeting.send(b"\x05\x00\x01\x01\x05al");
        let mut choosing = Client::silent(daemon);
        choosing.say_hello("alice", true);
        let mut in_choice = Client::silent(daemon);
        in_choice.say_hello("bob", true);
        in_choice.send(&emit_auth_choice(&[b"NULL"])[..89]);
        // All in one write: no step of it can be late.
        open.send(&[&b"\x05\x00\x01\x01\x04open"[..], &emit_auth_choice(&[b"NULL"])].concat());
        assert_eq!(open.take(6), b"\x05NULL ");
        open.take_accept();
        // Each is told what was missing; who has said nothing is told nothing.
        silent.expect_end();
        expect_reject(&mut greeting, Reject::IllegalName);
        assert_eq!(choosing.end().bytes, b"\x05NULL \xf7");
        assert_eq!(in_choice.end().bytes, b"\x05NULL \xf7");
        for name in ["alice", "bob"] {
            let mut again = Client::silent(daemon);
            let hello = [&[5, 0, 1, 1, name.len() as u8], name.as_bytes()].concat();
            again.send(&[&hello[..], &emit_auth_choice(&[b"NULL"])].concat());
            again.take(6);
            again.take_accept();
        }
        open.expect_nothing();
    });
}

#[test]
fn each_code_turns_away_its_client_and_nobody_else() {
    // No timer may be what makes room again.
    let two = |setup: Setup| setup.section("sessions", "max = 2\nhandshake_timeout_ms = 600000");
    everywhere(two, |daemon| {
        let mut open = Client::open(daemon, "open");
        for (hello, reject) in [
            (&b"\x05\x00\x01\x01\x0babcdefghijk"[..], Reject::IllegalName),
            (b"\x05\x00\x01\x01\x80", Reject::IllegalName),
            (b"\x05\x00\x01\x01\x01\x7f", Reject::IllegalName),
            (b"\x05\x00\x01\x01\x04open", Reject::NotUnique),
            (b"\x03\x00\x01\x01a", Reject::Version),
            (b"\x00\x00\x00\x00\x00", Reject::Version),
        ] {
            for tcp in [false, true] {
                assert_eq!(answer(daemon, tcp, hello), [reject.to_byte()], "{hello:?}");
            }
        }
        for choice in [&[][..], &[&b"PWORD"[..]], &[b"NULL", b"IP"]] {
            let bytes = [&b"\x05\x00\x01\x01\x01a"[..], &emit_auth_choice(choice)].concat();
            assert_eq!(answer(daemon, true, &bytes), b"\x05NULL \xf7", "{choice:?}");
        }
        let mut second = until("room for a second", || try_open(daemon, "second"));
        for tcp in [false, true] {
            expect_reject(&mut connect(daemon, tcp), Reject::Quota);
        }
        second.disconnect();
        until("room again", || try_open(daemon, "third"));
        open.expect_nothing();
    });
}

fn connect(daemon: &Daemon, tcp: bool) -> Client {
    if tcp { Client::tcp(daemon.tcp()[0]).unwrap() } else { Client::silent(daemon) }
}

/// All that the daemon says to these bytes; the connection before this one may not be quite gone
/// yet, so being one too many is tried again.
fn answer(daemon: &Daemon, tcp: bool, bytes: &[u8]) -> Vec<u8> {
    until("room for one more", || {
        let mut client = connect(daemon, tcp);
        // It may be turned away before it has said anything.
        let _ = client.try_send(bytes);
        let answer = client.end().bytes;
        (answer != [Reject::Quota.to_byte()]).then_some(answer)
    })
}

/// A session, unless the daemon turns it away or closes.
fn try_open(daemon: &Daemon, name: &str) -> Option<Client> {
    let mut client = Client::unix(&daemon.socket()).ok()?;
    let hello = [&[5, 0, 1, 1, name.len() as u8], name.as_bytes()].concat();
    client.try_send(&hello).ok()?;
    if client.try_take(1) != [5] {
        return None;
    }
    assert_eq!(client.take(5), b"NULL ");
    client.choose();
    client.take_accept();
    Some(client)
}

#[test]
fn five_hundred_clients_that_connect_together_all_get_in() {
    const CLIENTS: usize = 500;
    plainly(|daemon| {
        // Every tenth says nothing: nobody waits for it.
        let silent: Vec<_> = (0..CLIENTS / 10).map(|n| connect(daemon, n % 2 == 0)).collect();
        let mut clients: Vec<_> = (0..CLIENTS).map(|n| connect(daemon, n % 2 == 0)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.say_hello(&format!("c{n}"), true);
        }
        for client in &mut clients {
            assert_eq!(client.take(6), b"\x05NULL ");
        }
        // In another order than they came.
        for client in clients.iter_mut().rev() {
            client.choose();
        }
        for (n, client) in clients.iter_mut().enumerate() {
            client.take_accept();
            assert_eq!(client.name, format!("#c{n}#localhost"));
        }
        drop(silent);
    });
}

#[test]
fn handshake_and_requests_may_come_byte_by_byte_or_all_at_once() {
    plainly(|daemon| {
        let hello = b"\x05\x00\x01\x01\x04drop";
        let mut client = Client::silent(daemon);
        client.socket().set_tcp_nodelay(true).ok();
        client.name = "#drop#localhost".to_owned();
        let own = client.name.clone();
        let message = client.frame(0x10, &[&own]).with_data(b"sync");
        let all = [&hello[..], &emit_auth_choice(&[b"NULL"]), message.bytes()].concat();
        for byte in &all {
            client.send(&[*byte]);
        }
        client.take(6);
        client.take_accept();
        assert_eq!(client.receive(), message);
        client.disconnect();
        client.end();
        let mut client = until("the name is free", || {
            let mut client = Client::silent(daemon);
            client.send(&all);
            (client.try_take(1) == [5]).then_some(client)
        });
        assert_eq!(client.take(5), b"NULL ");
        client.take_accept();
        assert_eq!(client.receive(), message);
    });
}

#[test]
fn daemon_without_descriptors_goes_on_and_recovers() {
    const DESCRIPTORS: usize = 60;
    for &driver in drivers() {
        let daemon = Setup::new(driver).descriptors(DESCRIPTORS).start();
        let (mut a, mut b) = (Client::open(&daemon, "a"), Client::open_tcp(&daemon, "b"));
        // More than there are descriptors. Who is neither in nor turned away waits to be accepted.
        let mut crowd: Vec<_> =
            (0..2 * DESCRIPTORS).map(|n| connect(&daemon, n % 2 == 0)).collect();
        for (n, client) in crowd.iter_mut().enumerate() {
            // Fails where it was closed already.
            let hello = format!("\x05\x00\x01\x01\x04{n:04}");
            let _ = client.try_send(hello.as_bytes());
        }
        let (mut inside, mut quota) = (0, 0);
        let deadline = Instant::now() + Duration::from_secs(2);
        for client in &mut crowd {
            match client.try_receive_byte(deadline.saturating_duration_since(Instant::now())) {
                Some(5) => inside += 1,
                Some(byte) if byte == Reject::Quota.to_byte() => quota += 1,
                Some(byte) => panic!("{byte:02x} is neither a list of methods nor a reject"),
                None => {}
            }
        }
        println!("{driver}: {inside} of {} in, {quota} told quota", crowd.len());
        assert!((10..DESCRIPTORS).contains(&inside), "{inside}");
        // Those who are in notice nothing.
        let private = b.name.clone();
        a.multicast(0x10, &[&private], b"still here");
        assert_eq!(b.receive().data(), b"still here");
        // As soon as there is room, everybody gets in again.
        drop(crowd);
        let after: Vec<_> = (0..10)
            .map(|n| until("room again", || try_open(&daemon, &format!("after{n}"))))
            .collect();
        drop(after);
        a.expect_nothing();
    }
}
