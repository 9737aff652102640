//! A real daemon for a test: its own port and directory, gone when the test is over.

// Each test program uses its own part.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longer than anything here takes, unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How a daemon is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variant {
    /// `io_uring` or `mio`.
    pub(crate) driver: &'static str,
    /// Threads.
    pub(crate) cores: usize,
}

/// Both drivers, with and without queues between cores.
pub(crate) const VARIANTS: [Variant; 4] = [
    Variant { driver: "io_uring", cores: 1 },
    Variant { driver: "io_uring", cores: 3 },
    Variant { driver: "mio", cores: 1 },
    Variant { driver: "mio", cores: 3 },
];

/// The variants that this host can run; says loudly which it cannot.
pub(crate) fn variants() -> impl Iterator<Item = Variant> {
    let forbidden = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let forbidden = forbidden.is_ok_and(|text| text.trim() != "0");
    if forbidden {
        eprintln!("SKIPPED: kernel.io_uring_disabled is set, io_uring is not tested");
    }
    VARIANTS.into_iter().filter(move |variant| !forbidden || variant.driver != "io_uring")
}

/// A running daemon called `localhost`.
pub(crate) struct Daemon {
    child: Child,
    directory: TempDir,
    port: u16,
}

impl Daemon {
    /// Starts a daemon with more configuration, as text of `madrigal.toml` with tables other than
    /// `listen` and `cores`, and waits until it accepts.
    pub(crate) fn start(variant: Variant, more: &str) -> Self {
        Self::start_by(variant, more, Command::new(env!("CARGO_BIN_EXE_madrigald")))
    }

    /// As [`Daemon::start`]; `command` runs the daemon when `--config FILE` is added to it.
    pub(crate) fn start_by(variant: Variant, more: &str, mut command: Command) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the daemon");
        let path = directory.path();
        let port = free_port();
        let config = format!(
            "[listen]\nport = {port}\nunix_directory = \"{}\"\n\
             [cores]\ndriver = \"{}\"\ncount = {}\nidle = \"adaptive\"\nspin_us = 20\n{more}\n",
            path.display(),
            variant.driver,
            variant.cores,
        );
        fs::write(path.join("madrigal.toml"), config).expect("a file for the configuration");
        let log = File::create(path.join("log")).expect("a file for the log");
        let child = command
            .arg("--config")
            .arg(path.join("madrigal.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon starts");
        let mut daemon = Self { child, directory, port };
        daemon.wait_until_it_accepts();
        daemon
    }

    fn wait_until_it_accepts(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.try_unix().is_err() {
            let exited = self.child.try_wait().expect("the daemon can be waited for");
            assert!(exited.is_none(), "{exited:?}, log:\n{}", self.log());
            assert!(Instant::now() < deadline, "nobody listens, log:\n{}", self.log());
            std::thread::yield_now();
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join(self.port.to_string())
    }

    /// Its address, as clients name it.
    pub(crate) fn address(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Its TCP port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A connection over its Unix socket.
    pub(crate) fn try_unix(&self) -> io::Result<Connection> {
        let stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection::Unix(stream))
    }

    /// A connection over its Unix socket.
    pub(crate) fn unix(&self) -> Connection {
        self.try_unix().expect("the daemon accepts")
    }

    /// A connection over TCP.
    pub(crate) fn tcp(&self) -> Connection {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the daemon accepts");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Connection::Tcp(stream)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("the log")
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has a number");
        kill_process(pid, signal).expect("the daemon runs");
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the daemon can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not stop, log:\n{}", self.log());
            std::thread::yield_now();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(Signal::TERM);
            if std::thread::panicking() {
                eprintln!("log of the daemon:\n{}", self.log());
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            let status = self.wait();
            assert!(status.success(), "{status}, log:\n{}", self.log());
        }
        assert!(!self.log().contains("panicked"), "log:\n{}", self.log());
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it has an address").port()
}

/// A client's side of a connection; reads and writes give up after [`PATIENCE`].
pub(crate) enum Connection {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

impl Connection {
    /// Reads exactly so many bytes.
    pub(crate) fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether the daemon has closed the connection; waits for that, and takes nothing else.
    pub(crate) fn is_ended(&mut self) -> bool {
        match self.read(&mut [0]) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Tells the daemon that nothing more will come.
    pub(crate) fn half_close(&self) {
        // The daemon may have closed it already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        };
    }
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
