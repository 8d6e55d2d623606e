//! Finds the name of a value by its content: a hash table in shards.
//!
//! A table that doubles moves everything it holds at once, which at a million prefixes is tens of
//! milliseconds in which nobody is served. Shards double one by one, and as each name stands with
//! its hash, doubling looks at nothing else: some ten microseconds. Keys come from peers, so their
//! hash is keyed with the speaker's seed.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use hashbrown::HashTable;

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
    shards: Vec<HashTable<Slot>>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    id: u32,
}

impl Hashing {
    pub(super) fn new(seed: u64) -> Self {
        // A seed of few bits would leave the multiplications inside with too few to work with.
        let seed = mixed(seed);
        Self { shared: SharedSeed::from_u64(seed), seed: mixed(seed) }
    }

    pub(super) fn bytes(&self, bytes: &[u8]) -> u32 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(bytes);
        folded(hasher.finish())
    }

    pub(super) fn words(&self, words: &[u64]) -> u32 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        for word in words {
            hasher.write_u64(*word);
        }
        folded(hasher.finish())
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: std::iter::repeat_with(HashTable::new).take(SHARDS).collect() }
    }
}

impl Index {
    /// The name that `is_it` recognises.
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let found = self
            .shards
            .get(shard(hash))?
            .find(spread(hash), |slot| slot.hash == hash && is_it(slot.id));
        found.map(|slot| slot.id)
    }

    /// Takes a name that is not there yet.
    pub(super) fn insert(&mut self, hash: u32, id: u32) {
        if let Some(table) = self.shards.get_mut(shard(hash)) {
            table.insert_unique(spread(hash), Slot { hash, id }, |slot| spread(slot.hash));
        }
    }

    pub(super) fn remove(&mut self, hash: u32, id: u32) {
        let Some(table) = self.shards.get_mut(shard(hash)) else { return };
        if let Ok(entry) = table.find_entry(spread(hash), |slot| slot.id == id) {
            entry.remove();
        }
    }
}

/// SplitMix64: every bit of the seed reaches every bit of the result.
const fn mixed(seed: u64) -> u64 {
    let seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    seed ^ (seed >> 31)
}

#[expect(clippy::cast_possible_truncation, reason = "the upper half is folded into the lower")]
const fn folded(hash: u64) -> u32 {
    (hash ^ hash >> 32) as u32
}

const fn shard(hash: u32) -> usize {
    (hash >> 24) as usize % SHARDS
}

/// A table uses the lowest bits and the seven highest.
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Networks as the Internet has them: most bits of their keys never change.
    fn keys() -> impl Iterator<Item = u64> {
        (0..50_000_u64).map(|n| 0x0100_0000_u64.wrapping_add(n << 8) << 8 | 24)
    }

    #[test]
    fn names_spread_evenly_whatever_the_seed() {
        for seed in (0..64).chain((0..64).map(|n| 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n))) {
            let hashing = Hashing::new(seed);
            let hashes: Vec<_> = keys().map(|key| hashing.words(&[key])).collect();
            let count = |part: fn(u32) -> usize, parts: usize| {
                let mut counts = vec![0_usize; parts];
                for hash in &hashes {
                    counts[part(*hash)] += 1;
                }
                counts.into_iter().max().unwrap()
            };

            let fullest = count(shard, SHARDS);
            let crowded = count(|hash| (spread(hash) & 0xffff) as usize, 1 << 16);

            assert!(fullest < 2 * hashes.len() / SHARDS, "seed {seed}: {fullest} in one shard");
            assert!(crowded < 16, "seed {seed}: {crowded} in one place");
        }
    }
}
