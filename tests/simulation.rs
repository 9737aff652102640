//! The ordering core under every fault, run by seed.
//!
//! `MADRIGAL_SEED=17` makes one run, `MADRIGAL_SEEDS=0..5000` those; without them there are enough
//! for every build.

use std::ops::Range;

use madrigal::sim::Options;
use madrigal::sim::order::Ordering;
use madrigal::sim::report::{Summary, judge};

/// Runs of every build.
const SEEDS: Range<u64> = 0..40;

fn seeds() -> Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number");
    if let Ok(seed) = std::env::var("MADRIGAL_SEED") {
        return number(&seed)..number(&seed) + 1;
    }
    let Ok(seeds) = std::env::var("MADRIGAL_SEEDS") else { return SEEDS };
    let (start, end) = seeds.split_once("..").expect("MADRIGAL_SEEDS is A..B");
    number(start)..number(end)
}

#[test]
fn every_seed_keeps_every_property() {
    let mut summary = Summary::default();
    for seed in seeds() {
        match judge::<Ordering>(seed, &Options::default()) {
            Ok(one) => summary.add(one),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{summary}");
}
