//! The daemon's program: arguments, configuration, signals, exit codes, what it leaves behind.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// No step of a healthy daemon takes nearly so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn madrigald() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_madrigald"));
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    madrigald().args(arguments).output().expect("the daemon's program runs")
}

/// A command to the daemon by the tool.
fn tool(command: &str, daemon: &Daemon) -> Output {
    let address = format!("unix:{}", daemon.socket().display());
    let mut tool = Command::new(env!("CARGO_BIN_EXE_madrigal"));
    tool.args(command.split(' ')).args(["--address", &address]).output().expect("the tool runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("what is printed is text")
}

/// A daemon of its own, on a private socket and ports that the kernel chose.
struct Daemon {
    process: Child,
    log: Receiver<String>,
    directory: Rc<TempDir>,
    /// The log until it was ready.
    start: Vec<String>,
}

impl Daemon {
    fn start(arguments: &[&str]) -> Self {
        Self::start_in(Rc::new(tempfile::tempdir().unwrap()), arguments)
    }

    fn start_in(directory: Rc<TempDir>, arguments: &[&str]) -> Self {
        let mut command = madrigald();
        command.args(arguments);
        Self::start_by(command, directory, "")
    }

    /// Starts one by `command`, with `more` in its configuration.
    fn start_by(mut command: Command, directory: Rc<TempDir>, more: &str) -> Self {
        let config = directory.path().join("madrigal.toml");
        let listen = format!(
            "[listen]\nport = 0\nunix_directory = {:?}\nunix_mode = \"0600\"\n{more}",
            directory.path()
        );
        fs::write(&config, listen).unwrap();
        command.arg("--config").arg(&config).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (send, log) = channel();
        // Ends with the daemon.
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut daemon = Self { process, log, directory, start: Vec::new() };
        daemon.start = daemon.wait_for("ready");
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("0")
    }

    /// Waits for a log line with `part`, and returns all up to it.
    fn wait_for(&self, part: &str) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.log.recv_timeout(PATIENCE);
            lines.push(line.unwrap_or_else(|end| panic!("no \"{part}\" ({end}): {lines:#?}")));
            if lines.last().is_some_and(|line| line.contains(part)) {
                return lines;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).expect("the daemon takes signals");
    }

    /// Waits until the log ends, and returns the exit code, if it was not a signal.
    fn wait(&mut self) -> Option<i32> {
        while self.log.recv_timeout(PATIENCE).is_ok() {}
        self.process.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Fails where it has ended, as it should have.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn stops_at_sigterm_and_leaves_nothing_behind() {
    for driver in ["auto", "mio"] {
        let mut daemon = Daemon::start(&["--driver", driver]);
        let mode = fs::metadata(daemon.socket()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        daemon.signal(Signal::TERM);
        assert_eq!(daemon.wait(), Some(0), "{driver}");
        assert!(!daemon.socket().exists(), "{driver}");
    }
}

#[test]
fn reload_by_command_says_what_changed_or_why_nothing_did() {
    let daemon = Daemon::start(&[]);
    let control = daemon.directory.path().join("0.control");
    assert_eq!(fs::metadata(&control).unwrap().permissions().mode() & 0o777, 0o600);
    let config = daemon.directory.path().join("madrigal.toml");
    let listen = fs::read_to_string(&config).unwrap();
    let reload = |more: &str| {
        fs::write(&config, format!("{listen}{more}")).unwrap();
        let output = tool("reload", &daemon);
        let said = [text(&output.stdout), text(&output.stderr)].concat();
        (output.status.code(), said)
    };
    assert_eq!(reload(""), (Some(0), "the configuration is the same\n".to_owned()));
    let change = "`ring.window_packets` changes from 8192 to 100";
    assert_eq!(reload("[ring]\nwindow_packets = 100"), (Some(0), format!("{change}\n")));
    daemon.wait_for(change);
    let (code, said) = reload("[ring]\nwindow_packets = 200\n[cores]\ncount = 2");
    assert_eq!(code, Some(1));
    assert!(said.contains("restart:\n`cores.count` changes from 1 to 2"), "{said}");
    let (code, said) = reload("[ring]\nwindow_pakets = 200");
    assert_eq!(code, Some(1));
    assert!(said.contains("did you mean `window_packets`"), "{said}");
    // Nothing of what was refused is in force.
    let same = "the configuration is the same\n".to_owned();
    assert_eq!(reload("[ring]\nwindow_packets = 100"), (Some(0), same));
}

#[test]
fn reload_waits_for_its_moment() {
    let daemon = Daemon::start(&[]);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let reload = |at: u64| tool(&format!("reload --at {at}"), &daemon).status.code();
    let second = now().as_secs() + 2;
    assert_eq!(reload(second), Some(0));
    assert!(now() >= Duration::from_secs(second));
    assert_eq!(reload(second), Some(0), "it is over");
    assert_eq!(reload(second + 4_000), Some(2));
}

#[test]
fn counters_are_told_on_command_and_others_are_served_after_nonsense() {
    let mut daemon = Daemon::start(&["--driver", "mio"]);
    let control = daemon.directory.path().join("0.control");
    let mut stranger = UnixStream::connect(&control).unwrap();
    stranger.write_all(b"shutdown\n").unwrap();
    let silent = UnixStream::connect(&control).unwrap();
    let mut answer = String::new();
    stranger.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("failed\n"), "{answer}");
    let output = tool("counters", &daemon);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).lines().any(|line| line == "sessions_started 0"), "{output:?}");
    drop(silent);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Some(0));
    assert!(!control.exists());
}

