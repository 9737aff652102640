//! The daemon's threads: each owns a driver and one or both roles, ring core and session core.
//! They move bytes and time; every decision is made in the layers below.
//!
//! With one core all roles are in one thread and nothing hops. With more, the first is the ring
//! core, and the others are session cores.

mod acceptor;
mod attach;
pub mod bare;
mod budget;
mod channels;
mod control;
mod doorbell;
mod idle;
mod lifeline;
mod link;
mod network;
mod port;
mod ring_core;
mod ring_pool;
mod ring_thread;
mod routes;
mod session_core;
mod session_thread;
mod shared;
mod shelves;
mod start;
mod strangers;
mod unheard;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::config::Cluster;
use crate::observe::counters::{Counters, totals_text};
use crate::sys::Bell;
use crate::sys::datagram::DatagramError;
use crate::sys::driver::OpenError;
use crate::sys::socket::ListenError;

use shared::Shared;

pub use control::{Command, Control, Order};
pub use start::start;

/// Longest time between two turns of a core that watches for work: timers are looked at then.
const WATCH_MAX: Duration = Duration::from_millis(1);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket for clients could not be opened.
    #[error("cannot listen for clients: {0}")]
    Listen(#[from] ListenError),
    /// A socket for the other daemons could not be opened.
    #[error(transparent)]
    Network(#[from] DatagramError),
    /// The kernel interface could not be set up.
    #[error(transparent)]
    Driver(#[from] OpenError),
    /// No thread, or no processor to pin it to.
    #[error("cannot start core {core}: {error}")]
    Thread {
        /// Which core, from 0.
        core: usize,
        /// What the system said.
        error: io::Error,
    },
}

/// Why the daemon ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel interface failed.
    #[error("the driver failed: {0}")]
    Driver(io::Error),
}

/// A daemon that serves clients, until it is told to stop.
pub struct Running {
    shared: Arc<Shared>,
    bells: Vec<Bell>,
    counters: Vec<Arc<Counters>>,
    addresses: Vec<SocketAddr>,
    paths: Vec<PathBuf>,
    control: Option<Control>,
    ring: Option<JoinHandle<Result<(), RunError>>>,
    sessions: Vec<JoinHandle<Result<(), RunError>>>,
}

impl Running {
    /// Tells the daemon to stop: it accepts nobody, writes out what was delivered, closes, and
    /// removes its socket files. Returns at once; [`Running::join`] waits for it.
    pub fn stop(&mut self) {
        // Now, as another daemon may start in its place while this one still writes.
        self.control = None;
        self.shared.stop(&self.bells);
    }

    /// Goes over to other daemons or another tuning of the cluster; clients stay. Returns at once.
    ///
    /// The caller has asked [`reload::plan`](crate::config::reload::plan) whether that is possible.
    pub fn reload(&self, cluster: Cluster) {
        self.shared.set_cluster(cluster, &self.bells);
    }

    /// Waits until the daemon has stopped. Returns what it has counted, as
    /// [`Running::counters_text`] does.
    ///
    /// # Errors
    ///
    /// The daemon did not stop because it was told to, but because it could not go on.
    ///
    /// # Panics
    ///
    /// If one of its threads did.
    pub fn join(self) -> Result<String, RunError> {
        let mut result = Ok(());
        for thread in self.sessions {
            result = result.and(thread.join().expect("a session core ends without a panic"));
        }
        self.shared.finish(&self.bells);
        if let Some(ring) = self.ring {
            result = result.and(ring.join().expect("the ring core ends without a panic"));
        }
        result.map(|()| text(&self.counters))
    }

    /// What all cores have counted together, one `name value` a line.
    pub fn counters_text(&self) -> String {
        text(&self.counters)
    }

    /// Where an operator's commands come, if there is such a place.
    pub fn control(&self) -> Option<&Control> {
        self.control.as_ref()
    }

    /// The TCP addresses on which clients are accepted, with the port that was chosen where the
    /// configuration says 0.
    pub fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The Unix sockets on which clients and an operator's commands are accepted.
    pub fn unix_paths(&self) -> &[PathBuf] {
        &self.paths
    }
}

fn text(counters: &[Arc<Counters>]) -> String {
    totals_text(counters.iter().map(Arc::as_ref))
}
