//! The daemons of a cluster, how they reach each other, and what they must agree on.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use super::file::{self, Section};
use crate::base::limits::{
    DAEMON_NAME_BYTES_MAX, DAEMONS_MAX, PEER_DATAGRAM_BYTES_MAX, PEER_DATAGRAM_BYTES_MIN,
};
use crate::base::{DaemonId, DaemonName};

/// The daemons of a cluster. With none listed, a daemon is its whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// All daemons, in the order of member lists and of the token; empty or with this one.
    pub daemons: Vec<ClusterDaemon>,
    /// Where packets to all daemons go; `None`: to each one by itself. Default 239.77.68.71.
    pub multicast: Option<IpAddr>,
    /// UDP port of data; that of the token is the next one. Default 4803.
    pub port: u16,
    /// Routers that a packet to the multicast group may pass. Default 1: none but this host.
    pub hops: u32,
    /// How long a daemon may give no sign before it counts as failed. Default 300 ms.
    pub failure_timeout: Duration,
    /// Bytes of the largest UDP payload. Default 1,472: an Ethernet frame.
    pub datagram_bytes: usize,
    /// Room for packets that a daemon has not yet taken, in bytes for each socket. Default 8 MiB.
    pub receive_bytes: usize,
}

/// One daemon of a cluster, as it stands in the file: its name, a blank, its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterDaemon {
    /// Its name.
    pub name: DaemonName,
    /// The address at which the other daemons reach it; it names the interface, too.
    pub address: IpAddr,
}

impl FromStr for ClusterDaemon {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (name, address) = text.trim().split_once(' ').ok_or(())?;
        let name = DaemonName::new(name.as_bytes()).map_err(|_| ())?;
        let address = address.trim().parse().map_err(|_| ())?;
        Ok(Self { name, address })
    }
}

impl fmt::Display for ClusterDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.address)
    }
}

impl ClusterDaemon {
    /// Its numeric id.
    pub fn id(&self) -> DaemonId {
        DaemonId::from_name(self.name.as_str())
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            daemons: Vec::new(),
            multicast: Some(Ipv4Addr::new(239, 77, 68, 71).into()),
            port: 4803,
            hops: 1,
            failure_timeout: Duration::from_millis(300),
            datagram_bytes: 1_472,
            receive_bytes: 8 << 20,
        }
    }
}

impl Cluster {
    /// Where `daemon` takes data.
    pub fn data(&self, daemon: &ClusterDaemon) -> SocketAddr {
        SocketAddr::new(daemon.address, self.port)
    }

    /// Where `daemon` takes the token.
    pub fn token(&self, daemon: &ClusterDaemon) -> SocketAddr {
        SocketAddr::new(daemon.address, self.port + 1)
    }

