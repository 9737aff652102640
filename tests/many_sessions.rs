//! Ten thousand sessions at once, on each driver. What they cost is printed:
//! `cargo test --test many_sessions -- --nocapture`.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use madrigal::wire::session::kind;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::daemon::shout;
use support::{Client, Daemon, Setup, drivers};

const SESSIONS: usize = 10_000;

/// Descriptors that this program and the daemon need for other things.
const SPARE: usize = 200;

/// Over how long the idle daemon is watched.
const IDLE: Duration = Duration::from_millis(500);

/// Clock ticks a second in `/proc/PID/stat`, on every Linux.
const TICKS: f64 = 100.0;

#[test]
fn ten_thousand_sessions_each_get_their_message() {
    let sessions = possible_sessions();
    for &driver in drivers() {
        for cores in [1, 3] {
            let setup = Setup::new(driver).cores(cores);
            run(&setup.start(), sessions, &setup.to_string());
        }
    }
}

/// As many as descriptors allow, of which the daemon inherits the limit.
fn possible_sessions() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("a limit may be raised to its maximum");
    let descriptors = limit.maximum.map_or(usize::MAX, |maximum| maximum as usize);
    let sessions = SESSIONS.min(descriptors.saturating_sub(SPARE));
    if sessions < SESSIONS {
        shout(&format!("only {sessions} of {SESSIONS} sessions: RLIMIT_NOFILE is {descriptors}"));
    }
    sessions
}

fn run(daemon: &Daemon, sessions: usize, what: &str) {
    let empty = memory_kib(daemon);
    let begin = Instant::now();
    let mut clients: Vec<_> = (0..sessions).map(|_| Client::silent(daemon)).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.say_hello(&format!("s{n}"), n % 2 == 0);
    }
    for client in &mut clients {
        assert_eq!(client.take(6), b"\x05NULL ");
        client.choose();
    }
    for (n, client) in clients.iter_mut().enumerate() {
        client.take_accept();
        assert_eq!(client.name, format!("#s{n}#localhost"));
    }
    let connected = begin.elapsed();
    let full = memory_kib(daemon);
    let idle = idle_share(daemon, &mut clients[0]);
    // Each writes to the one behind it, and the last to the first.
    let begin = Instant::now();
    let names: Vec<_> = clients.iter().map(|client| client.name.clone()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.multicast(kind::AGREED, &[&names[(n + 1) % sessions]], &(n as u32).to_le_bytes());
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let from = (n + sessions - 1) % sessions;
        let frame = client.receive();
        assert_eq!((frame.name(), frame.data()), (names[from].clone(), &u32_bytes(from)[..]));
    }
    let round = begin.elapsed();
    println!(
        "{what}: {sessions} sessions connected in {connected:.2?}, a message each in {round:.2?}; \
         {full} KiB resident, {:.2} KiB a session; {idle:.2} % of a CPU when idle",
        (full as f64 - empty as f64) / sessions as f64,
    );
    drop(clients);
    // Their names are free, so that all of them are gone.
    let mut again = support::until("all of them are gone", || {
        let mut client = Client::silent(daemon);
        client.say_hello(&format!("s{}", sessions - 1), true);
        (client.try_take(1) == [5]).then_some(client)
    });
    assert_eq!(again.take(5), b"NULL ");
}

fn u32_bytes(n: usize) -> [u8; 4] {
    (n as u32).to_le_bytes()
}

/// Resident memory of the daemon.
fn memory_kib(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.expect("a line with a number").parse().expect("a number")
}

/// Percent of one CPU that the daemon uses while its sessions are silent.
fn idle_share(daemon: &Daemon, client: &mut Client) -> f64 {
    let before = cpu_ticks(daemon);
    // Nothing comes: this waits for the time to pass.
    assert!(client.receive_before(Instant::now() + IDLE).is_none());
    (cpu_ticks(daemon) - before) / TICKS / IDLE.as_secs_f64() * 100.0
}

fn cpu_ticks(daemon: &Daemon) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).expect("it runs");
    // Behind the program's name, which may hold anything, field 14 is the 12th.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let of = |field: usize| -> f64 {
        let field = fields.split_whitespace().nth(field).expect("enough fields");
        field.parse().expect("a number")
    };
    of(11) + of(12)
}
