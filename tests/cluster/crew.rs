//! The client programs of a test: told what to do, watched, and judged at the end.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use madrigal::base::{self, DaemonId, PrivateGroup};
use madrigal::client::Session;
use madrigal::sim::checker::trace::{Ending, SessionEvent, SessionLog, Trace, ViewCause};
use madrigal::sim::checker::{Violation, check};
use madrigal::sim::rng::Rng;

use crate::lab::Lab;
use crate::program::{Manner, Program};
use crate::support::PATIENCE;
use crate::support::daemon::tell;

/// What all programs shall do.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// Join, leave and send.
    pub(crate) work: bool,
    /// Send one last message.
    pub(crate) finish: bool,
    /// End.
    pub(crate) end: bool,
}

/// What a program has seen, as far as tests wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Its host.
    pub(crate) host: String,
    /// Its session, while it has one.
    pub(crate) session: Option<PrivateGroup>,
    /// Members of the group of all, as its session saw them last.
    pub(crate) members: Vec<PrivateGroup>,
    /// When that was.
    pub(crate) viewed: Instant,
    /// Network views of the group of all.
    pub(crate) network_views: usize,
    /// Messages, over all its sessions.
    pub(crate) delivered: u64,
    /// Whose last message has come.
    pub(crate) last: BTreeSet<PrivateGroup>,
}

impl Seen {
    /// A new session begins.
    pub(crate) fn begin(&mut self, session: PrivateGroup) {
        self.session = Some(session);
        self.members.clear();
        self.last.clear();
    }
}

/// What programs and test share.
pub(crate) struct Shared {
    began: Instant,
    steps: AtomicU64,
    state: Mutex<(Orders, Vec<Seen>)>,
    changed: Condvar,
}

impl Shared {
    /// The number of an event that happens now, and when that is.
    pub(crate) fn step(&self) -> (u64, base::Instant) {
        let at = base::Instant::from_nanos(self.began.elapsed().as_nanos() as u64);
        (self.steps.fetch_add(1, SeqCst), at)
    }

    /// What is to be done; waits so long, or for an end.
    pub(crate) fn orders(&self, wait: Duration) -> Orders {
        let state = self.state.lock().expect("nobody panics with it");
        if wait.is_zero() || state.0.end {
            return state.0;
        }
        self.changed.wait_timeout(state, wait).expect("nobody panics with it").0.0
    }

    pub(crate) fn update(&self, program: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.state.lock().expect("nobody panics with it").1[program]);
        self.changed.notify_all();
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.state.lock().expect("nobody panics with it").0);
        self.changed.notify_all();
    }
}

/// Programs on all hosts of a lab.
pub(crate) struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<(Vec<SessionLog>, Option<Session>)>>,
}

impl Crew {
    /// So many on each host; they connect as soon as they can.
    pub(crate) fn new(lab: &Lab, on_each: usize, manner: Manner) -> Self {
        let host_of = |number: usize| lab.hosts()[number / on_each].clone();
        let seen = |number| Seen {
            host: host_of(number),
            session: None,
            members: Vec::new(),
            viewed: Instant::now(),
            network_views: 0,
            delivered: 0,
            last: BTreeSet::new(),
        };
        let count = lab.hosts().len() * on_each;
        let shared = Arc::new(Shared {
            began: Instant::now(),
            steps: AtomicU64::new(0),
            state: Mutex::new((Orders::default(), (0..count).map(seen).collect())),
            changed: Condvar::new(),
        });
        let mut random = Rng::new(count as u64);
        let start = |number| {
            let socket = lab.socket(&host_of(number));
            let (shared, random) = (shared.clone(), random.fork());
            let program = Program { number, socket, manner, random, shared };
            thread::spawn(move || program.run())
        };
        let threads = (0..count).map(start).collect();
        Self { shared, threads }
    }

    /// Waits until what the programs have seen is as it should be.
    pub(crate) fn wait(&self, what: &str, mut is_so: impl FnMut(&[Seen]) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock().expect("nobody panics with it");
        while !is_so(&state.1) {
            let left = end.saturating_duration_since(Instant::now());
            // Where one has failed there is nothing to wait for.
            if left.is_zero() || self.threads.iter().any(JoinHandle::is_finished) {
                let text = describe(&state.1);
                drop(state);
                panic!("not within {PATIENCE:?}: {what}\n{text}");
            }
            let left = left.min(Duration::from_millis(50));
            state = self.shared.changed.wait_timeout(state, left).expect("nobody panics with it").0;
        }
    }

    /// Waits until the programs of each part, given by its hosts, have all seen a view of the group
    /// of all that has just them; programs on other hosts do not matter.
    pub(crate) fn wait_for_parts(&self, parts: &[&[&str]]) {
        self.wait(&format!("views of {parts:?}"), |seen| {
            parts.iter().all(|part| {
                let there = seen.iter().filter(|seen| part.contains(&seen.host.as_str()));
                let there: Vec<&Seen> = there.collect();
                let sessions: Option<BTreeSet<PrivateGroup>> =
                    there.iter().map(|seen| seen.session).collect();
                sessions.is_some_and(|sessions| {
                    let is_view = |seen: &&Seen| {
                        seen.members.iter().copied().collect::<BTreeSet<_>>() == sessions
                    };
                    there.iter().all(is_view)
                })
            })
        });
    }

