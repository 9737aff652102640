//! Any text as a configuration or an access file: it is valid, or everything that is wrong is told
//! with its place.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use madrigal::base::limits::{CORES_MAX, LISTEN_ADDRESSES_MAX};
use madrigal::config::{AccessList, Config, ConfigError, Origin, Who};

/// Checks the input as both kinds of file.
pub(crate) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(list) = AccessList::parse(text) {
        list.admits(Origin::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    // The file that this key names would be read, whatever it is; an escape can spell the key.
    if text.contains("access") || text.contains("\\u") || text.contains("\\U") {
        return;
    }
    match Config::parse(text, Path::new("fuzz.toml"), Who::Local) {
        Ok(config) => {
            assert!((1..=CORES_MAX).contains(&config.cores.count));
            assert!(config.listen.tcp.len() <= LISTEN_ADDRESSES_MAX);
            assert!(config.sessions.max > 0 && !config.sessions.handshake_timeout.is_zero());
            assert!(config.memory.pool_bytes_max / 2 >= config.sessions.bytes_max);
        }
        Err(ConfigError::Invalid(problems)) => {
            assert!(!problems.0.is_empty());
            let lines = text.split('\n').count();
            for problem in &problems.0 {
                assert!((1..=lines).contains(&problem.line), "line {}", problem.line);
                assert!(problem.column > 0 && problem.width > 0 && !problem.message.is_empty());
            }
            assert!(problems.to_string().contains("fuzz.toml"));
        }
        Err(error @ ConfigError::Unreadable { .. }) => panic!("nothing was to be read: {error}"),
    }
}
