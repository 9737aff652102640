//! Starting, stopping, and where clients find the daemon. `tests/madrigald.rs` has what concerns
//! the program itself: exit codes, signals, stale sockets.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use madrigal::wire::session::kind;

use crate::support::{Client, Setup, drivers};

#[test]
fn stopping_daemon_writes_out_what_was_delivered_and_leaves_nothing() {
    for &driver in drivers() {
        for cores in [1, 3] {
            let daemon = Setup::new(driver).cores(cores).start();
            let socket = daemon.socket();
            let mut receiver = Client::open(&daemon, "receiver");
            let mut sender = Client::open_tcp(&daemon, "sender");
            let to = receiver.name.clone();
            // More than the socket holds: some of it waits in the daemon when it is told to stop.
            const MESSAGES: u32 = 400;
            for n in 0..MESSAGES {
                let data = [&n.to_le_bytes()[..], &[0; 5_000]].concat();
                sender.multicast(kind::AGREED, &[&to], &data);
            }
            // All of it is ordered.
            sender.expect_nothing();
            let reader = std::thread::spawn(move || receiver.frames_to_end());
            let status = daemon.stop();
            assert_eq!(status.code(), Some(0), "{driver}");
            let frames = reader.join().unwrap();
            assert_eq!(frames.len(), MESSAGES as usize, "{driver} with {cores} cores");
            for (n, frame) in frames.iter().enumerate() {
                assert_eq!(frame.data()[..4], (n as u32).to_le_bytes());
            }
            sender.end();
            assert!(!socket.exists());
        }
    }
}

#[test]
fn client_that_does_not_read_cannot_keep_the_daemon_from_stopping() {
    for &driver in drivers() {
        let daemon = Setup::new(driver).start();
        let receiver = Client::open(&daemon, "receiver");
        let mut sender = Client::open(&daemon, "sender");
        let to = receiver.name.clone();
        for _ in 0..1_000 {
            sender.multicast(kind::AGREED, &[&to], &[0; 5_000]);
        }
        sender.expect_nothing();
        assert_eq!(daemon.stop().code(), Some(0), "{driver}");
        drop(receiver);
    }
}

#[test]
fn restarted_daemon_takes_over_the_socket_of_a_killed_one() {
    for &driver in drivers() {
        let setup = Setup::new(driver);
        let first = setup.start();
        let mut client = Client::open(&first, "a");
        let directory = first.directory();
        first.kill();
        client.expect_end();
        let second = setup.try_start_in(directory.clone()).unwrap();
        Client::open(&second, "a").expect_nothing();
        // While it lives, no other takes its socket.
        let Err(log) = setup.try_start_in(directory) else { panic!("two daemons on one socket") };
        assert!(log.contains("in use"), "{log}");
        Client::open(&second, "b").expect_nothing();
    }
}

#[test]
fn every_address_of_the_configuration_is_served() {
    for &driver in drivers() {
        let listen = "tcp = [\"127.0.0.1\", \"127.0.0.2\", \"::1\"]\nunix_mode = \"0640\"";
        let daemon = Setup::new(driver).listen(listen).start();
        let ips: Vec<IpAddr> = daemon.tcp().iter().map(|address| address.ip()).collect();
        assert_eq!(ips, ["127.0.0.1", "127.0.0.2", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        let mut clients: Vec<_> =
            daemon.tcp().iter().map(|&address| Client::tcp(address).unwrap()).collect();
        clients.push(Client::silent(&daemon));
        for (n, client) in clients.iter_mut().enumerate() {
            client.shake_hands(&format!("c{n}"), true);
            client.join("g");
            assert_eq!(client.receive().names().len(), n + 1);
        }
        let mode = std::fs::metadata(daemon.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
    }
}

#[test]
fn daemon_without_unix_socket_or_without_tcp_serves_the_other() {
    for &driver in drivers() {
        let daemon = Setup::new(driver).listen("unix = false\ntcp = [\"::1\"]").start();
        assert!(!daemon.socket().exists());
        Client::open_tcp(&daemon, "a").expect_nothing();
        let daemon = Setup::new(driver).listen("tcp = []").start();
        assert!(daemon.tcp().is_empty());
        Client::open(&daemon, "a").expect_nothing();
    }
}

#[test]
fn every_way_to_idle_serves_clients() {
    for &driver in drivers() {
        for cores in [1, 2] {
            for idle in ["spin", "adaptive", "park"] {
                let daemon = Setup::new(driver).cores(cores).idle(idle).start();
                let mut client = Client::open(&daemon, "a");
                for _ in 0..20 {
                    client.expect_nothing();
                }
            }
        }
    }
}
