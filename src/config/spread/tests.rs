//! Files as people have them, and what is said of those that cannot be.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::base::{DaemonId, DaemonName};
use crate::config::convert::convert;
use crate::config::testing::parse_as;
use crate::config::{Cluster, LogLevel, Origin};

fn name(text: &str) -> DaemonName {
    DaemonName::new(text.as_bytes()).unwrap()
}

fn parse(text: &str, who: Who) -> Result<Config, ConfigError> {
    parse_as(text, Path::new("etc/spread.conf"), who)
}

/// A file of one daemon, which is this one, with more around it.
fn with(text: &str) -> Config {
    let text = format!("{text}\nSpread_Segment 10.0.0.255 {{ a 10.0.0.2 }}");
    parse(&text, Who::Local).unwrap_or_else(|error| panic!("{error}"))
}

fn why(text: &str) -> String {
    parse(text, Who::Local).expect_err("the text is wrong").to_string()
}

fn notes(config: &Config) -> Vec<&str> {
    config.notes.iter().map(|note| note.message.as_str()).collect()
}

/// Files of `tests/spread_conf` with this ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/spread_conf");
    let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        all.filter(|path| path.extension().is_some_and(|it| it == ending)).collect();
    found.sort();
    assert!(!found.is_empty());
    found
}

/// Compares with what was found right before; to accept what there is now, remove the file.
fn compare_with_golden(path: &Path, text: &str) {
    match fs::read_to_string(path) {
        Ok(golden) => assert_eq!(text, golden, "{}", path.display()),
        Err(_) => {
            fs::write(path, text).unwrap();
            panic!("{} was not there: read it, and keep it if it is right", path.display());
        }
    }
}

#[test]
fn files_are_converted_as_before_and_come_to_the_same() {
    for path in files("conf") {
        let text = fs::read_to_string(&path).unwrap();
        let source = Path::new("etc").join(path.file_name().unwrap());
        let read = |text: &str, file: &Path, who| {
            parse_as(text, file, who).unwrap_or_else(|error| panic!("{error}"))
        };
        let config = read(&text, &source, Who::Anyone);
        let converted = convert(&config, &source);
        compare_with_golden(&path.with_extension("toml"), &converted);
        for daemon in &config.cluster.daemons {
            let who = Who::Named(daemon.name);
            let old = Config { notes: Vec::new(), ..read(&text, &source, who) };
            let new = read(&converted, Path::new("etc/madrigal.toml"), who);
            assert_eq!(old, new, "{}", path.display());
            assert_eq!(old.cluster.identity(), new.cluster.identity());
        }
    }
}

#[test]
fn wrong_files_are_blamed_where_they_are() {
    for path in files("wrong") {
        let text = fs::read_to_string(&path).unwrap();
        let mut said = String::new();
        for case in text.split("-----\n") {
            said += &format!("{}\n-----\n", parse(case, Who::Anyone).expect_err(case));
        }
        compare_with_golden(&path.with_extension("said"), &said);
    }
}

#[test]
fn every_keyword_has_an_effect_or_a_note() {
    let full = files("conf").into_iter().find(|path| path.ends_with("full.conf")).unwrap();
    let text = fs::read_to_string(full).unwrap();
    let config = parse(&text, Who::Named(name("web2"))).unwrap();
    for keyword in &keyword::ALL {
        assert!(text.contains(keyword.name), "{} is in no test", keyword.name);
        let start = format!("`{}` has no effect: ", keyword.name);
        let count = notes(&config).iter().filter(|note| note.starts_with(&start)).count();
        assert_eq!(count, usize::from(keyword.idle.is_some()), "{}", keyword.name);
    }
    assert_eq!(config.log.level, LogLevel::Warn);
    assert_eq!(config.sessions.messages_max, 5_000);
    assert_eq!(config.cluster.failure_timeout.as_millis(), 800);
    assert!(config.auth.allowed.ip && config.auth.allowed.null && !config.auth.required.ip);
    assert_eq!(config.auth.access_ip.as_deref(), Some(Path::new("etc/spread.access_ip")));
    assert_eq!(config.cluster.daemon(name("web2")).unwrap().id, DaemonId::new(1002));
    let ids = config.cluster.daemons.iter().map(|daemon| daemon.id);
    assert!(ids.eq(config.cluster.daemons.iter().map(|daemon| match daemon.name.as_str() {
        "web2" => DaemonId::new(1002),
        "10.1.0.2" => DaemonId::new(7),
        other => DaemonId::from_name(other),
    })));
}