    /// Waits until every program is in one view with all others.
    pub(crate) fn wait_for_all(&self, lab: &Lab) {
        let hosts: Vec<&str> = lab.hosts().iter().map(String::as_str).collect();
        self.wait_for_parts(&[&hosts]);
    }

    /// Lets the programs work.
    pub(crate) fn work(&self) {
        self.shared.order(|orders| orders.work = true);
    }

    /// Lets them pause.
    pub(crate) fn rest(&self) {
        self.shared.order(|orders| orders.work = false);
    }

    /// Waits until each program on these hosts has got so many more messages.
    pub(crate) fn wait_for_messages(&self, hosts: &[&str], more: u64) {
        let before: Vec<u64> = self.look(|seen| seen.iter().map(|seen| seen.delivered).collect());
        self.wait(&format!("{more} more messages on {hosts:?}"), |seen| {
            let mut both = seen.iter().zip(&before);
            both.all(|(seen, before)| {
                !hosts.contains(&seen.host.as_str()) || seen.delivered >= before + more
            })
        });
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Seen]) -> T) -> T {
        look(&self.shared.state.lock().expect("nobody panics with it").1)
    }

    /// Ends the run in calm: one view of all, some more work without any fault, and behind all that
    /// was sent one message of each that all have got. Then the checker judges what each session
    /// saw.
    pub(crate) fn judge(mut self, lab: &Lab) {
        self.wait_for_all(lab);
        let calm = self.shared.step().1;
        self.work();
        let hosts: Vec<&str> = lab.hosts().iter().map(String::as_str).collect();
        self.wait_for_messages(&hosts, 50);
        self.rest();
        self.shared.order(|orders| orders.finish = true);
        self.wait("the last message of each", |seen| {
            let sessions = seen.iter().filter_map(|seen| seen.session).collect();
            seen.iter().all(|seen| seen.last == sessions)
        });
        self.shared.order(|orders| orders.end = true);
        let threads = std::mem::take(&mut self.threads);
        let ends = threads.into_iter().map(|thread| thread.join().expect("it has not failed"));
        let (logs, still_open): (Vec<_>, Vec<_>) = ends.unzip();
        drop(still_open);
        let sessions: Vec<SessionLog> = logs.into_iter().flatten().collect();
        // A machine that stood still may have parted them again: from then on, if so.
        let settled = sessions.iter().filter_map(last_network_view).max().unwrap_or(calm).max(calm);
        // The checker finds a daemon by the number that its name ends in.
        let daemons = (1..=hosts.len() as u32).map(DaemonId::new).collect();
        let ending =
            Ending { calm: Some(calm), settled, components: vec![daemons], ..Ending::default() };
        let trace = Trace { sessions, ending, ..Trace::default() };
        let events: usize = trace.sessions.iter().map(|log| log.entries.len()).sum();
        if let Err(violation) = check(&trace) {
            panic!("{}", explain(&trace, &violation));
        }
        // Where all is captured that is written to standard output, it shall be seen that there was
        // something to judge.
        let thread = thread::current();
        let (test, sessions) = (thread.name().unwrap_or_default(), trace.sessions.len());
        tell(&format!("{test}: {sessions} sessions, {events} events judged"));
    }
}

/// Threads end by themselves: at the next turn, or when the daemons are gone.
impl Drop for Crew {
    fn drop(&mut self) {
        self.shared.order(|orders| orders.end = true);
    }
}

/// When a session last got a view because daemons were lost or found.
fn last_network_view(log: &SessionLog) -> Option<base::Instant> {
    let is_network = |event: &SessionEvent| {
        matches!(event, SessionEvent::View { cause: ViewCause::Network { .. }, .. })
    };
    log.entries.iter().rev().find(|entry| is_network(&entry.event)).map(|entry| entry.at)
}

fn describe(seen: &[Seen]) -> String {
    let mut text = String::new();
    for seen in seen {
        let Seen { host, session, members, delivered, network_views, last, .. } = seen;
        let session = session.map_or("no session".to_owned(), |session| session.to_string());
        let members: Vec<String> = members.iter().map(PrivateGroup::to_string).collect();
        let _ = writeln!(
            text,
            "{host}: {session}, {delivered} messages, {network_views} network views, {} last \
             ones, sees {}",
            last.len(),
            members.join(" ")
        );
    }
    text
}

/// What went wrong, and what all sessions saw around it; the whole trace goes to a file.
fn explain(trace: &Trace, violation: &Violation) -> String {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for log in &trace.sessions {
        for entry in &log.entries {
            let at = entry.at.as_nanos() / 1_000;
            let line = format!("{} at {at} us {}: {:?}", entry.step, log.session, entry.event);
            lines.push((entry.step, line));
        }
    }
    lines.sort_unstable();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cluster-trace");
    let all: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
    let written = std::fs::write(&path, all.join("\n"));
    let near = |step: u64| violation.step.is_some_and(|at| step.abs_diff(at) < 40);
    let shown: Vec<&str> =
        lines.iter().filter(|(step, _)| near(*step)).map(|(_, line)| line.as_str()).collect();
    format!("{violation}\n{}\nall of it: {path:?}, {written:?}", shown.join("\n"))
}
