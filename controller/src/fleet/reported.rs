//! Objects that say what nodes report: sessions and advertisements.
//!
//! Pure: from what nodes say and what the store has to the writes between them. Each object is
//! named by what it is about, so the same session is the same object however often it goes and
//! comes. A node that is silent is not spoken for: its objects stay and say Unknown.

mod advertisement;
mod name;
mod session;
mod writer;

use std::collections::{BTreeMap, BTreeSet};

use isocast_api::{
    meta::{ObjectMeta, OwnerReference},
    network::{Node, NodeSpec},
    object::{Object, Spec},
    registry::VERSION,
};
use jiff::Timestamp;
use serde_json::Value;

pub use self::writer::RoutingReporter;
use super::compile::Objects;
use crate::store::{self, Key, Range, Resource, View};

/// A kind whose objects only report.
trait Reported: Spec {
    /// What is so while the node is silent.
    fn silent(status: Self::Status, now: Timestamp) -> Self::Status;

    /// Whether two states differ in counts alone, which may wait.
    fn differs_in_counts_only(old: &Self::Status, new: &Self::Status) -> bool;
}

/// An object as it should be.
#[derive(Clone, Debug, PartialEq)]
struct Draft<S: Spec> {
    spec: S,
    /// What is so; conditions have no past yet.
    status: S::Status,
}

/// Objects as they should be, by name.
type Drafts<S> = BTreeMap<String, Draft<S>>;

/// A write that brings the store closer to what is so.
#[derive(Debug)]
enum Change {
    Create { key: Key, value: Value },
    Remove { object: store::Object },
    Update { object: store::Object, status: Value, is_urgent: bool },
}

/// What is known of one node.
#[derive(Clone, Copy, Debug)]
enum Word<T> {
    /// It says this; what is not there is not so.
    Says(T),
    /// It has not been heard of lately.
    Silent,
    /// It said the same before, and all of that is in the store.
    Settled,
}

// === impl Word ===

impl<T> Word<T> {
    fn map<U>(self, part: impl FnOnce(T) -> U) -> Word<U> {
        match self {
            Self::Says(said) => Word::Says(part(said)),
            Self::Silent => Word::Silent,
            Self::Settled => Word::Settled,
        }
    }
}

// === impl Change ===

impl Change {
    fn key(&self) -> &Key {
        match self {
            Self::Create { key, .. } => key,
            Self::Remove { object } | Self::Update { object, .. } => &object.key,
        }
    }
}

/// The writes that are missing for one kind. `word_of` says what is known of a node, by its name;
/// `carry` gives conditions the past they have.
fn missing<'a, S: Reported + 'a>(
    view: &View,
    nodes: &Objects<String, NodeSpec>,
    word_of: impl Fn(&str) -> Word<&'a Drafts<S>>,
    carry: impl Fn(S::Status, &S::Status, Timestamp) -> S::Status,
    now: Timestamp,
) -> Vec<Change> {
    let resource = Resource::new(S::KIND.plural, S::KIND.group);
    let mut changes = Vec::new();
    let mut present = BTreeSet::new();
    for stored in view.range(&Range::Resource(resource.clone())) {
        let value = stored.glance();
        let node = value.pointer("/spec/node").and_then(Value::as_str).unwrap_or_default();
        let word = nodes.get(node).map(|it| (it, word_of(node)));
        if matches!(word, Some((_, Word::Settled))) {
            continue;
        }
        present.insert(stored.key.name().to_owned());
        match word.and_then(|(node, word)| next(stored, node, word, &carry, now)) {
            Some(Next::Same) => {}
            Some(Next::Other { status, is_urgent }) => {
                changes.push(Change::Update { object: stored.clone(), status, is_urgent });
            }
            None => changes.push(Change::Remove { object: stored.clone() }),
        }
    }
    for node in nodes.values() {
        let Word::Says(drafts) = word_of(node.name()) else { continue };
        let new = drafts.iter().filter(|(name, _)| !present.contains(*name));
        for (name, draft) in new {
            let key = Key::new(resource.clone(), None, name);
            let status = carry(draft.status.clone(), &S::Status::default(), now);
            let mut object = Object::new(metadata(name, node, now), draft.spec.clone());
            object.status = status;
            match serde_json::to_value(object) {
                Ok(value) => changes.push(Change::Create { key, value }),
                Err(error) => tracing::error!(%key, %error, "report cannot be written"),
            }
        }
    }
    changes
}

/// What a stored object becomes.
enum Next {
    Same,
    Other { status: Value, is_urgent: bool },
}

/// None: it is of another node, or no longer so.
fn next<S: Reported>(
    stored: &store::Object,
    node: &Node,
    word: Word<&Drafts<S>>,
    carry: impl Fn(S::Status, &S::Status, Timestamp) -> S::Status,
    now: Timestamp,
) -> Option<Next> {
    let object = Object::<S>::decode(&stored.value()).ok()?;
    let owner = object.metadata.owner_references.first()?;
    if owner.uid != node.metadata.uid {
        return None;
    }
    let status = match word {
        Word::Settled => return Some(Next::Same),
        Word::Silent => S::silent(object.status.clone(), now),
        Word::Says(drafts) => {
            let draft = drafts.get(object.name()).filter(|draft| draft.spec == object.spec)?;
            carry(draft.status.clone(), &object.status, now)
        }
    };
    if status == object.status {
        return Some(Next::Same);
    }
    let is_urgent = !S::differs_in_counts_only(&object.status, &status);
    let status = serde_json::to_value(status).ok()?;
    Some(Next::Other { status, is_urgent })
}

fn metadata(name: &str, node: &Node, now: Timestamp) -> ObjectMeta {
    ObjectMeta {
        name: name.to_owned(),
        uid: crate::uid::random().to_string(),
        generation: 1,
        creation_timestamp: Some(now.into()),
        owner_references: vec![OwnerReference {
            api_version: format!("{}/{VERSION}", NodeSpec::KIND.group),
            kind: NodeSpec::KIND.kind.to_owned(),
            name: node.name().to_owned(),
            uid: node.metadata.uid.clone(),
            controller: Some(true),
            block_owner_deletion: None,
        }],
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