#[test]
fn a_daemon_listens_where_its_interfaces_say() {
    let listen = |interfaces: &str| {
        let text = format!("Spread_Segment 10.0.0.255:5000 {{ a 10.0.0.2 {interfaces} }}");
        let config = parse(&text, Who::Local).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.listen.port, 5000);
        config.listen.tcp.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(listen(""), "0.0.0.0");
    assert_eq!(listen("{ 10.0.0.2 }"), "10.0.0.2");
    assert_eq!(listen("{ D 10.0.0.2 }"), "");
    assert_eq!(listen("{ D 10.0.0.2 C 127.0.0.1 C ::1 C 127.0.0.1 }"), "127.0.0.1 ::1");
    assert_eq!(listen("{ C 127.0.0.1 D C 0.0.0.0 C 10.0.0.2 C ::1 }"), "0.0.0.0 ::1");
    assert_eq!(listen("{ D 10.0.0.2 C 10.0.0.3 C ::1 }"), "::1");
}

#[test]
fn clients_cannot_come_by_addresses_of_other_hosts() {
    let text = "Spread_Segment 10.0.0.255 {\n\
                b 10.0.0.3 { 10.0.0.3 C 192.168.1.3 }\n\
                a 10.0.0.2 { D 10.0.0.2 C 192.168.1.2 C 10.0.0.2 } }";
    let config = parse(text, Who::Local).unwrap();
    assert_eq!(config.listen.tcp, ["10.0.0.2".parse::<std::net::IpAddr>().unwrap()]);
    let said = "no clients come by 192.168.1.2: this host has no such address";
    let said: Vec<_> = config.notes.iter().filter(|note| note.message == said).collect();
    assert_eq!((said.len(), said[0].line), (1, 3));
    // Nothing is known of the other host.
    let config = parse(text, Who::Named(name("b"))).unwrap();
    assert_eq!((config.listen.tcp.len(), notes(&config).len()), (2, 1), "{:?}", notes(&config));
}

#[test]
fn wide_area_and_timers_set_the_failure_timeout() {
    let timeout = |text: &str| with(text).cluster.failure_timeout;
    let timers = |ms: u32| keyword::TIMERS.map(|timer| format!("{timer} = {ms}\n")).concat();
    assert_eq!(timeout(""), Cluster::default().failure_timeout);
    assert_eq!(timeout("WideAreaNetwork = yes").as_millis(), 5_000);
    assert_eq!(timeout("WideAreaNetwork = no").as_millis(), 300);
    assert_eq!(timeout(&format!("WideAreaNetwork = yes {}", timers(700))).as_millis(), 700);
    let clamped = with(&timers(2));
    assert_eq!(clamped.cluster.failure_timeout.as_millis(), 10);
    assert!(notes(&clamped).contains(&"`TokenTimeout` is 2 ms: 10 ms are used"));
    let two = |text: &str| {
        let config = with(&format!("{text} Spread_Segment 10.1.0.255 {{ b 10.1.0.1 }}"));
        let of_wide = |note: &&str| note.contains("Spread takes `WideAreaNetwork` for true");
        let count = notes(&config).into_iter().filter(of_wide).count();
        (config.cluster.failure_timeout.as_millis(), count)
    };
    assert_eq!(two(""), (300, 1));
    assert_eq!(two("WideAreaNetwork = no"), (300, 0));
    assert_eq!(two("WideAreaNetwork = yes"), (5_000, 0));
    assert_eq!(two(&timers(700)), (700, 0));
}

