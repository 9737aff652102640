//! What lies between this daemon and the others of its cluster.

use std::net::{IpAddr, Ipv4Addr};

use madrigal::base::limits::PEER_DATAGRAM_BYTES_MIN;
use madrigal::config::{ClusterDaemon, Config, Idle};

use super::Finding;
use crate::doctor::facts::{Facts, Interface};
use crate::doctor::root::show_cpus;

/// Smallest room for sending that holds a train of packets with what the kernel adds to each: what
/// it gives by itself.
const SEND_BYTES_MIN: u64 = 212_992;

/// Headers before the payload of a UDP packet.
const HEADER_BYTES_V4: u64 = 28;
const HEADER_BYTES_V6: u64 = 48;

/// Which daemon of its cluster this one is. Where the configuration was read on another host, its
/// addresses tell.
fn own<'c>(facts: &Facts, config: &'c Config) -> Option<&'c ClusterDaemon> {
    let known = config.cluster.daemon(config.daemon);
    known.or_else(|| match candidates(facts, config)[..] {
        [own] => Some(own),
        _ => None,
    })
}

/// The daemons whose addresses this host has.
fn candidates<'c>(facts: &Facts, config: &'c Config) -> Vec<&'c ClusterDaemon> {
    let is_here = |it: &&ClusterDaemon| facts.network.has_address(it.address) == Some(true);
    config.cluster.daemons.iter().filter(is_here).collect()
}

/// The interface to the other daemons, or a finding that there is none.
fn to_others<'a>(facts: &'a Facts, config: &Config) -> Result<&'a Interface, Finding> {
    let unknown = || Finding::unknown("which interface leads to other hosts");
    facts.network.interface(own(facts, config).map(|it| it.address)).ok_or_else(unknown)
}

pub(super) fn address(facts: &Facts, config: &Config) -> Finding {
    if config.cluster.daemons.is_empty() {
        return Finding::fine("none: the daemon works alone (cluster.daemons is empty)");
    }
    let Some(own) = own(facts, config).map(|it| it.address) else {
        return nobody(facts, config);
    };
    match facts.network.has_address(own) {
        Some(true) => Finding::fine(own.to_string()),
        Some(false) => Finding::stop(format!("{own} is no address of this host"))
            .mend("the address of this host in cluster.daemons, or ip address add"),
        None => Finding::unknown("its addresses"),
    }
}

/// What the daemon says that does not find itself in its cluster, and then does not start.
fn nobody(facts: &Facts, config: &Config) -> Finding {
    let all = &config.cluster.daemons;
    let is_unknown = |it: &ClusterDaemon| facts.network.has_address(it.address).is_none();
    let which = match candidates(facts, config)[..] {
        [] if all.iter().any(is_unknown) => "this host does not tell its addresses",
        [] => "none has an address of this host",
        _ => "several have addresses of this host",
    };
    let listed = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Finding::stop(format!("the configuration does not tell which daemon this one is: {which}"))
        .mend(format!("set `daemon.name` or --name to one of {listed}"))
}

pub(super) fn interface(facts: &Facts, config: &Config) -> Finding {
    let interface = match to_others(facts, config) {
        Ok(interface) => interface,
        Err(finding) => return finding,
    };
    let name = &interface.name;
    if interface.is_up() == Some(false) {
        return Finding::stop(format!("{name} is down")).mend(format!("ip link set {name} up"));
    }
    let Some(group) = group(facts, config) else {
        return Finding::fine(format!("{name}, one copy to each daemon"));
    };
    if interface.has_multicast() == Some(false) {
        return Finding::warning(format!("{name} has no multicast")).mend(format!(
            "ip link set {name} multicast on, or cluster.multicast = \"none\" on all daemons"
        ));
    }
    // The daemon names the interface itself, so a route that leads elsewhere does no harm.
    Finding::fine(match facts.network.route_to(group) {
        Some(other) if other != name => {
            format!("{name}, named by the daemon; {group} is routed to {other}")
        }
        Some(_) => format!("{name}, {group} is routed there"),
        None => format!("{name}, named by the daemon; {group} has no route"),
    })
}

/// The multicast group of this daemon's segment; the one that it would have, if it is alone.
fn group(facts: &Facts, config: &Config) -> Option<IpAddr> {
    match own(facts, config) {
        Some(own) => config.cluster.segment(own).multicast,
        None => Some(Ipv4Addr::new(239, 77, 68, 71).into()),
    }
}

pub(super) fn mtu(facts: &Facts, config: &Config) -> Finding {
    let interface = match to_others(facts, config) {
        Ok(interface) => interface,
        Err(finding) => return finding,
    };
    let Some(mtu) = interface.mtu else { return Finding::unknown("the MTU of its interface") };
    let is_v6 = own(facts, config).is_some_and(|it| it.address.is_ipv6());
    let headers = if is_v6 { HEADER_BYTES_V6 } else { HEADER_BYTES_V4 };
    let (name, packet) = (&interface.name, config.cluster.datagram_bytes as u64 + headers);
    if packet > mtu {
        let found = format!("{mtu} on {name}, packets have up to {packet} bytes");
        let larger = format!("ip link set {name} mtu {packet} on all hosts");
        let fits = mtu.saturating_sub(headers);
        return Finding::warning(found).mend(if fits >= PEER_DATAGRAM_BYTES_MIN as u64 {
            format!("{larger}, or cluster.datagram_bytes = {fits} on all daemons")
        } else {
            larger
        });
    }
    if mtu >= packet * 2 {
        return Finding::note(format!("{mtu} on {name}, packets have only {packet} bytes")).mend(
            format!("cluster.datagram_bytes = {} on all daemons", mtu.min(65_535) - headers),
        );
    }
    Finding::fine(format!("{mtu} on {name}, packets have up to {packet} bytes"))
}

