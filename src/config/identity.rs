//! What the daemons of a cluster must agree on, as a number, as text, and as bytes.
//!
//! Every packet carries the number, and one with another is dropped. The bytes are for the daemon
//! that hears such packets: it can tell the other what it has, learn what that one has, and say in
//! its log what differs instead of that something does.
//!
//! ```text
//! 1   format, 1
//! 4   bytes of a datagram
//! 1   segments, each:      1 IP version or 0, address of that version, 2 port
//! 1   daemons, each:       1 segment, 4 id, 1 IP version, address, 1 length, name
//! ```
//!
//! Numbers are little-endian. The number is the FNV-1a hash of the bytes. Not part of it: what each
//! daemon may decide for itself (timeouts, windows, clients), and the version of the packets, which
//! each packet has in itself.

use std::fmt;
use std::net::IpAddr;

use super::cluster::Cluster;
use crate::base::limits::{DAEMON_NAME_BYTES_MAX, DAEMONS_MAX, SEGMENTS_MAX};
use crate::base::{DaemonId, DaemonName, Rank};

/// First byte of the encoding.
const FORMAT: u8 = 1;

/// Longest encoding: several datagrams' worth for the largest cluster, which IP takes apart.
pub const IDENTITY_BYTES_MAX: usize =
    7 + SEGMENTS_MAX * 19 + DAEMONS_MAX * (23 + DAEMON_NAME_BYTES_MAX);

/// What the daemons of a cluster must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The number that packets carry: equal exactly where all else is, but for chance.
    pub hash: u64,
    datagram_bytes: u32,
    segments: Vec<Meeting>,
    daemons: Vec<Known>,
}

/// Where the daemons of a segment meet.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Meeting {
    multicast: Option<IpAddr>,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    segment: u8,
    id: DaemonId,
    address: IpAddr,
    name: DaemonName,
}

impl Identity {
    pub(super) fn of(cluster: &Cluster) -> Self {
        let segments = cluster.segments.iter();
        let daemons = cluster.daemons.iter();
        let mut this = Self {
            hash: 0,
            datagram_bytes: cluster.datagram_bytes as u32,
            segments: segments
                .map(|it| Meeting { multicast: it.multicast, port: it.port })
                .collect(),
            daemons: daemons
                .map(|it| Known {
                    segment: it.segment as u8,
                    id: it.id,
                    address: it.address,
                    name: it.name,
                })
                .collect(),
        };
        this.hash = fnv1a(&this.encode());
        this
    }

