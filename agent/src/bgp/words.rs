//! What the speaker decides, as words that stay: for programs, metrics and people.

use isocast_bgp::speaker::{Reason, Verdict, Withheld};
use isocast_bgp::types::{Family, FamilySet};
use isocast_bgp::wire::attribute::Origin;
use isocast_bgp::wire::community::Communities;
use serde::Deserialize;

/// A family as it is asked for.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub enum FamilyName {
    /// See [`Family::Ipv4Unicast`].
    #[serde(rename = "ipv4-unicast")]
    Ipv4,
    /// See [`Family::Ipv6Unicast`].
    #[serde(rename = "ipv6-unicast")]
    Ipv6,
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::Ipv4 => Self::Ipv4Unicast,
            FamilyName::Ipv6 => Self::Ipv6Unicast,
        }
    }
}

/// Why a prefix is not told, as one word.
#[must_use]
pub const fn withheld(why: Withheld) -> &'static str {
    match why {
        Withheld::NotEstablished => "NotEstablished",
        Withheld::FamilyNotNegotiated => "FamilyNotNegotiated",
        Withheld::NoRoute => "NoRoute",
        Withheld::LearntFromPeer => "LearntFromPeer",
        Withheld::InternalToInternal => "InternalToInternal",
        Withheld::NotOwn => "NotOwn",
        Withheld::NotAnnounceable => "NotAnnounceable",
        Withheld::NoAdvertise => "NoAdvertise",
        Withheld::NoExport => "NoExport",
        Withheld::Leak => "RouteLeak",
        Withheld::LongLivedStale => "LongLivedStale",
        Withheld::Policy => "RefusedByPolicy",
        Withheld::NoNextHop => "NoNextHop",
        Withheld::AttributesTooLarge => "AttributesTooLarge",
        Withheld::OverLimit => "OverLimit",
    }
}

/// What import made of a path, as one word.
#[must_use]
pub const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted => "Accepted",
        Verdict::Loop => "Loop",
        Verdict::Policy => "RefusedByPolicy",
        Verdict::Leak => "RouteLeak",
    }
}

/// What made the best path the best, as a part of a sentence.
#[must_use]
pub const fn best_by(reason: Reason) -> &'static str {
    match reason {
        Reason::Only => "it is the only usable path",
        Reason::Fresh => "the others are stale",
        Reason::Local => "it is this node's own",
        Reason::LocalPreference => "it has the highest LOCAL_PREF",
        Reason::PathLength => "it has the shortest AS_PATH",
        Reason::Origin => "it has the lowest ORIGIN",
        Reason::Med => "it has the lowest MED",
        Reason::External => "it was learnt from another AS",
        Reason::RouterId => "its peer has the lowest router id",
        Reason::Address => "its peer has the lowest address",
    }
}

/// An ORIGIN as people write it.
#[must_use]
pub const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Igp => "igp",
        Origin::Egp => "egp",
        Origin::Incomplete => "incomplete",
    }
}

/// All communities of a route as people write them.
#[must_use]
pub fn communities(all: &Communities) -> Vec<String> {
    let standard = all.standard.iter().map(ToString::to_string);
    let large = all.large.iter().map(ToString::to_string);
    // Opaque here, and shown as what they are.
    let extended = all.extended.iter().map(|it| format!("{:#018x}", u64::from_be_bytes(it.0)));
    standard.chain(large).chain(extended).collect()
}

/// Families by name.
#[must_use]
pub fn families(families: FamilySet) -> Vec<String> {
    let name = |family| match family {
        Family::Ipv4Unicast => "ipv4-unicast".to_owned(),
        Family::Ipv6Unicast => "ipv6-unicast".to_owned(),
    };
    families.iter().map(name).collect()
}
