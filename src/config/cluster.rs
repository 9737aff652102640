//! The daemons of a cluster, how they reach each other, and how their ring is tuned. How a file
//! says so: `members.rs`. What daemons must agree on: `identity.rs`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::identity::Identity;
use crate::base::limits::RING_WINDOW_PACKETS;
use crate::base::{DaemonId, DaemonName};

/// The daemons of a cluster. With none listed, a daemon is its whole cluster.
///
/// Which of them a daemon is: [`Config::daemon`](super::Config::daemon).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The segments in the order of the file; at least one.
    pub segments: Vec<Segment>,
    /// All daemons, in the order of member lists and of the token: that of the file, segment by
    /// segment. Empty or with this one; names, ids and places are unique.
    pub daemons: Vec<ClusterDaemon>,
    /// The number of the interface that has this daemon's address and leads to the others, if they
    /// have addresses of one link; otherwise, and on other hosts, 0.
    pub scope: u32,
    /// How long a daemon may give no sign before it counts as failed. Default 300 ms.
    pub failure_timeout: Duration,
    /// Bytes of the largest UDP payload. Default: what an Ethernet frame of 1,500 bytes holds.
    pub datagram_bytes: usize,
    /// Room for packets that a daemon has not yet taken, in bytes for each socket. Default 8 MiB.
    pub receive_bytes: usize,
    /// Tuning of the order.
    pub ring: Ring,
}

/// Daemons that share a multicast address. What is for them comes from other segments by unicast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where packets to all its daemons go; `None`: to each one by itself. Default 239.77.68.71,
    /// or ff05::4d44:4753 for IPv6.
    pub multicast: Option<IpAddr>,
    /// UDP port of data; that of the token is the next one. Default 4803.
    pub port: u16,
    /// Routers that a packet to the multicast group may pass. Default 1: none but this host.
    pub hops: u32,
}

/// One daemon of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDaemon {
    /// Its numeric id: by default Spread's hash of the name.
    pub id: DaemonId,
    /// Its name.
    pub name: DaemonName,
    /// The address at which the other daemons reach it; it names the interface, too.
    pub address: IpAddr,
    /// Its place in [`Cluster::segments`].
    pub segment: usize,
    /// TCP addresses for its clients; `None`: those of [`Listen::tcp`](super::Listen::tcp).
    pub clients: Option<Vec<IpAddr>>,
}

/// Tuning of the order: what `protocol::options::Options` takes, and what it means, one by one.
///
/// Daemons of a cluster may differ in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// A ring with nothing to do sends its token round so often. Default 600 ms.
    pub rest_interval: Duration,
    /// Shortest wait for a sign that the token arrived before it is sent again. Default 500 us.
    pub token_repeat: Duration,
    /// A packet may be late by so much before it counts as lost. Default 300 us.
    pub reorder_allowance: Duration,
    /// Shortest time between two notices of what was received. Default 30 us.
    pub notice_interval: Duration,
    /// Bytes that all daemons together may send in one rotation of the token. Default 4 MiB.
    pub global_window_bytes: usize,
    /// Bytes that one daemon may send in one turn. Default 1 MiB.
    pub personal_window_bytes: usize,
    /// Bytes of a turn that may follow the token instead of preceding it. Default 256 KiB.
    pub accelerated_window_bytes: usize,
    /// Packets between the slowest daemon and the newest packet that this daemon can keep. Default
    /// and maximum 8,192.
    pub window_packets: usize,
    /// Bytes of messages that may wait for their turn before clients are held back. Default 4 MiB.
    pub backlog_bytes: usize,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            segments: vec![Segment::default()],
            daemons: Vec::new(),
            scope: 0,
            failure_timeout: Duration::from_millis(300),
            datagram_bytes: 1_472,
            receive_bytes: 8 << 20,
            ring: Ring::default(),
        }
    }
}

impl Default for Segment {
    fn default() -> Self {
        let multicast = Some(Self::MULTICAST_IPV4);
        Self { multicast, port: 4803, hops: 1 }
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self {
            rest_interval: Duration::from_millis(600),
            token_repeat: Duration::from_micros(500),
            reorder_allowance: Duration::from_micros(300),
            notice_interval: Duration::from_micros(30),
            global_window_bytes: 4 << 20,
            personal_window_bytes: 1 << 20,
            accelerated_window_bytes: 256 << 10,
            window_packets: RING_WINDOW_PACKETS,
            backlog_bytes: 4 << 20,
        }
    }
}

impl Ring {
    /// Memory that the order takes: what waits, what is on its way, and as much of both again that
    /// is being delivered.
    pub fn bytes_min(&self) -> usize {
        2 * (self.global_window_bytes + self.backlog_bytes)
    }
}

