use super::super::Verdict::{Fine, Note, Stop, Warning};
use super::*;
use crate::doctor::facts::{Cpus, Facts};
use crate::doctor::tests::tree;

const HEAD: &str =
    "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
const DEFAULT: &str = "eth0\t00000000\t0100000A\t3\t0\t0\t0\t00000000\t0\t0\t0\n";
const NETWORK_10: &str = "eth1\t0000000A\t00000000\t1\t0\t0\t0\t000000FF\t0\t0\t0\n";
const HOST_10_0_0_2: &str = "eth0\t0200000A\t00000000\t5\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n";

fn config(text: &str) -> Config {
    let path = std::path::Path::new("test.toml");
    Config::parse(text, path, madrigal::config::Who::Anyone).unwrap()
}

/// A daemon at 10.0.0.1 and another at 10.0.0.2, with more lines of the file.
fn cluster(more: &str) -> Config {
    config(&format!(
        "daemon.name = \"a\"\ncluster.daemons = [\"a 10.0.0.1\", \"b 10.0.0.2\"]\n{more}"
    ))
}

/// A host with its own address and others on eth1, the world on eth0; `files` come on top.
fn host(files: &[(&str, &str)]) -> Facts {
    let routes = format!("{HEAD}{DEFAULT}{NETWORK_10}");
    let mut all = vec![
        ("proc/net/route", routes.as_str()),
        ("proc/net/fib_trie", "|-- 10.0.0.1\n/32 host LOCAL\n"),
        ("sys/class/net/eth0/mtu", "1500"),
        ("sys/class/net/eth1/mtu", "1500"),
        ("sys/class/net/eth1/flags", "0x1003"),
    ];
    all.retain(|(path, _)| files.iter().all(|(other, _)| other != path));
    all.extend(files);
    let (_directory, root) = tree(&all);
    Facts::read(&root, "self")
}

#[test]
fn address_must_be_one_of_this_host() {
    assert_eq!(address(&host(&[]), &cluster("")).verdict, Fine);
    let elsewhere = ("proc/net/fib_trie", "|-- 10.0.0.9\n/32 host LOCAL\n");
    assert_eq!(address(&host(&[elsewhere]), &cluster("")).verdict, Stop);
    assert_eq!(address(&host(&[elsewhere]), &config("")).verdict, Fine);
    assert_eq!(address(&host(&[("proc/net/fib_trie", "?")]), &cluster("")).verdict, Note);
}

#[test]
fn daemon_that_does_not_find_itself_does_not_start() {
    let told = |daemons: &str, files: &[(&str, &str)]| {
        let finding =
            address(&host(files), &config(&format!("cluster.daemons = [\"a 10.0.0.2\"{daemons}]")));
        (finding.verdict, finding.found, finding.mend)
    };
    let stops = |why: &str, listed: &str| {
        let found = format!("the configuration does not tell which daemon this one is: {why}");
        (Stop, found, Some(format!("set `daemon.name` or --name to one of {listed}")))
    };
    let none = "none has an address of this host";
    assert_eq!(told("", &[]), stops(none, "a 10.0.0.2"));
    assert_eq!(told(", \"b 10.0.0.3\"", &[]), stops(none, "a 10.0.0.2, b 10.0.0.3"));
    let several = "several have addresses of this host";
    let two = ", \"b 127.0.0.1\", \"c 127.0.0.2\"";
    assert_eq!(told(two, &[]), stops(several, "a 10.0.0.2, b 127.0.0.1, c 127.0.0.2"));
    let silent = ("proc/net/fib_trie", "?");
    assert_eq!(told("", &[silent]), stops("this host does not tell its addresses", "a 10.0.0.2"));
    // Read on another host: the addresses of the one that is looked at tell.
    assert_eq!(told(", \"b 10.0.0.1\"", &[]), (Fine, "10.0.0.1".to_owned(), None));
}

#[test]
fn interface_must_be_up_and_take_multicast() {
    let told = |files: &[(&str, &str)], config: &Config| interface(&host(files), config);
    let finding = told(&[], &cluster(""));
    assert_eq!(finding.verdict, Fine);
    assert!(finding.found.contains("239.77.68.71 is routed to eth0"), "{finding:?}");
    let down = ("sys/class/net/eth1/flags", "0x1002");
    assert_eq!(told(&[down], &cluster("")).verdict, Stop);
    let deaf = ("sys/class/net/eth1/flags", "0x3");
    let finding = told(&[deaf], &cluster(""));
    assert_eq!(finding.verdict, Warning);
    assert!(finding.mend.unwrap().starts_with("ip link set eth1 multicast on"));
    assert_eq!(told(&[deaf], &cluster("cluster.multicast = \"none\"")).verdict, Fine);
    assert_eq!(interface(&Facts::default(), &cluster("")).verdict, Note);
}

