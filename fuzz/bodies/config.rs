//! Any text as a configuration or an access file: it is valid, or everything that is wrong is told
//! with its place.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use madrigal::base::limits::{CORES_MAX, DAEMONS_MAX, LISTEN_ADDRESSES_MAX};
use madrigal::config::{AccessList, Cluster, Config, ConfigError, Identity, Origin, Who};

/// Checks the input as every kind of file, and as what a daemon tells of its cluster.
pub(crate) fn run(input: &[u8]) {
    if let Some(identity) = Identity::parse(input) {
        assert_eq!(identity.encode(), input);
        assert!(Identity::diff(&identity, &identity).is_empty());
        assert!(!identity.to_string().is_empty());
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(list) = AccessList::parse(text) {
        list.admits(Origin::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    for (path, who) in
        [("fuzz.toml", Who::Local), ("fuzz.toml", Who::Anyone), ("fuzz.conf", Who::Anyone)]
    {
        judge(text, path, who);
    }
}

fn judge(text: &str, path: &str, who: Who) {
    match Config::parse(text, Path::new(path), who) {
        Ok(config) => {
            assert!((1..=CORES_MAX).contains(&config.cores.count));
            assert!(config.listen.tcp.len() <= LISTEN_ADDRESSES_MAX);
            assert!(config.sessions.max > 0 && !config.sessions.handshake_timeout.is_zero());
            assert!(config.memory.pool_bytes_max / 2 >= config.sessions.bytes_max);
            check_cluster(&config.cluster);
        }
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.0.is_empty());
            let lines = text.split('\n').count();
            for problem in &problems.0 {
                assert!((1..=lines).contains(&problem.line), "line {}", problem.line);
                assert!(problem.column > 0 && problem.width > 0 && !problem.message.is_empty());
            }
            assert!(problems.to_string().contains(path));
        }
        Err(error @ ConfigError::Unreadable { .. }) => panic!("nothing was to be read: {error}"),
    }
}

/// What the runtime takes for granted.
fn check_cluster(cluster: &Cluster) {
    assert!(cluster.daemons.len() <= DAEMONS_MAX);
    for (index, daemon) in cluster.daemons.iter().enumerate() {
        assert_eq!(cluster.token(daemon).port(), cluster.data(daemon).port() + 1);
        assert!(cluster.daemons[..index].iter().all(|other| other.id != daemon.id));
        assert_eq!(cluster.daemon(daemon.name), Some(daemon));
    }
    let identity = cluster.identity();
    assert_eq!(Identity::parse(&identity.encode()).as_ref(), Some(&identity));
}
