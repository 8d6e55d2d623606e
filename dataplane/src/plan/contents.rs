//! What rings hold: slots with target numbers in place of positions, known by their hash.
//!
//! A ring that is the same as in the tables before, by identity, is not read again: the cost of a
//! generation is that of the rings that changed.

use std::{collections::BTreeMap, sync::Arc};

use isocast_dataplane_common::{
    NO_BACKEND, RING_SLOTS_MIN, Slot,
    slot::{RING_SLOTS_MAX, is_ring_size},
};

use super::TablesError;
use crate::tables::Ring;

/// The hash of a ring's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Content([u8; 32]);

impl Content {
    /// Of slots with target numbers.
    pub(crate) fn of(slots: impl ExactSizeIterator<Item = Slot>) -> Self {
        let mut bytes = Vec::with_capacity(slots.len() * size_of::<Slot>());
        for slot in slots {
            bytes.extend(slot.current.to_ne_bytes());
            bytes.extend(slot.previous.to_ne_bytes());
        }
        Self(*blake3::hash(&bytes).as_bytes())
    }
}

/// A ring, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct RingContent {
    pub(crate) content: Content,
    /// As in the tables.
    slots: Arc<[Slot]>,
    /// The target number of each position in the slots.
    numbers: Arc<[u16]>,
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
        let position = self.slots.get(slot).map_or(NO_BACKEND, |slot| slot.current);
        self.numbers.get(usize::from(position)).copied().unwrap_or(NO_BACKEND)
    }

    /// Writes the slots with target numbers.
    pub(crate) fn write(&self, slots: &mut [Slot]) {
        for (to, from) in slots.iter_mut().zip(numbered(&self.slots, &self.numbers)) {
            *to = from;
        }
    }
}

/// The rings of the last tables, by the identity of their slots and what these stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(BTreeMap<(usize, Arc<[u16]>), RingContent>);

impl Known {
    pub(crate) fn of(contents: &[RingContent]) -> Self {
        let by_identity = contents.iter().map(|ring| {
            // The address is that of nothing else while `ring` holds the slots.
            ((ring.slots.as_ptr().addr(), Arc::clone(&ring.numbers)), ring.clone())
        });
        Self(by_identity.collect())
    }

    /// What a ring holds; `number` gives the target number of a position in the tables.
    pub(crate) fn content(
        &self,
        ring: &Ring,
        number: impl Fn(usize) -> Option<u16>,
    ) -> Result<RingContent, TablesError> {
        let number = |&position: &usize| {
            number(position).ok_or(TablesError::Dangling { what: "backend", position })
        };
        let numbers = ring.backends.iter().map(number).collect::<Result<Arc<[_]>, _>>()?;
        let identity = (ring.slots.as_ptr().addr(), numbers);
        if let Some(known) = self.0.get(&identity) {
            return Ok(known.clone());
        }
        let (_, numbers) = identity;
        if !is_ring_size(ring.slots.len()) {
            let (len, min, max) = (ring.slots.len(), RING_SLOTS_MIN, RING_SLOTS_MAX);
            let what = format!("a ring of {len} slots, not a power of two from {min} to {max},");
            return Err(TablesError::OutOfRange { what });
        }
        let positions = ring.slots.iter().flat_map(|slot| [slot.current, slot.previous]);
        let mut dangling = positions
            .filter(|&position| position != NO_BACKEND && usize::from(position) >= numbers.len());
        if let Some(position) = dangling.next() {
            let position = usize::from(position);
            return Err(TablesError::Dangling { what: "backend of a ring", position });
        }
        let content = Content::of(numbered(&ring.slots, &numbers));
        Ok(RingContent { content, slots: Arc::clone(&ring.slots), numbers })
    }
}

fn numbered(slots: &[Slot], numbers: &[u16]) -> impl ExactSizeIterator<Item = Slot> {
    let number = |position: u16| numbers.get(usize::from(position)).copied().unwrap_or(NO_BACKEND);
    slots
        .iter()
        .map(move |slot| Slot { current: number(slot.current), previous: number(slot.previous) })
}