    /// What of `new` a daemon cannot go over to while it runs, by the names of the keys.
    pub fn needs_restart(&self, new: &Self, me: DaemonName) -> Vec<&'static str> {
        let address = |cluster: &Self| {
            cluster.daemons.iter().find(|daemon| daemon.name == me).map(|daemon| daemon.address)
        };
        [
            ("cluster.daemons (the address of this one)", address(self) != address(new)),
            ("cluster.multicast", self.multicast != new.multicast),
            ("cluster.port", self.port != new.port),
            ("cluster.hops", self.hops != new.hops),
            ("cluster.receive_bytes", self.receive_bytes != new.receive_bytes),
        ]
        .into_iter()
        .filter_map(|(name, differs)| differs.then_some(name))
        .collect()
    }

    /// What tells this cluster from others: a hash of all that its daemons must agree on.
    pub fn identity(&self) -> u64 {
        let mut text = format!("{:?} {} {}\n", self.multicast, self.port, self.datagram_bytes);
        for daemon in &self.daemons {
            text += &format!("{daemon}\n");
        }
        // FNV-1a: the same on every machine and in every version.
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// Reads the section, and finds out which of the daemons this one is: the one called `named`, or
/// else the one whose address this host has.
pub(super) fn cluster(
    mut section: Section<'_, '_>,
    named: Option<DaemonName>,
    is_local: &dyn Fn(IpAddr) -> bool,
) -> (Cluster, DaemonName) {
    let default = Cluster::default();
    let of_daemons = format!(
        "daemons, \"name address\", with names of 1 to {DAEMON_NAME_BYTES_MAX} characters from \
         `$` to `~`"
    );
    let daemons = section.list("daemons", Vec::new(), DAEMONS_MAX, &of_daemons, |value| {
        file::string(value)?.parse().ok()
    });
    let group = "an IP multicast address or \"none\"".to_owned();
    let multicast =
        section.value("multicast", default.multicast, group, |value| match file::string(value)? {
            "none" => Some(None),
            text => text.parse().ok().filter(IpAddr::is_multicast).map(Some),
        });
    let port = section.integer("port", default.port.into(), 1..=usize::from(u16::MAX) - 1) as u16;
    let hops = section.integer("hops", default.hops as usize, 0..=255) as u32;
    let failure = default.failure_timeout.as_millis() as usize;
    let failure = section.integer("failure_timeout_ms", failure, 10..=60_000) as u64;
    let datagrams = PEER_DATAGRAM_BYTES_MIN..=PEER_DATAGRAM_BYTES_MAX;
    let datagram_bytes = section.integer("datagram_bytes", default.datagram_bytes, datagrams);
    let receive_bytes = section.integer("receive_bytes", default.receive_bytes, 65_536..=1 << 30);
    let failure_timeout = Duration::from_millis(failure);
    let cluster =
        Cluster { daemons, multicast, port, hops, failure_timeout, datagram_bytes, receive_bytes };
    let why = conflict(&cluster);
    let me = if why.is_some() { Ok(None) } else { find_me(&cluster, named, is_local) };
    if let Some(why) = why.as_ref().or(me.as_ref().err()) {
        section.conflict("daemons", why);
    }
    let me = me.ok().flatten().or(named).unwrap_or(super::Config::default().daemon);
    (cluster, me)
}

/// Which daemon this one is; none where there is no cluster.
fn find_me(
    cluster: &Cluster,
    named: Option<DaemonName>,
    is_local: &dyn Fn(IpAddr) -> bool,
) -> Result<Option<DaemonName>, String> {
    let all = &cluster.daemons;
    if all.is_empty() {
        return Ok(None);
    }
    let is_me = |daemon: &&ClusterDaemon| match named {
        Some(name) => daemon.name == name,
        None => is_local(daemon.address),
    };
    let found: Vec<_> = all.iter().filter(is_me).collect();
    if let [me] = found[..] {
        return Ok(Some(me.name));
    }
    let which = match (named, &found[..]) {
        (Some(name), _) => format!("none is called {name}"),
        (None, []) => "none has an address of this host".to_owned(),
        (None, _) => "several have addresses of this host".to_owned(),
    };
    let listed = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(format!(
        "does not tell which daemon this one is: {which}; set `daemon.name` or --name to one of \
         {listed}"
    ))
}

fn conflict(cluster: &Cluster) -> Option<String> {
    let daemons = &cluster.daemons;
    for (index, daemon) in daemons.iter().enumerate() {
        let earlier = &daemons[..index];
        if earlier.iter().any(|other| other.name == daemon.name || other.id() == daemon.id()) {
            return Some(format!("has two daemons called {}, or with its id", daemon.name));
        }
        if earlier.iter().any(|other| other.address == daemon.address) {
            return Some(format!("has two daemons at {}", daemon.address));
        }
        let family = cluster.multicast.unwrap_or(daemons[0].address);
        if daemon.address.is_ipv4() != family.is_ipv4() {
            return Some(format!("has {daemon}, which is of another IP version than {family}"));
        }
    }
    None
}
