//! Clusters as a file says them, and what is said of those that cannot be.

use std::path::Path;

use super::*;
use crate::config::testing::{TestHost, parse_as};
use crate::config::{Config, ConfigError};

fn parse_on(text: &str, who: Who) -> Result<Config, ConfigError> {
    parse_as(text, Path::new("etc/madrigal.toml"), who)
}

fn parse(text: &str) -> Config {
    parse_on(text, Who::Local).unwrap_or_else(|error| panic!("{error}"))
}

fn why(text: &str) -> String {
    parse_on(text, Who::Local).expect_err("the text is wrong").to_string()
}

fn name(text: &str) -> DaemonName {
    DaemonName::new(text.as_bytes()).unwrap()
}

const TWO_SEGMENTS: &str = r#"
[cluster]
hops = 2
port = 4810
[[cluster.segments]]
daemons = ["a 10.0.0.1", "b 10.0.0.2"]
[[cluster.segments]]
multicast = "none"
port = 4900
hops = 3
daemons = [{ name = "c", address = "10.0.0.2", id = 7, clients = ["127.0.0.1"] }]
"#;

#[test]
fn a_daemon_finds_itself_by_name_or_by_address() {
    let daemons = "[cluster]\ndaemons = [\"a 10.0.0.1\", \"b 10.0.0.2\"]\n";
    assert_eq!(parse(daemons).daemon, name("b"));
    assert_eq!(parse_on(daemons, Who::Named(name("a"))).unwrap().daemon, name("a"));
    let named = format!("{daemons}[daemon]\nname = \"a\"\n");
    assert_eq!(parse(&named).daemon, name("a"));
    // What the operator says comes before what the file says.
    assert_eq!(parse_on(&named, Who::Named(name("b"))).unwrap().daemon, name("b"));
}

#[test]
fn a_file_of_others_can_be_looked_at() {
    let others = "[cluster]\ndaemons = [\"a 10.0.0.1\"]\n";
    assert!(why(others).contains("none has an address of this host"));
    assert_eq!(parse_on(others, Who::Anyone).unwrap().cluster.daemons.len(), 1);
}

#[test]
fn segments_have_their_own_places() {
    let config = parse_on(TWO_SEGMENTS, Who::Named(name("c"))).unwrap();
    let cluster = &config.cluster;
    let places: Vec<_> = cluster
        .daemons
        .iter()
        .map(|daemon| (daemon.name, daemon.segment, cluster.data(daemon), cluster.token(daemon)))
        .collect();
    let at = |text: &str| text.parse().unwrap();
    assert_eq!(
        places,
        [
            (name("a"), 0, at("10.0.0.1:4810"), at("10.0.0.1:4811")),
            (name("b"), 0, at("10.0.0.2:4810"), at("10.0.0.2:4811")),
            (name("c"), 1, at("10.0.0.2:4900"), at("10.0.0.2:4901")),
        ]
    );
    assert_eq!(cluster.segments[0].group(), Some(at("239.77.68.71:4810")));
    assert_eq!(cluster.segments[1], Segment { multicast: None, port: 4900, hops: 3 });
    assert_eq!(cluster.segments[0].hops, 2);
    assert_eq!(cluster.daemons[2].id, DaemonId::new(7));
    // Clients find the daemon at the port of its segment, and where it says so itself.
    assert_eq!(config.listen.port, 4900);
    assert_eq!(config.listen.tcp, [IpAddr::from([127, 0, 0, 1])]);
    let b = parse_on(TWO_SEGMENTS, Who::Named(name("b"))).unwrap();
    assert_eq!((b.listen.port, b.listen.tcp.len()), (4810, 2));
}

#[test]
fn what_is_said_of_listening_comes_before_the_segment() {
    let text = "[cluster]\nport = 5000\ndaemons = [\"b 10.0.0.2\"]\n";
    assert_eq!(parse(text).listen.port, 5000);
    assert_eq!(parse(&format!("{text}[listen]\nport = 4803\n")).listen.port, 4803);
}

