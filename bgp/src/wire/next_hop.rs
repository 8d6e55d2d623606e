//! Next hops (RFC 4271 §5.1.3, RFC 2545 §3).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::reader::Reader;
use crate::types::Family;

/// Where packets for a prefix go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, with the link-local one that may come beside it.
    V6 {
        /// The global address.
        global: Ipv6Addr,
        /// The link-local address.
        link_local: Option<Ipv6Addr>,
    },
}

impl NextHop {
    /// A next hop of an address that may be one.
    #[must_use]
    pub fn new(address: IpAddr) -> Option<Self> {
        let next_hop = match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(global) => Self::V6 { global, link_local: None },
        };
        next_hop.is_usable().then_some(next_hop)
    }

    /// The family whose prefixes it serves.
    #[must_use]
    pub const fn family(self) -> Family {
        match self {
            Self::V4(_) => Family::Ipv4Unicast,
            Self::V6 { .. } => Family::Ipv6Unicast,
        }
    }

    /// The global address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        match self {
            Self::V4(address) => IpAddr::V4(address),
            Self::V6 { global, .. } => IpAddr::V6(global),
        }
    }

    /// Whether a host could have this address (RFC 4271 §6.3). An IPv4-mapped address names no
    /// host on an IPv6 network: routers take such a route and never install it.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        match self {
            Self::V4(address) => {
                let [first, ..] = address.octets();
                first != 0 && first < 224 && !address.is_loopback()
            }
            Self::V6 { global, link_local } => {
                let unspecified = global.is_unspecified() && link_local.is_none();
                !unspecified
                    && !global.is_loopback()
                    && !global.is_multicast()
                    && global.to_ipv4_mapped().is_none()
            }
        }
    }

    /// Reads the next hop of an MP_REACH_NLRI; nothing if its length is not one of the family's.
    pub(super) fn decode(value: &[u8], family: Family) -> Option<Self> {
        let mut reader = Reader::new(value);
        match (family, value.len()) {
            (Family::Ipv4Unicast, 4) => Some(Self::V4(reader.array::<4>().ok()?.into())),
            (Family::Ipv6Unicast, 16) => {
                Some(Self::V6 { global: reader.array::<16>().ok()?.into(), link_local: None })
            }
            (Family::Ipv6Unicast, 32) => {
                let global = reader.array::<16>().ok()?.into();
                Some(Self::V6 { global, link_local: Some(reader.array::<16>().ok()?.into()) })
            }
            _ => None,
        }
    }

    /// Appends length and value, as MP_REACH_NLRI has them.
    pub(super) fn encode(self, out: &mut Vec<u8>) {
        match self {
            Self::V4(address) => {
                out.push(4);
                out.extend(address.octets());
            }
            Self::V6 { global, link_local: None } => {
                out.push(16);
                out.extend(global.octets());
            }
            Self::V6 { global, link_local: Some(link_local) } => {
                out.push(32);
                out.extend(global.octets());
                out.extend(link_local.octets());
            }
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_no_host_has_are_no_next_hops() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "224.0.0.5",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "ff02::1",
            "::ffff:192.0.2.1",
        ] {
            assert_eq!(NextHop::new(text.parse().unwrap()), None, "{text}");
        }
        for text in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fe80::1"] {
            assert!(NextHop::new(text.parse().unwrap()).is_some(), "{text}");
        }
    }
}
