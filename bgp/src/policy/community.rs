//! [`CommunityPattern`]: communities with `*` for whatever may stand there.
//!
//! | text | matches |
//! |---|---|
//! | `65010:100`, `65010:*`, `*:666`, `no-export` | standard communities (RFC 1997) |
//! | `65010:1:2`, `65010:*:2` | large communities (RFC 8092) |
//! | `rt:65010:100`, `soo:65010:*` | extended communities of a two-octet AS (RFC 4360 §4, §5) |
//! | `ext:0x0002fde800000064` | any extended community, by its bytes |

use std::{fmt, str::FromStr};

use serde::Deserialize;

use crate::wire::community::{Communities, Community, ExtendedCommunity, LargeCommunity};

/// Communities that look alike. See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CommunityPattern {
    /// Extended: all bits of `value` where `mask` has one.
    Extended {
        /// Bits that are compared.
        mask: u64,
        /// What they must be.
        value: u64,
    },
    /// Large: `None` is `*`.
    Large([Option<u32>; 3]),
    /// Standard: all bits of `value` where `mask` has one.
    Standard {
        /// Bits that are compared.
        mask: u32,
        /// What they must be.
        value: u32,
    },
}

/// Text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no community pattern: write a:b, a:b:c, rt:a:b, soo:a:b, ext:0x and 16 digits, or a \
     well-known name; * stands for any number"
)]
pub struct InvalidPattern(pub String);

/// Two-octet AS specific, transitive (RFC 4360 §3.1), and its sub-types.
const ROUTE_TARGET: u64 = 0x0002 << 48;
const ROUTE_ORIGIN: u64 = 0x0003 << 48;
const TYPE_MASK: u64 = 0xffff << 48;

impl CommunityPattern {
    /// Whether it stands for one community only.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        match self {
            Self::Extended { mask, .. } => *mask == u64::MAX,
            Self::Large(words) => words.iter().all(Option::is_some),
            Self::Standard { mask, .. } => *mask == u32::MAX,
        }
    }

    /// Whether one of `communities` is like it.
    #[must_use]
    pub fn matches(&self, communities: &Communities) -> bool {
        match self {
            Self::Extended { mask, value } => {
                communities.extended.iter().any(|it| u64::from_be_bytes(it.0) & mask == *value)
            }
            Self::Large(_) => communities.large.iter().any(|it| self.matches_large(it)),
            Self::Standard { mask: u32::MAX, value } => {
                communities.standard.contains(&Community(*value))
            }
            Self::Standard { mask, value } => {
                communities.standard.iter().any(|it| it.0 & mask == *value)
            }
        }
    }

    /// Takes those like it out of `communities`.
    pub fn remove_from(&self, communities: &mut Communities) {
        match self {
            Self::Extended { mask, value } => {
                communities.extended.retain(|it| u64::from_be_bytes(it.0) & mask != *value);
            }
            Self::Large(_) => communities.large.retain(|it| !self.matches_large(it)),
            Self::Standard { mask, value } => {
                communities.standard.retain(|it| it.0 & mask != *value);
            }
        }
    }

    /// Puts the one that it stands for into `communities`; nothing if it has a `*`.
    pub fn add_to(&self, communities: &mut Communities) {
        match *self {
            Self::Extended { mask: u64::MAX, value } => {
                communities.extended.insert(ExtendedCommunity(value.to_be_bytes()));
            }
            Self::Large([Some(global), Some(local_1), Some(local_2)]) => {
                communities.large.insert(LargeCommunity { global, local_1, local_2 });
            }
            Self::Standard { mask: u32::MAX, value } => {
                communities.standard.insert(Community(value));
            }
            Self::Extended { .. } | Self::Large(_) | Self::Standard { .. } => {}
        }
    }

    fn matches_large(&self, community: &LargeCommunity) -> bool {
        let Self::Large(pattern) = self else { return false };
        let words = [community.global, community.local_1, community.local_2];
        pattern.iter().zip(words).all(|(wanted, word)| wanted.is_none_or(|wanted| wanted == word))
    }
}