#[test]
fn ipv6_has_a_group_and_a_size_of_its_own() {
    let cluster = |text: &str| {
        let who = Who::Named(name("a"));
        parse_on(&format!("[cluster]\ndaemons = [\"a 2001:db8::1\"]\n{text}"), who).unwrap().cluster
    };
    let default = cluster("");
    assert_eq!(default.segments[0].multicast, Some(Segment::MULTICAST_IPV6));
    assert_eq!(default.datagram_bytes, 1_452);
    assert_eq!(cluster("multicast = \"none\"").segments[0].multicast, None);
}

#[test]
fn datagrams_are_as_large_as_the_interface_allows() {
    let bytes = |address: &str, size: &str| {
        let text = format!("[cluster]\ndaemons = [\"b {address}\"]\ndatagram_bytes = {size}\n");
        parse_on(&text, Who::Named(name("b"))).unwrap().cluster.datagram_bytes
    };
    assert_eq!(bytes("10.0.0.2", "\"auto\""), 8_972);
    // An interface that is not known is taken for Ethernet.
    assert_eq!(bytes("10.0.0.3", "\"auto\""), 1_472);
    assert_eq!(bytes("10.0.0.2", "1400"), 1_400);
    // Tunnels, down to the smallest packets of IPv6.
    assert_eq!(bytes("10.0.0.20", "\"auto\""), 1_392);
    assert_eq!(bytes("2001:db8::20", "\"auto\""), 1_232);
}

#[test]
fn what_is_assumed_of_an_interface_that_is_not_known_is_noted() {
    let notes = |address: &str, size: &str| {
        let text =
            format!("cluster.daemons = [\"b {address}\"]\ncluster.datagram_bytes = {size}\n");
        parse_on(&text, Who::Anyone).unwrap().notes
    };
    let said = notes("10.0.0.3", "\"auto\"");
    let [note] = &said[..] else { panic!("{said:?}") };
    assert_eq!(note.line, 2);
    assert!(note.message.contains("1472 is assumed"), "{note:?}");
    assert_eq!(notes("10.0.0.2", "\"auto\""), []);
    assert_eq!(notes("10.0.0.3", "1472"), []);
    // Alone it sends nothing.
    assert_eq!(parse_on("cluster.datagram_bytes = \"auto\"", Who::Local).unwrap().notes, []);
}

