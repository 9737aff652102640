//! Clusters of the daemon's own ordering core, drawn by lot, judged by the checker.
//!
//! More seeds: `MADRIGAL_SEEDS=1000..2000 cargo test --test simulation`.

use std::ops::Range;

use madrigal::sim::Options;
use madrigal::sim::order::Ordering;
use madrigal::sim::report::{Summary, judge};

/// Seeds that every run of the tests tries.
const SEEDS: Range<u64> = 0..100;

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("MADRIGAL_SEEDS") else { return SEEDS };
    let (first, end) = text.split_once("..").expect("MADRIGAL_SEEDS is a range, as 0..100");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[test]
fn clusters_drawn_by_lot_keep_every_property() {
    let mut total = Summary::default();
    for seed in seeds() {
        match judge::<Ordering>(seed, &Options::default()) {
            Ok(summary) => total.add(summary),
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{total}");
}
