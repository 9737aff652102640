//! Values to a [`Config`]: every key, its range, and what goes with what.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::cluster::wildcard;
use super::error::ConfigError;
use super::file::{self, Document, Section};
use super::host::{Host, Who};
use super::members::cluster;
use super::{
    AccessList, Auth, CONTROL_MODE, Cluster, Config, Cores, Listen, Log, Memory, Methods, Sessions,
    UnixSocket,
};
use crate::base::DaemonName;
use crate::base::limits::{
    BYTES_CEILING, CHUNK_BYTES, CLIENT_FRAME_BYTES_MAX, CORES_MAX, CPUS_MAX, DAEMON_NAME_BYTES_MAX,
    LISTEN_ADDRESSES_MAX, SHARED_QUEUE_BYTES_MAX, SHARED_QUEUE_BYTES_MIN, SHELF_BYTES_MAX,
    SHELF_FRAME_BYTES_MIN,
};

/// Longest directory of the Unix socket: the kernel takes 107 bytes of path in all.
const UNIX_DIRECTORY_BYTES_MAX: usize = 107 - "/65535.control".len();

/// Most sessions that may be configured: a million, some gigabytes of memory.
const SESSIONS_CEILING: usize = 1 << 20;

/// Most messages that may be let wait for one session.
const MESSAGES_CEILING: usize = 1_000_000_000;

/// Reads all sections, and the access file if one is named.
pub(super) fn config(
    mut document: Document<'_>,
    host: &dyn Host,
    who: Who,
) -> Result<Config, ConfigError> {
    let config = sections(&mut document, host, who);
    Ok(Config { notes: document.finish()?, ..config })
}

/// Every key of every section; what is wrong is noted in the document.
pub(super) fn sections(document: &mut Document<'_>, host: &dyn Host, who: Who) -> Config {
    let named = daemon(document.section("daemon"));
    let who = match (who, named) {
        (Who::Local | Who::Anyone, Some(name)) => Who::Named(name),
        (who, _) => who,
    };
    let (cluster, daemon) = cluster(document, host, who);
    let listen = listen(document.section("listen"), &cluster, daemon);
    let sessions = sessions(document.section("sessions"));
    let beside = document.path().parent().unwrap_or(Path::new("")).to_owned();
    let auth = auth(document.section("auth"), &beside, host);
    let cores = cores(document.section("cores"));
    let memory = memory(document.section("memory"), &sessions, &cluster);
    let log = log(document.section("log"));
    let notes = Vec::new();
    Config { daemon, cluster, listen, sessions, auth, cores, memory, log, notes }
}

fn daemon(mut section: Section<'_, '_>) -> Option<DaemonName> {
    let allowed = format!("a name of 1 to {DAEMON_NAME_BYTES_MAX} characters from `$` to `~`");
    section.value("name", None, allowed, |value| {
        DaemonName::new(file::string(value)?.as_bytes()).ok().map(Some)
    })
}

/// Where clients connect: the port is that of the daemon's segment unless the section says
/// otherwise, and what the daemon has for itself comes before what the section has for all.
fn listen(mut section: Section<'_, '_>, cluster: &Cluster, me: DaemonName) -> Listen {
    let default = Listen::default();
    let me = cluster.daemon(me);
    let port = me.map_or(default.port, |me| cluster.segment(me).port);
    let port = section.integer("port", port.into(), 0..=u16::MAX.into());
    let tcp = section.list("tcp", default.tcp, LISTEN_ADDRESSES_MAX, "IP addresses", |value| {
        file::string(value)?.parse().ok()
    });
    let tcp = me.and_then(|me| me.clients.clone()).unwrap_or(tcp);
    let unix = section.boolean("unix", true);
    let allowed = format!("an absolute path of at most {UNIX_DIRECTORY_BYTES_MAX} bytes");
    let directory = section.value("unix_directory", PathBuf::from("/tmp"), allowed, directory);
    let mode = "an octal mode from \"0000\" to \"0777\"".to_owned();
    let mode = section.value("unix_mode", 0o666, mode, unix_mode);
    if let Some(covered) = tcp.iter().find(|address| is_covered(**address, &tcp)) {
        section.conflict("tcp", &format!("has {covered} beside the wildcard that covers it"));
    }
    let shared_memory = section.boolean("shared_memory", true);
    let control = section.boolean("control", true);
    if tcp.is_empty() && !unix {
        section.conflict("tcp", "is empty and `listen.unix` is false: nobody could connect");
    }
    let socket = |name: String, mode| UnixSocket { path: directory.join(name), mode };
    let shared_memory = (unix && shared_memory).then(|| socket(format!("{port}.shm"), mode));
    let control = (unix && control).then(|| socket(format!("{port}.control"), CONTROL_MODE));
    let unix = unix.then(|| socket(port.to_string(), mode));
    Listen { port: port as u16, tcp, unix, shared_memory, control }
}

/// Whether another address of the list takes the connections of this one.
fn is_covered(address: IpAddr, list: &[IpAddr]) -> bool {
    let wildcard = wildcard(address);
    address != wildcard && list.contains(&wildcard)
}

fn directory(value: &DeValue<'_>) -> Option<PathBuf> {
    let path = file::string(value)?;
    let legal = path.len() <= UNIX_DIRECTORY_BYTES_MAX && !path.contains('\0');
    let path = PathBuf::from(path);
    (legal && path.is_absolute()).then_some(path)
}

fn unix_mode(value: &DeValue<'_>) -> Option<u32> {
    let digits = file::string(value)?;
    let octal = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let mode = u32::from_str_radix(digits, 8).ok().filter(|_| octal)?;
    (mode <= 0o777).then_some(mode)
}

