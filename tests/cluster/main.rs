//! Real daemons as a cluster on one machine (`docs/lab.md`), and all that happens to networks and
//! hosts. Client programs log what they see; the checker of the simulator judges it.
//!
//! Needs root, for namespaces. Without it the tests say so and pass; CI has it.

#[path = "../support/mod.rs"]
mod support;

mod crew;
mod faults;
mod files;
mod lab;
mod local;
mod loss;
mod memory;
mod program;
mod script;
mod segments;
mod still;
mod strangers;

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Instant;

use crew::Crew;
use lab::{Lab, Plan};
use program::Manner;
use support::daemon::{drivers, tell};

/// All hosts of the usual lab.
const HOSTS: [&str; 3] = ["d1", "d2", "d3"];

/// Runs `test` on a lab of so many hosts with each driver.
fn on_labs(hosts: usize, test: impl Fn(&Lab)) {
    with(hosts, |plan| plan, test);
}

/// The same with a lab that is built otherwise.
fn with(hosts: usize, change: impl Fn(Plan) -> Plan, test: impl Fn(&Lab)) {
    if !lab::is_possible() {
        return;
    }
    for &driver in drivers() {
        let plan = change(Plan::new(driver, hosts));
        let lab = plan.start();
        // Not before: until then it may have waited for another test.
        let begin = Instant::now();
        test(&lab);
        let test = thread::current();
        tell(&format!("{}: {driver}, {:.1?}", test.name().unwrap_or_default(), begin.elapsed()));
    }
}

/// Two programs on each host, in one view and at work.
fn at_work(lab: &Lab) -> Crew {
    let crew = Crew::new(lab, 2, Manner::USUAL);
    crew.wait_for_all(lab);
    crew.work();
    crew.wait_for_messages(&HOSTS[..lab.hosts().len().min(3)], 50);
    crew
}

/// Raises a flag when it goes, also when the test fails.
struct Raise<'f>(&'f AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
