//! Finds the name of a value by its content: a hash table in shards.
//!
//! A table that doubles moves everything it holds at once, which at a million prefixes is tens of
//! milliseconds in which nobody is served. Shards double one by one, each in a fraction of a
//! millisecond. Keys come from peers, so their hash is keyed with the speaker's seed.

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;
use hashbrown::HashTable;
use std::hash::Hasher;

const SHARDS: usize = 256;

/// Makes hashes that no peer can foresee.
#[derive(Clone, Debug)]
pub(super) struct Hashing {
    shared: SharedSeed,
    seed: u64,
}

/// Names by hash. See the module.
#[derive(Debug)]
pub(super) struct Index {
    shards: Vec<HashTable<u32>>,
}

impl Hashing {
    pub(super) fn new(seed: u64) -> Self {
        Self { shared: SharedSeed::from_u64(seed), seed: seed.rotate_left(32) }
    }

    pub(super) fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(bytes);
        hasher.finish()
    }

    pub(super) fn words(&self, words: &[u64]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        for word in words {
            hasher.write_u64(*word);
        }
        hasher.finish()
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: std::iter::repeat_with(HashTable::new).take(SHARDS).collect() }
    }
}

impl Index {
    /// The name that `is_it` recognises.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.shards.get(shard(hash))?.find(hash, |id| is_it(*id)).copied()
    }

    /// Takes a name that is not there yet; `rehash` tells the hash of those that are.
    pub(super) fn insert(&mut self, hash: u64, id: u32, rehash: impl Fn(u32) -> u64) {
        if let Some(table) = self.shards.get_mut(shard(hash)) {
            table.insert_unique(hash, id, |id| rehash(*id));
        }
    }

    pub(super) fn remove(&mut self, hash: u64, id: u32) {
        let Some(table) = self.shards.get_mut(shard(hash)) else { return };
        if let Ok(entry) = table.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
    }
}

/// The table itself uses the low bits and the seven highest.
const fn shard(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}
