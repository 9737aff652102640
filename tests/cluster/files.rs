//! What the files of the daemons say: different things, or something new while daemons run.

use std::collections::BTreeMap;

use madrigal::base::PrivateGroup;
use rustix::process::Signal;

use crate::crew::Crew;
use crate::lab::{Lab, until};
use crate::program::Manner;
use crate::{HOSTS, at_work, on_labs, with};

/// Waits until the daemon of `host` has logged a line that has all of these words.
fn wait_for_line(lab: &Lab, host: &str, words: &[&str]) {
    until(&format!("a line of {host} with {words:?}"), || {
        let log = lab.log(host);
        let has_all = |line: &str| words.iter().all(|word| line.contains(word));
        log.lines().any(has_all).then_some(())
    });
}

#[test]
fn both_sides_tell_what_their_files_do_not_agree_on() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        lab.run(&["stop", "d3"]);
        lab.edit("d3", |text| {
            text.replace("datagram_bytes = 1472", "datagram_bytes = 1400")
                .replace("d2 10.77.0.2", "other 10.77.0.2")
        });
        lab.run(&["start", "d3"]);
        // What it hears from them is of its file, but for their names.
        for host in ["d1", "d2"] {
            let its = ["another configuration", "daemon=d3", "address=10.77.0.3:4803"];
            wait_for_line(lab, host, &its);
            wait_for_line(lab, host, &["datagram_bytes: 1472 here, 1400 there"]);
            wait_for_line(lab, host, &["daemon d2: 10.77.0.2", "daemon other: none here"]);
            let theirs = format!("daemon={host}");
            wait_for_line(lab, "d3", &["another configuration", &theirs, "1400 here, 1472 there"]);
            for name in ["identities_received", "packets_foreign"] {
                until(name, || (lab.counter(host, name) > 0).then_some(()));
            }
        }
        until("it told both", || (lab.counter("d3", "identities_sent") > 1).then_some(()));
        crew.wait_for_parts(&[&["d1", "d2"], &["d3"]]);
        lab.run(&["stop", "d3"]);
        lab.edit("d3", |text| {
            text.replace("datagram_bytes = 1400", "datagram_bytes = 1472")
                .replace("other 10.77.0.2", "d2 10.77.0.2")
        });
        lab.run(&["start", "d3"]);
        crew.wait_for_all(lab);
        crew.wait_for_messages(&HOSTS, 50);
        crew.judge(lab);
    });
}

#[test]
fn files_with_different_groups_are_told_of_on_both_sides() {
    with(
        3,
        |plan| plan.flag("--no-start"),
        |lab| {
            lab.edit("d2", |text| {
                text.replacen("[cluster]", "[cluster]\nmulticast = \"239.7.7.7\"", 1)
            });
            lab.run(&["start", "d1"]);
            lab.run(&["start", "d2"]);
            let groups = ["239.77.68.71 port 4803", "239.7.7.7 port 4803"];
            for (host, other, [here, there]) in
                [("d1", "d2", groups), ("d2", "d1", [groups[1], groups[0]])]
            {
                let differs = format!("segment 1: {here} here, {there} there");
                wait_for_line(
                    lab,
                    host,
                    &["another configuration", &format!("daemon={other}"), &differs],
                );
                // And of the third nothing is heard at all.
                wait_for_line(lab, host, &["not heard yet", "daemon=\"d3\"", "10.77.0.3:4803"]);
                assert!(!lab.log(host).contains("not its multicast"));
                let other = format!("daemon=\"{other}\"");
                let unheard = |line: &str| line.contains("not heard yet") && line.contains(&other);
                assert!(!lab.log(host).lines().any(unheard));
            }
        },
    );
}

#[test]
fn who_is_heard_without_its_multicast_is_named() {
    with(
        2,
        |plan| plan,
        |lab| {
            // The hosts find each other before: the lab's multicast is also their ARP's.
            lab.await_ring();
            lab.run(&["stop", "d2"]);
            lab.run(&["loss", "99.999", "multicast"]);
            lab.run(&["start", "d2"]);
            for (host, other) in [("d1", "d2"), ("d2", "d1")] {
                let daemon = format!("daemon=\"{other}\"");
                wait_for_line(lab, host, &["not its multicast", &daemon, "239.77.68.71:4803"]);
                assert!(!lab.log(host).contains("not heard yet"));
            }
            lab.run(&["heal"]);
            lab.await_ring();
        },
    );
}

