//! A configuration as a `madrigal.toml` for all hosts of its cluster. What one host makes of a
//! file, every key of it, writes `text.rs`.

use std::path::Path;

use super::cluster::{Cluster, Segment, wildcard};
use super::text::{daemon, list, multicast, quoted};
use super::{Config, Problem};

/// The file.
pub(super) fn convert(config: &Config, source: &Path) -> String {
    let name = source.file_name().unwrap_or_default().to_string_lossy().replace('\n', " ");
    let mut text = format!("# From {name}, by `madrigal config convert`.\n");
    text += "# What is not here has its default: docs/config.md has all keys.\n";
    if !config.notes.is_empty() {
        text += "#\n# Of that file:\n";
        config.notes.iter().for_each(|note| text += &comment(note));
    }
    text += &cluster(&config.cluster);
    text += &listen(&config.cluster);
    let default = Config::default();
    let mut others = String::new();
    for (section, keys) in [
        ("sessions", &["sessions.messages_max"][..]),
        ("auth", &["auth.allowed", "auth.required", "auth.access_ip"]),
        ("log", &["log.level"]),
    ] {
        let (values, defaults) = (config.values(), default.values());
        let changed = values.iter().filter(|it| keys.contains(&it.0) && !defaults.contains(it));
        let changed: Vec<_> = changed.collect();
        if !changed.is_empty() {
            others += &format!("\n[{section}]\n");
        }
        for (key, value) in changed {
            let key = key.rsplit('.').next().unwrap_or_default();
            let value = if key == "access_ip" { &access_ip(config, source) } else { value };
            others += &format!("{key} = {value}\n");
        }
    }
    text + &others
}

/// A note on lines of at most 100 characters.
fn comment(note: &Problem) -> String {
    let mut text = String::new();
    let mut line = format!("#   line {}:", note.line);
    for word in note.message.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > 100 {
            text += &format!("{line}\n");
            "#     ".clone_into(&mut line);
        }
        line += &format!(" {word}");
    }
    format!("{text}{line}\n")
}

fn cluster(cluster: &Cluster) -> String {
    let mut text = String::from("\n[cluster]\n");
    if cluster.failure_timeout != Cluster::default().failure_timeout {
        text += &format!("failure_timeout_ms = {}\n", cluster.failure_timeout.as_millis());
    }
    let has_several = cluster.segments.len() > 1;
    for (index, it) in cluster.segments.iter().enumerate() {
        if has_several {
            text += "\n[[cluster.segments]]\n";
        }
        text += &segment(cluster, index, it);
    }
    text
}

fn segment(cluster: &Cluster, index: usize, segment: &Segment) -> String {
    let mut text = format!("multicast = {}\nport = {}\n", multicast(segment), segment.port);
    if segment.hops != Segment::default().hops {
        text += &format!("hops = {}\n", segment.hops);
    }
    text += "daemons = [\n";
    for it in cluster.daemons.iter().filter(|it| it.segment == index) {
        text += &format!("    {},\n", daemon(it));
    }
    text + "]\n"
}

/// Where clients of daemons without addresses of their own find them.
fn listen(cluster: &Cluster) -> String {
    let Some(daemon) = cluster.daemons.iter().find(|daemon| daemon.clients.is_none()) else {
        return String::new();
    };
    let all = list([quoted(&wildcard(daemon.address).to_string())].into_iter());
    let why = "# Of daemons without `clients`: all addresses, as Spread has it.";
    format!("\n[listen]\n{why}\ntcp = {all}\n")
}

/// The access file, by its name alone where it lies beside the source.
fn access_ip(config: &Config, source: &Path) -> String {
    let path = config.auth.access_ip.as_deref().unwrap_or(Path::new(""));
    let is_beside = path.parent() == source.parent();
    let path = if is_beside { Path::new(path.file_name().unwrap_or_default()) } else { path };
    quoted(&path.to_string_lossy())
}
