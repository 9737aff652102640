//! Conversations recorded between Spread's own clients and daemon, replayed against ours: every
//! byte that it sends must be the recorded one. `player/` says how, and what may differ from run
//! to run; what our daemon does otherwise on purpose is in [`DEVIATIONS`].

#[path = "cluster/lab.rs"]
#[allow(dead_code, reason = "the tests of the cluster use all of it")]
mod lab;
mod player;
mod recorded;
mod support;

use madrigal::wire::session::kind;
use player::{Deviation, Edit, Play, Step, cluster_script, replay, script};
use support::{Client, Daemon, Driver, Setup, drivers};

/// All that differs from Spread in what one daemon sends; `docs/spread-compatibility.md` tells
/// users. One more is in `player/compare.rs`: group ids never come back.
const DEVIATIONS: [Deviation; 4] = [
    Deviation {
        transcript: "04-connect-rejects",
        edits: &[Edit::Instead(53, b"\x05NULL \xf7")],
        reason: "what a client sends behind its hello is the beginning of its choice",
    },
    Deviation {
        transcript: "08-multi-group",
        edits: &[Edit::Delivered(61, &["A", "B"])],
        reason: "a message to more than 43 groups is delivered",
    },
    Deviation {
        transcript: "11-group-names",
        edits: &[Edit::Unsent(34), Edit::Unsent(37), Edit::Unsent(40), Edit::Unsent(45)],
        reason: "only names that Spread's library lets through can be joined",
    },
    Deviation {
        transcript: "32-three-way-partition-and-merge",
        edits: &[Edit::InSteps(102, 108)],
        reason: "daemons that hear each other merge at once, and do not wait for a third",
    },
];

/// What a transcript needs besides a plain daemon.
#[derive(Clone, Copy, Default)]
struct Needs {
    /// Sections of the configuration with their keys.
    sections: &'static [(&'static str, &'static str)],
    /// The access file.
    access: Option<&'static str>,
    /// Sessions that are there before it begins.
    others: usize,
    /// It is about requests in one go.
    pipelined: bool,
}

const PLAIN: Needs = Needs { sections: &[], access: None, others: 0, pipelined: false };

/// Replays a transcript on each driver, with sessions in the only thread, on one core of their
/// own, and spread over two.
fn check(transcript: &str, needs: Needs) {
    let steps = script(transcript, &DEVIATIONS);
    for &driver in drivers() {
        for cores in 1..=3 {
            let mut setup = Setup::new(driver).cores(cores);
            for (name, keys) in needs.sections {
                setup = setup.section(name, keys);
            }
            if let Some(rules) = needs.access {
                setup = setup.access(rules);
            }
            // Both kinds of socket carry the same bytes, whatever is behind them.
            let transports = [&[false, true][..], &[true], &[false]][cores - 1];
            for &unix in transports {
                check_with(&setup, transcript, &steps, needs, Play { unix, pipelined: false });
                if needs.pipelined {
                    check_with(&setup, transcript, &steps, needs, Play { unix, pipelined: true });
                }
            }
        }
    }
}

fn check_with(setup: &Setup, transcript: &str, steps: &[Step], needs: Needs, play: Play) {
    let daemon = setup.start();
    let others: Vec<_> =
        (0..needs.others).map(|n| Client::open(&daemon, &format!("other{n}"))).collect();
    if let Err(what) = replay(&daemon, steps, play) {
        panic!("{transcript} on {setup}, {play:?}: {what}");
    }
    drop(others);
}

#[test]
fn connect_accept() {
    check("01-connect-accept", PLAIN);
}

#[test]
fn connect_variants() {
    check("02-connect-variants", PLAIN);
}

#[test]
fn connect_old_library_versions() {
    check("03-connect-old-library-versions", PLAIN);
}

#[test]
fn connect_rejects() {
    // What is not whole is waited for so long; for all else it is plenty.
    let sections = &[("sessions", "handshake_timeout_ms = 300")];
    check("04-connect-rejects", Needs { sections, ..PLAIN });
}

#[test]
fn join_leave_disconnect() {
    check("05-join-leave-disconnect", PLAIN);
}

#[test]
fn service_types() {
    check("06-service-types", PLAIN);
}

#[test]
fn self_discard_and_extra_flags() {
    check("07-self-discard-and-extra-flags", PLAIN);
}

#[test]
fn multi_group() {
    check("08-multi-group", PLAIN);
}

#[test]
fn private_and_open_group() {
    check("09-private-and-open-group", PLAIN);
}

#[test]
fn sizes() {
    check("10-sizes", PLAIN);
}

#[test]
fn group_names() {
    check("11-group-names", PLAIN);
}

#[test]
fn header_violations() {
    check("12-header-violations", PLAIN);
}

#[test]
fn no_membership_session() {
    check("13-no-membership-session", PLAIN);
}

#[test]
fn order_of_own_requests() {
    check("14-order-of-own-requests", Needs { pipelined: true, ..PLAIN });
}

