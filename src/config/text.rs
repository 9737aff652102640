//! A configuration as a file that yields it: what `--check` prints and the start of the log says.

use std::fmt;
use std::path::Path;

use super::{Cluster, ClusterDaemon, Config, Methods, Segment};
use crate::base::DaemonId;

impl fmt::Display for Config {
    /// Writes all keys as a `madrigal.toml`, defaults included.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut section = "";
        for (name, value) in self.values() {
            let (head, key) = name.split_once('.').expect("names are section.key");
            if head != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                writeln!(f, "{gap}[{head}]")?;
                section = head;
            }
            writeln!(f, "{key} = {value}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Every key by its full name with its value as a file would have it, in the order of sections.
    ///
    /// Keys without a value are left out.
    pub fn values(&self) -> Vec<(&'static str, String)> {
        let Self { daemon, cluster, listen, sessions, auth, cores, memory, log, notes: _ } = self;
        let mut values = vec![("daemon.name", quoted(daemon.as_str()))];
        values.extend(of_cluster(cluster));
        values.extend([
            ("listen.port", listen.port.to_string()),
            ("listen.tcp", list(listen.tcp.iter().map(|address| quoted(&address.to_string())))),
            ("listen.unix", listen.unix.is_some().to_string()),
        ]);
        if let Some(unix) = &listen.unix {
            let directory = unix.path.parent().unwrap_or(Path::new("/"));
            values.push(("listen.unix_directory", quoted(&directory.to_string_lossy())));
            values.push(("listen.unix_mode", quoted(&format!("{:04o}", unix.mode))));
            values.push(("listen.shared_memory", listen.shared_memory.is_some().to_string()));
            values.push(("listen.control", listen.control.is_some().to_string()));
        }
        values.extend([
            ("sessions.max", sessions.max.to_string()),
            ("sessions.handshake_timeout_ms", sessions.handshake_timeout.as_millis().to_string()),
            ("sessions.messages_max", sessions.messages_max.to_string()),
            ("sessions.bytes_max", sessions.bytes_max.to_string()),
            ("sessions.slow_receiver", quoted(&sessions.slow_receiver.to_string())),
            ("auth.allowed", auth.allowed.to_string()),
            ("auth.required", auth.required.to_string()),
        ]);
        if let Some(path) = &auth.access_ip {
            values.push(("auth.access_ip", quoted(&path.to_string_lossy())));
        }
        values.extend([
            ("cores.count", cores.count.to_string()),
            ("cores.driver", quoted(&cores.driver.to_string())),
            ("cores.idle", quoted(&cores.idle.to_string())),
            ("cores.spin_us", cores.spin.as_micros().to_string()),
            ("cores.pin", list(cores.pin.iter().map(usize::to_string))),
            ("memory.pool_bytes_max", memory.pool_bytes_max.to_string()),
            ("memory.session_queue_bytes", memory.session_queue_bytes.to_string()),
            ("memory.shared_bytes_max", memory.shared_bytes_max.to_string()),
            ("memory.shelf_from_bytes", memory.shelf_from_bytes.to_string()),
            ("memory.shelf_bytes", memory.shelf_bytes.to_string()),
            ("memory.lock", memory.lock.to_string()),
            ("log.level", quoted(&log.level.to_string())),
            ("log.format", quoted(&log.format.to_string())),
        ]);
        values
    }
}

/// The keys of a cluster and its ring. Segments are written where there are several.
fn of_cluster(cluster: &Cluster) -> Vec<(&'static str, String)> {
    let has_several = cluster.segments.len() > 1;
    let common = if has_several { &Segment::default() } else { &cluster.segments[0] };
    let daemons = if has_several { &[] } else { &cluster.daemons[..] };
    let segments = cluster.segments.iter().enumerate().filter(|_| has_several);
    let ring = &cluster.ring;
    vec![
        ("cluster.daemons", list(daemons.iter().map(daemon))),
        ("cluster.multicast", multicast(common)),
        ("cluster.port", common.port.to_string()),
        ("cluster.hops", common.hops.to_string()),
        ("cluster.segments", list(segments.map(|(index, it)| segment(cluster, index, it)))),
        ("cluster.failure_timeout_ms", cluster.failure_timeout.as_millis().to_string()),
        ("cluster.datagram_bytes", cluster.datagram_bytes.to_string()),
        ("cluster.receive_bytes", cluster.receive_bytes.to_string()),
        ("ring.rest_ms", ring.rest_interval.as_millis().to_string()),
        ("ring.token_repeat_us", ring.token_repeat.as_micros().to_string()),
        ("ring.reorder_allowance_us", ring.reorder_allowance.as_micros().to_string()),
        ("ring.notice_interval_us", ring.notice_interval.as_micros().to_string()),
        ("ring.global_window_bytes", ring.global_window_bytes.to_string()),
        ("ring.personal_window_bytes", ring.personal_window_bytes.to_string()),
        ("ring.accelerated_window_bytes", ring.accelerated_window_bytes.to_string()),
        ("ring.window_packets", ring.window_packets.to_string()),
        ("ring.backlog_bytes", ring.backlog_bytes.to_string()),
    ]
}

/// A segment as a table on one line.
fn segment(cluster: &Cluster, index: usize, segment: &Segment) -> String {
    let of_segment = cluster.daemons.iter().filter(|daemon| daemon.segment == index);
    let (daemons, group) = (list(of_segment.map(daemon)), multicast(segment));
    let (port, hops) = (segment.port, segment.hops);
    format!("{{ daemons = {daemons}, multicast = {group}, port = {port}, hops = {hops} }}")
}

/// A daemon as a text, or as a table where it has more than a name and an address.
pub(super) fn daemon(daemon: &ClusterDaemon) -> String {
    let ClusterDaemon { id, name, address, segment: _, clients } = daemon;
    let has_own_id = *id != DaemonId::from_name(name.as_str());
    if !has_own_id && clients.is_none() {
        return quoted(&daemon.to_string());
    }
    let (name, address) = (quoted(name.as_str()), quoted(&address.to_string()));
    let id = if has_own_id { format!(", id = {}", id.get()) } else { String::new() };
    let clients = clients.as_ref().map_or_else(String::new, |clients| {
        let clients = list(clients.iter().map(|address| quoted(&address.to_string())));
        format!(", clients = {clients}")
    });
    format!("{{ name = {name}, address = {address}{id}{clients} }}")
}

/// The value of the key `multicast`.
pub(super) fn multicast(segment: &Segment) -> String {
    segment.multicast.map_or_else(|| quoted("none"), |group| quoted(&group.to_string()))
}

impl Methods {
    /// What the methods are called, in files and by clients.
    pub(super) const NAMES: [&'static str; 2] = ["NULL", "IP"];

    /// The names of those that are in the set.
    pub(super) fn names(self) -> Vec<&'static str> {
        let is_in = [self.null, self.ip];
        Self::NAMES
            .into_iter()
            .zip(is_in)
            .filter(|(_, is_in)| *is_in)
            .map(|(name, _)| name)
            .collect()
    }
}

impl fmt::Display for Methods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&list(self.names().into_iter().map(quoted)))
    }
}

pub(super) fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_control() => quoted += &format!("\\u{:04X}", u32::from(char)),
            char => quoted.push(char),
        }
    }
    quoted + "\""
}
