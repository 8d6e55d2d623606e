//! [`Configuration`]: a node's entries by key, with digest, difference and application.

use std::collections::BTreeMap;

use prost::Message;
use thiserror::Error;

use super::proto::{Delta, Entry, Snapshot};

/// A node's configuration: entries by their unique key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    entries: BTreeMap<String, Entry>,
}

/// BLAKE3 over a configuration, see [`Configuration::digest`].
pub type Digest = [u8; DIGEST_BYTES];

/// Length of a [`Digest`].
pub const DIGEST_BYTES: usize = 32;

/// Why a snapshot or a delta is not believed.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigurationError {
    /// The entries do not hash to what the sender promised.
    #[error("digest does not match the entries of revision {revision}")]
    Digest {
        /// Revision of the refused message.
        revision: u64,
    },
    /// Two entries share a key.
    #[error("entry {key:?} appears twice")]
    Duplicate {
        /// The shared key.
        key: String,
    },
    /// An entry has no key or no value.
    #[error("entry {key:?} has no key or no value")]
    Empty {
        /// Its key, perhaps empty.
        key: String,
    },
}

impl Configuration {
    /// Collects entries into a configuration.
    ///
    /// # Errors
    /// A key that appears twice, an empty key, an entry without a value.
    pub fn from_entries(
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<Self, ConfigurationError> {
        let mut set = Self::default();
        for entry in entries {
            let key = entry.key.clone();
            if key.is_empty() || entry.value.is_none() {
                return Err(ConfigurationError::Empty { key });
            }
            if set.entries.insert(key.clone(), entry).is_some() {
                return Err(ConfigurationError::Duplicate { key });
            }
        }
        Ok(set)
    }

    /// Opens a snapshot.
    ///
    /// # Errors
    /// Entries that are malformed or do not match the snapshot's digest.
    pub fn from_snapshot(snapshot: Snapshot) -> Result<Self, ConfigurationError> {
        let set = Self::from_entries(snapshot.entries)?;
        set.expect_digest(&snapshot.digest, snapshot.revision)?;
        Ok(set)
    }

    /// The configuration as a snapshot of `revision`.
    #[must_use]
    pub fn snapshot(&self, revision: u64) -> Snapshot {
        Snapshot {
            revision,
            digest: self.digest().to_vec(),
            entries: self.entries.values().cloned().collect(),
        }
    }

    /// What leads from `self` at `from_revision` to `new` at `revision`.
    #[must_use]
    pub fn diff(&self, new: &Self, from_revision: u64, revision: u64) -> Delta {
        let upserts =
            new.entries.iter().filter(|(key, entry)| self.entries.get(*key) != Some(entry));
        let removes = self.entries.keys().filter(|key| !new.entries.contains_key(*key));
        Delta {
            from_revision,
            revision,
            digest: new.digest().to_vec(),
            upserts: upserts.map(|(_, entry)| entry.clone()).collect(),
            removes: removes.cloned().collect(),
        }
    }

    /// The configuration after `delta`; `self` is untouched.
    ///
    /// # Errors
    /// Malformed entries, or a result that does not match the delta's digest.
    pub fn apply(&self, delta: Delta) -> Result<Self, ConfigurationError> {
        let mut next = self.clone();
        for key in &delta.removes {
            next.entries.remove(key);
        }
        let upserts = Self::from_entries(delta.upserts)?;
        next.entries.extend(upserts.entries);
        next.expect_digest(&delta.digest, delta.revision)?;
        Ok(next)
    }

    /// BLAKE3 over the entries in key order, each preceded by its length.
    ///
    /// Entries hold no map fields, so their protobuf encoding is deterministic.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for entry in self.entries.values() {
            hasher.update(&entry.encode_length_delimited_to_vec());
        }
        *hasher.finalize().as_bytes()
    }

    /// The entry of this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Entries in key order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn expect_digest(&self, promised: &[u8], revision: u64) -> Result<(), ConfigurationError> {
        if self.digest() == promised {
            Ok(())
        } else {
            Err(ConfigurationError::Digest { revision })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::{EncapSource, entry::Value};

    fn entry(key: u8, value: u8) -> Entry {
        let source = EncapSource { address: value.to_string(), node: String::new() };
        Entry { key: format!("source/{key}"), value: Some(Value::Source(source)) }
    }

    fn configuration(pairs: &BTreeMap<u8, u8>) -> Configuration {
        Configuration::from_entries(pairs.iter().map(|(k, v)| entry(*k, *v))).unwrap()
    }

    proptest! {
        #[test]
        fn diff_then_apply_leads_to_the_new_configuration(
            old: BTreeMap<u8, u8>,
            new: BTreeMap<u8, u8>,
        ) {
            let (old, new) = (configuration(&old), configuration(&new));

            let delta = old.diff(&new, 1, 2);

            prop_assert_eq!(old.apply(delta).unwrap(), new);
        }
    }

    #[test]
    fn a_delta_for_another_base_is_refused() {
        let base = configuration(&BTreeMap::from([(1, 1)]));
        let new = configuration(&BTreeMap::from([(1, 1), (2, 2)]));
        let other = configuration(&BTreeMap::from([(1, 9)]));

        let refused = other.apply(base.diff(&new, 1, 2));

        assert_eq!(refused, Err(ConfigurationError::Digest { revision: 2 }));
    }

    #[test]
    fn a_snapshot_round_trips_and_a_changed_one_is_refused() {
        let set = configuration(&BTreeMap::from([(1, 1), (2, 2)]));
        let mut snapshot = set.snapshot(7);
        assert_eq!(Configuration::from_snapshot(snapshot.clone()), Ok(set));

        snapshot.entries.pop();

        let refused = Configuration::from_snapshot(snapshot);
        assert_eq!(refused, Err(ConfigurationError::Digest { revision: 7 }));
    }

    #[test]
    fn two_entries_with_one_key_are_refused() {
        let refused = Configuration::from_entries([entry(1, 1), entry(1, 2)]);

        assert_eq!(refused, Err(ConfigurationError::Duplicate { key: "source/1".into() }));
    }
}
