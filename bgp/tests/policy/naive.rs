//! Terms read word by word, without anything compiled: what every policy is held against.

use ipnet::IpNet;
use isocast_bgp::{
    policy::{
        AsPathMatch, Context, END_OF_POLICY, IpVersion, Match, OriginCode, PrefixRange,
        SessionKind, Set, Term, Then,
    },
    types::{Asn, PeerKind},
    wire::{
        as_path::AsPath,
        attribute::{Origin, PathAttributes},
        community::Communities,
    },
};

/// Name of the deciding term, and the route as it passes.
pub(crate) fn evaluate(
    terms: &[Term],
    prefix: IpNet,
    route: &PathAttributes,
    context: &Context<'_>,
) -> (String, Option<PathAttributes>) {
    let mut route = route.clone();
    for term in terms {
        if !matches(&term.when, prefix, &route, context) {
            continue;
        }
        if term.then == Then::Reject {
            return (term.name.clone(), None);
        }
        apply(&term.set, &mut route, context);
        if term.then == Then::Accept {
            return (term.name.clone(), Some(route));
        }
    }
    (END_OF_POLICY.into(), None)
}

pub(crate) fn in_range(range: &PrefixRange, prefix: &IpNet) -> bool {
    let own = range.prefix.prefix_len();
    let bits = range.prefix.max_prefix_len();
    let (ge, le) = match (range.ge, range.le) {
        (None, None) => (own, own),
        (Some(ge), None) => (ge, bits),
        (None, Some(le)) => (own, le),
        (Some(ge), Some(le)) => (ge, le),
    };
    range.prefix.contains(prefix) && prefix.prefix_len() >= ge && prefix.prefix_len() <= le
}

fn matches(when: &Match, prefix: IpNet, route: &PathAttributes, context: &Context<'_>) -> bool {
    let session = match context.peer_kind {
        PeerKind::External => SessionKind::External,
        PeerKind::Internal => SessionKind::Internal,
    };
    let version = if prefix.addr().is_ipv4() { IpVersion::IPv4 } else { IpVersion::IPv6 };
    let origin = match route.origin {
        Origin::Igp => OriginCode::Igp,
        Origin::Egp => OriginCode::Egp,
        Origin::Incomplete => OriginCode::Incomplete,
    };
    let hop = context.next_hop.map(|hop| hop.address());
    any(&when.prefixes, |range| in_range(range, &prefix))
        && any(&when.communities, |pattern| pattern.matches(&route.communities))
        && path_matches(&when.as_path, &route.as_path.0)
        && any(&when.connections, |it| *it == context.connection)
        && any(&when.sessions, |it| *it == session)
        && any(&when.families, |it| *it == version)
        && any(&when.origins, |it| *it == origin)
        && any(&when.next_hops, |net| hop.is_some_and(|hop| net.contains(&hop)))
        && when.source.is_none_or(|it| it == context.source)
        && when.own_space.is_none_or(|it| it == context.own_space.permit(prefix).is_some())
}

fn path_matches(when: &AsPathMatch, path: &[Asn]) -> bool {
    let length = u16::try_from(path.len()).unwrap();
    let reserved = |asn: &Asn| {
        asn.0 == 0
            || asn.0 == 23_456
            || (64_496..=64_511).contains(&asn.0)
            || (64_512..=65_535).contains(&asn.0)
            || (65_536..=65_551).contains(&asn.0)
            || asn.0 >= 4_200_000_000
    };
    any(&when.contains, |asn| path.contains(&Asn(*asn)))
        && any(&when.origin, |asn| path.last() == Some(&Asn(*asn)))
        && any(&when.neighbour, |asn| path.first() == Some(&Asn(*asn)))
        && any(&when.patterns, |it| it.matches(&AsPath(path.to_vec())))
        && when.length_min.is_none_or(|min| length >= min)
        && when.length_max.is_none_or(|max| length <= max)
        && when.reserved.is_none_or(|wanted| wanted == path.iter().any(reserved))
}

fn apply(set: &Set, route: &mut PathAttributes, context: &Context<'_>) {
    if let Some(preference) = set.local_pref {
        route.local_pref = Some(preference);
    }
    if let Some(med) = set.med {
        route.med = Some(med);
    }
    if let Some(communities) = &set.communities.set {
        route.communities = Communities::default();
        communities.iter().for_each(|it| it.add_to(&mut route.communities));
    }
    for pattern in &set.communities.remove {
        pattern.remove_from(&mut route.communities);
    }
    for pattern in &set.communities.add {
        pattern.add_to(&mut route.communities);
    }
    for _ in 0..set.prepend {
        route.as_path.0.insert(0, context.local_asn);
    }
}

fn any<T>(list: &[T], test: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(test)
}