    /// The bytes, at most [`IDENTITY_BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.datagram_bytes.to_le_bytes());
        bytes.push(self.segments.len() as u8);
        for segment in &self.segments {
            match segment.multicast {
                Some(group) => put_address(&mut bytes, group),
                None => bytes.push(0),
            }
            bytes.extend(segment.port.to_le_bytes());
        }
        bytes.push(self.daemons.len() as u8);
        for daemon in &self.daemons {
            bytes.push(daemon.segment);
            bytes.extend(daemon.id.get().to_le_bytes());
            put_address(&mut bytes, daemon.address);
            bytes.push(daemon.name.as_bytes().len() as u8);
            bytes.extend(daemon.name.as_bytes());
        }
        bytes
    }

    /// Reads what [`Identity::encode`] wrote, here or on another host. `None` where it is not that,
    /// all of it and nothing behind.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut from = Input(bytes);
        if from.byte()? != FORMAT {
            return None;
        }
        let datagram_bytes = u32::from_le_bytes(from.take()?);
        let count = usize::from(from.byte()?);
        if !(1..=SEGMENTS_MAX).contains(&count) {
            return None;
        }
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            let multicast = from.address()?;
            segments.push(Meeting { multicast, port: u16::from_le_bytes(from.take()?) });
        }
        let count = usize::from(from.byte()?);
        if count > DAEMONS_MAX {
            return None;
        }
        let mut daemons: Vec<Known> = Vec::with_capacity(count);
        for _ in 0..count {
            let segment = from.byte().filter(|&it| usize::from(it) < segments.len())?;
            let id = DaemonId::new(u32::from_le_bytes(from.take()?));
            let address = from.address()??;
            let name = usize::from(from.byte()?);
            let name = DaemonName::new(from.bytes(name)?).ok()?;
            if daemons.iter().any(|known| known.name == name) {
                return None;
            }
            daemons.push(Known { segment, id, address, name });
        }
        from.0.is_empty().then(|| Self { hash: fnv1a(bytes), datagram_bytes, segments, daemons })
    }

    /// What differs between `here` and `there`, a sentence each; empty where nothing does.
    pub fn diff(here: &Self, there: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: String, here: String, there: String| {
            if here != there {
                found.push(format!("{what}: {here} here, {there} there"));
            }
        };
        compare(
            "datagram_bytes".to_owned(),
            here.datagram_bytes.to_string(),
            there.datagram_bytes.to_string(),
        );
        for index in 0..here.segments.len().max(there.segments.len()) {
            let text = |it: &Self| it.segments.get(index).map_or("none".to_owned(), words);
            compare(format!("segment {}", index + 1), text(here), text(there));
        }
        for daemon in &here.daemons {
            match there.daemons.iter().find(|other| other.name == daemon.name) {
                Some(other) => {
                    compare(format!("daemon {}", daemon.name), words(daemon), words(other));
                }
                None => compare(format!("daemon {}", daemon.name), words(daemon), "none".into()),
            }
        }
        for daemon in &there.daemons {
            if !here.has(daemon.name) {
                compare(format!("daemon {}", daemon.name), "none".into(), words(daemon));
            }
        }
        compare("order of daemons".to_owned(), here.order(there), there.order(here));
        found
    }

    /// What the daemon of this rank is called there.
    pub fn name(&self, rank: Rank) -> Option<DaemonName> {
        self.daemons.get(rank.index()).map(|daemon| daemon.name)
    }

    fn has(&self, name: DaemonName) -> bool {
        self.daemons.iter().any(|daemon| daemon.name == name)
    }

    /// The daemons that `other` has too, in the order of this.
    fn order(&self, other: &Self) -> String {
        let common = self.daemons.iter().map(|daemon| daemon.name).filter(|&name| other.has(name));
        common.map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
    }
}

/// One line for each thing.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "hash {:016x}", self.hash)?;
        writeln!(f, "datagram_bytes {}", self.datagram_bytes)?;
        for (index, segment) in self.segments.iter().enumerate() {
            writeln!(f, "segment {} {segment}", index + 1)?;
        }
        for daemon in &self.daemons {
            writeln!(f, "daemon {} {daemon}", daemon.name)?;
        }
        Ok(())
    }
}

impl fmt::Display for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.multicast {
            Some(group) => write!(f, "{group} port {}", self.port),
            None => write!(f, "no multicast, port {}", self.port),
        }
    }
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segment = usize::from(self.segment) + 1;
        write!(f, "{} id {} segment {segment}", self.address, self.id.get())
    }
}

fn words(it: &impl fmt::Display) -> String {
    it.to_string()
}

fn put_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            bytes.push(4);
            bytes.extend(address.octets());
        }
        IpAddr::V6(address) => {
            bytes.push(6);
            bytes.extend(address.octets());
        }
    }
}

/// FNV-1a: the same on every machine and in every version.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Bytes that are still to be read.
struct Input<'b>(&'b [u8]);

