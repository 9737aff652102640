//! Daemon configurations: who is in the ring, and since when.

use crate::base::{DaemonId, DaemonName, GroupId, RingId};

/// One daemon as the others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Its numeric identity.
    pub id: DaemonId,
    /// Its name: the second part of its sessions' private groups.
    pub name: DaemonName,
}

/// The daemons that share one total order, until the next configuration change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Identity of the ring.
    pub ring: RingId,
    /// Unix seconds at which it was formed; strictly grows with each configuration of a leader.
    pub formed_seconds: i32,
    /// Its daemons in the order of the configuration file, which is the order of member lists.
    pub daemons: Vec<Daemon>,
}

impl Configuration {
    /// A configuration of one daemon, formed by itself.
    pub fn alone(daemon: Daemon, formed_seconds: i32) -> Self {
        let ring = RingId { number: 1, leader: daemon.id };
        Self { ring, formed_seconds, daemons: vec![daemon] }
    }

    /// Place of the daemon called `name` in the order of member lists.
    pub fn rank(&self, name: DaemonName) -> Option<usize> {
        self.daemons.iter().position(|daemon| daemon.name == name)
    }

    /// The group id of the `index`-th change of a group born in this configuration.
    pub fn group_id(&self, index: i32) -> GroupId {
        // Clients read the daemon's number as signed.
        GroupId { daemon: self.ring.leader.get() as i32, time: self.formed_seconds, index }
    }
}
