//! [`Due`]: the backend pools whose status is to be looked at.
//!
//! Pools are many and change seldom, and what is so of one follows from itself, the nodes there are and
//! what they refuse: so only those are looked at that something happened to. What is noted at a
//! revision is given out once a state of that revision is looked at, and not before.

use std::collections::{BTreeMap, BTreeSet};

use isocast_api::network::{BackendPoolSpec, NodeSpec};

use super::limits::DUE_MAX;
use crate::store::{Key, Revision};

/// What has happened to pools, as far as nobody has looked.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// All pools, because of what happened at this revision.
    all: Option<Revision>,
    /// By namespace and name.
    pools: BTreeMap<(String, String), Revision>,
    /// Those that were looked at in vain: as many as one look gave out.
    again: BTreeSet<(String, String)>,
}

/// Pools to look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pools {
    /// Every one.
    All,
    /// These: namespace and name.
    These(BTreeSet<(String, String)>),
}

impl Due {
    /// Notes that the object at `key` is another since `revision`; `is_news` if a node can notice it.
    pub(super) fn note(&mut self, key: &Key, revision: Revision, is_news: bool) {
        if key.resource().is_of::<BackendPoolSpec>() {
            self.note_pool(name(key), revision);
        } else if is_news && key.resource().is_of::<NodeSpec>() {
            self.note_all(revision);
        }
    }

    /// The object at `key` was looked at, but what came of it could not be written.
    pub(super) fn note_again(&mut self, key: &Key) {
        if key.resource().is_of::<BackendPoolSpec>() {
            self.again.insert(name(key));
        }
    }

    /// Notes a pool; more than there is room for are all.
    fn note_pool(&mut self, pool: (String, String), revision: Revision) {
        if self.pools.len() < DUE_MAX || self.pools.contains_key(&pool) {
            self.pools.insert(pool, revision);
        } else {
            self.note_all(revision);
        }
    }

    /// Notes all pools.
    pub(super) fn note_all(&mut self, revision: Revision) {
        self.all = self.all.max(Some(revision));
        self.pools.clear();
    }

    /// Gives out what was noted up to `revision`.
    pub(super) fn take(&mut self, revision: Revision) -> Pools {
        let is_due = |noted: &Revision| *noted <= revision;
        let due = self.pools.extract_if(.., |_, noted| is_due(noted));
        let mut these = std::mem::take(&mut self.again);
        these.extend(due.map(|(pool, _)| pool));
        match self.all.take_if(|noted| is_due(noted)) {
            Some(_) => Pools::All,
            None => Pools::These(these),
        }
    }
}

/// Namespace and name.
fn name(key: &Key) -> (String, String) {
    (key.container().unwrap_or_default().to_owned(), key.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Resource;

    fn pool(name: &str) -> (String, String) {
        ("web".to_owned(), name.to_owned())
    }

    fn key(plural: &str, name: &str) -> Key {
        Key::new(Resource::new(plural, "network.isocast.dev"), Some("web"), name)
    }

    fn these(names: &[&str]) -> Pools {
        Pools::These(names.iter().map(|name| pool(name)).collect())
    }

    #[test]
    fn a_pool_is_given_out_once_and_not_before_its_revision() {
        let mut due = Due::default();
        due.note(&key("backendpools", "a"), Revision(3), false);
        due.note(&key("backendpools", "b"), Revision(5), true);
        due.note(&key("anycastservices", "c"), Revision(3), true);

        assert_eq!(due.take(Revision(4)), these(&["a"]));
        assert_eq!(due.take(Revision(4)), these(&[]));
        assert_eq!(due.take(Revision(5)), these(&["b"]));
    }

    #[test]
    fn what_nodes_can_notice_of_a_node_concerns_every_pool() {
        let mut due = Due::default();
        due.note(&key("nodes", "be-1"), Revision(3), false);
        assert_eq!(due.take(Revision(9)), these(&[]));

        due.note(&key("nodes", "be-1"), Revision(4), true);
        due.note(&key("backendpools", "a"), Revision(4), true);

        assert_eq!(due.take(Revision(3)), these(&[]));
        assert_eq!(due.take(Revision(4)), Pools::All);
        assert_eq!(due.take(Revision(4)), these(&[]));
    }

    #[test]
    fn what_could_not_be_written_is_looked_at_again_whatever_was_seen_meanwhile() {
        let mut due = Due::default();
        due.note(&key("backendpools", "a"), Revision(7), true);
        due.note_again(&key("backendpools", "a"));
        due.note_again(&key("nodes", "be-1"));

        assert_eq!(due.take(Revision(5)), these(&["a"]));
        assert_eq!(due.take(Revision(7)), these(&["a"]));
    }

    #[test]
    fn more_than_there_is_room_for_are_all() {
        let mut due = Due::default();
        for number in 0..DUE_MAX {
            due.note_pool(pool(&number.to_string()), Revision(1));
        }
        due.note_pool(pool("0"), Revision(2));
        assert_eq!(due.pools.len(), DUE_MAX);

        due.note_pool(pool("one more"), Revision(3));

        assert!(due.pools.is_empty());
        assert_eq!(due.take(Revision(3)), Pools::All);
    }
}
