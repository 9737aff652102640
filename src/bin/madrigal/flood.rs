//! `madrigal flood`: load for a daemon, at a rate or as fast as it takes it.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::connect::ConnectArgs;
use crate::failure::{Context, Result};
use crate::output::Output;
use crate::pace::{Schedule, Until, wait_until};
use crate::send::HowArgs;
use crate::units::{show_count, three_digits};

/// Examples below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  madrigal flood load                             as fast as the daemon takes it
  madrigal flood load --rate 20k --size 1000 --duration 30s
  madrigal flood load --count 1000000 --service safe

Nobody's receiving is waited for: members that cannot keep up may be disconnected by their daemon.
'madrigal bench throughput' measures what really arrives.";

/// Messages that are sent in one go at most.
const BATCH: u64 = 256;

/// How often a line is printed.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `madrigal flood`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    how: HowArgs,
    /// Groups to send to; each message goes to all of them.
    #[arg(value_name = "GROUP", required = true)]
    groups: Vec<String>,
    /// Messages per second, as in 500 or 20k; without it as many as the daemon takes.
    #[arg(short, long, value_parser = crate::units::parse_rate)]
    rate: Option<f64>,
    /// Bytes of a message; its number is at the beginning.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    size: usize,
    /// Stop after so long, as in 10s.
    #[arg(short, long, value_name = "TIME", value_parser = crate::units::parse_duration)]
    duration: Option<Duration>,
    /// Stop after so many messages.
    #[arg(short, long)]
    count: Option<u64>,
    /// Print one JSON object for each second, and one for the whole.
    #[arg(short, long)]
    json: bool,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result {
    let mut session = args.connect.open(false)?;
    let groups: Vec<&str> = args.groups.iter().map(String::as_str).collect();
    let multicast = args.how.to_multicast();
    let outbox = session.outbox();
    let mut data = vec![b' '; args.size];
    let start = Instant::now();
    let end = args.duration.map(|duration| start + duration);
    let schedule = args.rate.map(|rate| Schedule::new(start, rate));
    let mut report = Report::new(args, start);
    let mut sent = 0u64;
    loop {
        let now = Instant::now();
        if now >= report.next {
            report.line(now, sent)?;
        }
        if end.is_some_and(|end| now >= end) || args.count.is_some_and(|count| sent >= count) {
            break;
        }
        let due = schedule.map_or(u64::MAX, |schedule| schedule.due(now));
        let due = due.min(args.count.unwrap_or(u64::MAX)).min(sent + BATCH);
        for number in sent..due {
            // A size too small for the number gets the digits that fit.
            let _ = write!(&mut data[..], "{number}");
            outbox.queue_with(&multicast, &groups, &data).context("cannot send")?;
        }
        outbox.flush().context("cannot send")?;
        sent = sent.max(due);
        if let Some(schedule) = schedule {
            let next = schedule.moment(sent).min(report.next);
            wait_until(end.map_or(next, |end| next.min(end)), Until::Asleep);
        }
    }
    session.disconnect().context("the connection broke while sending")?;
    report.total(sent)
}

struct Report {
    output: Output,
    json: bool,
    size: usize,
    start: Instant,
    since: Instant,
    sent_before: u64,
    next: Instant,
}

impl Report {
    fn new(args: &Args, start: Instant) -> Self {
        Self {
            output: Output::new(),
            json: args.json,
            size: args.size,
            start,
            since: start,
            sent_before: 0,
            next: start + REPORT_EVERY,
        }
    }

    fn line(&mut self, now: Instant, sent: u64) -> Result {
        let (messages, time) = (sent - self.sent_before, now - self.since);
        self.put("second", messages, time, now - self.start)?;
        (self.since, self.sent_before) = (now, sent);
        // A writer that was held up for long owes one line, not many.
        while self.next <= now {
            self.next += REPORT_EVERY;
        }
        Ok(())
    }

    fn total(&mut self, sent: u64) -> Result {
        let time = self.start.elapsed();
        self.put("total", sent, time, time)
    }

    fn put(&mut self, what: &str, messages: u64, time: Duration, at: Duration) -> Result {
        let per_second = messages as f64 / time.as_secs_f64();
        let megabytes = per_second * self.size as f64 / 1e6;
        if self.json {
            self.output.json(&json!({
                "event": what,
                "at_s": at.as_secs_f64(),
                "messages": messages,
                "messages_per_s": per_second.round(),
                "mb_per_s": megabytes,
            }))?;
        } else {
            self.output.line(format!(
                "{what:>6} {:>7.1} s  {:>12} messages  {:>12} msg/s  {:>8} MB/s",
                at.as_secs_f64(),
                show_count(messages as f64),
                show_count(per_second),
                three_digits(megabytes),
            ))?;
        }
        self.output.flush()
    }
}
