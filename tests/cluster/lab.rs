//! A lab of `scripts/lab` for one test: built, broken as the test says, and taken down whatever
//! happens.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::PATIENCE;
use crate::support::daemon::{Driver, is_required, shout};

/// One at a time: a lab wants the machine for itself, as what it shows has to do with time.
static ALONE: Mutex<()> = Mutex::new(());

/// Whether this machine lets us build labs. Where it does not, a line says so even in runs whose
/// output is captured; with `MADRIGAL_REQUIRE_LAB` in the environment that is a failure.
pub(crate) fn is_possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| {
        // It says what is missing, or takes down what earlier tests have left behind.
        let tried = script("none").arg("reap").output().expect("the lab's script runs");
        if tried.status.success() {
            return true;
        }
        let why = String::from_utf8_lossy(&tried.stderr).into_owned();
        shout(&format!("The tests of a cluster are NOT RUN, nothing of it is shown: {why}"));
        assert!(!is_required("MADRIGAL_REQUIRE_LAB"), "{why}");
        false
    })
}

fn script(lab: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lab"));
    command
        .env("LAB", lab)
        .env("LAB_OWNER", process::id().to_string())
        .env("MADRIGALD", env!("CARGO_BIN_EXE_madrigald"))
        .stdin(Stdio::null());
    command
}

/// Runs a command of `scripts/lab` that must fail; what it says.
#[allow(dead_code, reason = "of the tests that share this file not all need it")]
pub(crate) fn refusal(lab: &str, words: &[&str]) -> String {
    let output = script(lab).args(words).output().expect("the lab's script runs");
    assert!(!output.status.success(), "lab {} has an effect", words.join(" "));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a lab is built with.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    hosts: Vec<String>,
    options: Vec<String>,
}