fn sessions(mut section: Section<'_, '_>) -> Sessions {
    let default = Sessions::default();
    let timeout_ms = default.handshake_timeout.as_millis() as usize;
    Sessions {
        max: section.integer("max", default.max, 1..=SESSIONS_CEILING),
        handshake_timeout: Duration::from_millis(section.integer(
            "handshake_timeout_ms",
            timeout_ms,
            10..=600_000,
        ) as u64),
        messages_max: section.integer("messages_max", default.messages_max, 0..=MESSAGES_CEILING),
        bytes_max: section.integer(
            "bytes_max",
            default.bytes_max,
            CLIENT_FRAME_BYTES_MAX..=BYTES_CEILING,
        ),
        slow_receiver: section.choice("slow_receiver", default.slow_receiver),
    }
}

fn auth(mut section: Section<'_, '_>, beside: &Path, host: &dyn Host) -> Auth {
    let default = Auth::default();
    let allowed = methods(&mut section, "allowed", default.allowed);
    let required = methods(&mut section, "required", default.required);
    let path = "the path of an access file, not empty".to_owned();
    let access_ip = section.value("access_ip", None, path, |value| {
        let path = file::string(value).filter(|path| !path.is_empty() && !path.contains('\0'))?;
        // Where the daemon is started must not decide which file that is.
        Some(Some(beside.join(path)))
    });
    if allowed == Methods::default() {
        section.conflict("allowed", "is empty: nobody could connect");
    }
    let access = match &access_ip {
        Some(path) => match host
            .read(path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| AccessList::read(&bytes).map_err(|error| error.to_string()))
        {
            Ok(access) => access,
            Err(why) => {
                section.conflict("access_ip", &format!("({}): {why}", path.display()));
                AccessList::default()
            }
        },
        None => {
            if allowed.ip || required.ip {
                let why = "is missing: method IP would turn everybody away";
                section.conflict("access_ip", why);
            }
            AccessList::default()
        }
    };
    Auth { allowed, required, access, access_ip }
}

fn methods(section: &mut Section<'_, '_>, name: &'static str, default: Methods) -> Methods {
    let names = section.list(name, default.names(), 2, "\"NULL\" | \"IP\"", |value| {
        let name = file::string(value)?;
        Methods::NAMES.into_iter().find(|known| *known == name)
    });
    let [null, ip] = Methods::NAMES.map(|name| names.contains(&name));
    Methods { null, ip }
}

fn cores(mut section: Section<'_, '_>) -> Cores {
    let default = Cores::default();
    let spin_us = default.spin.as_micros() as usize;
    let count = section.integer("count", default.count, 1..=CORES_MAX);
    let driver = section.choice("driver", default.driver);
    let idle = section.choice("idle", default.idle);
    let spin = Duration::from_micros(section.integer("spin_us", spin_us, 1..=1_000_000) as u64);
    let of_cpus = format!("CPU numbers from 0 to {}", CPUS_MAX - 1);
    let pin = section.list("pin", default.pin, CORES_MAX, &of_cpus, |value| {
        file::integer(value).filter(|cpu| *cpu < CPUS_MAX)
    });
    if !pin.is_empty() && pin.len() != count {
        let why = format!("names {} CPUs for {count} cores: one for each, or none", pin.len());
        section.conflict("pin", &why);
    }
    Cores { count, driver, idle, spin, pin }
}

fn memory(mut section: Section<'_, '_>, sessions: &Sessions, cluster: &Cluster) -> Memory {
    let default = Memory::default();
    // One chunk is being filled while another is being sent.
    let range = 4 * CHUNK_BYTES..=BYTES_CEILING;
    let pool_bytes_max = section.integer("pool_bytes_max", default.pool_bytes_max, range);
    if pool_bytes_max / 2 < sessions.bytes_max {
        let why = format!(
            "is {pool_bytes_max}, less than twice `sessions.bytes_max`, which is {}: \
             one slow session could take all of the pool",
            sessions.bytes_max
        );
        section.conflict("pool_bytes_max", &why);
    }
    let floor = sessions.bytes_max + cluster.ring.bytes_min();
    if cluster.daemons.len() > 1 && pool_bytes_max < floor {
        let why = format!(
            "is {pool_bytes_max}, less than {floor}: the ring would have no room beside one slow \
             session (`sessions.bytes_max`, and twice `ring.global_window_bytes` and \
             `ring.backlog_bytes`)"
        );
        section.conflict("pool_bytes_max", &why);
    }
    let range = SHARED_QUEUE_BYTES_MIN..=SHARED_QUEUE_BYTES_MAX;
    let session_queue_bytes =
        section.integer("session_queue_bytes", default.session_queue_bytes, range);
    if !session_queue_bytes.is_power_of_two() {
        let why = format!("is {session_queue_bytes}, which is no power of two");
        section.conflict("session_queue_bytes", &why);
    }
    let range = SHARED_QUEUE_BYTES_MIN..=BYTES_CEILING;
    let shared_bytes_max = section.integer("shared_bytes_max", default.shared_bytes_max, range);
    let range = SHELF_FRAME_BYTES_MIN..=SHELF_BYTES_MAX;
    let shelf_from_bytes = section.integer("shelf_from_bytes", default.shelf_from_bytes, range);
    let shelf_bytes = section.integer("shelf_bytes", default.shelf_bytes, 0..=SHELF_BYTES_MAX);
    let lock = section.boolean("lock", default.lock);
    Memory {
        pool_bytes_max,
        session_queue_bytes,
        shared_bytes_max,
        shelf_from_bytes,
        shelf_bytes,
        lock,
    }
}

fn log(mut section: Section<'_, '_>) -> Log {
    let default = Log::default();
    Log {
        level: section.choice("level", default.level),
        format: section.choice("format", default.format),
    }
}
