//! What does a message cost that goes through a driver, compared with plain blocking calls?
//!
//! One thread echoes: with blocking calls, with `poll` and plain calls, or with a driver. Another
//! one sends and waits, always with blocking calls. The ways take turns within one run, so that
//! whatever else the machine does hits them alike; the median of the rounds is shown.
//!
//! `cargo bench --bench driver [-- ROUNDS]`

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use madrigal::base::Store;
use madrigal::mem::pool::{Pool, PoolOptions, Slice};
use madrigal::sys::{Choice, Driver, Event, Options, StreamKey, Wait};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of a small message.
const SMALL: usize = 64;

/// Bytes of one write in the flood.
const BLOCK: usize = 64 * 1024;

/// How the echoing side works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Blocking calls; with several streams, `poll` first.
    Plain,
    Driver(Choice, Idle),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    Park,
    Spin,
}

const WAYS: [Way; 5] = [
    Way::Plain,
    Way::Driver(Choice::Mio, Idle::Park),
    Way::Driver(Choice::IoUring, Idle::Park),
    Way::Driver(Choice::Mio, Idle::Spin),
    Way::Driver(Choice::IoUring, Idle::Spin),
];

impl Way {
    fn name(self) -> String {
        match self {
            Self::Plain => "plain calls".to_owned(),
            Self::Driver(choice, Idle::Park) => format!("{choice}, parked"),
            Self::Driver(choice, Idle::Spin) => format!("{choice}, spinning"),
        }
    }

    fn works(self) -> bool {
        match self {
            Self::Plain => true,
            Self::Driver(choice, _) => Driver::open(choice, &Options::default()).is_ok(),
        }
    }
}

/// What one round of one way took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Per message, or per block.
    wall: Duration,
    /// CPU of the echoing thread, per message or block.
    cpu: Duration,
}

fn main() {
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(9);
    println!("Median of {rounds} rounds; CPU is that of the echoing thread alone.");
    let ways: Vec<_> = WAYS.into_iter().filter(|way| way.works()).collect();
    show("1 stream, 64 B there and back", rounds, &ways, |way| ping_pong(way, 1, 20_000));
    show("16 streams, 64 B each there and back", rounds, &ways, |way| ping_pong(way, 16, 2_000));
    show("1 stream, blocks of 64 KB one way", rounds, &ways, |way| flood(way, 8_000));
}

fn show(question: &str, rounds: usize, ways: &[Way], run: impl Fn(Way) -> Taken) {
    let mut taken = vec![Vec::new(); ways.len()];
    for _ in 0..rounds {
        for (way, taken) in ways.iter().zip(&mut taken) {
            taken.push(run(*way));
        }
    }
    println!("\n{question}");
    for (way, mut taken) in ways.iter().zip(taken) {
        taken.sort_by_key(|taken| taken.wall);
        let wall = taken[rounds / 2].wall;
        taken.sort_by_key(|taken| taken.cpu);
        let cpu = taken[rounds / 2].cpu;
        println!("  {:22} {wall:>12.2?} each, CPU {cpu:>10.2?}", way.name());
    }
}

/// Sends a message on each stream, then waits for all of them, `times` times.
fn ping_pong(way: Way, streams: usize, times: u32) -> Taken {
    let (mut ours, theirs) = pairs(streams);
    let echo = std::thread::spawn(move || measured(|| echo(way, theirs)));
    let mut bytes = [7; SMALL];
    let start = Instant::now();
    for _ in 0..times {
        for stream in &mut ours {
            stream.write_all(&bytes).unwrap();
        }
        for stream in &mut ours {
            stream.read_exact(&mut bytes).unwrap();
        }
    }
    let wall = start.elapsed();
    drop(ours);
    let messages = times * streams as u32;
    Taken { wall: wall / messages, cpu: echo.join().unwrap() / messages }
}

/// Writes so many blocks as fast as the other side takes them.
fn flood(way: Way, blocks: u32) -> Taken {
    let (mut ours, theirs) = pairs(1);
    let start = Instant::now();
    let sink = std::thread::spawn(move || measured(|| sink(way, theirs)));
    for _ in 0..blocks {
        ours[0].write_all(&[7; BLOCK]).unwrap();
    }
    drop(ours);
    let cpu = sink.join().unwrap();
    Taken { wall: start.elapsed() / blocks, cpu: cpu / blocks }
}

fn pairs(count: usize) -> (Vec<UnixStream>, Vec<UnixStream>) {
    (0..count).map(|_| UnixStream::pair().unwrap()).unzip()
}

/// CPU that `work` takes on this thread.
fn measured(work: impl FnOnce()) -> Duration {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let start = now();
    work();
    now() - start
}

/// Sends everything back until all streams have ended.
fn echo(way: Way, streams: Vec<UnixStream>) {
    match way {
        Way::Plain if streams.len() == 1 => {
            for mut stream in streams {
                let mut bytes = [0; SMALL];
                while stream.read_exact(&mut bytes).is_ok() {
                    stream.write_all(&bytes).unwrap();
                }
            }
        }
        Way::Plain => echo_by_poll(streams),
        Way::Driver(choice, idle) => {
            let mut pool = Pool::new(PoolOptions { bytes_max: 64 << 20 });
            with_driver(choice, idle, streams, |stream, bytes, answers| {
                answers.push((stream, pool.copy(bytes).unwrap()));
            });
        }
    }
}

fn echo_by_poll(mut streams: Vec<UnixStream>) {
    let mut bytes = [0; SMALL];
    while !streams.is_empty() {
        let mut wanted: Vec<_> =
            streams.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
        poll(&mut wanted, None).unwrap();
        let ready: Vec<_> = wanted.iter().map(|wanted| !wanted.revents().is_empty()).collect();
        let mut ready = ready.into_iter();
        streams.retain_mut(|stream| {
            if !ready.next().unwrap() {
                return true;
            }
            let read = stream.read(&mut bytes).unwrap();
            read > 0 && stream.write_all(&bytes[..read]).is_ok()
        });
    }
}

/// Reads until the end.
fn sink(way: Way, streams: Vec<UnixStream>) {
    match way {
        Way::Plain => {
            let mut bytes = vec![0; 32 * 1024];
            for mut stream in streams {
                while stream.read(&mut bytes).unwrap() > 0 {}
            }
        }
        Way::Driver(choice, idle) => with_driver(choice, idle, streams, |_, _, _| {}),
    }
}

/// Runs a driver until all streams have ended. What `received` answers is sent with the next turn,
/// as a core does it.
fn with_driver(
    choice: Choice,
    idle: Idle,
    streams: Vec<UnixStream>,
    mut received: impl FnMut(StreamKey, &[u8], &mut Vec<(StreamKey, Slice)>),
) {
    let (mut driver, _) = Driver::open(choice, &Options::default()).unwrap();
    let mut left = streams.len();
    for stream in streams {
        stream.set_nonblocking(true).unwrap();
        driver.attach(stream.into());
    }
    let mut answers = Vec::new();
    while left > 0 {
        driver.turn(if idle == Idle::Park { Wait::Forever } else { Wait::No }).unwrap();
        while let Some(event) = driver.next_event() {
            match event {
                Event::Received { stream, bytes } => received(stream, bytes, &mut answers),
                Event::Ended { .. } => left -= 1,
                Event::Sent { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        // A send may still be under way where its event comes with the next turn only.
        answers.retain(|(stream, slice)| {
            let busy = driver.sending(*stream);
            if !busy {
                driver.send(*stream, [slice].into_iter());
            }
            busy
        });
    }
}
