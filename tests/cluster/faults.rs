//! Daemons and links that fail and come back.

use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::crew::Crew;
use crate::lab::{Lab, Plan};
use crate::program::Manner;
use crate::still::Still;
use crate::support::daemon::is_required;
use crate::{HOSTS, Raise, at_work, on_labs, with};

#[test]
fn three_daemons_are_one_system() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        crew.wait_for_messages(&HOSTS, 500);
        crew.judge(lab);
    });
}

#[test]
fn storm_of_joins_and_leaves() {
    on_labs(3, |lab| {
        let crew = Crew::new(lab, 4, Manner { churn: 900, burst: 1, large: 0 });
        crew.work();
        crew.wait_for_messages(&HOSTS, 500);
        crew.judge(lab);
    });
}

#[test]
fn killed_daemon_is_left_out_and_comes_back() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        for victim in ["d3", "d1"] {
            lab.run(&["kill", victim]);
            let others: Vec<&str> = HOSTS.into_iter().filter(|host| *host != victim).collect();
            crew.wait_for_parts(&[&others]);
            crew.wait_for_messages(&others, 50);
            lab.run(&["start", victim]);
            crew.wait_for_all(lab);
            crew.wait_for_messages(&HOSTS, 50);
        }
        crew.judge(lab);
    });
}

/// No packet that is sent meanwhile says so, and no timeout is over.
#[test]
fn killed_process_is_noticed_though_nobody_has_anything_to_do() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"[ring]\nrest_ms = 60000\n").expect("it is written");
    let path = file.path().to_str().expect("a path of letters");
    let at_rest =
        |plan: Plan| plan.option("--cluster", "failure_timeout_ms = 60000").option("--with", path);
    with(3, at_rest, |lab| {
        let crew = Crew::new(lab, 1, Manner::USUAL);
        crew.wait_for_all(lab);
        for victim in ["d2", "d3", "d1"] {
            lab.run(&["kill", victim]);
            let others: Vec<&str> = HOSTS.into_iter().filter(|host| *host != victim).collect();
            crew.wait_for_parts(&[&others]);
            lab.run(&["start", victim]);
            crew.wait_for_all(lab);
        }
        crew.judge(lab);
    });
}

#[test]
fn two_daemons_killed_at_once() {
    on_labs(4, |lab| {
        let crew = at_work(lab);
        lab.signal("d2", Signal::KILL);
        lab.signal("d4", Signal::KILL);
        crew.wait_for_parts(&[&["d1", "d3"]]);
        lab.run(&["start"]);
        crew.wait_for_all(lab);
        crew.wait_for_messages(&["d1", "d2", "d3", "d4"], 50);
        crew.judge(lab);
    });
}

#[test]
fn suspended_daemon_is_left_out_and_comes_back() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        for victim in ["d2", "d1"] {
            lab.run(&["pause", victim]);
            let others: Vec<&str> = HOSTS.into_iter().filter(|host| *host != victim).collect();
            crew.wait_for_parts(&[&others]);
            crew.wait_for_messages(&others, 50);
            lab.run(&["resume", victim]);
            crew.wait_for_all(lab);
            crew.wait_for_messages(&HOSTS, 50);
        }
        crew.judge(lab);
    });
}

/// All at once, as when the machine under virtual hosts is suspended: none was silent for another.
#[test]
fn all_daemons_suspended() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        let still = Still::begin(lab);
        for host in HOSTS {
            lab.signal(host, Signal::STOP);
        }
        thread::park_timeout(Duration::from_millis(1_500));
        for host in ["d3", "d1", "d2"] {
            lab.signal(host, Signal::CONT);
        }
        crew.wait_for_messages(&HOSTS, 50);
        still.end(lab);
        crew.judge(lab);
    });
}

#[test]
fn pauses_below_the_timeout_split_nothing() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        let still = Still::begin(lab);
        for round in 0..9 {
            let host = HOSTS[round % 3];
            lab.signal(host, Signal::STOP);
            thread::park_timeout(Duration::from_millis(100));
            lab.signal(host, Signal::CONT);
            crew.wait_for_messages(&HOSTS, 10);
        }
        still.end(lab);
        crew.judge(lab);
    });
}

/// A daemon that did not run for longer than its own timeout finds tokens and data of the others in
/// its sockets, who are patient: it has nothing to conclude from the time that has passed.
#[test]
fn what_has_come_counts_before_what_is_overdue() {
    let patient = |plan: Plan| plan.option("--cluster", "failure_timeout_ms = 10000");
    with(3, patient, |lab| {
        lab.run(&["stop", "d3"]);
        lab.edit("d3", |text| {
            text.replace("failure_timeout_ms = 10000", "failure_timeout_ms = 300")
        });
        lab.run(&["start", "d3"]);
        let crew = at_work(lab);
        let still = Still::begin(lab);
        for _ in 0..20 {
            lab.signal("d3", Signal::STOP);
            thread::park_timeout(Duration::from_millis(400));
            lab.signal("d3", Signal::CONT);
            crew.wait_for_messages(&HOSTS, 10);
        }
        assert!(lab.log("d3").contains("this daemon did not run"));
        still.end(lab);
        crew.judge(lab);
    });
}