#[test]
fn what_is_counted_without_work_is_told_as_well() {
    for cores in ["1", "2"] {
        let directory = Rc::new(tempfile::tempdir().unwrap());
        let more = format!("[cores]\ncount = {cores}\nspin_us = 1\n");
        let daemon = Daemon::start_by(madrigald(), directory, &more);
        let is_counted = || {
            let output = tool("counters", &daemon);
            text(&output.stdout).lines().any(|line| line == "configurations_installed 1")
        };
        let end = Instant::now() + PATIENCE;
        while !is_counted() {
            assert!(Instant::now() < end, "{cores} cores");
        }
        daemon.signal(Signal::TERM);
        let stop = daemon.wait_for("stopped").pop().unwrap();
        assert!(stop.contains("configurations_installed 1"), "{stop}");
    }
}

#[test]
fn daemon_without_a_cluster_is_logged_by_its_name() {
    for cores in [1, 2] {
        let directory = Rc::new(tempfile::tempdir().unwrap());
        let more = format!("[daemon]\nname = \"solo\"\n[cores]\ncount = {cores}\n");
        let daemon = Daemon::start_by(madrigald(), directory, &more);
        let installed = |line: &&String| line.contains("configuration installed");
        let line = daemon.start.iter().find(installed).cloned();
        let line = line.or_else(|| daemon.wait_for("configuration installed").pop()).unwrap();
        assert!(line.contains("daemons=\"solo\""), "{line}");
    }
}

