//! [`ClusterKey`]: what every key of the data plane derives from, and how.
//!
//! Derived here and nowhere else: a node is told the keys that it works with, and nothing that it
//! could derive the next ones from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Length of a secret.
pub(super) const SECRET_BYTES: usize = 32;

/// A cluster secret, and which of its encapsulation keys.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct ClusterKey {
    pub(super) secret: ClusterSecret,
    /// Counts the encapsulation keys of this secret.
    epoch: u64,
}

/// The secret of a cluster.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct ClusterSecret([u8; SECRET_BYTES]);

/// A key tag, as it travels.
pub(super) type Tag = [u8; 4];

// === impl ClusterKey ===

impl ClusterKey {
    /// The first key of a secret.
    pub(super) fn new(secret: [u8; SECRET_BYTES]) -> Self {
        Self { secret: ClusterSecret(secret), epoch: 0 }.marked()
    }

    /// The next key of the same secret that is later than `epoch`.
    pub(super) fn next(&self, epoch: u64) -> Self {
        let epoch = self.epoch.max(epoch).wrapping_add(1);
        Self { epoch, ..self.clone() }.marked().unlike(self.tag())
    }

    /// Which key of its secret it is.
    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The same with a tag that differs from `other`.
    pub(super) fn unlike(self, other: Tag) -> Self {
        if self.tag() == other { self.next(0) } else { self }
    }

    /// The tag of tunnel packets.
    pub(super) fn tag(&self) -> Tag {
        let ClusterSecret(secret) = &self.secret;
        let mut hasher = blake3::Hasher::new_derive_key("isocast v1 encapsulation key tag");
        hasher.update(secret).update(&self.epoch.to_be_bytes());
        let mut tag = Tag::default();
        hasher.finalize_xof().fill(&mut tag);
        tag
    }

    /// Passes over an epoch whose tag is the one that no packet may have.
    fn marked(self) -> Self {
        match self.tag() {
            [0, 0, 0, 0] => Self { epoch: self.epoch.wrapping_add(1), ..self }.marked(),
            _ => self,
        }
    }
}

// === impl ClusterSecret ===

impl ClusterSecret {
    /// Key of the hash that places flows.
    pub(super) fn flow_key(&self) -> Vec<u8> {
        let mut key = vec![0; 16];
        let mut hasher = blake3::Hasher::new_derive_key("isocast v1 flow hash key");
        hasher.update(&self.0).finalize_xof().fill(&mut key);
        key
    }
}

/// Never shows the secret.
impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

/// Never shows the secret.
impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKey").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_secret_and_tags_by_epoch() {
        let (one, other) = (ClusterKey::new([1; 32]), ClusterKey::new([2; 32]));

        assert_ne!(one.tag(), other.tag());
        assert_ne!(one.secret.flow_key(), other.secret.flow_key());
        assert_ne!(one.tag(), one.next(0).tag());
        assert_ne!(one.next(0).tag(), one.next(1).tag());
        assert_eq!(one.secret.flow_key(), one.next(0).secret.flow_key());
    }

    #[test]
    fn tag_that_must_differ_differs() {
        let one = ClusterKey::new([1; 32]);

        assert_ne!(one.clone().unlike(one.tag()).tag(), one.tag());
        assert_eq!(one.clone().unlike([1, 2, 3, 4]), one);
    }

    #[test]
    fn secret_is_not_shown() {
        assert_eq!(format!("{:?}", ClusterKey::new([7; 32])), "ClusterKey { epoch: 0, .. }");
    }
}