impl FromStr for CommunityPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        parse(text).ok_or_else(|| InvalidPattern(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<CommunityPattern> {
    if let Some(digits) = text.strip_prefix("ext:0x") {
        let hex = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = hex.then(|| u64::from_str_radix(digits, 16).ok())??;
        return Some(CommunityPattern::Extended { mask: u64::MAX, value });
    }
    let words: Vec<&str> = text.split(':').collect();
    match words.as_slice() {
        [name] => {
            let Community(value) = name.parse().ok()?;
            Some(CommunityPattern::Standard { mask: u32::MAX, value })
        }
        ["rt", asn, value] => extended(ROUTE_TARGET, asn, value),
        ["soo", asn, value] => extended(ROUTE_ORIGIN, asn, value),
        [asn, value] => {
            let (asn, value) = (word::<u16>(asn)?, word::<u16>(value)?);
            let mask = (bits(asn, 0xffff) << 16) | bits(value, 0xffff);
            let value = (u32::from(asn.unwrap_or(0)) << 16) | u32::from(value.unwrap_or(0));
            Some(CommunityPattern::Standard { mask, value })
        }
        [global, first, second] => {
            Some(CommunityPattern::Large([word(global)?, word(first)?, word(second)?]))
        }
        _ => None,
    }
}

fn extended(kind: u64, asn: &str, value: &str) -> Option<CommunityPattern> {
    let (asn, value) = (word::<u16>(asn)?, word::<u32>(value)?);
    let mask = TYPE_MASK | (u64::from(bits(asn, 0xffff)) << 32) | u64::from(bits(value, u32::MAX));
    let value = kind | (u64::from(asn.unwrap_or(0)) << 32) | u64::from(value.unwrap_or(0));
    Some(CommunityPattern::Extended { mask, value })
}

/// A number, or `*`. `parse` alone would take a leading plus.
fn word<T: FromStr>(text: &str) -> Option<Option<T>> {
    if text == "*" {
        return Some(None);
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok().map(Some) } else { None }
}

const fn bits<T: Copy>(word: Option<T>, all: u32) -> u32 {
    if word.is_some() { all } else { 0 }
}

impl fmt::Display for CommunityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |known: bool, value: u64| if known { value.to_string() } else { "*".into() };
        match *self {
            Self::Extended { mask, value } => {
                let name = match value & TYPE_MASK {
                    ROUTE_TARGET => "rt",
                    ROUTE_ORIGIN => "soo",
                    _ => return write!(f, "ext:0x{value:016x}"),
                };
                let asn = word(mask & (0xffff << 32) != 0, value >> 32 & 0xffff);
                let number = word(mask & 0xffff_ffff != 0, value & 0xffff_ffff);
                write!(f, "{name}:{asn}:{number}")
            }
            Self::Large(words) => {
                let [global, first, second] =
                    words.map(|it| word(it.is_some(), it.unwrap_or(0).into()));
                write!(f, "{global}:{first}:{second}")
            }
            Self::Standard { mask: u32::MAX, value } => Community(value).fmt(f),
            Self::Standard { mask, value } => {
                let asn = word(mask >> 16 != 0, (value >> 16).into());
                write!(f, "{asn}:{}", word(mask & 0xffff != 0, (value & 0xffff).into()))
            }
        }
    }
}

impl<'de> Deserialize<'de> for CommunityPattern {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> CommunityPattern {
        text.parse().unwrap()
    }

    #[test]
    fn text_round_trips() {
        for text in [
            "65010:100",
            "65010:*",
            "*:666",
            "*:*",
            "no-export",
            "graceful-shutdown",
            "4200000000:1:2",
            "65010:*:2",
            "rt:65010:100",
            "soo:65010:*",
            "ext:0x0602fde800000064",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for text in [
            "",
            "*",
            "1",
            "65536:1",
            "1:2:3:4",
            "+1:2",
            "rt:1",
            "rt:65536:1",
            "ext:0x1",
            "65010:1*",
        ] {
            assert_eq!(
                text.parse::<CommunityPattern>(),
                Err(InvalidPattern(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_star_matches_any_number_and_nothing_else() {
        let mut some = Communities::parse(["65010:100", "65010:1:2", "no-export"]).unwrap();
        pattern("rt:65010:7").add_to(&mut some);
        for yes in ["65010:*", "*:100", "65010:*:*", "*:1:*", "rt:*:7", "rt:65010:*", "no-export"] {
            assert!(pattern(yes).matches(&some), "{yes}");
        }
        for no in ["65011:*", "*:101", "65010:2:*", "soo:*:7", "rt:*:8", "no-advertise"] {
            assert!(!pattern(no).matches(&some), "{no}");
        }
        let mut kept = some.clone();
        pattern("65010:*").remove_from(&mut kept);
        assert_eq!(kept.standard.len(), 1);
        assert_eq!((&kept.large, &kept.extended), (&some.large, &some.extended));
    }
}
