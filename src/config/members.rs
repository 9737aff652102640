//! The sections `[cluster]` and `[ring]`: text to a [`Cluster`], and which of its daemons this is.

use std::net::IpAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::cluster::{Cluster, ClusterDaemon, Ring, Segment, is_of_one_link};
use super::file::{self, Document, Section};
use super::host::{Host, Who};
use crate::base::limits::{
    DAEMON_NAME_BYTES_MAX, DAEMONS_MAX, LISTEN_ADDRESSES_MAX, PEER_DATAGRAM_BYTES_MAX,
    PEER_DATAGRAM_BYTES_MIN, REST_MICROS_MAX, RING_WINDOW_PACKETS, SEGMENTS_MAX,
};
use crate::base::{DaemonId, DaemonName};

/// Failure timeouts that may be configured, in milliseconds.
pub(super) const FAILURE_TIMEOUTS_MS: std::ops::RangeInclusive<usize> = 10..=60_000;

/// Headers of a datagram of the smallest kind, by IP version: IP's and UDP's.
const HEADERS_IPV4: usize = 28;
const HEADERS_IPV6: usize = 48;

/// Payload of an Ethernet frame.
const ETHERNET_BYTES: usize = 1_500;

/// How large datagrams may be.
enum DatagramBytes {
    /// As one frame of Ethernet holds.
    Ethernet,
    /// As one frame of the interface with this daemon's address holds.
    Interface,
    /// So large.
    Bytes(usize),
}

/// Reads both sections, and finds out which of the daemons this one is.
pub(super) fn cluster(
    document: &mut Document<'_>,
    host: &dyn Host,
    who: Who,
) -> (Cluster, DaemonName) {
    let mut section = document.section("cluster");
    let (segments, daemons) = members(&mut section);
    let default = Cluster::default();
    let failure = default.failure_timeout.as_millis() as usize;
    let failure = section.integer("failure_timeout_ms", failure, FAILURE_TIMEOUTS_MS) as u64;
    let sizes = PEER_DATAGRAM_BYTES_MIN..=PEER_DATAGRAM_BYTES_MAX;
    let allowed = format!("{} to {}, or \"auto\"", sizes.start(), sizes.end());
    let size = section.value("datagram_bytes", DatagramBytes::Ethernet, allowed, |value| {
        if file::string(value) == Some("auto") {
            return Some(DatagramBytes::Interface);
        }
        file::integer(value).filter(|bytes| sizes.contains(bytes)).map(DatagramBytes::Bytes)
    });
    let receive_bytes = section.integer("receive_bytes", default.receive_bytes, 65_536..=1 << 30);
    let mut cluster = Cluster {
        segments,
        daemons,
        scope: 0,
        failure_timeout: Duration::from_millis(failure),
        datagram_bytes: default.datagram_bytes,
        receive_bytes,
        ring: default.ring,
    };
    let blamed = if cluster.segments.len() > 1 { "segments" } else { "daemons" };
    let me = match cluster.conflict() {
        Some((_, why)) => Err(why),
        None => find_me(&cluster, who, host, "set `daemon.name` or --name"),
    };
    if let Err(why) = &me {
        section.conflict(blamed, why);
    }
    let me = me.ok().flatten();
    let mtu = me.and_then(|me| host.mtu(me.address));
    let bytes = datagram_bytes(&size, mtu, &cluster);
    let asks = matches!(size, DatagramBytes::Interface) && !cluster.daemons.is_empty();
    if asks && mtu.is_none() {
        let what = format!(
            "is \"auto\", but the daemon's interface is not known here: {bytes} is assumed, as for \
             Ethernet; if it is another size the hash is another, too"
        );
        section.note("datagram_bytes", &what);
    }
    let scope = me.map_or(0, |me| scope(me, host));
    let me = me.map(|daemon| daemon.name).or(who.name());
    cluster.datagram_bytes = bytes;
    cluster.scope = scope;
    cluster.ring = ring(document.section("ring"));
    (cluster, me.unwrap_or(super::Config::default().daemon))
}

/// Segments and daemons: those of `cluster.segments`, or one segment of `cluster.daemons`.
fn members(section: &mut Section<'_, '_>) -> (Vec<Segment>, Vec<ClusterDaemon>) {
    let daemons = daemons(section);
    let common = segment(section, None, daemons.first());
    let count = section.elements("segments", SEGMENTS_MAX);
    if count == 0 {
        return (vec![common], daemons);
    }
    if !daemons.is_empty() {
        section.conflict("daemons", "stands beside `cluster.segments`, which have theirs each");
    }
    let (mut segments, mut all) = (Vec::new(), Vec::new());
    for index in 0..count {
        let mut element = section.element("cluster.segments", index);
        let mut daemons = self::daemons(&mut element);
        segments.push(segment(&mut element, Some(&common), daemons.first()));
        if daemons.is_empty() {
            element.conflict("daemons", "is empty: a segment has daemons");
        }
        element.finish();
        daemons.iter_mut().for_each(|daemon| daemon.segment = index);
        all.extend(daemons);
    }
    if all.len() > DAEMONS_MAX {
        let why = format!("have {} daemons, but allowed are {DAEMONS_MAX} in all", all.len());
        section.conflict("segments", &why);
        all.truncate(DAEMONS_MAX);
    }
    (segments, all)
}

