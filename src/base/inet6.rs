//! The list of a host's IPv6 addresses, as the kernel shows it.

use core::net::Ipv6Addr;

/// Where the list is.
pub const LIST: &str = "/proc/net/if_inet6";

/// The interface that has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface<'t> {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: &'t str,
}

/// The interface that has `address` by the text of the list; of several the first.
pub fn interface_of(list: &str, address: Ipv6Addr) -> Option<Interface<'_>> {
    let is_wanted = |text| u128::from_str_radix(text, 16) == Ok(address.to_bits());
    list.lines().find_map(|line| {
        // Between them are the length of the prefix, the scope, and flags.
        let mut fields = line.split_whitespace();
        fields.next().filter(|&address| is_wanted(address))?;
        let number = u32::from_str_radix(fields.next()?, 16).ok()?;
        Some(Interface { number, name: fields.next_back()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_have_number_and_name() {
        let list = "00000000000000000000000000000001 01 80 10 80       lo\n\
                    fe80000000000000000000000000004d 0a 40 20 80     eth0\n";
        let of = |address: &str| interface_of(list, address.parse().unwrap());
        assert_eq!(of("fe80::4d"), Some(Interface { number: 10, name: "eth0" }));
        assert_eq!(of("::1"), Some(Interface { number: 1, name: "lo" }));
        assert_eq!(of("fe80::4"), None);
        assert_eq!(interface_of("nonsense", Ipv6Addr::LOCALHOST), None);
    }
}
