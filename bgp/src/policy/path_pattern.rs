//! [`AsPathPattern`]: AS paths that look alike.
//!
//! Written like a BIRD path mask, hop by hop, the neighbour first and the origin last; the whole path
//! must match.
//!
//! | item | stands for |
//! |---|---|
//! | `65010` | this AS |
//! | `64512..65534` | one AS of a range, both ends included |
//! | `[65010,64512..65534]` | one AS of any of these |
//! | `?` | any one AS |
//! | `65010+`, `?+`, … | one or more hops of this kind: a path that was prepended |
//! | `*` | any number of any ASes, none among them |
//!
//! Matching looks at each hop once, whatever the pattern: the places in the pattern that can have been
//! reached so far are bits of a word. There is nothing to go back to, so no path takes long.

use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::Deserialize;

use super::limits::{PATH_PATTERN_BYTES_MAX, PATH_PATTERN_ITEMS_MAX};
use crate::types::Asn;
use crate::wire::as_path::AsPath;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsPathPattern(Box<[Item]>);

/// Text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no AS path pattern: write up to {PATH_PATTERN_ITEMS_MAX} of 65010, 64512..65534, \
     [65010,64512..65534], ? for any AS and * for any number of them, with spaces between; + after \
     one of the first four repeats it"
)]
pub struct InvalidPathPattern(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    hop: Hop,
    repeat: Repeat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hop {
    Any,
    OneOf(Box<[RangeInclusive<u32>]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    Once,
    OnceOrMore,
    AnyTimes,
}

/// A bit for each item that may come next, and one for the end.
type Places = u64;

const _: () = assert!(PATH_PATTERN_ITEMS_MAX < Places::BITS as usize);

impl AsPathPattern {
    /// Whether a path is like it.
    #[must_use]
    pub fn matches(&self, AsPath(path): &AsPath) -> bool {
        let mut places = self.skip(1);
        for asn in path {
            if places == 0 {
                return false;
            }
            places = self.step(places, *asn);
        }
        places & (1 << self.0.len()) != 0
    }

    /// Places after one more hop.
    fn step(&self, places: Places, asn: Asn) -> Places {
        let mut next = 0;
        for (at, item) in self.0.iter().enumerate() {
            let here: Places = 1 << at;
            if places & here != 0 && item.hop.admits(asn) {
                next |= match item.repeat {
                    Repeat::Once => here << 1,
                    Repeat::OnceOrMore => here | here << 1,
                    Repeat::AnyTimes => here,
                };
            }
        }
        self.skip(next)
    }

    /// Adds the places that are reached without a hop. A `*` may stand for nothing.
    fn skip(&self, mut places: Places) -> Places {
        for (at, item) in self.0.iter().enumerate() {
            if item.repeat == Repeat::AnyTimes {
                places |= (places & 1 << at) << 1;
            }
        }
        places
    }
}

impl Hop {
    fn admits(&self, Asn(asn): Asn) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(ranges) => ranges.iter().any(|range| range.contains(&asn)),
        }
    }
}

impl FromStr for AsPathPattern {
    type Err = InvalidPathPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPathPattern> {
        let parse = || {
            let items: Box<[_]> = text.split(' ').map(item).collect::<Option<_>>()?;
            let fits =
                text.len() <= PATH_PATTERN_BYTES_MAX && items.len() <= PATH_PATTERN_ITEMS_MAX;
            fits.then_some(Self(items))
        };
        parse().ok_or_else(|| InvalidPathPattern(text.to_owned()))
    }
}

fn item(text: &str) -> Option<Item> {
    if text == "*" {
        return Some(Item { hop: Hop::Any, repeat: Repeat::AnyTimes });
    }
    let (text, repeat) = match text.strip_suffix('+') {
        Some(text) => (text, Repeat::OnceOrMore),
        None => (text, Repeat::Once),
    };
    if text == "?" {
        return Some(Item { hop: Hop::Any, repeat });
    }
    let list = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let ranges = list.unwrap_or(text).split(',');
    if list.is_none() && text.contains(',') {
        return None;
    }
    Some(Item { hop: Hop::OneOf(ranges.map(range).collect::<Option<_>>()?), repeat })
}

fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

/// `parse` alone would take a leading plus.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl<'de> Deserialize<'de> for AsPathPattern {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &[u32]) -> bool {
        let path = AsPath(path.iter().copied().map(Asn).collect());
        pattern.parse::<AsPathPattern>().unwrap().matches(&path)
    }

    #[test]
    fn the_whole_path_must_match_hop_by_hop() {
        for (pattern, path, expected) in [
            ("65010", &[65010][..], true),
            ("65010", &[65010, 1], false),
            ("65010 *", &[65010, 1, 2], true),
            ("* 65010", &[1, 2, 65010], true),
            ("* 65010 *", &[65010], true),
            ("* 65010 ? 64512..65534", &[7, 7, 65010, 9, 64512], true),
            ("* 65010 ? 64512..65534", &[7, 7, 65010, 64512], false),
            ("[1,3..5] ?", &[4, 9], true),
            ("[1,3..5] ?", &[2, 9], false),
            ("65010+ 1", &[65010, 65010, 65010, 1], true),
            ("65010+ 1", &[1], false),
            ("?+", &[], false),
            ("*", &[], true),
            ("* * *", &[1], true),
            ("0..4294967295", &[u32::MAX], true),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} {path:?}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let many = ["1"; PATH_PATTERN_ITEMS_MAX + 1].join(" ");
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
            assert!(bad.parse::<AsPathPattern>().is_err(), "{bad:?}");
        }
        let most = ["1"; PATH_PATTERN_ITEMS_MAX].join(" ");
        assert!(matches(&most, &[1; PATH_PATTERN_ITEMS_MAX]));
        assert!(!matches(&most, &[1; PATH_PATTERN_ITEMS_MAX + 1]));
    }
}
