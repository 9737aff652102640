//! A configuration as a file that yields it: what `--check` prints and the start of the log says.

use std::fmt;
use std::path::Path;

use super::{Config, Methods};

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
        let Self { daemon, cluster, listen, sessions, auth, cores, memory, log } = self;
        let mut values = vec![
            ("daemon.name", quoted(daemon.as_str())),
            ("cluster.daemons", list(cluster.daemons.iter().map(|d| quoted(&d.to_string())))),
            (
                "cluster.multicast",
                match cluster.multicast {
                    Some(group) => quoted(&group.to_string()),
                    None => quoted("none"),
                },
            ),
            ("cluster.port", cluster.port.to_string()),
            ("cluster.hops", cluster.hops.to_string()),
            ("cluster.failure_timeout_ms", cluster.failure_timeout.as_millis().to_string()),
            ("cluster.datagram_bytes", cluster.datagram_bytes.to_string()),
            ("cluster.receive_bytes", cluster.receive_bytes.to_string()),
            ("listen.port", listen.port.to_string()),
            ("listen.tcp", list(listen.tcp.iter().map(|address| quoted(&address.to_string())))),
            ("listen.unix", listen.unix.is_some().to_string()),
        ];
        if let Some(unix) = &listen.unix {
            let directory = unix.path.parent().unwrap_or(Path::new("/"));
            values.push(("listen.unix_directory", quoted(&directory.to_string_lossy())));
            values.push(("listen.unix_mode", quoted(&format!("{:04o}", unix.mode))));
            values.push(("listen.shared_memory", listen.shared_memory.is_some().to_string()));
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
            ("log.level", quoted(&log.level.to_string())),
            ("log.format", quoted(&log.format.to_string())),
        ]);
        values
    }
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

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// A TOML string.
fn quoted(text: &str) -> String {
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