#[test]
fn packets_must_fit_the_mtu_and_may_use_it() {
    let told =
        |bytes: &str, config: &Config| mtu(&host(&[("sys/class/net/eth1/mtu", bytes)]), config);
    assert_eq!(told("1500", &cluster("")).verdict, Fine);
    let finding = told("1450", &cluster(""));
    assert_eq!(finding.verdict, Warning);
    assert!(finding.mend.unwrap().contains("cluster.datagram_bytes = 1422"));
    // Packets cannot be made so small.
    assert!(
        told("1260", &cluster("")).mend.unwrap().ends_with("datagram_bytes = 1232 on all daemons")
    );
    assert_eq!(told("1259", &cluster("")).mend.unwrap(), "ip link set eth1 mtu 1500 on all hosts");
    let finding = told("9000", &cluster(""));
    assert_eq!(finding.verdict, Note);
    assert!(finding.mend.unwrap().contains("cluster.datagram_bytes = 8972"));
    assert_eq!(told("9000", &cluster("cluster.datagram_bytes = 8972")).verdict, Fine);
    assert_eq!(told("18446744073709551615", &cluster("")).verdict, Note);
    assert_eq!(told("0", &cluster("")).verdict, Warning);
    assert_eq!(told("?", &cluster("")).verdict, Note);
}

#[test]
fn receive_buffer_is_limited_for_the_unprivileged() {
    let of = |rmem_max, may_admin_net| {
        let mut facts = Facts::default();
        facts.network.rmem_max = rmem_max;
        facts.process.may_admin_net = may_admin_net;
        facts
    };
    let finding = receive_buffer(&of(Some(212_992), false), &config(""));
    assert_eq!(finding.verdict, Warning);
    assert_eq!(finding.mend.unwrap(), "sysctl -w net.core.rmem_max=8388608");
    assert_eq!(receive_buffer(&of(Some(212_992), true), &config("")).verdict, Fine);
    assert_eq!(receive_buffer(&of(Some(8 << 20), false), &config("")).verdict, Fine);
    assert_eq!(receive_buffer(&of(None, false), &config("")).verdict, Note);
    let mut dropping = of(Some(8 << 20), false);
    dropping.network.udp_drops = Some(42);
    assert!(receive_buffer(&dropping, &config("")).found.contains("42 UDP packets"));
}

#[test]
fn send_buffer_holds_a_train() {
    let of = |wmem_default| {
        let mut facts = Facts::default();
        facts.network.wmem_default = wmem_default;
        facts
    };
    assert_eq!(send_buffer(&of(Some(212_992)), &config("")).verdict, Fine);
    assert_eq!(send_buffer(&of(Some(65_536)), &config("")).verdict, Warning);
    assert_eq!(send_buffer(&of(None), &config("")).verdict, Note);
}

#[test]
fn strict_filter_matters_where_a_route_leads_elsewhere() {
    let strict = ("proc/sys/net/ipv4/conf/all/rp_filter", "1");
    let loose = ("proc/sys/net/ipv4/conf/eth1/rp_filter", "2");
    let routes = format!("{HEAD}{DEFAULT}{NETWORK_10}{HOST_10_0_0_2}");
    let astray = ("proc/net/route", routes.as_str());
    assert_eq!(reverse_path(&host(&[strict]), &cluster("")).verdict, Fine);
    let finding = reverse_path(&host(&[strict, astray]), &cluster(""));
    assert_eq!(finding.verdict, Warning);
    assert!(finding.found.contains("the route to b"), "{finding:?}");
    assert_eq!(reverse_path(&host(&[strict, loose, astray]), &cluster("")).verdict, Fine);
    assert_eq!(reverse_path(&host(&[astray]), &cluster("")).verdict, Note);
}

#[test]
fn bridge_that_snoops_must_ask() {
    let of = |snooping: &'static str, querier: &'static str| {
        host(&[
            ("sys/class/net/eth1/bridge/multicast_snooping", snooping),
            ("sys/class/net/eth1/bridge/multicast_querier", querier),
        ])
    };
    assert_eq!(bridge(&host(&[]), &cluster("")).verdict, Fine);
    assert_eq!(bridge(&of("1", "0"), &cluster("")).verdict, Warning);
    let unicast = cluster("cluster.multicast = \"none\"");
    assert_eq!(bridge(&of("1", "0"), &unicast).verdict, Fine);
    assert_eq!(bridge(&of("0", "0"), &cluster("")).verdict, Fine);
    assert_eq!(bridge(&of("1", "1"), &cluster("")).verdict, Fine);
}

#[test]
fn device_is_told_of_where_it_is_real() {
    let spin = cluster("cores.idle = \"spin\"\ncores.pin = [1]");
    let steering = ("sys/class/net/eth1/queues/rx-0/rps_cpus", "2");
    let real = ("sys/class/net/eth1/device/vendor", "0x8086");
    let queue = ("sys/class/net/eth1/queues/rx-0/rps_cpus", "0");
    assert_eq!(device(&host(&[]), &spin).verdict, Fine);
    assert_eq!(device(&host(&[steering]), &spin).verdict, Warning);
    assert_eq!(device(&host(&[steering]), &cluster("")).verdict, Fine);
    let silent = ("proc/sys/net/core/busy_read", "0");
    let finding = device(&host(&[real, queue, silent]), &spin);
    assert!(finding.mend.unwrap().contains("busy_read"));
    let mut facts = host(&[real, queue]);
    facts.cpus = Cpus { usable: Some(vec![0, 1, 2, 3]), ..Cpus::default() };
    assert_eq!(device(&facts, &cluster("")).verdict, Note);
}

#[test]
fn daemon_that_is_alone_is_only_told_of_the_network() {
    let check = super::super::CHECKS.iter().find(|check| check.name == "receive buffer").unwrap();
    let mut facts = Facts::default();
    facts.network.rmem_max = Some(1);
    assert_eq!(check.look(&facts, &config("")).verdict, Note);
    assert_eq!(check.look(&facts, &cluster("")).verdict, Warning);
}
