//! The ready-made outer header of a target.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use isocast_dataplane_common::{
    directory::{Address, mapped},
    encap::{
        ETHERNET_LEN, OVERHEAD_V4, OVERHEAD_V6, PLAIN_V4_LEN, PLAIN_V6_LEN, PORT, UDP_LEN, hlen,
    },
    tables::Target,
};

use crate::tables::Encap;

const UDP: u8 = 17;

/// Six bytes of a link-layer address.
pub type MacAddress = [u8; 6];

/// The way to a target's next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Interface the packets leave by.
    pub interface: u32,
    /// That interface's own address.
    pub source_mac: MacAddress,
    /// The next hop's address.
    pub destination_mac: MacAddress,
    /// Longest IP packet that fits: the route's MTU, at most the interface's.
    pub mtu: u32,
    /// The 802.1Q tag that packets leave with.
    pub vlan: Option<u16>,
}

impl NextHop {
    /// This node itself: nothing is sent.
    pub const HERE: Self = Self {
        interface: 0,
        source_mac: [0; 6],
        destination_mac: [0; 6],
        mtu: u32::MAX,
        vlan: None,
    };
}

/// Addresses of a tunnel, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    V4 { source: Ipv4Addr, destination: Ipv4Addr },
    V6 { source: Ipv6Addr, destination: Ipv6Addr },
}

/// A target that nothing is sent to yet: its addresses are known, the next hop is not.
///
/// `None` when this node has no tunnel address of the destination's family.
pub(crate) fn target(
    destination: IpAddr,
    own_addresses: &[IpAddr],
    key_tag: u32,
    encap: Encap,
) -> Option<Target> {
    let ends = own_addresses.iter().find_map(|&source| match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Ends::V4 { source, destination }),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Ends::V6 { source, destination }),
        _ => None,
    })?;
    let mut header = Vec::with_capacity(96);
    header.extend([0; ETHERNET_LEN - 2]);
    // The packet says which family it is, where nothing else stands between.
    let (mut flags, protocol) = match encap {
        Encap::Gue => (0, UDP),
        Encap::Ip => (Target::PLAIN, 0),
    };
    let mut ipv4_sum = 0;
    match ends {
        Ends::V4 { source, destination } => {
            const DONT_FRAGMENT: [u8; 2] = [0x40, 0];
            const TTL: u8 = 64;
            header.extend(0x0800_u16.to_be_bytes());
            header.extend([0x45, 0, 0, 0, 0, 0]);
            header.extend(DONT_FRAGMENT);
            header.extend([TTL, protocol, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            ipv4_sum = sum(header.get(ETHERNET_LEN..).unwrap_or_default());
        }
        Ends::V6 { source, destination } => {
            const HOP_LIMIT: u8 = 64;
            flags |= Target::IPV6;
            header.extend(0x86dd_u16.to_be_bytes());
            header.extend([0x60, 0, 0, 0, 0, 0, protocol, HOP_LIMIT]);
            header.extend(source.octets());
            header.extend(destination.octets());
        }
    }
    if encap == Encap::Gue {
        let mut udp = [0; UDP_LEN];
        udp[2..4].copy_from_slice(&PORT.to_be_bytes());
        header.extend(udp);
        header.extend([hlen(0), 0, 0, 0, 0, 0, 0, 0]);
        header.extend(key_tag.to_ne_bytes());
    }
    if own_addresses.contains(&destination) {
        flags |= Target::LOCAL;
    }
    let mut target =
        Target { flags, ipv4_sum, address: address_words(destination), ..Target::default() };
    for (word, bytes) in target.header.iter_mut().zip(header.chunks(8)) {
        let mut padded = [0; 8];
        for (to, from) in padded.iter_mut().zip(bytes) {
            *to = *from;
        }
        *word = u64::from_ne_bytes(padded);
    }
    Some(target)
}

/// Writes what is known of the next hop into a target.
pub(crate) fn set_next_hop(target: &mut Target, next_hop: Option<&NextHop>) {
    target.flags &= !(Target::READY | Target::TAG);
    let Some(next_hop) = next_hop else { return };
    target.flags |= Target::READY | next_hop.vlan.map_or(0, Target::tag);
    target.interface = next_hop.interface;
    target.room = room(target.flags, next_hop.mtu);
    let [first, second, ..] = &mut target.header;
    let [a, b, c, d, e, f] = next_hop.destination_mac;
    let [g, h, i, j, k, l] = next_hop.source_mac;
    let [_, _, _, _, m, n, o, p] = second.to_ne_bytes();
    *first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    *second = u64::from_ne_bytes([i, j, k, l, m, n, o, p]);
}

/// What is left for an inner packet: the longest chain of further hops is always allowed for, so
/// that what fits a slot at rest fits it in transition.
fn room(flags: u32, mtu: u32) -> u32 {
    let overhead = match (encap_of(flags), flags & Target::IPV6 != 0) {
        (Encap::Gue, false) => OVERHEAD_V4,
        (Encap::Gue, true) => OVERHEAD_V6,
        (Encap::Ip, false) => PLAIN_V4_LEN,
        (Encap::Ip, true) => PLAIN_V6_LEN,
    };
    mtu.saturating_sub(u32::try_from(overhead).unwrap_or(u32::MAX))
}

/// What a target with these flags is sent its packets in.
pub(crate) const fn encap_of(flags: u32) -> Encap {
    if flags & Target::PLAIN == 0 { Encap::Gue } else { Encap::Ip }
}

/// An address as the kernel's tables hold it.
pub(crate) fn address_words(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => mapped(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(address.octets().chunks_exact(4)) {
                *word = u32::from_ne_bytes(bytes.try_into().unwrap_or_default());
            }
            words
        }
    }
}

