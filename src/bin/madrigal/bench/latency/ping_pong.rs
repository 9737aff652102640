//! Closed loop: two sessions answer each other, and half of each round trip is a latency.

use std::time::{Duration, Instant};

use madrigal::client::{Event, Service, Session};

use super::{Args, NUMBER_BYTES, Round, daemon_cpu, member, unexpected, unused_group};
use crate::bench::crew::{Crew, Progress};
use crate::bench::latency_histogram::Latencies;
use crate::bench::options::{Common, Side};
use crate::failure::{Context, Result, failed};

/// Message type of the message that ends the echo.
const STOP: i16 = 1;

/// Two sessions that answer each other, each the only member of a group.
pub(super) fn run(args: &Args, side: &Side<'_>) -> Result<Round> {
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
        ways: 2,
    };
    let (extent, pids) = (Extent::of(common), side.pids.to_vec());
    crew.hire(move || pinger.run(&extent, &pids).map(Some));
    let service = common.service;
    crew.hire(move || send_back(echo, service, &pong_group).map(|()| None));
    let results = crew.finish(&progress)?;
    results.into_iter().flatten().next().ok_or_else(|| failed("no round was measured"))
}

/// One session that sends to itself.
pub(super) fn run_echo(args: &Args, side: &Side<'_>) -> Result<Round> {
    let common = &args.common;
    let group = unused_group("echo");
    let session = member(common, side.address, &group)?;
    let progress = Progress::default();
    let mut crew = Crew::new(common.pinning());
    let pinger = Pinger {
        session,
        group,
        service: common.service,
        data: vec![0; common.size],
        number: 0,
        progress: progress.clone(),
        ways: 1,
    };
    let (extent, pids) = (Extent::of(common), side.pids.to_vec());
    crew.hire(move || pinger.run(&extent, &pids));
    let results = crew.finish(&progress)?;
    results.into_iter().next().ok_or_else(|| failed("no round was measured"))
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
    /// Messages until one's own is answered.
    ways: u32,
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
            latencies.record((now - sent) / self.ways);
            (sent, turns) = (now, turns + 1);
        }
        let time = sent - start;
        let cpu = daemon_cpu(pids)?.zip(cpu_before).map(|(after, before)| after - before);
        self.session
            .multicast(self.service, &[&self.group], STOP, &self.data)
            .context("cannot send")?;
        Ok(Round { latencies, lateness: None, messages: u64::from(self.ways) * turns, time, cpu })
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
