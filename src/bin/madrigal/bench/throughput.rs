//! `madrigal bench throughput`: how many messages get from senders to receivers in a second.

mod board;
mod flow;

use std::sync::Arc;
use std::time::{Duration, Instant};

use madrigal::base::limits::{BODY_BYTES_MAX, GROUP_NAME_BYTES};
use madrigal::client::{Service, Session};
use serde_json::{Map, Value, json};

use super::crew::{Crew, Progress};
use super::machine::cpu_time;
use super::metric::{MedianRange, Metric, Unit};
use super::options::{Common, Side};
use super::report::Report;
use crate::connect::settle;
use crate::failure::{Context, Result, failed, usage};
use crate::units::show_count;
use board::{Board, Reading};
use flow::{Flow, NUMBER_BYTES, Receiver, Sender};

/// Text below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  madrigal bench throughput                            one sender to one receiver
  madrigal bench throughput --receivers 10 --pid $(pidof madrigald)
  madrigal bench throughput --size 1000 --sweep        the best of several windows
  madrigal bench throughput --senders 3 --receivers 3 --compare 4804
  madrigal bench throughput -a 4803@a --cluster 4803@b,4803@c --senders 3 --receivers 3

A sender has at most --window messages on the way that not all receivers have yet, so that nobody
is overrun. Every receiver checks that each message comes once, in order, and with agreed and safe
that all receivers have seen the same order. See docs/bench.md.";

/// Messages on the way together, by default: less than the 1,000 at which Spread's daemon drops a
/// receiver.
const ON_THE_WAY: usize = 800;

/// How often it is looked whether `--count` messages have arrived.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Arguments of `madrigal bench throughput`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Further daemons of the cluster: senders and receivers are spread over all of them.
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    cluster: Vec<String>,
    /// With --compare: further daemons of the other cluster.
    #[arg(long, value_name = "ADDR", value_delimiter = ',', requires = "compare")]
    compare_cluster: Vec<String>,
    /// Sessions that send.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    senders: u16,
    /// Sessions that receive; all are members of the one group.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    receivers: u16,
    /// Messages of one sender on the way [default: 800 divided by the senders].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    window: Option<u32>,
    /// Messages in one write at most [default: half a window].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Try several windows and report the one with the most messages per second.
    #[arg(long, value_name = "WINDOW", value_delimiter = ',', num_args = 0..=1)]
    #[arg(default_missing_value = "50,100,200,400,800", conflicts_with = "window")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sweep: Vec<u32>,
}

/// One run's result.
#[derive(Clone, Copy)]
struct Run {
    window: u32,
    messages: u64,
    deliveries: u64,
    time: Duration,
    /// CPU time of the daemon.
    cpu: Option<Duration>,
    size: usize,
}

