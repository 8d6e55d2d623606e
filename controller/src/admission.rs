//! [`Admission`]: what may change or refuse a write while it holds its place in the order.
//!
//! The sequencer asks each admission in turn, with the exact state the change will follow; so a
//! check of uniqueness or the allocation of an address needs no lock and cannot race. An admission
//! is pure: it reads the view and the change, and must not block, sleep or do I/O, for every writer
//! waits behind it.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    authz::Identity,
    error::ApiError,
    store::{Event, Glance, Key, Object, Resource, View},
};

/// Judges changes in the transaction that makes them.
pub trait Admission: Send + Sync {
    /// Lets `change` pass, changes it, adds to it, or refuses it.
    ///
    /// `view` is the state just before the change. Objects written by [`ProposedChange::also`] are
    /// not admitted again.
    ///
    /// # Errors
    /// The refusal, as the client will see it.
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError>;

    /// The state that the log begins with in this process.
    fn open(&self, _view: &View) {}

    /// Changes from before this process, as far back as watches may begin, after [`Self::open`]; they
    /// are part of its state already.
    fn recall(&self, _events: &[Event]) {}

    /// Changes that are durable now, before anybody sees them or is told. `view` is the state after
    /// the batch that they are part of.
    fn follow(&self, _events: &[Event], _view: &View) {}

    /// Resources whose objects are not written but derived, by [`Self::derive`].
    fn derives(&self) -> Vec<Resource> {
        Vec::new()
    }

    /// Derived objects that are otherwise, new or gone since this was last asked. Asked after
    /// [`Self::open`] and after the commits of a batch were followed; the objects become visible
    /// with the batch, and are never in the log.
    fn derive(&self) -> Vec<(Key, Option<Value>)> {
        Vec::new()
    }

    /// Whether the next change must be judged by the state that [`Self::follow`] makes of this one.
    fn settles(&self, _change: &ProposedChange) -> bool {
        false
    }
}

/// One write, before it happens.
#[derive(Debug)]
pub struct ProposedChange {
    /// Who asks.
    pub actor: Identity,
    /// `create`, `update`, `patch` or `delete`.
    pub verb: &'static str,
    /// `status`, or none for the object itself.
    pub subresource: Option<&'static str>,
    /// When the change happens.
    pub now: Timestamp,
    /// Where the object lives.
    pub key: Key,
    /// The object as stored; none when it is created.
    pub old: Option<Object>,
    /// The object as it will be; none when it goes for good. A deletion that waits for finalizers
    /// is an update that sets `metadata.deletionTimestamp`.
    pub new: Option<Value>,
    /// The object as stored, parsed.
    old_value: Option<Arc<Value>>,
    /// The containers it lies in, the topmost first: `acme/eng/shop`. Empty for the platform's.
    pub scope: String,
    /// The containers it is in afterwards, if it is a container that moves.
    pub moved_to: String,
    also: Vec<(Key, Option<Value>)>,
}

impl ProposedChange {
    /// A change that adds nothing yet.
    pub fn new(
        actor: Identity,
        verb: &'static str,
        subresource: Option<&'static str>,
        now: Timestamp,
        key: Key,
        (old, new): (Option<Object>, Option<Value>),
    ) -> Self {
        let (scope, moved_to) = (String::new(), String::new());
        let old_value = old.as_ref().map(Object::value);
        let also = Vec::new();
        Self { actor, verb, subresource, now, key, old, new, old_value, scope, moved_to, also }
    }

    /// The stored object's value.
    pub fn old_value(&self) -> Option<&Arc<Value>> {
        self.old_value.as_ref()
    }

    /// Writes `value` to `key` in the same change-set; none deletes. The later of two writes to a
    /// key wins.
    pub fn also(&mut self, key: Key, value: Option<Value>) {
        self.also.retain(|(other, _)| *other != key);
        self.also.push((key, value));
    }

    /// The object at `key` as the change will leave it.
    pub fn pending(&self, view: &View, key: &Key) -> Option<Glance<'_>> {
        if *key == self.key {
            return self.new.as_ref().map(Glance::Borrowed);
        }
        match self.also.iter().find(|(other, _)| other == key) {
            Some((_, value)) => value.as_ref().map(Glance::Borrowed),
            None => view.get(key).map(|object| Glance::Shared(object.value())),
        }
    }

    /// The change itself, and what was added.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (&Key, Option<&Value>)> {
        let also = self.also.iter().map(|(key, value)| (key, value.as_ref()));
        std::iter::once((&self.key, self.new.as_ref())).chain(also)
    }

    /// The same, owned.
    pub(crate) fn into_writes(self) -> Vec<(Key, Option<Value>)> {
        let mut writes = vec![(self.key, self.new)];
        writes.extend(self.also);
        writes
    }
}
