//! What a configuration depends on besides its text: this host. Tests have another.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6, ToSocketAddrs, UdpSocket};
use std::path::Path;

use rustix::net::sockopt;

use super::cluster::{is_of_one_link, wildcard};
use crate::base::limits::CONFIG_BYTES_MAX;
use crate::base::{DaemonName, inet6};

/// Which daemon of its cluster a configuration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The one of this name.
    Named(DaemonName),
    /// The one that has an address of this host, or the name that the file says.
    Local,
    /// As `Local`, and none if there is no such daemon: the file is only looked at.
    Anyone,
}

impl Who {
    /// The name, if it is known.
    pub(super) fn name(self) -> Option<DaemonName> {
        match self {
            Self::Named(name) => Some(name),
            Self::Local | Self::Anyone => None,
        }
    }
}

/// The host that a configuration is for.
pub(super) trait Host {
    /// The bytes of a file of bounded length.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether the host has the address. None has the unspecified one.
    fn has(&self, address: IpAddr) -> bool;

    /// The number of the interface that has the address; of several the first.
    fn interface(&self, address: IpAddr) -> Option<u32>;

    /// Bytes of the largest IP packet on the interface that has the address.
    fn mtu(&self, address: IpAddr) -> Option<usize>;

    /// The addresses of a host by its name.
    fn resolve(&self, name: &str) -> Vec<IpAddr>;
}

/// The host that we run on.
pub(super) struct ThisHost;

impl Host for ThisHost {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let longest = CONFIG_BYTES_MAX as u64;
        File::open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
        if bytes.len() > CONFIG_BYTES_MAX {
            let why = format!("longer than {CONFIG_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        Ok(bytes)
    }

    /// Asks for what is needed of it: that a socket may be bound to it, and that what is sent there
    /// does not leave the host. With `ip_nonlocal_bind` a socket may be bound to any address.
    fn has(&self, address: IpAddr) -> bool {
        let is_free = match address {
            IpAddr::V6(ip) if is_of_one_link(address) => {
                return self
                    .interface(address)
                    .is_some_and(|it| UdpSocket::bind(SocketAddrV6::new(ip, 0, 0, it)).is_ok());
            }
            address => UdpSocket::bind((address, 0)).is_ok(),
        };
        is_free && is_own(address)
    }

    fn interface(&self, address: IpAddr) -> Option<u32> {
        let IpAddr::V6(address) = address else { return None };
        let list = std::fs::read_to_string(inet6::LIST).ok()?;
        Some(inet6::interface_of(&list, address)?.number)
    }

    fn mtu(&self, address: IpAddr) -> Option<usize> {
        match address {
            IpAddr::V4(address) => mtu_ipv4(address).ok(),
            IpAddr::V6(address) => mtu_ipv6(address),
        }
    }

    fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let Ok(found) = (name, 0).to_socket_addrs() else { return Vec::new() };
        found.map(|address| address.ip()).collect()
    }
}

/// Whether the kernel sends to the address from itself, as it does for those of the host and for no
/// others. Of loopback there are more than it sends from. Nothing is sent.
fn is_own(address: IpAddr) -> bool {
    let from = UdpSocket::bind((wildcard(address), 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == address || address.is_loopback() && from.ip().is_loopback())
}

/// A host that has nothing, for a text that is judged by itself.
pub(super) struct NoHost;

impl Host for NoHost {
    fn read(&self, _path: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn has(&self, _address: IpAddr) -> bool {
        false
    }

    fn interface(&self, _address: IpAddr) -> Option<u32> {
        None
    }

    fn mtu(&self, _address: IpAddr) -> Option<usize> {
        None
    }

    fn resolve(&self, _name: &str) -> Vec<IpAddr> {
        Vec::new()
    }
}

/// Asks for the MTU of the way to a multicast group: unlike the way to a host it cannot lead over
/// another interface than that of the address. Nothing is sent.
fn mtu_ipv4(address: Ipv4Addr) -> io::Result<usize> {
    let socket = UdpSocket::bind((address, 0))?;
    sockopt::set_ip_multicast_if(&socket, &address)?;
    socket.connect((Ipv4Addr::new(224, 0, 0, 1), 9))?;
    Ok(sockopt::ip_mtu(&socket)? as usize)
}

fn mtu_ipv6(address: Ipv6Addr) -> Option<usize> {
    let list = std::fs::read_to_string(inet6::LIST).ok()?;
    let interface = inet6::interface_of(&list, address)?.name;
    let mtu = std::fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{interface}/mtu")).ok()?;
    mtu.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_here_and_has_large_frames() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(ThisHost.has(loopback));
        assert!(ThisHost.has("127.3.2.1".parse().unwrap()));
        assert!(is_own(Ipv6Addr::LOCALHOST.into()));
        assert!(ThisHost.mtu(loopback).unwrap() >= 1_500);
        assert!(ThisHost.resolve("127.0.0.1").contains(&loopback));
    }

    #[test]
    fn addresses_of_nobody_are_not_here() {
        let elsewhere: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(!ThisHost.has(elsewhere));
        assert!(!is_own(elsewhere), "whatever may be bound");
        assert!(!is_own("2001:db8::1".parse().unwrap()));
        assert_eq!(ThisHost.mtu(elsewhere), None);
        assert_eq!(ThisHost.mtu("2001:db8::1".parse().unwrap()), None);
        assert!(!ThisHost.has("fe80::4d:5".parse().unwrap()));
        assert_eq!(ThisHost.interface("fe80::4d:5".parse().unwrap()), None);
    }
}