#[test]
fn last_of_two_parameters_counts_and_is_noted_once() {
    let config = with("MaxSessionMessages = 5 MaxSessionMessages = 7 Window = 10 Window = 20");
    assert_eq!(config.sessions.messages_max, 7);
    assert_eq!(notes(&config).len(), 1);
}

#[test]
fn authentication_is_as_in_spread() {
    let auth = |text: &str| {
        let auth = with(text).auth;
        (auth.allowed.null, auth.allowed.ip, auth.required.ip)
    };
    assert_eq!(auth(""), (true, false, false));
    assert_eq!(auth("AllowedAuthMethods = \"IP\""), (false, true, false));
    let both = "RequiredAuthMethods = IP2 RequiredAuthMethods = \"IP\" AllowedAuthMethods = NULL2";
    assert!(why(&format!("{both} Spread_Segment 10.0.0.255 {{ a 10.0.0.2 }}")).contains("nobody"));
    let both = "AllowedAuthMethods = \"NULL\" RequiredAuthMethods = \"IP\"";
    assert_eq!(auth(both), (true, false, true));
    let text = format!("{both} Spread_Segment 10.0.0.255 {{ a 10.0.0.2 }}");
    let at = |path: &str| parse_as(&text, Path::new(path), Who::Local);
    for (path, why) in [
        ("elsewhere/spread.conf", "neither elsewhere/spread.access_ip nor /etc/spread.access_ip"),
        ("locked/spread.conf", "cannot read locked/spread.access_ip: permission denied"),
    ] {
        let said = at(path).unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
    }
    // A comment may be in any encoding, as in the file itself.
    assert!(at("latin/spread.conf").unwrap().auth.access.admits(Origin::Unix));
}

