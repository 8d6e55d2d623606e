//! Which IPv6 address our side of a link has.

use std::net::{IpAddr, Ipv6Addr};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};

/// First global IPv6 address of the interface that has `address`; nothing if there is none, or the
/// kernel does not say.
pub(super) fn global_ipv6(address: IpAddr) -> Option<Ipv6Addr> {
    let all: Vec<(String, IpAddr)> = getifaddrs()
        .ok()?
        .filter_map(|entry| Some((entry.interface_name, ip(&entry.address?)?)))
        .collect();
    let (interface, _) = all.iter().find(|(_, own)| *own == address.to_canonical())?;
    all.iter().filter(|(name, _)| name == interface).find_map(|(_, own)| match own {
        IpAddr::V6(own) if is_global(own) => Some(*own),
        _ => None,
    })
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

const fn is_global(address: &Ipv6Addr) -> bool {
    !address.is_loopback() && !address.is_unicast_link_local() && !address.is_multicast()
}