/// The address that [`address_words`] was made from.
pub(crate) fn address_of(words: &Address) -> IpAddr {
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ipv6Addr::from(octets).to_canonical()
}

/// Sum of the 16-bit words, not folded.
fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_ne_bytes(pair.try_into().unwrap_or_default())))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn addresses_survive_the_way_into_the_tables_and_back() {
        for text in ["192.0.2.1", "2001:db8::1", "::1", "255.255.255.255"] {
            assert_eq!(address_of(&address_words(address(text))), address(text));
        }
    }

    #[test]
    fn outer_family_is_the_destinations() {
        let own = [address("10.0.0.1"), address("2001:db8::1")];

        let v4 = target(address("10.0.0.2"), &own, 0, Encap::Gue).expect("v4");
        let v6 = target(address("2001:db8::2"), &own, 0, Encap::Ip).expect("v6");

        assert_eq!(v4.flags & Target::IPV6, 0);
        assert_eq!(v6.flags & Target::IPV6, Target::IPV6);
        assert!(target(address("2001:db8::2"), &own[..1], 0, Encap::Gue).is_none());
    }

    #[test]
    fn own_address_is_local() {
        let own = [address("10.0.0.1")];

        assert_eq!(target(own[0], &own, 0, Encap::Gue).expect("target").flags, Target::LOCAL);
    }

    #[test]
    fn room_is_what_the_outer_header_with_a_chain_of_further_hops_leaves() {
        let own = [address("10.0.0.1"), address("2001:db8::1")];
        let next_hop = |mtu| NextHop {
            interface: 3,
            source_mac: [1; 6],
            destination_mac: [2; 6],
            mtu,
            vlan: None,
        };
        for (destination, encap, mtu, room) in [
            ("10.0.0.2", Encap::Gue, 1500, 1448),
            ("2001:db8::2", Encap::Gue, 1500, 1392),
            ("10.0.0.2", Encap::Gue, 51, 0),
            ("2001:db8::2", Encap::Gue, u32::MAX, u32::MAX - 108),
            ("10.0.0.2", Encap::Ip, 1500, 1480),
            ("2001:db8::2", Encap::Ip, 1500, 1460),
        ] {
            let mut target = target(address(destination), &own, 0, encap).expect("target");
            set_next_hop(&mut target, Some(&next_hop(mtu)));
            assert_eq!(target.room, room, "{destination} {mtu}");
        }
    }

    #[test]
    fn next_hop_comes_and_goes_without_touching_the_rest() {
        let own = [address("10.0.0.1")];
        let mut target = target(address("10.0.0.2"), &own, 7, Encap::Gue).expect("target");
        let before = target;
        let next_hop = NextHop {
            interface: 3,
            source_mac: [1; 6],
            destination_mac: [2; 6],
            mtu: 1500,
            vlan: None,
        };

        set_next_hop(&mut target, Some(&next_hop));
        assert_eq!(target.flags, Target::READY);
        assert_eq!(target.header[0].to_ne_bytes(), [2, 2, 2, 2, 2, 2, 1, 1]);
        assert_eq!(target.header[1].to_ne_bytes(), [1, 1, 1, 1, 8, 0, 0x45, 0]);
        assert_eq!(target.header[2..], before.header[2..]);

        set_next_hop(&mut target, Some(&NextHop { vlan: Some(100), ..next_hop }));
        assert_eq!(target.flags & Target::TAGGED, Target::TAGGED);
        assert_eq!(Target::tag_of(target.flags), 100);

        set_next_hop(&mut target, None);
        assert_eq!(target.flags, 0);
    }
}
