//! What we say, others read; what they make of it and say in their own words, we read as what we
//! said.

#[path = "../../tests/speaker/strategies.rs"]
mod strategies;

use ipnet::IpNet;
use isocast_bgp::types::PeerKind;
use isocast_bgp::wire::attribute::PathAttributes;
use isocast_bgp::wire::encode;
use isocast_bgp::wire::next_hop::NextHop;
use isocast_bgp::wire::update::{self, Codec};
use isocast_bgp_differential::{Oracle, bgpkit, netgauze, zettabgp};
use proptest::prelude::*;
use strategies::{bodies, path_attributes, reachable};

const CODEC: Codec = Codec::new(PeerKind::External);

fn comes_back(
    oracle: Oracle,
    attributes: &PathAttributes,
    next_hop: NextHop,
    prefixes: &[IpNet],
) -> Result<(), TestCaseError> {
    let mut message = Vec::new();
    let mut prefixes = prefixes.iter().copied().peekable();
    encode::announce(attributes, next_hop, &mut prefixes, &CODEC, &mut message).unwrap();
    let body = bodies(&message).concat();

    let again = oracle(&message).unwrap();

    let (before, after) = (update::decode(&body, &CODEC), update::decode(&again, &CODEC));
    prop_assert_eq!(after, before);
    Ok(())
}

proptest! {
    #[test]
    fn an_announcement_comes_back_from_netgauze(
        attributes in path_attributes(),
        (next_hop, prefixes) in reachable(),
    ) {
        comes_back(netgauze, &attributes, next_hop, &prefixes)?;
    }

    #[test]
    fn an_announcement_comes_back_from_bgpkit_parser(
        attributes in path_attributes(),
        (next_hop, prefixes) in reachable(),
    ) {
        let prefixes: Vec<_> = prefixes.into_iter().filter(|p| p.prefix_len() > 0).collect();
        prop_assume!(!prefixes.is_empty());
        comes_back(bgpkit, &attributes, next_hop, &prefixes)?;
    }

    #[test]
    fn an_announcement_comes_back_from_zettabgp(
        attributes in path_attributes(),
        (next_hop, prefixes) in reachable(),
    ) {
        let next_hop = match next_hop {
            NextHop::V6 { global, .. } => NextHop::V6 { global, link_local: None },
            ipv4 => ipv4,
        };
        let attributes =
            PathAttributes { atomic_aggregate: false, aggregator: None, ..attributes };
        comes_back(zettabgp, &attributes, next_hop, &prefixes)?;
    }
}
