//! Builds a directory: finds displacements under which no two keys meet.

use std::collections::BTreeMap;

use isocast_dataplane_common::{
    directory::{Entry, Key, Value},
    limits::{DIRECTORY_BUCKETS, DIRECTORY_PLACES, MAX_DIRECTORY_ENTRIES},
};

/// One generation's directory, as it lies in the kernel's maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) displacements: Vec<u32>,
    pub(crate) places: Vec<Entry>,
}

/// Why there is no directory for a set of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DirectoryError {
    /// More than [`MAX_DIRECTORY_ENTRIES`].
    TooMany,
    /// Two keys meet under every displacement that was tried.
    NoDisplacement,
}

impl Directory {
    pub(crate) fn empty() -> Self {
        Self {
            displacements: vec![0; DIRECTORY_BUCKETS],
            places: vec![Entry::default(); DIRECTORY_PLACES],
        }
    }

    pub(crate) fn build(entries: &BTreeMap<Key, Value>) -> Result<Self, DirectoryError> {
        if entries.len() > MAX_DIRECTORY_ENTRIES {
            return Err(DirectoryError::TooMany);
        }
        let mut buckets: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
        for (&key, &value) in entries {
            buckets.entry(key.bucket()).or_default().push(Entry { key, value });
        }
        // The fullest first, while there is most room.
        let mut buckets: Vec<_> = buckets.into_iter().collect();
        buckets.sort_by_key(|(_, entries)| std::cmp::Reverse(entries.len()));

        let mut directory = Self::empty();
        for (bucket, entries) in buckets {
            let displacement =
                directory.displace(&entries).ok_or(DirectoryError::NoDisplacement)?;
            if let Some(place) = directory.displacements.get_mut(bucket as usize) {
                *place = displacement;
            }
        }
        Ok(directory)
    }

    /// Puts the entries of one bucket where nobody is yet.
    fn displace(&mut self, entries: &[Entry]) -> Option<u32> {
        const ATTEMPTS: u32 = 1 << 20;
        (0..ATTEMPTS).find(|&displacement| {
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
        })
    }

    /// All entries, in no order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.places.iter().filter(|entry| **entry != Entry::default())
    }
}

#[cfg(test)]
mod tests {
    use isocast_dataplane_common::directory::{Space, mapped};
    use proptest::prelude::*;

    use super::*;

    fn find(directory: &Directory, key: &Key) -> Option<Value> {
        let displacement = directory.displacements[key.bucket() as usize];
        let entry = directory.places[key.place(displacement) as usize];
        (entry.key == *key).then_some(entry.value)
    }

    fn listener(address: u32, port: u16) -> Key {
        Key::new(Space::Listener, &mapped(address), 0, 6, port)
    }

    #[test]
    fn full_directory_finds_everything_and_nothing_else() {
        let count = u32::try_from(MAX_DIRECTORY_ENTRIES).expect("fits");
        let entries: BTreeMap<_, _> = (0..count)
            .map(|n| (listener(n / 4, (n % 4) as u16), Value { tenant: n, ..Value::default() }))
            .collect();

        let directory = Directory::build(&entries).expect("builds");

        for (key, value) in &entries {
            assert_eq!(find(&directory, key), Some(*value));
        }
        assert_eq!(find(&directory, &listener(count, 0)), None);
        assert_eq!(directory.entries().count(), entries.len());
    }

    #[test]
    fn one_entry_too_many_is_refused() {
        let count = u32::try_from(MAX_DIRECTORY_ENTRIES).expect("fits") + 1;
        let entries = (0..count).map(|n| (listener(n, 1), Value::default())).collect();

        assert_eq!(Directory::build(&entries), Err(DirectoryError::TooMany));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn any_set_of_keys_is_found(keys in prop::collection::btree_set(
            (any::<[u32; 4]>(), 0u32..0x100_0000, any::<u8>(), any::<u16>()), 0..300,
        )) {
            let entries: BTreeMap<_, _> = (0u32..)
                .zip(keys)
                .map(|(n, (address, scope, protocol, port))| {
                    let key = Key::new(Space::Accept, &address, scope, protocol, port);
                    (key, Value { tenant: n, ..Value::default() })
                })
                .collect();
            let directory = Directory::build(&entries).expect("builds");
            for (key, value) in &entries {
                prop_assert_eq!(find(&directory, key), Some(*value));
            }
        }
    }
}
