//! What a run comes to, for whoever started it: a line of numbers, or what went wrong and how to
//! see it again.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::checker::trace::{DaemonEvent, SessionEvent};
use super::core::Core;
use super::cover::Cover;
use super::scenario::{Options, Run, What, run};

/// Numbers of one run, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// Events of daemons.
    pub events: u64,
    /// Messages delivered, at all daemons together.
    pub deliveries: u64,
    /// Messages and views that sessions got.
    pub received: u64,
    /// Regular configurations installed, at all daemons together.
    pub configurations: u64,
    /// Daemons crashed.
    pub crashes: u64,
    /// What they met that is rare.
    pub cover: Cover,
    /// Virtual time.
    pub time: Duration,
}

impl Summary {
    /// Counts one run.
    pub fn of(run: &Run) -> Self {
        let mut summary = Self { runs: 1, cover: run.cover, time: run.time, ..Self::default() };
        for entry in run.trace.daemons.iter().flat_map(|log| &log.entries) {
            summary.events += 1;
            match entry.event {
                DaemonEvent::Deliver { .. } => summary.deliveries += 1,
                DaemonEvent::Regular { .. } => summary.configurations += 1,
                DaemonEvent::Crash => summary.crashes += 1,
                DaemonEvent::Submit { .. }
                | DaemonEvent::Init { .. }
                | DaemonEvent::Transitional { .. }
                | DaemonEvent::Stop => {}
            }
        }
        for entry in run.trace.sessions.iter().flat_map(|log| &log.entries) {
            summary.received += match entry.event {
                SessionEvent::Deliver { .. } | SessionEvent::View { .. } => 1,
                SessionEvent::Asked(_)
                | SessionEvent::Send { .. }
                | SessionEvent::Transitional { .. }
                | SessionEvent::Left { .. }
                | SessionEvent::Killed
                | SessionEvent::End => 0,
            };
        }
        summary
    }

    /// Adds another's numbers.
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.events += other.events;
        self.deliveries += other.deliveries;
        self.received += other.received;
        self.configurations += other.configurations;
        self.crashes += other.crashes;
        self.cover.add(other.cover);
        self.time += other.time;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, deliveries, configurations, crashes, time, .. } = self;
        let seconds = time.as_secs_f64();
        write!(
            f,
            "{runs} runs, {seconds:.1} s of virtual time: {deliveries} deliveries, \
             {configurations} configurations installed, {crashes} crashes"
        )?;
        match self.received {
            0 => Ok(()),
            received => write!(f, ", {received} messages and views at sessions"),
        }
    }
}

/// A run that went wrong.
#[derive(Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What it was asked to be.
    pub options: Options,
    /// What was simulated, for `examples/sim.rs`.
    pub flag: &'static str,
    /// What went wrong.
    pub what: What,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Violation(violation) => writeln!(f, "seed {}: {violation}", self.seed)?,
            What::Panic(text) => writeln!(f, "seed {}: the core panics: {text}", self.seed)?,
        }
        let Self { seed, flag, .. } = self;
        write!(f, "replay: cargo run --profile sim --example sim --{flag} --seed {seed}")?;
        if let Some(daemons) = self.options.daemons {
            write!(f, " --daemons {daemons}")?;
        }
        if let Some(faults) = self.options.faults {
            write!(f, " --faults-ms {}", faults.as_millis())?;
        }
        write!(f, " --timeline")
    }
}

/// Judges the runs of all `seeds` with so many threads: the numbers of those that went well, and
/// the failures by seed, each told as soon as it is found. Unless it is to `keep_going`, it ends
/// with what is at hand when one fails.
pub fn sweep<C: Core>(
    seeds: Range<u64>,
    options: &Options,
    threads: usize,
    keep_going: bool,
    tell: impl Fn(&Failure) + Sync,
) -> (Summary, Vec<Failure>) {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let (mut summary, mut failures) = (Summary::default(), Vec::new());
        loop {
            // Relaxed: only the number itself is shared.
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return (summary, failures);
            }
            match judge::<C>(seed, options) {
                Ok(one) => summary.add(one),
                Err(failure) => {
                    tell(&failure);
                    failures.push(failure);
                    if !keep_going {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            }
        }
    };
    let done: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("`judge` panics nowhere")).collect()
    });
    let (mut summary, mut failures) = (Summary::default(), Vec::new());
    for (part, failed) in done {
        summary.add(part);
        failures.extend(failed);
    }
    failures.sort_by_key(|failure| failure.seed);
    (summary, failures)
}

/// Makes the run that belongs to `seed` and judges it.
///
/// # Errors
///
/// What went wrong, with the command that shows it.
pub fn judge<C: Core>(seed: u64, options: &Options) -> Result<Summary, Failure> {
    let run = run::<C>(seed, options);
    let (options, flag) = (options.clone(), C::FLAG);
    match &run.verdict {
        Ok(()) => Ok(Summary::of(&run)),
        Err(what) => Err(Failure { seed, options, flag, what: what.clone() }),
    }
}
