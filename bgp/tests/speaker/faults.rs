//! What each malformed UPDATE costs: RFC 7606 and its relatives, row by row.

use std::time::{Duration, Instant};

use isocast_bgp::types::{Asn, Family, FamilySet, PeerKind};
use isocast_bgp::wire::{
    as_path::AsnWidth,
    community::Communities,
    next_hop::NextHop,
    update::{self, Codec, Update},
};

use crate::vectors::*;

/// What became of 192.0.2.1/32 and the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cost {
    /// Nothing: no fault.
    None,
    /// An attribute.
    Attribute,
    /// The route.
    Route,
    /// The session, with this subcode.
    Session(u8),
}

fn cost(body: &[u8], codec: &Codec) -> Cost {
    match update::decode(body, codec) {
        Err(fault) => Cost::Session(fault.notification().subcode),
        Ok(update) if update.reach.is_empty() => Cost::Route,
        Ok(update) if update.faults.is_empty() => Cost::None,
        Ok(_) => Cost::Attribute,
    }
}

/// An announcement of 192.0.2.1/32 with some attributes left out and others added.
fn announcement(without: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    body(&[], &attributes(without, others), &NLRI)
}

fn decoded(body: &[u8]) -> Update {
    update::decode(body, &EXTERNAL).unwrap()
}

