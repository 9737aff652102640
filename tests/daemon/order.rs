//! One order of everything, however sessions are spread over cores.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;

use madrigal::sim::rng::Rng;
use madrigal::wire::session::kind;

use crate::history::{History, judge};
use crate::support::{Client, Daemon, Setup, drivers, until};
use crate::{everywhere, plainly};

const GROUPS: [&str; 3] = ["red", "green", "blue"];

/// Services whose messages are in the total order.
const SERVICES: [u32; 4] = [kind::FIFO, kind::CAUSAL, kind::AGREED, kind::SAFE];

/// What one session sends: `count` requests, in pieces that have nothing to do with frames.
fn workload(client: &Client, random: &mut Rng, count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 1..=count {
        let group = *random.pick(&GROUPS);
        let frame = match random.below(10) {
            0 => client.frame(kind::JOIN, &[group]),
            1 => client.frame(kind::LEAVE, &[group]),
            _ => {
                let other = *random.pick(&GROUPS);
                let groups = &[group, other, "nobody"][..1 + random.index(3)];
                let mut data = number.to_le_bytes().to_vec();
                data.resize(4 + random.index(200), 0);
                client.frame(*random.pick(&SERVICES), groups).with_data(&data)
            }
        };
        bytes.extend_from_slice(frame.bytes());
    }
    bytes
}

/// Sends all of it, joined to all groups at first, and returns what has come meanwhile.
fn run(mut client: Client, mut random: Rng, count: u32) -> (Client, History) {
    for group in GROUPS {
        client.join(group);
    }
    let bytes = workload(&client, &mut random, count);
    let mut history = History { session: client.name.clone(), frames: Vec::new() };
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(1 + random.index(3_000)));
        client.send(piece);
        rest = later;
        history.frames.extend(std::iter::from_fn(|| client.receive_now()));
    }
    history.frames.extend(client.sync());
    (client, history)
}

fn check(daemon: &Daemon, seed: u64, sessions: usize, count: u32) {
    let mut random = Rng::new(seed);
    let running: Vec<_> = (0..sessions)
        .map(|n| {
            let name = format!("s{n}");
            let client = if n % 2 == 0 {
                Client::open(daemon, &name)
            } else {
                Client::open_tcp(daemon, &name)
            };
            let random = random.fork();
            thread::spawn(move || run(client, random, count))
        })
        .collect();
    let results: Vec<_> = running.into_iter().map(|thread| thread.join().unwrap()).collect();
    // All is ordered by now, but may not have come to all.
    let finish = |(mut client, mut history): (Client, History)| {
        history.frames.extend(client.sync());
        history
    };
    let histories: Vec<_> = results.into_iter().map(finish).collect();
    judge(&histories);
}

#[test]
fn sessions_on_all_cores_see_one_order_and_the_same_views() {
    for &driver in drivers() {
        for cores in [1, 2, 4] {
            let setup = Setup::new(driver).cores(cores);
            let daemon = setup.start();
            for seed in 0..2 {
                println!("on {setup}, seed {seed}");
                check(&daemon, seed, 6, 300);
            }
        }
    }
}

#[test]
fn requests_of_one_session_take_effect_in_their_order() {
    plainly(|daemon| {
        let mut client = Client::open(daemon, "a");
        let mut bytes = Vec::new();
        for round in 0..100_u8 {
            for (kind, data) in [
                (kind::AGREED, &[round, 0][..]),
                (kind::JOIN, &[]),
                (kind::SAFE, &[round, 1]),
                (kind::LEAVE, &[]),
                (kind::FIFO, &[round, 2]),
            ] {
                bytes.extend(client.frame(kind, &["g"]).with_data(data).bytes());
            }
        }
        client.send(&bytes);
        let name = client.name.clone();
        for round in 0..100 {
            client.receive().expect_view(kind::CAUSED_BY_JOIN, "g", &[&name], &name);
            assert_eq!(client.receive().data(), [round, 1]);
            assert_eq!(client.receive().kind(), kind::CAUSED_BY_LEAVE);
        }
        client.expect_nothing();
    });
}

#[test]
fn flood_of_one_client_does_not_starve_another() {
    let bounded = |setup: Setup| setup.section("memory", "pool_bytes_max = 140000000");
    everywhere(bounded, |daemon| {
        let flooder = Client::open(daemon, "flooder");
        let frame = flooder.frame(kind::AGREED, &["nobody", "#flooder#localhost"]);
        let one = frame.with_data(&[0; 1000]);
        let bytes = one.bytes().repeat(100);
        let (mut a, mut b) = (Client::open(daemon, "a"), Client::open_tcp(daemon, "b"));
        let (to_a, to_b) = (a.name.clone(), b.name.clone());
        let (rounds, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            // Ends the flood, also when the test fails.
            let _end = Raise(&stop);
            scope.spawn(|| {
                let mut flooder = flooder;
                while !stop.load(Relaxed) {
                    flooder.send(&bytes);
                    for _ in 0..100 {
                        flooder.receive();
                    }
                    rounds.fetch_add(1, Relaxed);
                }
            });
            let mut trips = 0_u32;
            until("200 round trips in 50 floods", || {
                let data = trips.to_le_bytes();
                a.multicast(kind::AGREED, &[&to_b], &data);
                assert_eq!(b.receive().data(), data);
                b.multicast(kind::AGREED, &[&to_a], &data);
                assert_eq!(a.receive().data(), data);
                trips += 1;
                (trips >= 200 && rounds.load(Relaxed) >= 50).then_some(())
            });
        });
    });
}

/// Raises a flag when it goes.
struct Raise<'f>(&'f AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
