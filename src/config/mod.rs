//! The daemon's configuration: valid by construction, frozen once read.
//!
//! `file.rs` turns text into values with places, `check.rs` and `members.rs` values into a
//! [`Config`], `access.rs` reads the list of method IP, `text.rs` writes a configuration back as a
//! file. All keys with their defaults and ranges: `docs/config.md`, which a test compares with the
//! code.

mod access;
mod check;
mod cluster;
mod convert;
mod error;
mod file;
mod host;
mod identity;
mod members;
pub mod reload;
mod spread;
mod text;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::DaemonName;
use crate::base::limits::{SESSIONS_MAX, SHARED_BYTES_MAX};

pub use access::{AccessList, Origin};
pub use cluster::{Cluster, ClusterDaemon, Ring, Segment};
pub use error::{ConfigError, Problem, Problems};
pub use host::Who;
pub use identity::{IDENTITY_BYTES_MAX, Identity};

use host::{Host, NoHost, ThisHost};

/// Everything that an operator decides about a daemon.
///
/// The default is the daemon that runs without a file: this host alone, port 4803, loopback and a
/// Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of this daemon, the second half of its clients' addresses. Default `localhost`.
    pub daemon: DaemonName,
    /// The daemons that it works with.
    pub cluster: Cluster,
    /// Where clients connect.
    pub listen: Listen,
    /// What clients may use up.
    pub sessions: Sessions,
    /// How clients prove who they are.
    pub auth: Auth,
    /// Threads, and what they do when idle.
    pub cores: Cores,
    /// Memory of messages, of queues, and of the program itself.
    pub memory: Memory,
    /// What is told on standard error.
    pub log: Log,
    /// What the file says that has no effect here, or another one than may be thought, and why.
    pub notes: Vec<Problem>,
}

/// Where clients connect. There is at least one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// TCP port, and name of the Unix socket. Default 4803.
    ///
    /// 0 lets the kernel choose a TCP port for each address; the Unix socket is then named `0`.
    pub port: u16,
    /// TCP addresses, without duplicates, none of them covered by a wildcard that is also listed.
    ///
    /// An IPv6 wildcard means IPv6 alone. Default 127.0.0.1 and ::1; may be empty.
    pub tcp: Vec<IpAddr>,
    /// The Unix socket. Default `/tmp/4803`, mode 0666; `None`: there is none.
    pub unix: Option<UnixSocket>,
    /// The Unix socket for clients that use shared memory. Default `/tmp/4803.shm`, mode as `unix`.
    pub shared_memory: Option<UnixSocket>,
    /// The Unix socket for an operator's commands. Default `/tmp/4803.control`, mode 0600.
    pub control: Option<UnixSocket>,
}

/// The Unix socket that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Absolute path of the socket: the directory, then the port as its name.
    pub path: PathBuf,
    /// Permission bits, at most 0777: who may write to it may connect.
    pub mode: u32,
}

/// Permissions of the socket for commands: the daemon's own user, and root.
const CONTROL_MODE: u32 = 0o600;

/// What clients may use up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sessions {
    /// Sessions at a time, from 1; more are turned away. Default `limits::SESSIONS_MAX`.
    pub max: usize,
    /// How long each step of the handshake may take. Default 5 s.
    pub handshake_timeout: Duration,
    /// Messages that may wait for one session; 0 drops it at its first. Default 100,000.
    pub messages_max: usize,
    /// Bytes that may wait for one session; at least one longest frame. Default 64 MiB.
    pub bytes_max: usize,
    /// What happens to a session that reads too slowly. Default: it is disconnected.
    pub slow_receiver: SlowReceiver,
}

/// How clients prove who they are. At least one method is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// Methods offered to clients. Default: NULL.
    pub allowed: Methods,
    /// Methods that every client must pass, chosen by it or not. Default: none.
    pub required: Methods,
    /// Whom method IP admits. Admits nobody where no file is configured.
    pub access: AccessList,
    /// The file that `access` was read from; always there where method IP is in use.
    pub access_ip: Option<PathBuf>,
}

