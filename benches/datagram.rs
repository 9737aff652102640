//! What does a packet cost that comes or goes by a datagram socket of a driver?
//!
//! A thread with a driver answers; another one sends and waits, always with plain calls. The ways
//! take turns within one run, so that whatever else the machine does hits them alike; the median of
//! the rounds is shown.
//!
//! `cargo bench --bench datagram [-- ROUNDS]`

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use madrigal::sys::datagram::{DatagramSocket, Destination, RECEIVE_BYTES_MAX};
use madrigal::sys::{Choice, DatagramEvent, Driver, Event, Options, Wait};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// Bytes of a small packet: about those of a token.
const SMALL: usize = 64;

/// Bytes of a full packet.
const FULL: usize = 1_400;

/// Packets of a full train.
const TRAIN: usize = 45;

/// Packets that are on their way at once in the flood.
const WINDOW: usize = 8 * TRAIN;

/// The last packet has another size.
const END: usize = 1;

/// How packets are sent in the flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Trains,
    Singly,
}

/// What one round of one way took, per packet or exchange.
#[derive(Clone, Copy, Debug)]
struct Taken {
    wall: Duration,
    /// CPU of the thread with the driver.
    cpu: Duration,
}

fn main() {
    let rounds = std::env::args().filter_map(|word| word.parse().ok()).next().unwrap_or(9);
    println!("Median of {rounds} rounds; CPU is that of the thread with the driver alone.");
    show("a token comes; a packet of data and a token go", rounds, |choice| visits(choice, 10_000));
    show("packets of 1,400 B come in trains", rounds, |choice| {
        flood(choice, 4_000, Sending::Trains)
    });
    show("packets of 1,400 B come singly", rounds, |choice| flood(choice, 400, Sending::Singly));
}

fn show(question: &str, rounds: usize, run: impl Fn(Choice) -> Taken) {
    let choices = [Choice::Mio, Choice::IoUring];
    let works = |choice: &Choice| Driver::open(*choice, &Options::default()).is_ok();
    let choices: Vec<_> = choices.into_iter().filter(works).collect();
    let mut taken = vec![Vec::new(); choices.len()];
    for _ in 0..rounds {
        for (choice, taken) in choices.iter().zip(&mut taken) {
            taken.push(run(*choice));
        }
    }
    println!("\n{question}");
    for (choice, mut taken) in choices.iter().zip(taken) {
        taken.sort_by_key(|taken| taken.wall);
        let wall = taken[rounds / 2].wall;
        taken.sort_by_key(|taken| taken.cpu);
        let cpu = taken[rounds / 2].cpu;
        println!("  {choice:22} {wall:>12.2?} each, CPU {cpu:>10.2?}");
    }
}

/// A socket with room for everything here.
fn socket() -> (DatagramSocket, Destination) {
    let socket = DatagramSocket::unicast((Ipv4Addr::LOCALHOST, 0).into(), 0).unwrap();
    socket.reserve(8 << 20).unwrap();
    let address: SocketAddr = socket.address().unwrap();
    (socket, address.into())
}

/// Waits until there is something, and takes it.
fn wait_for_packet(socket: &mut DatagramSocket, into: &mut [u8]) -> usize {
    let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
    loop {
        if let Some(received) = socket.receive(into).unwrap() {
            return received.bytes;
        }
        let mut wanted = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)];
        assert_eq!(poll(&mut wanted, Some(&patience)).unwrap(), 1, "nothing comes");
    }
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

/// Answers each token by a packet of data and a token, as a daemon does at each visit.
fn visits(choice: Choice, times: u32) -> Taken {
    let (data, _) = socket();
    let (token, to) = socket();
    let (mut ours, back) = socket();
    let (_sink, elsewhere) = socket();
    let daemon = std::thread::spawn(move || {
        measured(|| {
            let (mut driver, _) = Driver::open(choice, &Options::default()).unwrap();
            let data = driver.attach_datagrams(data);
            let token = driver.attach_datagrams(token);
            let mut left = times;
            while left > 0 {
                driver.turn(Wait::Forever).unwrap();
                let mut came = 0;
                receive(&mut driver, |bytes| came += bytes.len() / SMALL);
                for _ in 0..came {
                    let packet = [IoSlice::new(&[7; SMALL])];
                    driver.send_datagrams(data, &elsewhere, &packet).unwrap();
                    driver.send_datagrams(token, &back, &packet).unwrap();
                    left -= 1;
                }
            }
        })
    });
    let mut bytes = vec![0; RECEIVE_BYTES_MAX];
    let start = Instant::now();
    for _ in 0..times {
        ours.send(&to, &[IoSlice::new(&[7; SMALL])]).unwrap();
        wait_for_packet(&mut ours, &mut bytes);
    }
    let wall = start.elapsed();
    Taken { wall: wall / times, cpu: daemon.join().unwrap() / times }
}

/// Sends so many trains while the other side says that it keeps up.
fn flood(choice: Choice, trains: usize, sending: Sending) -> Taken {
    let (data, to) = socket();
    let (mut ours, back) = socket();
    let sink = std::thread::spawn(move || measured(|| sink(choice, data, &back)));
    let packet = [7; FULL];
    let train = [IoSlice::new(&packet); TRAIN];
    let mut bytes = vec![0; RECEIVE_BYTES_MAX];
    let start = Instant::now();
    for sent in 0..trains {
        match sending {
            Sending::Trains => assert_eq!(ours.send(&to, &train).unwrap().calls, 1),
            Sending::Singly => {
                for packet in &train {
                    ours.send(&to, std::slice::from_ref(packet)).unwrap();
                }
            }
        }
        // Half a window ahead of what was confirmed.
        if sent >= 8 && sent % 4 == 0 {
            wait_for_packet(&mut ours, &mut bytes);
        }
    }
    ours.send(&to, &[IoSlice::new(&[0; END])]).unwrap();
    let cpu = sink.join().unwrap();
    let packets = (trains * TRAIN) as u32;
    Taken { wall: start.elapsed() / packets, cpu: cpu / packets }
}

/// Receives until the end, and confirms each half of a window.
fn sink(choice: Choice, data: DatagramSocket, back: &Destination) {
    let (mut driver, _) = Driver::open(choice, &Options::default()).unwrap();
    let data = driver.attach_datagrams(data);
    let (mut packets, mut confirmed, mut ended) = (0, 0, false);
    while !ended {
        driver.turn(Wait::Forever).unwrap();
        receive(&mut driver, |bytes| {
            ended |= bytes.len() == END;
            packets += bytes.len() / FULL;
        });
        while packets - confirmed >= WINDOW / 2 {
            confirmed += WINDOW / 2;
            driver.send_datagrams(data, back, &[IoSlice::new(&[7; SMALL])]).unwrap();
        }
    }
}

/// Takes everything that came.
fn receive(driver: &mut Driver, mut take: impl FnMut(&[u8])) {
    while let Some(event) = driver.next_event() {
        match event {
            Event::Datagrams { event: DatagramEvent::Received { bytes, .. }, .. } => take(bytes),
            other => panic!("{other:?}"),
        }
    }
}
