//! Which addresses a callback may connect to: public ones, and those that an operator named. Pure.
//!
//! The tables follow the special-purpose registries of IANA. What stands in one of them is not
//! public, or carries an IPv4 address that another machine unpacks. Of IPv6 only global unicast
//! (2000::/3) is public at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use config::callbacks::{CallbackRules, Network};

/// Blocks of IPv4 that are not public.
const IPV4: [(Network, &str); 16] = [
    (Network::v4(0, 0, 0, 0, 8), "of this network"),
    (Network::v4(10, 0, 0, 0, 8), "private"),
    (Network::v4(100, 64, 0, 0, 10), "of a carrier's shared network"),
    (Network::v4(127, 0, 0, 0, 8), "loopback"),
    (Network::v4(169, 254, 0, 0, 16), "link-local"),
    (Network::v4(172, 16, 0, 0, 12), "private"),
    (Network::v4(192, 0, 0, 0, 24), "of protocol assignments"),
    (Network::v4(192, 0, 2, 0, 24), "of documentation"),
    (Network::v4(192, 88, 99, 0, 24), "a 6to4 relay"),
    (Network::v4(192, 168, 0, 0, 16), "private"),
    (Network::v4(198, 18, 0, 0, 15), "of benchmarks"),
    (Network::v4(198, 51, 100, 0, 24), "of documentation"),
    (Network::v4(203, 0, 113, 0, 24), "of documentation"),
    (Network::v4(224, 0, 0, 0, 4), "multicast"),
    (Network::v4(255, 255, 255, 255, 32), "broadcast"),
    (Network::v4(240, 0, 0, 0, 4), "reserved"),
];

/// NAT64 (RFC 6052): IPv4 addresses in the last 32 bits.
const NAT64: Network = Network::v6(0x64, 0xff9b, 0, 0, 96);

/// The whole of IPv6 that may be global unicast.
const GLOBAL_UNICAST: Network = Network::v6(0x2000, 0, 0, 0, 3);

/// Blocks of IPv6 that are not public. The first that has an address names it.
const IPV6: [(Network, &str); 16] = [
    (Network::v6(0, 0, 0, 0, 128), "unspecified"),
    (Network::MAPPED, "an IPv4 address in IPv6 form"),
    // ::1 among them
    (Network::v6(0, 0, 0, 0, 96), "loopback or an IPv4 address in IPv6 form"),
    (NAT64, "an IPv4 address behind NAT64"),
    (Network::v6(0x64, 0xff9b, 1, 0, 48), "an IPv4 address behind a local NAT64"),
    (Network::v6(0x100, 0, 0, 0, 32), "discard-only"),
    (Network::v6(0x2001, 0, 0, 0, 32), "an IPv4 address behind Teredo"),
    (Network::v6(0x2001, 0, 0, 0, 23), "of protocol assignments"),
    (Network::v6(0x2001, 0xdb8, 0, 0, 32), "of documentation"),
    (Network::v6(0x2002, 0, 0, 0, 16), "an IPv4 address behind 6to4"),
    (Network::v6(0x3fff, 0, 0, 0, 20), "of documentation"),
    (Network::v6(0x5f00, 0, 0, 0, 16), "a segment of routing"),
    (Network::v6(0xfc00, 0, 0, 0, 7), "unique local"),
    (Network::v6(0xfe80, 0, 0, 0, 10), "link-local"),
    (Network::v6(0xfec0, 0, 0, 0, 10), "site-local"),
    (Network::v6(0xff00, 0, 0, 0, 8), "multicast"),
];

/// What an address is, if it is not public.
fn special(address: IpAddr) -> Option<&'static str> {
    let table: &[(Network, &str)] = if address.is_ipv4() { &IPV4 } else { &IPV6 };
    let found = table.iter().find(|(network, _)| network.contains(address)).map(|(_, kind)| *kind);
    found.or_else(|| (address.is_ipv6() && !GLOBAL_UNICAST.contains(address)).then_some("not global unicast"))
}

/// The IPv4 address that a machine on the way unpacks, if the address is of a kind that an operator
/// can have a use for.
fn unpacked(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(address) = address else { return None };
    let packed = NAT64.contains(address.into()) || Network::MAPPED.contains(address.into());
    packed.then(|| Ipv4Addr::from_bits(low_bits(address)).into())
}

fn low_bits(address: Ipv6Addr) -> u32 {
    let [.., a, b, c, d] = address.octets();
    u32::from_be_bytes([a, b, c, d])
}