/// The keys of a segment; those that are absent are as in `common`.
fn segment(
    section: &mut Section<'_, '_>,
    common: Option<&Segment>,
    first: Option<&ClusterDaemon>,
) -> Segment {
    let mut default = common.cloned().unwrap_or_default();
    let is_default = default.multicast == Segment::default().multicast;
    if is_default && first.is_some_and(|daemon| daemon.address.is_ipv6()) {
        default.multicast = Some(Segment::MULTICAST_IPV6);
    }
    let group = "an IP multicast address or \"none\"".to_owned();
    let multicast =
        section.value("multicast", default.multicast, group, |value| match file::string(value)? {
            "none" => Some(None),
            text => text.parse().ok().filter(IpAddr::is_multicast).map(Some),
        });
    let port = section.integer("port", default.port.into(), 1..=usize::from(u16::MAX) - 1) as u16;
    let hops = section.integer("hops", default.hops as usize, 0..=255) as u32;
    Segment { multicast, port, hops }
}

fn daemons(section: &mut Section<'_, '_>) -> Vec<ClusterDaemon> {
    let allowed = format!(
        "daemons, \"name address\" or {{ name, address, id, clients }}, with names of 1 to \
         {DAEMON_NAME_BYTES_MAX} characters from `$` to `~`"
    );
    section.list("daemons", Vec::new(), DAEMONS_MAX, &allowed, daemon)
}

/// A daemon as a text or as a table.
fn daemon(value: &DeValue<'_>) -> Option<ClusterDaemon> {
    let DeValue::Table(table) = value else {
        let (name, address) = file::string(value)?.trim().split_once(' ')?;
        let name = DaemonName::new(name.as_bytes()).ok()?;
        return Some(ClusterDaemon::new(name, address.trim().parse().ok()?));
    };
    let get = |key: &str| table.get(key).map(|value| value.get_ref());
    let name = DaemonName::new(file::string(get("name")?)?.as_bytes()).ok()?;
    let mut daemon = ClusterDaemon::new(name, file::string(get("address")?)?.parse().ok()?);
    if let Some(id) = get("id") {
        daemon.id = self::id(id)?;
    }
    if let Some(clients) = get("clients") {
        daemon.clients = Some(self::clients(clients)?);
    }
    let known = ["name", "address", "id", "clients"];
    let all_known = table.keys().all(|key| known.contains(&key.get_ref().as_ref()));
    all_known.then_some(daemon)
}

/// Both ends of the range mean "none" to Spread's clients.
fn id(value: &DeValue<'_>) -> Option<DaemonId> {
    let id = u32::try_from(file::integer(value)?).ok()?;
    (id != 0 && id != u32::MAX).then_some(DaemonId::new(id))
}

fn clients(value: &DeValue<'_>) -> Option<Vec<IpAddr>> {
    let DeValue::Array(array) = value else { return None };
    let parse = |element: &toml::Spanned<DeValue<'_>>| -> Option<IpAddr> {
        file::string(element.get_ref())?.parse().ok()
    };
    let mut clients = Vec::new();
    for element in array.iter().take(LISTEN_ADDRESSES_MAX + 1) {
        let address = parse(element)?;
        if clients.contains(&address) {
            return None;
        }
        clients.push(address);
    }
    (clients.len() <= LISTEN_ADDRESSES_MAX).then_some(clients)
}

/// Which daemon this one is; none where there is no cluster, or none need be. `how`: what there is
/// to do where that is not known.
pub(super) fn find_me<'c>(
    cluster: &'c Cluster,
    who: Who,
    host: &dyn Host,
    how: &str,
) -> Result<Option<&'c ClusterDaemon>, String> {
    let all = &cluster.daemons;
    if all.is_empty() {
        return Ok(None);
    }
    let found: Vec<_> = all
        .iter()
        .filter(|daemon| match who.name() {
            Some(name) => daemon.name == name,
            None => host.has(daemon.address),
        })
        .collect();
    if let [me] = found[..] {
        return Ok(Some(me));
    }
    let which = match (who, &found[..]) {
        (Who::Anyone, _) => return Ok(None),
        (Who::Named(name), _) => format!("none is called {name}"),
        (Who::Local, []) => "none has an address of this host".to_owned(),
        (Who::Local, _) => "several have addresses of this host".to_owned(),
    };
    let listed = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(format!("does not tell which daemon this one is: {which}; {how} to one of {listed}"))
}

