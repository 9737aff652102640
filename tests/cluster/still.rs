//! That nothing changes: no daemon installs a configuration while it is looked at.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::support::daemon::shout;

/// The failure timeout of daemons that are told nothing else.
const TIMEOUT: Duration = Duration::from_millis(300);

/// How often the witness looks at the clock.
const LOOK: Duration = Duration::from_millis(5);

/// From when on nothing may change.
pub(crate) struct Still {
    before: Vec<usize>,
    /// Nanoseconds of the longest time for which the witness was not run; shared with it, and it
    /// ends when this side goes.
    longest: Arc<AtomicU64>,
}

impl Still {
    pub(crate) fn begin(lab: &Lab) -> Self {
        let longest = Arc::new(AtomicU64::new(0));
        let of_witness = longest.clone();
        thread::spawn(move || {
            while Arc::strong_count(&of_witness) > 1 {
                let before = Instant::now();
                thread::park_timeout(LOOK);
                of_witness.fetch_max(before.elapsed().as_nanos() as u64, Relaxed);
            }
        });
        Self { before: configurations(lab), longest }
    }

    /// Asserts it. A machine that stood still itself for half of the timeout, as the ones that
    /// tests run on sometimes do, shows nothing.
    pub(crate) fn end(self, lab: &Lab) {
        let after = configurations(lab);
        let stood = Duration::from_nanos(self.longest.load(Relaxed));
        if after == self.before {
            return;
        }
        if stood >= TIMEOUT / 2 {
            shout(&format!(
                "the machine stood still for {stood:?}, so daemons may look for another"
            ));
            return;
        }
        let told: Vec<String> = lab.hosts().iter().map(|host| sought(lab, host)).collect();
        let (before, told) = (self.before, told.concat());
        panic!("configurations were {before:?} and are {after:?}; stood {stood:?}\n{told}");
    }
}

fn configurations(lab: &Lab) -> Vec<usize> {
    lab.hosts().iter().map(|host| lab.configurations(host)).collect()
}

/// What a host's daemon says of why it looked for another configuration, and when.
fn sought(lab: &Lab, host: &str) -> String {
    let log = lab.log(host);
    let lines = log.lines().filter(|line| line.contains(" configuration "));
    lines.map(|line| format!("{host}: {line}\n")).collect()
}
