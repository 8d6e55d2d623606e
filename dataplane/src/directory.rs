//! Builds a directory: finds displacements under which no two keys meet.
//!
//! A directory is changed in place where it lies idle: entries that stay keep their places, so the
//! work is that of the change, whatever the number of entries.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
};

use isocast_dataplane_common::{
    directory::{Entry, Key, Value},
    limits::{DIRECTORY_BUCKETS, DIRECTORY_PLACES},
};

use crate::mapped::Mapped;

/// What a directory lists.
pub(crate) type Entries = BTreeMap<Key, Value>;

/// Two keys meet under every displacement that was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no displacement keeps the directory's keys apart")]
pub(crate) struct NoDisplacement;

/// Both generations' directories, in the kernel's memory.
pub(crate) struct Directories {
    displacements: Mapped<u64>,
    places: Mapped<Entry>,
    /// What the two halves list.
    listed: [Entries; 2],
}

/// One generation's directory.
#[derive(Debug)]
struct Directory<'a> {
    displacements: &'a mut [u64],
    places: &'a mut [Entry],
}

// === impl Directories ===

impl Directories {
    /// Finds out what the halves list: both maps have twice the size of a directory.
    pub(crate) fn open(displacements: Mapped<u64>, places: Mapped<Entry>) -> Self {
        let (even, odd) = places.values().split_at(DIRECTORY_PLACES.min(places.values().len()));
        let listed = [even, odd].map(|half| {
            let taken = half.iter().filter(|entry| **entry != Entry::default());
            taken.map(|entry| (entry.key, entry.value)).collect()
        });
        Self { displacements, places, listed }
    }

    /// What the half of a generation lists.
    pub(crate) const fn listed(&self, half: u32) -> &Entries {
        let [even, odd] = &self.listed;
        if half == 0 { even } else { odd }
    }

    /// Makes a half that is not in force list `wanted`, which are not more than fit.
    pub(crate) fn put(&mut self, half: u32, wanted: Entries) -> Result<(), NoDisplacement> {
        let (mut directory, listed) = self.half_mut(half);
        directory.put(listed, wanted)
    }

    /// Empties a half that is not in force: whatever it holds, it is not what was put there.
    pub(crate) fn clear(&mut self, half: u32) {
        let (mut directory, listed) = self.half_mut(half);
        directory.clear();
        listed.clear();
    }

    fn half_mut(&mut self, half: u32) -> (Directory<'_>, &mut Entries) {
        let half_of = |len| if half == 0 { 0..len } else { len..2 * len };
        let displacements = self.displacements.values_mut().get_mut(half_of(DIRECTORY_BUCKETS));
        let places = self.places.values_mut().get_mut(half_of(DIRECTORY_PLACES));
        let [even, odd] = &mut self.listed;
        let listed = if half == 0 { even } else { odd };
        let directory = Directory {
            displacements: displacements.unwrap_or_default(),
            places: places.unwrap_or_default(),
        };
        (directory, listed)
    }
}

// === impl Directory ===

impl Directory<'_> {
    /// Makes the directory list `wanted` instead of `listed`. A failure leaves nothing listed.
    fn put(&mut self, listed: &mut Entries, wanted: Entries) -> Result<(), NoDisplacement> {
        let mut fresh: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
        for (key, change) in changes(listed, &wanted) {
            match change {
                Change::Removed => self.write(key, Entry::default()),
                Change::Replaced(value) => self.write(key, Entry { key, value }),
                Change::Added => drop(fresh.entry(key.bucket()).or_default()),
            }
        }
        if !fresh.is_empty() {
            for (&key, &value) in &wanted {
                if let Some(bucket) = fresh.get_mut(&key.bucket()) {
                    bucket.push(Entry { key, value });
                }
            }
        }
        // The fullest first, while there is most room.
        let mut fresh: Vec<_> = fresh.into_iter().collect();
        fresh.sort_by_key(|(_, entries)| Reverse(entries.len()));
        for (bucket, entries) in fresh {
            if self.displace(bucket, &entries).is_none() {
                self.clear();
                listed.clear();
                return Err(NoDisplacement);
            }
        }
        *listed = wanted;
        Ok(())
    }

    fn clear(&mut self) {
        self.displacements.fill(0);
        self.places.fill(Entry::default());
    }

    /// Writes to the place of a key that has one.
    fn write(&mut self, key: Key, entry: Entry) {
        if let Some(place) = self.place_of(key)
            && place.key == key
        {
            *place = entry;
        }
    }

    /// The place where a key is looked for.
    #[expect(clippy::cast_possible_truncation, reason = "the low half")]
    fn place_of(&mut self, key: Key) -> Option<&mut Entry> {
        let displacement = *self.displacements.get(key.bucket() as usize)?;
        self.places.get_mut(key.place(displacement as u32) as usize)
    }

    /// Puts the entries of one bucket, all of them, where nobody is yet.
    fn displace(&mut self, bucket: u32, entries: &[Entry]) -> Option<()> {
        const ATTEMPTS: u32 = 1 << 20;
        for entry in entries {
            self.write(entry.key, Entry::default());
        }
        let displacement = (0..ATTEMPTS).find(|&displacement| {
            let mut taken = Vec::with_capacity(entries.len());
            for entry in entries {
                let at = entry.key.place(displacement) as usize;
                if let Some(place) = self.places.get_mut(at)
                    && *place == Entry::default()
                {
                    *place = *entry;
                    taken.push(at);
                    continue;
                }
                for at in taken {
                    if let Some(place) = self.places.get_mut(at) {
                        *place = Entry::default();
                    }
                }
                return false;
            }
            true
        })?;
        // Bits of keys that are removed later stay: they cost a read, no more.
        let bits = entries.iter().fold(0, |bits, entry| bits | entry.key.bit());
        *self.displacements.get_mut(bucket as usize)? = bits | u64::from(displacement);
        Some(())
    }
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Replaced(Value),
}