/// One round's result: the best of a sweep, and all of it.
struct Round {
    best: Run,
    all: Vec<Run>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result {
    let common = &args.common;
    common.check(NUMBER_BYTES, BODY_BYTES_MAX - GROUP_NAME_BYTES)?;
    let yardstick = common.measure_yardstick()?;
    let (ours, theirs) = common.alternate(|side| sweep(args, side))?;
    let windows = if args.sweep.is_empty() {
        format!("window {}", args.windows()[0])
    } else {
        format!("best of windows {:?}", args.sweep)
    };
    let mut notes = notes(common, &ours, &theirs);
    notes.extend(common.notes(usize::from(args.senders) + usize::from(args.receivers))?);
    if let Some(yardstick) = &yardstick {
        notes.push(String::new());
        notes.push(format!("messages of {} as multiples of the bare machine:", common.address));
        let rates: Vec<f64> = ours.iter().map(|round| round.best.messages_per_s()).collect();
        notes.extend(yardstick.rate_multiples(MedianRange::of(&rates).median));
    }
    let mut details = Map::new();
    details.insert("rounds_address".into(), ours.iter().map(Round::to_json).collect());
    details.insert("rounds_compare".into(), theirs.iter().map(Round::to_json).collect());
    Report {
        common,
        bench: "throughput",
        title: format!(
            "{} senders to {} receivers, {} B {}, {windows}, by {}, clients {}",
            args.senders,
            args.receivers,
            common.size,
            common.service,
            common.carriers.names(),
            common.wait.as_str()
        ),
        settings: json!({
            "transport": common.transport.as_str(),
            "cluster": args.cluster,
            "compare_cluster": args.compare_cluster,
            "senders": args.senders,
            "receivers": args.receivers,
            "windows": args.windows(),
            "batch": args.batch,
        }),
        ours: ours.iter().map(|round| round.best.to_metrics()).collect(),
        theirs: theirs.iter().map(|round| round.best.to_metrics()).collect(),
        notes,
        details,
        yardstick,
    }
    .print()
}

fn notes(common: &Common, ours: &[Round], theirs: &[Round]) -> Vec<String> {
    let mut lines = Vec::new();
    let names = [Some(&common.address), common.compare.as_ref()];
    for (rounds, name) in [ours, theirs].into_iter().zip(names) {
        let Some(name) = name else { continue };
        for round in rounds.iter().filter(|round| round.all.len() > 1) {
            let all = round.all.iter().map(|run| {
                let best = if run.window == round.best.window { "*" } else { "" };
                format!("{}: {}/s{best}", run.window, show_count(run.messages_per_s()))
            });
            lines.push(format!("  {name} by window: {}", all.collect::<Vec<_>>().join("  ")));
        }
    }
    lines.push("  every message arrived once at every receiver, in order".to_owned());
    lines
}

impl Args {
    /// The daemons of a side.
    fn addresses<'a>(&'a self, side: &Side<'a>) -> Vec<&'a str> {
        let further = if side.other { &self.compare_cluster } else { &self.cluster };
        [side.address].into_iter().chain(further.iter().map(String::as_str)).collect()
    }

    fn windows(&self) -> Vec<u32> {
        if !self.sweep.is_empty() {
            return self.sweep.clone();
        }
        let default = (ON_THE_WAY / usize::from(self.senders)).max(1) as u32;
        vec![self.window.unwrap_or(default)]
    }
}

impl Run {
    fn messages_per_s(&self) -> f64 {
        self.messages as f64 / self.time.as_secs_f64()
    }

