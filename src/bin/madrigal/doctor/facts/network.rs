//! Interfaces, routes, and the room that sockets get.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::root::{Root, parse_cpu_mask};

/// The network as daemons of other hosts see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// All but the loopback interface.
    pub(crate) interfaces: Vec<Interface>,
    routes: Vec<Route>,
    addresses4: Vec<Ipv4Addr>,
    addresses6: Vec<(Ipv6Addr, String)>,
    pub(crate) rmem_max: Option<u64>,
    pub(crate) wmem_default: Option<u64>,
    /// Microseconds that a receiving socket polls its device.
    pub(crate) busy_read: Option<u64>,
    /// UDP packets that were dropped since boot because a socket had no room.
    pub(crate) udp_drops: Option<u64>,
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) mtu: Option<u64>,
    pub(crate) flags: Option<u64>,
    /// 0: any sender, 1: senders whose route leads back here, 2: those that have a route.
    pub(crate) rp_filter: Option<u64>,
    pub(crate) is_physical: bool,
    pub(crate) receive_queues: usize,
    /// CPUs to which received packets are handed on.
    pub(crate) steering: Vec<usize>,
    pub(crate) bridge: Option<Bridge>,
}

/// How a bridge treats multicast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) is_snooping: bool,
    pub(crate) is_querier: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    interface: String,
    destination: u32,
    mask: u32,
}

const FLAG_UP: u64 = 1;
const FLAG_MULTICAST: u64 = 1 << 12;

impl Interface {
    pub(crate) fn is_up(&self) -> Option<bool> {
        Some(self.flags? & FLAG_UP != 0)
    }

    pub(crate) fn has_multicast(&self) -> Option<bool> {
        Some(self.flags? & FLAG_MULTICAST != 0)
    }

    fn read(root: &Root, name: &str) -> Self {
        let of = |file: &str| format!("sys/class/net/{name}/{file}");
        let filter = |of: &str| root.number(&format!("proc/sys/net/ipv4/conf/{of}/rp_filter"));
        let is_set = |file: &str| root.number(&of(file)).is_some_and(|value| value != 0);
        let queues = root.names(&of("queues"));
        let received: Vec<_> = queues.iter().filter(|queue| queue.starts_with("rx-")).collect();
        let masks = received.iter().filter_map(|queue| {
            parse_cpu_mask(&root.text(&of(&format!("queues/{queue}/rps_cpus")))?)
        });
        let mut steering = masks.collect::<Vec<_>>().concat();
        steering.sort_unstable();
        steering.dedup();
        Self {
            name: name.to_owned(),
            mtu: root.number(&of("mtu")),
            flags: root
                .line(&of("flags"))
                .and_then(|flags| u64::from_str_radix(flags.strip_prefix("0x")?, 16).ok()),
            // The stricter of the two is in force.
            rp_filter: filter("all").max(filter(name)),
            is_physical: root.has(&of("device")),
            receive_queues: received.len(),
            steering,
            bridge: root.has(&of("bridge")).then(|| Bridge {
                is_snooping: is_set("bridge/multicast_snooping"),
                is_querier: is_set("bridge/multicast_querier"),
            }),
        }
    }
}

impl Network {
    pub(super) fn read(root: &Root) -> Self {
        let core = |name: &str| root.number(&format!("proc/sys/net/core/{name}"));
        let names = root.names("sys/class/net").into_iter().filter(|name| name != "lo");
        let routes = root.text("proc/net/route").unwrap_or_default();
        let addresses6 = root.text("proc/net/if_inet6").unwrap_or_default();
        Self {
            interfaces: names.map(|name| Interface::read(root, &name)).collect(),
            routes: routes.lines().skip(1).filter_map(parse_route).collect(),
            addresses4: addresses4(&root.text("proc/net/fib_trie").unwrap_or_default()),
            addresses6: addresses6.lines().filter_map(parse_address6).collect(),
            rmem_max: core("rmem_max"),
            wmem_default: core("wmem_default"),
            busy_read: core("busy_read"),
            udp_drops: root.text("proc/net/snmp").and_then(|text| udp_drops(&text)),
        }
    }

    /// The interface over which packets to `address` leave, as far as the main table tells.
    pub(crate) fn route_to(&self, address: IpAddr) -> Option<&str> {
        match address {
            IpAddr::V4(address) => Some(&self.route4(address)?.interface),
            IpAddr::V6(address) => {
                let is_it = |(own, _): &&(Ipv6Addr, String)| *own == address;
                self.addresses6.iter().find(is_it).map(|(_, name)| name.as_str())
            }
        }
    }

    fn route4(&self, address: Ipv4Addr) -> Option<&Route> {
        let bits = u32::from(address);
        let leading = self.routes.iter().filter(|route| bits & route.mask == route.destination);
        leading.reduce(|best, route| if route.mask > best.mask { route } else { best })
    }

