//! Whatever the terms and the route: compiled or read word by word, the answer is the same.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use isocast_bgp::{
    policy::{
        AsPathMatch, CommunityEdit, CommunityPattern, Connection, Context, IpVersion, Match,
        OriginCode, PrefixRange, PrefixSet, SessionKind, Set, Source, Term, Then, Verdict, preview,
    },
    types::{Asn, PeerKind},
    wire::{
        as_path::AsPath,
        attribute::{Origin, PathAttributes},
        next_hop::NextHop,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{OWN, naive, net, policy};

/// Few addresses and many lengths, so that prefixes cover one another.
fn any_prefix() -> impl Strategy<Value = IpNet> {
    let v4 = (select(vec![0_u32, 0x0a00_0000, 0x0a80_0000, 0xc000_0200, u32::MAX]), 0..=32_u8)
        .prop_map(|(bits, length)| {
            IpNet::from(Ipv4Net::new(Ipv4Addr::from_bits(bits), length).unwrap().trunc())
        });
    let v6 = (select(vec![0_u128, 0x2001_0db8 << 96, u128::MAX]), 0..=128_u8).prop_map(
        |(bits, length)| {
            IpNet::from(Ipv6Net::new(Ipv6Addr::from_bits(bits), length).unwrap().trunc())
        },
    );
    prop_oneof![2 => v4, 1 => v6]
}

fn any_range() -> impl Strategy<Value = PrefixRange> {
    (any_prefix(), any::<bool>(), any::<bool>(), any::<[prop::sample::Index; 2]>()).prop_map(
        |(prefix, has_ge, has_le, [first, second])| {
            let (own, bits) = (prefix.prefix_len(), prefix.max_prefix_len());
            let within = |index: prop::sample::Index, from: u8| {
                from + u8::try_from(index.index(usize::from(bits - from) + 1)).unwrap()
            };
            let ge = has_ge.then(|| within(first, own));
            let le = has_le.then(|| within(second, ge.unwrap_or(own)));
            PrefixRange { prefix, ge, le }
        },
    )
}

const COMMUNITIES: [&str; 9] = [
    "65010:1",
    "65010:2",
    "1:1",
    "no-export",
    "graceful-shutdown",
    "65010:1:1",
    "65010:2:1",
    "rt:65010:1",
    "soo:65010:2",
];

fn any_communities() -> impl Strategy<Value = Vec<CommunityPattern>> {
    vec(select(COMMUNITIES.to_vec()), 0..3).prop_map(parsed)
}

fn any_patterns() -> impl Strategy<Value = Vec<CommunityPattern>> {
    let stars = ["65010:*", "*:1", "*:*", "65010:*:1", "*:*:*", "rt:*:*", "soo:65010:*"];
    vec(select([COMMUNITIES.as_slice(), &stars].concat()), 0..3).prop_map(parsed)
}

fn parsed(texts: Vec<&str>) -> Vec<CommunityPattern> {
    texts.into_iter().map(|text| text.parse().unwrap()).collect()
}

fn any_asn() -> impl Strategy<Value = u32> {
    select(vec![1, 2, 3, 23_456, 64_512, 65_551, 65_552, 4_199_999_999, u32::MAX])
}

fn any_as_path_match() -> impl Strategy<Value = AsPathMatch> {
    let some = || vec(any_asn(), 0..3);
    let length = || option::weighted(0.2, 0..6_u16);
    let patterns = ["*", "1 *", "* 2", "* 3 ?+", "?", "1..3 [23456,64512..65551]+"];
    let pattern = select(patterns.to_vec()).prop_map(|text| text.parse().unwrap());
    let patterns = vec(pattern, 0..3);
    (some(), some(), some(), patterns, length(), length(), option::weighted(0.2, any::<bool>()))
        .prop_map(|(contains, origin, neighbour, patterns, length_min, length_max, reserved)| {
            AsPathMatch { contains, origin, neighbour, patterns, length_min, length_max, reserved }
        })
}

fn any_match() -> impl Strategy<Value = Match> {
    let few = |strategy| prop_oneof![2 => Just(Vec::new()), 1 => strategy];
    let connection = vec(select(vec![Connection::Fabric, Connection::Transit]), 0..2);
    (
        few(vec(any_range(), 0..6).boxed()),
        prop_oneof![2 => Just(Vec::new()), 1 => any_patterns()],
        prop_oneof![2 => Just(AsPathMatch::default()), 1 => any_as_path_match()],
        connection,
        vec(select(vec![SessionKind::External, SessionKind::Internal]), 0..2),
        vec(select(vec![IpVersion::IPv4, IpVersion::IPv6]), 0..2),
        vec(select(vec![OriginCode::Igp, OriginCode::Egp, OriginCode::Incomplete]), 0..2),
        prop_oneof![4 => Just(Vec::new()), 1 => vec(any_prefix(), 1..3)],
        option::weighted(0.2, select(vec![Source::Learned, Source::Own])),
        option::weighted(0.2, any::<bool>()),
    )
        .prop_map(
            |(
                prefixes,
                communities,
                as_path,
                connections,
                sessions,
                families,
                origins,
                next_hops,
                source,
                own_space,
            )| Match {
                prefixes,
                communities,
                as_path,
                connections,
                sessions,
                families,
                origins,
                next_hops,
                source,
                own_space,
            },
        )
}

fn any_set() -> impl Strategy<Value = Set> {
    let numbers = (option::of(0..3_u32), option::of(0..3_u32), 0..3_u8);
    let communities = (option::weighted(0.2, any_communities()), any_patterns(), any_communities());
    (numbers, communities).prop_map(|((local_pref, med, prepend), (set, remove, add))| Set {
        local_pref,
        med,
        communities: CommunityEdit { set, remove, add },
        prepend,
        next_hop: None,
    })
}

fn any_terms() -> impl Strategy<Value = Vec<Term>> {
    let then = select(vec![Then::Accept, Then::Reject, Then::Next, Then::Next]);
    vec((any_match(), any_set(), then), 0..6).prop_map(|terms| {
        let named =
            |(index, (when, set, then))| Term { name: format!("t{index}"), when, set, then };
        terms.into_iter().enumerate().map(named).collect()
    })
}

fn any_route() -> impl Strategy<Value = PathAttributes> {
    let origin = select(vec![Origin::Igp, Origin::Egp, Origin::Incomplete]);
    (vec(any_asn(), 0..5), any_communities(), origin).prop_map(|(path, communities, origin)| {
        let mut route = PathAttributes {
            origin,
            as_path: AsPath(path.into_iter().map(Asn).collect()),
            ..PathAttributes::default()
        };
        communities.iter().for_each(|it| it.add_to(&mut route.communities));
        route
    })
}

fn any_context() -> impl Strategy<Value = Context<'static>> {
    (
        select(vec![Connection::Fabric, Connection::Transit]),
        select(vec![PeerKind::External, PeerKind::Internal]),
        select(vec![Source::Learned, Source::Own]),
        select(vec![None, Some("10.0.0.1"), Some("10.128.0.1"), Some("2001:db8::1")]),
    )
        .prop_map(|(connection, peer_kind, source, hop)| Context {
            local_asn: Asn(65010),
            connection,
            peer_kind,
            source,
            next_hop: hop.and_then(|hop| NextHop::new(hop.parse().unwrap())),
            own_space: &OWN,
        })
}

