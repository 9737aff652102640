//! `madrigal config` and `madrigald --check` as people and scripts run them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn file(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/spread_conf");
    folder.join(name).to_str().unwrap().to_owned()
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn config(arguments: &[&str]) -> Output {
    run(env!("CARGO_BIN_EXE_madrigal"), &[&["config"], arguments].concat())
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn right_file_is_described_with_what_all_must_agree_on() {
    let output = config(&["check", &file("simple.conf")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(said.contains("is right. Daemons: 3, segments: 1."), "{said}");
    assert!(said.contains("hash ") && said.contains("daemon beta 10.0.0.2 id "), "{said}");
    assert!(said.contains("simple.conf:2: 10.0.0.255 is no multicast address"), "{said}");
}

#[test]
fn wrong_file_is_exit_code_1_with_its_place() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("spread.conf");
    fs::write(&path, "Window=5\nSpread_Segment 10.0.0.255 { a 10.0.0.1 }\n").unwrap();
    let path = path.to_str().unwrap();
    let output = config(&["check", path]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("here `Window=5` stands") && said.contains(":1:1\n"), "{said}");
    let output = config(&["check", "--json", path]);
    assert_eq!(output.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["right"], &said["problems"][0]["line"]), (&false.into(), &1.into()));
}

#[test]
fn every_daemon_is_checked_unless_one_is_named() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("madrigal.toml");
    let covered = "clients = [\"0.0.0.0\", \"10.0.0.2\"]";
    let daemons =
        format!("[\"a 10.0.0.1\", {{ name = \"b\", address = \"10.0.0.2\", {covered} }}]");
    fs::write(&path, format!("cluster.daemons = {daemons}\n")).unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(config(&["check", path]).status.code(), Some(1));
    assert_eq!(config(&["check", path, "--name", "b"]).status.code(), Some(1));
    assert_eq!(config(&["check", path, "--name", "a"]).status.code(), Some(0));
    assert_eq!(config(&["check", path, "--name", "c"]).status.code(), Some(1));
}

#[test]
fn which_daemon_this_host_is_is_told_and_why_that_is_not_known() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("madrigal.toml");
    for (daemons, here) in [
        ("\"a 127.0.0.1\", \"b 198.51.100.1\"", "This host is a."),
        ("\"a 198.51.100.1\", \"b 198.51.100.2\"", "This host is none of them."),
        ("\"a 127.0.0.1\", \"b 127.0.0.2\"", "has the addresses of several: a, b."),
    ] {
        fs::write(&path, format!("cluster.daemons = [{daemons}]\n")).unwrap();
        let output = config(&["check", path.to_str().unwrap()]);
        assert!(text(&output.stdout).contains(here), "{}", text(&output.stdout));
    }
}

#[test]
fn converted_file_is_the_same_cluster() {
    let hash = |path: &str| {
        let output = config(&["check", "--json", path]);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["right"], true, "{said}");
        said["hash"].clone()
    };
    let converted = config(&["convert", &file("simple.conf")]);
    assert_eq!(converted.status.code(), Some(0));
    assert_eq!(text(&converted.stdout), fs::read_to_string(file("simple.toml")).unwrap());
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("madrigal.toml");
    fs::write(&path, converted.stdout).unwrap();
    assert_eq!(hash(path.to_str().unwrap()), hash(&file("simple.conf")));
}

#[test]
fn bad_arguments_are_exit_code_2() {
    for arguments in [&["convert", "madrigal.toml"][..], &["check"], &["check", "a", "--name", "#"]]
    {
        assert_eq!(config(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(config(&["check", "/nonexistent"]).status.code(), Some(1));
}

#[test]
fn daemon_reads_spreads_file_and_says_what_has_no_effect() {
    let path = file("simple.conf");
    let output =
        run(env!("CARGO_BIN_EXE_madrigald"), &["--config", &path, "--name", "beta", "--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert!(printed.contains("name = \"beta\"\n"), "{printed}");
    assert!(printed.contains("tcp = [\"0.0.0.0\"]\n"), "{printed}");
    assert!(text(&output.stderr).contains("simple.conf:2: 10.0.0.255 is no multicast address"));
    let nobody = run(env!("CARGO_BIN_EXE_madrigald"), &["--config", &path, "--name", "delta"]);
    assert_eq!(nobody.status.code(), Some(2));
    assert!(text(&nobody.stderr).contains("one of alpha 10.0.0.1, beta 10.0.0.2"));
}