    fn to_metrics(self) -> Vec<Metric> {
        let metric = |label, key, unit, value| Metric { label, key, unit, value };
        let rate = self.messages_per_s();
        let deliveries = self.deliveries as f64 / self.time.as_secs_f64();
        let megabytes = rate * self.size as f64 / 1e6;
        let mut metrics = vec![
            metric("messages", "messages_per_s", Unit::PerSecond, rate),
            metric("deliveries", "deliveries_per_s", Unit::PerSecond, deliveries),
            metric("payload", "mb_per_s", Unit::Megabytes, megabytes),
        ];
        if let Some(cpu) = self.cpu {
            let each = cpu.as_secs_f64() * 1e6 / self.messages.max(1) as f64;
            metrics.push(metric("daemon CPU/message", "cpu_per_message_us", Unit::CpuMicros, each));
        }
        metrics
    }
}

impl Round {
    fn to_json(&self) -> Value {
        let run = |run: &Run| {
            json!({
                "window": run.window,
                "messages": run.messages,
                "deliveries": run.deliveries,
                "time_s": run.time.as_secs_f64(),
                "messages_per_s": run.messages_per_s(),
            })
        };
        json!({ "window": self.best.window, "runs": self.all.iter().map(run).collect::<Vec<_>>() })
    }
}

fn sweep(args: &Args, side: &Side<'_>) -> Result<Round> {
    let all: Vec<Run> = args
        .windows()
        .into_iter()
        .map(|window| measure(args, side, window))
        .collect::<Result<_>>()?;
    let best = all.iter().max_by(|a, b| a.messages_per_s().total_cmp(&b.messages_per_s()));
    let best = *best.ok_or_else(|| usage("--sweep needs at least one window"))?;
    Ok(Round { best, all })
}

fn measure(args: &Args, side: &Side<'_>, window: u32) -> Result<Run> {
    let common = &args.common;
    let (senders, receivers) = (usize::from(args.senders), usize::from(args.receivers));
    let group = format!("bench-flow-{}", std::process::id());
    let sessions = connect(common, &args.addresses(side), &group, senders, receivers)?;
    let board = Arc::new(Board::new(senders, receivers));
    let progress = Progress::default();
    let mut crew = Crew::new(common.pinning());
    for (index, session) in sessions.receivers.into_iter().enumerate() {
        let (_, inbox) = session.split();
        let flows = vec![Flow::default(); senders];
        let board = Arc::clone(&board);
        let order = common.service >= Service::Fifo;
        let receiver = Receiver { index, inbox, flows, order, hash: 0, board };
        crew.hire(move || receiver.run().map(Some));
    }
    for (index, session) in sessions.senders.into_iter().enumerate() {
        let (outbox, _) = session.split();
        let sender = Sender {
            index,
            outbox,
            group: group.clone(),
            service: common.service,
            data: vec![0; common.size],
            window: u64::from(window),
            batch: u64::from(args.batch.unwrap_or((window / 2).max(1))),
            wait: common.to_wait(),
            board: Arc::clone(&board),
            sent: 0,
        };
        crew.hire(move || sender.run().map(|()| None));
    }
    let (start, end, cpu) = observe(common, side, &board, &mut crew, &progress)?;
    board.stop();
    let hashes: Vec<u64> = crew.finish(&progress)?.into_iter().flatten().collect();
    if common.service >= Service::Agreed && hashes.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(failed("two receivers saw the messages in different orders"));
    }
    Ok(Run {
        window,
        messages: end.messages - start.messages,
        deliveries: end.deliveries - start.deliveries,
        time: end.at - start.at,
        cpu,
        size: common.size,
    })
}

struct Sessions {
    senders: Vec<Session>,
    receivers: Vec<Session>,
}

/// Connects everybody, one after the other and to each daemon in turn, and waits until all
/// receivers are members.
fn connect(
    common: &Common,
    addresses: &[&str],
    group: &str,
    senders: usize,
    receivers: usize,
) -> Result<Sessions> {
    let to_next = |index: usize| common.session(addresses[index % addresses.len()]);
    let connect = |count| (0..count).map(to_next).collect::<Result<_>>();
    let mut sessions = Sessions { senders: connect(senders)?, receivers: connect(receivers)? };
    for session in &mut sessions.receivers {
        session.join(group).context("cannot join")?;
    }
    sessions.receivers.iter_mut().try_for_each(settle)?;
    Ok(sessions)
}

/// Lets the run warm up, then reads the board at the start and the end of what is measured.
fn observe<T: Send + 'static>(
    common: &Common,
    side: &Side<'_>,
    board: &Board,
    crew: &mut Crew<T>,
    progress: &Progress,
) -> Result<(Reading, Reading, Option<Duration>)> {
    let cpu = || if side.pids.is_empty() { Ok(None) } else { cpu_time(side.pids).map(Some) };
    crew.watch_until(Instant::now() + common.warmup)?;
    let (start, cpu_before) = (board.read(), cpu()?);
    match common.count {
        None => crew.watch_until(start.at + common.duration)?,
        Some(count) => {
            crew.watch_while(progress, LOOK_EVERY, |_| {
                let received = board.read().messages - start.messages;
                progress.set(received);
                received < count
            })?;
        }
    }
    let (end, cpu_after) = (board.read(), cpu()?);
    if end.messages == start.messages {
        return Err(failed("no message arrived while it was measured"));
    }
    Ok((start, end, cpu_after.zip(cpu_before).map(|(after, before)| after - before)))
}
