//! Open loop: messages leave on schedule, and each latency counts from the scheduled time.

use std::time::{Duration, Instant};

use madrigal::client::{Event, Inbox, Outbox, Service};

use super::{Args, NUMBER_BYTES, Round, daemon_cpu, member, unexpected, unused_group};
use crate::bench::crew::{Crew, Progress};
use crate::bench::latency_histogram::Latencies;
use crate::bench::options::{Side, WaitArg};
use crate::failure::{Context, Result, failed};
use crate::pace::{Schedule, Until, sharp_timers, wait_until};

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
pub(super) fn run(args: &Args, side: &Side<'_>, rate: f64) -> Result<Round> {
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
    let event = inbox.receive().context("receiving failed")?;
    let Event::Message(message) = &event else { return Err(unexpected(&event)) };
    let number = message.data().first_chunk::<NUMBER_BYTES>();
    number.map(|bytes| u64::from_le_bytes(*bytes)).ok_or_else(|| unexpected(&event))
}
