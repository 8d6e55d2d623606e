//! [`Owners`]: who depends on whom, as of the newest commit, and what may be said of owners.
//!
//! Keyed by the owner's uid, so that a namesake inherits nothing. Finding an object's dependents costs
//! what they are, however many objects there are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use foldhash::fast::RandomState;
use isocast_api::registry::{KindDescriptor, Scope, kinds};
use parking_lot::RwLock;
use serde_json::Value;

use crate::{
    admission::{Admission, ProposedChange},
    authz::Identity,
    error::{ApiError, Cause, Reason},
    iam::Access,
    store::{Event, Key, Object, Resource, View},
};

/// Who depends on whom.
#[derive(Debug)]
pub struct Owners {
    access: Arc<Access>,
    dependents: RwLock<HashMap<Arc<str>, Dependents, RandomState>>,
}

/// What depends on one owner.
#[derive(Debug, Default)]
struct Dependents {
    /// Whether each keeps its owner from going in the foreground.
    blocks: BTreeMap<Key, bool>,
    blocking: usize,
}

/// One entry of `metadata.ownerReferences`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
    pub(super) controller: bool,
    pub(super) blocks: bool,
}

/// How many depend on an owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) all: usize,
    /// Of these, how many keep it from going in the foreground.
    pub(super) blocking: usize,
}

impl Owners {
    /// Nobody depends on anybody yet; `access` says who may hold an owner back.
    #[must_use]
    pub fn new(access: Arc<Access>) -> Self {
        Self { access, dependents: RwLock::default() }
    }

    /// At most `limit` dependents of the owner, and whether that is all of them.
    pub(super) fn dependents(&self, uid: &str, limit: usize) -> (Vec<Key>, bool) {
        let dependents = self.dependents.read();
        let Some(its) = dependents.get(uid) else { return (Vec::new(), true) };
        (its.blocks.keys().take(limit).cloned().collect(), its.blocks.len() <= limit)
    }

    pub(super) fn count(&self, uid: &str) -> Count {
        let dependents = self.dependents.read();
        let count = |its: &Dependents| Count { all: its.blocks.len(), blocking: its.blocking };
        dependents.get(uid).map(count).unwrap_or_default()
    }
}

impl Admission for Owners {
    fn admit(&self, _view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        let Some(new) = change.new.as_ref().filter(|new| field(new).is_some()) else {
            return Ok(());
        };
        let old = change.old_value().and_then(|old| field(old));
        if old == field(new) {
            return Ok(());
        }
        let known: Vec<Reference<'_>> =
            change.old_value().map(|old| references(old)).unwrap_or_default();
        let references = references(new);
        for (index, reference) in references.iter().enumerate() {
            if known.contains(reference) {
                continue;
            }
            let owner = check(&change.key, index, reference)?;
            // Whoever holds an owner back decides about its deletion.
            if let (Some(owner), true, Identity::Subject(_)) =
                (owner, reference.blocks, &change.actor)
                && !self.access.allows(&change.actor, "update", &owner, change.now)
            {
                let why = "cannot set blockOwnerDeletion if an ownerReference refers to a resource \
                           you can't update";
                return Err(ApiError::forbidden(&change.key, why));
            }
        }
        if references.iter().filter(|reference| reference.controller).count() > 1 {
            let fault = "only one reference can have controller set to true";
            return Err(invalid(&change.key, "metadata.ownerReferences", fault));
        }
        Ok(())
    }

    fn open(&self, view: &View) {
        let mut dependents = self.dependents.write();
        dependents.clear();
        // Few objects have owners, and their text says which.
        let owned = |object: &&Object| object.document.text().contains("\"ownerReferences\"");
        for object in view.iter().filter(owned) {
            for reference in references(&object.glance()) {
                add(&mut dependents, &object.key, &reference);
            }
        }
    }

