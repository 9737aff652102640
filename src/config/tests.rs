//! Every key, every rule, every message.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::file::Document;
use super::testing::{ACCESS_FILE, TestHost, parse_as};
use super::*;
use crate::base::DaemonId;

/// As `Config::parse`, on another host.
fn parse(text: &str) -> Result<Config, ConfigError> {
    parse_as(text, Path::new("etc/madrigal.toml"), Who::Local)
}

fn member(name: &str, address: &str) -> ClusterDaemon {
    ClusterDaemon::new(DaemonName::new(name.as_bytes()).unwrap(), address.parse().unwrap())
}

fn problems(text: &str) -> String {
    parse(text).expect_err("the text is wrong").to_string()
}

/// The first lines of the problems alone.
fn messages(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(ConfigError::Invalid(Problems(problems))) => {
            problems.into_iter().map(|problem| problem.message).collect()
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn no_key_at_all_is_the_default() {
    assert_eq!(parse("").unwrap(), Config::default());
    assert_eq!(parse("[listen]\n[cores]\n").unwrap(), Config::default());
}

#[test]
fn default_serves_this_host_alone() {
    let config = Config::default();
    assert_eq!(config.daemon.as_str(), "localhost");
    assert_eq!(config.listen.port, 4803);
    assert!(config.listen.tcp.iter().all(IpAddr::is_loopback));
    assert_eq!(config.listen.unix.unwrap().path, Path::new("/tmp/4803"));
    assert!(config.auth.allowed.null && !config.auth.required.ip);
}

#[test]
fn every_key_has_its_effect() {
    let config = parse(
        r#"
        [daemon]
        name = "alpha"
        [listen]
        port = 5000
        tcp = ["0.0.0.0", "::1"]
        unix = true
        unix_directory = "/run/madrigal"
        unix_mode = "0660"
        [sessions]
        max = 7
        handshake_timeout_ms = 250
        messages_max = 0
        bytes_max = 1_000_000
        slow_receiver = "hold"
        [auth]
        allowed = ["IP", "NULL"]
        required = ["IP"]
        access_ip = "clients"
        [cores]
        count = 2
        driver = "mio"
        idle = "spin"
        spin_us = 20
        pin = [3, 1]
        [memory]
        pool_bytes_max = 0x1000_0000
        session_queue_bytes = 65536
        shared_bytes_max = 0x100_0000
        shelf_from_bytes = 2048
        shelf_bytes = 0
        lock = true
        [log]
        level = "debug"
        format = "journal"

        [cluster]
        daemons = ["alpha 10.0.0.1", { name = "beta", address = "10.0.0.2", id = 7 }]
        multicast = "none"
        port = 4900
        hops = 3
        failure_timeout_ms = 250
        datagram_bytes = 9000
        receive_bytes = 1048576
        [ring]
        rest_ms = 40
        token_repeat_us = 5000
        reorder_allowance_us = 0
        notice_interval_us = 100
        global_window_bytes = 1048576
        personal_window_bytes = 524288
        accelerated_window_bytes = 0
        window_packets = 1000
        backlog_bytes = 2097152
        "#,
    )
    .unwrap();
    let expected = Config {
        daemon: DaemonName::new(b"alpha").unwrap(),
        cluster: Cluster {
            segments: vec![Segment { multicast: None, port: 4900, hops: 3 }],
            daemons: vec![
                member("alpha", "10.0.0.1"),
                ClusterDaemon { id: DaemonId::new(7), ..member("beta", "10.0.0.2") },
            ],
            scope: 0,
            failure_timeout: Duration::from_millis(250),
            datagram_bytes: 9_000,
            receive_bytes: 1 << 20,
            ring: Ring {
                rest_interval: Duration::from_millis(40),
                token_repeat: Duration::from_millis(5),
                reorder_allowance: Duration::ZERO,
                notice_interval: Duration::from_micros(100),
                global_window_bytes: 1 << 20,
                personal_window_bytes: 1 << 19,
                accelerated_window_bytes: 0,
                window_packets: 1_000,
                backlog_bytes: 1 << 21,
            },
        },
        listen: Listen {
            port: 5000,
            tcp: vec!["0.0.0.0".parse().unwrap(), "::1".parse().unwrap()],
            unix: Some(UnixSocket { path: "/run/madrigal/5000".into(), mode: 0o660 }),
            shared_memory: Some(UnixSocket { path: "/run/madrigal/5000.shm".into(), mode: 0o660 }),
            control: Some(UnixSocket { path: "/run/madrigal/5000.control".into(), mode: 0o600 }),
        },
        sessions: Sessions {
            max: 7,
            handshake_timeout: Duration::from_millis(250),
            messages_max: 0,
            bytes_max: 1_000_000,
            slow_receiver: SlowReceiver::Hold,
        },
        auth: Auth {
            allowed: Methods { null: true, ip: true },
            required: Methods { null: false, ip: true },
            access: AccessList::parse(ACCESS_FILE).unwrap(),
            access_ip: Some("etc/clients".into()),
        },
        cores: Cores {
            count: 2,
            driver: DriverChoice::Mio,
            idle: Idle::Spin,
            spin: Duration::from_micros(20),
            pin: vec![3, 1],
        },
        memory: Memory {
            pool_bytes_max: 1 << 28,
            session_queue_bytes: 1 << 16,
            shared_bytes_max: 1 << 24,
            shelf_from_bytes: 2048,
            shelf_bytes: 0,
            lock: true,
        },
        log: Log { level: LogLevel::Debug, format: LogFormat::Journal },
        notes: Vec::new(),
    };
    assert_eq!(config, expected);
    assert_eq!(config.auth.access_ip.as_deref(), Some(Path::new("etc/clients")));
}

#[test]
fn tcp_alone_and_unix_alone_are_enough() {
    let unix_alone = parse("listen.tcp = []").unwrap();
    assert!(unix_alone.listen.tcp.is_empty() && unix_alone.listen.unix.is_some());
    assert!(unix_alone.listen.shared_memory.is_some());
    let without = parse("listen.shared_memory = false").unwrap();
    assert!(without.listen.unix.is_some() && without.listen.shared_memory.is_none());
    let tcp_alone = parse("listen.unix = false").unwrap();
    assert!(!tcp_alone.listen.tcp.is_empty() && tcp_alone.listen.unix.is_none());
}

#[test]
fn value_out_of_range_is_shown_where_it_stands() {
    assert_eq!(
        problems("# mine\n[listen]\n\tport = 70000 # high\n"),
        "\
`listen.port` is 70000, but allowed is 0 to 65535
 --> etc/madrigal.toml:3:9
  |
3 | \tport = 70000 # high
  | \t       ^^^^^"
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_lines() {
    assert_eq!(
        problems("[cores]\ncount = 0\nidle = \"lazy\"\n[listen]\nprot = 1\n"),
        "\
`cores.count` is 0, but allowed is 1 to 64
 --> etc/madrigal.toml:2:9
  |
2 | count = 0
  |         ^

`cores.idle` is \"lazy\", but allowed is \"spin\" | \"adaptive\" | \"park\"
 --> etc/madrigal.toml:3:8
  |
3 | idle = \"lazy\"
  |        ^^^^^^

`listen.prot` is not a key
 --> etc/madrigal.toml:5:1
  |
5 | prot = 1
  | ^^^^
  = help: did you mean `port`? It is 0 to 65535"
    );
}

#[test]
fn broken_syntax_is_shown_where_it_breaks() {
    assert_eq!(
        problems("[listen]\nport = = 3\n"),
        "\
extra `=`, expected nothing
 --> etc/madrigal.toml:2:8
  |
2 | port = = 3
  |        ^"
    );
}

#[test]
fn unknown_names_come_with_a_guess() {
    let help = |text: &str| match parse(text) {
        Err(ConfigError::Invalid(Problems(problems))) => {
            (problems[0].message.clone(), problems[0].help.clone().unwrap_or_default())
        }
        other => panic!("{other:?}"),
    };
    for (text, message, guess) in [
        ("[lisen]\nport = 1", "`lisen` is not a section", "did you mean [listen]?"),
        (
            "port = 1",
            "`port` is not a section",
            "`port` belongs into section [cluster] or [listen]",
        ),
        (
            "[cores]\nport = 1",
            "`cores.port` is not a key",
            "`port` belongs into section [cluster] or [listen]",
        ),
        ("[cores]\ncuont = 1", "`cores.cuont` is not a key", "did you mean `count`? It is 1 to 64"),
        ("[cores]\nzzzzzzzz = 1", "`cores.zzzzzzzz` is not a key", ""),
        ("[zzzzzzzz]", "`zzzzzzzz` is not a section", ""),
    ] {
        assert_eq!(help(text), (message.to_owned(), guess.to_owned()), "{text}");
    }
}

#[test]
fn every_value_has_its_message() {
    let long = "d".repeat(20);
    for (text, expected) in [
        (
            format!("daemon.name = \"{long}\""),
            format!(
                "`daemon.name` is \"{long}\", but allowed is \
                 a name of 1 to 19 characters from `$` to `~`"
            ),
        ),
        ("daemon = 3".to_owned(), "`daemon` is 3, but it must be a section: [daemon]".to_owned()),
        (
            "listen.port = -1".to_owned(),
            "`listen.port` is -1, but allowed is 0 to 65535".to_owned(),
        ),
        (
            "listen.port = 4803.0".to_owned(),
            "`listen.port` is 4803.0, but allowed is 0 to 65535".to_owned(),
        ),
        (
            "listen.tcp = \"::1\"".to_owned(),
            "`listen.tcp` is \"::1\", but allowed is \
             a list of IP addresses, at most 16, each once"
                .to_owned(),
        ),
        (
            "listen.tcp = [\"localhost\"]".to_owned(),
            "`listen.tcp`: \"localhost\" is in the list, but allowed is IP addresses".to_owned(),
        ),
        (
            "listen.tcp = [\"::1\", \"0::1\"]".to_owned(),
            "`listen.tcp`: \"0::1\" is there twice".to_owned(),
        ),
        (
            "listen.tcp = [\"::1\", \"::\"]".to_owned(),
            "`listen.tcp` has ::1 beside the wildcard that covers it".to_owned(),
        ),
        (
            "listen.unix = \"yes\"".to_owned(),
            "`listen.unix` is \"yes\", but allowed is true | false".to_owned(),
        ),
        (
            "listen.unix = false\nlisten.tcp = []".to_owned(),
            "`listen.tcp` is empty and `listen.unix` is false: nobody could connect".to_owned(),
        ),
        (
            "listen.unix_directory = \"run\"".to_owned(),
            "`listen.unix_directory` is \"run\", but allowed is \
             an absolute path of at most 93 bytes"
                .to_owned(),
        ),
        (
            "listen.unix_mode = \"0888\"".to_owned(),
            "`listen.unix_mode` is \"0888\", but allowed is \
             an octal mode from \"0000\" to \"0777\""
                .to_owned(),
        ),
        (
            "sessions.max = 0".to_owned(),
            "`sessions.max` is 0, but allowed is 1 to 1048576".to_owned(),
        ),
        (
            "sessions.handshake_timeout_ms = 9".to_owned(),
            "`sessions.handshake_timeout_ms` is 9, but allowed is 10 to 600000".to_owned(),
        ),
        (
            "sessions.messages_max = 1000000001".to_owned(),
            "`sessions.messages_max` is 1000000001, but allowed is 0 to 1000000000".to_owned(),
        ),
        (
            "sessions.bytes_max = 144047".to_owned(),
            "`sessions.bytes_max` is 144047, but allowed is 144048 to 1099511627776".to_owned(),
        ),
        (
            "sessions.slow_receiver = \"drop\"".to_owned(),
            "`sessions.slow_receiver` is \"drop\", but allowed is \"disconnect\" | \"hold\""
                .to_owned(),
        ),
        (
            "auth.allowed = [\"PWORD\"]\nauth.required = []".to_owned(),
            "`auth.allowed`: \"PWORD\" is in the list, but allowed is \"NULL\" | \"IP\"".to_owned(),
        ),
        (
            "auth.allowed = []".to_owned(),
            "`auth.allowed` is empty: nobody could connect".to_owned(),
        ),
        (
            "auth.required = [\"IP\"]".to_owned(),
            "`auth.access_ip` is missing: method IP would turn everybody away".to_owned(),
        ),
        (
            "auth.access_ip = \"\"".to_owned(),
            "`auth.access_ip` is \"\", but allowed is the path of an access file, not empty"
                .to_owned(),
        ),
        (
            "auth.access_ip = \"nowhere\"".to_owned(),
            "`auth.access_ip` (etc/nowhere): entity not found".to_owned(),
        ),
        (
            "auth.access_ip = \"broken\"".to_owned(),
            "`auth.access_ip` (etc/broken): line 2: `nonsense` is not allowed: \
             `unix`, `local`, ADDRESS or ADDRESS/BITS is"
                .to_owned(),
        ),
        ("cores.count = 65".to_owned(), "`cores.count` is 65, but allowed is 1 to 64".to_owned()),
        (
            "cores.driver = \"epoll\"".to_owned(),
            "`cores.driver` is \"epoll\", but allowed is \"auto\" | \"io_uring\" | \"mio\""
                .to_owned(),
        ),
        (
            "cores.spin_us = 0".to_owned(),
            "`cores.spin_us` is 0, but allowed is 1 to 1000000".to_owned(),
        ),
        (
            "cores.pin = [1024]".to_owned(),
            "`cores.pin`: 1024 is in the list, but allowed is CPU numbers from 0 to 1023"
                .to_owned(),
        ),
        (
            "cores.pin = [0, 1]".to_owned(),
            "`cores.pin` names 2 CPUs for 1 cores: one for each, or none".to_owned(),
        ),
        (
            "memory.pool_bytes_max = 1".to_owned(),
            "`memory.pool_bytes_max` is 1, but allowed is 1048576 to 1099511627776".to_owned(),
        ),
        (
            "memory.pool_bytes_max = 100_000_000".to_owned(),
            "`memory.pool_bytes_max` is 100000000, less than twice `sessions.bytes_max`, \
             which is 67108864: one slow session could take all of the pool"
                .to_owned(),
        ),
        (
            "sessions.bytes_max = 1_000_000\nmemory.pool_bytes_max = 10_000_000\n\
             cluster.daemons = [\"one 127.0.0.1\", \"two 127.0.0.2\"]\ndaemon.name = \"one\""
                .to_owned(),
            "`memory.pool_bytes_max` is 10000000, less than 17777216: the ring would have no room \
             beside one slow session (`sessions.bytes_max`, and twice `ring.global_window_bytes` \
             and `ring.backlog_bytes`)"
                .to_owned(),
        ),
        (
            "log.level = \"loud\"".to_owned(),
            "`log.level` is \"loud\", but allowed is \
             \"error\" | \"warn\" | \"info\" | \"debug\" | \"trace\""
                .to_owned(),
        ),
        (
            "log.format = \"json\"".to_owned(),
            "`log.format` is \"json\", but allowed is \"text\" | \"journal\"".to_owned(),
        ),
    ] {
        assert_eq!(messages(&text)[0], expected, "{text}");
    }
}

#[test]
fn long_values_are_cut_in_messages() {
    let text = format!("log.level = \"{}\"", "x".repeat(1000));
    assert!(messages(&text)[0].len() < 200);
}

#[test]
fn missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/madrigal.toml"), Who::Local).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read /nonexistent/madrigal.toml: No such file or directory (os error 2)"
    );
}

#[test]
fn endless_file_is_refused() {
    let error = Config::load(Path::new("/dev/zero"), Who::Local).unwrap_err();
    assert_eq!(error.to_string(), "cannot read /dev/zero: longer than 1048576 bytes");
}

#[test]
fn access_file_lies_beside_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("madrigal.toml");
    std::fs::write(directory.path().join("clients"), "unix").unwrap();
    std::fs::write(&path, "auth.allowed = [\"IP\"]\nauth.access_ip = \"clients\"").unwrap();
    let config = Config::load(&path, Who::Local).unwrap();
    assert!(config.auth.access.admits(Origin::Unix));
}

#[test]
fn written_configuration_reads_as_itself() {
    let changed = parse(
        "listen = { tcp = [], unix_directory = '/run/a \"b\" \\ c' }\n\
         auth = { allowed = [\"NULL\", \"IP\"], access_ip = \"clients\" }\n\
         cores = { count = 2, pin = [0, 5] }",
    )
    .unwrap();
    let without_unix = parse("listen.unix = false").unwrap();
    for config in [Config::default(), changed, without_unix] {
        let text = config.to_string();
        // The access file is named from where we are now.
        let text = text.replace("etc/clients", "clients");
        assert_eq!(parse(&text).unwrap(), config, "{text}");
    }
}

/// Name, default and what is allowed, of every key.
fn reference() -> BTreeMap<String, (String, String)> {
    let mut document = Document::parse("", Path::new("")).unwrap();
    check::sections(&mut document, &TestHost, Who::Local);
    let defaults: BTreeMap<_, _> = Config::default().values().into_iter().collect();
    let keys = document.keys().iter().map(|key| {
        let name = format!("{}.{}", key.section, key.name);
        let default = defaults.get(name.as_str()).cloned().unwrap_or_else(|| "none".to_owned());
        (name, (default, key.allowed.clone()))
    });
    keys.collect()
}

#[test]
fn every_key_is_written() {
    let written = Config::default().values().len();
    // All but the access file, which has no default.
    assert_eq!(written, reference().len() - 1);
}

/// Cells of the table rows of a page that begin with a key.
fn key_rows(page: &str) -> impl Iterator<Item = Vec<String>> {
    let rows = page.lines().filter(|line| line.starts_with("| `")).map(|line| {
        let line = line.replace("\\|", "\0");
        let bare = |cell: &str| {
            let code = cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
            code.unwrap_or(cell).replace('\0', "|")
        };
        let cells = line.split('|').map(|cell| bare(cell.trim()));
        cells.skip(1).collect()
    });
    rows.filter(|cells: &Vec<String>| cells[0].contains('.'))
}

#[test]
fn documented_keys_are_the_real_ones() {
    let rows = key_rows(include_str!("../../docs/config.md"));
    let documented: BTreeMap<String, (String, String)> =
        rows.map(|cells| (cells[0].clone(), (cells[1].clone(), cells[2].clone()))).collect();
    assert_eq!(documented, reference());
}

#[test]
fn keys_of_the_readme_are_real() {
    let reference = reference();
    let rows = key_rows(include_str!("../../README.md"));
    let of_keys: Vec<_> = rows.filter(|cells| reference.contains_key(&cells[0])).collect();
    assert!(of_keys.len() >= 5);
    for cells in of_keys {
        assert_eq!(reference[&cells[0]].0, cells[1], "{}", cells[0]);
    }
}

#[test]
fn reference_file_has_every_key_at_its_default() {
    let text = include_str!("../../tuning/madrigal.toml");
    assert_eq!(parse(text).unwrap(), Config::default());
    for key in reference().keys() {
        let (section, name) = key.split_once('.').unwrap();
        let section = text.split_once(&format!("\n[{section}]\n")).unwrap().1;
        let section = section.split("\n[").next().unwrap();
        let is_there =
            |line: &str| line.trim_start_matches("# ").starts_with(&format!("{name} = "));
        assert!(section.lines().any(is_there), "{key}");
    }
}

#[test]
fn every_preset_loads_and_changes_something() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tuning");
    let mut presets = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let is_preset = path.extension().is_some_and(|found| found == "toml");
        if !is_preset || path.ends_with("madrigal.toml") {
            continue;
        }
        let config = Config::load(&path, Who::Anyone).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(config, Config::default(), "{}", path.display());
        presets += 1;
    }
    assert!(presets >= 2);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn arbitrary_values_never_panic(
        key in proptest::sample::select(reference().into_keys().collect::<Vec<_>>()),
        value in "[-+0-9a-fx_.:\"'\\[\\]{}, =\n\\\\]{0,40}",
    ) {
        if let Err(error) = parse(&format!("{key} = {value}")) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn arbitrary_access_files_never_panic(text in "[0-9a-f:./#\n unixlocal]{0,200}") {
        let _ = AccessList::parse(&text);
    }
}
