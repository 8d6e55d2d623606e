//! Keys of the data plane: what nodes must agree on without talking.
//!
//! Three purposes, three kinds, none derived from another:
//! - **Key tags** say that a tunnel packet comes from this cluster. One is sent; two are believed
//!   while nodes move on from one to the other, one by one.
//! - **Flow keys** decide which slot of a ring a flow gets. They are secret, so that nobody can choose
//!   connections that all go to one backend, and the same on every edge. While edges move on from one
//!   to the other, and for as long as flows live that an earlier one has placed, the others are asked
//!   for the second chance.
//! - **Ring keys** make the ring of each service another permutation. They are no secret: what a ring
//!   holds helps nobody who does not know which slot a flow gets.

use std::fmt;

use isocast_dataplane_common::tables::Root;

/// Keys that a node works with; flipped in with the tables that they are part of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    /// The tag of packets that are sent.
    pub sent: KeyTag,
    /// Tags that are believed; the same twice, where it is one.
    pub believed: [KeyTag; 2],
    /// Places new flows.
    pub flow: FlowKey,
    /// May have placed flows that live, the likeliest first; at most
    /// [`isocast_dataplane_common::OTHER_FLOW_KEYS`].
    pub other_flows: Vec<FlowKey>,
}

/// The cluster's tag in tunnel packets, as it travels.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyTag(pub [u8; 4]);

/// Key of the flow hash.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowKey(pub [u8; 16]);

/// Key of the ring of the service of this name: every node that balances it fills the same ring.
#[must_use]
pub fn ring_key(service: &str) -> [u64; 2] {
    let key = blake3::derive_key("isocast v1 ring key", service.as_bytes());
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = key;
    FlowKey([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]).words()
}

// === impl Keyring ===

impl Keyring {
    /// As the kernel's table holds it.
    pub(crate) fn root(&self, pass_on_max: u32) -> Root {
        let mut root = Root {
            flow_key: self.flow.words(),
            key_tags: self.believed.map(KeyTag::word),
            pass_on_max,
            ..Root::default()
        };
        for (word, other) in root.other_flow_keys.iter_mut().zip(&self.other_flows) {
            *word = other.words();
            root.others = root.others.saturating_add(1);
        }
        root
    }
}

// === impl KeyTag ===

impl From<[u8; 4]> for KeyTag {
    fn from(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }
}

impl KeyTag {
    /// In network order.
    pub(crate) const fn word(self) -> u32 {
        u32::from_ne_bytes(self.0)
    }
}

/// Never shows the tag.
impl fmt::Debug for KeyTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyTag(…)")
    }
}

// === impl FlowKey ===

impl From<[u8; 16]> for FlowKey {
    fn from(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }
}

impl FlowKey {
    const fn words(self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.0;
        [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
    }
}

/// Never shows the key.
impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlowKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_of_different_services_have_different_keys() {
        assert_ne!(ring_key("web-prod/a"), ring_key("web-prod/b"));
        assert_eq!(ring_key("web-prod/a"), ring_key("web-prod/a"));
    }

    #[test]
    fn kernel_is_told_how_many_other_flow_keys_there_are() {
        let keys = |others: &[u8]| Keyring {
            other_flows: others.iter().map(|it| FlowKey([*it; 16])).collect(),
            ..Keyring::default()
        };
        let one = u64::from_ne_bytes([7; 8]);

        assert_eq!(keys(&[]).root(1).others, 0);
        let root = keys(&[7]).root(1);
        assert_eq!((root.others, root.other_flow_keys), (1, [[one; 2], [0; 2]]));
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = Keyring { other_flows: vec![FlowKey([9; 16])], ..Keyring::default() };

        let shown = format!("{keys:?}");

        assert!(!shown.contains('0') && !shown.contains('9'), "{shown}");
    }
}
