//! `madrigal bench latency`: how long a message takes from one session to another.

mod open_loop;
mod ping_pong;

use std::path::PathBuf;
use std::time::Duration;

use madrigal::base::limits::{BODY_BYTES_MAX, GROUP_NAME_BYTES};
use madrigal::client::{Event, Session};
use serde_json::{Map, Value, json};

use super::latency_histogram::Latencies;
use super::machine::cpu_time;
use super::metric::{Metric, Unit};
use super::options::{Common, Side};
use super::page::{Target, page};
use super::report::Report;
use crate::connect::settle;
use crate::failure::{Context, Result, failed};
use crate::units::{parse_rate, show_count, show_ns};

/// Text below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  madrigal bench latency                       ping-pong through the daemon on port 4803
  madrigal bench latency --pid $(pidof madrigald) --yardstick
  madrigal bench latency --echo --transport shm --wait spin --pin 1
  madrigal bench latency --rate 10k --duration 10s
  madrigal bench latency --wait adaptive --compare 4804 --rounds 5

Without --rate, two sessions play ping-pong, and a latency is half of a round trip. With it,
messages are sent at times fixed in advance, and a latency counts from that time (corrected for
coordinated omission). See docs/bench.md.

Clients that spin want a CPU each, and the daemon another one. The third example is for a daemon
with idle = \"spin\" and pin = [0] in [cores], which leaves CPU 1 to the client: one that may run
there as well waits until the client is made to pause, for milliseconds.";

/// Bytes that number a message.
const NUMBER_BYTES: usize = 8;

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
    /// One session sends to itself, and a latency is the time until the message is back: one way,
    /// twice through the transport.
    #[arg(long, conflicts_with_all = ["rate", "echo_address", "compare_echo_address"])]
    echo: bool,
    /// Write a page with the percentiles as a plot: one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write the percentiles of the first daemon as a table, for HdrHistogram's plotters.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
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
    // First: no result may be lost because it cannot be put anywhere.
    let page_target = args.report.as_deref().map(Target::open).transpose()?;
    let table_target = args.hgrm.as_deref().map(Target::open).transpose()?;
    let yardstick = common.measure_yardstick()?;
    let (ours, theirs) = common.alternate(|side| match args.rate {
        None if args.echo => ping_pong::run_echo(args, side),
        None => ping_pong::run(args, side),
        Some(rate) => open_loop::run(args, side, rate),
    })?;
    let how = match args.rate {
        None if args.echo => "echo, the way to the daemon and back".to_owned(),
        None => "ping-pong, one way = half of a round trip".to_owned(),
        Some(rate) => format!("open loop, {} msg/s, from the intended time", show_count(rate)),
    };
    let mut details = Map::new();
    details.insert("rounds_address".into(), ours.iter().map(Round::to_json).collect());
    details.insert("rounds_compare".into(), theirs.iter().map(Round::to_json).collect());
    let wait = common.wait.as_str();
    let report = Report {
        common,
        bench: "latency",
        title: format!(
            "{} B {}, {how}, by {}, clients {wait}",
            common.size,
            common.service,
            common.carriers.names()
        ),
        settings: json!({
            "mode": args.mode(),
            "transport": common.transport.as_str(),
            "rate_per_s": args.rate,
            "echo_address": args.echo_address,
            "compare_echo_address": args.compare_echo_address,
        }),
        notes: [notes(common, &ours, &theirs, yardstick.as_ref()), common.notes(args.threads())?]
            .concat(),
        ours: ours.iter().map(Round::to_metrics).collect(),
        theirs: theirs.iter().map(Round::to_metrics).collect(),
        details,
        yardstick,
    };
    let printed = report.print();
    if let Some(target) = table_target {
        target.write(&merge(&ours).to_hgrm())?;
    }
    if let Some(target) = page_target {
        let sides = [(&common.address, &ours)].into_iter();
        let sides = sides.chain(common.compare.as_ref().map(|name| (name, &theirs)));
        let curves = sides.map(|(name, rounds)| (name.clone(), merge(rounds).curve())).collect();
        target.write(&page(&report.to_text(), curves)?)?;
    }
    printed
}

/// The latencies of all rounds.
fn merge(rounds: &[Round]) -> Latencies {
    let mut all = Latencies::new();
    rounds.iter().for_each(|round| all.add(&round.latencies));
    all
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
        let all = merge(rounds);
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
        let all = merge(ours);
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
    fn mode(&self) -> &'static str {
        match (self.rate, self.echo) {
            (Some(_), _) => "open-loop",
            (None, true) => "echo",
            (None, false) => "ping-pong",
        }
    }

    /// Threads of the bench itself.
    fn threads(&self) -> usize {
        if self.echo { 1 } else { 2 }
    }

    fn echo_address<'a>(&'a self, side: &Side<'a>) -> &'a str {
        let echo = if side.other { &self.compare_echo_address } else { &self.echo_address };
        echo.as_deref().unwrap_or(side.address)
    }
}

/// A group that no other run uses at the moment.
fn unused_group(what: &str) -> String {
    format!("bench-{what}-{}", std::process::id())
}

/// A session that is a member of `group`, by now.
fn member(common: &Common, address: &str, group: &str) -> Result<Session> {
    let mut session = common.session(address)?;
    session.join(group).context("cannot join")?;
    settle(&mut session)?;
    Ok(session)
}

/// CPU time that the daemon has used so far, where its processes are known.
fn daemon_cpu(pids: &[u32]) -> Result<Option<Duration>> {
    if pids.is_empty() { Ok(None) } else { cpu_time(pids).map(Some) }
}

fn unexpected(event: &Event<'_>) -> crate::failure::Failure {
    failed(format!("expected a message, received {}", crate::show::show_event(event)))
}
