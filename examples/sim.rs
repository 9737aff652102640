//! Runs the ordering core in the simulator: one seed with a timeline, or many until one fails.
//!
//! ```text
//! cargo run --profile sim --example sim -- --seeds 0..10000
//! cargo run --profile sim --example sim -- --seed 17 --timeline
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use madrigal::sim::core::Core;
use madrigal::sim::group::Grouped;
use madrigal::sim::order::Ordering;
use madrigal::sim::report::{Failure, sweep};
use madrigal::sim::{Options, run};

/// Runs the ordering core in the simulator.
#[derive(Parser)]
struct Arguments {
    /// The one run to make.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// The runs to make, as A..B without B.
    #[arg(long, default_value = "0..1000", value_parser = seeds)]
    seeds: std::ops::Range<u64>,
    /// Daemons in each run; by lot without it.
    #[arg(long)]
    daemons: Option<usize>,
    /// The whole protocol layer with sessions, instead of the ordering core alone.
    #[arg(long)]
    groups: bool,
    /// Runs at a time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Show what each daemon did.
    #[arg(long)]
    timeline: bool,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
}

fn seeds(text: &str) -> Result<std::ops::Range<u64>, String> {
    let wrong = || format!("{text} is no range A..B");
    let (start, end) = text.split_once("..").ok_or_else(wrong)?;
    Ok(start.parse().map_err(|_| wrong())?..end.parse().map_err(|_| wrong())?)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.groups { simulate::<Grouped>(arguments) } else { simulate::<Ordering>(arguments) }
}

fn simulate<C: Core>(arguments: Arguments) -> ExitCode {
    let options =
        Options { daemons: arguments.daemons, timeline: arguments.timeline, ..Options::default() };
    let seeds = arguments.seed.map_or(arguments.seeds, |seed| seed..seed + 1);
    if options.timeline {
        for seed in seeds.clone() {
            match catch_unwind(AssertUnwindSafe(|| run::<C>(seed, &options))) {
                Ok(run) => print!("{}", run.timeline.render(&run.trace)),
                Err(_) => return ExitCode::FAILURE,
            }
        }
    }
    let started = Instant::now();
    let Arguments { threads, keep_going, .. } = arguments;
    let tell = |failure: &Failure| println!("{failure}");
    let (summary, failures) = sweep::<C>(seeds, &options, threads, keep_going, tell);
    let elapsed = started.elapsed();
    let ratio = summary.time.as_secs_f64() / elapsed.as_secs_f64();
    println!("{summary}, in {:.1} s, {ratio:.0} times real time", elapsed.as_secs_f64());
    println!("{} failed", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
