//! Every bound: at it and one past it.

use isocast_bgp::policy::{
    AsPathMatch, CommunityEdit, CommunityPattern, END_OF_POLICY, Match, Policy, PolicyError,
    PrefixRange, Set, Term, Then,
    limits::{
        ASNS_MAX, COMMUNITY_PATTERNS_MAX, PATH_PATTERNS_MAX, PREFIXES_PER_TERM_MAX, PREPEND_MAX,
        TERM_NAME_BYTES_MAX, TERMS_MAX,
    },
};

use super::{net, term};

fn with(when: Match, set: Set) -> Result<Policy, PolicyError> {
    Policy::compile("test", &[term("a", when, set, Then::Accept)])
}

fn one<T: Clone>(value: T, count: usize) -> Vec<T> {
    vec![value; count]
}

#[test]
fn terms() {
    let terms = |count: usize| -> Vec<Term> {
        (0..count)
            .map(|n| term(&format!("t{n}"), Match::default(), Set::default(), Then::Next))
            .collect()
    };

    assert!(Policy::compile("test", &terms(TERMS_MAX)).is_ok());
    let refused = Policy::compile("test", &terms(TERMS_MAX + 1));
    assert_eq!(refused, Err(PolicyError::TooManyTerms(TERMS_MAX + 1)));
}

#[test]
fn lists_of_a_term() {
    let pattern: CommunityPattern = "65010:1".parse().unwrap();
    type Make = Box<dyn Fn(usize) -> (Match, Set)>;
    let when = |make: fn(usize) -> Match| -> Make { Box::new(move |n| (make(n), Set::default())) };
    let edit = move |make: fn(Vec<CommunityPattern>) -> CommunityEdit| -> Make {
        Box::new(move |n| {
            (Match::default(), Set { communities: make(one(pattern, n)), ..Set::default() })
        })
    };
    let path = |make: fn(Vec<u32>) -> AsPathMatch| -> Make {
        Box::new(move |n| (Match { as_path: make(one(1, n)), ..Match::default() }, Set::default()))
    };
    let cases: [(&str, usize, Make); 10] = [
        (
            "prefixes",
            PREFIXES_PER_TERM_MAX,
            when(|n| Match {
                prefixes: one(PrefixRange::exactly(net("10.0.0.0/8")), n),
                ..Match::default()
            }),
        ),
        (
            "next hops",
            PREFIXES_PER_TERM_MAX,
            when(|n| Match { next_hops: one(net("10.0.0.0/8"), n), ..Match::default() }),
        ),
        (
            "communities",
            COMMUNITY_PATTERNS_MAX,
            when(|n| Match { communities: one("1:1".parse().unwrap(), n), ..Match::default() }),
        ),
        (
            "communities to set",
            COMMUNITY_PATTERNS_MAX,
            edit(|set| CommunityEdit { set: Some(set), ..CommunityEdit::default() }),
        ),
        (
            "communities to add",
            COMMUNITY_PATTERNS_MAX,
            edit(|add| CommunityEdit { add, ..CommunityEdit::default() }),
        ),
        (
            "communities to remove",
            COMMUNITY_PATTERNS_MAX,
            edit(|remove| CommunityEdit { remove, ..CommunityEdit::default() }),
        ),
        ("AS numbers", ASNS_MAX, path(|it| AsPathMatch { contains: it, ..AsPathMatch::default() })),
        ("AS numbers", ASNS_MAX, path(|it| AsPathMatch { origin: it, ..AsPathMatch::default() })),
        (
            "AS numbers",
            ASNS_MAX,
            path(|it| AsPathMatch { neighbour: it, ..AsPathMatch::default() }),
        ),
        (
            "AS path patterns",
            PATH_PATTERNS_MAX,
            when(|n| {
                let patterns = one("*".parse().unwrap(), n);
                let as_path = AsPathMatch { patterns, ..AsPathMatch::default() };
                Match { as_path, ..Match::default() }
            }),
        ),
    ];
    for (what, limit, make) in cases {
        let (when, set) = make(limit);
        assert!(with(when, set).is_ok(), "{what}");

        let (when, set) = make(limit + 1);
        let expected = PolicyError::TooMany { term: "a".into(), what, count: limit + 1, limit };
        assert_eq!(with(when, set), Err(expected));
    }
}

#[test]
fn prepends() {
    let prepend = |prepend| with(Match::default(), Set { prepend, ..Set::default() });

    assert!(prepend(PREPEND_MAX).is_ok());
    assert!(prepend(PREPEND_MAX + 1).is_err());
}

#[test]
fn names_of_terms() {
    let named = |name: &str| {
        Policy::compile("test", &[term(name, Match::default(), Set::default(), Then::Next)])
    };

    assert!(named(&"a".repeat(TERM_NAME_BYTES_MAX)).is_ok());
    for name in ["", END_OF_POLICY, &"a".repeat(TERM_NAME_BYTES_MAX + 1)] {
        assert_eq!(named(name), Err(PolicyError::Name(name.into())));
    }
    let twice = term("a", Match::default(), Set::default(), Then::Next);
    let refused = Policy::compile("test", &[twice.clone(), twice]);
    assert_eq!(refused, Err(PolicyError::Duplicate("a".into())));
}

#[test]
fn a_star_cannot_be_added() {
    let pattern: CommunityPattern = "65010:*".parse().unwrap();
    let communities = CommunityEdit { add: vec![pattern], ..CommunityEdit::default() };

    let refused = with(Match::default(), Set { communities, ..Set::default() });

    assert_eq!(refused, Err(PolicyError::AddsPattern { term: "a".into(), pattern }));
}
