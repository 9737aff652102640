//! The fuzz targets that compare with a model, on a bounded number of inputs: recorded
//! conversations, damaged by a seeded generator, so that every run is the same. A failure names
//! the round to replay.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;
mod recorded;
#[path = "fuzz_model/seeds.rs"]
mod seeds;

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use madrigal::sim::rng::Rng;
use sha2::{Digest, Sha256};

/// Runs `body` on the seeds as they are, then on `rounds` damaged ones.
fn fuzz(target: &str, seeds: &[Vec<u8>], rounds: u64, body: fn(&[u8])) {
    if let Some(corpus) = env::var_os("MADRIGAL_FUZZ_CORPUS") {
        write_corpus(&Path::new(&corpus).join(target), seeds);
    }
    let run = |what: String, input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
            eprintln!("{what}, {} bytes: {input:?}", input.len());
            resume_unwind(panic);
        }
    };
    for (at, seed) in seeds.iter().enumerate() {
        run(format!("seed {at}"), seed);
    }
    for round in 0..rounds {
        let mut rng = Rng::new(round);
        let mut input = rng.pick(seeds).clone();
        for _ in 0..=rng.below(4) {
            let other = rng.pick(seeds);
            damage(&mut input, other, &mut rng);
        }
        run(format!("round {round}"), &input);
    }
}

/// Writes the seeds where a fuzzer begins.
fn write_corpus(folder: &Path, seeds: &[Vec<u8>]) {
    fs::create_dir_all(folder).unwrap();
    for seed in seeds {
        let hash: [u8; 8] = *Sha256::digest(seed).first_chunk().unwrap();
        let name = format!("{:016x}", u64::from_be_bytes(hash));
        fs::write(folder.join(name), seed).unwrap();
    }
}

/// Does one of the things that break parsers.
fn damage(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    if input.is_empty() {
        input.push(rng.bits() as u8);
    }
    let at = rng.index(input.len());
    match rng.below(6) {
        0 => input[at] ^= 1 << rng.below(8),
        1 => input[at] = rng.bits() as u8,
        2 => input.truncate(at),
        // A part of another input takes the place of the rest, or comes in between.
        3 => {
            input.truncate(at);
            input.extend_from_slice(&other[rng.index(other.len().max(1)).min(other.len())..]);
        }
        4 => {
            let from = rng.index(other.len().max(1)).min(other.len());
            let len = rng.index(64).min(other.len() - from);
            input.splice(at..at, other[from..from + len].iter().copied());
        }
        // Numbers that lie.
        _ => {
            let lies = [0, 1, -1, i32::MAX, i32::MIN, 101, 144_001, 0x7fff, 0x0100_0000];
            let lie = *rng.pick(&lies);
            let bytes = if rng.chance(500) { lie.to_le_bytes() } else { lie.to_be_bytes() };
            for (into, byte) in input[at..].iter_mut().zip(bytes) {
                *into = byte;
            }
        }
    }
}

#[test]
fn handshakes_of_any_bytes_end_as_the_protocol_says() {
    fuzz("connections", &seeds::handshakes(), 3000, bodies::connections::run);
}

#[test]
fn sessions_of_any_bytes_leave_the_others_as_the_model_says() {
    fuzz("sessions", &seeds::frames(), 1500, bodies::sessions::run);
}

/// Scripts that are nothing but chance reach what no recorded conversation does: stalls, holds,
/// throttles, short memory, all at once.
#[test]
fn any_order_of_events_comes_to_what_the_model_says() {
    let scripts: Vec<Vec<u8>> = (0..400)
        .map(|seed| {
            let mut rng = Rng::new(seed);
            seeds::busy(&mut rng)
        })
        .collect();
    fuzz("sessions", &scripts, 400, bodies::sessions::run);
}

#[test]
fn clients_take_any_bytes_of_a_daemon() {
    fuzz("client", &seeds::daemon_bytes(), 5000, bodies::client::run);
}

#[test]
fn configurations_of_any_text_are_judged_with_places() {
    fuzz("config", &seeds::configurations(), 5000, bodies::config::run);
}
