//! [`HostAddress`] and [`Prefix`]: what is announced, and the space it is taken from.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use thiserror::Error;

use super::text_type;

/// A single unicast address that clients may be given: announced as a /32 or /128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostAddress(IpAddr);

/// A block of unicast addresses in canonical form: no bit set beyond the prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

/// Why a text is not a [`HostAddress`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidAddress {
    /// A prefix was given.
    #[error(
        "must be a single address such as 203.0.113.10, not a prefix: every service address is \
         announced as its own /32 or /128; blocks of addresses belong in an AddressPool"
    )]
    IsPrefix,
    /// Multicast, loopback, link-local, unspecified, broadcast or IPv4-mapped.
    #[error("must be a unicast address that can be routed to")]
    NotUnicast,
    /// Anything else.
    #[error("must be a single IPv4 or IPv6 address such as 203.0.113.10 or 2001:db8::10")]
    Syntax,
}

/// Why a text is not a [`Prefix`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidPrefix {
    /// Bits beyond the prefix length are set.
    #[error("has bits set beyond its length: did you mean {0}?")]
    HostBits(IpNet),
    /// Holds addresses that cannot be announced.
    #[error("must be a block of unicast addresses that can be routed to")]
    NotUnicast,
    /// Anything else.
    #[error("must be a prefix such as 203.0.113.0/24 or 2001:db8:f::/48")]
    Syntax,
}

/// Blocks that hold no routable unicast address: this network, loopback, link-local, multicast and
/// reserved (RFC 6890), IPv4-mapped (RFC 4291 §2.5.5.2), IPv6 link-local and multicast.
const NOT_UNICAST: [(IpAddr, u8); 9] = [
    (IpAddr::V4(Ipv4Addr::new(0, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 3),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 127),
    (IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

fn is_unicast(block: &IpNet) -> bool {
    let overlaps = |other: IpNet| other.contains(block) || block.contains(&other);
    !NOT_UNICAST.iter().any(|(address, length)| IpNet::new(*address, *length).is_ok_and(overlaps))
}

impl HostAddress {
    /// The address.
    #[must_use]
    pub fn get(self) -> IpAddr {
        self.0
    }

    /// The address as a host route.
    #[must_use]
    pub fn host_route(self) -> IpNet {
        self.0.into()
    }
}

impl TryFrom<IpAddr> for HostAddress {
    type Error = InvalidAddress;

    fn try_from(address: IpAddr) -> Result<Self, InvalidAddress> {
        if is_unicast(&address.into()) {
            Ok(Self(address))
        } else {
            Err(InvalidAddress::NotUnicast)
        }
    }
}

impl FromStr for HostAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if text.parse::<IpNet>().is_ok() {
            return Err(InvalidAddress::IsPrefix);
        }
        text.parse::<IpAddr>().map_err(|_invalid| InvalidAddress::Syntax)?.try_into()
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Prefix {
    /// The prefix.
    #[must_use]
    pub fn get(self) -> IpNet {
        self.0
    }

    /// Whether `address` is inside.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether the two blocks share an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let block: IpNet = text.parse().map_err(|_invalid| InvalidPrefix::Syntax)?;
        if block != block.trunc() {
            return Err(InvalidPrefix::HostBits(block.trunc()));
        }
        if is_unicast(&block) { Ok(Self(block)) } else { Err(InvalidPrefix::NotUnicast) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_type!(HostAddress, "host-address", 45);
text_type!(Prefix, "cidr", 49);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_address_is_one_routable_address() {
        for good in ["203.0.113.10", "2001:db8:f::10", "10.0.0.255"] {
            assert!(good.parse::<HostAddress>().is_ok(), "{good}");
        }
        for prefix in ["203.0.113.0/24", "203.0.113.10/32", "2001:db8::/48"] {
            assert_eq!(prefix.parse::<HostAddress>(), Err(InvalidAddress::IsPrefix), "{prefix}");
        }
        for bad in ["0.0.0.0", "127.0.0.1", "169.254.0.1", "224.0.0.5", "255.255.255.255", "::"] {
            assert_eq!(bad.parse::<HostAddress>(), Err(InvalidAddress::NotUnicast), "{bad}");
        }
        for bad in ["::1", "::ffff:1.2.3.4", "fe80::1", "ff02::5"] {
            assert_eq!(bad.parse::<HostAddress>(), Err(InvalidAddress::NotUnicast), "{bad}");
        }
        for bad in ["", "host", "1.2.3", "1.2.3.4.5", "01.2.3.4"] {
            assert_eq!(bad.parse::<HostAddress>(), Err(InvalidAddress::Syntax), "{bad}");
        }
    }

    #[test]
    fn a_prefix_is_canonical() {
        assert!("203.0.113.0/24".parse::<Prefix>().is_ok());
        assert_eq!(
            "203.0.113.7/24".parse::<Prefix>().unwrap_err().to_string(),
            "has bits set beyond its length: did you mean 203.0.113.0/24?",
        );
        assert_eq!("0.0.0.0/0".parse::<Prefix>(), Err(InvalidPrefix::NotUnicast));
        assert_eq!("203.0.113.0".parse::<Prefix>(), Err(InvalidPrefix::Syntax));
    }
}
