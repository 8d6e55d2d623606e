//! [`Batch`]: the writes that become durable together, judged one after the other.
//!
//! Each is judged by the state that the ones before it leave. What it comes to is worked out here, once:
//! the text of its objects is what the log, watchers and the answer get.

use std::{collections::VecDeque, sync::Arc};

use serde_json::{Value, json};

use super::{
    Audit, Change, ChangeSet, Document, Object, Operation, Revision, Version, View,
    sequencer::{Request, refuse},
    tail::{Commit, Event},
};
use crate::{
    admission::ProposedChange,
    error::{ApiError, Reason},
    limits,
    store::Key,
};

/// The writes judged so far, not yet durable.
pub(super) struct Batch {
    pub(super) view: View,
    pub(super) sets: Vec<ChangeSet>,
    pub(super) commits: Vec<Commit>,
    pub(super) verdicts: Vec<Verdict>,
    /// Of the tables, that the sets come to.
    pub(super) rows: usize,
}

/// What a write comes to, before it has its place.
pub(super) struct Draft {
    /// What it is about, after it.
    pub(super) object: Object,
    pub(super) changes: Vec<Change>,
    pub(super) events: Vec<Event>,
    /// Size of the events' objects as JSON.
    pub(super) bytes: usize,
}

/// What became of one write.
pub(super) struct Verdict {
    pub(super) request: Request,
    pub(super) result: Result<Object, ApiError>,
    /// The change-set of the batch that it is, if it is one.
    pub(super) set: Option<usize>,
}

// === impl Draft ===

impl Draft {
    /// What `change` comes to after `view`; refuses objects that are too large.
    pub(super) fn of(view: &View, change: ProposedChange) -> Result<Self, ApiError> {
        let revision = view.revision().next();
        let mut writes = change.into_writes();
        writes.retain(|(key, new)| has_effect(view, key, new.as_ref()));
        // Events stay for as long as watchers may ask for them, most of them alone: no room to grow.
        let mut changes = Vec::with_capacity(writes.len());
        let mut events = Vec::with_capacity(writes.len());
        let mut bytes = 0;
        let versions = Version::of_each(revision, writes.len());
        for ((key, new), version) in writes.into_iter().zip(versions) {
            let Some((change, event)) = effect(view, version, key, new) else { continue };
            let size = change.document.size();
            if size > limits::OBJECT_BYTES && change.operation == Operation::Put {
                let message = format!(
                    "{} {:?} would have {size} bytes; {} are allowed",
                    change.key.resource(),
                    change.key.name(),
                    limits::OBJECT_BYTES
                );
                return Err(ApiError::about(Reason::RequestEntityTooLarge, &change.key, message));
            }
            bytes += size;
            changes.push(change);
            events.push(event);
        }
        let first = changes.first().ok_or_else(|| ApiError::internal("a write without effect"))?;
        let document = Arc::clone(&first.document);
        let object = Object { key: first.key.clone(), revision, document };
        Ok(Self { object, changes, events, bytes })
    }
}

// === impl Batch ===

impl Batch {
    pub(super) fn add(&mut self, draft: Draft, audit: Audit, request: Request) {
        let Draft { object, changes, events, bytes } = draft;
        self.view.advance(object.revision, &changes);
        self.rows = self.rows.saturating_add(changes.len()).saturating_add(1);
        self.commits.push(Commit { revision: object.revision, events, bytes });
        self.add_verdict(request, Ok(object), Some(self.sets.len()));
        self.sets.push(ChangeSet { audit, changes });
    }

    /// Adds a change-set without changes.
    pub(super) fn record(&mut self, audit: Audit, request: Request) {
        let revision = self.view.revision().next();
        self.view.advance(revision, &[]);
        self.rows = self.rows.saturating_add(1);
        let nothing =
            Object { key: request.key.clone(), revision, document: Arc::new(Value::Null.into()) };
        self.add_verdict(request, Ok(nothing), Some(self.sets.len()));
        self.sets.push(ChangeSet { audit, changes: Vec::new() });
        self.commits.push(Commit { revision, events: Vec::new(), bytes: 0 });
    }

    pub(super) fn add_verdict(
        &mut self,
        request: Request,
        result: Result<Object, ApiError>,
        set: Option<usize>,
    ) {
        self.verdicts.push(Verdict { request, result, set });
    }

    /// The revision of its first change-set.
    pub(super) fn first(&self) -> Revision {
        Revision(self.view.revision().next().0.saturating_sub(self.sets.len() as u64))
    }

    pub(super) fn refuse(self, why: &ApiError) {
        refuse(self.verdicts.into_iter().map(|verdict| verdict.request), why);
    }

    pub(super) fn again(self, pending: &mut VecDeque<Request>) {
        for verdict in self.verdicts.into_iter().rev() {
            pending.push_front(Request { is_followed: true, ..verdict.request });
        }
    }
}

/// Whether a write of `new` to `key` changes anything: there may be nothing to delete.
pub(super) fn has_effect(view: &View, key: &Key, new: Option<&Value>) -> bool {
    new.is_some() || view.get(key).is_some()
}

/// What a write of `new` to `key` comes to as `version`; none if it has no effect.
pub(super) fn effect(
    view: &View,
    version: Version,
    key: Key,
    new: Option<Value>,
) -> Option<(Change, Event)> {
    let old = view.get(&key);
    let previous = old.map_or(Revision(0), |object| object.revision);
    let old = old.map(|object| Arc::clone(&object.document));
    let (operation, mut value) = match (new, &old) {
        (Some(value), _) => (Operation::Put, value),
        (None, Some(last)) => (Operation::Delete, Value::clone(&last.value())),
        (None, None) => return None,
    };
    stamp(&mut value, version);
    let document = Arc::new(Document::of(value));
    let change = Change { key: key.clone(), operation, previous, document: Arc::clone(&document) };
    Some((change, Event { key, version, operation, old, document }))
}

/// What a dry run answers: the object as it would be.
pub(super) fn rehearse(change: &ProposedChange) -> Result<Object, ApiError> {
    let revision = change.old.as_ref().map_or(Revision(0), |object| object.revision);
    let last = change.old.as_ref().map(|object| Arc::clone(&object.document));
    let new = change.new.as_ref().map(|value| Arc::new(Document::of(value.clone())));
    let document = new.or(last).ok_or_else(|| ApiError::not_found(&change.key))?;
    Ok(Object { key: change.key.clone(), revision, document })
}

fn stamp(value: &mut Value, version: Version) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), json!(version.to_string()));
    }
}
