//! What an explanation asks of the tables in force.

use isocast_dataplane_common::{
    NO_BACKEND, RING_SLOTS, Slot,
    directory::{Key, Value},
    tables::{Root, Target},
};

use crate::{
    BackendKey, ServiceKey, dataplane::Generation, directory::Directory, next_hops::NextHopKeeper,
    plan::Ledger,
};

/// The questions, in the words of the program.
pub(crate) trait Lookup {
    fn generation(&self) -> Generation;
    fn root(&self) -> Root;
    fn find(&self, key: &Key) -> Option<Value>;
    /// The slot of a ring for a flow, and its place.
    fn slot(&self, ring: u16, hash: u64) -> Option<(usize, Slot)>;
    fn target(&self, number: u16) -> Option<Target>;
    /// Whose counters these are.
    fn service(&self, number: u16) -> ServiceKey;
    /// Whose target this is.
    fn backend(&self, number: u16) -> Option<BackendKey>;
}

/// What was put in force last, as this process remembers it; next hops as they are written.
pub(crate) struct InForce<'a> {
    pub(crate) generation: Generation,
    pub(crate) root: Root,
    pub(crate) directory: &'a Directory,
    pub(crate) ledger: &'a Ledger,
    pub(crate) next_hops: &'a NextHopKeeper,
}

impl Lookup for InForce<'_> {
    fn generation(&self) -> Generation {
        self.generation
    }

    fn root(&self) -> Root {
        self.root
    }

    fn find(&self, key: &Key) -> Option<Value> {
        let displacement = *self.directory.displacements.get(key.bucket() as usize)?;
        let entry = self.directory.places.get(key.place(displacement) as usize)?;
        (entry.key == *key).then_some(entry.value)
    }

    fn slot(&self, ring: u16, hash: u64) -> Option<(usize, Slot)> {
        let (slots, _) = self.ledger.rings.iter().find(|(_, number)| **number == ring)?;
        #[expect(clippy::cast_possible_truncation, reason = "masked by the ring's length")]
        let place = hash as usize & (RING_SLOTS - 1);
        Some((place, *slots.get(place)?))
    }

    fn target(&self, number: u16) -> Option<Target> {
        if number == NO_BACKEND { None } else { self.next_hops.target(number) }
    }

    fn service(&self, number: u16) -> ServiceKey {
        let mut services = self.ledger.services.iter();
        let name = services.find(|(_, it)| **it == number).map(|(name, _)| name.clone());
        ServiceKey(name.unwrap_or_default())
    }

    fn backend(&self, number: u16) -> Option<BackendKey> {
        let (owner, _) = self.ledger.targets.iter().find(|(_, it)| **it == number)?;
        Some(BackendKey(owner.key.clone()))
    }
}
