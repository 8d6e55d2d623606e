//! [`Head`]: the one row that says where the log stands, and that every commit compares.
//!
//! ```text
//! byte 0        format, 2
//! bytes 1..9    last revision
//! bytes 9..17   floor
//! bytes 17..49  link of the last revision's row
//! bytes 49..65  digest of the table of objects
//! bytes 65..97  BLAKE3 of all that
//! ```

use super::{
    BackendError, Extent, Revision,
    codec::{GENESIS, Link},
};

const FORMAT: u8 = 2;
const BODY_BYTES: usize = 65;

/// Where the log stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) extent: Extent,
    /// What the next row is chained to.
    pub(super) link: Link,
    /// Of the objects' rows, in whatever order they came: no row can be lost, stale or invented.
    pub(super) digest: Digest,
}

/// Sum of hashes: rows come and go in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(u128);

impl Head {
    /// Of a log without a row.
    pub(super) const EMPTY: Self = Self {
        extent: Extent { head: Revision(0), floor: Revision(1) },
        link: GENESIS,
        digest: Digest(0),
    };

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = vec![FORMAT];
        row.extend(self.extent.head.0.to_be_bytes());
        row.extend(self.extent.floor.0.to_be_bytes());
        row.extend(self.link);
        row.extend(self.digest.0.to_be_bytes());
        let check = blake3::hash(&row);
        row.extend(check.as_bytes());
        row
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, BackendError> {
        let corrupt = || BackendError::corrupt("its head does not read");
        let (body, check) = row.split_at_checked(BODY_BYTES).ok_or_else(corrupt)?;
        let (format, rest) = body.split_first().ok_or_else(corrupt)?;
        if *format != FORMAT || blake3::hash(body).as_bytes() != check {
            return Err(corrupt());
        }
        let (head, rest) = rest.split_first_chunk().ok_or_else(corrupt)?;
        let (floor, rest) = rest.split_first_chunk().ok_or_else(corrupt)?;
        let (link, rest) = rest.split_first_chunk().ok_or_else(corrupt)?;
        let (digest, _) = rest.split_first_chunk().ok_or_else(corrupt)?;
        Ok(Self {
            extent: Extent {
                head: Revision(u64::from_be_bytes(*head)),
                floor: Revision(u64::from_be_bytes(*floor)),
            },
            link: *link,
            digest: Digest(u128::from_be_bytes(*digest)),
        })
    }
}

impl Digest {
    pub(super) fn add(&mut self, key: &str, revision: Revision) {
        self.0 = self.0.wrapping_add(hash(key, revision));
    }

    pub(super) fn remove(&mut self, key: &str, revision: Revision) {
        self.0 = self.0.wrapping_sub(hash(key, revision));
    }
}

fn hash(key: &str, revision: Revision) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&revision.0.to_be_bytes());
    hasher.update(key.as_bytes());
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_altered_byte_is_seen() {
        let mut head = Head::EMPTY;
        head.digest.add("a", Revision(7));
        let row = head.encode();
        assert_eq!(Head::decode(&row).expect("whole"), head);

        for at in 0..row.len() {
            let mut altered = row.clone();
            altered[at] ^= 1;
            assert!(Head::decode(&altered).is_err(), "byte {at}");
            assert!(Head::decode(&row[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_digest_knows_no_order_and_forgets_what_is_removed() {
        let mut one = Digest::default();
        one.add("a", Revision(1));
        one.add("b", Revision(2));
        one.remove("a", Revision(1));
        let mut other = Digest::default();
        other.add("b", Revision(2));
        assert_eq!(one, other);
    }
}
