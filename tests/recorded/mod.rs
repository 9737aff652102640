//! Byte streams recorded between Spread's own library and daemon: `tests/transcripts/*.jsonl`.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// One line of a transcript.
#[derive(Debug)]
pub(crate) struct Line {
    /// Its number in the transcript.
    pub(crate) number: u64,
    /// File and line number, for messages of failing tests.
    pub(crate) place: String,
    /// Which connection it is about; empty for none.
    pub(crate) conn: String,
    /// What it tells.
    pub(crate) what: What,
}

/// What a line tells.
#[derive(Debug)]
pub(crate) enum What {
    /// A unit of the protocol.
    Bytes {
        /// Whether the daemon sent it.
        from_daemon: bool,
        /// `connect`, `auth_list`, `message`, ...
        kind: String,
        /// The unit.
        bytes: Vec<u8>,
        /// What the recorder made of it.
        desc: Value,
    },
    /// What a receive call gave the application, as the recorded program printed it.
    Received(String),
    /// What the client is about to do.
    Call(String),
    /// What the operator did, or an explanation.
    Note(String),
    /// Anything else.
    Other,
}

/// Names of all transcripts, without `.jsonl`.
pub(crate) fn names() -> Vec<String> {
    let entries = std::fs::read_dir(directory()).expect("the transcripts are there");
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() >= 20, "only {} transcripts", names.len());
    names
}

/// Reads a transcript.
pub(crate) fn read(name: &str) -> Vec<Line> {
    let path = directory().join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.lines()
        .map(|line| parse(name, &serde_json::from_str(line).expect("a JSON line")))
        .collect()
}

/// All protocol units of all transcripts, with place, side, kind and description.
pub(crate) fn units() -> impl Iterator<Item = (String, bool, String, Vec<u8>, Value)> {
    names().into_iter().flat_map(|name| read(&name)).filter_map(|line| match line.what {
        What::Bytes { from_daemon, kind, bytes, desc } => {
            Some((line.place, from_daemon, kind, bytes, desc))
        }
        What::Received(_) | What::Call(_) | What::Note(_) | What::Other => None,
    })
}

/// The bytes that a string of hexadecimal digits spells; blanks are skipped.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .chars()
        .filter(|digit| !digit.is_whitespace())
        .map(|digit| digit.to_digit(16).expect("a hexadecimal digit") as u8)
        .collect();
    assert!(digits.len().is_multiple_of(2));
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn parse(name: &str, line: &Value) -> Line {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let place = format!("{name} line {}", line["n"]);
    let what = match text("ev").as_str() {
        "bytes" => What::Bytes {
            from_daemon: text("dir") == "d2c",
            kind: text("kind"),
            bytes: whole(line, &place),
            desc: line["desc"].clone(),
        },
        "call" => What::Call(text("call")),
        "note" => What::Note(text("text")),
        "received" => What::Received(text("result")),
        _ => What::Other,
    };
    let number = line["n"].as_u64().expect("lines are numbered");
    Line { number, place, conn: text("conn"), what }
}

/// Long data is recorded as a rule and a hash of the frame.
fn whole(line: &Value, place: &str) -> Vec<u8> {
    let mut bytes = hex(line["hex"].as_str().unwrap());
    if let Some(rule) = line["data_rule"].as_str() {
        assert_eq!(rule, "data[i] = i mod 251", "{place}");
        bytes.extend((0..line["data_len"].as_u64().unwrap()).map(|index| (index % 251) as u8));
        let hash: Vec<u8> = Sha256::digest(&bytes).to_vec();
        assert_eq!(hash, hex(line["frame_sha256"].as_str().unwrap()), "{place}");
    }
    bytes
}
