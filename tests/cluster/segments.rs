//! Several segments: data crosses to each of them once, and a relay there sends it on.

use std::net::Ipv4Addr;

use crate::crew::Crew;
use crate::lab::{Lab, Plan};
use crate::program::Manner;
use crate::strangers::record;
use crate::{at_work, with};

const HOSTS: [&str; 5] = ["d1", "d2", "d3", "d4", "d5"];

/// d1 and d2 in one segment, d3, d4 and d5 in another.
fn two(plan: Plan) -> Plan {
    plan.option("--segments", "2")
}

fn relayed(lab: &Lab) -> Vec<u64> {
    let counters = lab.hosts().iter().map(|host| lab.counter(host, "packets_relayed"));
    counters.collect()
}

/// Whether a daemon of one segment sends data to one in the other that is not the relay.
fn is_waste(from: Ipv4Addr, to: Ipv4Addr) -> bool {
    if to.is_multicast() {
        return false;
    }
    let [from, to] = [from, to].map(|it| it.octets()[3]);
    from <= 2 && matches!(to, 4 | 5) || (3..=5).contains(&from) && to == 2
}

#[test]
fn data_crosses_to_a_segment_once() {
    with(5, two, |lab| {
        let crew = at_work(lab);
        let packets = record(lab, 2_000);
        let data: Vec<_> = packets.iter().filter(|it| it.bytes.get(3) == Some(&1)).collect();
        assert!(data.iter().any(|it| it.to.ip().octets()[3] == 3), "some crosses");
        for packet in data {
            let (from, to) = (*packet.from.ip(), *packet.to.ip());
            assert!(!is_waste(from, to), "data from {from} to {to}");
        }
        let relayed = relayed(lab);
        assert!(relayed[0] > 0 && relayed[2] > 0, "{relayed:?}");
        assert_eq!([relayed[1], relayed[3], relayed[4]], [0; 3]);
        crew.judge(lab);
    });
}

#[test]
fn another_daemon_relays_when_the_relay_is_gone() {
    with(5, two, |lab| {
        let crew = at_work(lab);
        let others = ["d1", "d2", "d4", "d5"];
        let mut before = 0;
        for (end, begin) in [("kill", "start"), ("pause", "resume")] {
            lab.run(&[end, "d3"]);
            crew.wait_for_parts(&[&others]);
            crew.wait_for_messages(&others, 100);
            let relayed = lab.counter("d4", "packets_relayed");
            assert!(relayed > before, "{relayed} after {before}");
            lab.run(&[begin, "d3"]);
            crew.wait_for_all(lab);
            before = lab.counter("d4", "packets_relayed");
        }
        crew.wait_for_messages(&HOSTS, 50);
        crew.judge(lab);
    });
}

/// Across the segments and along them.
#[test]
fn partition_of_segments_and_merge() {
    with(5, two, |lab| {
        let crew = at_work(lab);
        for (cut, parts) in [
            ("d1,d2/d3,d4,d5", [&["d1", "d2"][..], &["d3", "d4", "d5"]]),
            ("d1,d4/d2,d3,d5", [&["d1", "d4"][..], &["d2", "d3", "d5"]]),
        ] {
            lab.run(&["partition", cut]);
            crew.wait_for_parts(&parts);
            crew.wait_for_messages(&HOSTS, 50);
            lab.run(&["heal"]);
            crew.wait_for_all(lab);
        }
        crew.judge(lab);
    });
}

#[test]
fn loss_between_segments_is_made_good() {
    with(5, two, |lab| {
        let crew = Crew::new(lab, 1, Manner::USUAL);
        crew.wait_for_all(lab);
        crew.work();
        lab.run(&["loss", "5"]);
        crew.wait_for_messages(&HOSTS, 300);
        lab.run(&["heal"]);
        crew.judge(lab);
    });
}

#[test]
fn segments_without_multicast() {
    with(
        5,
        |plan| two(plan).flag("--unicast"),
        |lab| {
            let crew = at_work(lab);
            let packets = record(lab, 2_000);
            let data = packets.iter().filter(|it| it.bytes.get(3) == Some(&1));
            for packet in data {
                assert!(
                    !packet.to.ip().is_multicast() && !is_waste(*packet.from.ip(), *packet.to.ip())
                );
            }
            lab.run(&["partition", "d1,d4/d2,d3,d5"]);
            crew.wait_for_parts(&[&["d1", "d4"], &["d2", "d3", "d5"]]);
            lab.run(&["heal"]);
            crew.wait_for_all(lab);
            crew.judge(lab);
        },
    );
}