/// The difference, by key.
fn changes<'a>(
    listed: &'a Entries,
    wanted: &'a Entries,
) -> impl Iterator<Item = (Key, Change)> + 'a {
    let (mut listed, mut wanted) = (listed.iter().peekable(), wanted.iter().peekable());
    std::iter::from_fn(move || {
        loop {
            let order = match (listed.peek(), wanted.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((present, _)), Some((key, _))) => present.cmp(key),
            };
            match order {
                Ordering::Less => return listed.next().map(|(key, _)| (*key, Change::Removed)),
                Ordering::Greater => return wanted.next().map(|(key, _)| (*key, Change::Added)),
                Ordering::Equal => {
                    let ((_, old), (key, new)) = (listed.next()?, wanted.next()?);
                    if old != new {
                        return Some((*key, Change::Replaced(*new)));
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use isocast_dataplane_common::{
        directory::{Space, mapped},
        limits::MAX_DIRECTORY_ENTRIES,
    };
    use proptest::prelude::*;

    use super::*;

    /// A directory in this process's memory.
    struct Owned {
        displacements: Vec<u64>,
        places: Vec<Entry>,
        listed: Entries,
    }

    impl Owned {
        fn new() -> Self {
            Self {
                displacements: vec![0; DIRECTORY_BUCKETS],
                places: vec![Entry::default(); DIRECTORY_PLACES],
                listed: Entries::new(),
            }
        }

        fn put(&mut self, wanted: &Entries) {
            let Self { displacements, places, listed } = self;
            Directory { displacements, places }.put(listed, wanted.clone()).expect("displaced");
        }

        /// As the program looks it up.
        fn find(&self, key: &Key) -> Option<Value> {
            let displacement = self.displacements[key.bucket() as usize];
            if displacement & key.bit() == 0 {
                return None;
            }
            let low = u32::try_from(displacement & 0xffff_ffff).expect("32 bits");
            let entry = self.places[key.place(low) as usize];
            (entry.key == *key).then_some(entry.value)
        }

        fn taken(&self) -> usize {
            self.places.iter().filter(|entry| **entry != Entry::default()).count()
        }
    }

    fn listener(address: u32, port: u16) -> Key {
        Key::new(Space::Listener, &mapped(address), 0, 6, port)
    }

    #[test]
    fn full_directory_finds_everything_and_nothing_else() {
        let count = u32::try_from(MAX_DIRECTORY_ENTRIES).expect("fits");
        let entries: Entries = (0..count)
            .map(|n| (listener(n / 4, (n % 4) as u16), Value { tenant: n, ..Value::default() }))
            .collect();

        let mut directory = Owned::new();
        directory.put(&entries);

        for (key, value) in &entries {
            assert_eq!(directory.find(key), Some(*value));
        }
        assert_eq!(directory.find(&listener(count, 0)), None);
        assert_eq!(directory.taken(), entries.len());

        directory.put(&Entries::new());
        assert_eq!(directory.taken(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Whatever sets follow each other: the directory lists the last one, and nothing else.
        #[test]
        fn any_sets_of_keys_in_turn_are_found(steps in prop::collection::vec(
            prop::collection::btree_map(
                (0u32..40, 0u32..3, any::<bool>(), 0u16..4), any::<u32>(), 0..300,
            ), 1..5,
        )) {
            let mut directory = Owned::new();
            for step in steps {
                let entries: Entries = step
                    .into_iter()
                    .map(|((address, scope, tcp, port), tenant)| {
                        let protocol = if tcp { 6 } else { 17 };
                        let key = Key::new(Space::Accept, &mapped(address), scope, protocol, port);
                        (key, Value { tenant, ..Value::default() })
                    })
                    .collect();
                directory.put(&entries);

                for (key, value) in &entries {
                    prop_assert_eq!(directory.find(key), Some(*value));
                }
                prop_assert_eq!(directory.taken(), entries.len());
            }
        }
    }
}
