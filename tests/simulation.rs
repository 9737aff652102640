//! The ordering core, and the whole protocol layer with sessions, under every fault, run by seed.
//!
//! Every build makes some short runs. `MADRIGAL_SEEDS=0..5000` makes those in full length, and a
//! few with many daemons; `MADRIGAL_SEED=17` makes one of them.

use std::ops::Range;
use std::thread::available_parallelism;
use std::time::Duration;

use madrigal::sim::Options;
use madrigal::sim::core::Core;
use madrigal::sim::group::Grouped;
use madrigal::sim::order::Ordering;
use madrigal::sim::report::{Failure, sweep};

/// Runs of every build.
const SEEDS: Range<u64> = 0..12;

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
