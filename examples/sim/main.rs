//! Runs the ordering core in the simulator: one seed with a timeline, or many until one fails.
//!
//! ```text
//! cargo run --profile sim --example sim -- --seeds 0..10000
//! cargo run --profile sim --example sim -- --seed 17 --timeline
//! ```

mod arguments;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use madrigal::sim::core::Core;
use madrigal::sim::group::Grouped;
use madrigal::sim::order::Ordering;
use madrigal::sim::report::{Failure, sweep};
use madrigal::sim::run;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.groups { simulate::<Grouped>(arguments) } else { simulate::<Ordering>(arguments) }
}

fn simulate<C: Core>(arguments: Arguments) -> ExitCode {
    let (options, seeds) = (arguments.options(), arguments.runs());
    if options.timeline {
        for seed in seeds.clone() {
            let run = run::<C>(seed, &options);
            print!("{}", run.timeline.render(&run.trace));
        }
    }
    let started = Instant::now();
    let Arguments { threads, keep_going, .. } = arguments;
    let tell = |failure: &Failure| println!("{failure}");
    let (summary, failures) = sweep::<C>(seeds, &options, threads, keep_going, tell);
    let elapsed = started.elapsed();
    let ratio = summary.time.as_secs_f64() / elapsed.as_secs_f64();
    println!("{summary}, in {:.1} s, {ratio:.0} times real time", elapsed.as_secs_f64());
    println!("{}", summary.cover);
    println!("{} failed", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