impl Segment {
    /// The group where IPv4 daemons meet unless another is configured.
    pub(super) const MULTICAST_IPV4: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 77, 68, 71));

    /// The same for IPv6. Its scope is the site: a group of link scope needs a zone.
    pub(super) const MULTICAST_IPV6: IpAddr =
        IpAddr::V6(Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0x4d44, 0x4753));

    /// Where packets to all of the segment go, if it has such a place.
    pub fn group(&self) -> Option<SocketAddr> {
        self.multicast.map(|group| SocketAddr::new(group, self.port))
    }
}

impl ClusterDaemon {
    /// A daemon with the id of its name, and clients where all have them.
    pub(super) fn new(name: DaemonName, address: IpAddr) -> Self {
        let id = DaemonId::from_name(name.as_str());
        Self { id, name, address, segment: 0, clients: None }
    }
}

/// As it stands in the file, where no more needs to be said: its name, a blank, its address.
impl fmt::Display for ClusterDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.address)
    }
}

impl Cluster {
    /// The daemon called `name`.
    pub fn daemon(&self, name: DaemonName) -> Option<&ClusterDaemon> {
        self.daemons.iter().find(|daemon| daemon.name == name)
    }

    /// The segment of `daemon`.
    pub fn segment(&self, daemon: &ClusterDaemon) -> &Segment {
        &self.segments[daemon.segment]
    }

    /// Where `daemon` takes data.
    pub fn data(&self, daemon: &ClusterDaemon) -> SocketAddr {
        self.place(daemon, self.segment(daemon).port)
    }

    /// Where `daemon` takes the token.
    pub fn token(&self, daemon: &ClusterDaemon) -> SocketAddr {
        self.place(daemon, self.segment(daemon).port + 1)
    }

    fn place(&self, daemon: &ClusterDaemon, port: u16) -> SocketAddr {
        match daemon.address {
            IpAddr::V6(address) if is_of_one_link(daemon.address) => {
                SocketAddrV6::new(address, port, 0, self.scope).into()
            }
            address => SocketAddr::new(address, port),
        }
    }

    /// What tells this cluster from others: all that its daemons must agree on.
    pub fn identity(&self) -> Identity {
        Identity::of(self)
    }

    /// What cannot be with these daemons and segments, if anything, and the daemon to blame.
    pub(super) fn conflict(&self) -> Option<(usize, String)> {
        (0..self.daemons.len()).find_map(|index| Some((index, self.conflict_at(index)?)))
    }

    /// Why a daemon cannot be, given those before it.
    fn conflict_at(&self, index: usize) -> Option<String> {
        let (earlier, daemon) = (&self.daemons[..index], &self.daemons[index]);
        if let Some(other) = earlier.iter().find(|other| other.name == daemon.name) {
            return Some(format!("has two daemons called {}", other.name));
        }
        if let Some(other) = earlier.iter().find(|other| other.id == daemon.id) {
            let (id, one, two) = (daemon.id.get(), other.name, daemon.name);
            return Some(format!("has two daemons with id {id}: {one} and {two}"));
        }
        if let Some(other) = earlier.iter().find(|other| self.collide(other, daemon)) {
            let (one, two, place) = (other.name, daemon.name, self.data(daemon));
            return Some(format!(
                "has two daemons at {place} or a port beside it: {one} and {two}"
            ));
        }
        self.bad_address(daemon)
    }

    /// Whether two daemons would need the same socket: each takes two ports.
    fn collide(&self, one: &ClusterDaemon, other: &ClusterDaemon) -> bool {
        one.address == other.address && self.data(one).port().abs_diff(self.data(other).port()) < 2
    }

    fn bad_address(&self, daemon: &ClusterDaemon) -> Option<String> {
        let address = daemon.address;
        if address.is_unspecified() || address.is_multicast() {
            return Some(format!("has {daemon}, which is no address of one host"));
        }
        let first = self.daemons[0].address;
        if is_of_one_link(address) != is_of_one_link(first) {
            let other = if is_of_one_link(address) { first } else { address };
            let one = if is_of_one_link(address) { address } else { first };
            return Some(format!(
                "has daemons at {one}, which is of one link only, and at {other}, which is not: \
                 take addresses of one kind for all"
            ));
        }
        let others = [self.segment(daemon).multicast, Some(self.daemons[0].address)];
        let other = others.into_iter().flatten().find(|it| it.is_ipv4() != address.is_ipv4())?;
        Some(format!("has {daemon}, which is of another IP version than {other}"))
    }
}

/// Whether an address is known on one link only, and so on each of a host's interfaces another.
pub(super) fn is_of_one_link(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// All addresses of a host, of the IP version of `address`.
pub(super) fn wildcard(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