    fn follow(&self, events: &[Event], _view: &View) {
        let mut dependents = None;
        for event in events {
            let (old, new) = (event.old_value(), event.new_value());
            let old = old.as_deref().and_then(field);
            let new = new.as_deref().and_then(field);
            if old == new {
                continue;
            }
            let dependents = dependents.get_or_insert_with(|| self.dependents.write());
            for reference in old.into_iter().flatten().filter_map(Reference::of) {
                remove(dependents, &event.key, &reference);
            }
            for reference in new.into_iter().flatten().filter_map(Reference::of) {
                add(dependents, &event.key, &reference);
            }
        }
    }
}

impl<'a> Reference<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        let flag = |field: &str| value.get(field).and_then(Value::as_bool).unwrap_or(false);
        Some(Self {
            api_version: text("apiVersion")?,
            kind: text("kind")?,
            name: text("name")?,
            uid: text("uid")?,
            controller: flag("controller"),
            blocks: flag("blockOwnerDeletion"),
        })
    }

    fn kind(&self) -> Option<&'static KindDescriptor> {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        kinds().iter().find(|kind| kind.kind == self.kind && kind.group == group)
    }

    /// Where the owner of an object at `dependent` lives; none where such an object cannot have such
    /// an owner, or the kind is not known here.
    pub(super) fn owner(&self, dependent: &Key) -> Option<Key> {
        let kind = self.kind()?;
        let namespace = match kind.scope {
            Scope::Cluster => None,
            Scope::Namespaced => Some(dependent.container()?),
        };
        Some(Key::new(Resource::new(kind.plural, kind.group), namespace, self.name))
    }
}

/// The owners an object names.
pub(super) fn references(object: &Value) -> Vec<Reference<'_>> {
    field(object).into_iter().flatten().filter_map(Reference::of).collect()
}

fn field(object: &Value) -> Option<&Vec<Value>> {
    let field = object.get("metadata").and_then(|metadata| metadata.get("ownerReferences"));
    field.and_then(Value::as_array).filter(|references| !references.is_empty())
}

fn add(
    dependents: &mut HashMap<Arc<str>, Dependents, RandomState>,
    key: &Key,
    reference: &Reference<'_>,
) {
    let its = match dependents.get_mut(reference.uid) {
        Some(its) => its,
        None => dependents.entry(reference.uid.into()).or_default(),
    };
    let before = its.blocks.insert(key.clone(), reference.blocks);
    its.blocking += usize::from(reference.blocks);
    its.blocking -= usize::from(before == Some(true));
}

fn remove(
    dependents: &mut HashMap<Arc<str>, Dependents, RandomState>,
    key: &Key,
    reference: &Reference<'_>,
) {
    let Some(its) = dependents.get_mut(reference.uid) else { return };
    if its.blocks.remove(key) == Some(true) {
        its.blocking -= 1;
    }
    if its.blocks.is_empty() {
        dependents.remove(reference.uid);
    }
}

/// The owner, if its kind is known here.
fn check(
    dependent: &Key,
    index: usize,
    reference: &Reference<'_>,
) -> Result<Option<Key>, ApiError> {
    let path = format!("metadata.ownerReferences[{index}]");
    let parts = [
        ("apiVersion", reference.api_version),
        ("kind", reference.kind),
        ("name", reference.name),
        ("uid", reference.uid),
    ];
    if let Some((part, _)) = parts.iter().find(|(_, text)| text.is_empty()) {
        return Err(invalid(dependent, &format!("{path}.{part}"), "must not be empty"));
    }
    let owner = reference.owner(dependent);
    if owner.is_none() && reference.kind().is_some() {
        let fault = "what has no namespace cannot have an owner that is in one";
        return Err(invalid(dependent, &path, fault));
    }
    Ok(owner)
}

fn invalid(key: &Key, field: &str, fault: &str) -> ApiError {
    let cause = Cause {
        reason: "FieldValueInvalid".to_owned(),
        message: fault.to_owned(),
        field: field.to_owned(),
    };
    let message = format!("{} {:?} is invalid: {field}: {fault}", key.resource(), key.name());
    ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause])
}
