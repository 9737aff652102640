//! Sessions that do not read, until their daemon has no memory left.

use std::io::Write;
use std::time::Duration;

use madrigal::client::{MulticastError, Options, Service, Session};

use crate::lab::{Lab, Plan, until};
use crate::still::Still;
use crate::{HOSTS, at_work, with};

/// So little memory that three slow sessions take all of it.
const TIGHT: &str = "
[sessions]
bytes_max = 2000000

[memory]
pool_bytes_max = 4194304

[ring]
global_window_bytes = 262144
personal_window_bytes = 131072
accelerated_window_bytes = 65536
backlog_bytes = 262144
";

fn connect(lab: &Lab, host: &str, name: &str) -> Session {
    let address = format!("unix:{}", lab.socket(host).display());
    Session::connect(&address, &Options::new().name(name)).expect("the daemon runs")
}

/// What sessions of `d1` hold that never read must not part `d1` from the others, nor hold them up
/// for longer than it takes to find out who it is.
#[test]
fn sessions_that_never_read_do_not_break_the_ring() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(TIGHT.as_bytes()).expect("it is written");
    let path = file.path().to_str().expect("a path of letters");
    with(
        3,
        |plan: Plan| plan.option("--with", path),
        |lab| {
            let crew = at_work(lab);
            let groups = ["hoard1", "hoard2", "hoard3", "hoard4"];
            let hoarders = groups.map(|group| {
                let mut hoarder = connect(lab, "d1", group);
                hoarder.join(group).expect("the daemon takes it");
                hoarder
            });
            let mut sender = connect(lab, "d2", "sender");
            sender.outbox().set_nonblocking(true);
            let still = Still::begin(lab);
            let mut sent = 0;
            let mut send = || {
                for group in groups.iter().cycle().take(400) {
                    match sender.multicast(Service::Fifo, &[group], 0, &[7; 4_000]) {
                        Ok(()) => sent += 1,
                        Err(MulticastError::WouldBlock) => return,
                        Err(error) => panic!("{error}"),
                    }
                }
            };
            let held = until("who holds memory is disconnected", || {
                send();
                std::thread::park_timeout(Duration::from_millis(1));
                let log = lab.log("d1");
                let line = log.lines().find(|line| line.contains("reason=\"slow\""))?;
                line.rsplit_once("bytes=")?.1.parse::<usize>().ok()
            });
            // Not for its own bound, but because they hold too much together.
            assert!(held < 1_900_000, "{held}");
            crew.wait_for_messages(&HOSTS, 100);
            still.end(lab);
            println!("{sent} messages");
            drop(hoarders);
            crew.judge(lab);
        },
    );
}
