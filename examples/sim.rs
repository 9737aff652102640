//! Runs the ordering core in the simulator: one seed with a timeline, or many until one fails.
//!
//! ```text
//! cargo run --profile sim --example sim -- --seeds 0..10000
//! cargo run --profile sim --example sim -- --seed 17 --timeline
//! ```

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use madrigal::sim::order::Ordering;
use madrigal::sim::report::{Summary, judge};
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
    let options =
        Options { daemons: arguments.daemons, timeline: arguments.timeline, ..Options::default() };
    let seeds = arguments.seed.map_or(arguments.seeds, |seed| seed..seed + 1);
    let started = Instant::now();
    let mut summary = Summary::default();
    let mut failures = 0;
    for seed in seeds {
        if options.timeline {
            let run = run::<Ordering>(seed, &options);
            print!("{}", run.timeline.render(&run.trace));
        }
        match judge::<Ordering>(seed, &options) {
            Ok(one) => summary.add(one),
            Err(failure) => {
                println!("{failure}");
                failures += 1;
                if !arguments.keep_going {
                    break;
                }
            }
        }
    }
    println!("{summary}, in {:.1} s; {failures} failed", started.elapsed().as_secs_f64());
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
