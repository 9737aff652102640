//! What a run comes to, for whoever started it: a line of numbers, or what went wrong and how to
//! see it again.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::checker::Violation;
use super::checker::trace::DaemonEvent;
use super::core::Core;
use super::scenario::{Options, Run, run};

/// Numbers of one run, or of several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Runs.
    pub runs: u64,
    /// Events of daemons.
    pub events: u64,
    /// Messages delivered, at all daemons together.
    pub deliveries: u64,
    /// Regular configurations installed, at all daemons together.
    pub configurations: u64,
    /// Daemons crashed.
    pub crashes: u64,
    /// Virtual time.
    pub time: Duration,
}

impl Summary {
    /// Counts one run.
    pub fn of(run: &Run) -> Self {
        let mut summary = Self { runs: 1, time: run.time, ..Self::default() };
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
        summary
    }

    /// Adds another's numbers.
    pub fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.events += other.events;
        self.deliveries += other.deliveries;
        self.configurations += other.configurations;
        self.crashes += other.crashes;
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
        )
    }
}

/// A run that went wrong.
#[derive(Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// What it was asked to be.
    pub options: Options,
    /// What went wrong.
    pub what: What,
}

/// How a run went wrong.
#[derive(Debug)]
pub enum What {
    /// It broke a property.
    Violation(Violation),
    /// The core gave up: an assertion of its own.
    Panic(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Violation(violation) => writeln!(f, "seed {}: {violation}", self.seed)?,
            What::Panic(text) => writeln!(f, "seed {}: the core panics: {text}", self.seed)?,
        }
        write!(f, "replay: cargo run --profile sim --example sim -- --seed {}", self.seed)?;
        if let Some(daemons) = self.options.daemons {
            write!(f, " --daemons {daemons}")?;
        }
        write!(f, " --timeline")
    }
}

/// Makes the run that belongs to `seed` and judges it.
///
/// # Errors
///
/// What went wrong, with the command that shows it.
pub fn judge<C: Core>(seed: u64, options: &Options) -> Result<Summary, Failure> {
    let fail = |what| Err(Failure { seed, options: options.clone(), what });
    match catch_unwind(AssertUnwindSafe(|| run::<C>(seed, options))) {
        Ok(run) => match &run.verdict {
            Ok(()) => Ok(Summary::of(&run)),
            Err(violation) => fail(What::Violation(violation.clone())),
        },
        Err(panic) => fail(What::Panic(text_of(panic.as_ref()))),
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}
