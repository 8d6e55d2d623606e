//! Attribute sets, each kept once, however many routes share it.
//!
//! A set is its [block](crate::wire::block): equal bytes are one set with one name, so two routes
//! are the same exactly if their names are. Beside the bytes stands what best-path selection asks
//! for, read once when the set comes in. A set goes with the last route that uses it.

use std::num::NonZeroU32;

use super::arena::{Arena, Place};
use super::index::{Hashing, Index};
use super::slab::Slab;
use crate::wire::attribute::type_code as code;
use crate::wire::block::{self, Block};
use crate::wire::reader::Reader;

/// LOCAL_PREF of a route that carries none, the value that everybody defaults to.
pub(crate) const LOCAL_PREF_DEFAULT: u32 = 100;

/// Names an attribute set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct AttrId(NonZeroU32);

/// What selection and export ask of a set.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traits {
    /// LOCAL_PREF, AS_PATH length and ORIGIN in one number: the smaller, the better.
    pub(super) rank: u64,
    /// First AS of the path: the one whose MEDs compare.
    pub(super) neighbour: u32,
    pub(super) med: u32,
    pub(super) well_known: WellKnown,
}

/// Communities that mean something to this speaker, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WellKnown(u8);

impl WellKnown {
    pub(super) const NO_EXPORT: Self = Self(1);
    pub(super) const NO_ADVERTISE: Self = Self(2);
    pub(super) const GRACEFUL_SHUTDOWN: Self = Self(4);
    pub(super) const LLGR_STALE: Self = Self(8);
    pub(super) const NO_LLGR: Self = Self(16);
    pub(super) const BLACKHOLE: Self = Self(32);

    const fn of(community: u32) -> Self {
        match community {
            0xffff_0000 => Self::GRACEFUL_SHUTDOWN, // RFC 8326
            0xffff_0006 => Self::LLGR_STALE,        // RFC 9494
            0xffff_0007 => Self::NO_LLGR,           // RFC 9494
            0xffff_029a => Self::BLACKHOLE,         // RFC 7999
            // RFC 1997. Without confederations NO_EXPORT_SUBCONFED ends at the same border.
            0xffff_ff01 | 0xffff_ff03 => Self::NO_EXPORT,
            0xffff_ff02 => Self::NO_ADVERTISE,
            _ => Self(0),
        }
    }

    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

#[derive(Debug, Default)]
struct Entry {
    block: Place,
    traits: Traits,
    uses: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct AttributeStore {
    entries: Slab<Entry>,
    blocks: Arena,
    index: Index,
    hashing: Hashing,
}

impl AttrId {
    /// From the place in the slab.
    const fn new(place: u32) -> Option<Self> {
        match NonZeroU32::new(place.wrapping_add(1)) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    const fn place(self) -> u32 {
        self.0.get().wrapping_sub(1)
    }
}

impl AttributeStore {
    pub(super) fn new(hashing: Hashing) -> Self {
        Self {
            entries: Slab::default(),
            blocks: Arena::default(),
            index: Index::default(),
            hashing,
        }
    }

    /// Sets held.
    pub(super) const fn len(&self) -> usize {
        self.entries.len()
    }

    /// The name of a set, which counts as one use of it; nothing if there are too many.
    pub(super) fn intern(&mut self, block: &[u8]) -> Option<AttrId> {
        let hash = self.hashing.bytes(block);
        let (entries, blocks) = (&self.entries, &self.blocks);
        let is_it =
            |place| entries.get(place).is_some_and(|entry| *blocks.get(entry.block) == *block);
        if let Some(place) = self.index.find(hash, is_it) {
            let id = AttrId::new(place)?;
            self.retain(id);
            return Some(id);
        }
        let traits = Traits::of(Block::from_canonical(block));
        let block = self.blocks.insert(block)?;
        let place = self.entries.insert(Entry { block, traits, uses: 1 })?;
        self.index.insert(hash, place);
        AttrId::new(place)
    }

    /// Counts one more use of a set.
    pub(super) fn retain(&mut self, id: AttrId) {
        if let Some(entry) = self.entries.get_mut(id.place()) {
            entry.uses = entry.uses.saturating_add(1);
        }
    }

    /// Ends one use of a set.
    pub(super) fn release(&mut self, id: AttrId) {
        let Some(entry) = self.entries.get_mut(id.place()) else { return };
        entry.uses = entry.uses.saturating_sub(1);
        if entry.uses == 0 {
            let block = entry.block;
            let hash = self.hashing.bytes(self.blocks.get(block));
            self.index.remove(hash, id.place());
            self.blocks.remove(block);
            self.entries.remove(id.place(), Entry::default());
        }
    }

    pub(super) fn traits(&self, id: AttrId) -> Traits {
        self.entries.get(id.place()).map(|entry| entry.traits).unwrap_or_default()
    }

    pub(super) fn block(&self, id: AttrId) -> Block<'_> {
        let bytes = self.entries.get(id.place()).map(|entry| self.blocks.get(entry.block));
        Block::from_canonical(bytes.unwrap_or_default())
    }
}

impl Traits {
    pub(super) fn of(block: Block<'_>) -> Self {
        let mut traits = Self::default();
        let (mut local_pref, mut hops, mut origin) = (LOCAL_PREF_DEFAULT, 0_u16, 0_u8);
        for attribute in block.attributes() {
            let mut reader = Reader::new(attribute.value);
            match attribute.code {
                code::ORIGIN => origin = block::origin(attribute.value) as u8,
                code::AS_PATH => {
                    while let Ok([_, count]) = reader.array() {
                        let bytes = usize::from(count).wrapping_mul(4);
                        let segment = reader.take(bytes).unwrap_or_default();
                        if hops == 0 {
                            traits.neighbour = Reader::new(segment).u32().unwrap_or_default();
                        }
                        hops = hops.saturating_add(u16::from(count));
                    }
                }
                code::MED => traits.med = reader.u32().unwrap_or_default(),
                code::LOCAL_PREF => local_pref = reader.u32().unwrap_or(local_pref),
                code::COMMUNITIES => {
                    while let Ok(community) = reader.u32() {
                        traits.well_known.0 |= WellKnown::of(community).0;
                    }
                }
                _ => {}
            }
        }
        traits.rank = u64::from(!local_pref) << 18 | u64::from(hops) << 2 | u64::from(origin);
        traits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sets_have_one_name_until_nobody_uses_it() {
        let mut store = AttributeStore::new(Hashing::new(1));

        let first = store.intern(&[0, 0x40, 1, 1, 0]).unwrap();
        assert_eq!(store.intern(&[0, 0x40, 1, 1, 0]), Some(first));
        assert_ne!(store.intern(&[0, 0x40, 1, 1, 2]), Some(first));
        assert_eq!(store.len(), 2);

        store.release(first);
        assert_eq!(store.len(), 2);
        store.release(first);
        assert_eq!(store.len(), 1);
    }
}
