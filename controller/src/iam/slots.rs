//! [`Slots`]: names that other things refer to, as small numbers that stay as long as anybody does.
//!
//! A name may be referred to before what it names exists, so the order in which objects come does
//! not matter. A number is given away again only when nobody refers to it any more, so names that
//! come and go cost nothing.

use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};

/// Values by number and by key.
#[derive(Debug)]
pub(super) struct Slots<K, V> {
    numbers: HashMap<K, u32, RandomState>,
    slots: Vec<Option<Slot<K, V>>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    value: V,
    references: u32,
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), slots: Vec::new(), free: Vec::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Slots<K, V> {
    /// The number of `key`, with one more who refers to it.
    pub(super) fn acquire<Q>(&mut self, key: &Q, owned: impl FnOnce() -> K) -> u32
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if let Some(&number) = self.numbers.get(key) {
            if let Some(slot) = self.slot_mut(number) {
                slot.references = slot.references.saturating_add(1);
            }
            return number;
        }
        let owned = owned();
        let slot = Some(Slot { key: owned.clone(), value: V::default(), references: 1 });
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = self.slots.get_mut(number as usize) {
                    *place = slot;
                }
                number
            }
            None => {
                let number = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
                self.slots.push(slot);
                number
            }
        };
        self.numbers.insert(owned, number);
        number
    }

    /// One less refers to `number`; without any it is forgotten.
    pub(super) fn release(&mut self, number: u32) {
        let Some(slot) = self.slot_mut(number) else { return };
        slot.references = slot.references.saturating_sub(1);
        if slot.references > 0 {
            return;
        }
        if let Some(Some(gone)) = self.slots.get_mut(number as usize).map(Option::take) {
            self.numbers.remove(&gone.key);
            self.free.push(number);
        }
    }

    pub(super) fn find<Q>(&self, key: &Q) -> Option<u32>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.numbers.get(key).copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<&V> {
        self.slots.get(number as usize)?.as_ref().map(|slot| &slot.value)
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut V> {
        self.slot_mut(number).map(|slot| &mut slot.value)
    }

    pub(super) fn key(&self, number: u32) -> Option<&K> {
        self.slots.get(number as usize)?.as_ref().map(|slot| &slot.key)
    }

    /// Every number in use.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.numbers.values().copied()
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot<K, V>> {
        self.slots.get_mut(number as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_until_nobody_refers_to_it_and_is_then_used_again() {
        let mut slots: Slots<String, u8> = Slots::default();
        let a = slots.acquire("a", || "a".to_owned());
        assert_eq!(slots.acquire("a", || "a".to_owned()), a);

        slots.release(a);
        assert_eq!(slots.find("a"), Some(a));
        slots.release(a);

        assert_eq!(slots.find("a"), None);
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.acquire("b", || "b".to_owned()), a);
        assert_eq!(slots.numbers().count(), 1);
    }
}
