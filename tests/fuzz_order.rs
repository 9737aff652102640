//! The fuzz target of the ordering core, on a bounded number of scripts drawn by seed, so that
//! every run is the same. `MADRIGAL_FUZZ_SEEDS=1000..5000` draws others.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;

use std::collections::BTreeSet;
use std::panic;

use madrigal::sim::rng::Rng;

/// A script: most of it honest work, so that it gets somewhere.
fn script(seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut script = Vec::new();
    if rng.chance(700) {
        // They form a ring first.
        script.extend([0, 255, 4, 4].repeat(20));
    }
    for _ in 0..rng.within(20..150) {
        let mut byte = || rng.bits() as u8;
        let who = byte() & 0xf0;
        match byte() % 10 {
            0 => script.extend([0, 255]),
            1 => script.extend([0, byte() % 8]),
            2 => script.extend([4, byte()]),
            3 => script.extend([7 | who, byte(), byte(), byte() % 16, byte()]),
            4 => script.extend((0..8).map(|_| byte())),
            5 | 6 => {
                script.extend([9 | who]);
                script.extend((0..14).map(|_| byte()));
            }
            _ => {
                // A packet with one to four faults.
                let faults = byte() % 4;
                script.extend([11 | who, byte(), faults]);
                script.extend((0..3 * (faults + 1)).map(|_| byte()));
            }
        }
    }
    script
}

#[test]
fn an_ordering_core_stands_whatever_its_peers_send() {
    let seeds = match std::env::var("MADRIGAL_FUZZ_SEEDS") {
        Ok(seeds) => {
            let (start, end) = seeds.split_once("..").expect("MADRIGAL_FUZZ_SEEDS is A..B");
            start.parse().expect("a number")..end.parse().expect("a number")
        }
        Err(_) => 0..200,
    };
    let mut states = BTreeSet::new();
    for seed in seeds {
        let script = script(seed);
        match panic::catch_unwind(|| bodies::order::states(&script)) {
            Ok(reached) => states.extend(reached),
            Err(failure) => {
                println!("MADRIGAL_FUZZ_SEEDS={seed}..{} fails", seed + 1);
                panic::resume_unwind(failure);
            }
        }
    }
    let all = ["commit", "gather", "operational", "recovery"];
    assert!(all.iter().all(|state| states.contains(state)), "only {states:?}");
}
