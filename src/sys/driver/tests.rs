//! One suite for both drivers: whatever differs between them is a defect.

mod bells;
mod random;
mod streams;
mod times;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::*;
use crate::base::Store;
use crate::mem::pool::{Pool, PoolOptions};

/// Longer than anything here takes, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes a test of each function, for each driver.
macro_rules! on_both_drivers {
    ($($(#[$meta:meta])* fn $name:ident($choice:ident) $body:block)*) => {
        mod io_uring {
            $($(#[$meta])* #[test] fn $name() {
                if $crate::sys::driver::tests::io_uring_works(stringify!($name)) {
                    super::$name(super::Choice::IoUring);
                }
            })*
        }
        mod mio {
            $($(#[$meta])* #[test] fn $name() { super::$name(super::Choice::Mio); })*
        }
        $(fn $name($choice: Choice) $body)*
    };
}
use on_both_drivers;

/// Says so, loudly, where this host forbids io_uring.
fn io_uring_works(test: &str) -> bool {
    match Driver::open(Choice::IoUring, &Options::default()) {
        Ok(_) => true,
        Err(error) => {
            println!("SKIPPED on io_uring: {test}: {error}");
            false
        }
    }
}

fn open(choice: Choice) -> Rig {
    open_with(choice, &Options::default())
}

fn open_with(choice: Choice, options: &Options) -> Rig {
    let (driver, _) = Driver::open(choice, options).unwrap();
    Rig { driver, seen: HashMap::new(), accepted: Vec::new(), woken: 0 }
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::new(Pool::new(PoolOptions { bytes_max: 1 << 30 }));
}

fn slice(bytes: &[u8]) -> Slice {
    POOL.with_borrow_mut(|pool| pool.copy(bytes)).unwrap()
}

/// Bytes that are different wherever one looks.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A driver, and what it reported.
struct Rig {
    driver: Driver,
    seen: HashMap<StreamKey, Seen>,
    accepted: Vec<Stream>,
    woken: usize,
}

/// What was reported of one stream.
#[derive(Debug, Default)]
struct Seen {
    received: Vec<u8>,
    receives: usize,
    ended: Option<Option<io::ErrorKind>>,
    sent: Vec<usize>,
    send_failed: Option<io::ErrorKind>,
}

impl Rig {
    /// One turn, and all its events.
    fn turn(&mut self, wait: Wait) {
        self.driver.turn(wait).unwrap();
        while let Some(event) = self.driver.next_event() {
            match event {
                Event::Accepted { stream, .. } => self.accepted.push(stream),
                Event::Overflow { .. } | Event::AcceptFailed { .. } => panic!("{event:?}"),
                Event::Received { stream, bytes } => {
                    assert!(!bytes.is_empty());
                    let seen = self.seen.entry(stream).or_default();
                    assert!(seen.ended.is_none(), "bytes after the end");
                    seen.received.extend_from_slice(bytes);
                    seen.receives += 1;
                }
                Event::Ended { stream, error } => {
                    let ended = error.map(|error| error.kind());
                    let seen = self.seen.entry(stream).or_default();
                    assert!(seen.ended.replace(ended).is_none(), "ended twice");
                }
                Event::Sent { stream, bytes } => {
                    self.seen.entry(stream).or_default().sent.push(bytes);
                }
                Event::SendFailed { stream, error } => {
                    self.seen.entry(stream).or_default().send_failed = Some(error.kind());
                }
                Event::Woken => self.woken += 1,
                Event::Datagrams { .. } => panic!("no datagram socket was attached"),
            }
        }
    }

    /// Turns until `done`.
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: not in time");
            self.turn(Wait::For(Duration::from_millis(100)));
        }
    }

    /// Turns until nothing more is to be had at once, some thousand times at most.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..5_000 {
            self.turn(Wait::For(Duration::from_millis(1)));
            quiet = if self.driver.ready() { 0 } else { quiet + 1 };
            if quiet == 3 {
                return;
            }
        }
    }

    fn seen(&mut self, stream: StreamKey) -> &mut Seen {
        self.seen.entry(stream).or_default()
    }

    /// A stream of the driver, and the other end of it.
    fn attach_pair(&mut self) -> (StreamKey, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        (self.driver.attach(ours.into()), theirs)
    }

    fn attach_tcp(&mut self) -> (StreamKey, TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        theirs.set_read_timeout(Some(PATIENCE)).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        (self.driver.attach(ours.into()), theirs)
    }

    fn send(&mut self, stream: StreamKey, bytes: &[u8]) {
        self.driver.send(stream, [slice(bytes)].iter());
    }

    fn next_accepted(&mut self) -> Stream {
        self.until("accept", |rig| !rig.accepted.is_empty());
        self.accepted.remove(0)
    }
}

