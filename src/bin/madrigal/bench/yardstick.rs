//! `madrigal bench yardstick`: what the bare machine can do, so that other results can be read as
//! multiples of it.

mod bare;
mod timing;

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::latency_histogram::Summary;
use super::machine::{Machine, allowed_cpus, pin};
use crate::failure::{Context, Result, failed, usage};
use crate::output::Output;
use crate::units::{show_count, show_ns, three_digits};
use bare::{End, EventFd, Futex, Queue, Stream, Udp, Waiting};
use timing::{on_own_thread, stream_rate, take_turns, time_call};

/// Messages in one batched write.
const BATCH: usize = 128;

/// Text below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  madrigal bench yardstick
  madrigal bench yardstick --size 1000 --pin 0,2 --json

No daemon is needed. Where there are several CPUs, which two are measured matters: neighbours may
share a core (see lscpu -e), and then tell each other sooner than others.";

/// Arguments of `madrigal bench yardstick`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Bytes of a message.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_000))]
    size: u32,
    /// Time given to each measurement.
    #[arg(long, value_name = "TIME", default_value = "500ms")]
    #[arg(value_parser = crate::units::parse_duration)]
    duration: Duration,
    /// The two CPUs to measure between, instead of the first two that are allowed.
    #[arg(long, value_name = "CPU,CPU", value_delimiter = ',')]
    pin: Vec<usize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was measured, one line of the result.
struct Row {
    key: &'static str,
    label: &'static str,
    figure: Figure,
}

/// What one measurement gave.
enum Figure {
    /// Half of each round trip.
    OneWay(Summary),
    /// Messages in a second.
    Rate(f64),
    /// Nanoseconds of one call.
    Call(f64),
}

/// The bare machine.
pub(crate) struct Yardstick {
    size: usize,
    cpus: Vec<usize>,
    rows: Vec<Row>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result {
    if !matches!(args.pin.len(), 0 | 2) {
        return Err(usage("--pin takes exactly two CPUs here, as in --pin 0,1"));
    }
    if args.duration.is_zero() {
        return Err(usage("--duration must be more than zero"));
    }
    let mut output = Output::new();
    let yardstick = Yardstick::measure(args.size as usize, args.duration, &args.pin)?;
    let machine = Machine::find();
    if args.json {
        let result = json!({ "machine": machine.to_json(), "yardstick": yardstick.to_json() });
        output.json(&result)?;
    } else {
        output.line(format!("machine: {}", machine.to_text()))?;
        for line in yardstick.to_text() {
            output.line(line)?;
        }
    }
    output.flush()
}

impl Yardstick {
    /// Measures everything, `time` each, between the two CPUs of `pin` or the first two allowed.
    pub(crate) fn measure(size: usize, time: Duration, pin: &[usize]) -> Result<Self> {
        let mut cpus = if pin.is_empty() { allowed_cpus()? } else { pin.to_vec() };
        cpus.truncate(2);
        let first = *cpus.first().ok_or_else(|| failed("no CPU to run on"))?;
        let mut bench = Bench { size, time, cpus: [first, first], rows: Vec::new() };
        bench.calls()?;
        bench.one_core()?;
        if let &[a, b] = &cpus[..]
            && a != b
        {
            bench.cpus = [a, b];
            bench.two_cores()?;
        }
        Ok(Self { size, cpus, rows: bench.rows })
    }

    /// A table for people.
    pub(crate) fn to_text(&self) -> Vec<String> {
        let mut lines = vec![format!(
            "bare machine, CPUs {:?}, {} B, one way = half of a round trip:",
            self.cpus, self.size
        )];
        for Row { label, figure, .. } in &self.rows {
            let figure = match figure {
                Figure::OneWay(it) => {
                    format!("p50 {:>8}  p99 {:>8}", show_ns(it.p50), show_ns(it.p99))
                }
                Figure::Rate(rate) => format!("{:>12} msg/s", show_count(*rate)),
                Figure::Call(ns) => format!("    {:>8}", show_ns(*ns)),
            };
            lines.push(format!("  {label:<52} {figure}"));
        }
        if self.cpus.len() < 2 {
            lines.push("  Only one CPU is allowed: nothing could be measured between two.".into());
        }
        lines
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("cpus".into(), json!(self.cpus));
        object.insert("size_bytes".into(), json!(self.size));
        for Row { key, figure, .. } in &self.rows {
            let value = match figure {
                Figure::OneWay(it) => {
                    json!({ "p50_ns": it.p50, "p99_ns": it.p99, "count": it.count })
                }
                Figure::Rate(rate) => json!({ "messages_per_s": rate.round() }),
                Figure::Call(ns) => json!({ "call_ns": ns }),
            };
            object.insert((*key).into(), value);
        }
        Value::Object(object)
    }

    /// A latency as multiples of the bare machine's, for people.
    pub(crate) fn latency_multiples(&self, p50_ns: f64) -> Vec<String> {
        let multiple = |row: &Row| {
            let Figure::OneWay(bare) = &row.figure else { return None };
            let times = three_digits(p50_ns / bare.p50.max(1.0));
            Some(format!("  p50 is {times:>6}x {} ({})", row.label, show_ns(bare.p50)))
        };
        self.rows.iter().filter_map(multiple).collect()
    }

