//! Keys, all derived from the cluster secret: what every node must agree on without talking.

/// The secret that all nodes of a cluster share.
#[derive(Clone)]
pub struct ClusterSecret([u8; 32]);

impl ClusterSecret {
    /// Takes the secret's bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Key of the rings of the service of this name: every node that balances it fills the same
    /// ring.
    #[must_use]
    pub fn ring_key(&self, service: &str) -> [u64; 2] {
        let mut hasher = blake3::Hasher::new_derive_key("isocast v1 ring key");
        hasher.update(&self.0);
        hasher.update(service.as_bytes());
        two_words(hasher.finalize().as_bytes())
    }

    /// Key of the flow hash.
    #[must_use]
    pub(crate) fn flow_key(&self) -> [u64; 2] {
        two_words(&blake3::derive_key("isocast v1 flow hash key", &self.0))
    }

    /// Key tags in network order: the one that is sent, and the one that may come next. Both are
    /// believed, so that nodes may move on one by one.
    #[must_use]
    pub(crate) fn key_tags(&self) -> [u32; 2] {
        let bytes = blake3::derive_key("isocast v1 encapsulation key tags", &self.0);
        let [a, b, c, d, e, f, g, h, ..] = bytes;
        [u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h])]
    }
}

/// Never shows the secret.
impl std::fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

fn two_words(bytes: &[u8; 32]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *bytes;
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_purpose_service_and_secret() {
        let secret = ClusterSecret::new([1; 32]);
        let other = ClusterSecret::new([2; 32]);

        assert_ne!(secret.ring_key("a"), secret.ring_key("b"));
        assert_ne!(secret.ring_key("a"), other.ring_key("a"));
        assert_ne!(secret.ring_key(""), secret.flow_key());
        let [now, next] = secret.key_tags();
        assert_ne!(now, next);
    }

    #[test]
    fn secret_is_not_shown() {
        assert_eq!(format!("{:?}", ClusterSecret::new([7; 32])), "ClusterSecret(…)");
    }
}
