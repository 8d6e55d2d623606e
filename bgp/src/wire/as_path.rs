//! AS_PATH and AS4_PATH (RFC 4271 §5.1.2, RFC 6793).
//!
//! A path here is a flat sequence: AS_SET is refused (RFC 9774) and confederation segments do not
//! belong on a session with another AS, so nothing else is left to represent.

use super::reader::{Reader, Short};
use crate::limits::AS_PATH_HOPS_MAX;
use crate::types::Asn;

const AS_SET: u8 = 1;
const AS_SEQUENCE: u8 = 2;

/// The autonomous systems a route came through, nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath(pub Vec<Asn>);

/// Width of an AS number on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsnWidth {
    /// An old speaker, RFC 4271.
    Two,
    /// RFC 6793.
    Four,
}

/// A path that cannot be used. Each is treat-as-withdraw (RFC 7606 §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AsPathError {
    /// A segment reaches past the end.
    #[error("segment cut short")]
    Short(#[from] Short),
    /// RFC 7606 §7.2: unrecognised or zero-length segments are malformed.
    #[error("segment of type {kind} with {count} hops")]
    Segment {
        /// Segment type.
        kind: u8,
        /// Its number of hops.
        count: u8,
    },
    /// RFC 9774 §3: deprecated, treat-as-withdraw.
    #[error("AS_SET")]
    Set,
    /// RFC 7607 §2.
    #[error("AS 0")]
    Zero,
    /// See [`AS_PATH_HOPS_MAX`].
    #[error("more than {AS_PATH_HOPS_MAX} hops")]
    TooLong,
}

impl AsPath {
    /// Reads a path attribute's value.
    ///
    /// # Errors
    /// See [`AsPathError`].
    pub fn decode(value: &[u8], width: AsnWidth) -> Result<Self, AsPathError> {
        let mut reader = Reader::new(value);
        let mut hops = Vec::new();
        while !reader.is_empty() {
            let (kind, count) = (reader.u8()?, reader.u8()?);
            match kind {
                AS_SEQUENCE if count > 0 => {}
                AS_SET if count > 0 => return Err(AsPathError::Set),
                _ => return Err(AsPathError::Segment { kind, count }),
            }
            for _ in 0..count {
                let asn = match width {
                    AsnWidth::Two => Asn(u32::from(reader.u16()?)),
                    AsnWidth::Four => Asn(reader.u32()?),
                };
                if asn == Asn(0) {
                    return Err(AsPathError::Zero);
                }
                hops.push(asn);
            }
            if hops.len() > AS_PATH_HOPS_MAX {
                return Err(AsPathError::TooLong);
            }
        }
        Ok(Self(hops))
    }

    /// The attribute's value.
    #[must_use]
    pub fn encode(&self, width: AsnWidth) -> Vec<u8> {
        let mut out = Vec::new();
        for segment in self.0.chunks(usize::from(u8::MAX)) {
            out.extend([AS_SEQUENCE, u8::try_from(segment.len()).unwrap_or(u8::MAX)]);
            for asn in segment {
                match width {
                    AsnWidth::Two => out.extend(asn.two_octets().to_be_bytes()),
                    AsnWidth::Four => out.extend(asn.0.to_be_bytes()),
                }
            }
        }
        out
    }

    /// The true path, from what an old speaker left in AS_PATH and carried along in AS4_PATH.
    ///
    /// RFC 6793 §4.2.3: a longer AS4_PATH is ignored; otherwise it replaces the tail.
    #[must_use]
    pub fn merged(self, four_octets: &Self) -> Self {
        let Some(kept) = self.0.len().checked_sub(four_octets.0.len()) else { return self };
        Self(self.0.into_iter().take(kept).chain(four_octets.0.iter().copied()).collect())
    }

    /// Whether a number needs four octets.
    #[must_use]
    pub fn needs_four_octets(&self) -> bool {
        self.0.iter().any(|asn| asn.0 > u32::from(u16::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_paths_are_refused() {
        let cases: [(&[u8], AsPathError); 7] = [
            (&[2, 2, 0, 0, 0, 1], AsPathError::Short(Short { needed: 4, left: 0 })),
            (&[2], AsPathError::Short(Short { needed: 1, left: 0 })),
            (&[2, 0], AsPathError::Segment { kind: 2, count: 0 }),
            (&[9, 1, 0, 0, 0, 1], AsPathError::Segment { kind: 9, count: 1 }),
            (&[3, 1, 0, 0, 0, 1], AsPathError::Segment { kind: 3, count: 1 }),
            (&[1, 1, 0, 0, 0, 1], AsPathError::Set),
            (&[2, 1, 0, 0, 0, 0], AsPathError::Zero),
        ];
        for (value, expected) in cases {
            assert_eq!(AsPath::decode(value, AsnWidth::Four), Err(expected), "{value:?}");
        }
    }

    #[test]
    fn the_longest_path_is_accepted_and_one_hop_more_is_not() {
        let path = |hops| AsPath(vec![Asn(65_000); hops]);

        for width in [AsnWidth::Two, AsnWidth::Four] {
            let longest = path(AS_PATH_HOPS_MAX);
            assert_eq!(AsPath::decode(&longest.encode(width), width), Ok(longest));
            let longer = path(AS_PATH_HOPS_MAX + 1).encode(width);
            assert_eq!(AsPath::decode(&longer, width), Err(AsPathError::TooLong));
        }
    }

    #[test]
    fn the_tail_comes_from_as4_path_unless_it_is_longer() {
        let old = AsPath(vec![Asn(65_001), Asn::TRANS, Asn::TRANS]);
        let tail = AsPath(vec![Asn(70_000), Asn(70_001)]);

        let merged = old.clone().merged(&tail);

        assert_eq!(merged.0, [Asn(65_001), Asn(70_000), Asn(70_001)]);
        assert_eq!(old.clone().merged(&AsPath(vec![Asn(1); 4])), old);
    }
}
