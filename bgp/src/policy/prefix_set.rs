//! [`PrefixSet`]: whether a prefix is one of many, in a number of steps bounded by its length.
//!
//! Covering prefixes are kept in sorted arrays by their length; a look-up asks the arrays from the
//! shortest length on that is not longer than the prefix. A cover holds the lengths it admits as a
//! bit map, so that several ranges of one prefix are one entry.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::term::PrefixRange;
use crate::types::Family;

/// A compiled set of prefix ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixSet {
    ipv4: Box<[Level]>,
    ipv6: Box<[Level]>,
}

/// A range that no prefix is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{prefix}: lengths from {ge} to {le} are not within {length} to {bits}", length = prefix.prefix_len())]
pub struct InvalidRange {
    prefix: IpNet,
    ge: u8,
    le: u8,
    bits: u8,
}

/// All covers of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    length: u8,
    /// Sorted by address, as left-aligned bits.
    covers: Box<[(u128, Lengths)]>,
}

/// A set of prefix lengths, 0 to 128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lengths([u64; 3]);

impl PrefixSet {
    /// Compiles ranges.
    ///
    /// # Errors
    /// A range with lengths that the prefix cannot have.
    pub fn new<'a>(
        ranges: impl IntoIterator<Item = &'a PrefixRange>,
    ) -> Result<Self, InvalidRange> {
        type Covers = BTreeMap<u8, BTreeMap<u128, Lengths>>;
        let (mut ipv4, mut ipv6) = (Covers::new(), Covers::new());
        for range in ranges {
            let (ge, le) = range.lengths()?;
            let covers = match Family::of(&range.prefix) {
                Family::Ipv4Unicast => &mut ipv4,
                Family::Ipv6Unicast => &mut ipv6,
            };
            let length = range.prefix.prefix_len();
            let cover = covers.entry(length).or_default();
            cover.entry(truncated(bits(&range.prefix), length)).or_default().insert(ge, le);
        }
        let levels = |covers: Covers| {
            covers
                .into_iter()
                .map(|(length, covers)| Level { length, covers: covers.into_iter().collect() })
        };
        Ok(Self { ipv4: levels(ipv4).collect(), ipv6: levels(ipv6).collect() })
    }

    /// Whether `prefix` is in one of the ranges.
    #[must_use]
    pub fn contains(&self, prefix: &IpNet) -> bool {
        let levels = match Family::of(prefix) {
            Family::Ipv4Unicast => &self.ipv4,
            Family::Ipv6Unicast => &self.ipv6,
        };
        let (bits, length) = (bits(prefix), prefix.prefix_len());
        let covering = levels.iter().take_while(|level| level.length <= length);
        covering.into_iter().any(|level| {
            let cover = truncated(bits, level.length);
            let found = level.covers.binary_search_by_key(&cover, |(address, _)| *address);
            let admits = |(_, lengths): &(u128, Lengths)| lengths.contains(length);
            found.ok().and_then(|at| level.covers.get(at)).is_some_and(admits)
        })
    }
}

impl PrefixRange {
    /// Exactly this prefix.
    #[must_use]
    pub const fn exactly(prefix: IpNet) -> Self {
        Self { prefix, ge: None, le: None }
    }

    /// This prefix and all inside of it.
    #[must_use]
    pub fn or_longer(prefix: IpNet) -> Self {
        Self { prefix, ge: Some(prefix.prefix_len()), le: None }
    }

    /// Shortest and longest length that match.
    fn lengths(&self) -> Result<(u8, u8), InvalidRange> {
        let length = self.prefix.prefix_len();
        let bits = Family::of(&self.prefix).bits_max();
        let ge = self.ge.unwrap_or(length);
        let open_end = if self.ge.is_some() { bits } else { length };
        let le = self.le.unwrap_or(open_end);
        if length <= ge && ge <= le && le <= bits {
            Ok((ge, le))
        } else {
            Err(InvalidRange { prefix: self.prefix, ge, le, bits })
        }
    }
}

impl Lengths {
    fn insert(&mut self, ge: u8, le: u8) {
        for length in ge..=le {
            if let Some(word) = self.0.get_mut(usize::from(length >> 6)) {
                *word |= 1 << (length & 63);
            }
        }
    }

    fn contains(self, length: u8) -> bool {
        self.0.get(usize::from(length >> 6)).is_some_and(|word| word >> (length & 63) & 1 != 0)
    }
}

/// The address, left-aligned.
fn bits(prefix: &IpNet) -> u128 {
    match prefix {
        IpNet::V4(prefix) => u128::from(prefix.addr().to_bits()) << 96,
        IpNet::V6(prefix) => prefix.addr().to_bits(),
    }
}

/// The first `length` bits.
fn truncated(bits: u128, length: u8) -> u128 {
    let mask = u128::MAX.checked_shr(length.into()).unwrap_or(0);
    bits & !mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_admits_its_lengths_and_no_others() {
        let range = |ge, le| PrefixRange { prefix: net("10.0.0.0/8"), ge, le };
        let cases = [
            (range(None, None), &["10.0.0.0/8"] as &[_], &["10.0.0.0/9", "10.1.0.0/16"] as &[_]),
            (range(Some(8), None), &["10.0.0.0/8", "10.1.2.3/32"], &["0.0.0.0/0", "11.0.0.0/8"]),
            (
                range(Some(9), Some(16)),
                &["10.0.0.0/9", "10.9.0.0/16"],
                &["10.0.0.0/8", "10.0.0.0/17"],
            ),
            (range(None, Some(16)), &["10.0.0.0/8", "10.9.0.0/16"], &["10.0.0.0/17", "::/8"]),
        ];
        for (range, inside, outside) in cases {
            let set = PrefixSet::new([&range]).unwrap();
            for prefix in inside {
                assert!(set.contains(&net(prefix)), "{prefix} in {range:?}");
            }
            for prefix in outside {
                assert!(!set.contains(&net(prefix)), "{prefix} in {range:?}");
            }
        }
    }

    #[test]
    fn everything_is_in_the_default_routes() {
        let ranges = ["0.0.0.0/0", "::/0"].map(|text| PrefixRange::or_longer(net(text)));
        let set = PrefixSet::new(&ranges).unwrap();

        for prefix in ["0.0.0.0/0", "255.255.255.255/32", "::/0", "ffff::/128"] {
            assert!(set.contains(&net(prefix)), "{prefix}");
        }
    }

    #[test]
    fn lengths_that_no_prefix_has_are_refused() {
        for (ge, le) in [(Some(7), None), (Some(33), None), (Some(20), Some(19)), (None, Some(7))] {
            let range = PrefixRange { prefix: net("10.0.0.0/8"), ge, le };

            assert!(PrefixSet::new([&range]).is_err(), "{range:?}");
        }
    }
}