/// A set of authentication methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Methods {
    /// Nothing is asked.
    pub null: bool,
    /// The client's address is looked up in the access list.
    pub ip: bool,
}

/// Threads, and what they do when idle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Threads that carry the data, from 1 to `limits::CORES_MAX`. Default 1: no hop at all.
    pub count: usize,
    /// How they talk to the kernel. Default: whatever is there.
    pub driver: DriverChoice,
    /// What a thread does when it has no work. Default: spin a little, then sleep.
    pub idle: Idle,
    /// How long [`Idle::Adaptive`] spins before it sleeps. Default 50 us.
    pub spin: Duration,
    /// CPU of each thread, all different; empty: the scheduler decides. Default empty.
    pub pin: Vec<usize>,
}

/// Memory of the buffer pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Most that one core's pool may hold, in bytes. Default 256 MiB.
    ///
    /// At least twice [`Sessions::bytes_max`], so that one slow session cannot take all of it.
    pub pool_bytes_max: usize,
    /// Bytes of each of the two queues of a session with shared memory, a power of two. Default
    /// 256 KiB.
    pub session_queue_bytes: usize,
    /// Most that the queues and shelves of one core may take, in bytes. Default 2 GiB.
    pub shared_bytes_max: usize,
    /// Frames of at least so many bytes that several sessions of one user receive by shared memory
    /// are stored once for them. Default 16 KiB.
    pub shelf_from_bytes: usize,
    /// Bytes of each of the two places where such frames lie, for each user; 0: every session gets
    /// a copy. Default 4 MiB.
    pub shelf_bytes: usize,
    /// Whether the daemon stays in memory even when others want it. Default: no.
    pub lock: bool,
}

/// What is told on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important lines that are written. Default: info.
    pub level: LogLevel,
    /// How a line looks. Default: text.
    pub format: LogFormat,
}

/// A key whose value is one of a few words.
pub(crate) trait Choice: Copy + PartialEq + 'static {
    /// All values, in the order in which they are documented.
    const ALL: &'static [Self];

    /// The word that stands for it in a file.
    fn word(self) -> &'static str;

    /// All words, for messages.
    fn words() -> String {
        let quoted = Self::ALL.iter().map(|choice| format!("\"{}\"", choice.word()));
        quoted.collect::<Vec<_>>().join(" | ")
    }

    /// The value that `word` stands for.
    fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|choice| choice.word() == word)
    }
}

/// Defines a [`Choice`] and its words in one place.
macro_rules! choice {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl Choice for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                Self::from_word(word).ok_or_else(|| format!("allowed: {}", Self::words()))
            }
        }
    };
}

choice! {
    /// How the cores talk to the kernel.
    DriverChoice {
        /// io_uring where the kernel lets us, otherwise mio.
        Auto = "auto",
        /// io_uring, or the daemon does not start.
        IoUring = "io_uring",
        /// epoll, which works everywhere.
        Mio = "mio",
    }
}

choice! {
    /// What a core does when it has no work.
    Idle {
        /// Never sleeps: the lowest latency, for a whole CPU.
        Spin = "spin",
        /// Spins for [`Cores::spin`], then sleeps.
        Adaptive = "adaptive",
        /// Sleeps at once: the least CPU.
        Park = "park",
    }
}

choice! {
    /// What happens to a session for which more is waiting than may.
    SlowReceiver {
        /// It is disconnected.
        Disconnect = "disconnect",
        /// Those who send to it are held back first; it is disconnected where that is not enough.
        Hold = "hold",
    }
}