/// The line of the file that lists a daemon.
fn entry(number: usize) -> String {
    format!("    \"d{number} 10.77.0.{number}\",\n")
}

/// Takes a daemon out of the files of these hosts, or puts it in as the last one.
fn list(lab: &Lab, hosts: &[&str], number: usize, is_there: bool) {
    for host in hosts {
        lab.edit(host, |text| {
            let without = text.replace(&entry(number), "");
            match is_there {
                true => without.replacen("\n]", &format!("\n{}]", entry(number)), 1),
                false => without,
            }
        });
    }
}

fn reload(lab: &Lab, hosts: &[&str]) {
    hosts.iter().for_each(|host| lab.signal(host, Signal::HUP));
}

/// The session of each program on these hosts.
fn sessions(crew: &Crew, hosts: &[&str]) -> BTreeMap<usize, PrivateGroup> {
    crew.look(|seen| {
        let all = seen.iter().enumerate().filter(|(_, seen)| hosts.contains(&seen.host.as_str()));
        all.map(|(number, seen)| (number, seen.session.expect("it has one"))).collect()
    })
}

#[test]
fn daemons_come_and_go_by_reload_while_clients_stay() {
    with(
        3,
        |plan| plan.flag("--no-start"),
        |lab| {
            let (old, new) = (["d1", "d2"], ["d1", "d3"]);
            list(lab, &old, 3, false);
            lab.run(&["start", "d1"]);
            lab.run(&["start", "d2"]);
            let crew = Crew::new(lab, 2, Manner::USUAL);
            crew.wait_for_parts(&[&old]);
            crew.work();
            crew.wait_for_messages(&old, 50);
            let before = sessions(&crew, &old);
            // One more.
            list(lab, &old, 3, true);
            reload(lab, &old);
            lab.run(&["start", "d3"]);
            crew.wait_for_all(lab);
            crew.wait_for_messages(&HOSTS, 50);
            wait_for_line(lab, "d1", &["configuration installed", "daemons=\"d1 d2 d3\""]);
            // One less, which goes on by itself, and is told why.
            list(lab, &new, 2, false);
            reload(lab, &new);
            crew.wait_for_parts(&[&new, &["d2"]]);
            crew.wait_for_messages(&HOSTS, 50);
            wait_for_line(lab, "d2", &["another configuration", "daemon=d1", "daemon d2", "none"]);
            // Back again, and in another place.
            list(lab, &new, 2, true);
            list(lab, &["d2"], 2, true);
            reload(lab, &HOSTS);
            crew.wait_for_all(lab);
            wait_for_line(lab, "d3", &["configuration installed", "daemons=\"d1 d3 d2\""]);
            assert_eq!(sessions(&crew, &old), before, "clients have stayed");
            crew.wait_for_messages(&HOSTS, 50);
            crew.judge(lab);
        },
    );
}

#[test]
fn what_needs_a_restart_says_so_and_changes_nothing() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        let before = lab.configurations("d1");
        lab.edit("d1", |text| text.replace(&entry(3), "").replace("count = 1", "count = 2"));
        reload(lab, &["d1"]);
        wait_for_line(lab, "d1", &["stays as it was", "restart"]);
        wait_for_line(lab, "d1", &["cores.count"]);
        crew.wait_for_messages(&HOSTS, 100);
        assert_eq!(lab.configurations("d1"), before);
        crew.judge(lab);
    });
}

#[test]
fn a_spread_conf_makes_a_cluster() {
    with(
        3,
        |plan| plan.flag("--spread").option("--segments", "2"),
        |lab| {
            let crew = at_work(lab);
            wait_for_line(lab, "d2", &["configuration installed", "daemons=\"d1 d2 d3\""]);
            lab.run(&["kill", "d1"]);
            crew.wait_for_parts(&[&["d2", "d3"]]);
            lab.run(&["start", "d1"]);
            crew.wait_for_all(lab);
            crew.wait_for_messages(&HOSTS, 50);
            crew.judge(lab);
        },
    );
}
