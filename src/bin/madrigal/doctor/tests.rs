//! Whole hosts: what is told of them, and that nothing in their files makes the doctor fall ill.

use std::fs;
use std::path::Path;

use clap::ValueEnum;
use tempfile::TempDir;

use super::*;

/// A root with these files.
pub(crate) fn tree(files: &[(&str, &str)]) -> (TempDir, Root) {
    let directory = TempDir::new().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = Root::new(directory.path().to_owned());
    (directory, root)
}

/// The files of a recorded host: `== path`, then what the file contains.
fn files(host: &str) -> Vec<(&str, &str)> {
    let parts = host.split("\n== ").map(|part| part.strip_prefix("== ").unwrap_or(part));
    parts.map(|part| part.split_once('\n').unwrap_or((part, ""))).collect()
}

/// What is told of a recorded host.
fn told(host: &str, preset: Preset) -> Report {
    let (_directory, root) = tree(&files(host));
    Report::new(preset.file().0, &Facts::read(&root, "self"), &preset.config())
}

const HEALTHY: &str = include_str!("../../../../tests/doctor/healthy.host");
const CONTAINER: &str = include_str!("../../../../tests/doctor/container.host");
const LAPTOP: &str = include_str!("../../../../tests/doctor/laptop.host");

/// Compares with what is recorded beside the host; `MADRIGAL_RECORD=1` records it instead.
#[track_caller]
fn assert_golden(name: &str, report: &Report) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doctor").join(name);
    let text = report.to_text();
    if std::env::var_os("MADRIGAL_RECORD").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap(), "{}", path.display());
}

#[test]
fn healthy_host_has_nothing_to_mend() {
    let report = told(HEALTHY, Preset::LowestLatency);
    assert_golden("healthy.lowest-latency.txt", &report);
    assert_eq!(report.verdict(), Verdict::Fine);
    for preset in Preset::value_variants() {
        assert!(told(HEALTHY, *preset).verdict() <= Verdict::Note, "{preset:?}");
    }
}

#[test]
fn container_is_told_of_its_filter_and_its_limits() {
    let report = told(CONTAINER, Preset::Balanced);
    assert_golden("container.balanced.txt", &report);
    assert_eq!(report.verdict(), Verdict::Warning);
}

#[test]
fn container_cannot_have_a_cpu_that_it_was_not_given() {
    let report = told(CONTAINER, Preset::LowestLatency);
    assert_golden("container.lowest-latency.txt", &report);
    assert_eq!(report.verdict(), Verdict::Stop);
}

#[test]
fn laptop_is_told_that_it_saves_power() {
    let report = told(LAPTOP, Preset::LowestLatency);
    assert_golden("laptop.lowest-latency.txt", &report);
    assert_eq!(report.verdict(), Verdict::Warning);
    let ordinary = told(LAPTOP, Preset::SharedHost);
    assert_golden("laptop.shared-host.txt", &ordinary);
}

#[test]
fn every_preset_is_valid_and_named_after_its_file() {
    for preset in Preset::value_variants() {
        let (name, text) = preset.file();
        assert_eq!(preset.to_possible_value().unwrap().get_name(), name);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning").join(name);
        let loaded = Config::load(&path.with_extension("toml"), Who::Anyone).unwrap();
        assert_eq!(loaded, preset.config());
        // A reader must find out what each setting is for.
        let mut above = "";
        for line in text.lines() {
            let is_setting = line.contains(" = ") && !line.starts_with('#');
            assert!(!is_setting || above.starts_with('#'), "{name}: no reason above {line}");
            above = line;
        }
    }
}

#[test]
fn machines_are_told_the_same_as_people() {
    let report = told(CONTAINER, Preset::Balanced);
    let (json, text) = (report.to_json(), report.to_text());
    assert_eq!(json["verdict"], "warning");
    let checks = json["checks"].as_array().unwrap();
    assert_eq!(checks.len(), checks::CHECKS.len());
    for check in checks {
        let line =
            format!("{}: {}", check["check"].as_str().unwrap(), check["found"].as_str().unwrap());
        assert!(text.contains(&line), "{line}");
    }
}

#[test]
fn nothing_known_is_no_reason_to_warn() {
    for preset in Preset::value_variants() {
        let report = Report::new("nothing", &Facts::default(), &preset.config());
        assert!(report.verdict() <= Verdict::Warning);
        assert_ne!(report.verdict(), Verdict::Stop, "{preset:?}");
    }
}

/// What a kernel would never write.
const GARBAGE: [&[u8]; 12] = [
    b"",
    b"\n",
    b"\0\0\0",
    b"\xff\xfe\xfd",
    b"-1",
    b"18446744073709551616",
    b"0-18446744073709551615",
    b"[",
    b"]always[",
    b"0x",
    b"Udp: \nUdp: \nTcp:",
    b"0::/../../../../..\n|-- x\n/32 host LOCAL\ncpu  1 2 3\n:::",
];

#[test]
fn garbage_in_any_file_is_survived() {
    for host in [HEALTHY, CONTAINER, LAPTOP] {
        let (directory, root) = tree(&files(host));
        // One CPU and one queue stand for the others.
        let is_another = |path: &str| {
            (2..8).any(|n| path.contains(&format!("/cpu{n}/")))
                || (1..8).any(|n| path.contains(&format!("/rx-{n}/")))
        };
        for (path, text) in files(host).into_iter().filter(|(path, _)| !is_another(path)) {
            let path = directory.path().join(path);
            let half = text.len() / 2;
            let damaged =
                GARBAGE.into_iter().chain([&text.as_bytes()[..half], &text.as_bytes()[half..]]);
            for bytes in damaged {
                fs::write(&path, bytes).unwrap();
                let facts = Facts::read(&root, "self");
                for preset in Preset::value_variants() {
                    let report = Report::new("garbage", &facts, &preset.config());
                    assert!(!report.to_text().contains('\0'), "{}", path.display());
                }
            }
            fs::write(&path, text).unwrap();
        }
    }
}

#[test]
fn numbers_at_their_ends_are_survived() {
    for number in ["0", "1", "18446744073709551615"] {
        let mut host = files(HEALTHY);
        for (_, text) in &mut host {
            if text.trim().parse::<u64>().is_ok() {
                *text = number;
            }
        }
        let (_directory, root) = tree(&host);
        let facts = Facts::read(&root, "self");
        for preset in Preset::value_variants() {
            Report::new("ends", &facts, &preset.config()).to_text();
        }
    }
}
