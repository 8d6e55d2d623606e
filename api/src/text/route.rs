//! What policies say of routes: [`IpPrefix`], [`CommunityPattern`], [`AsPathPattern`] and
//! [`NextHopRule`].

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use thiserror::Error;

use super::text_type;

/// Any prefix in canonical form: no bit set beyond its length. Unlike a
/// [`Prefix`](super::Prefix) it may hold addresses that no host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpPrefix(IpNet);

/// A community, with `*` for any number in one of its places.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommunityPattern(String);

/// AS paths that look alike, hop by hop from the neighbour to the origin, as speakers read it: `65010`,
/// `64512..65534`, `[65010,64512..65534]` and `?` (any) for one AS, a `+` after one of these for one or
/// more, `*` for any number of any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPathPattern(String);

/// What a next hop becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHopRule {
    /// This address, for routes of its IP version.
    Address(IpAddr),
    /// `Self`: the node's end of the session.
    Itself,
    /// `Unchanged`
    Unchanged,
}

/// Why a text is not an [`IpPrefix`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InvalidIpPrefix {
    /// Bits beyond the prefix length are set.
    #[error("has bits set beyond its length: did you mean {0}?")]
    HostBits(IpNet),
    /// Anything else.
    #[error("must be a prefix such as 0.0.0.0/0 or 2001:db8:f::/48")]
    Syntax,
}

/// Why a text is not a [`CommunityPattern`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "must be a community such as 65010:100, 65010:1:2, rt:65010:1, soo:65010:1, ext:0x and 16 hex \
     digits, or a well-known one such as no-export; * stands for any number"
)]
pub struct InvalidCommunityPattern;

/// Why a text is not an [`AsPathPattern`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "must be 1 to {PATH_ITEMS_MAX} of 65010, 64512..65534, [65010,64512..65534], ? for any AS and * \
     for any number of them, with one space between; + after one of the first four repeats it"
)]
pub struct InvalidAsPathPattern;

/// Why a text is not a [`NextHopRule`].
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be Self, Unchanged, or an address")]
pub struct InvalidNextHopRule;

/// Items of an AS path pattern.
const PATH_ITEMS_MAX: usize = 32;
/// Bytes of one.
const PATH_BYTES_MAX: usize = 255;

/// Communities of the IANA registry that speakers know by name.
const WELL_KNOWN: [&str; 9] = [
    "accept-own",
    "blackhole",
    "graceful-shutdown",
    "llgr-stale",
    "no-advertise",
    "no-export",
    "no-export-subconfed",
    "no-llgr",
    "no-peer",
];

impl IpPrefix {
    /// The prefix.
    #[must_use]
    pub fn get(self) -> IpNet {
        self.0
    }
}

impl FromStr for IpPrefix {
    type Err = InvalidIpPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidIpPrefix> {
        let prefix: IpNet = text.parse().map_err(|_invalid| InvalidIpPrefix::Syntax)?;
        if prefix == prefix.trunc() {
            Ok(Self(prefix))
        } else {
            Err(InvalidIpPrefix::HostBits(prefix.trunc()))
        }
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl CommunityPattern {
    /// Whether it stands for one community only.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        !self.0.contains('*')
    }
}

impl FromStr for CommunityPattern {
    type Err = InvalidCommunityPattern;

    fn from_str(text: &str) -> Result<Self, InvalidCommunityPattern> {
        let is_valid = match *text.split(':').collect::<Vec<_>>() {
            [name] => WELL_KNOWN.contains(&name),
            ["ext", hex] => hex.strip_prefix("0x").is_some_and(|digits| {
                digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
            }),
            [asn, value] => is_word::<u16>(asn) && is_word::<u16>(value),
            ["rt" | "soo", asn, value] => is_word::<u16>(asn) && is_word::<u32>(value),
            [global, first, second] => [global, first, second].into_iter().all(is_word::<u32>),
            _ => false,
        };
        is_valid.then(|| Self(text.to_owned())).ok_or(InvalidCommunityPattern)
    }
}

/// Whether `text` is `*` or a number; `parse` alone would take a leading plus.
fn is_word<T: FromStr>(text: &str) -> bool {
    text == "*" || (text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<T>().is_ok())
}

impl fmt::Display for CommunityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AsPathPattern {
    type Err = InvalidAsPathPattern;

