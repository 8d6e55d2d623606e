//! Patterns of AS paths against a reading that tries everything.

use isocast_bgp::{
    policy::{AsPathPattern, limits::PATH_PATTERN_ITEMS_MAX},
    types::Asn,
    wire::as_path::AsPath,
};
use proptest::{collection::vec, prelude::*, sample::select};

/// One item, as it is written.
const ITEMS: [&str; 9] = ["*", "?", "?+", "1", "2", "1+", "2..3", "[1,3..4]", "[1,3..4]+"];

fn pattern(items: &[&str]) -> AsPathPattern {
    items.join(" ").parse().unwrap()
}

fn path(asns: &[u32]) -> AsPath {
    AsPath(asns.iter().copied().map(Asn).collect())
}

/// Whether `items` stand for `path`, by trying every way.
fn stands_for(items: &[&str], path: &[u32]) -> bool {
    let Some((item, later)) = items.split_first() else { return path.is_empty() };
    let (hop, least, most) = match item.strip_suffix('+') {
        Some(hop) => (hop, 1, path.len()),
        None if *item == "*" => ("?", 0, path.len()),
        None => (*item, 1, 1),
    };
    let admits = |asn: &u32| match hop {
        "?" => true,
        "2..3" => (2..=3).contains(asn),
        "[1,3..4]" => [1, 3, 4].contains(asn),
        exact => exact.parse() == Ok(*asn),
    };
    (least..=most.min(path.len())).any(|taken| {
        let (here, rest) = path.split_at(taken);
        here.iter().all(admits) && stands_for(later, rest)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_pattern_matches_what_its_items_stand_for(
        items in vec(select(ITEMS.to_vec()), 1..6),
        asns in vec(1..6_u32, 0..7),
    ) {
        let expected = stands_for(&items, &asns);

        prop_assert_eq!(pattern(&items).matches(&path(&asns)), expected);
    }
}

#[test]
fn no_pattern_takes_long() {
    // Tried one way after another, these would take longer than there is time.
    for item in ["*", "?+", "1+"] {
        let mut items = vec![item; PATH_PATTERN_ITEMS_MAX - 1];
        items.push("2");
        let pattern = pattern(&items);

        assert!(!pattern.matches(&path(&[1; 255])));
        assert!(pattern.matches(&path(&[[1; 254].as_slice(), &[2]].concat())));
    }
}
