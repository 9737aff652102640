//! The real `madrigald` for a test: started on sockets of its own, stopped and judged at the end.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{PATIENCE, until};

/// How the daemon talks to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    IoUring,
    Mio,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Mio => "mio",
        })
    }
}

/// Whether the environment says that what this machine may not allow must be tested: CI says so for
/// `MADRIGAL_REQUIRE_LAB` and `MADRIGAL_REQUIRE_DRIVERS`. Set to nothing means no.
pub(crate) fn is_required(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| !value.is_empty())
}

/// The drivers that this machine allows. Where it forbids io_uring, a line says so even in runs
/// whose output is captured; with `MADRIGAL_REQUIRE_DRIVERS` in the environment that is a failure.
pub(crate) fn drivers() -> &'static [Driver] {
    static DRIVERS: OnceLock<&[Driver]> = OnceLock::new();
    DRIVERS.get_or_init(|| match Setup::new(Driver::IoUring).try_start() {
        Ok(_daemon) => &[Driver::IoUring, Driver::Mio],
        Err(log) => {
            shout(&format!("io_uring is NOT TESTED, this machine forbids it:\n{log}"));
            assert!(!is_required("MADRIGAL_REQUIRE_DRIVERS"), "no io_uring:\n{log}");
            &[Driver::Mio]
        }
    })
}

/// Writes past the capturing of test output.
pub(crate) fn shout(text: &str) {
    tell(&format!("\n*** {text}"));
}

/// Writes a line there that is no alarm.
pub(crate) fn tell(line: &str) {
    // In one piece, as other tests write too. Where standard error is gone there is nobody to tell.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    driver: Driver,
    cores: usize,
    idle: &'static str,
    listen: String,
    sections: String,
    access: Option<String>,
    descriptors: Option<usize>,
}

impl Setup {
    pub(crate) fn new(driver: Driver) -> Self {
        Self {
            driver,
            cores: 1,
            // Tests share the machine: nobody spins.
            idle: "park",
            listen: "tcp = [\"127.0.0.1\"]".to_owned(),
            sections: String::new(),
            access: None,
            descriptors: None,
        }
    }

    /// Threads that carry data: with one, all is in it; with more, the first has no sessions.
    pub(crate) fn cores(mut self, cores: usize) -> Self {
        self.cores = cores;
        self
    }

    pub(crate) fn idle(mut self, idle: &'static str) -> Self {
        self.idle = idle;
        self
    }

    /// Keys of `[listen]` besides port and directory.
    pub(crate) fn listen(mut self, keys: &str) -> Self {
        self.listen = keys.to_owned();
        self
    }

    /// Further sections of the configuration.
    pub(crate) fn section(mut self, name: &str, keys: &str) -> Self {
        self.sections += &format!("[{name}]\n{keys}\n");
        self
    }

    /// The file that `access_ip = "access"` means.
    pub(crate) fn access(mut self, rules: &str) -> Self {
        self.access = Some(rules.to_owned());
        self
    }

    /// Lets the daemon have so many descriptors.
    pub(crate) fn descriptors(mut self, descriptors: usize) -> Self {
        self.descriptors = Some(descriptors);
        self
    }

    fn write(&self, directory: &Path) {
        let Self { driver, cores, idle, listen, sections, .. } = self;
        let text = format!(
            "[listen]\nport = 0\nunix_directory = {directory:?}\n{listen}\n\
             [cores]\ncount = {cores}\ndriver = \"{driver}\"\nidle = \"{idle}\"\n{sections}"
        );
        fs::write(directory.join("madrigal.toml"), text).expect("the directory is ours");
        if let Some(rules) = &self.access {
            fs::write(directory.join("access"), rules).expect("the directory is ours");
        }
    }

    /// Starts a daemon that must come up.
    pub(crate) fn start(&self) -> Daemon {
        self.try_start().unwrap_or_else(|log| panic!("the daemon did not start:\n{log}"))
    }

    /// Starts a daemon; where it ends instead, its log is the error.
    pub(crate) fn try_start(&self) -> Result<Daemon, String> {
        self.try_start_in(Arc::new(TempDir::new().expect("a temporary directory")))
    }

    pub(crate) fn try_start_in(&self, directory: Arc<TempDir>) -> Result<Daemon, String> {
        self.write(directory.path());
        let mut child = self
            .command(&directory.path().join("madrigal.toml"))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the daemon's program runs");
        let log = Log::of(&mut child);
        let mut daemon = Daemon {
            child,
            log,
            directory,
            tcp: Vec::new(),
            name: self.to_string(),
            stopped: false,
        };
        if daemon.log.wait_for(|line| line.ends_with("ready")).is_none() {
            let status = daemon.child.wait().expect("a child can be waited for");
            daemon.stopped = true;
            return Err(format!("{status}\n{}", daemon.log()));
        }
        daemon.tcp = daemon
            .log
            .lines()
            .iter()
            .filter_map(|line| line.split_once("listening address=")?.1.trim().parse().ok())
            .collect();
        Ok(daemon)
    }