/// Why a name that resolves to this address is refused; `None` if it may be connected to. Where a
/// network is named that carries IPv4 addresses, the IPv4 address counts as well.
pub fn refused(address: IpAddr, rules: &CallbackRules) -> Option<&'static str> {
    let kind = special(address)?;
    if !rules.names_address(address) {
        return Some(kind);
    }
    let inner = unpacked(address)?;
    special(inner).filter(|_| !rules.names_address(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(networks: &[&str]) -> CallbackRules {
        let networks: Vec<String> = networks.iter().map(|&network| network.to_owned()).collect();
        CallbackRules::new(&[], &networks)
    }

    /// One row for each block: its first and last address, the neighbours outside of it that are
    /// public, and what it is.
    const ROWS: [(&str, &str, &str, &str, &str); 31] = [
        ("0.0.0.0", "0.255.255.255", "", "1.0.0.0", "of this network"),
        ("10.0.0.0", "10.255.255.255", "9.255.255.255", "11.0.0.0", "private"),
        ("100.64.0.0", "100.127.255.255", "100.63.255.255", "100.128.0.0", "of a carrier's shared network"),
        ("127.0.0.0", "127.255.255.255", "126.255.255.255", "128.0.0.0", "loopback"),
        ("169.254.0.0", "169.254.255.255", "169.253.255.255", "169.255.0.0", "link-local"),
        ("172.16.0.0", "172.31.255.255", "172.15.255.255", "172.32.0.0", "private"),
        ("192.0.0.0", "192.0.0.255", "191.255.255.255", "192.0.1.0", "of protocol assignments"),
        ("192.0.2.0", "192.0.2.255", "192.0.1.255", "192.0.3.0", "of documentation"),
        ("192.88.99.0", "192.88.99.255", "192.88.98.255", "192.88.100.0", "a 6to4 relay"),
        ("192.168.0.0", "192.168.255.255", "192.167.255.255", "192.169.0.0", "private"),
        ("198.18.0.0", "198.19.255.255", "198.17.255.255", "198.20.0.0", "of benchmarks"),
        ("198.51.100.0", "198.51.100.255", "198.51.99.255", "198.51.101.0", "of documentation"),
        ("203.0.113.0", "203.0.113.255", "203.0.112.255", "203.0.114.0", "of documentation"),
        ("224.0.0.0", "239.255.255.255", "223.255.255.255", "", "multicast"),
        ("240.0.0.0", "255.255.255.254", "", "", "reserved"),
        ("255.255.255.255", "255.255.255.255", "", "", "broadcast"),
        ("::", "::", "", "", "unspecified"),
        ("::1", "::ffff:ffff", "", "", "loopback or an IPv4 address in IPv6 form"),
        ("::ffff:0.0.0.0", "::ffff:255.255.255.255", "", "", "an IPv4 address in IPv6 form"),
        ("64:ff9b::", "64:ff9b::ffff:ffff", "", "", "an IPv4 address behind NAT64"),
        ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "", "", "an IPv4 address behind a local NAT64"),
        ("100::", "100:0:ffff:ffff:ffff:ffff:ffff:ffff", "", "", "discard-only"),
        ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff", "", "", "an IPv4 address behind Teredo"),
        ("2001:1::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "", "2001:200::", "of protocol assignments"),
        ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db7:ffff::", "2001:db9::", "of documentation"),
        ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:ffff::", "2003::", "an IPv4 address behind 6to4"),
        ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", "3ffe:ffff::", "3fff:1000::", "of documentation"),
        ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "", "a segment of routing"),
        ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "", "unique local"),
        ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "", "link-local"),
        ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "", "", "multicast"),
    ];

    #[test]
    fn every_block_that_is_not_public_is_refused_from_its_first_to_its_last_address() {
        let none = rules(&[]);
        for (first, last, before, after, kind) in ROWS {
            for address in [first, last] {
                assert_eq!(refused(address.parse().unwrap(), &none), Some(kind), "{address}");
            }
            for address in [before, after].into_iter().filter(|address| !address.is_empty()) {
                assert_eq!(refused(address.parse().unwrap(), &none), None, "{address}");
            }
        }
        for address in ["fec0::1", "4000::", "8000::1", "1fff:ffff::", "64:ff9b:2::1", "200::1"] {
            assert!(refused(address.parse().unwrap(), &none).is_some(), "{address}");
        }
    }

    #[test]
    fn public_addresses_are_not_refused() {
        for address in
            ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450::1", "2001:4860::8888"]
        {
            assert_eq!(refused(address.parse().unwrap(), &rules(&[])), None, "{address}");
        }
    }

    #[test]
    fn an_ipv4_address_is_refused_in_each_of_its_ipv6_forms() {
        for address in [
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:0:7f00:1::",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(refused(address.parse().unwrap(), &rules(&[])).is_some(), "{address}");
        }
    }

    #[test]
    fn a_named_network_is_allowed_and_nothing_beside_it() {
        let named = rules(&["10.1.2.0/24", "fd00:1::/64", "127.0.0.1/32"]);
        for address in ["10.1.2.0", "10.1.2.255", "fd00:1::7", "127.0.0.1"] {
            assert_eq!(refused(address.parse().unwrap(), &named), None, "{address}");
        }
        for address in
            ["10.1.3.0", "fd00:1:0:1::", "127.0.0.2", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "::1", "::10.1.2.3"]
        {
            assert!(refused(address.parse().unwrap(), &named).is_some(), "{address}");
        }
    }

    #[test]
    fn behind_a_named_nat64_the_ipv4_address_counts() {
        let named = rules(&["64:ff9b::/96", "10.1.2.0/24"]);
        for (address, expected) in [
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b::10.1.2.3", None),
            ("64:ff9b::10.9.9.9", Some("private")),
            ("64:ff9b::169.254.169.254", Some("link-local")),
        ] {
            assert_eq!(refused(address.parse().unwrap(), &named), expected, "{address}");
        }
    }
}
