//! What does the ordering core cost by itself, without the kernel: a visit of the token, a packet
//! sent, a packet accepted, a message delivered, a ring formed?
//!
//! Under criterion it is timed. `scripts/instructions` runs the same scenarios under callgrind,
//! whose counts do not vary with what else the machine does.

mod cluster;

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use madrigal::base::buffer::Heap;
use madrigal::base::{Counter, Rank, Seq, Service, Store};
use madrigal::mem::{Pool, PoolOptions};
use madrigal::protocol::options::Options;
use madrigal::wire::data::{DATA_HEADER_BYTES, PART_HEADER_BYTES};
use madrigal::wire::header::Envelope;
use madrigal::wire::token::{Ranges, TokenHeader};

use cluster::{CLUSTER, Cluster};

/// Messages submitted for each turn of a daemon: enough that what is done once a turn vanishes.
const TURN_MESSAGES: usize = 256;

/// Bytes of a message that fills a packet alone.
fn full() -> usize {
    Options::default().datagram_bytes - DATA_HEADER_BYTES - PART_HEADER_BYTES
}

/// Adds up what is to be measured, and how many units of it there were.
#[derive(Default)]
struct Meter {
    runs: bool,
    time: Duration,
    units: u64,
    /// The time up to the last round.
    before: Duration,
    /// Nanoseconds of a unit in the round that was disturbed least.
    best_ns: Option<f64>,
}

impl Meter {
    fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        if !self.runs {
            return work();
        }
        let (result, time) = measured(work);
        self.time += time;
        result
    }

    /// Ends a round of so many units.
    fn round(&mut self, units: u64) {
        if self.runs {
            self.units += units;
            let ns = (self.time - self.before).as_nanos() as f64 / units as f64;
            self.best_ns = Some(self.best_ns.map_or(ns, |best| best.min(ns)));
            self.before = self.time;
        }
    }
}

/// By its name callgrind knows what to count.
#[inline(never)]
fn measured<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

fn pool() -> Pool {
    Pool::new(PoolOptions { bytes_max: 1 << 30 })
}

/// Visits of the token to daemon 1 of a ring, with nothing to send.
fn visits(meter: &mut Meter, daemons: usize, rounds: u64) {
    let mut cluster = Cluster::formed(daemons, &Options::default(), pool);
    let (now, daemon) = (cluster.now, &mut cluster.daemons[1]);
    let mut token = TokenHeader {
        ring: daemon.order.ring().expect("it runs"),
        hop: 1 << 32,
        to: Rank::new(1).expect("a rank"),
        tour: u8::MAX,
        handed: false,
        seq: Seq::ZERO,
        flow: 0,
        repeated: 0,
    };
    let envelope = Envelope { cluster: CLUSTER, sender: Rank::new(0).expect("a rank") };
    for round in 0..=rounds {
        meter.runs = round > 0;
        let next = |_| {
            token.hop += daemons as u64;
            let lags = std::iter::repeat_n(0, daemons);
            token.emit(lags, &Ranges::default(), envelope, &mut daemon.store)
        };
        let tokens: Vec<_> = (0..TURN_MESSAGES).filter_map(next).collect();
        let before = daemon.count(Counter::TokenVisits);
        meter.run(|| {
            for token in &tokens {
                daemon.order.handle_packet(now, token, &mut daemon.store);
                daemon.drain();
                black_box(daemon.order.poll_timeout());
            }
        });
        let visits = daemon.count(Counter::TokenVisits) - before;
        assert_eq!(visits, TURN_MESSAGES as u64);
        meter.round(visits);
        daemon.forget_sent();
    }
}

/// Which part of a rotation is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Daemon 0 takes messages and has the token; by the packet.
    Sent,
    /// Daemon 1 gets these packets, and delivers; by the packet.
    Accepted,
    /// The same, by the message.
    Delivered,
    /// All that all daemons do, when all of them send; by the message.
    Ring,
}

/// Rotations of the token under load.
fn load<S: Store>(
    meter: &mut Meter,
    part: Part,
    len: usize,
    rounds: u64,
    store: impl FnMut() -> S,
) {
    let mut cluster = Cluster::formed(3, &Options::default(), store);
    let payload = cluster.daemons[0].store.copy(&vec![7; len]).expect("room");
    let warm = 20;
    for round in 0..warm + rounds {
        meter.runs = round >= warm;
        let daemon = &cluster.daemons[1];
        let (packets, messages) = (daemon.count(Counter::PacketsReceived), daemon.messages);
        if part == Part::Ring {
            meter.run(|| {
                for me in 0..3 {
                    cluster.daemons[me].submit(
                        cluster.now,
                        Service::Agreed,
                        &payload,
                        TURN_MESSAGES,
                    );
                    cluster.turn(me);
                }
            });
        } else {
            rotate(meter, part, &mut cluster, &payload);
        }
        let daemon = &cluster.daemons[1];
        meter.round(match part {
            Part::Sent | Part::Accepted => daemon.count(Counter::PacketsReceived) - packets,
            Part::Delivered | Part::Ring => daemon.messages - messages,
        });
    }
}

