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
    slots: Vec<Option<Slot<K>>>,
    /// Apart from their names, which few ask for: what is read often lies together.
    values: Vec<Option<V>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<K> {
    key: K,
    references: u32,
}

impl<K, V> Default for Slots<K, V> {
    fn default() -> Self {
        Self {
            numbers: HashMap::default(),
            slots: Vec::new(),
            values: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<K: Clone + Eq + Hash, V: Default> Slots<K, V> {
    /// The number of `key`, with one more who refers to it.
    pub(super) fn acquire<Q>(&mut self, key: &Q, owned: impl FnOnce() -> K) -> u32
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if let Some(&number) = self.numbers.get(key) {
            if let Some(Some(slot)) = self.slots.get_mut(number as usize) {
                slot.references = slot.references.saturating_add(1);
            }
            return number;
        }
        let owned = owned();
        let slot = Some(Slot { key: owned.clone(), references: 1 });
        let number = match self.free.pop() {
            Some(number) => {
                let place = number as usize;
                if let (Some(name), Some(value)) =
                    (self.slots.get_mut(place), self.values.get_mut(place))
                {
                    (*name, *value) = (slot, Some(V::default()));
                }
                number
            }
            None => {
                let number = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
                self.slots.push(slot);
                self.values.push(Some(V::default()));
                number
            }
        };
        self.numbers.insert(owned, number);
        number
    }

    /// One less refers to `number`; without any it is forgotten.
    pub(super) fn release(&mut self, number: u32) {
        let Some(place) = self.slots.get_mut(number as usize) else { return };
        let Some(slot) = place else { return };
        slot.references = slot.references.saturating_sub(1);
        if slot.references > 0 {
            return;
        }
        self.numbers.remove(&slot.key);
        *place = None;
        if let Some(value) = self.values.get_mut(number as usize) {
            *value = None;
        }
        self.free.push(number);
    }

    pub(super) fn find<Q>(&self, key: &Q) -> Option<u32>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.numbers.get(key).copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<&V> {
        self.values.get(number as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut V> {
        self.values.get_mut(number as usize)?.as_mut()
    }

    pub(super) fn key(&self, number: u32) -> Option<&K> {
        self.slots.get(number as usize)?.as_ref().map(|slot| &slot.key)
    }

    /// How many refer to a number.
    pub(super) fn references(&self, number: u32) -> u32 {
        let slot = self.slots.get(number as usize).and_then(Option::as_ref);
        slot.map_or(0, |slot| slot.references)
    }

    /// Every number in use.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.numbers.values().copied()
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
