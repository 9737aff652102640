//! Running out of descriptors: a connection is told so, nobody spins, and accepting goes on.
//!
//! A binary of its own with one test, as it lowers the limit of the whole process.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use madrigal::sys::{Choice, Driver, Event, Kind, Listener, Options, Stream, Wait};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const PATIENCE: Duration = Duration::from_secs(20);

/// Descriptors in all: enough for the test itself.
const LIMIT: u64 = 64;

#[test]
fn connections_without_a_descriptor_are_told() {
    let limit = getrlimit(Resource::Nofile);
    let lowered = Rlimit { current: Some(LIMIT), maximum: limit.maximum };
    setrlimit(Resource::Nofile, lowered).unwrap();
    for choice in [Choice::Mio, Choice::IoUring] {
        match Driver::open(choice, &Options::default()) {
            Ok((driver, _)) => run(driver),
            Err(error) => println!("SKIPPED on {choice}: {error}"),
        }
    }
}

fn run(mut driver: Driver) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    driver.listen(Listener::unix(&path, 0o600).unwrap());
    turn(&mut driver);

    // While there is room, connections are taken as ever.
    let before = UnixStream::connect(&path).unwrap();
    let Outcome::Accepted(kept) = next(&mut driver) else { panic!("there was room") };

    let hoard = hoard_all_but(1);
    for round in 0..3 {
        let mut refused = connect(&path);
        let Outcome::Refused = next(&mut driver) else { panic!("round {round}: no room") };
        let mut bytes = Vec::new();
        refused.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"!", "round {round}");
    }
    assert_eq!(driver.counts().overflows, 3);

    // Nobody waits: no turn may come back without need.
    let turns = turns_within(&mut driver, Duration::from_millis(200));
    assert!(turns < 50, "{turns} turns with nothing to do");

    // Room again: accepted again, also the usual way from then on.
    drop(hoard);
    for _ in 0..3 {
        let _client = connect(&path);
        let Outcome::Accepted(_) = next(&mut driver) else { panic!("there is room again") };
    }
    assert_eq!(driver.counts().overflows, 3);
    drop((before, kept));
    assert!(matches!(driver.kind(), Kind::IoUring | Kind::Mio));
}

enum Outcome {
    Accepted(Stream),
    Refused,
}

/// Turns until a connection was taken, one way or the other.
fn next(driver: &mut Driver) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline);
        driver.turn(Wait::For(Duration::from_millis(100))).unwrap();
        match driver.next_event() {
            None => {}
            Some(Event::Accepted { stream, .. }) => return Outcome::Accepted(stream),
            Some(Event::Overflow { stream, .. }) => {
                assert_eq!(stream.write_now(b"!").unwrap(), 1);
                drop(stream);
                return Outcome::Refused;
            }
            Some(other) => panic!("{other:?}"),
        }
    }
}

fn turn(driver: &mut Driver) {
    driver.turn(Wait::No).unwrap();
    assert!(driver.next_event().is_none());
}

/// How many turns come back in `time`, though there is nothing to do.
fn turns_within(driver: &mut Driver, time: Duration) -> usize {
    let end = Instant::now() + time;
    let mut turns = 0;
    while Instant::now() < end {
        driver.turn(Wait::For(time)).unwrap();
        assert!(driver.next_event().is_none());
        turns += 1;
    }
    turns
}

/// Opens files until only `left` descriptors are free.
fn hoard_all_but(left: usize) -> Vec<File> {
    let mut files: Vec<_> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    files.truncate(files.len() - left);
    files
}

/// Connects with the one descriptor that is free.
fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
