//! The tool as people and scripts run it: the real binary, and a real daemon behind it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A daemon of its own for a test, on a Unix socket in a fresh directory.
struct Daemon {
    child: Child,
    /// Kept open: a daemon whose log nobody reads must not fail.
    _log: BufReader<ChildStderr>,
    directory: TempDir,
}

impl Daemon {
    fn start() -> Self {
        Self::start_with("")
    }

    /// With further keys of `[listen]`.
    fn start_with(keys: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let text = format!(
            "[listen]\nport = 0\ntcp = []\nunix_directory = {:?}\n{keys}\n",
            directory.path().display().to_string()
        );
        std::fs::write(directory.path().join("madrigal.toml"), text).unwrap();
        let (child, log) = Self::spawn(&directory);
        Self { child, _log: log, directory }
    }

    fn spawn(directory: &TempDir) -> (Child, BufReader<ChildStderr>) {
        let config = directory.path().join("madrigal.toml");
        let mut child = Command::new(env!("CARGO_BIN_EXE_madrigald"))
            .arg("--config")
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let told = read_until(&mut log, "ready");
        assert!(told.contains("ready"), "the daemon did not start:\n{told}");
        (child, log)
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts another one in its place.
    fn start_again(&mut self) {
        (self.child, self._log) = Self::spawn(&self.directory);
    }

    fn address(&self) -> String {
        format!("unix:{}", self.directory.path().join("0").display())
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has noticed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines up to one that contains `what`, or all there are.
fn read_until(from: &mut impl BufRead, what: &str) -> String {
    let mut text = String::new();
    let mut from_line = 0;
    while from.read_line(&mut text).unwrap() != 0 && !text[from_line..].contains(what) {
        from_line = text.len();
    }
    text
}

fn madrigal(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_madrigal"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    madrigal(arguments).output().unwrap()
}

/// Runs it with `input` to read from, to its end.
fn run_with_input(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = madrigal(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// What it printed, of a run that must have succeeded.
fn text(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What it complained of, of a run that must have ended with `code`.
fn complaint(output: &Output, code: i32) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{told}");
    told
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in: {line}"))
}

/// A `recv` whose joins have taken effect; with messages missing it fails instead of hanging.
fn start_recv(arguments: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut child = madrigal(arguments).args(["--timeout", "60s"]).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let text = read_until(&mut told, "receiving as");
    assert!(text.contains("receiving as"), "{text}");
    (child, told)
}

#[test]
fn every_subcommand_explains_itself() {
    for subcommand in [
        &["user"][..],
        &["send"],
        &["recv"],
        &["flood"],
        &["bench", "latency"],
        &["bench", "throughput"],
        &["bench", "yardstick"],
        &["reload"],
        &["counters"],
        &["doctor"],
    ] {
        let help = text(&run(&[subcommand, &["--help"]].concat()));
        assert!(help.contains("Usage: madrigal"), "{help}");
        assert!(help.contains(&format!("madrigal {}", subcommand.join(" "))), "{help}");
        let lines_too_long: Vec<_> = help.lines().filter(|line| line.len() > 100).collect();
        assert!(lines_too_long.is_empty(), "{lines_too_long:#?}");
    }
    assert!(text(&run(&["--version"])).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn bad_arguments_are_told_and_end_with_code_2() {
    for (arguments, told) in [
        (&["sned"][..], "sned"),
        (&["send"], "<GROUP>"),
        (&["send", "g", "text", "--lines"], "--lines"),
        (&["send", "g", "text", "--service", "best"], "not a service"),
        (&["send", "g", "text", "--type", "40000"], "40000"),
        (&["send", "g", "text", "--interval", "soon"], "expected a number"),
        (&["recv", "g", "--json", "--raw"], "--raw"),
        (&["recv", "g", "--count", "0"], "0"),
        (&["flood", "g", "--rate", "0"], "above zero"),
        (&["bench", "latency", "--compare-pid", "1"], "--compare"),
        (&["bench", "latency", "--size", "7"], "too small"),
        (&["bench", "latency", "--size", "144000"], "too large"),
        (&["bench", "throughput", "--duration", "0s"], "more than zero"),
        (&["bench", "throughput", "--senders", "0"], "0"),
        (&["bench", "throughput", "--window", "5", "--sweep"], "--sweep"),
        (&["bench", "yardstick", "--pin", "1,2,3"], "two CPUs"),
        (&["bench", "latency", "--transport", "tcp", "-a", "unix:/x"], "a Unix socket"),
        (&["bench", "throughput", "--transport", "unix", "-a", "1@localhost"], "one of TCP"),
        (&["bench", "latency", "--transport", "shm", "--compare", "1@localhost"], "one of TCP"),
    ] {
        let complaint = complaint(&run(arguments), 2);
        assert!(complaint.contains(told), "{arguments:?}: {complaint}");
    }
}

#[test]
fn a_message_that_is_too_long_is_no_mistake_of_the_arguments() {
    let too_long = vec![b'x'; 144_001];
    let complaint = complaint(&run_with_input(&["send", "g"], &too_long), 1);
    assert!(complaint.contains("--lines") && !complaint.contains("--help"), "{complaint}");
}

#[test]
fn without_a_daemon_the_failure_says_so() {
    let directory = TempDir::new().unwrap();
    let address = format!("unix:{}", directory.path().join("none").display());
    for arguments in [
        &["user"][..],
        &["send", "g", "text"],
        &["recv", "g"],
        &["flood", "g", "--count", "1"],
        &["bench", "latency"],
        &["bench", "throughput"],
    ] {
        let complaint = complaint(&run(&[arguments, &["--address", &address]].concat()), 1);
        assert!(complaint.contains("Is a daemon running there?"), "{complaint}");
    }
    let complaint = complaint(&run(&["recv", "--address", "nowhere"]), 1);
    assert!(complaint.contains("no daemon address"), "{complaint}");
    let complaint = self::complaint(&run(&["send", "g", "--file", "/nonexistent"]), 1);
    assert!(complaint.contains("/nonexistent"), "{complaint}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = madrigal(&["bench", "yardstick", "--duration", "5ms"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(complaint(&output, 0), "");
}

#[test]
fn a_reader_of_the_daemons_configuration_may_go_away_too() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_madrigald"));
    let output = daemon.arg("--check").stdout(writer).stderr(Stdio::piped()).output().unwrap();
    let told = complaint(&output, 0);
    assert!(!told.contains("panicked"), "{told}");
}

#[test]
fn a_complaint_that_nobody_reads_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut nobody = madrigal(&["send", "g", "text", "-a", "nowhere"]);
    assert_eq!(nobody.stderr(writer).status().unwrap().code(), Some(1));
}

#[test]
fn bench_finds_out_where_it_cannot_write_before_it_measures() {
    for option in ["--report", "--hgrm"] {
        // Nobody is there either, which would be found out by connecting.
        let bench = ["bench", "latency", "-a", "unix:/nonexistent/0", option, "/nonexistent/file"];
        let complaint = complaint(&run(&bench), 1);
        assert!(complaint.contains("cannot write /nonexistent/file"), "{complaint}");
    }
}

#[test]
fn bench_tells_what_carried_it_and_why() {
    let (daemon, without) = (Daemon::start(), Daemon::start_with("shared_memory = false"));
    let short = ["bench", "latency", "--warmup", "1ms", "-c", "20"];
    for (transport, by) in [("auto", "shm"), ("shm", "shm"), ("unix", "unix")] {
        let address = daemon.address();
        let bench = [&short[..], &["-a", &address, "--transport", transport]].concat();
        let result = json(&text(&run(&[&bench[..], &["--json"]].concat())));
        assert_eq!(result["settings"]["transport"], transport, "{result}");
        assert_eq!(result["carriers"][0]["by"], by, "{result}");
        let shown = text(&run(&bench));
        assert!(shown.contains(&format!("by {by}, clients")), "{shown}");
        assert!(!shown.contains("without shared memory"), "{shown}");
    }
    let address = without.address();
    let shown = text(&run(&[&short[..], &["-a", &address]].concat()));
    assert!(shown.contains("by unix, clients"), "{shown}");
    assert!(shown.contains("without shared memory: "), "{shown}");
}

#[test]
fn bench_says_so_where_its_threads_keep_each_other_from_running() {
    let daemon = Daemon::start();
    let address = daemon.address();
    let cpus = rustix::thread::sched_getaffinity(None).unwrap();
    let cpu = (0..).find(|&cpu| cpus.is_set(cpu)).unwrap().to_string();
    let bench = ["bench", "throughput", "-a", &address, "--warmup", "1ms", "-c", "20"];
    let crowded = ["--wait", "spin", "--pin", &cpu];
    let shown = text(&run(&[&bench[..], &crowded].concat()));
    assert!(shown.contains("2 threads of this bench spin on 1 CPUs"), "{shown}");
    assert!(!text(&run(&bench)).contains("keep each other"), "parked threads do not");
}

#[test]
fn a_missing_shared_memory_is_explained() {
    let (daemon, without) = (Daemon::start(), Daemon::start_with("shared_memory = false"));
    let status = run_with_input(&["user", "-a", &daemon.address()], b"status\n");
    assert!(!String::from_utf8_lossy(&status.stderr).contains("without shared memory"));
    assert!(text(&status).contains(" by shared memory"), "{}", text(&status));
    let status = run_with_input(&["user", "-a", &without.address()], b"status\n");
    assert!(String::from_utf8_lossy(&status.stderr).contains("without shared memory: "));
    assert!(text(&status).contains(" by socket ("), "{}", text(&status));
}

#[test]
fn a_receiver_with_patience_goes_on_with_the_next_daemon() {
    let mut daemon = Daemon::start();
    let address = daemon.address();
    let arguments = ["recv", "-a", &address, "g", "--lines", "-c", "2", "--retry", "60s"];
    let (mut receiver, mut told) = start_recv(&arguments);
    let mut shown = BufReader::new(receiver.stdout.take().unwrap());
    text(&run(&["send", "-a", &address, "g", "before"]));
    assert_eq!(read_until(&mut shown, "before"), "before\n");
    daemon.kill();
    let lost = read_until(&mut told, "connecting again");
    assert!(lost.contains("closed the connection"), "{lost}");
    daemon.start_again();
    let again = read_until(&mut told, "receiving as");
    assert!(again.contains("receiving as"), "{again}");
    text(&run(&["send", "-a", &address, "g", "after"]));
    assert_eq!(read_until(&mut shown, "after"), "after\n");
    assert!(receiver.wait().unwrap().success());
}

#[test]
fn a_sender_with_patience_goes_on_with_the_next_daemon() {
    let mut daemon = Daemon::start();
    let address = daemon.address();
    let arguments = ["send", "-a", &address, "g", "--lines", "--retry", "60s"];
    let (receiver, _told) = start_recv(&["recv", "-a", &address, "g", "--lines", "-c", "1"]);
    let mut sender = madrigal(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = sender.stdin.take().unwrap();
    lines.write_all(b"before\n").unwrap();
    assert_eq!(text(&receiver.wait_with_output().unwrap()), "before\n");
    daemon.kill();
    daemon.start_again();
    let (receiver, _told) = start_recv(&["recv", "-a", &address, "g", "--lines", "-c", "1"]);
    lines.write_all(b"after\n").unwrap();
    assert_eq!(text(&receiver.wait_with_output().unwrap()), "after\n");
    drop(lines);
    let output = sender.wait_with_output().unwrap();
    assert!(complaint(&output, 0).contains("connecting again"));
}

#[test]
fn a_sender_without_patience_fails_with_its_daemon() {
    let mut daemon = Daemon::start_with("[cores]\nidle = \"spin\"");
    let address = daemon.address();
    let (receiver, _told) = start_recv(&["recv", "-a", &address, "g", "--lines", "-c", "1"]);
    let mut sender =
        madrigal(&["send", "-a", &address, "g", "--lines"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = sender.stdin.take().unwrap();
    lines.write_all(b"before\n").unwrap();
    assert_eq!(text(&receiver.wait_with_output().unwrap()), "before\n");
    daemon.kill();
    // It takes no more soon after the kernel has closed what the daemon had open.
    let end = Instant::now() + Duration::from_secs(60);
    while lines.write_all(b"after\n").is_ok() {
        assert!(Instant::now() < end, "lines go nowhere, and nobody says so");
        std::thread::park_timeout(Duration::from_millis(2));
    }
    let complaint = complaint(&sender.wait_with_output().unwrap(), 1);
    assert!(complaint.contains("closed the connection"), "{complaint}");
}

#[test]
fn yardstick_measures_without_a_daemon() {
    let result = json(&text(&run(&["bench", "yardstick", "--duration", "5ms", "--json"])));
    assert!(result["machine"]["cpus"].as_u64().unwrap() > 0, "{result}");
    assert!(result["yardstick"]["wake_same_core"]["p50_ns"].as_f64().unwrap() > 0.0, "{result}");
    let table = text(&run(&["bench", "yardstick", "--duration", "5ms"]));
    assert!(table.contains("waking a thread on the same core"), "{table}");
}

#[test]
fn what_is_sent_is_received() {
    let daemon = Daemon::start();
    let address = daemon.address();
    let (receiver, _told) = start_recv(&["recv", "-a", &address, "a", "b", "--json", "-c", "3"]);
    let sent = ["send", "-a", &address, "-n", "alice", "a", "-g", "b", "-s", "safe", "-t", "-7"];
    text(&run(&[&sent[..], &["to both"]].concat()));
    text(&run_with_input(&["send", "-a", &address, "b"], b"\xff\x00"));
    text(&run(&["send", "-a", &address, "a", "again"]));
    let lines = text(&receiver.wait_with_output().unwrap());
    let events: Vec<Value> = lines.lines().map(json).collect();
    assert_eq!(events.len(), 3, "{lines}");
    assert_eq!(events[0]["event"], "message");
    assert_eq!(events[0]["sender"], "#alice#localhost");
    assert_eq!(events[0]["groups"], serde_json::json!(["a", "b"]));
    assert_eq!(events[0]["service"], "safe");
    assert_eq!(events[0]["type"], -7);
    assert_eq!(events[0]["data"], "to both");
    assert_eq!(events[1]["data_hex"], "ff00");
    assert_eq!(events[2]["data"], "again");
}

#[test]
fn lines_go_in_and_come_out_as_lines() {
    let daemon = Daemon::start();
    let address = daemon.address();
    let (receiver, _told) = start_recv(&["recv", "-a", &address, "log", "--lines", "-c", "3"]);
    text(&run_with_input(&["send", "-a", &address, "log", "--lines"], b"one\n\nlast"));
    assert_eq!(text(&receiver.wait_with_output().unwrap()), "one\n\nlast\n");
}

#[test]
fn raw_output_is_exactly_the_data() {
    let daemon = Daemon::start();
    let address = daemon.address();
    let file = daemon.directory.path().join("blob");
    // The largest message to one group.
    let blob: Vec<u8> = (0..144_000 - 32).map(|index| (index * 7 % 251) as u8).collect();
    std::fs::write(&file, &blob).unwrap();
    let (receiver, _told) = start_recv(&["recv", "-a", &address, "blobs", "--raw", "-c", "2"]);
    let path = Path::new(&file).to_str().unwrap();
    text(&run(&["send", "-a", &address, "blobs", "--file", path, "--count", "2"]));
    let output = receiver.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == [&blob[..], &blob].concat());
}

#[test]
fn missing_messages_are_a_failure_when_the_time_is_over() {
    let daemon = Daemon::start();
    let address = daemon.address();
    let waiting = ["recv", "-a", &address, "g", "--timeout", "20ms"];
    let complaint = complaint(&run(&[&waiting[..], &["--count", "1"]].concat()), 1);
    assert!(complaint.contains("0 of 1"), "{complaint}");
    text(&run(&waiting));
}

#[test]
fn a_script_joins_sends_and_sees_everything_before_it_ends() {
    let daemon = Daemon::start();
    let script = "\
        # services, several groups, several lines\n\
        join g h\n\
        send g hello\n\
        safe g,h\n\
        line 1\n\
        line 2\n\
        .\n\
        members g\n\
        type 7\n\
        discard on\n\
        send g unseen\n\
        discard off\n\
        leave h\n\
        fifo #alice#localhost private\n\
        send g the end needs no dot";
    let arguments = ["user", "-a", &daemon.address(), "-n", "alice"];
    let shown = text(&run_with_input(&arguments, script.as_bytes()));
    for expected in [
        "#alice#localhost joined; 1 member: #alice#localhost",
        "#alice#localhost -> g [agreed]: hello",
        "#alice#localhost -> g h [safe]: line 1\n    line 2",
        "h: left",
        "-> #alice#localhost [fifo, type 7]: private",
        "[agreed, type 7]: the end needs no dot",
    ] {
        assert!(shown.contains(expected), "no '{expected}' in:\n{shown}");
    }
    assert!(!shown.contains("unseen") && !shown.contains("marker"), "{shown}");
    // Twice: when it came, and when it was asked for.
    assert_eq!(shown.matches("g: view").count(), 2, "{shown}");
}

#[test]
fn a_script_ends_at_the_first_mistake() {
    let daemon = Daemon::start();
    let arguments = ["user", "-a", &daemon.address()];
    for (script, told) in [
        (&b"join g\njion h\n"[..], "line 2: unknown command 'jion'"),
        (b"join a#b\n", "line 1: illegal group"),
        (b"members nowhere\n", "not a member"),
    ] {
        let complaint = complaint(&run_with_input(&arguments, script), 1);
        assert!(complaint.contains(told), "{complaint}");
    }
}

#[test]
fn quit_ends_a_conversation_with_input_left() {
    let daemon = Daemon::start();
    let arguments = ["user", "-a", &daemon.address(), "--json"];
    let shown = text(&run_with_input(&arguments, b"join g\nsync\nquit\njoin h\n"));
    let events: Vec<Value> = shown.lines().map(json).collect();
    assert_eq!(events.len(), 1, "{shown}");
    assert_eq!((&events[0]["event"], &events[0]["cause"]), (&"view".into(), &"join".into()));
}

#[test]
fn a_name_in_use_is_told() {
    let daemon = Daemon::start();
    let address = daemon.address();
    let (mut receiver, _told) = start_recv(&["recv", "-a", &address, "-n", "bob"]);
    let complaint = complaint(&run(&["send", "-a", &address, "-n", "bob", "g", "text"]), 1);
    assert!(complaint.contains("rejected"), "{complaint}");
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}

#[test]
fn a_daemon_that_ends_ends_the_receiver() {
    let mut daemon = Daemon::start();
    let (mut receiver, mut told) = start_recv(&["recv", "-a", &daemon.address(), "g"]);
    daemon.child.kill().unwrap();
    assert_eq!(receiver.wait().unwrap().code(), Some(1));
    let mut complaint = String::new();
    told.read_to_string(&mut complaint).unwrap();
    assert!(complaint.contains("closed the connection"), "{complaint}");
}

#[test]
fn flood_sends_as_many_as_it_says() {
    let daemon = Daemon::start();
    let address = daemon.address();
    let (receiver, _told) = start_recv(&["recv", "-a", &address, "load", "--lines", "-c", "300"]);
    let flood = ["flood", "-a", &address, "load", "--count", "300", "--size", "8", "--json"];
    let report = text(&run(&flood));
    let total = json(report.lines().last().unwrap());
    assert_eq!((&total["event"], &total["messages"]), (&"total".into(), &300.into()));
    let lines = text(&receiver.wait_with_output().unwrap());
    for (index, line) in lines.lines().enumerate() {
        assert_eq!(line, format!("{index:<8}"));
    }
    text(&run(&["flood", "-a", &address, "load", "--rate", "2k", "--count", "20"]));
}

#[test]
fn latency_is_measured_by_ping_pong_and_on_schedule() {
    let daemon = Daemon::start();
    let (address, pid) = (daemon.address(), daemon.pid());
    let bench = ["bench", "latency", "-a", &address, "--warmup", "1ms", "-c", "50", "--json"];
    for (more, mode) in [(&[][..], "ping-pong"), (&["--rate", "2k"], "open-loop")] {
        let more = [more, &["--pid", &pid]].concat();
        let result = json(&text(&run(&[&bench[..], &more].concat())));
        assert_eq!(result["settings"]["mode"], mode, "{result}");
        assert_eq!(result["rounds_address"][0]["count"], 50, "{result}");
        let figure = |key: &str| result["results"][key]["address"]["median"].as_f64().unwrap();
        assert!(figure("p50_ns") > 0.0 && figure("p50_ns") <= figure("max_ns"), "{result}");
        assert!(figure("cpu_per_message_us") > 0.0, "{result}");
    }
    let shown = text(&run(&["bench", "latency", "-a", &address, "--warmup", "0s", "-c", "50"]));
    assert!(shown.contains("p99.9") && shown.contains('#'), "{shown}");
}

#[test]
fn two_daemons_are_compared_in_turns() {
    let (ours, theirs) = (Daemon::start(), Daemon::start());
    let (ours, theirs) = (ours.address(), theirs.address());
    let compare = ["-a", &ours, "--compare", &theirs, "--rounds", "2", "--warmup", "1ms"];
    for bench in ["latency", "throughput"] {
        let bench = ["bench", bench, "-c", "50", "--json"];
        let result = json(&text(&run(&[&bench[..], &compare].concat())));
        assert_eq!(result["rounds"], 2, "{result}");
        assert_eq!(result["rounds_compare"].as_array().unwrap().len(), 2, "{result}");
        let rate = &result["results"]["messages_per_s"];
        let ratio = rate["address"]["median"].as_f64().unwrap()
            / rate["compare"]["median"].as_f64().unwrap();
        assert!((rate["ratio"].as_f64().unwrap() - ratio).abs() < 1e-9, "{result}");
    }
    let shown = text(&run(&[&["bench", "latency", "-c", "20"][..], &compare].concat()));
    assert!(shown.contains("ratio"), "{shown}");
}

#[test]
fn throughput_counts_what_all_receivers_have() {
    let daemon = Daemon::start();
    let address = daemon.address();
    let bench = ["bench", "throughput", "-a", &address, "--warmup", "1ms", "-c", "500", "--json"];
    for (more, on_the_way) in [
        (&[][..], 800),
        (&["--senders", "3", "--receivers", "4", "--window", "7"], 21),
        (&["--senders", "2", "--receivers", "2", "--service", "safe", "--batch", "3"], 800),
        (&["--window", "1", "--wait", "adaptive"], 1),
        (&["--service", "reliable", "--size", "12"], 800),
    ] {
        let result = json(&text(&run(&[&bench[..], more].concat())));
        let run = &result["rounds_address"][0]["runs"][0];
        let figure = |key: &str| run[key].as_u64().unwrap();
        assert!(figure("messages") >= 500, "{more:?}: {result}");
        // Receivers are at different places when the measuring begins and ends.
        let receivers = result["settings"]["receivers"].as_u64().unwrap();
        let differ = figure("deliveries").abs_diff(figure("messages") * receivers);
        assert!(differ <= on_the_way * (receivers - 1), "{more:?}: {result}");
    }
    let sweep = ["--sweep", "5,50"];
    let result = json(&text(&run(&[&bench[..], &sweep].concat())));
    let runs = result["rounds_address"][0]["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2, "{result}");
    let best = result["results"]["messages_per_s"]["address"]["median"].as_f64().unwrap();
    assert!(runs.iter().all(|run| run["messages_per_s"].as_f64().unwrap() <= best), "{result}");
}
