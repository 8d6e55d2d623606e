//! [`Index`]: who names whom, in both directions of time.
//!
//! Follows the log, and remembers what was proposed since: the sequencer judges many writes before it
//! makes them durable, and a deletion must see the user that came a moment earlier. So what
//! [`Index::candidates`] gives is more than there is, never less; the view has the last word. Looking
//! up costs what the target's users cost, however many objects there are.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;
use isocast_api::{
    reference::{Hold, Named, Reference},
    registry::kinds,
};
use serde_json::Value;

use crate::store::{Event, Key, Operation, Resource, Revision, View};

/// Who names whom.
#[derive(Debug, Default)]
pub(super) struct Index {
    references: HashMap<Resource, &'static [Reference], RandomState>,
    users: HashMap<Key, BTreeSet<Key>, RandomState>,
    /// What was proposed after `followed`; much of it may have been refused.
    proposed: HashMap<Key, BTreeSet<Key>, RandomState>,
    followed: Revision,
}

/// A reference of one object to another.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) target: Key,
    pub(super) reference: &'static Reference,
}

impl Index {
    /// The index of everything in `view`.
    pub(super) fn of(view: &View) -> Self {
        let references = kinds()
            .iter()
            .filter(|kind| !kind.references.is_empty())
            .map(|kind| (Resource::new(kind.plural, kind.group), kind.references))
            .collect();
        let mut index = Self { references, followed: view.revision(), ..Self::default() };
        for object in view.iter() {
            if !index.references.contains_key(object.key.resource()) {
                continue;
            }
            for Edge { target, .. } in index.edges(object.key.resource(), &object.glance()) {
                index.users.entry(target).or_default().insert(object.key.clone());
            }
        }
        index
    }

    /// Moves on to what is durable now.
    pub(super) fn follow(&mut self, events: &[Event]) {
        // Commits are followed together: what was judged is durable now, or never will be.
        self.proposed.clear();
        for event in events {
            self.followed = event.revision();
            let resource = event.key.resource();
            if !self.references.contains_key(resource) {
                continue;
            }
            let new = match event.operation {
                Operation::Put => self.edges(resource, &event.value()),
                Operation::Delete => Vec::new(),
            };
            let old = event.old_value().map(|old| self.edges(resource, &old)).unwrap_or_default();
            for Edge { target, .. } in old {
                if new.iter().any(|edge| edge.target == target) {
                    continue;
                }
                if let Some(users) = self.users.get_mut(&target) {
                    users.remove(&event.key);
                    if users.is_empty() {
                        self.users.remove(&target);
                    }
                }
            }
            for Edge { target, .. } in new {
                self.users.entry(target).or_default().insert(event.key.clone());
            }
        }
    }

    /// Forgets what was proposed when nothing of it lies before `view`: a batch begins.
    pub(super) fn begin(&mut self, view: &View) {
        if view.revision() <= self.followed {
            self.proposed.clear();
        }
    }

    /// Remembers that `key` may become `value`.
    pub(super) fn propose(&mut self, key: &Key, value: &Value) {
        for Edge { target, .. } in self.edges(key.resource(), value) {
            self.proposed.entry(target).or_default().insert(key.clone());
        }
    }

    /// Everything that may name `target`, and how many that are.
    pub(super) fn candidates(&self, target: &Key) -> (usize, impl Iterator<Item = &Key>) {
        let (known, proposed) = (self.users.get(target), self.proposed.get(target));
        let count = known.map_or(0, BTreeSet::len) + proposed.map_or(0, BTreeSet::len);
        let is_new = move |key: &&Key| known.is_none_or(|known| !known.contains(*key));
        let proposed = proposed.into_iter().flatten().filter(is_new);
        (count, known.into_iter().flatten().chain(proposed))
    }

    /// Of these, the ones of one kind, which costs what they are.
    pub(super) fn candidates_of<'a>(
        &'a self,
        target: &Key,
        resource: &'a Resource,
    ) -> impl Iterator<Item = &'a Key> {
        let first = Key::new(resource.clone(), None, "");
        let sets = [self.users.get(target), self.proposed.get(target)].into_iter().flatten();
        sets.flat_map(move |users| {
            users.range(first.clone()..).take_while(move |user| user.resource() == resource)
        })
    }

    /// What an object names.
    pub(super) fn edges(&self, resource: &Resource, value: &Value) -> Vec<Edge> {
        let Some(references) = self.references.get(resource) else { return Vec::new() };
        let edges = references.iter().flat_map(|reference| {
            let named = reference.names(value).into_iter();
            named.map(move |named| Edge { target: key_of(&named), reference })
        });
        edges.collect()
    }

    /// By which field an object uses `target`, if it does.
    pub(super) fn use_of(
        &self,
        user: &Key,
        value: &Value,
        target: &Key,
    ) -> Option<&'static Reference> {
        let edges = self.edges(user.resource(), value).into_iter();
        edges
            .filter(|edge| edge.reference.hold == Hold::InUse)
            .find(|edge| edge.target == *target)
            .map(|edge| edge.reference)
    }
}

/// Where what is named lives.
pub(super) fn key_of(named: &Named<'_>) -> Key {
    let resource = Resource::new(named.kind.plural, named.kind.group);
    Key::new(resource, named.namespace, named.name)
}