#[test]
fn partition_in_two_and_merge() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        for (cut, parts) in [
            ("d1,d2/d3", [&["d1", "d2"][..], &["d3"]]),
            ("d1/d2,d3", [&["d1"][..], &["d2", "d3"]]),
            ("d1,d3/d2", [&["d1", "d3"][..], &["d2"]]),
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
fn partition_in_three_and_merge() {
    on_labs(5, |lab| {
        let crew = at_work(lab);
        lab.run(&["partition", "d1,d4/d2/d3,d5"]);
        crew.wait_for_parts(&[&["d1", "d4"], &["d2"], &["d3", "d5"]]);
        crew.wait_for_messages(&["d1", "d2", "d3", "d4", "d5"], 50);
        // From one partition straight into another one across it.
        lab.run(&["partition", "d1,d2/d3,d4/d5"]);
        crew.wait_for_parts(&[&["d1", "d2"], &["d3", "d4"], &["d5"]]);
        crew.wait_for_messages(&["d1", "d2", "d3", "d4", "d5"], 50);
        lab.run(&["heal"]);
        crew.wait_for_all(lab);
        crew.wait_for_messages(&["d1", "d2", "d3", "d4", "d5"], 50);
        crew.judge(lab);
    });
}

/// A link that works one way ends in some split that stays.
#[test]
fn one_way_link_comes_to_rest() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        lab.run(&["oneway", "d1", "d3"]);
        // All see some change, then serve on, and nothing changes any more.
        crew.wait("network views", |seen| seen.iter().all(|seen| seen.network_views > 0));
        let configurations = || HOSTS.map(|host| lab.configurations(host));
        let mut last = configurations();
        let mut calm = 0;
        while calm < 2 {
            crew.wait_for_messages(&HOSTS, 200);
            let now = configurations();
            calm = if now == last { calm + 1 } else { 0 };
            last = now;
        }
        lab.run(&["heal"]);
        crew.wait_for_all(lab);
        crew.judge(lab);
    });
}

#[test]
fn rolling_restart_under_load() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        for host in HOSTS {
            lab.run(&["stop", host]);
            let others: Vec<&str> = HOSTS.into_iter().filter(|other| *other != host).collect();
            crew.wait_for_parts(&[&others]);
            lab.run(&["start", host]);
            crew.wait_for_all(lab);
            crew.wait_for_messages(&HOSTS, 50);
        }
        crew.judge(lab);
    });
}

#[test]
fn twenty_daemons_start_at_once() {
    on_labs(20, |lab| {
        let crew = Crew::new(lab, 1, Manner { churn: 100, burst: 1, large: 0 });
        crew.wait_for_all(lab);
        crew.work();
        crew.wait_for_messages(&HOSTS, 200);
        crew.judge(lab);
    });
}

/// More threads that only count than there are processors, beside the daemons; in CI for long.
#[test]
fn full_processors_split_nothing() {
    on_labs(3, |lab| {
        let crew = at_work(lab);
        let still = Still::begin(lab);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut n = 0_u64;
                    while !stop.load(Relaxed) {
                        n = std::hint::black_box(n + 1);
                    }
                });
            }
            let _end = Raise(&stop);
            let seconds = if is_required("MADRIGAL_REQUIRE_LAB") { 30 } else { 6 };
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_secs(seconds) {
                crew.wait_for_messages(&HOSTS, 20);
            }
        });
        still.end(lab);
        crew.judge(lab);
    });
}

/// Nothing of a host is special: long frames, several segments, no multicast.
fn serves(lab: &Lab) {
    let crew = at_work(lab);
    lab.run(&["partition", "d1/d2,d3"]);
    crew.wait_for_parts(&[&["d1"], &["d2", "d3"]]);
    lab.run(&["heal"]);
    crew.wait_for_all(lab);
    crew.wait_for_messages(&HOSTS, 200);
    crew.judge(lab);
}

#[test]
fn jumbo_frames() {
    with(3, |plan| plan.option("--mtu", "9000"), serves);
}

#[test]
fn no_multicast() {
    with(3, |plan| plan.flag("--unicast"), serves);
}

#[test]
fn ipv6() {
    with(3, |plan| plan.flag("--ipv6"), serves);
    // The least that a link may carry.
    with(3, |plan| plan.flag("--ipv6").option("--mtu", "1280"), serves);
}

#[test]
fn addresses_of_one_link() {
    with(3, |plan| plan.flag("--link-local"), serves);
    with(3, |plan| plan.flag("--link-local").flag("--spread"), serves);
}

#[test]
fn sessions_on_cores_of_their_own() {
    with(3, |plan| plan.option("--cores", "3"), serves);
}