    /// A throughput as multiples of the bare socket's, for people.
    pub(crate) fn rate_multiples(&self, per_second: f64) -> Vec<String> {
        let multiple = |row: &Row| {
            let Figure::Rate(bare) = row.figure else { return None };
            let times = three_digits(per_second / bare.max(1.0));
            Some(format!("  {times:>6}x {} ({} msg/s)", row.label, show_count(bare)))
        };
        self.rows.iter().filter_map(multiple).collect()
    }
}

/// A yardstick in the making.
struct Bench {
    size: usize,
    time: Duration,
    cpus: [usize; 2],
    rows: Vec<Row>,
}

impl Bench {
    /// What one call costs, without anybody else.
    fn calls(&mut self) -> Result {
        let [cpu, _] = self.cpus;
        let time = self.time / 2;
        let both = on_own_thread(move || {
            pin(cpu)?;
            let clock = time_call(time, || {
                std::hint::black_box(Instant::now());
            });
            let system_call = time_call(time, || {
                std::hint::black_box(rustix::process::getppid());
            });
            Ok((clock, system_call))
        })?;
        self.push("clock_read", "reading the clock", Figure::Call(both.0));
        self.push("system_call", "a system call that does nothing", Figure::Call(both.1));
        Ok(())
    }

    /// Two threads on one core, which the kernel switches between.
    fn one_core(&mut self) -> Result {
        let size = self.size;
        self.turns("wake_same_core", "waking a thread on the same core (futex)", Futex::pair())?;
        let unix = Stream::pair(size, Waiting::Parked).context("cannot make a socket pair")?;
        self.turns("unix_same_core", "Unix socket, parked, same core", unix)
    }

    /// Two threads on a core each.
    fn two_cores(&mut self) -> Result {
        let (size, sockets) = (self.size, "cannot make a socket pair");
        self.turns("wake_futex", "waking a thread on another core (futex)", Futex::pair())?;
        let eventfd = EventFd::pair().context("cannot make eventfds")?;
        self.turns("wake_eventfd", "waking a thread on another core (eventfd)", eventfd)?;
        let unix = Stream::pair(size, Waiting::Parked).context(sockets)?;
        self.turns("unix_parked", "Unix socket, parked, other core", unix)?;
        let udp = Udp::pair(size, Waiting::Parked).context(sockets)?;
        self.turns("udp_parked", "UDP over loopback, parked, other core", udp)?;
        let unix = Stream::pair(size, Waiting::Spinning).context(sockets)?;
        self.turns("unix_spinning", "Unix socket, both spinning", unix)?;
        let udp = Udp::pair(size, Waiting::Spinning).context(sockets)?;
        self.turns("udp_spinning", "UDP over loopback, both spinning", udp)?;
        self.turns("queue_spinning", "queue in memory (64 B), both spinning", Queue::pair())?;
        self.stream("unix_stream_single", "Unix stream, one write for each message", 1)?;
        self.stream("unix_stream_batched", "Unix stream, 128 messages in each write", BATCH)
    }

    fn push(&mut self, key: &'static str, label: &'static str, figure: Figure) {
        self.rows.push(Row { key, label, figure });
    }

    fn turns<E: End>(&mut self, key: &'static str, label: &'static str, ends: [E; 2]) -> Result {
        let latencies = take_turns(ends, self.cpus, self.time).context(label)?;
        self.push(key, label, Figure::OneWay(latencies.summary()));
        Ok(())
    }

    fn stream(&mut self, key: &'static str, label: &'static str, batch: usize) -> Result {
        let rate = stream_rate(self.size, batch, self.cpus, self.time).context(label)?;
        self.push(key, label, Figure::Rate(rate));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::latency_histogram::Latencies;

    #[test]
    fn every_way_is_measured_and_reported() {
        let yardstick = Yardstick::measure(64, Duration::from_millis(5), &[]).unwrap();
        let json = yardstick.to_json();
        assert!(json["wake_same_core"]["p50_ns"].as_f64().unwrap() > 0.0, "{json}");
        if yardstick.cpus.len() == 2 {
            assert!(json["unix_stream_batched"]["messages_per_s"].as_f64().unwrap() > 0.0);
            assert_eq!(yardstick.rate_multiples(1e6).len(), 2);
        }
        assert_eq!(yardstick.to_text().len(), 1 + yardstick.rows.len());
    }

    #[test]
    fn a_result_is_shown_as_a_multiple() {
        let mut latencies = Latencies::new();
        latencies.record_ns(10_000);
        let rows = vec![
            Row { key: "a", label: "a hop", figure: Figure::OneWay(latencies.summary()) },
            Row { key: "b", label: "a stream", figure: Figure::Rate(1e6) },
        ];
        let yardstick = Yardstick { size: 64, cpus: vec![0, 1], rows };
        let latency = yardstick.latency_multiples(45_000.0);
        assert_eq!(latency.len(), 1);
        assert!(latency[0].contains("4.50x a hop"), "{latency:?}");
        let rate = yardstick.rate_multiples(250_000.0);
        assert!(rate[0].contains("0.25x a stream"), "{rate:?}");
    }
}
