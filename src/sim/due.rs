//! What is done to a cluster, and what is due in it at some moment.

use std::time::Duration;

use crate::base::buffer::HeapBuffer;
use crate::base::{DaemonId, Instant};

use super::core::Channel;
use super::network::Weather;

/// Something that a scenario does to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ends a daemon without a word.
    Crash(usize),
    /// Ends a daemon in order.
    Stop(usize),
    /// Starts a daemon that is not running.
    Start(usize),
    /// Keeps a daemon from running for a while; its datagrams wait in its buffers.
    Pause(usize, Duration),
    /// Crashes a daemon as soon as it is in the state of this name; any daemon where there is none.
    CrashIn(Option<usize>, &'static str),
    /// Cuts the network into parts as soon as some daemon is in the state of this name.
    PartitionIn(Vec<usize>, &'static str),
    /// Cuts the network into parts: which one each daemon is in.
    Partition(Vec<usize>),
    /// Cuts or restores one direction of a link.
    Link(usize, usize, bool),
    /// Lets everybody hear everybody.
    Heal,
    /// Changes the weather.
    Weather(Weather),
    /// Gives a machine a configuration file with this identity of the cluster: its daemon goes over
    /// to it, or begins with it when it starts.
    Reload(usize, u64),
    /// Sends an old datagram again, to everybody.
    Stale,
    /// Sends noise to everybody.
    Stranger,
}

/// What is due at some moment.
pub(super) enum Happening {
    Arrive {
        to: usize,
        channel: Channel,
        bytes: HeapBuffer,
    },
    Work {
        host: usize,
        life: u32,
    },
    Timer {
        host: usize,
        life: u32,
    },
    Resume {
        host: usize,
    },
    Submit {
        host: usize,
        habit: u64,
    },
    /// Boxed, as it is rare and large.
    Act(Box<Action>),
    Unreachable {
        host: usize,
        daemon: DaemonId,
    },
}

pub(super) struct Due {
    pub(super) at: Instant,
    /// Breaks ties: what was scheduled first happens first.
    pub(super) order: u64,
    pub(super) what: Happening,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
