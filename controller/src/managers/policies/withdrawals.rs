//! How many prefixes a change of policy may withdraw.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use ipnet::IpNet;
use isocast_api::network::ALLOW_WITHDRAWALS;

use crate::fleet::compile::Told;

/// A change may withdraw this many prefixes without saying so, or this part of all, whichever is
/// more.
const FREE: usize = 5;
const FREE_PART: usize = 20;

/// Prefixes that a refusal names.
const NAMED_MAX: usize = 10;

/// Prefixes that some router is no longer told of, with those routers.
pub(super) type Lost = BTreeMap<IpNet, BTreeSet<String>>;

/// A change that withdraws more than it may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    lost: Lost,
    total: usize,
    allowed: usize,
}

/// What is told `before` and not `after`.
pub(super) fn lost(before: &Told, after: &Told) -> Lost {
    let mut lost = Lost::new();
    for (peer, prefixes) in before {
        let still = after.get(peer);
        for prefix in prefixes.iter().filter(|prefix| still.is_none_or(|it| !it.contains(prefix))) {
            lost.entry(*prefix).or_default().insert(peer.clone());
        }
    }
    lost
}

/// Whether so much may be lost.
pub(super) fn judge(
    before: &Told,
    lost: &Lost,
    annotations: &BTreeMap<String, String>,
) -> Result<(), TooMany> {
    let (total, free) = (prefixes(before), free(before));
    let meant = annotations.get(ALLOW_WITHDRAWALS).and_then(|count| count.parse().ok());
    let allowed = free.max(meant.unwrap_or(0));
    if lost.len() <= allowed {
        return Ok(());
    }
    Err(TooMany { lost: lost.clone(), total, allowed })
}

/// How many may be lost without a word.
pub(super) fn free(before: &Told) -> usize {
    FREE.max(prefixes(before) / FREE_PART)
}

fn prefixes(told: &Told) -> usize {
    told.values().flatten().collect::<BTreeSet<_>>().len()
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, total, allowed } = self;
        let count = lost.len();
        write!(
            f,
            "this would withdraw {count} of {total} prefixes, {allowed} are allowed; if it is \
             meant, annotate the object {ALLOW_WITHDRAWALS}: \"{count}\". Withdrawn:"
        )?;
        for (prefix, peers) in lost.iter().take(NAMED_MAX) {
            let peers: Vec<_> = peers.iter().map(String::as_str).collect();
            write!(f, " {prefix} from {},", peers.join(" and "))?;
        }
        match count.checked_sub(NAMED_MAX) {
            Some(more @ 1..) => write!(f, " and {more} more"),
            _ => f.write_str(" and no more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(count: u8) -> Told {
        let prefixes = (0..count).map(|n| format!("192.0.2.{n}/32").parse().unwrap());
        Told::from([("tor1".to_owned(), prefixes.collect())])
    }

    fn judged(total: u8, left: u8, annotation: Option<&str>) -> Result<(), TooMany> {
        let before = told(total);
        let lost = lost(&before, &told(left));
        let annotations = annotation.map(|count| (ALLOW_WITHDRAWALS.to_owned(), count.to_owned()));
        judge(&before, &lost, &annotations.into_iter().collect())
    }

    #[test]
    fn five_prefixes_or_a_twentieth_may_go_unsaid_and_one_more_may_not() {
        for (total, free) in [(10, 5), (99, 5), (100, 5), (120, 6), (200, 10)] {
            assert_eq!(judged(total, total - free, None), Ok(()), "{total}");
            assert!(judged(total, total - free - 1, None).is_err(), "{total}");
        }
    }

    #[test]
    fn what_is_meant_is_allowed_by_its_number() {
        assert_eq!(judged(100, 0, Some("100")), Ok(()));
        for count in ["99", "", "all", "-1"] {
            assert!(judged(100, 0, Some(count)).is_err(), "{count}");
        }
    }

    #[test]
    fn a_prefix_counts_once_however_many_routers_lose_it() {
        let prefix: IpNet = "192.0.2.1/32".parse().unwrap();
        let peers = ["a", "b", "c", "d", "e", "f", "g"];
        let before: Told =
            peers.map(|peer| (peer.to_owned(), BTreeSet::from([prefix]))).into_iter().collect();

        let lost = lost(&before, &Told::new());

        assert_eq!(lost.len(), 1);
        assert_eq!(lost[&prefix].len(), peers.len());
        assert_eq!(judge(&before, &lost, &BTreeMap::new()), Ok(()));
    }

    #[test]
    fn a_refusal_says_what_would_be_lost_and_what_to_do() {
        let refusal = judged(20, 9, None).unwrap_err().to_string();

        assert!(refusal.starts_with("this would withdraw 11 of 20 prefixes, 5 are allowed"));
        assert!(refusal.contains("isocast.dev/allow-withdrawals: \"11\""), "{refusal}");
        assert!(refusal.contains(" 192.0.2.9/32 from tor1,"), "{refusal}");
        assert!(refusal.ends_with("and 1 more"), "{refusal}");
    }
}
