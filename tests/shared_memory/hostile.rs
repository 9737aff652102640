//! Sessions that lie, scribble, stay silent or never stop ringing.

use madrigal::client::Transport;
use rustix::process::Signal;

use crate::support::{Daemon, Driver, Setup, drivers, until};
use crate::{Bystander, Random, Raw, await_holdings, holdings};

/// Where the words of the control page are.
const SUBMISSION_TAIL: usize = 0;
const DELIVERY_HEAD: usize = 640;
const RECORDS: usize = 4096;

/// Rounds of a scribbler, each with a daemon's session of its own.
const SCRIBBLERS: u64 = 60;

fn each_driver(test: impl Fn(Driver, usize)) {
    for &driver in drivers() {
        test(driver, 1);
        test(driver, 2);
    }
}

#[test]
fn each_lie_ends_the_session_that_told_it_and_nothing_else() {
    each_driver(|driver, cores| {
        let daemon = Setup::new(driver).cores(cores).start();
        let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
        bystander.check();
        let before = holdings(&daemon);
        // The records so far: hello, choice, join, each a header and its bytes.
        let next = |raw: &Raw| {
            let mut word = [0; 8];
            rustix::io::pread(&raw.memory, &mut word, SUBMISSION_TAIL as u64).unwrap();
            u64::from_ne_bytes(word)
        };
        let bytes = |len: u64| 1 << 32 | len;
        type Lie<'l> = (&'static str, Box<dyn Fn(&Raw) + 'l>);
        let record = |header: u64, words: u64| -> Box<dyn Fn(&Raw)> {
            Box::new(move |raw: &Raw| {
                let at = next(raw);
                raw.scribble(RECORDS + 8 * at as usize, header);
                raw.scribble(SUBMISSION_TAIL, at + words);
            })
        };
        let tail = |tail: u64| -> Box<dyn Fn(&Raw)> {
            Box::new(move |raw: &Raw| raw.scribble(SUBMISSION_TAIL, tail))
        };
        let lies: Vec<Lie<'_>> = vec![
            ("a tail that goes back", tail(1)),
            ("a tail beyond the queue", tail(1 << 20)),
            ("a tail at the end of time", tail(u64::MAX)),
            ("a record longer than what is published", record(bytes(100), 2)),
            ("a record longer than the queue", record(bytes(1 << 31), 2)),
            ("a record of no kind", record(8, 2)),
            ("a record of an unknown kind", record(7 << 32 | 8, 2)),
            ("a filler longer than what is published", record(2 << 32 | 80, 2)),
            (
                "a head beyond what was published",
                Box::new(|raw: &Raw| {
                    raw.scribble(DELIVERY_HEAD, 1 << 40);
                }),
            ),
        ];
        let count = lies.len() as u64;
        for (number, (what, lie)) in lies.into_iter().enumerate() {
            let raw = Raw::member(&daemon, &format!("liar{number}"));
            lie(&raw);
            // The head is looked at when the queue seems full.
            while raw.ring() && what.contains("head") {
                bystander
                    .0
                    .multicast(madrigal::client::Service::Agreed, &["g"], 0, &[0; 999])
                    .unwrap();
                bystander.check();
            }
            raw.await_end();
            bystander.check();
        }
        daemon.wait_for_count("sessions_violated", count);
        await_holdings(&daemon, &mut bystander, before);
    });
}

