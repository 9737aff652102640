//! Does a session mean the same whatever carries it? One suite over TCP, the Unix socket and shared
//! memory, with the client library and the real daemon, on every driver.

#[path = "../support/mod.rs"]
mod support;

mod ends;
mod flow;
mod messages;
#[cfg(feature = "tokio")]
mod tokio;

use std::fmt;
use std::time::Duration;

use madrigal::client::{ConnectError, Event, Options, Session, Transport, Wait};
use support::{Daemon, PATIENCE, Setup, drivers};

/// What carries the sessions of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Tcp,
    Unix,
    SharedMemory,
}

/// A daemon and a way to it.
struct Place {
    daemon: Daemon,
    carrier: Carrier,
}

impl Place {
    fn address(&self) -> String {
        match self.carrier {
            Carrier::Tcp => {
                let tcp = self.daemon.tcp()[0];
                format!("{}@{}", tcp.port(), tcp.ip())
            }
            Carrier::Unix | Carrier::SharedMemory => {
                format!("unix:{}", self.daemon.socket().display())
            }
        }
    }

    fn options(&self) -> Options {
        Options::new().transport(match self.carrier {
            Carrier::Tcp | Carrier::Unix => Transport::Socket,
            Carrier::SharedMemory => Transport::SharedMemory,
        })
    }

    fn connect(&self, name: &str) -> Session {
        let session = Session::connect(&self.address(), &self.options().name(name));
        session.unwrap_or_else(|error| panic!("{self}: {error}"))
    }

    /// A session that is a member of `group`, and has its view.
    fn member(&self, name: &str, group: &str) -> Session {
        let mut session = self.connect(name);
        session.join(group).unwrap();
        assert!(matches!(next(&mut session), Event::View(view) if view.group() == group));
        session
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by {:?}", self.carrier)
    }
}

/// Runs `test` on each carrier, with each driver, on one core and on two.
fn everywhere(setup: impl Fn(Setup) -> Setup, test: impl Fn(&Place)) {
    for &driver in drivers() {
        for cores in [1, 2] {
            for carrier in [Carrier::Tcp, Carrier::Unix, Carrier::SharedMemory] {
                let daemon = setup(Setup::new(driver).cores(cores)).start();
                test(&Place { daemon, carrier });
            }
        }
    }
}

/// The next event, which comes soon.
fn next(session: &mut Session) -> Event<'_> {
    let event = session.receive_timeout(PATIENCE).expect("the session goes on");
    event.expect("an event comes")
}

/// The next message's data.
fn next_data(session: &mut Session) -> Vec<u8> {
    loop {
        if let Event::Message(message) = next(session) {
            return message.data().to_vec();
        }
    }
}

/// Whether a connection to a daemon that is gone ended as it should. For a moment after a process
/// was killed the kernel goes on to take connections for its io_uring, and closes them.
fn is_gone<T>(connected: &Result<T, ConnectError>) -> bool {
    matches!(connected, Err(ConnectError::Unreachable { .. } | ConnectError::Closed))
}

/// All ways to wait, the spinning ones as short as they can be told.
fn waits() -> [Wait; 3] {
    [Wait::Park, Wait::Adaptive(Duration::from_micros(50)), Wait::Spin]
}

/// Bytes that tell which message they are, and show any shift.
fn pattern(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (number.wrapping_mul(31) + at.wrapping_mul(7) + at / 251) as u8).collect()
}