#[test]
fn attribute_faults_cost_what_rfc_7606_says() {
    use Cost::{Attribute, None, Route};
    let replaced =
        |flags, code, value: &[u8]| announcement(&[code], &[attribute(flags, code, value)]);
    let added = |flags, code, value: &[u8]| announcement(&[], &[attribute(flags, code, value)]);
    let cases = [
        ("nothing wrong", announcement(&[], &[]), None),
        ("ORIGIN 7", replaced(WELL_KNOWN, 1, &[7]), Route),
        ("ORIGIN of two octets", replaced(WELL_KNOWN, 1, &[0, 0]), Route),
        ("ORIGIN empty", replaced(WELL_KNOWN, 1, &[]), Route),
        ("ORIGIN optional", replaced(OPTIONAL, 1, &[0]), Route),
        ("ORIGIN partial", replaced(0x60, 1, &[0]), Route),
        ("ORIGIN missing", announcement(&[1], &[]), Route),
        ("AS_PATH overrun", replaced(WELL_KNOWN, 2, &[2, 9, 0, 0, 0, 1]), Route),
        ("AS_PATH segment of no hops", replaced(WELL_KNOWN, 2, &[2, 0]), Route),
        ("AS_PATH segment type 9", replaced(WELL_KNOWN, 2, &[9, 1, 0, 0, 0, 1]), Route),
        ("AS_PATH with a lone octet", replaced(WELL_KNOWN, 2, &[2]), Route),
        ("AS_PATH with AS 0", replaced(WELL_KNOWN, 2, &[2, 1, 0, 0, 0, 0]), Route),
        ("AS_PATH with a set", replaced(WELL_KNOWN, 2, &[1, 1, 0, 0, 0, 1]), Route),
        ("AS_PATH of a confederation", replaced(WELL_KNOWN, 2, &[3, 1, 0, 0, 0, 1]), Route),
        ("AS_PATH empty", replaced(WELL_KNOWN, 2, &[]), Route),
        ("AS_PATH missing", announcement(&[2], &[]), Route),
        ("AS_PATH partial", replaced(0x60, 2, &[2, 1, 0, 0, 0, 1]), Route),
        ("NEXT_HOP of three octets", replaced(WELL_KNOWN, 3, &[10, 0, 0]), Route),
        ("NEXT_HOP of five octets", replaced(WELL_KNOWN, 3, &[10, 0, 0, 1, 0]), Route),
        ("NEXT_HOP missing", announcement(&[3], &[]), Route),
        ("NEXT_HOP 0.0.0.0", replaced(WELL_KNOWN, 3, &[0, 0, 0, 0]), Route),
        ("NEXT_HOP loopback", replaced(WELL_KNOWN, 3, &[127, 0, 0, 1]), Route),
        ("NEXT_HOP multicast", replaced(WELL_KNOWN, 3, &[224, 0, 0, 1]), Route),
        ("MED of three octets", added(OPTIONAL, 4, &[0, 0, 1]), Route),
        ("MED transitive", added(TRANSITIVE, 4, &[0, 0, 0, 1]), Route),
        ("LOCAL_PREF from another AS", added(WELL_KNOWN, 5, &[0, 0, 0, 100]), Attribute),
        ("LOCAL_PREF short, from another AS", added(WELL_KNOWN, 5, &[0, 0, 1]), Attribute),
        ("ATOMIC_AGGREGATE of one octet", added(WELL_KNOWN, 6, &[1]), Attribute),
        ("ATOMIC_AGGREGATE optional", added(OPTIONAL, 6, &[]), Route),
        ("AGGREGATOR of three octets", added(TRANSITIVE, 7, &[0, 0, 1]), Attribute),
        ("AGGREGATOR of the old size", added(TRANSITIVE, 7, &[0, 1, 10, 0, 0, 1]), Attribute),
        ("AGGREGATOR AS 0", added(TRANSITIVE, 7, &[0, 0, 0, 0, 10, 0, 0, 1]), Attribute),
        ("COMMUNITIES empty", added(TRANSITIVE, 8, &[]), Route),
        ("COMMUNITIES of five octets", added(TRANSITIVE, 8, &[0, 1, 0, 1, 0]), Route),
        ("COMMUNITIES not transitive", added(OPTIONAL, 8, &[0, 1, 0, 1]), Route),
        ("COMMUNITIES partial", added(0xe0, 8, &[0, 1, 0, 1]), None),
        ("ORIGINATOR_ID from another AS", added(OPTIONAL, 9, &[1, 2]), Attribute),
        ("CLUSTER_LIST from another AS", added(OPTIONAL, 10, &[]), Attribute),
        ("EXTENDED COMMUNITIES of seven", added(TRANSITIVE, 16, &[0; 7]), Route),
        ("EXTENDED COMMUNITIES empty", added(TRANSITIVE, 16, &[]), Route),
        ("AS4_PATH malformed", added(TRANSITIVE, 17, &[2, 3, 0, 0]), Attribute),
        ("AS4_AGGREGATOR short", added(TRANSITIVE, 18, &[0, 0]), Attribute),
        ("LARGE_COMMUNITY of eleven", added(TRANSITIVE, 32, &[0; 11]), Route),
        ("LARGE_COMMUNITY empty", added(TRANSITIVE, 32, &[]), Route),
        ("ONLY_TO_CUSTOMER of three", added(TRANSITIVE, 35, &[0, 0, 1]), Route),
        ("unknown well-known", added(WELL_KNOWN, 99, &[1]), Route),
        ("unknown transitive", added(TRANSITIVE, 254, &[1; 40]), None),
        ("unknown not transitive", added(OPTIONAL, 99, &[1]), None),
        ("tunnel encapsulation, corrupt", added(TRANSITIVE, 23, &[0, 1, 0, 99, 1]), None),
        ("prefix SID, TLV overrun", added(TRANSITIVE, 40, &[1, 0, 200, 1]), None),
        ("AIGP of one octet", added(OPTIONAL, 26, &[1]), None),
        ("duplicate ORIGIN", added(WELL_KNOWN, 1, &[2]), Attribute),
        ("no attributes at all", body(&[], &[], &NLRI), Route),
        ("an unknown one alone", body(&[], &attribute(TRANSITIVE, 254, &[1]), &NLRI), Route),
        ("an attribute that overruns the list", announcement(&[], &[vec![0x40, 6, 9]]), Route),
        ("an attribute of two octets", announcement(&[], &[vec![0x40, 6]]), Route),
        ("a long attribute of three octets", announcement(&[], &[vec![0xd0, 8, 0]]), Route),
        (
            "MP_UNREACH beside NLRI without mandatory attributes",
            body(&[], &attribute(OPTIONAL, 15, &[0, 2, 1]), &NLRI),
            Route,
        ),
    ];
    for (name, body, expected) in cases {
        assert_eq!(cost(&body, &EXTERNAL), expected, "{name}");
    }
}