#[test]
fn datagrams_that_do_not_fit_the_interface_are_warned_of() {
    let warning = |daemons: &str, size: &str| {
        let text = format!("[cluster]\ndaemons = [{daemons}]\ndatagram_bytes = {size}\n");
        let config = parse_on(&text, Who::Named(name("b"))).unwrap();
        too_long(&config.cluster, config.daemon, &TestHost)
    };
    let (fine, tunnel) = (r#""a 10.0.0.1", "b 10.0.0.2""#, r#""a 10.0.0.1", "b 10.0.0.20""#);
    assert_eq!(warning(fine, "8972"), None);
    assert!(warning(fine, "8973").unwrap().contains("datagram_bytes = 8972 on all"));
    let said = warning(tunnel, "1472").unwrap();
    assert!(said.contains("interface of 10.0.0.20, whose MTU is 1420"), "{said}");
    assert!(said.contains("datagram_bytes = 1392 on all"), "{said}");
    assert_eq!(warning(tunnel, "\"auto\""), None);
    assert_eq!(warning(r#""b 10.0.0.20""#, "1472"), None, "nothing is sent");
    let said = warning(r#""a 2001:db8::1", "b 2001:db8::20""#, "1233").unwrap();
    assert!(said.contains("datagram_bytes = 1232 on all"), "{said}");
    let said = warning(r#""a 10.0.0.1", "b 10.0.0.21""#, "\"auto\"").unwrap();
    assert!(said.contains("give it an MTU of 1260"), "{said}");
    assert_eq!(warning(r#""a 10.0.0.1", "b 10.0.0.9""#, "9000"), None, "nobody knows");
}

#[test]
fn a_cluster_that_cannot_be_is_told_why() {
    for (daemons, what) in [
        (r#"["a 10.0.0.1", "c 10.0.0.3"]"#, "none has an address of this host"),
        (r#"["a 10.0.0.1", "a 10.0.0.2"]"#, "two daemons called a"),
        (r#"["a 10.0.0.1", "b 10.0.0.1"]"#, "two daemons at 10.0.0.1:4803 or a port beside it"),
        (
            // The id that M has by its name.
            r#"[{ name = "b", address = "10.0.0.2", id = 3323278024 }, "M 10.0.0.3"]"#,
            "two daemons with id 3323278024: b and M",
        ),
        (r#"["a 10.0.0.1", "b ::1"]"#, "another IP version"),
        (r#"["a 0.0.0.0"]"#, "no address of one host"),
        (r#"["a 239.0.0.1"]"#, "no address of one host"),
        (r#"["a"]"#, "daemons, \"name address\""),
        (r#"[{ name = "a" }]"#, "daemons, \"name address\""),
        (r#"[{ name = "a", address = "10.0.0.2", id = 0 }]"#, "daemons, \"name address\""),
        (r#"[{ name = "a", address = "10.0.0.2", di = 1 }]"#, "daemons, \"name address\""),
        (r#"[{ name = "a", address = "10.0.0.2", clients = ["x"] }]"#, "daemons, \"name"),
    ] {
        let said = why(&format!("[cluster]\ndaemons = {daemons}\n"));
        assert!(said.contains(what), "{daemons}: {said}");
    }
    let mixed = why("cluster.daemons = [\"a ::1\", \"b fe80::1\"]\ndaemon.name = \"a\"");
    let both = "fe80::1, which is of one link only, and at ::1, which is not";
    assert!(mixed.contains(both), "{mixed}");
    let named = "[cluster]\ndaemons = [\"a 10.0.0.1\"]\n[daemon]\nname = \"x\"\n";
    assert!(
        why(named).contains("none is called x; set `daemon.name` or --name to one of a 10.0.0.1")
    );
}

#[test]
fn wrong_segments_are_blamed_where_they_stand() {
    let head = "[[cluster.segments]]\ndaemons = [\"b 10.0.0.2\"]\n";
    for (text, what) in [
        (
            format!("{head}prot = 1"),
            "`cluster.segments.prot` is not a key\n --> etc/madrigal.toml:3:1",
        ),
        (format!("{head}prot = 1"), "did you mean `port`?"),
        (format!("{head}port = 0"), "`cluster.segments.port` is 0, but allowed is 1 to 65534"),
        (
            format!("{head}[[cluster.segments]]\nport = 5000"),
            "`cluster.segments.daemons` is empty: a segment has daemons",
        ),
        (
            format!("cluster.daemons = [\"b 10.0.0.2\"]\n{head}"),
            "`cluster.daemons` stands beside `cluster.segments`",
        ),
        ("cluster.segments = [1]".to_owned(), "a list of segments, each a table, at most 20"),
        (
            format!("{head}[[cluster.segments]]\ndaemons = [\"a 10.0.0.2\"]\n"),
            "`cluster.segments` has two daemons at 10.0.0.2:4803 or a port beside it: b and a",
        ),
        (head.repeat(21), "a list of segments, each a table, at most 20"),
    ] {
        assert!(why(&text).contains(what), "{text}\n{}", why(&text));
    }
}

#[test]
fn too_many_daemons_of_all_segments_are_refused() {
    let segment = |index: usize| {
        let names = (0..70).map(|n| format!("\"d{index}-{n} 10.0.{index}.{n}\""));
        let names = names.collect::<Vec<_>>().join(", ");
        format!("[[cluster.segments]]\ndaemons = [{names}]\n")
    };
    let said = why(&(segment(1) + &segment(2)));
    assert!(said.contains("have 140 daemons, but allowed are 128 in all"), "{said}");
}

#[test]
fn written_cluster_reads_as_itself() {
    for text in [
        TWO_SEGMENTS,
        "[cluster]\ndaemons = [{ name = \"c\", address = \"10.0.0.2\", id = 7, clients = [] }]",
    ] {
        let config = parse_on(text, Who::Named(name("c"))).unwrap();
        assert_eq!(parse(&config.to_string()), config, "{config}");
    }
}