#[test]
fn scribblers_over_every_byte_harm_nobody() {
    each_driver(|driver, cores| {
        let daemon = Setup::new(driver).cores(cores).idle("adaptive").start();
        let mut near = Bystander::new(&daemon, Transport::SharedMemory);
        let mut far = Bystander::new(&daemon, Transport::Socket);
        near.check();
        far.check();
        let before = holdings(&daemon);
        for seed in 0..SCRIBBLERS {
            let mut random = Random(seed);
            let raw = Raw::member(&daemon, &format!("s{seed}"));
            for step in 0..200 {
                let words = raw.sizes.region_bytes() / 8;
                // Control words, the records that come next, and everything.
                let word = match random.below(3) {
                    0 => 16 * random.below(8),
                    1 => RECORDS / 8 + random.below(64),
                    _ => random.below(words),
                };
                let value = match random.below(4) {
                    0 => random.next(),
                    1 => random.next() % 4096,
                    2 => ((1 + random.next() % 2) << 32) | (random.next() % 20_000),
                    _ => 0,
                };
                raw.scribble(8 * word, value);
                let rings = seed % 3 == 0 || seed % 3 == 1 && step % 8 == 0;
                if rings && !raw.ring() {
                    break;
                }
                if step % 50 == 0 {
                    let data = [0; 2000];
                    let service = madrigal::client::Service::Agreed;
                    near.0.multicast(service, &["g"], 0, &data).unwrap();
                    near.check();
                }
            }
            drop(raw);
            near.check();
            far.check();
        }
        assert!(daemon.counter("sessions_violated") > SCRIBBLERS / 4, "hardly any was found out");
        await_holdings(&daemon, &mut near, before);
    });
}

#[test]
fn one_that_never_stops_ringing_is_an_input_like_others() {
    each_driver(|driver, cores| {
        let daemon = Setup::new(driver).cores(cores).start();
        let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
        let raw = Raw::member(&daemon, "ringer");
        for _ in 0..200 {
            for _ in 0..50 {
                assert!(raw.ring(), "ringing is no offence");
            }
            bystander.check();
        }
        assert_eq!(daemon.counter("sessions_violated"), 0);
    });
}

#[test]
fn one_that_never_rings_is_heard_when_it_ends() {
    each_driver(|driver, cores| {
        let daemon = Setup::new(driver).cores(cores).start();
        let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
        bystander.check();
        let mut raw = Raw::member(&daemon, "mute");
        let frame = crate::Frame::new(
            madrigal::wire::session::ByteOrder::NATIVE,
            madrigal::wire::session::kind::AGREED,
            "#mute#localhost",
            &["bystanders"],
        );
        assert_eq!(raw.writer.write(frame.with_data(b"at last").bytes()), Ok(true));
        let _ = raw.writer.publish();
        drop(raw);
        let event = bystander.0.receive_timeout(crate::PATIENCE).unwrap();
        let Some(madrigal::client::Event::Message(message)) = event else { panic!("{event:?}") };
        assert_eq!(message.data(), b"at last");
    });
}

#[test]
fn one_that_never_reads_is_dropped_as_slow() {
    each_driver(|driver, cores| {
        let bounds = "messages_max = 50";
        let daemon = Setup::new(driver).cores(cores).section("sessions", bounds).start();
        let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
        let raw = Raw::member(&daemon, "deaf");
        while raw.ring() {
            let service = madrigal::client::Service::Agreed;
            bystander.0.multicast(service, &["g"], 0, &[0; 999]).unwrap();
            bystander.check();
        }
        raw.await_end();
        daemon.wait_for_count("sessions_slow", 1);
    });
}

fn is_stopped(daemon: &Daemon) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    threads.into_iter().all(|thread| {
        let stat = thread.unwrap().path().join("stat");
        std::fs::read_to_string(stat).unwrap().contains(") T ")
    })
}

#[test]
fn daemon_that_is_stopped_and_continued_goes_on_where_it_was() {
    each_driver(|driver, cores| {
        let daemon = Setup::new(driver).cores(cores).start();
        let mut bystander = Bystander::new(&daemon, Transport::SharedMemory);
        for _ in 0..10 {
            bystander.check();
            daemon.signal(Signal::STOP);
            until("the daemon stands still", || is_stopped(&daemon).then_some(()));
            for number in 0..100_u8 {
                let service = madrigal::client::Service::Agreed;
                bystander.0.multicast(service, &["bystanders"], 0, &[number]).unwrap();
            }
            daemon.signal(Signal::CONT);
            for number in 0..100_u8 {
                let event = bystander.0.receive_timeout(crate::PATIENCE).unwrap();
                let Some(madrigal::client::Event::Message(message)) = event else { panic!() };
                assert_eq!(message.data(), [number]);
            }
        }
    });
}