#[test]
fn choices_survive_their_text() {
    for choice in [Choice::Auto, Choice::IoUring, Choice::Mio] {
        assert_eq!(choice.to_string().parse(), Ok(choice));
    }
    assert_eq!("epoll".parse::<Choice>(), Err(UnknownChoice));
}

#[test]
fn report_says_which_and_why() {
    let (driver, report) = Driver::open(Choice::Auto, &Options::default()).unwrap();
    assert_eq!(driver.kind(), report.kind);
    assert!(!report.reason.is_empty());
    assert!(!report.features.is_empty());
    println!("{report:?}");
    let (driver, report) = Driver::open(Choice::Mio, &Options::default()).unwrap();
    assert_eq!((driver.kind(), report.kind), (Kind::Mio, Kind::Mio));
    assert!(report.features.is_empty());
}

on_both_drivers! {
    fn waits_return_in_time(choice) {
        let mut rig = open(choice);
        rig.settle();
        rig.turn(Wait::No);
        let start = Instant::now();
        rig.turn(Wait::For(Duration::from_millis(30)));
        assert!(start.elapsed() >= Duration::from_millis(29), "{:?}", start.elapsed());
        assert!(!rig.driver.ready());
    }

    fn ready_tells_of_input_without_a_turn(choice) {
        let mut rig = open(choice);
        let (stream, mut theirs) = rig.attach_pair();
        rig.settle();
        assert!(!rig.driver.ready());
        theirs.write_all(b"x").unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !rig.driver.ready() {
            assert!(Instant::now() < deadline);
        }
        rig.turn(Wait::No);
        assert_eq!(rig.seen(stream).received, b"x");
    }

    fn dropping_with_everything_in_flight_is_sound(choice) {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let mut rig = open_with(choice, &Options { receive_buffers: 4, entries: 8 });
            let path = directory.path().join("socket");
            rig.driver.listen(Listener::unix(&path, 0o600).unwrap());
            let waiting: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
            let mut others = Vec::new();
            for index in 0..20 {
                let (stream, mut theirs) = rig.attach_pair();
                rig.driver.send(stream, [slice(&pattern(500_000, index)), slice(b"x")].iter());
                theirs.write_all(b"not received").unwrap();
                others.push(theirs);
            }
            let bell = rig.driver.bell();
            // Some of it submitted, some not.
            rig.driver.turn(Wait::No).unwrap();
            let (_, _late) = rig.attach_pair();
            drop(rig);
            bell.ring();
            assert!(!path.exists());
            for mut theirs in others {
                // Closed for good: the read ends, in one way or the other.
                let _ = theirs.read_to_end(&mut Vec::new());
            }
            drop(waiting);
        }
    }

    fn stale_keys_do_nothing(choice) {
        let mut rig = open(choice);
        let (old, _theirs) = rig.attach_pair();
        rig.settle();
        rig.driver.close(old);
        rig.settle();
        let (new, mut theirs) = rig.attach_pair();
        assert_ne!(old, new);
        rig.driver.pause(old);
        rig.driver.resume(old);
        rig.driver.close(old);
        rig.send(old, b"nobody gets this");
        assert!(!rig.driver.sending(old));
        rig.send(new, b"hello");
        assert!(rig.driver.sending(new));
        rig.until("sent", |rig| rig.seen(new).sent == [5]);
        let mut bytes = [0; 5];
        theirs.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        assert!(rig.seen.get(&old).is_none_or(|seen| seen.sent.is_empty()));
        let listener = rig.driver.listen(Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap());
        rig.driver.unlisten(listener);
        rig.settle();
        rig.driver.unlisten(listener);
    }
}