impl Plan {
    /// Hosts `d1`, `d2`, `d3` and so on.
    pub(crate) fn new(driver: Driver, count: usize) -> Self {
        let names: Vec<String> = (1..=count).map(|number| format!("d{number}")).collect();
        Self::named(driver, &names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Hosts with these names.
    pub(crate) fn named(driver: Driver, names: &[&str]) -> Self {
        let hosts = names.iter().map(|&name| name.to_owned()).collect();
        Self { hosts, options: Vec::new() }.option("--driver", &driver.to_string())
    }

    /// An option of `scripts/lab up`.
    pub(crate) fn option(self, name: &str, value: &str) -> Self {
        self.flag(name).flag(value)
    }

    /// One without a value.
    pub(crate) fn flag(mut self, name: &str) -> Self {
        self.options.push(name.to_owned());
        self
    }

    /// Builds it and starts all daemons.
    pub(crate) fn start(&self) -> Lab {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        // A test that failed has cleaned up behind itself.
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("t{}_{}", process::id(), BUILT.fetch_add(1, Relaxed));
        let state = std::env::var_os("XDG_RUNTIME_DIR").unwrap_or_else(|| "/tmp".into());
        let directory = PathBuf::from(state).join(format!("madrigal-lab-{name}"));
        let lab = Lab { name, directory, hosts: self.hosts.clone(), _alone: alone };
        let hosts = self.hosts.join(",");
        let mut words = vec!["up", &hosts];
        words.extend(self.options.iter().map(String::as_str));
        lab.run(&words);
        lab
    }
}

/// A lab. At the end of the test its daemons must stop as told, and must not have panicked.
pub(crate) struct Lab {
    name: String,
    directory: PathBuf,
    hosts: Vec<String>,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// Runs a command of `scripts/lab`, which must succeed.
    pub(crate) fn run(&self, words: &[&str]) {
        let output = script(&self.name).args(words).output().expect("the lab's script runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "lab {}: {told}", words.join(" "));
    }

    /// Runs one that must fail; what it says.
    #[allow(dead_code, reason = "of the tests that share this file not all need it")]
    pub(crate) fn refusal(&self, words: &[&str]) -> String {
        refusal(&self.name, words)
    }

    /// A program to run on a host.
    #[allow(dead_code, reason = "of the tests that share this file not all need it")]
    pub(crate) fn command(&self, host: &str, program: &Path) -> Command {
        let mut command = script(&self.name);
        command.args(["exec", host]).arg(program);
        command
    }

    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Where clients find the daemon of a host.
    pub(crate) fn socket(&self, host: &str) -> PathBuf {
        self.directory.join(host).join("4803")
    }

    /// Changes the file of a host.
    pub(crate) fn edit(&self, host: &str, change: impl FnOnce(&str) -> String) {
        let path = self.directory.join(host).join("madrigal.toml");
        let text = fs::read_to_string(&path).expect("the lab has written it");
        fs::write(&path, change(&text)).expect("it may be written");
    }

    /// The network of a host, or of the switch for `net`.
    pub(crate) fn network(&self, host: &str) -> fs::File {
        let path = format!("/run/netns/madrigal-{}-{host}", self.name);
        fs::File::open(path).expect("the namespace is there")
    }

    /// All that the daemons of a host have logged.
    pub(crate) fn log(&self, host: &str) -> String {
        fs::read_to_string(self.directory.join(host).join("log")).unwrap_or_default()
    }

    /// How many configurations the daemons of a host have installed.
    pub(crate) fn configurations(&self, host: &str) -> usize {
        self.log(host).lines().filter(|line| line.contains("configuration installed")).count()
    }

    /// Waits until all daemons are in one configuration.
    #[allow(dead_code, reason = "of the tests that share this file not all need it")]
    pub(crate) fn await_ring(&self) {
        let all = format!("count={} ", self.hosts.len());
        until("one configuration", || {
            let last = self.hosts.iter().map(|host| {
                let log = self.log(host);
                let mut lines = log.lines().rev();
                let line = lines.find(|line| line.contains("configuration installed"))?;
                let (_, ring) = line.split_once("ring=")?;
                ring.contains(&all).then(|| ring.to_owned())
            });
            let rings: Vec<String> = last.collect::<Option<_>>()?;
            rings.iter().all(|ring| *ring == rings[0]).then_some(())
        });
    }

    pub(crate) fn pid(&self, host: &str) -> Option<Pid> {
        let text = fs::read_to_string(self.directory.join(host).join("pid")).ok()?;
        let pid = text.split_whitespace().next()?.parse().ok().and_then(Pid::from_raw)?;
        Path::new(&format!("/proc/{}", pid.as_raw_nonzero())).exists().then_some(pid)
    }

    /// Sends a signal right now, not when a shell has started.
    pub(crate) fn signal(&self, host: &str, signal: Signal) {
        let pid = self.pid(host).unwrap_or_else(|| panic!("the daemon of {host} does not run"));
        kill_process(pid, signal).expect("the daemon is there");
    }

    /// A counter of the daemon of a host, freshly written.
    pub(crate) fn counter(&self, host: &str, name: &str) -> u64 {
        let before = self.log(host).lines().count();
        self.signal(host, Signal::USR1);
        let line = until(&format!("the counters of {host}"), || {
            let log = self.log(host);
            log.lines().skip(before).find(|line| line.contains("counters=")).map(str::to_owned)
        });
        let found = line.split_once(&format!("{name} "));
        let (_, rest) = found.unwrap_or_else(|| panic!("no counter {name}: {line}"));
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.expect("a split has a first part").parse().expect("a count")
    }

    /// Tells all daemons to stop and waits until they have.
    fn stop(&self) {
        for host in self.hosts.iter().filter(|host| self.pid(host).is_some()) {
            self.signal(host, Signal::CONT);
            self.signal(host, Signal::TERM);
        }
        for host in &self.hosts {
            until(&format!("the daemon of {host} stops"), || {
                self.pid(host).is_none().then_some(())
            });
        }
    }

    fn tell(&self) {
        for pid in self.hosts.iter().filter_map(|host| self.pid(host)) {
            let _ = kill_process(pid, Signal::USR1);
        }
        // Their counters come as far as they still answer.
        thread::park_timeout(Duration::from_millis(200));
        for host in &self.hosts {
            let log = self.log(host);
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(60)..];
            println!("log of {host}, the last {} lines:\n{}", shown.len(), shown.join("\n"));
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let failed = thread::panicking();
        if !failed {
            self.stop();
        }
        let panicked: Vec<&String> =
            self.hosts.iter().filter(|host| self.log(host).contains("panicked")).collect();
        if failed || !panicked.is_empty() {
            self.tell();
        }
        // In any case: nothing of the lab may stay.
        let down = script(&self.name).arg("down").output();
        assert!(failed || panicked.is_empty(), "daemons panicked: {panicked:?}");
        assert!(failed || down.is_ok_and(|down| down.status.success()), "the lab is left over");
    }
}

/// Looks until `look` gives something, some hundred times a second.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}
