//! A host for tests, which touches neither disk nor network.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::host::{Host, Who};
use super::{Config, ConfigError};

pub(super) const ACCESS_FILE: &str = "unix\nlocal\n";

/// The host with addresses 10.0.0.2, fe80::2 and loopback, on Ethernet with jumbo frames, and files
/// in `etc`. It knows the MTU of others: 10.0.0.20 in a tunnel, 2001:db8::20 with the least that
/// IPv6 has, and 10.0.0.21.
pub(super) struct TestHost;

impl Host for TestHost {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.to_str() {
            Some("etc/clients" | "etc/spread.access_ip") => Ok(ACCESS_FILE.into()),
            Some("latin/spread.access_ip") => Ok(b"# caf\xe9\nunix\n".into()),
            Some("locked/spread.access_ip") => Err(io::ErrorKind::PermissionDenied.into()),
            Some("etc/broken") => Ok("local\nnonsense\n".into()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        let own: IpAddr = [10, 0, 0, 2].into();
        self.interface(address).is_some() || address == own || address.is_loopback()
    }

    fn interface(&self, address: IpAddr) -> Option<u32> {
        (address.to_string() == "fe80::2").then_some(3)
    }

    fn mtu(&self, address: IpAddr) -> Option<usize> {
        match address.to_string().as_str() {
            "10.0.0.2" => Some(9_000),
            "10.0.0.20" => Some(1_420),
            "2001:db8::20" => Some(1_280),
            "10.0.0.21" => Some(576),
            _ => None,
        }
    }

    fn resolve(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "known" => vec!["2001:db8::7".parse().unwrap(), "10.0.0.7".parse().unwrap()],
            _ => Vec::new(),
        }
    }
}

pub(super) fn parse_as(text: &str, path: &Path, who: Who) -> Result<Config, ConfigError> {
    super::read(text, path, &TestHost, who)
}