#[test]
fn addresses_of_one_link_are_on_the_interface_that_has_the_own_one() {
    let text = "Spread_Segment [ff02::1:2]:5000 { a fe80::1%eth7 { fe80::1 C ::1 }\n\
                b fe80::2%eth0 { D C fe80::2 C ::1 } }";
    let config = parse(text, Who::Local).unwrap();
    let places = config.cluster.daemons.iter().map(|it| config.cluster.data(it).to_string());
    let places: Vec<_> = places.collect();
    assert_eq!((config.daemon, config.cluster.scope), (name("b"), 3));
    assert_eq!(places, ["[fe80::1%3]:5000", "[fe80::2%3]:5000"]);
    assert_eq!(config.listen.tcp, ["::1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(notes(&config).len(), 1, "{:?}", notes(&config));
    // Of other hosts it is not known, and all agree without it.
    let other = parse(text, Who::Named(name("a"))).unwrap().cluster;
    assert_eq!((other.scope, other.identity()), (0, config.cluster.identity()));
    let converted = convert(&config, Path::new("etc/spread.conf"));
    let ours = parse_as(&converted, Path::new("etc/madrigal.toml"), Who::Local).unwrap();
    assert_eq!(ours.cluster, config.cluster);
}

#[test]
fn a_daemon_that_is_not_there_is_an_error_with_the_candidates() {
    let text = "Spread_Segment 10.0.0.255 { a 10.0.0.1 c 10.0.0.3 }";
    let said = why(text);
    assert!(said.contains("none has an address of this host"), "{said}");
    assert!(said.contains("; set --name to one of a 10.0.0.1, c 10.0.0.3"), "{said}");
    assert_eq!(parse(text, Who::Named(name("c"))).unwrap().daemon, name("c"));
    assert!(parse(text, Who::Anyone).is_ok());
}

#[test]
fn the_format_is_known_by_name_or_by_content() {
    let is = |path: &str, text: &str| is_spread(Path::new(path), text);
    assert!(is("spread.conf", "") && !is("a.toml", "Spread_Segment"));
    assert!(is("spread.conf.old", "# x\n  Spread_Segment 10.0.0.255 {}"));
    assert!(!is("config", "[cluster]\n# Spread_Segment\n"));
}

#[test]
fn comments_may_be_in_any_encoding() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("spread.conf");
    let text = b"# Zw\xf6lf\nSpread_Segment 127.0.0.255 { me 127.0.0.1 }\n";
    fs::write(&path, text).unwrap();
    assert_eq!(Config::load(&path, Who::Local).unwrap().daemon, name("me"));
    let path = directory.path().join("madrigal.toml");
    fs::write(&path, text).unwrap();
    let error = Config::load(&path, Who::Local).unwrap_err().to_string();
    assert!(error.ends_with("stream did not contain valid UTF-8"), "{error}");
}

/// Words that such a file may have, and what is between them.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "Spread_Segment",
        "{",
        "}",
        "=",
        ";",
        "10.0.0.1",
        "10.0.0.2:4803",
        "a",
        "b",
        "VirtualID",
        "7",
        "D",
        "C",
        "M",
        "Window",
        "DebugFlags",
        "!PRINT",
        "\"",
        "AllowedAuthMethods",
        "yes",
        "239.0.0.1",
        "[ff05::1]:5000",
        "::1",
        "TokenTimeout",
        "0",
        "999999999",
        "EventPriority",
        "INFO",
        "#",
        "\n",
        "ActiveIPVersion",
        "IPv6",
        "known",
    ];
    let word = proptest::sample::select(Vec::from(words)).prop_map(|word| format!("{word} "));
    proptest::collection::vec(word, 0..60).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_or_told_what_is_wrong(text in any::<String>(), pieces in pieces()) {
        for text in [text, pieces] {
            match parse(&text, Who::Anyone) {
                Ok(config) => prop_assert!(!config.cluster.daemons.is_empty()),
                Err(error) => prop_assert!(error.to_string().contains("etc/spread.conf:")),
            }
        }
    }

    /// Whatever one file says comes to the same in the other.
    #[test]
    fn what_is_converted_comes_to_the_same(
        daemons in proptest::collection::vec(
            ("[$-~&&[^#\"';{}\\[\\]]]{1,25}", 1..250_u8, 0..4_u8, any::<bool>()), 1..12),
        ports in proptest::collection::vec((1..65_000_u16, any::<bool>()), 1..5),
    ) {
        let mut text = String::new();
        for (index, (port, multicast)) in ports.iter().enumerate() {
            let group = if *multicast { "239.1.2.3" } else { "10.0.0.255" };
            text += &format!("Spread_Segment {group}:{port} {{\n");
            for (name, host, kind, has_id) in daemons.iter().skip(index).step_by(ports.len()) {
                let address = format!("10.0.0.{host}");
                let id = if *has_id { format!("VirtualID = {host}0{kind}") } else { String::new() };
                let interfaces = match kind {
                    0 => String::new(),
                    1 => format!("{{ {address} }}"),
                    2 => format!("{{ D {address} C 127.0.0.1 C ::1 }}"),
                    _ => "{ D 0.0.0.0 }".to_owned(),
                };
                text += &format!("  \"{name}\" {address} {id} {interfaces} ;\n");
            }
            text += "}\n";
        }
        if let Ok(config) = parse(&text, Who::Anyone) {
            let converted = convert(&config, Path::new("etc/spread.conf"));
            for daemon in &config.cluster.daemons {
                let who = Who::Named(daemon.name);
                let old = Config { notes: Vec::new(), ..parse(&text, who).unwrap() };
                let new = parse_as(&converted, Path::new("etc/madrigal.toml"), who);
                let new = new.unwrap_or_else(|error| panic!("{error}"));
                prop_assert_eq!(&old, &new);
            }
        }
    }
}
