//! The fuzz targets without a fuzzer: recorded clients, mutated in the same ways in each run.
//!
//! With `MADRIGAL_FUZZ_CORPUS=DIR` the recorded inputs are also written to `DIR`, for a fuzzer to
//! begin with: see `fuzz/README.md`.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;
mod recorded;

use std::collections::BTreeMap;
use std::panic;
use std::path::Path;

use madrigal::sim::rng::Rng;
use recorded::What;

/// Mutated inputs that are made of each recorded one.
const MUTATIONS: u64 = 60;

/// Longest recorded input that is mutated; the few beyond are run as they are.
const MUTATED_MAX: usize = 20_000;

/// What each recorded client sent: up to its choice, and from there on.
fn conversations() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut clients: BTreeMap<String, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
    for name in recorded::names() {
        for line in recorded::read(&name) {
            let What::Bytes { from_daemon: false, kind, bytes, .. } = line.what else { continue };
            let (handshake, frames) = clients.entry(format!("{name} {}", line.conn)).or_default();
            match kind.as_str() {
                "connect" | "auth_choice" => handshake.extend(bytes),
                _ if frames.is_empty() && handshake.len() < 90 => handshake.extend(bytes),
                _ => frames.extend(bytes),
            }
        }
    }
    let mut all: Vec<_> = clients.into_values().collect();
    all.sort();
    all.dedup();
    all
}

/// Inputs for the body of the handshake: the whole conversation, under every setting.
fn handshakes() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (n, (handshake, frames)) in conversations().into_iter().enumerate() {
        let frames = &frames[..frames.len().min(500)];
        for setting in [1, n as u8 % 16] {
            inputs.push([&[setting, n as u8], &handshake[..], frames].concat());
        }
    }
    inputs
}

/// Inputs for the body of frames.
fn streams() -> Vec<Vec<u8>> {
    let frames = conversations().into_iter().map(|(_, frames)| frames);
    let inputs = frames.enumerate().map(|(n, frames)| [&[n as u8], &frames[..]].concat());
    inputs.filter(|input| input.len() > 1).collect()
}

/// Numbers that lengths and counts are wrong at.
const ODD_NUMBERS: [i32; 12] =
    [0, 1, -1, 43, 44, 99, 100, 101, 144_000, 144_001, i32::MAX, i32::MIN];

/// Changes an input a little, or puts a part of another one into it.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Rng) {
    let at = random.index(input.len());
    let len = random.index((input.len() - at).min(200)) + 1;
    match random.below(8) {
        0 => input[at] ^= 1 << random.below(8),
        1 => input[at] = random.bits() as u8,
        2 => input.truncate(at + 1),
        3 => drop(input.drain(at..at + len)),
        4 => {
            let part = input[at..at + len].to_vec();
            input.splice(at..at, part);
        }
        5 => {
            let from = random.index(other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        6 => {
            let number = *random.pick(&ODD_NUMBERS);
            let bytes =
                if random.chance(500) { number.to_le_bytes() } else { number.to_be_bytes() };
            let end = input.len().min(at + 4);
            input[at..end].copy_from_slice(&bytes[..end - at]);
        }
        _ => {
            // Where the first frame has its numbers.
            let field = *random.pick(&[0, 36, 40, 44]);
            let number = *random.pick(&ODD_NUMBERS);
            if let Some(field) = input.get_mut(1 + field..5 + field) {
                field.copy_from_slice(&number.to_le_bytes());
            }
        }
    }
}

/// Runs `body` on all inputs and on what comes of them; names an input that fails.
fn run(target: &str, inputs: &[Vec<u8>], body: fn(&[u8])) {
    let tell = |input: &[u8]| {
        if let Err(failure) = panic::catch_unwind(|| body(input)) {
            println!("{target} fails on \"{}\"", input.escape_ascii());
            panic::resume_unwind(failure);
        }
    };
    assert!(inputs.len() > 50, "only {} inputs were recorded", inputs.len());
    for (n, input) in inputs.iter().enumerate() {
        tell(input);
        if input.len() > MUTATED_MAX {
            continue;
        }
        let mut random = Rng::new(n as u64);
        for _ in 0..MUTATIONS {
            let mut input = input.clone();
            for _ in 0..=random.below(4) {
                let other = &inputs[random.index(inputs.len())];
                mutate(&mut input, other, &mut random);
                if input.is_empty() {
                    break;
                }
            }
            input.truncate(MUTATED_MAX);
            tell(&input);
        }
    }
}

#[test]
fn handshakes_hold() {
    let inputs = handshakes();
    write_corpus("handshake", &inputs);
    run("handshake", &inputs, bodies::handshake);
}

#[test]
fn frames_hold() {
    let inputs = streams();
    write_corpus("frames", &inputs);
    run("frames", &inputs, bodies::frames);
}

fn write_corpus(target: &str, inputs: &[Vec<u8>]) {
    let Some(directory) = std::env::var_os("MADRIGAL_FUZZ_CORPUS") else { return };
    let directory = Path::new(&directory).join(target);
    std::fs::create_dir_all(&directory).unwrap();
    for (n, input) in inputs.iter().enumerate() {
        std::fs::write(directory.join(format!("recorded-{n:03}")), input).unwrap();
    }
}
