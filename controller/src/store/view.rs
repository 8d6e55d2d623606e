//! [`View`]: the objects as they were at one revision.
//!
//! A snapshot costs a pointer, never blocks a writer, and stays what it is however long it is held.
//! It shows only the range its holder was authorised for.

use std::ops::Bound;

use rpds::RedBlackTreeMapSync;

use super::{Change, Key, Object, Operation, Range, Revision};

/// The objects within a range at one revision.
#[derive(Clone, Debug)]
pub struct View {
    revision: Revision,
    objects: RedBlackTreeMapSync<Key, Object>,
    range: Range,
}

impl View {
    /// All of `objects`, at `revision`.
    pub(crate) fn new(revision: Revision, objects: Vec<Object>) -> Self {
        let mut map = RedBlackTreeMapSync::new_sync();
        for object in objects {
            map.insert_mut(object.key.clone(), object);
        }
        Self { revision, objects: map, range: Range::Everything }
    }

    /// The revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The object at `key`.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        if self.range.contains(key) { self.objects.get(key) } else { None }
    }

    /// Every object of the view, in order of keys.
    pub fn iter(&self) -> impl Iterator<Item = &Object> {
        self.range(&self.range)
    }

    /// The objects of the view that lie in `range`, in order of keys.
    pub fn range<'a>(&'a self, range: &'a Range) -> impl Iterator<Item = &'a Object> {
        self.scan(range.start(), range)
    }

    /// The objects of `range` after `key`.
    pub fn range_after<'a>(
        &'a self,
        range: &'a Range,
        key: &Key,
    ) -> impl Iterator<Item = &'a Object> {
        self.scan(Bound::Excluded(key.clone()), range)
    }

    /// The same moment, seen through `range`.
    pub(super) fn within(&self, range: Range) -> Self {
        Self { revision: self.revision, objects: self.objects.clone(), range }
    }

    /// The same moment without bounds. Only for keeping: what is shown of it is bounded again by
    /// the proof of whoever asks.
    pub(crate) fn everything(&self) -> Self {
        self.within(Range::Everything)
    }

    /// Moves on to `revision`, which made `changes`.
    pub(super) fn advance(&mut self, revision: Revision, changes: &[Change]) {
        self.revision = revision;
        for change in changes {
            match change.operation {
                Operation::Put => {
                    let object =
                        Object { key: change.key.clone(), revision, value: change.value.clone() };
                    self.objects.insert_mut(change.key.clone(), object);
                }
                Operation::Delete => {
                    self.objects.remove_mut(&change.key);
                }
            }
        }
    }

    fn scan<'a>(&'a self, start: Bound<Key>, range: &'a Range) -> impl Iterator<Item = &'a Object> {
        self.objects
            .range((start, Bound::Unbounded))
            .map(|(_, object)| object)
            .take_while(|object| range.contains(&object.key))
            .filter(|object| self.range.contains(&object.key))
    }
}
