//! Announcements of every shape that the wire can carry.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use isocast_bgp::types::Asn;
use isocast_bgp::wire::as_path::AsPath;
use isocast_bgp::wire::attribute::{Aggregator, OpaqueAttribute, Origin, PathAttributes};
use isocast_bgp::wire::community::{Communities, Community, ExtendedCommunity, LargeCommunity};
use isocast_bgp::wire::header::{Deframer, MessageType};
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::reader::Reader;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

fn asn() -> impl Strategy<Value = Asn> {
    (1..=u32::MAX).prop_map(Asn)
}

fn communities() -> impl Strategy<Value = Communities> {
    let standard = btree_set(any::<u32>().prop_map(Community), 0..8);
    let extended = btree_set(any::<[u8; 8]>().prop_map(ExtendedCommunity), 0..8);
    let large = btree_set(
        any::<(u32, u32, u32)>().prop_map(|(global, local_1, local_2)| LargeCommunity {
            global,
            local_1,
            local_2,
        }),
        0..8,
    );
    (standard, extended, large).prop_map(|(standard, extended, large)| Communities {
        standard,
        extended,
        large,
    })
}

pub(crate) fn path_attributes() -> impl Strategy<Value = PathAttributes> {
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let aggregator = (asn(), any::<u32>())
        .prop_map(|(asn, address)| Aggregator { asn, address: Ipv4Addr::from(address) });
    // Codes that nobody knows, optional, transitive and partial as a relay leaves them.
    let opaque = vec(any::<u8>(), 0..300)
        .prop_map(|value| vec![OpaqueAttribute { flags: 0xe0, code: 200, value }]);
    (
        origin,
        vec(asn(), 1..40).prop_map(AsPath),
        option::of(any::<u32>()),
        any::<bool>(),
        option::of(aggregator),
        communities(),
        option::of(any::<u32>().prop_map(Asn)),
        prop_oneof![Just(Vec::new()), opaque],
    )
        .prop_map(
            |(origin, as_path, med, atomic_aggregate, aggregator, communities, otc, opaque)| {
                PathAttributes {
                    origin,
                    as_path,
                    med,
                    local_pref: None,
                    atomic_aggregate,
                    aggregator,
                    communities,
                    only_to_customer: otc,
                    opaque,
                }
            },
        )
}

fn v4_prefix() -> impl Strategy<Value = IpNet> {
    // Unicast: multicast groups are no destinations.
    (0..0xe000_0000_u32, 0..=32_u8).prop_map(|(address, length)| {
        IpNet::V4(Ipv4Net::new(address.into(), length).unwrap().trunc())
    })
}

fn v6_prefix() -> impl Strategy<Value = IpNet> {
    (0..0xff_u128 << 120, 0..=128_u8).prop_map(|(address, length)| {
        IpNet::V6(Ipv6Net::new(address.into(), length).unwrap().trunc())
    })
}

pub(crate) fn reachable() -> impl Strategy<Value = (NextHop, Vec<IpNet>)> {
    let v4 = Just(NextHop::V4(Ipv4Addr::new(192, 0, 2, 9)));
    let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9);
    let link_local = option::of(Just(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9)));
    let v6 = link_local.prop_map(move |link_local| NextHop::V6 { global, link_local });
    prop_oneof![(v4, vec(v4_prefix(), 1..1500)), (v6, vec(v6_prefix(), 1..500))]
}

/// The bodies of UPDATEs.
pub(crate) fn bodies(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut deframer = Deframer::default();
    let mut reader = Reader::new(bytes);
    let mut bodies = Vec::new();
    while let Some(message) = deframer.next(&mut reader).unwrap() {
        assert_eq!(message.kind, MessageType::Update);
        bodies.push(message.body.to_vec());
    }
    assert!(reader.is_empty());
    bodies
}