#[test]
fn reject_quota() {
    let sections = &[("sessions", "max = 3")];
    check("15-reject-quota", Needs { sections, others: 3, ..PLAIN });
}

#[test]
fn auth_ip_only() {
    let sections = &[("auth", "allowed = [\"IP\"]\naccess_ip = \"access\"")];
    let access = Some("local\nunix");
    check("16-auth-ip-only", Needs { sections, access, ..PLAIN });
}

#[test]
fn auth_ip_required_denied() {
    let sections = &[("auth", "required = [\"IP\"]\naccess_ip = \"access\"")];
    let access = Some("192.0.2.1");
    check("17-auth-ip-required-denied", Needs { sections, access, ..PLAIN });
}

#[test]
fn auth_both_listed() {
    let sections = &[("auth", "allowed = [\"IP\", \"NULL\"]\naccess_ip = \"access\"")];
    let access = Some("local\nunix");
    check("18-auth-both-listed", Needs { sections, access, ..PLAIN });
}

/// A daemon that could admit nobody is not started, so there is nobody to reject: transcript 19
/// cannot happen. (The session layer's own test has its bytes.)
#[test]
fn auth_nothing_enabled() {
    assert!(!script("19-auth-nothing-enabled", &DEVIATIONS).is_empty());
    let setup = Setup::new(Driver::Mio).section("auth", "allowed = []");
    let Err(log) = setup.try_start() else { panic!("it has started") };
    assert!(log.contains("nobody could connect"), "{log}");
}

#[test]
fn java_client() {
    check("20-java-client", PLAIN);
}

/// Transcript 21 is a summary: one reader falls behind, and is dropped.
#[test]
fn slow_reader() {
    assert!(recorded::names().iter().any(|name| name == "21-slow-reader"));
    for &driver in drivers() {
        for cores in 1..=3 {
            let setup = Setup::new(driver).cores(cores).section("sessions", "messages_max = 20");
            drop_slow_reader(&setup.start());
        }
    }
}

fn drop_slow_reader(daemon: &Daemon) {
    let (mut a, mut b) = (Client::open_tcp(daemon, "a"), Client::open_tcp(daemon, "b"));
    let names = [a.name.clone(), b.name.clone()];
    a.join("g");
    a.receive().expect_view(kind::CAUSED_BY_JOIN, "g", &[&names[0]], &names[0]);
    b.join("g");
    a.receive().expect_view(kind::CAUSED_BY_JOIN, "g", &[&names[0], &names[1]], &names[1]);
    b.receive();
    let data: Vec<u8> = (0..40_000_u32).map(|index| (index % 251) as u8).collect();
    // Far more than socket buffers and 20 messages hold.
    let mut sent = 0;
    loop {
        assert!(sent < 2_000, "80 MB wait for b, and it is still a member");
        a.multicast(kind::AGREED, &["g"], &data);
        sent += 1;
        let frame = a.receive();
        if frame.is_view() {
            frame.expect_view(kind::CAUSED_BY_DISCONNECT, "g", &[&names[0]], &names[1]);
            break;
        }
    }
    // It gets a clean beginning of what was sent, and then the end.
    let got = b.frames_to_end();
    assert!(!got.is_empty() && got.len() < sent, "{} of {sent}", got.len());
    assert!(got.iter().all(|frame| frame.data() == data));
}

#[test]
fn max_session_messages_0() {
    let sections = &[("sessions", "messages_max = 0")];
    check("22-max-session-messages-0", Needs { sections, ..PLAIN });
}

#[test]
fn flush_join_multicast_flush() {
    check("40-flush-join-multicast-flush", PLAIN);
}

#[test]
fn flush_vulnerable_message() {
    check("41-flush-vulnerable-message", PLAIN);
}

#[test]
fn flush_cascading_memberships() {
    check("42-flush-cascading-memberships", PLAIN);
}

/// Replays a transcript of three daemons in a lab, with each driver.
fn check_cluster(transcript: &str) {
    if !lab::is_possible() {
        return;
    }
    let steps = cluster_script(transcript, &DEVIATIONS);
    for &driver in drivers() {
        let lab = lab::Plan::named(driver, &["dz", "da", "dm"]).start();
        lab.await_ring();
        if let Err(what) = player::cluster::replay(&lab, &steps) {
            panic!("{transcript} with {driver}: {what}");
        }
    }
}

#[test]
fn remote_daemons() {
    check_cluster("30-remote-daemons");
}

#[test]
fn partition_and_merge() {
    check_cluster("31-partition-and-merge");
}

#[test]
fn three_way_partition_and_merge() {
    check_cluster("32-three-way-partition-and-merge");
}

#[test]
fn daemon_stopped_and_continued() {
    check_cluster("33-daemon-stopped-and-continued");
}

#[test]
fn daemon_crash_and_restart() {
    check_cluster("34-daemon-crash-and-restart");
}

#[test]
fn daemon_terminated() {
    check_cluster("35-daemon-terminated");
}