    /// Whether this host has `address`; `None` where its addresses are not known.
    pub(crate) fn has_address(&self, address: IpAddr) -> Option<bool> {
        match address {
            // Of these every host has all, though only the first is listed.
            _ if address.is_loopback() => Some(true),
            IpAddr::V4(address) => {
                (!self.addresses4.is_empty()).then(|| self.addresses4.contains(&address))
            }
            IpAddr::V6(address) => (!self.addresses6.is_empty())
                .then(|| self.addresses6.iter().any(|(own, _)| *own == address)),
        }
    }

    /// The interface that has `address`, or the one that leads to the world where there is none.
    pub(crate) fn interface(&self, address: Option<IpAddr>) -> Option<&Interface> {
        let world = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        let name = match address {
            Some(address) => Some(self.route_to(address)?),
            None => self.route_to(world),
        };
        match name {
            Some(name) => self.interfaces.iter().find(|interface| interface.name == name),
            None => self.interfaces.iter().find(|interface| interface.is_up() == Some(true)),
        }
    }
}

fn parse_route(line: &str) -> Option<Route> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [name, destination, _gateway, .., mask, _mtu, _window, _irtt] = fields[..] else {
        return None;
    };
    // As it lies in memory: in the byte order of the network, read by a host.
    let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::swap_bytes);
    Some(Route {
        interface: name.to_owned(),
        destination: address(destination)?,
        mask: address(mask)?,
    })
}

fn parse_address6(line: &str) -> Option<(Ipv6Addr, String)> {
    let mut fields = line.split_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    Some((Ipv6Addr::from_bits(address), fields.nth(4)?.to_owned()))
}

/// Addresses that the routing table has as those of this host.
fn addresses4(fib_trie: &str) -> Vec<Ipv4Addr> {
    let mut addresses = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in fib_trie.lines().map(str::trim) {
        match line.strip_prefix("|-- ") {
            Some(address) => last = address.parse().ok(),
            None if line == "/32 host LOCAL" => addresses.extend(last.take()),
            None => {}
        }
    }
    addresses
}

/// `RcvbufErrors` of the two lines that begin with `Udp:`: names, then values.
fn udp_drops(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Udp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "RcvbufErrors")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::Facts;
    use crate::doctor::tests::tree;

    const ROUTES: &str =
        "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0
nonsense
";

    #[test]
    fn interface_is_found_by_address_or_default_route() {
        let (_directory, root) = tree(&[
            ("proc/net/route", ROUTES),
            (
                "proc/net/fib_trie",
                "  |-- 10.0.0.0\n  /8 link UNICAST\n  |-- 10.0.0.7\n /32 host LOCAL\n",
            ),
            ("sys/class/net/eth0/mtu", "1500\n"),
            ("sys/class/net/eth1/flags", "0x1003\n"),
            ("sys/class/net/eth1/queues/rx-0/rps_cpus", "3\n"),
            ("sys/class/net/eth1/device/vendor", "0x8086\n"),
            ("sys/class/net/lo/mtu", "65536\n"),
            ("proc/sys/net/ipv4/conf/all/rp_filter", "0\n"),
            ("proc/sys/net/ipv4/conf/eth1/rp_filter", "1\n"),
        ]);
        let network = Facts::read(&root, "self").network;
        assert_eq!(network.interfaces.len(), 2);
        assert_eq!(network.interface(None).unwrap().name, "eth0");
        let own: IpAddr = "10.0.0.7".parse().unwrap();
        let interface = network.interface(Some(own)).unwrap();
        assert_eq!(interface.name, "eth1");
        assert_eq!((interface.is_up(), interface.has_multicast()), (Some(true), Some(true)));
        assert_eq!(interface.rp_filter, Some(1));
        assert_eq!((interface.receive_queues, &interface.steering[..]), (1, &[0, 1][..]));
        assert!(interface.is_physical);
        assert_eq!(network.has_address(own), Some(true));
        assert_eq!(network.has_address("10.0.0.8".parse().unwrap()), Some(false));
        assert_eq!(network.has_address("127.0.0.2".parse().unwrap()), Some(true));
        assert_eq!(network.has_address("2001:db8::1".parse().unwrap()), None);
    }

    #[test]
    fn drops_are_found_by_their_name() {
        let snmp = "Tcp: A\nTcp: 1\nUdp: InDatagrams RcvbufErrors\nUdp: 5 42\n";
        assert_eq!(udp_drops(snmp), Some(42));
        assert_eq!(udp_drops("Udp: InDatagrams\nUdp: 5\n"), None);
        assert_eq!(udp_drops("Udp:"), None);
    }
}
