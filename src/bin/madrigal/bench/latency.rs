//! `madrigal bench latency`: how long a message takes from one session to another.

use std::time::{Duration, Instant};

use madrigal::base::limits::{BODY_BYTES_MAX, GROUP_NAME_BYTES};
use madrigal::client::{Event, Inbox, Outbox, ReceiveError, Service, Session};
use serde_json::{Map, Value, json};

use super::crew::{Crew, Progress};
use super::latency_histogram::Latencies;
use super::machine::cpu_time;
use super::metric::{Metric, Unit};
use super::options::{Common, Side, WaitArg};
use super::report::Report;
use crate::connect::settle;
use crate::failure::{Context, Result, failed};
use crate::pace::{Schedule, Until, sharp_timers, wait_until};
use crate::units::{parse_rate, show_count, show_ns};

/// Text below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  madrigal bench latency                       ping-pong through the daemon on port 4803
  madrigal bench latency --pid $(pidof madrigald) --yardstick
  madrigal bench latency --rate 10k --duration 10s
  madrigal bench latency --wait adaptive --compare 4804 --rounds 5

Without --rate, two sessions play ping-pong, and a latency is half of a round trip. With it,
messages are sent at times fixed in advance, and a latency counts from that time (corrected for
coordinated omission). See docs/bench.md.";

/// Bytes that number a message.
const NUMBER_BYTES: usize = 8;

/// Message type of the message that ends the echo.
const STOP: i16 = 1;

/// Arguments of `madrigal bench latency`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Daemon of the second session, if not the same [default: --address].
    #[arg(long, value_name = "ADDR")]
    echo_address: Option<String>,
    /// With --compare: the other daemon of the second session [default: --compare].
    #[arg(long, value_name = "ADDR", requires = "compare")]
    compare_echo_address: Option<String>,
    /// Send so many messages per second, as in 500 or 20k, whatever comes back.
    #[arg(short, long, value_parser = parse_rate)]
    rate: Option<f64>,
}