#[test]
fn what_cannot_be_framed_costs_the_session() {
    let good = attributes(&[], &[]);
    let overrun = [good.as_slice(), &[0x40, 6, 9]].concat();
    let v6 = |next_hop: &[u8], nlri: &[u8]| attributes(&[3], &[mp_reach(next_hop, nlri)]);
    let cut = |value: &[u8]| attributes(&[3], &[attribute(OPTIONAL, 14, value)]);
    let unreach = attribute(OPTIONAL, 15, &[0, 2, 1]);
    let reach = mp_reach(&NEXT_HOP_V6, &NLRI_V6);
    // 7 octets in all, yet the lengths add up modulo 65536.
    let mut wrapping = vec![0xff, 0xff, 0, 0, 0, 0, 0];
    wrapping.resize(36, 0);
    let cases: [(&str, Vec<u8>, u8); 19] = [
        ("empty", vec![], 1),
        ("withdrawn length cut", vec![0], 1),
        ("withdrawn overrun", vec![0, 9, 0, 0], 1),
        ("no attribute length", vec![0, 0, 0], 1),
        ("attribute overrun", vec![0, 0, 0, 9, 0], 1),
        ("lengths that wrap", wrapping, 1),
        ("withdrawn prefix of 33 bits", body(&[33, 1, 2, 3, 4, 5], &[], &[]), 10),
        ("withdrawn prefix cut", body(&[24, 1], &[], &[]), 10),
        ("prefix of 33 bits", body(&[], &good, &[33, 1, 2, 3, 4, 5]), 10),
        ("prefix cut", body(&[], &good, &[24, 1]), 10),
        ("overrun and no prefixes", body(&[], &overrun, &[]), 1),
        ("End-of-RIB with a bad ORIGIN", body(&[], &attribute(WELL_KNOWN, 1, &[7]), &[]), 6),
        ("IPv6 next hop of no octets", body(&[], &v6(&[], &NLRI_V6), &[]), 9),
        ("IPv6 next hop of four octets", body(&[], &v6(&[0; 4], &NLRI_V6), &[]), 9),
        ("IPv6 next hop overrun", body(&[], &cut(&[0, 2, 1, 255, 0]), &[]), 9),
        ("MP_REACH of four octets", body(&[], &cut(&[0, 2, 1, 16]), &[]), 9),
        ("MP_UNREACH of two octets", body(&[], &attribute(OPTIONAL, 15, &[0, 2]), &[]), 9),
        ("two MP_UNREACH", body(&[], &[unreach.clone(), unreach].concat(), &[]), 1),
        ("two MP_REACH", body(&[], &attributes(&[3], &[reach.clone(), reach]), &[]), 1),
    ];
    for (name, body, subcode) in cases {
        assert_eq!(cost(&body, &EXTERNAL), Cost::Session(subcode), "{name}");
    }
}

#[test]
fn unreadable_prefixes_cost_their_family_or_the_session_if_it_is_the_only_one() {
    let body = body(&[], &attributes(&[3], &[mp_reach(&NEXT_HOP_V6, &[200, 1])]), &[]);
    let alone = Codec { families: FamilySet { ipv4: false, ipv6: true }, ..EXTERNAL };

    let update = decoded(&body);

    assert_eq!(update.disabled, FamilySet { ipv4: false, ipv6: true });
    assert!(update.reach.is_empty());
    assert_eq!(cost(&body, &alone), Cost::Session(1));
}

#[test]
fn a_martian_ipv6_next_hop_withdraws_its_prefixes() {
    for next_hop in [
        [0; 16],
        [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1],
    ] {
        let update = decoded(&body(&[], &attributes(&[3], &[mp_reach(&next_hop, &NLRI_V6)]), &[]));

        assert_eq!(update.withdrawn, ["2001:db8::/32".parse().unwrap()]);
        assert!(update.reach.is_empty());
    }
}