pub(super) fn receive_buffer(facts: &Facts, config: &Config) -> Finding {
    let wanted = config.cluster.receive_bytes as u64;
    let lost = match facts.network.udp_drops {
        Some(drops @ 1..) => format!("; {drops} UDP packets found no room since boot"),
        _ => String::new(),
    };
    if facts.process.may_admin_net {
        return Finding::fine(format!("{wanted} bytes: CAP_NET_ADMIN overrules the limit{lost}"));
    }
    match facts.network.rmem_max {
        None => Finding::unknown("net.core.rmem_max"),
        Some(most) if most >= wanted => Finding::fine(format!("{most} bytes{lost}")),
        Some(most) => Finding::warning(format!("{most} bytes at most, {wanted} wanted{lost}"))
            .mend(format!("sysctl -w net.core.rmem_max={wanted}")),
    }
}

pub(super) fn send_buffer(facts: &Facts, _: &Config) -> Finding {
    match facts.network.wmem_default {
        None => Finding::unknown("net.core.wmem_default"),
        Some(bytes) if bytes >= SEND_BYTES_MIN => Finding::fine(format!("{bytes} bytes")),
        Some(bytes) => Finding::warning(format!("{bytes} bytes"))
            .mend(format!("sysctl -w net.core.wmem_default={SEND_BYTES_MIN}")),
    }
}

pub(super) fn reverse_path(facts: &Facts, config: &Config) -> Finding {
    let interface = match to_others(facts, config) {
        Ok(interface) => interface,
        Err(finding) => return finding,
    };
    let name = &interface.name;
    let filter = match interface.rp_filter {
        None => return Finding::unknown("its reverse-path filter"),
        Some(1) => 1,
        Some(filter) => return Finding::fine(format!("rp_filter is {filter} on {name}")),
    };
    let own = own(facts, config);
    let others = config.cluster.daemons.iter().filter(|it| Some(*it) != own);
    let astray = others.filter(|it| {
        facts.network.route_to(it.address).is_some_and(|way| way != name) && it.address.is_ipv4()
    });
    let astray: Vec<_> = astray.map(|it| it.name.to_string()).collect();
    if astray.is_empty() {
        return Finding::fine(format!("rp_filter is {filter} on {name}, all routes lead back"));
    }
    Finding::warning(format!(
        "rp_filter is 1 on {name}, and the route to {} leads elsewhere",
        astray.join(", ")
    ))
    .mend(format!("sysctl -w net.ipv4.conf.{name}.rp_filter=2 net.ipv4.conf.all.rp_filter=2"))
}

pub(super) fn bridge(facts: &Facts, config: &Config) -> Finding {
    let interface = match to_others(facts, config) {
        Ok(interface) => interface,
        Err(finding) => return finding,
    };
    let name = &interface.name;
    match interface.bridge {
        None => Finding::fine(format!("{name} is none")),
        Some(bridge) if group(facts, config).is_none() || !bridge.is_snooping => {
            Finding::fine(format!("{name} floods multicast"))
        }
        Some(bridge) if bridge.is_querier => Finding::fine(format!("{name} asks who wants it")),
        Some(_) => Finding::warning(format!("{name} snoops, and asks nobody")).mend(format!(
            "ip link set {name} type bridge mcast_querier 1, where no router of the segment asks"
        )),
    }
}

pub(super) fn device(facts: &Facts, config: &Config) -> Finding {
    let interface = match to_others(facts, config) {
        Ok(interface) => interface,
        Err(finding) => return finding,
    };
    let (name, pinned) = (&interface.name, &config.cores.pin);
    let is_spinning = config.cores.idle == Idle::Spin;
    if is_spinning && interface.steering.iter().any(|cpu| pinned.contains(cpu)) {
        let found = format!("{name} hands packets to the daemon's CPU {}", show_cpus(pinned));
        let mend = format!("other CPUs in /sys/class/net/{name}/queues/rx-*/rps_cpus");
        return Finding::warning(found).mend(mend);
    }
    if !interface.is_physical {
        return Finding::fine(format!("{name} is virtual: there is nothing to poll or steer"));
    }
    let queues = interface.receive_queues;
    if is_spinning && facts.network.busy_read == Some(0) {
        return Finding::note(format!("{name} interrupts a CPU for what it received"))
            .mend("sysctl -w net.core.busy_read=50, where the driver epoll is used; measure");
    }
    let cpus = facts.cpus.usable.as_ref().map_or(1, Vec::len);
    if queues == 1 && cpus > 2 && interface.steering.is_empty() {
        return Finding::note(format!("{name} has one queue: a single CPU receives everything"))
            .mend(format!("a mask of other CPUs in /sys/class/net/{name}/queues/rx-0/rps_cpus"));
    }
    Finding::fine(format!("{name}, {queues} receive queues"))
}

#[cfg(test)]
mod tests;
