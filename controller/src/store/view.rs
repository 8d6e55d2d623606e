//! [`View`]: the objects as they were at one revision.
//!
//! A snapshot costs a pointer, never blocks a writer, and stays what it is however long it is held.
//! It shows only the range its holder was authorised for.

use std::{collections::HashSet, ops::Bound, sync::Arc};

use rpds::RedBlackTreeMapSync;

use super::{Change, Key, Object, Operation, Range, Revision};
use crate::authz::Sight;

/// The objects within a range at one revision.
#[derive(Clone, Debug)]
pub struct View {
    revision: Revision,
    objects: RedBlackTreeMapSync<Key, Object>,
    range: Range,
    sight: Option<Arc<Sight>>,
    /// Of a state that is past: containers that came to be, or to where they are, after it.
    newcomers: Arc<HashSet<Arc<str>>>,
}

impl View {
    /// All of `objects`, at `revision`.
    pub(crate) fn new(revision: Revision, objects: Vec<Object>) -> Self {
        let mut map = RedBlackTreeMapSync::new_sync();
        for object in objects {
            map.insert_mut(object.key.clone(), object);
        }
        Self {
            revision,
            objects: map,
            range: Range::Everything,
            sight: None,
            newcomers: Arc::default(),
        }
    }

    /// The revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The object at `key`.
    pub fn get(&self, key: &Key) -> Option<&Object> {
        if self.shows(key) { self.objects.get(key) } else { None }
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
        Self { range, sight: None, ..self.clone() }
    }

    /// The same, without what `sight` does not see.
    pub(crate) fn seen_by(self, sight: Option<Arc<Sight>>) -> Self {
        Self { sight, ..self }
    }

    /// The same, whose `newcomers` came after it.
    pub(super) fn without(self, newcomers: HashSet<Arc<str>>) -> Self {
        Self { newcomers: Arc::new(newcomers), ..self }
    }

    /// Containers that came to be, or to where they are, after it, as far as the log was asked.
    pub(crate) fn newcomers(&self) -> &Arc<HashSet<Arc<str>>> {
        &self.newcomers
    }

    /// Whether its holder sees what is at `key`.
    pub(crate) fn shows(&self, key: &Key) -> bool {
        self.range.contains(key) && self.sight.as_ref().is_none_or(|sight| sight.sees(key))
    }

    /// The same moment without bounds. Only for keeping: what is shown of it is bounded again by
    /// the proof of whoever asks.
    pub(crate) fn everything(&self) -> Self {
        self.within(Range::Everything)
    }

    /// Moves on to `revision`, which made `changes`.
    pub(crate) fn advance(&mut self, revision: Revision, changes: &[Change]) {
        self.revision = revision;
        for change in changes {
            // That of a deletion stays for a while, too: watchers may have to hear of it.
            change.document.pack(change.key.resource());
            match change.operation {
                Operation::Put => {
                    let object = Object {
                        key: change.key.clone(),
                        revision,
                        document: Arc::clone(&change.document),
                    };
                    self.objects.insert_mut(change.key.clone(), object);
                }
                Operation::Delete => {
                    self.objects.remove_mut(&change.key);
                }
            }
        }
    }

    /// The state at `revision`, which differs in `objects`.
    pub(super) fn with(
        &self,
        revision: Revision,
        objects: impl IntoIterator<Item = (Key, Option<Object>)>,
    ) -> Self {
        let mut view = Self { revision, ..self.clone() };
        for (key, object) in objects {
            match object {
                Some(object) => view.objects.insert_mut(key, object),
                None => {
                    view.objects.remove_mut(&key);
                }
            }
        }
        view
    }

    fn scan<'a>(&'a self, start: Bound<Key>, range: &'a Range) -> impl Iterator<Item = &'a Object> {
        self.objects
            .range((start, Bound::Unbounded))
            .map(|(_, object)| object)
            .take_while(|object| !range.is_contiguous() || range.contains(&object.key))
            .filter(|object| range.contains(&object.key) && self.range.contains(&object.key))
            .filter(self.looking())
    }

    /// Sees objects in order: those of one namespace are all seen, or none of them is.
    fn looking<'a>(&'a self) -> impl FnMut(&&'a Object) -> bool + 'a {
        let mut last: Option<(&'a str, bool)> = None;
        move |object| {
            let Some(sight) = &self.sight else { return true };
            let container = object.key.container();
            if let (Some(container), Some((known, seen))) = (container, last)
                && container == known
            {
                return seen;
            }
            let seen = sight.sees(&object.key);
            last = container.map(|container| (container, seen));
            seen
        }
    }
}
