//! What each malformed UPDATE costs: RFC 7606 and its relatives, row by row.

use std::time::{Duration, Instant};

use isocast_bgp::types::{Asn, Family, FamilySet, PeerKind};
use isocast_bgp::wire::{
    as_path::AsnWidth,
    community::Communities,
    next_hop::NextHop,
    update::{self, Codec, Update},
};

use crate::malformed::{Cost, OWN, announcement, attribute_faults, framing_faults};
use crate::vectors::*;

fn cost(body: &[u8], codec: &Codec) -> Cost {
    match update::decode(body, codec) {
        Err(fault) => Cost::Session(fault.notification(&[]).subcode),
        Ok(update) if update.reach.is_empty() => Cost::Route,
        Ok(update) if update.faults.is_empty() => Cost::None,
        Ok(_) => Cost::Attribute,
    }
}

/// A peer in another AS that is not a route server.
fn external() -> Codec {
    Codec { first_as: Some(Asn(65_001)), local_address: Some(OWN.into()), ..EXTERNAL }
}

/// A peer in our AS.
fn internal() -> Codec {
    Codec { local_address: Some(OWN.into()), ..Codec::new(PeerKind::Internal) }
}

fn decoded(body: &[u8]) -> Update {
    update::decode(body, &EXTERNAL).unwrap()
}

#[test]
fn attribute_faults_cost_what_the_rfcs_say() {
    for (clause, name, change, outside, inside) in attribute_faults() {
        let outcome = cost(&change.body(PeerKind::External), &external());
        assert_eq!(outcome, outside, "RFC {clause}: {name}, from another AS");
        let outcome = cost(&change.body(PeerKind::Internal), &internal());
        assert_eq!(outcome, inside, "RFC {clause}: {name}, from our AS");
    }
}

#[test]
fn a_route_server_need_not_begin_a_path_with_its_own_as() {
    let other = attribute(WELL_KNOWN, 2, &[2, 1, 0, 0, 0xfd, 0xea]);

    assert_eq!(cost(&announcement(&[2], &[other]), &EXTERNAL), Cost::None);
}

#[test]
fn what_cannot_be_framed_costs_the_session() {
    for (clause, name, body, subcode) in framing_faults() {
        for codec in [external(), internal()] {
            assert_eq!(cost(&body, &codec), Cost::Session(subcode), "RFC {clause}: {name}");
        }
    }
}

#[test]
fn the_reserved_octet_of_mp_reach_is_ignored() {
    let mut value = vec![0, 2, 1, 16];
    value.extend(NEXT_HOP_V6);
    value.push(0xff);
    value.extend(NLRI_V6);

    let update = decoded(&body(&[], &attributes(&[3], &[attribute(OPTIONAL, 14, &value)]), &[]));

    assert_eq!((update.reach.len(), update.faults.len()), (1, 0));
}

#[test]
fn a_malformed_next_hop_attribute_beside_mp_reach_withdraws_its_prefixes() {
    let next_hop = attribute(WELL_KNOWN, 3, &[10, 0, 0]);
    let reach = mp_reach(&NEXT_HOP_V6, &NLRI_V6);

    let update = decoded(&body(&[], &attributes(&[3], &[next_hop, reach]), &[]));

    assert_eq!(update.withdrawn, ["2001:db8::/32".parse().unwrap()]);
}

#[test]
fn ipv4_goes_by_an_ipv6_next_hop_where_that_was_agreed() {
    let agreed = Codec { extended_next_hop: true, ..EXTERNAL };
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    for next_hop in [NEXT_HOP_V6.to_vec(), [NEXT_HOP_V6, link_local].concat()] {
        let mut value = vec![0, 1, 1, u8::try_from(next_hop.len()).unwrap()];
        value.extend(&next_hop);
        value.push(0);
        value.extend(NLRI);
        let body = body(&[], &attributes(&[3], &[attribute(OPTIONAL, 14, &value)]), &[]);

        let update = update::decode(&body, &agreed).unwrap();

        assert_eq!(update.reach[0].prefixes, ["192.0.2.1/32".parse().unwrap()]);
        assert_eq!(update.reach[0].next_hop.address().to_string(), "2001:db8::1");
    }
}

