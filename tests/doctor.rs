//! `madrigal doctor` as scripts run it, and what lies in `tuning/` beside the presets.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use madrigal::config::{Config, Who};
use serde_json::Value;
use tempfile::TempDir;

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_madrigal")).arg("doctor").args(arguments).output().unwrap()
}

/// Runs it on a recorded host, for a preset; the exit code, and what it printed.
fn on_host(host: &str, preset: &str, more: &[&str]) -> (Option<i32>, String) {
    let directory = TempDir::new().unwrap();
    let recorded = fs::read_to_string(format!("tests/doctor/{host}.host")).unwrap();
    for part in recorded.split("\n== ") {
        let (path, text) = part.split_once('\n').unwrap_or((part, ""));
        let path = directory.path().join(path.trim_start_matches("== "));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let root = directory.path().display().to_string();
    let output = doctor(&[&["--root", &root, "--preset", preset], more].concat());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn exit_code_tells_the_worst_that_was_found() {
    assert_eq!(on_host("healthy", "lowest-latency", &[]).0, Some(0));
    assert_eq!(on_host("container", "balanced", &[]).0, Some(1));
    assert_eq!(on_host("container", "lowest-latency", &[]).0, Some(2));
}

#[test]
fn people_are_told_what_is_recorded() {
    let (_, text) = on_host("container", "balanced", &[]);
    assert_eq!(text, fs::read_to_string("tests/doctor/container.balanced.txt").unwrap());
}

#[test]
fn this_host_can_be_looked_at() {
    let output = doctor(&["--json"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let code = match report["verdict"].as_str().unwrap() {
        "fine" | "note" => 0,
        "warning" => 1,
        "stop" => 2,
        other => panic!("{other}"),
    };
    assert_eq!(output.status.code(), Some(code), "{report}");
    assert!(report["host"].as_str().unwrap().starts_with("Linux "), "{report}");
}

#[test]
fn configuration_of_a_daemon_decides_what_matters() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("madrigal.toml");
    let path = file.display().to_string();
    fs::write(&file, "[cores]\npin = [1023]\n").unwrap();
    let output = doctor(&["--config", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("cores.pin has CPU 1023"));
    // Every host has both.
    fs::write(&file, "[cluster]\ndaemons = [\"a 127.0.0.1\", \"b 127.0.0.2\"]\n").unwrap();
    let output = doctor(&["--config", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("one of a 127.0.0.1, b 127.0.0.2"));
    fs::write(&file, "[cores]\npins = [1]\n").unwrap();
    let output = doctor(&["--config", &path]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("did you mean `pin`"));
}

#[test]
fn what_cannot_be_looked_at_is_told() {
    for (arguments, code, told) in [
        (&["--root", "/nonexistent"][..], 1, "/nonexistent/proc/self"),
        (&["--pid", "4000000000"], 1, "/proc/4000000000"),
        (&["--preset", "fastest"], 2, "lowest-latency"),
        (&["--preset", "balanced", "--config", "x"], 2, "--config"),
        (&["--name", "a"], 2, "--config"),
    ] {
        let output = doctor(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains(told), "{arguments:?}: {complaint}");
    }
}

/// Keys and values of the sysctl file.
fn sysctls() -> BTreeMap<String, String> {
    let text = fs::read_to_string("tuning/sysctl.d/60-madrigal.conf").unwrap();
    let settings = text.lines().filter(|line| !line.starts_with('#'));
    let pairs = settings.filter_map(|line| line.split_once(" = "));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn presets() -> Vec<(String, Config)> {
    let entries = fs::read_dir("tuning").unwrap().map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|found| found == "toml"));
    let load =
        |path: &Path| Config::load(path, Who::Anyone).unwrap_or_else(|error| panic!("{error}"));
    files.map(|path| (path.display().to_string(), load(&path))).collect()
}

#[test]
fn kernel_settings_are_enough_for_every_preset() {
    let sysctls = sysctls();
    let number = |key: &str| sysctls[key].parse::<usize>().unwrap();
    let presets = presets();
    assert!(presets.len() >= 5);
    for (path, config) in presets {
        assert!(number("net.core.rmem_max") >= config.cluster.receive_bytes, "{path}");
    }
}

#[test]
fn every_host_setting_has_its_row() {
    let page = fs::read_to_string("docs/tuning.md").unwrap();
    let units = ["tuning/systemd/madrigald.service", "tuning/systemd/lowest-latency.conf"];
    let units = units.map(|path| fs::read_to_string(path).unwrap()).concat();
    let of_units = ["LimitNOFILE", "LimitMEMLOCK", "PrivateTmp", "AllowedCPUs", "Slice"];
    for name in of_units {
        assert!(units.contains(&format!("{name}=")), "{name} is not in the units");
    }
    for name in sysctls().keys().map(String::as_str).chain(of_units) {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{name}")));
        let row = row.unwrap_or_else(|| panic!("{name} has no row in docs/tuning.md"));
        // Setting, reason, check, undo.
        assert_eq!(row.matches(" | ").count(), 3, "{row}");
    }
}
