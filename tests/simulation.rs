//! The ordering core under every fault, run by seed.
//!
//! Every build makes some short runs. `MADRIGAL_SEEDS=0..5000` makes those in full length, and
//! `MADRIGAL_SEED=17` one of them.

use std::ops::Range;
use std::time::Duration;

use madrigal::sim::Options;
use madrigal::sim::order::Ordering;
use madrigal::sim::report::{Summary, judge};

/// Runs of every build.
const SEEDS: Range<u64> = 0..40;

/// How long faults last in them.
const FAULTS: Duration = Duration::from_millis(120);

fn seeds() -> Option<Range<u64>> {
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    if let Ok(seed) = std::env::var("MADRIGAL_SEED") {
        return Some(number(&seed)..number(&seed) + 1);
    }
    let seeds = std::env::var("MADRIGAL_SEEDS").ok()?;
    let (start, end) = seeds.split_once("..").expect("MADRIGAL_SEEDS is A..B");
    Some(number(start)..number(end))
}

#[test]
fn every_seed_keeps_every_property() {
    let (seeds, faults) = match seeds() {
        Some(seeds) => (seeds, None),
        None => (SEEDS, Some(FAULTS)),
    };
    let options = Options { faults, ..Options::default() };
    let mut summary = Summary::default();
    for seed in seeds {
        match judge::<Ordering>(seed, &options) {
            Ok(one) => summary.add(one),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{summary}");
}