/// One rotation in which daemon 0 sends.
fn rotate<S: Store>(meter: &mut Meter, part: Part, cluster: &mut Cluster<S>, payload: &S::Buffer) {
    for me in 0..3 {
        let now = cluster.now;
        let daemon = &mut cluster.daemons[me];
        let messages = if me == 0 { TURN_MESSAGES } else { 0 };
        let is_measured = match part {
            Part::Sent => me == 0,
            Part::Accepted | Part::Delivered => me == 1,
            Part::Ring => false,
        };
        let mut work = || {
            daemon.submit(now, Service::Agreed, payload, messages);
            daemon.turn(now);
        };
        if is_measured {
            meter.run(work)
        } else {
            work()
        }
        cluster.carry(me);
        cluster.now = cluster.now + Duration::from_micros(5);
    }
}

/// What storing the bytes of a full packet costs, which no design avoids: packets are kept for a
/// rotation or two.
fn copies(meter: &mut Meter, rounds: u64) {
    let (mut pool, bytes) = (pool(), vec![7; Options::default().datagram_bytes]);
    let mut kept = VecDeque::with_capacity(2 * TURN_MESSAGES);
    for round in 0..rounds + 4 {
        meter.runs = round >= 4;
        meter.run(|| {
            for _ in 0..TURN_MESSAGES {
                if kept.len() == kept.capacity() {
                    kept.pop_front();
                }
                kept.push_back(pool.copy(black_box(&bytes)));
            }
        });
        meter.round(TURN_MESSAGES as u64);
    }
}

/// A ring of so many daemons, from their start.
fn formations(meter: &mut Meter, daemons: usize, rounds: u64) {
    meter.runs = true;
    for _ in 0..rounds {
        let mut cluster = Cluster::new(daemons, &Options::default(), pool);
        meter.run(|| cluster.form());
        meter.round(1);
    }
}

/// Everything that is measured: its name, and how to do it so many rounds.
type Scenario = (&'static str, fn(&mut Meter, u64));

const SCENARIOS: [Scenario; 14] = [
    ("visit, ring of 3", |meter, rounds| visits(meter, 3, rounds)),
    ("visit, ring of 8", |meter, rounds| visits(meter, 8, rounds)),
    ("visit, ring of 128", |meter, rounds| visits(meter, 128, rounds)),
    ("copy of a full packet", copies),
    ("full packet sent", |meter, rounds| load(meter, Part::Sent, full(), rounds, pool)),
    ("full packet accepted", |meter, rounds| load(meter, Part::Accepted, full(), rounds, pool)),
    ("1024 B message sent and split into packets", |meter, rounds| {
        load(meter, Part::Sent, 1024, rounds, pool);
    }),
    ("1024 B message delivered", |meter, rounds| {
        load(meter, Part::Delivered, 1024, rounds, pool);
    }),
    ("64 B message delivered", |meter, rounds| load(meter, Part::Delivered, 64, rounds, pool)),
    ("64 B message, all of a ring of 3", |meter, rounds| {
        load(meter, Part::Ring, 64, rounds, pool);
    }),
    ("1350 B message, all of a ring of 3", |meter, rounds| {
        load(meter, Part::Ring, 1350, rounds, pool);
    }),
    ("1350 B message, all of a ring of 3, on the heap", |meter, rounds| {
        load(meter, Part::Ring, 1350, rounds, || Heap);
    }),
    ("ring of 8 formed", |meter, rounds| formations(meter, 8, rounds)),
    ("ring of 128 formed", |meter, rounds| formations(meter, 128, rounds)),
];

fn time(group: &mut BenchmarkGroup<'_, WallTime>, (name, run): Scenario) {
    if name.contains("1350 B") {
        group.throughput(Throughput::Bytes(1350));
    } else {
        group.throughput(Throughput::Elements(1));
    }
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut meter = Meter::default();
            // A round is many units; criterion wants the time of so many of these.
            let rounds = if name.contains("formed") {
                iterations
            } else {
                iterations.div_ceil(TURN_MESSAGES as u64)
            };
            run(&mut meter, rounds);
            meter.time.mul_f64(iterations as f64 / meter.units as f64)
        });
    });
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        // For `scripts/instructions`: which scenario, how many rounds.
        [flag, index, rounds] if flag == "--count" => {
            let (index, rounds): (usize, u64) = (number(index) as usize, number(rounds));
            let Some((name, run)) = SCENARIOS.get(index) else { return };
            let mut meter = Meter::default();
            run(&mut meter, rounds);
            println!("{} {:.1} {name}", meter.units, meter.best_ns.unwrap_or_default());
        }
        _ => {
            let mut criterion = Criterion::default().configure_from_args();
            let mut group = criterion.benchmark_group("order");
            SCENARIOS.into_iter().for_each(|scenario| time(&mut group, scenario));
            group.finish();
            criterion.final_summary();
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