impl<'b> Input<'b> {
    fn bytes(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take::<1>()?[0])
    }

    /// An address, or none.
    fn address(&mut self) -> Option<Option<IpAddr>> {
        match self.byte()? {
            0 => Some(None),
            4 => Some(Some(IpAddr::from(self.take::<4>()?))),
            6 => Some(Some(IpAddr::from(self.take::<16>()?))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::cluster::{ClusterDaemon, Segment};

    fn cluster(daemons: &[(&str, &str)]) -> Cluster {
        let daemons = daemons.iter().map(|(name, address)| {
            let name = DaemonName::new(name.as_bytes()).unwrap();
            ClusterDaemon::new(name, address.parse().unwrap())
        });
        Cluster { daemons: daemons.collect(), ..Cluster::default() }
    }

    fn three() -> Cluster {
        cluster(&[("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")])
    }

    #[test]
    fn bytes_and_hash_are_the_same_in_every_version() {
        let identity = three().identity();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(&identity.encode()),
            "01c00500000104ef4d4447c3120300\
             3b395e94040a0000010161\
             005fdd0967040a0000020162\
             002934ff92040a0000030163"
        );
        assert_eq!(format!("{:016x}", identity.hash), "fdba6286b5f2ede6");
    }

    #[test]
    fn text_has_a_line_for_each_thing() {
        let text = three().identity().to_string();
        assert!(text.contains("segment 1 239.77.68.71 port 4803\n"), "{text}");
        assert!(text.contains("daemon b 10.0.0.2 id "), "{text}");
    }

    #[test]
    fn what_differs_is_named() {
        let here = three();
        assert_eq!(Identity::diff(&here.identity(), &here.identity()), [""; 0]);
        let diff = |change: &dyn Fn(&mut Cluster)| {
            let mut there = here.clone();
            change(&mut there);
            assert_ne!(here.identity().hash, there.identity().hash);
            Identity::diff(&here.identity(), &there.identity())
        };
        assert_eq!(
            diff(&|it| it.datagram_bytes = 8_972),
            ["datagram_bytes: 1472 here, 8972 there"]
        );
        assert_eq!(
            diff(&|it| it.segments[0].multicast = None),
            ["segment 1: 239.77.68.71 port 4803 here, no multicast, port 4803 there"]
        );
        assert_eq!(
            diff(&|it| it.segments.push(Segment { port: 5000, ..Segment::default() })),
            ["segment 2: none here, 239.77.68.71 port 5000 there"]
        );
        assert_eq!(
            diff(&|it| it.daemons.swap(0, 2)),
            ["order of daemons: a b c here, c b a there"]
        );
        assert_eq!(diff(&|it| it.daemons[1].id = DaemonId::new(7)).len(), 1);
        let gone = diff(&|it| it.daemons.truncate(2));
        assert_eq!(gone.len(), 1, "{gone:?}");
        assert!(gone[0].starts_with("daemon c: 10.0.0.3 id ") && gone[0].ends_with("none there"));
    }

    #[test]
    fn what_each_decides_for_itself_is_no_difference() {
        let mut other = three();
        other.failure_timeout *= 2;
        other.ring.window_packets = 100;
        other.daemons[0].clients = Some(Vec::new());
        other.segments[0].hops = 9;
        assert_eq!(other.identity(), three().identity());
    }

    #[test]
    fn largest_cluster_fits_its_bound() {
        let mut largest = Cluster::default();
        for index in 0..DAEMONS_MAX {
            let name = format!("{index:0>19}");
            let name = DaemonName::new(name.as_bytes()).unwrap();
            let address = IpAddr::from([index as u8; 16]);
            largest.daemons.push(ClusterDaemon::new(name, address));
        }
        let group = Segment { multicast: Some(Segment::MULTICAST_IPV6), ..Segment::default() };
        largest.segments = vec![group; SEGMENTS_MAX];
        let identity = largest.identity();
        let bytes = identity.encode();
        assert_eq!(bytes.len(), IDENTITY_BYTES_MAX);
        assert_eq!(identity.name(Rank::new(3).unwrap()), Some(largest.daemons[3].name));
        assert_eq!(three().identity().name(Rank::new(3).unwrap()), None);
        assert_eq!(Identity::parse(&bytes), Some(identity));
    }

    #[test]
    fn every_cut_and_every_addition_is_refused() {
        let bytes = three().identity().encode();
        for len in 0..bytes.len() {
            assert_eq!(Identity::parse(&bytes[..len]), None, "{len}");
        }
        assert_eq!(Identity::parse(&[&bytes[..], &[0]].concat()), None);
    }

    proptest! {
        #[test]
        fn what_parses_is_written_as_it_was(
            at in 0..60_usize,
            byte in any::<u8>(),
            noise in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = three().identity().encode();
            let at = at % bytes.len();
            bytes[at] = byte;
            for bytes in [bytes, noise] {
                if let Some(identity) = Identity::parse(&bytes) {
                    prop_assert_eq!(identity.encode(), bytes);
                    prop_assert_eq!(Identity::diff(&identity, &identity).len(), 0);
                }
            }
        }
    }
}
