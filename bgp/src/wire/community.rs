//! Communities: standard (RFC 1997), large (RFC 8092), extended (RFC 4360, opaque here).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::limits::COMMUNITIES_MAX;

/// A standard community: 16 bits of AS number, 16 bits of its choosing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Community(pub u32);

/// A large community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LargeCommunity {
    /// The autonomous system that gives the other two their meaning.
    pub global: u32,
    /// First word of its choosing.
    pub local_1: u32,
    /// Second word of its choosing.
    pub local_2: u32,
}

/// An extended community, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// The communities of one route. Ordered, so that equal sets have equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Communities {
    /// Standard communities.
    pub standard: BTreeSet<Community>,
    /// Extended communities.
    pub extended: BTreeSet<ExtendedCommunity>,
    /// Large communities.
    pub large: BTreeSet<LargeCommunity>,
}

/// Text that is no community, or one community too many.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommunityError {
    /// Neither `a:b`, `a:b:c` nor a well-known name.
    #[error("{0:?} is not a community: write a:b, a:b:c or a well-known name")]
    Text(String),
    /// More than an advertisement carries.
    #[error("more than {COMMUNITIES_MAX} communities")]
    TooMany,
}

/// Well-known communities (IANA) by name.
const WELL_KNOWN: [(&str, Community); 9] = [
    ("graceful-shutdown", Community::GRACEFUL_SHUTDOWN),
    ("accept-own", Community(0xffff_0001)), // RFC 7611
    ("llgr-stale", Community::LLGR_STALE),
    ("no-llgr", Community::NO_LLGR),
    ("blackhole", Community::BLACKHOLE),
    ("no-export", Community::NO_EXPORT),
    ("no-advertise", Community::NO_ADVERTISE),
    ("no-export-subconfed", Community::NO_EXPORT_SUBCONFED),
    ("no-peer", Community(0xffff_ff04)), // RFC 3765
];

impl Community {
    /// The route leads to a router that is about to go down (RFC 8326).
    pub const GRACEFUL_SHUTDOWN: Self = Self(0xffff_0000);
    /// The route outlived a restart of the peer that took too long (RFC 9494 §4.6).
    pub const LLGR_STALE: Self = Self(0xffff_0006);
    /// The route must not outlive a restart of the peer that takes too long (RFC 9494 §4.6).
    pub const NO_LLGR: Self = Self(0xffff_0007);
    /// Packets are to be dropped (RFC 7999).
    pub const BLACKHOLE: Self = Self(0xffff_029a);
    /// Not beyond this AS (RFC 1997).
    pub const NO_EXPORT: Self = Self(0xffff_ff01);
    /// Not beyond this speaker (RFC 1997).
    pub const NO_ADVERTISE: Self = Self(0xffff_ff02);
    /// Not beyond this AS, nor beyond its confederation member (RFC 1997).
    pub const NO_EXPORT_SUBCONFED: Self = Self(0xffff_ff03);
}

impl ExtendedCommunity {
    const NOT_TRANSITIVE: u8 = 0x40;

    /// Whether it goes on into other ASes (RFC 4360 §2).
    #[must_use]
    pub const fn is_transitive(self) -> bool {
        let Self([kind, ..]) = self;
        kind & Self::NOT_TRANSITIVE == 0
    }
}

impl Communities {
    /// Reads communities as people write them.
    ///
    /// # Errors
    /// The first text that is none, or too many of them.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, CommunityError> {
        let mut communities = Self::default();
        for text in texts {
            if let Ok(community) = text.parse() {
                communities.standard.insert(community);
            } else {
                communities.large.insert(text.parse()?);
            }
            if communities.standard.len() > COMMUNITIES_MAX
                || communities.large.len() > COMMUNITIES_MAX
            {
                return Err(CommunityError::TooMany);
            }
        }
        Ok(communities)
    }

    /// Whether the route carries none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.standard.is_empty() && self.extended.is_empty() && self.large.is_empty()
    }
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((_, value)) = WELL_KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(*value);
        }
        let parse = || {
            let (high, low) = text.split_once(':')?;
            let (high, low) = (high.parse::<u16>().ok()?, low.parse::<u16>().ok()?);
            Some(Self(u32::from(high) << 16 | u32::from(low)))
        };
        parse().ok_or_else(|| CommunityError::Text(text.to_owned()))
    }
}

impl FromStr for LargeCommunity {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut words = text.split(':').map(|word| word.parse::<u32>().ok());
            let large =
                Self { global: words.next()??, local_1: words.next()??, local_2: words.next()?? };
            words.next().is_none().then_some(large)
        };
        parse().ok_or_else(|| CommunityError::Text(text.to_owned()))
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match WELL_KNOWN.iter().find(|(_, value)| value == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{}:{}", self.0 >> 16, self.0 & 0xffff),
        }
    }
}

impl fmt::Display for LargeCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.global, self.local_1, self.local_2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["65010:100", "no-export", "graceful-shutdown"] {
            assert_eq!(text.parse::<Community>().unwrap().to_string(), text);
        }
        let large = "4200000001:1:2";
        assert_eq!(large.parse::<LargeCommunity>().unwrap().to_string(), large);
    }

    #[test]
    fn what_is_no_community_is_named() {
        for text in ["", "65536:1", "1:2:3:4", "1:", "no-such-name", "1:2:x"] {
            assert_eq!(Communities::parse([text]), Err(CommunityError::Text(text.into())));
        }
    }

    #[test]
    fn the_limit_is_allowed_and_one_more_is_not() {
        let texts: Vec<_> = (0..=COMMUNITIES_MAX).map(|n| format!("65010:{n}")).collect();

        assert!(Communities::parse(texts.iter().skip(1).map(String::as_str)).is_ok());
        assert_eq!(
            Communities::parse(texts.iter().map(String::as_str)),
            Err(CommunityError::TooMany)
        );
    }
}
