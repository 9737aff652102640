//! The ordering core, and the whole protocol layer with sessions, under every fault, run by seed.
//!
//! Every build makes some short runs. `MADRIGAL_SEEDS=0..5000` makes those in full length, and a
//! few with many daemons; `MADRIGAL_SEED=17` makes one of them.

#[allow(dead_code, reason = "only what a failure prints is read here")]
#[path = "../examples/sim/arguments.rs"]
mod arguments;

use std::ops::Range;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Parser;
use madrigal::sim::core::Core;
use madrigal::sim::group::Grouped;
use madrigal::sim::order::Ordering;
use madrigal::sim::report::{Failure, sweep};
use madrigal::sim::scenario::What;
use madrigal::sim::{Options, run};

use arguments::Arguments;

/// Runs of every build.
const SEEDS: Range<u64> = 0..12;

/// So many runs meet everything that is rare.
const MANY: u64 = 1_000;

/// How long faults last in them.
const FAULTS: Duration = Duration::from_millis(100);

/// How long faults last in runs of many daemons.
const FAULTS_OF_MANY: Duration = Duration::from_millis(150);

fn seeds() -> Option<Range<u64>> {
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    if let Ok(seed) = std::env::var("MADRIGAL_SEED") {
        return Some(number(&seed)..number(&seed) + 1);
    }
    let seeds = std::env::var("MADRIGAL_SEEDS").ok()?;
    let (start, end) = seeds.split_once("..").expect("MADRIGAL_SEEDS is A..B");
    Some(number(start)..number(end))
}

fn simulate<C: Core>(what: &str, seeds: Range<u64>, options: &Options) {
    let threads = available_parallelism().map_or(1, usize::from);
    let tell = |failure: &Failure| println!("{failure}");
    let (summary, failures) = sweep::<C>(seeds, options, threads, false, tell);
    println!("{what}: {summary}");
    if let Some(failure) = failures.first() {
        panic!("{failure}");
    }
    println!("{what}: {}", summary.cover);
    if summary.runs >= MANY {
        let counts = summary.cover.counts();
        let unmet = counts.iter().find(|(_, count)| *count == 0);
        assert_eq!(unmet, None, "so many runs would show nothing of this");
    }
}

/// Runs drawn by lot, and where it was asked for many, some of 40 and 128 daemons.
fn simulate_all<C: Core>(what: &str) {
    let Some(seeds) = seeds() else {
        let options = Options { faults: Some(FAULTS), ..Options::default() };
        return simulate::<C>(what, SEEDS, &options);
    };
    let start = seeds.start;
    let many = (seeds.end - seeds.start) / 250;
    simulate::<C>(what, seeds, &Options::default());
    for (daemons, runs) in [(40, many), (128, many / 4)] {
        let faults = Some(FAULTS_OF_MANY);
        let options = Options { daemons: Some(daemons), faults, ..Options::default() };
        simulate::<C>(&format!("{what}, {daemons} daemons"), start..start + runs, &options);
    }
}

#[test]
fn every_seed_keeps_every_property_of_the_order() {
    simulate_all::<Ordering>("order");
}

#[test]
fn every_seed_keeps_every_property_of_the_groups() {
    simulate_all::<Grouped>("groups");
}

/// Words that a shell makes of the command that a failure prints, behind the `--` for cargo.
fn replayed(failure: &Failure) -> Arguments {
    let text = failure.to_string();
    let (_, words) = text.split_once("--example sim --").expect("a command");
    Arguments::parse_from(["sim"].into_iter().chain(words.split_whitespace()))
}

fn replays_the_same<C: Core>(options: Options, seed: u64) {
    let what = What::Panic("none".to_owned());
    let failure = Failure { seed, options: options.clone(), flag: C::FLAG, what };
    let arguments = replayed(&failure);
    assert_eq!(arguments.runs(), seed..seed + 1);
    assert!(arguments.timeline);
    assert_eq!(arguments.groups, !C::FLAG.is_empty());
    let (first, again) = (run::<C>(seed, &options), run::<C>(seed, &arguments.options()));
    assert!(first.trace == again.trace, "{failure}");
}

#[test]
fn the_command_that_a_failure_prints_makes_the_same_run() {
    let faults = Some(Duration::from_millis(60));
    for (daemons, faults) in [(None, faults), (Some(3), faults), (Some(2), None)] {
        let options = Options { daemons, faults, timeline: false };
        replays_the_same::<Ordering>(options.clone(), 1);
        replays_the_same::<Grouped>(options, 2);
    }
}
