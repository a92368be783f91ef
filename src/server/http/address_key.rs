//! What counts as one address, for the bound of connections.

use std::fmt;
use std::net::IpAddr;

use super::access::PeerAddress;

/// An address: an IPv6 client has a whole /64, and a uid counts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum AddressKey {
    V4([u8; 4]),
    V6([u8; 8]),
    Uid(u32),
}

impl From<&PeerAddress> for AddressKey {
    fn from(address: &PeerAddress) -> AddressKey {
        match address {
            PeerAddress::Unix { uid, .. } => AddressKey::Uid(*uid),
            PeerAddress::Tcp { from, .. } => match from.ip().to_canonical() {
                // a process of this machine can have any of them
                IpAddr::V4(ip) if ip.is_loopback() => AddressKey::V4([127, 0, 0, 1]),
                IpAddr::V4(ip) => AddressKey::V4(ip.octets()),
                IpAddr::V6(ip) => {
                    let mut network = [0; 8];
                    network.copy_from_slice(&ip.octets()[..8]);
                    AddressKey::V6(network)
                }
            },
        }
    }
}

/// The address in logs.
impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Tcp { from, .. } => write!(f, "{}", from.ip().to_canonical()),
            PeerAddress::Unix { uid, .. } => write!(f, "uid:{uid}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_and_both_spellings_of_ipv4_are_one_address() {
        let key = |text: &str| {
            AddressKey::from(&PeerAddress::Tcp { from: text.parse().unwrap(), is_loopback_listener: false })
        };
        assert_eq!(key("192.0.2.1:1"), key("[::ffff:192.0.2.1]:2"));
        assert_eq!(key("[2001:db8::1]:1"), key("[2001:db8::ffff:2]:1"));
        assert_ne!(key("[2001:db8:0:1::1]:1"), key("[2001:db8::1]:1"));
        assert_ne!(key("192.0.2.1:1"), key("192.0.2.2:1"));
        assert_eq!(key("127.0.0.1:1"), key("127.9.8.7:1"));
    }
}
