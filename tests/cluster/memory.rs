//! Sessions that do not read, until their daemon has no memory left.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use madrigal::client::{MulticastError, Options, Service, Session};

use crate::lab::{Lab, Plan, until};
use crate::still::Still;
use crate::{HOSTS, at_work, with};

/// So little memory that three slow sessions take all of it.
const TIGHT: &str = r#"
[sessions]
bytes_max = 2000000
slow_receiver = "SLOW"

[memory]
pool_bytes_max = 4194304

[ring]
global_window_bytes = 262144
personal_window_bytes = 131072
accelerated_window_bytes = 65536
backlog_bytes = 262144
"#;

fn connect(lab: &Lab, host: &str, name: &str) -> Session {
    let address = format!("unix:{}", lab.socket(host).display());
    Session::connect(&address, &Options::new().name(name)).expect("the daemon runs")
}

/// Runs `test` on a lab with so little memory.
fn tight(cores: &str, slow_receiver: &str, test: impl Fn(&Lab)) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let text = TIGHT.replace("SLOW", slow_receiver);
    file.write_all(text.as_bytes()).expect("it is written");
    let path = file.path().to_str().expect("a path of letters");
    with(3, |plan: Plan| plan.option("--with", path).option("--cores", cores), test);
}

const GROUPS: [&str; 4] = ["hoard1", "hoard2", "hoard3", "hoard4"];

/// Sessions of `d1`, each in a group of its own, that will not read.
fn hoarders(lab: &Lab) -> [Session; GROUPS.len()] {
    GROUPS.map(|group| {
        let mut hoarder = connect(lab, "d1", group);
        hoarder.join(group).expect("the daemon takes it");
        hoarder
    })
}

/// Somebody on `d2` who sends them as much as is taken.
struct Sender(Session);

impl Sender {
    fn new(lab: &Lab) -> Self {
        let mut session = connect(lab, "d2", "sender");
        session.outbox().set_nonblocking(true);
        Self(session)
    }

    fn send(&mut self) {
        for group in GROUPS.iter().cycle().take(400) {
            match self.0.multicast(Service::Fifo, &[group], 0, &[7; 4_000]) {
                Ok(()) => {}
                Err(MulticastError::WouldBlock) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Who holds memory must not part its daemon from the others, nor hold them up for longer than it
/// takes to find out who it is.
fn never_read(lab: &Lab) {
    let crew = at_work(lab);
    let hoarders = hoarders(lab);
    let mut sender = Sender::new(lab);
    let still = Still::begin(lab);
    let held = until("who holds memory is disconnected", || {
        sender.send();
        thread::park_timeout(Duration::from_millis(1));
        let log = lab.log("d1");
        let line = log.lines().find(|line| line.contains("reason=\"slow\""))?;
        line.rsplit_once("bytes=")?.1.parse::<usize>().ok()
    });
    // Not for its own bound, but because they hold too much together.
    assert!(held < 1_900_000, "{held}");
    crew.wait_for_messages(&HOSTS, 100);
    still.end(lab);
    drop(hoarders);
    crew.judge(lab);
}

#[test]
fn sessions_that_never_read_are_let_go() {
    tight("1", "disconnect", never_read);
}

#[test]
fn sessions_that_never_read_are_let_go_from_cores_of_their_own() {
    tight("3", "disconnect", never_read);
}

/// Where nobody is to be disconnected the ring stands still, but whole, until memory comes back.
#[test]
fn full_memory_does_not_break_the_ring() {
    tight("1", "hold", |lab| {
        let crew = at_work(lab);
        let hoarders = hoarders(lab);
        let mut sender = Sender::new(lab);
        let still = Still::begin(lab);
        until("memory runs out", || {
            sender.send();
            thread::park_timeout(Duration::from_millis(1));
            (lab.counter("d1", "pool_exhausted") > 100).then_some(())
        });
        // Several times the failure timeout.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(1_500) {
            sender.send();
            thread::park_timeout(Duration::from_millis(10));
        }
        drop(hoarders);
        crew.wait_for_messages(&HOSTS, 100);
        still.end(lab);
        assert_eq!(lab.counter("d1", "sessions_slow"), 0);
        crew.judge(lab);
    });
}