proptest! {
    #[test]
    fn a_prefix_set_is_the_list_of_its_ranges(
        ranges in vec(any_range(), 0..20),
        prefixes in vec(any_prefix(), 1..20),
    ) {
        let set = PrefixSet::new(&ranges).unwrap();

        for prefix in prefixes {
            let expected = ranges.iter().any(|range| naive::in_range(range, &prefix));
            prop_assert_eq!(set.contains(&prefix), expected, "{}", prefix);
        }
    }

    #[test]
    fn a_compiled_policy_says_what_its_terms_say(
        terms in any_terms(),
        prefix in any_prefix(),
        route in any_route(),
        context in any_context(),
    ) {
        let (expected_term, expected) = naive::evaluate(&terms, prefix, &route, &context);
        let policy = policy(&terms);

        let verdict = policy.evaluate(prefix, &route, &context);

        prop_assert_eq!(verdict.term(), expected_term);
        let passed = match &verdict {
            Verdict::Accept { edits, .. } => {
                let mut after = route.clone();
                edits.apply(&mut after);
                prop_assert!(!edits.is_empty() || after == route);
                Some(after)
            }
            Verdict::Reject { .. } => None,
        };
        prop_assert_eq!(passed, expected);
    }

    #[test]
    fn a_policy_that_does_not_read_the_prefix_judges_all_of_a_family_alike(
        terms in any_terms(),
        prefixes in vec(any_prefix(), 2..10),
        route in any_route(),
        context in any_context(),
    ) {
        let policy = policy(&terms);
        prop_assume!(!policy.reads_prefix());

        for version in [true, false] {
            let alike = prefixes.iter().filter(|prefix| prefix.addr().is_ipv4() == version);
            let verdicts: Vec<_> =
                alike.map(|prefix| policy.evaluate(*prefix, &route, &context)).collect();
            prop_assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]));
        }
    }

    #[test]
    fn a_preview_accounts_for_every_route(
        old in any_terms(),
        new in any_terms(),
        route in any_route(),
        prefixes in vec(any_prefix(), 0..10),
        context in any_context(),
    ) {
        let (old, new) = (policy(&old), policy(&new));
        let routes = prefixes.iter().map(|prefix| (*prefix, &route));

        let preview = preview(&old, &new, routes, &context);

        let passes = |policy: &isocast_bgp::policy::Policy| {
            prefixes.iter().filter(|p| policy.evaluate(**p, &route, &context).is_accept()).count()
        };
        prop_assert_eq!(passes(&old) + preview.gained.len(), passes(&new) + preview.lost.len());
    }
}

#[test]
fn a_preview_of_no_change_is_empty() {
    let policy = isocast_bgp::policy::builtin_export(Connection::Transit);
    let route = PathAttributes::default();

    let preview = preview(
        &policy,
        &policy,
        [(net("192.0.2.1/32"), &route)],
        &super::context(Connection::Transit, Source::Own),
    );

    assert_eq!(preview, isocast_bgp::policy::Preview::default());
}
