//! The list of method IP: who may connect, by address. The format is Spread's `spread.access_ip`
//! without its traps; `docs/config.md`, "The access file", has it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::base::limits::ACCESS_RULES_MAX;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The Unix socket.
    Unix,
    /// TCP, from this address.
    Ip(IpAddr),
}

/// Whom method IP admits. The default admits nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    unix: bool,
    networks: Vec<Network>,
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

/// What is wrong with an access file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct AccessError {
    line: usize,
    reason: String,
}

impl AccessList {
    /// Reads an access file, in which a comment may be in any encoding.
    ///
    /// # Errors
    ///
    /// As [`AccessList::parse`].
    pub(super) fn read(bytes: &[u8]) -> Result<Self, AccessError> {
        Self::parse(&String::from_utf8_lossy(bytes))
    }

    /// Reads the text of an access file.
    ///
    /// # Errors
    ///
    /// The first line that is none of the allowed ones.
    pub fn parse(text: &str) -> Result<Self, AccessError> {
        let mut list = Self::default();
        for (i, line) in text.lines().enumerate() {
            let fail = |reason| AccessError { line: i + 1, reason };
            let rule = line.split('#').next().unwrap_or_default().trim();
            // Spread looks at how such a line begins, no further.
            if rule.starts_with("unix") {
                list.unix = true;
            } else if rule.starts_with("local") {
                list.networks.extend(Network::LOCAL);
            } else if !rule.is_empty() {
                list.networks.push(Network::parse(rule).map_err(fail)?);
            }
            if list.networks.len() > ACCESS_RULES_MAX {
                return Err(fail(format!("more than {ACCESS_RULES_MAX} rules")));
            }
        }
        Ok(list)
    }

    /// Whether method IP lets a client from there in.
    pub fn admits(&self, origin: Origin) -> bool {
        match origin {
            Origin::Unix => self.unix,
            Origin::Ip(address) => {
                // A wildcard IPv6 listener may show IPv4 clients in this disguise.
                let address = address.to_canonical();
                self.networks.iter().any(|network| network.contains(address))
            }
        }
    }
}

impl Network {
    /// What `local` stands for.
    const LOCAL: [Self; 2] = [
        Self { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), bits: 8 },
        Self { address: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 },
    ];

    fn parse(rule: &str) -> Result<Self, String> {
        let (address, bits) = match rule.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (rule, None),
        };
        let address: IpAddr = address.parse().map_err(|_error| {
            format!("`{rule}` is not allowed: `unix`, `local`, ADDRESS or ADDRESS/BITS is")
        })?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let Some(bits) = bits else { return Ok(Self { address, bits: longest }) };
        match bits.parse() {
            Ok(bits) if bits <= longest => Ok(Self { address, bits }),
            _ => {
                Err(format!("`{rule}` has a prefix of {bits} bits, but allowed is 0 to {longest}"))
            }
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        // Both sides are masked: in 127.0.0.1/8 the host bits say nothing.
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let ignored = 32 - u32::from(self.bits);
                shifted(network.to_bits().into(), ignored)
                    == shifted(address.to_bits().into(), ignored)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let ignored = 128 - u32::from(self.bits);
                shifted(network.to_bits(), ignored) == shifted(address.to_bits(), ignored)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The address without its last `ignored` bits, of which there may be all.
fn shifted(address: u128, ignored: u32) -> u128 {
    address.checked_shr(ignored).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AccessList {
        AccessList::parse(text).unwrap()
    }

    fn ip(text: &str) -> Origin {
        Origin::Ip(text.parse().unwrap())
    }

    #[test]
    fn nobody_is_admitted_unless_listed() {
        let empty = list("");
        for origin in [Origin::Unix, ip("127.0.0.1"), ip("::1")] {
            assert!(!empty.admits(origin), "{origin:?}");
        }
    }

    #[test]
    fn unix_line_admits_the_unix_socket_alone() {
        let unix = list("unix\n");
        assert!(unix.admits(Origin::Unix));
        assert!(!unix.admits(ip("127.0.0.1")));
        assert!(!list("local").admits(Origin::Unix));
    }

    #[test]
    fn local_line_admits_loopback_of_both_families() {
        let local = list("localhost");
        assert!(local.admits(ip("127.1.2.3")));
        assert!(local.admits(ip("::1")));
        assert!(!local.admits(ip("128.0.0.1")));
        assert!(!local.admits(ip("::2")));
    }

    #[test]
    fn host_bits_of_a_network_do_not_matter() {
        let network = list("  10.1.2.3/8\nfd00::7/16");
        assert!(network.admits(ip("10.200.0.1")));
        assert!(!network.admits(ip("11.1.2.3")));
        assert!(network.admits(ip("fd00:ffff::1")));
        assert!(!network.admits(ip("fd01::1")));
    }

    #[test]
    fn prefix_of_no_bits_admits_its_whole_family() {
        assert!(list("0.0.0.0/0").admits(ip("203.0.113.9")));
        assert!(!list("0.0.0.0/0").admits(ip("2001:db8::1")));
        assert!(list("::/0").admits(ip("2001:db8::1")));
    }

    #[test]
    fn address_without_prefix_is_one_address() {
        let one = list("192.0.2.1");
        assert!(one.admits(ip("192.0.2.1")));
        assert!(one.admits(ip("::ffff:192.0.2.1")));
        assert!(!one.admits(ip("192.0.2.2")));
    }

    #[test]
    fn empty_lines_and_comments_end_nothing() {
        let list = list("# clients\n\n10.0.0.1 # lab\r\n\n10.0.0.2\n");
        assert!(list.admits(ip("10.0.0.1")));
        assert!(list.admits(ip("10.0.0.2")));
    }

    #[test]
    fn bad_line_is_named() {
        for (text, error) in [
            (
                "local\n10.0.0",
                "line 2: `10.0.0` is not allowed: `unix`, `local`, ADDRESS or ADDRESS/BITS is",
            ),
            (
                "10.0.0.1/33",
                "line 1: `10.0.0.1/33` has a prefix of 33 bits, but allowed is 0 to 32",
            ),
            ("::/129", "line 1: `::/129` has a prefix of 129 bits, but allowed is 0 to 128"),
        ] {
            assert_eq!(AccessList::parse(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn too_many_rules_are_refused() {
        let text = "10.0.0.1\n".repeat(ACCESS_RULES_MAX);
        assert!(AccessList::parse(&text).is_ok());
        let error = AccessList::parse(&(text + "10.0.0.2")).unwrap_err();
        assert_eq!(error.to_string(), "line 4097: more than 4096 rules");
    }
}
