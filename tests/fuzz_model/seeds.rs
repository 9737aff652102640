//! Inputs to begin with: recorded conversations, and scripts made by chance.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use madrigal::config::Config;
use madrigal::sim::rng::Rng;

use super::bodies::script::Writer;
use super::recorded::{self, What};

/// Bytes that clients said in each conversation, in order: by whom, what kind, which.
fn said(name: &str) -> Vec<(u8, String, Vec<u8>)> {
    let mut conns = BTreeMap::new();
    let mut said = Vec::new();
    for line in recorded::read(name) {
        if let What::Bytes { from_daemon: false, kind, bytes, .. } = line.what {
            let next = conns.len() as u8;
            said.push((*conns.entry(line.conn).or_insert(next), kind, bytes));
        }
    }
    said
}

/// Input of the `connections` target: who speaks, how many bytes, which.
pub(crate) fn handshakes() -> Vec<Vec<u8>> {
    let of = |name: String| {
        let mut input = vec![0];
        for (conn, _, bytes) in said(&name).into_iter().take(24) {
            for part in bytes.chunks(200).take(8) {
                input.extend_from_slice(&[conn, part.len() as u8]);
                input.extend_from_slice(part);
            }
        }
        input
    };
    recorded::names().into_iter().map(of).collect()
}

/// Input of the `sessions` target: the same conversations as scripts.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let of = |name: String| {
        let mut script = Writer::new(10);
        let mut connected = BTreeMap::new();
        for (conn, kind, bytes) in said(&name) {
            match kind.as_str() {
                "connect" if bytes.len() > 5 => {
                    connected.insert(conn, connected.len() as u8);
                    script.connect(conn & 1, bytes[3] & 1 == 1, &bytes[5..]);
                }
                "connect" | "auth_choice" => {}
                _ => {
                    if let Some(&conn) = connected.get(&conn) {
                        script.receive(conn, &bytes);
                    }
                }
            }
        }
        for &conn in connected.values().take(2) {
            script.ended(conn);
        }
        script.0
    };
    // The longest of them holds nothing but long messages.
    let scripts = recorded::names().into_iter().map(of);
    scripts.filter(|script| script.len() < 400_000).collect()
}

/// A script of many events, of a few sessions with names that messages are sent to.
pub(crate) fn busy(rng: &mut Rng) -> Vec<u8> {
    let mut script = Writer::new(rng.bits() as u8);
    for name in [&b"a"[..], b"b", b"c", b""] {
        script.connect(rng.bits() as u8, rng.chance(700), name);
    }
    // Joins first, or most messages would find nobody.
    for conn in 0..4 {
        script.0.extend_from_slice(&[3, conn, 0, 1 << rng.below(2), rng.bits() as u8, 0, 0, 9]);
    }
    for _ in 0..rng.within(10..150) {
        if rng.chance(30) {
            slow_reader(&mut script, rng);
        }
        let code = match rng.below(20) {
            0 => 0,
            1 => 9,
            2..=5 => 10,
            6 | 7 => 12,
            8 => 13,
            9 => 14,
            10 => 15,
            11 => 11,
            _ => 3,
        };
        script.0.push(code);
        script.0.extend((0..rng.within(7..9)).map(|_| rng.bits() as u8));
    }
    script.0
}

/// A member stops reading, others go on sending; then it reads again, or goes.
fn slow_reader(script: &mut Writer, rng: &mut Rng) {
    let slow = rng.below(4) as u8;
    script.0.extend_from_slice(&[10, slow, 0]);
    for _ in 0..rng.within(6..14) {
        let (sender, order, len) = (rng.below(4) as u8, rng.bits() as u8, rng.bits() as u8);
        script.0.extend_from_slice(&[3, sender, 3, 3, order, len, 0, 255]);
    }
    match rng.below(3) {
        0 => script.0.extend_from_slice(&[10, slow, 1]),
        1 => script.ended(slow),
        _ => {}
    }
}

/// Input of the `client` target: how the bytes are split, and what a daemon said to one client.
pub(crate) fn daemon_bytes() -> Vec<Vec<u8>> {
    let mut streams: BTreeMap<(String, String), Vec<u8>> = BTreeMap::new();
    let mut inputs = Vec::new();
    for name in recorded::names() {
        for line in recorded::read(&name) {
            let What::Bytes { from_daemon: true, kind, bytes, .. } = line.what else { continue };
            if matches!(kind.as_str(), "auth_list" | "accept" | "reject") {
                inputs.push([&[0], &bytes[..]].concat());
            } else {
                let stream = streams.entry((name.clone(), line.conn)).or_insert_with(|| vec![96]);
                stream.extend_from_slice(&bytes);
            }
        }
    }
    inputs.extend(streams.into_values().map(|mut stream| {
        stream.truncate(8000);
        stream
    }));
    inputs
}

/// Input of the `config` target: the ready files.
pub(crate) fn configurations() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![top.join("tuning"), top.join("tests/spread_conf")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == "toml" || found == "conf") {
                inputs.push(fs::read(path).unwrap());
            }
        }
    }
    inputs.sort();
    assert!(!inputs.is_empty(), "there are no ready files");
    let cluster = Config::default().cluster;
    inputs.push(cluster.identity().encode());
    inputs.push(b"# nobody else\n127.0.0.1\n10.0.0.0/8\nunix\n::1\n".to_vec());
    inputs
}
