//! Which next hop each family is announced with.

use std::net::IpAddr;

use crate::fsm::connection::LocalEndpoint;
use crate::types::{Family, PerFamily};
use crate::wire::next_hop::NextHop;
use crate::wire::update::Codec;

/// The configured next hop of each family, else the session's own address, else, for IPv6, the
/// interface's. IPv4 goes by an IPv6 one if there is no other and the peer agreed (RFC 8950).
/// Never an IPv4-mapped one: routers accept it and install nothing.
pub(super) fn derive(
    configured: PerFamily<Option<NextHop>>,
    local: Option<LocalEndpoint>,
    codec: &Codec,
) -> PerFamily<Option<NextHop>> {
    let own = local.map(|local| local.address.to_canonical());
    let global = own.filter(|address| !is_link_local(address));
    let interface = local.and_then(|local| local.interface_ipv6).map(IpAddr::V6);
    let candidates = [global, interface, own];
    let mut next_hops = configured;
    for family in Family::ALL {
        let derived = || {
            let mut hops = candidates.into_iter().flatten().filter_map(NextHop::new);
            hops.find(|hop| hop.family() == family)
        };
        let next_hop = next_hops.get_mut(family);
        let agreed = next_hop.filter(|hop| hop.family() == family || codec.extended_next_hop);
        *next_hop = agreed.or_else(derived);
    }
    if codec.extended_next_hop {
        next_hops.ipv4 = next_hops.ipv4.or(next_hops.ipv6);
    }
    next_hops
}

const fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PeerKind;

    fn derived(configured: Option<&str>, address: &str, interface: Option<&str>) -> [String; 2] {
        with(&Codec::new(PeerKind::External), configured, address, interface)
    }

    fn with(
        codec: &Codec,
        configured: Option<&str>,
        address: &str,
        interface: Option<&str>,
    ) -> [String; 2] {
        let ipv6 = configured.and_then(|text| NextHop::new(text.parse().unwrap()));
        let local = LocalEndpoint {
            address: address.parse().unwrap(),
            interface_ipv6: interface.map(|text| text.parse().unwrap()),
        };
        let hops = derive(PerFamily { ipv4: None, ipv6 }, Some(local), codec);
        [hops.ipv4, hops.ipv6].map(|hop| hop.map(|hop| hop.to_string()).unwrap_or_default())
    }

    #[test]
    fn the_configured_one_goes_before_the_sessions_and_that_before_the_interfaces() {
        let (own, other) = ("2001:db8::1", Some("2001:db8::2"));

        assert_eq!(derived(Some("2001:db8::3"), own, other), ["", "2001:db8::3"]);
        assert_eq!(derived(None, own, other), ["", own]);
        assert_eq!(derived(None, "10.0.0.1", other), ["10.0.0.1", "2001:db8::2"]);
        assert_eq!(derived(None, "fe80::1", other), ["", "2001:db8::2"]);
        assert_eq!(derived(None, "fe80::1", None), ["", "fe80::1"]);
    }

    #[test]
    fn an_ipv4_session_never_makes_a_mapped_ipv6_next_hop() {
        assert_eq!(derived(None, "::ffff:10.0.0.1", None), ["10.0.0.1", ""]);
    }

    #[test]
    fn ipv4_goes_by_an_ipv6_next_hop_only_if_agreed_and_there_is_no_other() {
        let agreed = Codec { extended_next_hop: true, ..Codec::new(PeerKind::External) };

        assert_eq!(with(&agreed, None, "2001:db8::1", None), ["2001:db8::1", "2001:db8::1"]);
        assert_eq!(with(&agreed, None, "fe80::1", None), ["fe80::1", "fe80::1"]);
        let beside = with(&agreed, None, "10.0.0.1", Some("2001:db8::2"));
        assert_eq!(beside, ["10.0.0.1", "2001:db8::2"]);
        assert_eq!(derived(None, "2001:db8::1", None), ["", "2001:db8::1"]);
    }
}
