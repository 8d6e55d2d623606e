//! What rings hold: slots with numbers in place of positions, known by their hash.
//!
//! A ring that is the same as in the tables before, by identity, is not read again: the cost of a
//! generation is that of the rings that changed.

use std::{collections::BTreeMap, sync::Arc};

use isocast_dataplane_common::{
    NO_BACKEND, NO_CHAIN, RING_SLOTS_MIN, Slot,
    slot::{RING_SLOTS_MAX, is_ring_size},
};

use super::{
    TablesError,
    chains::{ByWay, Way},
};
use crate::tables::Ring;

/// The hash of a ring's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Content([u8; 32]);

impl Content {
    /// Of slots with target and chain numbers.
    pub(crate) fn of(slots: impl ExactSizeIterator<Item = Slot>) -> Self {
        let mut bytes = Vec::with_capacity(slots.len() * size_of::<Slot>());
        for slot in slots {
            bytes.extend(slot.current.to_ne_bytes());
            bytes.extend(slot.chain.to_ne_bytes());
        }
        Self(*blake3::hash(&bytes).as_bytes())
    }
}

/// What the positions in a ring's slots stand for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Meaning {
    /// Target number of each backend, and how it is reached.
    pub(super) targets: Vec<(u16, Way)>,
    /// Number of each chain.
    pub(super) chains: Vec<ByWay<u16>>,
    /// Number of each track's chain.
    pub(super) tracks: Vec<u16>,
}

impl Meaning {
    /// A slot with target and chain numbers.
    fn slot(&self, slot: Slot) -> Slot {
        let target = self.targets.get(usize::from(slot.backend()));
        let (current, way) = target.copied().unwrap_or((NO_BACKEND, Way::Here));
        let position = usize::from(slot.chain);
        if slot.is_tracked() {
            return match self.tracks.get(position) {
                Some(track) if current != NO_BACKEND => Slot::tracked(current, *track),
                _ => Slot::settled(current),
            };
        }
        let chain = self.chains.get(position).map(|by_way| *way.of(by_way));
        Slot { current, chain: chain.unwrap_or(NO_CHAIN) }
    }

    /// What a slot points at and is not there.
    fn missing(&self, slot: Slot) -> Option<TablesError> {
        let dangling = |what, position: u16, none, len| {
            let position_of = usize::from(position);
            let is_there = position == none || position_of < len;
            (!is_there).then_some(TablesError::Dangling { what, position: position_of })
        };
        let (what, chains) = if slot.is_tracked() {
            ("track of a ring", self.tracks.len())
        } else {
            ("chain of a ring", self.chains.len())
        };
        dangling("backend of a ring", slot.backend(), NO_BACKEND, self.targets.len())
            .or_else(|| dangling(what, slot.chain, NO_CHAIN, chains))
    }
}

/// A ring, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct RingContent {
    pub(crate) content: Content,
    /// As in the tables.
    slots: Arc<[Slot]>,
    meaning: Arc<Meaning>,
}

impl RingContent {
    /// Number of slots.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn blocks(&self) -> usize {
        self.len() / RING_SLOTS_MIN
    }

    /// The target that new flows of a hash get, or [`NO_BACKEND`].
    pub(crate) fn current(&self, hash: u64) -> u16 {
        let slot = usize::try_from(hash % self.len().max(1) as u64).unwrap_or(0);
        self.slots.get(slot).map_or(NO_BACKEND, |slot| self.meaning.slot(*slot).backend())
    }

    /// Writes the slots with target and chain numbers.
    pub(crate) fn write(&self, slots: &mut [Slot]) {
        for (to, from) in slots.iter_mut().zip(self.slots.iter()) {
            *to = self.meaning.slot(*from);
        }
    }
}

/// The rings of the last tables, by the identity of their slots and what these stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(BTreeMap<(usize, Arc<Meaning>), RingContent>);

impl Known {
    pub(crate) fn of(contents: &[RingContent]) -> Self {
        let by_identity = contents.iter().map(|ring| {
            // The address is that of nothing else while `ring` holds the slots.
            ((ring.slots.as_ptr().addr(), Arc::clone(&ring.meaning)), ring.clone())
        });
        Self(by_identity.collect())
    }

    /// What a ring holds whose positions have this meaning.
    pub(crate) fn content(
        &self,
        ring: &Ring,
        meaning: Meaning,
    ) -> Result<RingContent, TablesError> {
        let identity = (ring.slots.as_ptr().addr(), Arc::new(meaning));
        if let Some(known) = self.0.get(&identity) {
            return Ok(known.clone());
        }
        let (_, meaning) = identity;
        if !is_ring_size(ring.slots.len()) {
            let (len, min, max) = (ring.slots.len(), RING_SLOTS_MIN, RING_SLOTS_MAX);
            let what = format!("a ring of {len} slots, not a power of two from {min} to {max},");
            return Err(TablesError::OutOfRange { what });
        }
        if let Some(error) = ring.slots.iter().find_map(|slot| meaning.missing(*slot)) {
            return Err(error);
        }
        let content = Content::of(ring.slots.iter().map(|slot| meaning.slot(*slot)));
        Ok(RingContent { content, slots: Arc::clone(&ring.slots), meaning })
    }
}