/// One round's result.
struct Round {
    latencies: Latencies,
    /// With a rate: how late the bench itself sent.
    lateness: Option<Latencies>,
    /// Messages while measured; a round trip is two.
    messages: u64,
    /// Time while measured.
    time: Duration,
    /// CPU time of the daemon while measured.
    cpu: Option<Duration>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result {
    let common = &args.common;
    common.check(NUMBER_BYTES, BODY_BYTES_MAX - GROUP_NAME_BYTES)?;
    let yardstick = common.measure_yardstick()?;
    let (ours, theirs) = common.alternate(|side| match args.rate {
        None => ping_pong(args, side),
        Some(rate) => open_loop(args, side, rate),
    })?;
    let how = match args.rate {
        None => "ping-pong, one way = half of a round trip".to_owned(),
        Some(rate) => format!("open loop, {} msg/s, from the intended time", show_count(rate)),
    };
    let mut details = Map::new();
    details.insert("rounds_address".into(), ours.iter().map(Round::to_json).collect());
    details.insert("rounds_compare".into(), theirs.iter().map(Round::to_json).collect());
    let wait = common.wait.as_str();
    Report {
        common,
        bench: "latency",
        title: format!("{} B {}, {how}, clients {wait}", common.size, common.service),
        settings: json!({
            "mode": if args.rate.is_some() { "open-loop" } else { "ping-pong" },
            "rate_per_s": args.rate,
            "echo_address": args.echo_address,
            "compare_echo_address": args.compare_echo_address,
        }),
        notes: notes(common, &ours, &theirs, yardstick.as_ref()),
        ours: ours.iter().map(Round::to_metrics).collect(),
        theirs: theirs.iter().map(Round::to_metrics).collect(),
        details,
        yardstick,
    }
    .print()
}

fn notes(
    common: &Common,
    ours: &[Round],
    theirs: &[Round],
    yardstick: Option<&super::yardstick::Yardstick>,
) -> Vec<String> {
    let mut lines = Vec::new();
    let names = [Some(&common.address), common.compare.as_ref()];
    for (rounds, name) in [ours, theirs].into_iter().zip(names) {
        let (Some(name), false) = (name, rounds.is_empty()) else { continue };
        let mut all = Latencies::new();
        rounds.iter().for_each(|round| all.add(&round.latencies));
        lines.push(String::new());
        lines.push(format!("{name}, {} measured:", show_count(all.summary().count as f64)));
        lines.extend(all.draw());
        let mut late = Latencies::new();
        rounds.iter().filter_map(|it| it.lateness.as_ref()).for_each(|it| late.add(it));
        if !late.is_empty() {
            let (p50, p99) = (show_ns(late.summary().p50), show_ns(late.summary().p99));
            lines.push(format!("  of which this bench sent late: p50 {p50}, p99 {p99}"));
        }
    }
    if let Some(yardstick) = yardstick {
        let mut all = Latencies::new();
        ours.iter().for_each(|round| all.add(&round.latencies));
        lines.push(String::new());
        lines.push(format!("{} as multiples of the bare machine:", common.address));
        lines.extend(yardstick.latency_multiples(all.summary().p50));
    }
    lines
}

impl Round {
    fn to_metrics(&self) -> Vec<Metric> {
        let it = self.latencies.summary();
        let metric = |label, key, unit, value| Metric { label, key, unit, value };
        let mut metrics = vec![
            metric("p50", "p50_ns", Unit::Nanoseconds, it.p50),
            metric("p90", "p90_ns", Unit::Nanoseconds, it.p90),
            metric("p99", "p99_ns", Unit::Nanoseconds, it.p99),
            metric("p99.9", "p999_ns", Unit::Nanoseconds, it.p999),
            metric("max", "max_ns", Unit::Nanoseconds, it.max),
            metric("mean", "mean_ns", Unit::Nanoseconds, it.mean),
        ];
        let rate = self.messages as f64 / self.time.as_secs_f64();
        metrics.push(metric("messages", "messages_per_s", Unit::PerSecond, rate));
        if let Some(cpu) = self.cpu {
            let each = cpu.as_secs_f64() * 1e6 / self.messages.max(1) as f64;
            metrics.push(metric("daemon CPU/message", "cpu_per_message_us", Unit::CpuMicros, each));
        }
        metrics
    }

    fn to_json(&self) -> Value {
        let mut object = self.latencies.summary().to_json();
        if let Some(lateness) = &self.lateness {
            object["sent_late"] = lateness.summary().to_json();
        }
        object
    }
}

impl Args {
    fn echo_address<'a>(&'a self, side: &Side<'a>) -> &'a str {
        let echo = if side.other { &self.compare_echo_address } else { &self.echo_address };
        echo.as_deref().unwrap_or(side.address)
    }
}

/// A group that no other run uses at the moment.
fn unused_group(what: &str) -> String {
    format!("bench-{what}-{}", std::process::id())
}

/// Two sessions that answer each other, each the only member of a group.
fn ping_pong(args: &Args, side: &Side<'_>) -> Result<Round> {
    let common = &args.common;
    let (ping_group, pong_group) = (unused_group("ping"), unused_group("pong"));
    let ping = member(common, side.address, &pong_group)?;
    let echo = member(common, args.echo_address(side), &ping_group)?;
    let progress = Progress::default();
    let mut crew = Crew::new(common.pinning());
    let pinger = Pinger {
        session: ping,
        group: ping_group,
        service: common.service,
        data: vec![0; common.size],
        number: 0,
        progress: progress.clone(),
    };
    let (extent, pids) = (Extent::of(common), side.pids.to_vec());
    crew.hire(move || pinger.run(&extent, &pids).map(Some));
    let service = common.service;
    crew.hire(move || send_back(echo, service, &pong_group).map(|()| None));
    let results = crew.finish(&progress)?;
    results.into_iter().flatten().next().ok_or_else(|| failed("no round was measured"))
}

/// A session that is a member of `group`, by now.
fn member(common: &Common, address: &str, group: &str) -> Result<Session> {
    let mut session = common.session(address)?;
    session.join(group).context("cannot join")?;
    settle(&mut session)?;
    Ok(session)
}

/// How much to measure.
struct Extent {
    warmup: Duration,
    duration: Duration,
    count: Option<u64>,
}

impl Extent {
    fn of(common: &Common) -> Self {
        let Common { warmup, duration, count, .. } = *common;
        Self { warmup, duration, count }
    }

