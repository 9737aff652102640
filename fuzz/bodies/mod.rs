//! What is done with each input of a fuzzer, and what must hold then. The fuzz targets and
//! `tests/fuzz_smoke.rs` share these bodies.

#![allow(dead_code, reason = "each program that includes it uses its own part")]

pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod frames;
pub(crate) mod handshake;
pub(crate) mod model;
pub(crate) mod reader;
pub(crate) mod reference;
pub(crate) mod script;
pub(crate) mod store;

use madrigal::base::{DaemonId, DaemonName};
use madrigal::protocol::{Configuration, Daemon, Setup};

/// The daemon of the recorded conversations, so that what was said to it is said to this one.
pub(crate) const DAEMON: &str = "localhost";

/// A daemon alone.
pub(crate) fn protocol_setup() -> Setup {
    let name = DaemonName::new(DAEMON.as_bytes()).unwrap();
    let daemon = Daemon { id: DaemonId::from_name(DAEMON), name };
    Setup { daemon: name, configuration: Configuration::alone(daemon, 1) }
}
