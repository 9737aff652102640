//! What the tests of a whole daemon share: the real program under a guard, and clients that are
//! nothing but a socket and the wire codec.

// Each test program uses its own part.
#![allow(dead_code, unused_imports, reason = "each test program uses a part of it")]

pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod frame;

use std::time::{Duration, Instant};

pub(crate) use client::{Client, End};
pub(crate) use daemon::{Daemon, Driver, Setup, drivers};
pub(crate) use frame::Frame;

/// No step of a healthy daemon takes nearly so long, even on a machine that is busy otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Calls `look` until it gives something. Each look has to cost time by itself: a question to the
/// daemon, or a receive with a timeout.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
    }
}