    fn from_str(text: &str) -> Result<Self, InvalidAsPathPattern> {
        let is_valid = text.split(' ').all(is_path_item)
            && text.split(' ').count() <= PATH_ITEMS_MAX
            && text.len() <= PATH_BYTES_MAX;
        is_valid.then(|| Self(text.to_owned())).ok_or(InvalidAsPathPattern)
    }
}

fn is_path_item(text: &str) -> bool {
    let hop = text.strip_suffix('+').unwrap_or(text);
    if matches!(hop, "?") || text == "*" {
        return true;
    }
    match hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(list) => list.split(',').all(is_path_range),
        None => is_path_range(hop),
    }
}

fn is_path_range(text: &str) -> bool {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits)
    };
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last)
}

impl fmt::Display for AsPathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NextHopRule {
    type Err = InvalidNextHopRule;

    fn from_str(text: &str) -> Result<Self, InvalidNextHopRule> {
        match text {
            "Self" => Ok(Self::Itself),
            "Unchanged" => Ok(Self::Unchanged),
            text => text.parse().map(Self::Address).map_err(|_invalid| InvalidNextHopRule),
        }
    }
}

impl fmt::Display for NextHopRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Itself => f.write_str("Self"),
            Self::Unchanged => f.write_str("Unchanged"),
        }
    }
}

text_type!(IpPrefix, "ip-prefix", 49);
text_type!(CommunityPattern, "community-pattern", 40);
text_type!(AsPathPattern, "as-path-pattern", 255);
text_type!(NextHopRule, "next-hop", 45);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_read_as_routers_print_them() {
        for good in [
            "65010:100",
            "65010:*",
            "*:*",
            "4200000000:*:2",
            "rt:65010:*",
            "soo:*:4200000000",
            "ext:0x0002fde800000064",
            "no-export",
            "blackhole",
        ] {
            assert_eq!(good.parse::<CommunityPattern>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "*",
            "1",
            "65536:1",
            "1:2:3:4",
            "+1:2",
            "rt:1",
            "rt:65536:1",
            "ext:0x1",
            "1:",
            "internet",
        ] {
            assert_eq!(bad.parse::<CommunityPattern>(), Err(InvalidCommunityPattern), "{bad}");
        }
    }

    #[test]
    fn a_prefix_of_a_policy_may_be_any_but_is_canonical() {
        for good in ["0.0.0.0/0", "::/0", "224.0.0.0/4", "10.0.0.0/8"] {
            assert!(good.parse::<IpPrefix>().is_ok(), "{good}");
        }
        assert_eq!(
            "10.0.0.1/8".parse::<IpPrefix>().unwrap_err().to_string(),
            "has bits set beyond its length: did you mean 10.0.0.0/8?",
        );
    }

    #[test]
    fn a_next_hop_is_a_word_or_an_address() {
        for good in ["Self", "Unchanged", "10.0.0.1", "2001:db8::1"] {
            assert_eq!(good.parse::<NextHopRule>().unwrap().to_string(), good);
        }
        assert_eq!("self".parse::<NextHopRule>(), Err(InvalidNextHopRule));
    }

    #[test]
    fn path_patterns_are_those_that_speakers_take() {
        let most = ["?"; PATH_ITEMS_MAX].join(" ");
        for good in
            ["*", "65010", "65010 *", "* ?+ [1,3..4]+ 64512..65534", "0..4294967295", most.as_str()]
        {
            assert_eq!(good.parse::<AsPathPattern>().unwrap().to_string(), good);
        }
        let many = format!("{most} ?");
        let long = format!("[{}]", ["4294967295"; 24].join(","));
        for bad in [
            "",
            " ",
            "1 ",
            "1  2",
            "*+",
            "+",
            "1++",
            "a",
            "-1",
            "+1",
            "4294967296",
            "2..1",
            "1..",
            "..1",
            "1...2",
            "1,2",
            "[]",
            "[1,]",
            "[1",
            "1]",
            "[?]",
            "[1, 2]",
            "1-2",
            "^1$",
            "?*",
            &many,
            &long,
        ] {
            assert_eq!(bad.parse::<AsPathPattern>(), Err(InvalidAsPathPattern), "{bad:?}");
        }
    }
}