choice! {
    /// Importance of a log line.
    LogLevel {
        /// The daemon cannot do what it should.
        Error = "error",
        /// Something that an operator may want to mend.
        Warn = "warn",
        /// Start, stop, sessions, configurations.
        Info = "info",
        /// What helps to find a fault.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// How a log line looks.
    LogFormat {
        /// Time, level, message; in colour on a terminal.
        Text = "text",
        /// For the journal: its priority prefix instead of time and level.
        Journal = "journal",
    }
}

impl Default for Config {
    fn default() -> Self {
        let daemon = DaemonName::new(b"localhost").expect("the default name is legal");
        Self {
            daemon,
            cluster: Cluster::default(),
            listen: Listen::default(),
            sessions: Sessions::default(),
            auth: Auth::default(),
            cores: Cores::default(),
            memory: Memory::default(),
            log: Log::default(),
            notes: Vec::new(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            port: 4803,
            tcp: vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            unix: Some(UnixSocket { path: PathBuf::from("/tmp/4803"), mode: 0o666 }),
            shared_memory: Some(UnixSocket { path: PathBuf::from("/tmp/4803.shm"), mode: 0o666 }),
            control: Some(UnixSocket {
                path: PathBuf::from("/tmp/4803.control"),
                mode: CONTROL_MODE,
            }),
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            max: SESSIONS_MAX,
            handshake_timeout: Duration::from_secs(5),
            messages_max: 100_000,
            bytes_max: 64 * 1024 * 1024,
            slow_receiver: SlowReceiver::Disconnect,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            allowed: Methods { null: true, ip: false },
            required: Methods::default(),
            access: AccessList::default(),
            access_ip: None,
        }
    }
}

impl Default for Cores {
    fn default() -> Self {
        Self {
            count: 1,
            driver: DriverChoice::Auto,
            idle: Idle::Adaptive,
            spin: Duration::from_micros(50),
            pin: Vec::new(),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            pool_bytes_max: 256 * 1024 * 1024,
            session_queue_bytes: 256 * 1024,
            shared_bytes_max: SHARED_BYTES_MAX,
            shelf_from_bytes: 16 * 1024,
            shelf_bytes: 4 * 1024 * 1024,
            lock: false,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}

impl Config {
    /// Reads and checks a file, and the access file that it names.
    ///
    /// A file whose name ends in `.conf` is taken for one of Spread's, in `.toml` for one of ours;
    /// of other files, those in which a line begins with `Spread_Segment` are Spread's.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unreadable`] where a file cannot be read, [`ConfigError::Invalid`] with all
    /// that is wrong in it.
    pub fn load(path: &Path, who: Who) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let bytes = ThisHost.read(path).map_err(unreadable)?;
        // A comment in a `spread.conf` may be in any encoding; a name in it may not.
        let text = String::from_utf8_lossy(&bytes);
        if !spread::is_spread(path, &text) && str::from_utf8(&bytes).is_err() {
            let why = "stream did not contain valid UTF-8";
            return Err(unreadable(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        read(&text, path, &ThisHost, who)
    }

    /// Checks `text` as if it were the content of `path`, and looks at nothing else: no other file
    /// is there, no address is one of this host, and no name has an address.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with all that is wrong in it.
    pub fn parse(text: &str, path: &Path, who: Who) -> Result<Self, ConfigError> {
        read(text, path, &NoHost, who)
    }
}

impl Config {
    /// What of this host does not go with the configuration, though it works.
    pub fn warnings(&self) -> Vec<String> {
        members::too_long(&self.cluster, self.daemon, &ThisHost).into_iter().collect()
    }

    /// The daemons of the cluster whose addresses this host has.
    pub fn here(&self) -> Vec<DaemonName> {
        let here = self.cluster.daemons.iter().filter(|daemon| ThisHost.has(daemon.address));
        here.map(|daemon| daemon.name).collect()
    }

    /// Reads a `spread.conf`, whatever it is called, and writes a `madrigal.toml` that comes to the
    /// same on every host of the cluster, with comments on what has no counterpart.
    ///
    /// # Errors
    ///
    /// Those of [`Config::load`].
    pub fn convert(path: &Path) -> Result<String, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let bytes = ThisHost.read(path).map_err(unreadable)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(convert::convert(&spread::read(&text, path, &ThisHost, Who::Anyone)?, path))
    }
}

fn read(text: &str, path: &Path, host: &dyn Host, who: Who) -> Result<Config, ConfigError> {
    if spread::is_spread(path, text) {
        return spread::read(text, path, host, who);
    }
    check::config(file::Document::parse(text, path)?, host, who)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