/// The interface of `me` where that has to be known. Any zone in the file would be one of the host
/// that it was written on, and hosts share files.
pub(super) fn scope(me: &ClusterDaemon, host: &dyn Host) -> u32 {
    let number = is_of_one_link(me.address).then(|| host.interface(me.address));
    number.flatten().unwrap_or(0)
}

/// `mtu`: that of this daemon's interface, where it is known.
fn datagram_bytes(size: &DatagramBytes, mtu: Option<usize>, cluster: &Cluster) -> usize {
    match size {
        DatagramBytes::Bytes(bytes) => *bytes,
        DatagramBytes::Ethernet => ethernet_bytes(cluster),
        DatagramBytes::Interface => payload(mtu.unwrap_or(ETHERNET_BYTES), cluster),
    }
}

/// Bytes of a datagram in an Ethernet frame.
pub(super) fn ethernet_bytes(cluster: &Cluster) -> usize {
    payload(ETHERNET_BYTES, cluster)
}

/// Bytes of a datagram in an IP packet of `mtu` bytes.
fn payload(mtu: usize, cluster: &Cluster) -> usize {
    // Smaller frames than the core can do with: IP takes the packets apart.
    mtu.saturating_sub(headers(cluster)).clamp(PEER_DATAGRAM_BYTES_MIN, PEER_DATAGRAM_BYTES_MAX)
}

fn headers(cluster: &Cluster) -> usize {
    let is_ipv6 = cluster.daemons.first().is_some_and(|daemon| daemon.address.is_ipv6());
    if is_ipv6 { HEADERS_IPV6 } else { HEADERS_IPV4 }
}

/// What to do where packets of daemon `me` do not fit its interface.
pub(super) fn too_long(cluster: &Cluster, me: DaemonName, host: &dyn Host) -> Option<String> {
    let (own, bytes) = (cluster.daemon(me)?, cluster.datagram_bytes);
    let (mtu, packet) = (host.mtu(own.address)?, bytes + headers(cluster));
    let others = cluster.daemons.len() - 1;
    (others > 0 && packet > mtu).then(|| {
        let fits = payload(mtu, cluster);
        let advice = match mtu < fits + headers(cluster) {
            true => format!("give it an MTU of {packet}"),
            false => format!("set cluster.datagram_bytes = {fits} on all hosts"),
        };
        format!(
            "packets of {packet} bytes do not fit the interface of {}, whose MTU is {mtu}: each is \
             taken apart, which costs several times the processor time; {advice}",
            own.address
        )
    })
}

fn ring(mut section: Section<'_, '_>) -> Ring {
    let default = Ring::default();
    let rest = default.rest_interval.as_millis() as usize;
    let rest = section.integer("rest_ms", rest, 1..=REST_MICROS_MAX as usize / 1_000);
    let mut micros = |name, default: Duration, range| {
        let default = default.as_micros() as usize;
        Duration::from_micros(section.integer(name, default, range) as u64)
    };
    let token_repeat = micros("token_repeat_us", default.token_repeat, 100..=1_000_000);
    let reorder_allowance =
        micros("reorder_allowance_us", default.reorder_allowance, 0..=1_000_000);
    let notice_interval = micros("notice_interval_us", default.notice_interval, 0..=1_000_000);
    // No window may be smaller than a datagram.
    let mut bytes =
        |name, default| section.integer(name, default, PEER_DATAGRAM_BYTES_MAX..=1 << 30);
    let global_window_bytes = bytes("global_window_bytes", default.global_window_bytes);
    let personal_window_bytes = bytes("personal_window_bytes", default.personal_window_bytes);
    let accelerated = default.accelerated_window_bytes;
    let accelerated_window_bytes =
        section.integer("accelerated_window_bytes", accelerated, 0..=1 << 30);
    let window = 16..=RING_WINDOW_PACKETS;
    let window_packets = section.integer("window_packets", default.window_packets, window);
    let backlog = PEER_DATAGRAM_BYTES_MAX..=1 << 30;
    let backlog_bytes = section.integer("backlog_bytes", default.backlog_bytes, backlog);
    if personal_window_bytes > global_window_bytes {
        let why = format!(
            "is {personal_window_bytes}, more than `ring.global_window_bytes`, which is \
             {global_window_bytes}"
        );
        section.conflict("personal_window_bytes", &why);
    }
    Ring {
        rest_interval: Duration::from_millis(rest as u64),
        token_repeat,
        reorder_allowance,
        notice_interval,
        global_window_bytes,
        personal_window_bytes,
        accelerated_window_bytes,
        window_packets,
        backlog_bytes,
    }
}

#[cfg(test)]
mod tests;