#[test]
fn stops_at_sigint_and_closes_connections() {
    let mut daemon = Daemon::start(&[]);
    let mut client = UnixStream::connect(daemon.socket()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    // The hello of a library 5.0.1 without a name, and the list of methods that answers it.
    client.write_all(&[5, 0, 1, 0, 0]).unwrap();
    let mut methods = [0; 6];
    client.read_exact(&mut methods).unwrap();
    assert_eq!(&methods, b"\x05NULL ");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(client.read(&mut methods).unwrap(), 0);
}

#[test]
fn says_what_is_in_force_and_where_it_listens() {
    let daemon = Daemon::start(&["--driver", "mio"]);
    for part in [
        "configuration: [listen]  port = 0",
        "driver opened core=0 driver=mio",
        "listening address=127.0.0.1:",
    ] {
        assert!(daemon.start.iter().any(|line| line.contains(part)), "{part}");
    }
    for name in ["0", "0.shm", "0.control"] {
        let path = format!("listening path={}", daemon.directory.path().join(name).display());
        assert!(daemon.start.iter().any(|line| line.ends_with(&path)), "{path}");
    }
    daemon.signal(Signal::TERM);
    let stop = daemon.wait_for("stopped").pop().unwrap();
    assert!(stop.contains("connections_accepted 0"), "{stop}");
}

#[test]
fn memory_is_locked_or_a_warning_says_why_not() {
    let directory = || Rc::new(tempfile::tempdir().unwrap());
    let start = |command| Daemon::start_by(command, directory(), "[memory]\nlock = true\n");
    let locked = |daemon: &Daemon| {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let warned = |daemon: &Daemon| {
        daemon.start.iter().any(|line| line.contains("WARN") && line.contains("LimitMEMLOCK="))
    };
    let may_lock = rustix::process::geteuid().is_root();
    if may_lock {
        let daemon = start(madrigald());
        assert!(locked(&daemon) > 1024 && !warned(&daemon), "{:?}", daemon.start);
    }
    // Root gives up its right to, too.
    let mut command = Command::new("setpriv");
    if may_lock {
        command.args(["--bounding-set", "-ipc_lock"]);
    }
    command.args(["prlimit", "--memlock=65536", env!("CARGO_BIN_EXE_madrigald")]);
    command.stdin(Stdio::null());
    let daemon = start(command);
    assert!(locked(&daemon) == 0 && warned(&daemon), "{:?}", daemon.start);
}

#[test]
fn sigusr1_and_sighup_are_told_and_stop_nothing() {
    let mut daemon = Daemon::start(&[]);
    daemon.signal(Signal::USR1);
    let counters = daemon.wait_for("counters").pop().unwrap();
    assert!(counters.contains("sessions_started 0"), "{counters}");
    daemon.signal(Signal::HUP);
    daemon.wait_for("the configuration is the same");
    let config = daemon.directory.path().join("madrigal.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("{text}\n[sessions]\nmax = 5\n")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("needs a restart");
    daemon.wait_for("`sessions.max` changes from 16384 to 5");
    fs::write(&config, "nonsense").unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for("the configuration stays as it was");
    assert!(UnixStream::connect(daemon.socket()).is_ok());
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn socket_in_use_is_an_error_and_stays_untouched() {
    let daemon = Daemon::start(&[]);
    let config = daemon.directory.path().join("madrigal.toml");
    let second = run(&["--config", config.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains("in use"), "{}", text(&second.stderr));
    assert!(UnixStream::connect(daemon.socket()).is_ok());
}

#[test]
fn what_lies_at_the_places_of_lesser_sockets_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["0.shm", "0.control"] {
        fs::write(directory.path().join(name), "precious").unwrap();
    }
    let daemon = Daemon::start_in(Rc::new(directory), &["--driver", "mio"]);
    for part in ["no sessions over shared memory", "no commands to this daemon"] {
        let told = |line: &&String| line.contains(part) && line.contains("is no socket");
        assert_eq!(daemon.start.iter().filter(told).count(), 1, "{:#?}", daemon.start);
    }
    daemon.signal(Signal::USR1);
    daemon.wait_for("counters");
}

#[test]
fn stale_socket_is_replaced() {
    let mut daemon = Daemon::start(&[]);
    daemon.process.kill().unwrap();
    daemon.wait();
    assert!(daemon.socket().exists(), "a killed daemon removes nothing");
    let second = Daemon::start_in(daemon.directory.clone(), &[]);
    assert!(UnixStream::connect(second.socket()).is_ok());
}

#[test]
fn check_prints_a_configuration_that_can_be_used() {
    let printed = run(&["--check", "--driver", "mio"]);
    assert_eq!(printed.status.code(), Some(0));
    assert!(text(&printed.stdout).contains("driver = \"mio\"\n"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("madrigal.toml");
    fs::write(&file, &printed.stdout).unwrap();
    let again = run(&["--check", "--config", file.to_str().unwrap()]);
    assert_eq!(text(&again.stdout), text(&printed.stdout));
}

#[test]
fn arguments_of_spreads_scripts_are_understood() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/spread_conf/simple.conf");
    let short = run(&["-c", file, "-n", "beta", "--check"]);
    assert_eq!(short.status.code(), Some(0), "{}", text(&short.stderr));
    let long = run(&["--config", file, "--name", "beta", "--check"]);
    assert_eq!(text(&short.stdout), text(&long.stdout));
}

#[test]
fn wrong_configuration_is_exit_code_2_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("madrigal.toml");
    fs::write(&file, "[listen]\nprot = 4803\n").unwrap();
    let file = file.to_str().unwrap();
    let output = run(&["--config", file]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.starts_with("madrigald: `listen.prot` is not a key\n"), "{said}");
    assert!(said.contains(&format!("--> {file}:2:1\n")), "{said}");
    assert!(said.contains("did you mean `port`?"), "{said}");
}

#[test]
fn missing_configuration_and_bad_arguments_are_exit_code_2() {
    let missing = Path::new("/nonexistent/madrigal.toml").to_str().unwrap();
    for arguments in [&["--config", missing][..], &["--driver", "epoll"], &["--frobnicate"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn version_is_the_packages() {
    let output = run(&["--version"]);
    assert_eq!(text(&output.stdout), format!("madrigald {}\n", env!("CARGO_PKG_VERSION")));
}