    fn command(&self, config: &Path) -> Command {
        let program = env!("CARGO_BIN_EXE_madrigald");
        let mut command = match self.descriptors {
            None => Command::new(program),
            Some(descriptors) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
                shell.arg("-c").arg(script).arg(program);
                shell
            }
        };
        command.arg("--config").arg(config);
        command
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with {} core(s)", self.driver, self.cores)
    }
}

/// What the daemon has written to its log, collected by a thread.
struct Log(Arc<(Mutex<Lines>, Condvar)>);

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn of(child: &mut Child) -> Self {
        let mut from = BufReader::new(child.stderr.take().expect("standard error is a pipe"));
        let log = Arc::new((Mutex::new(Lines::default()), Condvar::new()));
        let shared = log.clone();
        thread::spawn(move || {
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                shared.0.lock().expect("nobody panics with it").lines.push(text);
                shared.1.notify_all();
            }
            shared.0.lock().expect("nobody panics with it").ended = true;
            shared.1.notify_all();
        });
        Self(log)
    }

    fn lines(&self) -> Vec<String> {
        self.0.0.lock().expect("nobody panics with it").lines.clone()
    }

    /// Waits for a line that `is_it` likes; `None` if the log ends without it.
    fn wait_for(&self, mut is_it: impl FnMut(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().expect("nobody panics with it");
        let mut seen = 0;
        loop {
            while let Some(line) = lines.lines.get(seen) {
                if is_it(line) {
                    return Some(line.clone());
                }
                seen += 1;
            }
            if lines.ended {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "nothing came in {PATIENCE:?}: {:#?}", lines.lines);
            lines = self.0.1.wait_timeout(lines, left).expect("nobody panics with it").0;
        }
    }
}

/// A running daemon. At the end of the test it must stop as told, and must not have panicked.
pub(crate) struct Daemon {
    child: Child,
    log: Log,
    directory: Arc<TempDir>,
    tcp: Vec<SocketAddr>,
    name: String,
    /// The test has ended it itself, and looked at how.
    stopped: bool,
}

impl Daemon {
    /// Where its Unix socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("0")
    }

    pub(crate) fn directory(&self) -> Arc<TempDir> {
        self.directory.clone()
    }

    /// Where it accepts TCP.
    pub(crate) fn tcp(&self) -> &[SocketAddr] {
        &self.tcp
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    /// Waits for a line of the log that contains `part`.
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        let line = self.log.wait_for(|line| line.contains(part));
        line.unwrap_or_else(|| panic!("{}: no \"{part}\" in\n{}", self.name, self.log()))
    }

    /// The counters, freshly written.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let before = self.log.lines().len();
        self.signal(Signal::USR1);
        let mut line = 0;
        let counters = self.log.wait_for(|text| {
            line += 1;
            line > before && text.contains("counters=")
        });
        let counters = counters.expect("the daemon answers SIGUSR1");
        let (_, rest) = counters
            .split_once(&format!("{name} "))
            .unwrap_or_else(|| panic!("{name}: {counters}"));
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.expect("a split has a first part").parse().expect("a count")
    }

    /// Waits until a counter reads `count`: a core publishes what it has counted at the end of a
    /// turn, when others may have seen what it did.
    pub(crate) fn wait_for_count(&self, name: &str, count: u64) {
        until(&format!("{name} is {count}"), || (self.counter(name) == count).then_some(()));
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the daemon is there");
    }

    /// Tells it to stop and waits until it has.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Ends it without giving it a chance to clean up.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Waits until it has ended.
    fn wait(&mut self) -> ExitStatus {
        let more = self.log.wait_for(|_| false);
        assert!(more.is_none());
        self.stopped = true;
        self.child.wait().expect("a child can be waited for")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        if thread::panicking() {
            // Killed at once: the test has failed already, and this must not hang.
            let _ = self.child.kill();
            let _ = self.child.wait();
            println!("log of the daemon, {}:\n{}", self.name, self.log());
            return;
        }
        self.signal(Signal::TERM);
        let status = self.wait();
        let log = self.log();
        assert!(status.success() && !log.contains("panicked"), "{}: {status}\n{log}", self.name);
    }
}