    fn reached(&self, measured: u64, time: Duration) -> bool {
        match self.count {
            Some(count) => measured >= count,
            None => time >= self.duration,
        }
    }
}

struct Pinger {
    session: Session,
    group: String,
    service: Service,
    data: Vec<u8>,
    number: u64,
    progress: Progress,
}

impl Pinger {
    fn run(mut self, extent: &Extent, pids: &[u32]) -> Result<Round> {
        let warm = Instant::now() + extent.warmup;
        while Instant::now() < warm {
            self.turn()?;
        }
        let cpu_before = daemon_cpu(pids)?;
        let mut latencies = Latencies::new();
        let start = Instant::now();
        let (mut sent, mut turns) = (start, 0);
        while !extent.reached(turns, sent - start) {
            self.turn()?;
            let now = Instant::now();
            latencies.record((now - sent) / 2);
            (sent, turns) = (now, turns + 1);
        }
        let time = sent - start;
        let cpu = daemon_cpu(pids)?.zip(cpu_before).map(|(after, before)| after - before);
        self.session
            .multicast(self.service, &[&self.group], STOP, &self.data)
            .context("cannot send")?;
        Ok(Round { latencies, lateness: None, messages: 2 * turns, time, cpu })
    }

    /// There and back.
    fn turn(&mut self) -> Result {
        self.number += 1;
        self.progress.set(self.number);
        self.data[..NUMBER_BYTES].copy_from_slice(&self.number.to_le_bytes());
        self.session
            .multicast(self.service, &[&self.group], 0, &self.data)
            .context("cannot send")?;
        let event = self.session.receive().context("receiving failed")?;
        let Event::Message(message) = event else { return Err(unexpected(&event)) };
        if message.data() != self.data {
            return Err(failed(format!("message {} came back as another", self.number)));
        }
        Ok(())
    }
}

fn send_back(mut session: Session, service: Service, group: &str) -> Result {
    let mut data = Vec::new();
    loop {
        let event = session.receive().context("receiving failed")?;
        let Event::Message(message) = event else { return Err(unexpected(&event)) };
        if message.message_type() == STOP {
            return Ok(());
        }
        data.clear();
        data.extend_from_slice(message.data());
        session.multicast(service, &[group], 0, &data).context("cannot send")?;
    }
}

/// CPU time that the daemon has used so far, where its processes are known.
fn daemon_cpu(pids: &[u32]) -> Result<Option<Duration>> {
    if pids.is_empty() { Ok(None) } else { cpu_time(pids).map(Some) }
}

fn unexpected(event: &Event<'_>) -> crate::failure::Failure {
    failed(format!("expected a message, received {}", crate::show::show_event(event)))
}

/// What the threads of an open loop agree on.
#[derive(Clone, Copy)]
struct OpenLoop {
    schedule: Schedule,
    /// Messages before the first that is measured.
    warmup: u64,
    total: u64,
    service: Service,
    until: Until,
}

/// One session sends on schedule, another receives.
fn open_loop(args: &Args, side: &Side<'_>, rate: f64) -> Result<Round> {
    let common = &args.common;
    let group = unused_group("open");
    let receiver = member(common, args.echo_address(side), &group)?;
    let sender = common.session(side.address)?;
    let warmup = (common.warmup.as_secs_f64() * rate) as u64;
    let measured = common.count.unwrap_or((common.duration.as_secs_f64() * rate).ceil() as u64);
    // A little ahead, so that both threads are there in time for the first message.
    let start = Instant::now() + Duration::from_millis(20);
    let open_loop = OpenLoop {
        schedule: Schedule::new(start, rate),
        warmup,
        total: warmup + measured,
        service: common.service,
        until: if common.wait == WaitArg::Park { Until::Asleep } else { Until::OnTime },
    };
    let progress = Progress::default();
    let mut crew = Crew::new(common.pinning());
    let (plan, size) = (open_loop, common.size);
    crew.hire(move || plan.send(sender.split().0, &group, vec![0; size]));
    let (plan, seen) = (open_loop, progress.clone());
    crew.hire(move || plan.receive(receiver.split().1, &seen));
    crew.watch_until(open_loop.schedule.moment(warmup))?;
    let cpu_before = daemon_cpu(side.pids)?;
    let halves = crew.finish(&progress)?;
    let cpu = daemon_cpu(side.pids)?.zip(cpu_before).map(|(after, before)| after - before);
    join_halves(halves, measured, cpu, open_loop.schedule.moment(warmup))
}

/// What one thread of an open loop found.
enum Half {
    Sent { lateness: Latencies },
    Received { latencies: Latencies, end: Instant },
}

fn join_halves(
    halves: Vec<Half>,
    messages: u64,
    cpu: Option<Duration>,
    start: Instant,
) -> Result<Round> {
    let (mut sent, mut received) = (None, None);
    for half in halves {
        match half {
            Half::Sent { lateness } => sent = Some(lateness),
            Half::Received { latencies, end } => received = Some((latencies, end)),
        }
    }
    let (latencies, end) = received.ok_or_else(|| failed("nothing was received"))?;
    let time = end.saturating_duration_since(start);
    Ok(Round { latencies, lateness: sent, messages, time, cpu })
}

impl OpenLoop {
    fn send(&self, mut outbox: Outbox, group: &str, mut data: Vec<u8>) -> Result<Half> {
        sharp_timers();
        let mut lateness = Latencies::new();
        let mut index = 0;
        while index < self.total {
            wait_until(self.schedule.moment(index), self.until);
            let now = Instant::now();
            // After a delay everything that is due goes at once: the schedule never waits.
            let due = self.schedule.due(now).min(self.total);
            for index in index..due {
                if index >= self.warmup {
                    lateness.record(now - self.schedule.moment(index));
                }
                data[..NUMBER_BYTES].copy_from_slice(&index.to_le_bytes());
                outbox.queue(self.service, &[group], 0, &data).context("cannot send")?;
            }
            outbox.flush().context("cannot send")?;
            index = index.max(due);
        }
        Ok(Half::Sent { lateness })
    }

    fn receive(&self, mut inbox: Inbox, progress: &Progress) -> Result<Half> {
        let mut latencies = Latencies::new();
        for received in 0..self.total {
            let index = receive_number(&mut inbox)?;
            let now = Instant::now();
            // The weaker services promise no order, only that each message comes once.
            if index >= self.total || (index != received && self.service >= Service::Fifo) {
                return Err(failed(format!("message {index} came in the place of {received}")));
            }
            if index >= self.warmup {
                latencies.record(now - self.schedule.moment(index));
            }
            progress.set(received + 1);
        }
        Ok(Half::Received { latencies, end: Instant::now() })
    }
}

fn receive_number(inbox: &mut Inbox) -> Result<u64> {
    let event = inbox
        .receive()
        .map_err(|error: ReceiveError| failed(format!("receiving failed: {error}")))?;
    let Event::Message(message) = &event else { return Err(unexpected(&event)) };
    let number = message.data().first_chunk::<NUMBER_BYTES>();
    number.map(|bytes| u64::from_le_bytes(*bytes)).ok_or_else(|| unexpected(&event))
}
