//! Whatever the quick reader takes, the thorough one reads the same.

use ipnet::IpNet;
use isocast_bgp::types::{Asn, Family, FamilySet, PeerKind};
use isocast_bgp::wire::block::Block;
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::nlri;
use isocast_bgp::wire::reader::Reader;
use isocast_bgp::wire::update::{self, Codec, Reach};
use isocast_bgp::wire::view::UpdateView;
use proptest::prelude::*;

/// One attribute: usually as it should be, sometimes with a byte of it wrong.
fn attribute() -> impl Strategy<Value = Vec<u8>> {
    let asn = || prop_oneof![6 => 1_u32..70_000, 1 => Just(0_u32), 1 => Just(65_000)];
    let path = prop::collection::vec((1_u8..4, prop::collection::vec(asn(), 0..4)), 0..3).prop_map(
        |segments| {
            let mut value = Vec::new();
            for (kind, hops) in segments {
                value.extend([kind.max(2), u8::try_from(hops.len()).unwrap()]);
                value.extend(hops.iter().flat_map(|hop| hop.to_be_bytes()));
            }
            value
        },
    );
    let bytes = |count: usize| prop::collection::vec(any::<u8>(), count..=count);
    let v6 = prop::collection::vec((0_u8..=129, any::<[u8; 17]>()), 0..3).prop_map(|list| {
        list.into_iter()
            .flat_map(|(bits, octets)| {
                std::iter::once(bits)
                    .chain(octets.into_iter().take(usize::from(bits.div_ceil(8))))
                    .collect::<Vec<_>>()
            })
            .collect::<Vec<u8>>()
    });
    let reach = (0_u8..3, v6.clone()).prop_map(|(kind, list)| {
        let mut value = vec![0, 2, 1];
        match kind {
            0 => value.extend([16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            1 => {
                value.extend([32, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
                value.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            }
            _ => value.extend([4, 192, 0, 2, 1]),
        }
        value.push(0);
        value.extend(list);
        value
    });
    let unreach = v6.prop_map(|list| [vec![0, 2, 1], list].concat());
    let known = prop_oneof![
        4 => (0_u8..4).prop_map(|origin| (0x40, 1, vec![origin])),
        6 => path.prop_map(|value| (0x40, 2, value)),
        4 => prop_oneof![5 => Just(vec![192, 0, 2, 1]), 1 => bytes(4)]
            .prop_map(|value| (0x40, 3, value)),
        1 => bytes(4).prop_map(|value| (0x80, 4, value)),
        1 => bytes(4).prop_map(|value| (0x40, 5, value)),
        1 => Just((0x40, 6, Vec::new())),
        1 => bytes(8).prop_map(|value| (0xc0, 7, value)),
        1 => bytes(8).prop_map(|value| (0xc0, 8, value)),
        1 => bytes(4).prop_map(|value| (0x80, 9, value)),
        2 => reach.prop_map(|value| (0x80, 14, value)),
        1 => unreach.prop_map(|value| (0x80, 15, value)),
        1 => bytes(16).prop_map(|value| (0xc0, 16, value)),
        1 => bytes(12).prop_map(|value| (0xc0, 32, value)),
        1 => bytes(4).prop_map(|value| (0xc0, 35, value)),
        1 => (36_u8..255, bytes(3)).prop_map(|(code, value)| (0xc0, code, value)),
        1 => (36_u8..255, bytes(3)).prop_map(|(code, value)| (0x80, code, value)),
    ];
    (known, prop::option::weighted(0.1, (0_usize..8, any::<u8>())), any::<bool>()).prop_map(
        |((flags, code, value), damage, long)| {
            let mut out = if long {
                vec![flags | 0x10, code, 0, u8::try_from(value.len()).unwrap()]
            } else {
                vec![flags, code, u8::try_from(value.len()).unwrap()]
            };
            out.extend(value);
            if let Some((at, byte)) = damage {
                let at = at.min(out.len() - 1);
                out[at] = byte;
            }
            out
        },
    )
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let list = || {
        prop::collection::vec((0_u8..=33, any::<[u8; 5]>()), 0..3).prop_map(|list| {
            list.into_iter()
                .flat_map(|(bits, octets)| {
                    let octets = octets.into_iter().take(usize::from(bits.div_ceil(8)));
                    std::iter::once(bits).chain(octets).collect::<Vec<_>>()
                })
                .collect::<Vec<u8>>()
        })
    };
    (list(), prop::collection::vec(attribute(), 0..7), list()).prop_map(
        |(withdrawn, attributes, announced)| {
            let attributes = attributes.concat();
            let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes();
            [&length(&withdrawn)[..], &withdrawn, &length(&attributes), &attributes, &announced]
                .concat()
        },
    )
}

fn codec() -> impl Strategy<Value = Codec> {
    let kind = prop_oneof![Just(PeerKind::External), Just(PeerKind::Internal)];
    let families = prop_oneof![
        4 => Just(FamilySet::BOTH),
        1 => Just(FamilySet { ipv4: true, ipv6: false }),
        1 => Just(FamilySet { ipv4: false, ipv6: true }),
    ];
    (kind, families, any::<bool>(), any::<bool>()).prop_map(|(kind, families, first, local)| {
        Codec {
            families,
            first_as: first.then_some(Asn(65_000)),
            local_address: local.then_some([192, 0, 2, 1].into()),
            ..Codec::new(kind)
        }
    })
}

fn prefixes(list: &[u8], family: Family) -> Vec<IpNet> {
    nlri::decode(Reader::new(list), family).unwrap()
}

/// What the view says, in the words of the thorough reader.
fn compare(view: &UpdateView<'_>, body: &[u8], codec: &Codec) {
    let update = update::decode(body, codec).unwrap();
    assert!(update.faults.is_empty(), "{:?}", update.faults);
    assert_eq!(view.end_of_rib, update.end_of_rib);
    let mut withdrawn = prefixes(view.withdrawn, Family::Ipv4Unicast);
    if let Some((family, list)) = view.unreach {
        withdrawn.extend(prefixes(list, family));
    }
    assert_eq!(withdrawn, update.withdrawn);
    let mut reached = Vec::new();
    if let Some(reach) = view.reach {
        let prefixes = prefixes(reach.announced, reach.family);
        reached.push(Reach { next_hop: reach.next_hop, prefixes });
    }
    if let Some(address) = view.next_hop {
        let prefixes = prefixes(view.announced, Family::Ipv4Unicast);
        reached.push(Reach { next_hop: NextHop::V4(address), prefixes });
    }
    reached.retain(|reach| !reach.prefixes.is_empty());
    assert_eq!(reached, update.reach);
    if let Some(reach) = update.reach.first() {
        let mut bytes = Vec::new();
        view.write_block(reach.next_hop, &mut bytes);
        let block = Block::from_canonical(&bytes);
        assert_eq!(block.next_hop(), Some(reach.next_hop));
        let mut expected = update.attributes;
        expected.opaque.sort_by_key(|attribute| attribute.code);
        assert_eq!(block.decode(), expected);
        let asns = (0..70_000).step_by(997).chain([65_000]).map(Asn);
        for asn in asns {
            assert_eq!(view.path_contains(asn), expected.as_path.0.contains(&asn));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn the_quick_reader_says_what_the_thorough_one_says(body in body(), codec in codec()) {
        if let Some(view) = UpdateView::read(&body, &codec) {
            compare(&view, &body, &codec);
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm(
        body in prop::collection::vec(any::<u8>(), 0..64),
        codec in codec(),
    ) {
        if let Some(view) = UpdateView::read(&body, &codec) {
            compare(&view, &body, &codec);
        }
    }
}