#[test]
fn what_was_not_negotiated_is_ignored() {
    let v4_only = Codec { families: FamilySet { ipv4: true, ipv6: false }, ..EXTERNAL };
    let v6_only = Codec { families: FamilySet { ipv4: false, ipv6: true }, ..EXTERNAL };
    let flowspec = attribute(OPTIONAL, 14, &[0, 1, 133, 0, 0, 0]);
    let evpn = attribute(OPTIONAL, 15, &[0, 25, 70, 1, 2, 3]);
    let cases = [
        (body(&[], &attributes(&[3], &[mp_reach(&NEXT_HOP_V6, &[200])]), &[]), v4_only),
        (body(&NLRI, &attributes(&[], &[]), &NLRI), v6_only),
        (body(&[], &attributes(&[3], &[flowspec]), &[]), EXTERNAL),
        (body(&[], &evpn, &[]), EXTERNAL),
    ];
    for (body, codec) in cases {
        let update = update::decode(&body, &codec).unwrap();

        assert!(update.reach.is_empty() && update.withdrawn.is_empty(), "{update:?}");
    }
}

#[test]
fn both_forms_of_end_of_rib_are_recognised() {
    let empty = body(&[], &[], &[]);
    let unreach = body(&[], &attribute(OPTIONAL, 15, &[0, 2, 1]), &[]);

    assert_eq!(decoded(&empty).end_of_rib, Some(Family::Ipv4Unicast));
    assert_eq!(decoded(&unreach).end_of_rib, Some(Family::Ipv6Unicast));
}

#[test]
fn both_next_hops_of_a_shared_link_are_read() {
    let mut next_hop = NEXT_HOP_V6.to_vec();
    next_hop.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);

    let update = decoded(&body(&[], &attributes(&[3], &[mp_reach(&next_hop, &NLRI_V6)]), &[]));

    let global = "2001:db8::1".parse().unwrap();
    let link_local = Some("fe80::9".parse().unwrap());
    assert_eq!(update.reach[0].next_hop, NextHop::V6 { global, link_local });
}

#[test]
fn communities_are_read_and_duplicates_of_an_attribute_are_not() {
    let update = decoded(&announcement(
        &[],
        &[
            attribute(TRANSITIVE, 8, &[0xfd, 0xf2, 0, 100]),
            attribute(TRANSITIVE, 32, &[0, 0, 0xfd, 0xf2, 0, 0, 0, 1, 0, 0, 0, 2]),
            attribute(TRANSITIVE, 8, &[0xfd, 0xf2, 0, 200]),
        ],
    ));

    let expected = Communities::parse(["65010:100", "65010:1:2"]).unwrap();
    assert_eq!(update.attributes.communities, expected);
}

#[test]
fn an_old_speakers_path_is_completed_from_its_shadow_wherever_that_stands() {
    let old = Codec { asn_width: AsnWidth::Two, ..EXTERNAL };
    let path = attribute(WELL_KNOWN, 2, &[2, 2, 0xfd, 0xe9, 0x5b, 0xa0]);
    let shadow = attribute(TRANSITIVE, 17, &[2, 1, 0, 1, 0x11, 0x70]);
    for pair in [[path.clone(), shadow.clone()], [shadow, path]] {
        let update = update::decode(&announcement(&[2], &pair), &old).unwrap();

        assert_eq!(update.attributes.as_path.0, [Asn(65_001), Asn(70_000)]);
    }
}

#[test]
fn inside_an_as_local_pref_counts_and_an_empty_path_is_fine() {
    let internal = Codec { peer_kind: PeerKind::Internal, ..EXTERNAL };
    let others = [attribute(WELL_KNOWN, 2, &[]), attribute(WELL_KNOWN, 5, &[0, 0, 0, 200])];

    let update = update::decode(&announcement(&[2], &others), &internal).unwrap();

    assert_eq!(update.attributes.local_pref, Some(200));
    let short = [attribute(WELL_KNOWN, 5, &[0, 0, 200])];
    assert_eq!(cost(&announcement(&[], &short), &internal), Cost::Route);
}

#[test]
fn a_thousand_communities_are_read_in_a_millisecond() {
    let value: Vec<u8> = (0..1000_u32).flat_map(u32::to_be_bytes).collect();
    let body = announcement(&[], &[attribute(TRANSITIVE | 0x10, 8, &value)]);
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(decoded(&body).attributes.communities.standard.len(), 1000);
    }

    // A debug build on a shared machine: twenty times the figure would still be linear.
    assert!(started.elapsed() < Duration::from_millis(400), "{:?}", started.elapsed());
}
