//! What is done with an input, and what must hold whatever it is. Shared by the fuzz targets and by
//! a test of the main package.

// Each program uses its own part.
#![allow(dead_code, unused_imports, reason = "each program uses a part of it")]

pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod connections;
mod frames;
mod handshake;
pub(crate) mod loopback;
mod model;
pub(crate) mod order;
mod reader;
mod reference;
pub(crate) mod script;
pub(crate) mod sessions;
mod store;

pub(crate) use frames::frames;
pub(crate) use handshake::handshake;

use madrigal::base::{DaemonId, DaemonName};
use madrigal::protocol::{Daemon, Setup};

/// The daemon of the recorded conversations, so that what was said to it is said to this one.
const DAEMON: &str = "localhost";

/// A daemon alone.
fn protocol_setup() -> Setup {
    let name = DaemonName::new(DAEMON.as_bytes()).unwrap();
    let daemon = Daemon { id: DaemonId::from_name(DAEMON), name };
    Setup::alone(daemon, 1)
}
