//! How long until clients know that a daemon is gone, and until it is one of them again?
//!
//! Three daemons in a lab (`scripts/lab`, so as root), a client program on each. A time is that
//! from the cause to the last of the clients that see the new view, or to the log line where it
//! says so. Prints a table; `cargo bench --bench detection -- [TRIALS [DRIVER]]`, or
//! `scripts/measure-cluster`.

#[path = "../tests/support/mod.rs"]
mod support;

#[path = "../tests/cluster/crew.rs"]
#[allow(dead_code, reason = "the tests of the cluster use all of it")]
mod crew;
#[path = "../tests/cluster/lab.rs"]
#[allow(dead_code, reason = "the tests of the cluster use all of it")]
mod lab;
#[path = "../tests/cluster/program.rs"]
mod program;

use std::thread;
use std::time::{Duration, Instant};

use crew::Crew;
use lab::{Lab, Plan, until};
use program::Manner;
use rustix::process::Signal;
use support::daemon::Driver;

const HOSTS: [&str; 3] = ["d1", "d2", "d3"];
const OTHERS: [&str; 2] = ["d1", "d2"];

/// The default of `ring.rest_ms`, and a multiple of how often daemons show themselves.
const PERIOD: Duration = Duration::from_millis(600);

fn main() {
    // cargo passes a word of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let trials = words.first().map_or(20, |word| word.parse().expect("how many trials"));
    let driver = match words.get(1).map(String::as_str) {
        None | Some("io_uring") => Driver::IoUring,
        Some("mio") => Driver::Mio,
        Some(other) => panic!("no driver {other}"),
    };
    if !lab::is_possible() {
        return;
    }
    println!("{trials} trials each, {driver}, three daemons, failure timeout 300 ms\n");
    println!("| what | load | median | worst |\n|---|---|---|---|");
    for load in [false, true] {
        measure(driver, load, trials);
    }
}

fn measure(driver: Driver, load: bool, trials: usize) {
    let lab = Plan::new(driver, HOSTS.len()).start();
    let crew = Crew::new(&lab, 1, Manner::USUAL);
    crew.wait_for_all(&lab);
    if load {
        crew.work();
        crew.wait_for_messages(&HOSTS, 100);
    }
    type Trial = fn(&Lab, &Crew, Duration) -> (Duration, Duration);
    let all: [(&str, &str, Trial); 5] = [
        ("process killed: others' clients know", "started again: ready until merged", killed),
        ("daemon told to stop: others' clients know", "started again: ready until merged", told),
        (
            "process killed while another is down: the third one's clients know",
            "started again while another is down: ready until merged",
            beside_one_that_is_down,
        ),
        ("host silent: others' clients know", "it goes on: until clients are in one view", silent),
        ("network cut: all clients know", "network whole: until clients are in one view", cut),
    ];
    for (lost, found, trial) in all {
        // What a ring at rest does, it does in turns: trials come at all points of them.
        let times = (0..trials).map(|number| {
            let pause = PERIOD * number as u32 / trials as u32;
            thread::park_timeout(pause);
            trial(&lab, &crew, pause)
        });
        let (losing, finding): (Vec<_>, Vec<_>) = times.unzip();
        for (what, times) in [(lost, losing), (found, finding)] {
            let load = if load { "yes" } else { "no" };
            let (median, worst) = sorted(times);
            println!("| {what} | {load} | {median:.1?} | {worst:.1?} |");
        }
    }
    crew.judge(&lab);
}

fn sorted(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

/// When the last client on these hosts got its last view of all.
fn last_view(crew: &Crew, hosts: &[&str]) -> Instant {
    crew.look(|seen| {
        let there = seen.iter().filter(|seen| hosts.contains(&seen.host.as_str()));
        there.map(|seen| seen.viewed).max().expect("there are clients")
    })
}

/// How long the daemon of d3 took from being ready to being one of so many, by its own log.
fn merged(lab: &Lab, lines_before: usize, count: usize) -> Duration {
    let count = format!("count={count} ");
    let time = |line: &str| {
        let clock = line.split('T').nth(1)?.split('Z').next()?;
        let mut parts = clock.split(':').map(|part| part.parse::<f64>().ok());
        let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
        Some(Duration::from_secs_f64(hours * 3600.0 + minutes * 60.0 + seconds))
    };
    until("d3 is merged", || {
        let log = lab.log("d3");
        let mut lines = log.lines().skip(lines_before);
        let ready = lines.find(|line| line.ends_with("ready")).and_then(time)?;
        let whole = |line: &&str| line.contains("configuration installed") && line.contains(&count);
        Some(lines.find(whole).and_then(time)?.saturating_sub(ready))
    })
}

/// Ends the daemon of d3 and starts it again, beside those of `others` and no more.
fn ended(lab: &Lab, crew: &Crew, signal: Signal, others: &[&str]) -> (Duration, Duration) {
    let before = Instant::now();
    lab.signal("d3", signal);
    crew.wait_for_parts(&[others]);
    let lost = last_view(crew, others) - before;
    until("d3 has ended", || lab.pid("d3").is_none().then_some(()));
    let lines = lab.log("d3").lines().count();
    lab.run(&["start", "d3"]);
    let found = merged(lab, lines, others.len() + 1);
    let all: Vec<&str> = others.iter().copied().chain(["d3"]).collect();
    crew.wait_for_parts(&[&all]);
    (lost, found)
}

fn killed(lab: &Lab, crew: &Crew, _: Duration) -> (Duration, Duration) {
    ended(lab, crew, Signal::KILL, &OTHERS)
}

fn told(lab: &Lab, crew: &Crew, _: Duration) -> (Duration, Duration) {
    ended(lab, crew, Signal::TERM, &OTHERS)
}

/// There is always somebody to look for, and nobody may wait for it.
fn beside_one_that_is_down(lab: &Lab, crew: &Crew, _: Duration) -> (Duration, Duration) {
    lab.run(&["kill", "d2"]);
    crew.wait_for_parts(&[&["d1", "d3"]]);
    let times = ended(lab, crew, Signal::KILL, &["d1"]);
    lab.run(&["start", "d2"]);
    crew.wait_for_all(lab);
    times
}

/// A process that stands still says nothing, and nothing says that it does not listen: as with a
/// host that has lost its power.
fn silent(lab: &Lab, crew: &Crew, pause: Duration) -> (Duration, Duration) {
    let before = Instant::now();
    lab.signal("d3", Signal::STOP);
    crew.wait_for_parts(&[&OTHERS]);
    let lost = last_view(crew, &OTHERS) - before;
    get_over(pause);
    let before = Instant::now();
    lab.signal("d3", Signal::CONT);
    crew.wait_for_all(lab);
    (lost, last_view(crew, &HOSTS) - before)
}

/// From when the script has cut or healed the network; it takes some milliseconds itself.
fn cut(lab: &Lab, crew: &Crew, pause: Duration) -> (Duration, Duration) {
    lab.run(&["partition", "d1,d2/d3"]);
    let before = Instant::now();
    crew.wait_for_parts(&[&OTHERS, &["d3"]]);
    let lost = last_view(crew, &HOSTS).saturating_duration_since(before);
    get_over(pause);
    lab.run(&["heal"]);
    let before = Instant::now();
    crew.wait_for_all(lab);
    (lost, last_view(crew, &HOSTS).saturating_duration_since(before))
}

/// Daemons that could not be worked with are left alone for a moment, which is not measured.
fn get_over(pause: Duration) {
    thread::park_timeout(Duration::from_secs(1) + pause);
}