#[test]
fn multicast_groups_are_no_destinations_and_cost_nothing_else() {
    let nlri = [[32, 224, 0, 0, 5].as_slice(), &[4, 224], &[3, 224], &NLRI].concat();
    let v6 = [[8, 0xff].as_slice(), &NLRI_V6].concat();
    let reach = mp_reach(&NEXT_HOP_V6, &v6);

    let update = decoded(&body(&[], &attributes(&[], &[reach]), &nlri));

    let prefixes: Vec<_> = update.reach.iter().flat_map(|reach| &reach.prefixes).collect();
    let texts: Vec<_> = prefixes.iter().map(|prefix| prefix.to_string()).collect();
    assert_eq!(texts, ["2001:db8::/32", "224.0.0.0/3", "192.0.2.1/32"]);
    assert!(update.faults.is_empty());
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
    let others = [attribute(WELL_KNOWN, 2, &[]), attribute(WELL_KNOWN, 5, &[0, 0, 0, 200])];

    let update = update::decode(&announcement(&[2], &others), &internal()).unwrap();

    assert_eq!(update.attributes.local_pref, Some(200));
    assert_eq!(update.attributes.as_path.0, []);
}

#[test]
fn an_old_speakers_set_in_as4_path_costs_the_route_and_other_faults_do_not() {
    let old = Codec { asn_width: AsnWidth::Two, ..EXTERNAL };
    let path = attribute(WELL_KNOWN, 2, &[2, 2, 0xfd, 0xe9, 0x5b, 0xa0]);
    let with = |value: &[u8]| announcement(&[2], &[path.clone(), attribute(TRANSITIVE, 17, value)]);

    assert_eq!(cost(&with(&[1, 1, 0, 1, 0x11, 0x70]), &old), Cost::Route);
    assert_eq!(cost(&with(&[2, 9, 0, 1, 0x11, 0x70]), &old), Cost::Attribute);
    assert_eq!(cost(&with(&[2, 1, 0, 1, 0x11]), &old), Cost::Attribute);
}

#[test]
fn shadows_are_outdated_once_an_old_speaker_aggregated() {
    let old = Codec { asn_width: AsnWidth::Two, ..EXTERNAL };
    let path = attribute(WELL_KNOWN, 2, &[2, 2, 0xfd, 0xe9, 0x5b, 0xa0]);
    let shadow = attribute(TRANSITIVE, 17, &[2, 1, 0, 1, 0x11, 0x70]);
    let by = |asn: [u8; 2]| attribute(TRANSITIVE, 7, &[asn[0], asn[1], 10, 0, 0, 1]);
    let by_shadow = attribute(TRANSITIVE, 18, &[0, 1, 0x11, 0x70, 10, 0, 0, 2]);
    let read = |others: &[&Vec<u8>]| {
        let others = [&path, &shadow].into_iter().chain(others.iter().copied());
        let others: Vec<_> = others.cloned().collect();
        update::decode(&announcement(&[2], &others), &old).unwrap().attributes
    };

    let trans = read(&[&by([0x5b, 0xa0]), &by_shadow]);
    assert_eq!(trans.as_path.0, [Asn(65_001), Asn(70_000)]);
    assert_eq!(trans.aggregator.map(|a| a.asn), Some(Asn(70_000)));

    let outdated = read(&[&by([0xfd, 0xe8]), &by_shadow]);
    assert_eq!(outdated.as_path.0, [Asn(65_001), Asn::TRANS]);
    assert_eq!(outdated.aggregator.map(|a| a.asn), Some(Asn(65_000)));

    let alone = read(&[&by([0xfd, 0xe8])]);
    assert_eq!(alone.as_path.0, [Asn(65_001), Asn(70_000)]);
    assert_eq!(read(&[&by_shadow]).aggregator, None);
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
