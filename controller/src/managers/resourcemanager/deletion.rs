//! The deletion of a container: a mark first, and the end when nothing is left.
//!
//! One that holds anything is not removed but marked, in one commit: from then on nothing comes to be
//! in it or below, and nothing of it is served. The [purge](super::purge) takes away what it holds.
//! The mark is a finalizer that stays as long as there is anything.

use isocast_api::{
    meta::{ConditionStatus, Finding, set_condition},
    object::Object,
    registry::{self, Scope},
    resourcemanager::ContainerPhase,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    super::lookup::{self, Step},
    container::Container,
    tree::Tree,
};
use crate::{
    admission::ProposedChange,
    error::{ApiError, Reason},
    registry::metadata,
    store::{Key, Range, Resource, View},
};

/// What keeps a container for as long as it holds anything.
pub(super) const FINALIZER: &str = "resourcemanager.isocast.dev/contents";

/// Judges a change that deletes a container, or one of a container that is being deleted.
pub(super) fn admit<S: Container>(
    tree: &Tree,
    view: &View,
    change: &mut ProposedChange,
) -> Result<(), ApiError> {
    match Step::of(change) {
        Step::Delete if holds_anything(tree, view, &change.key) => {
            let Some(old) = change.old_value() else { return Ok(()) };
            let mut marked = Value::clone(old);
            mark(&mut marked, change.now);
            add_finalizer(&mut marked);
            change.new = Some(said::<S>(marked, change.now)?);
            Ok(())
        }
        Step::BeginDeletion => {
            let holds = holds_anything(tree, view, &change.key);
            let Some(mut marked) = change.new.take() else { return Ok(()) };
            if holds {
                add_finalizer(&mut marked);
            }
            change.new = Some(said::<S>(marked, change.now)?);
            Ok(())
        }
        Step::Update | Step::FinishDeletion => {
            let had = change.old_value().is_some_and(|old| is_marked(old) && has_finalizer(old));
            let has = change.new.as_ref().is_some_and(has_finalizer);
            if had && !has && holds_anything(tree, view, &change.key) {
                let message = format!(
                    "{} {:?} is being deleted, and still holds something: {FINALIZER} goes when it \
                     is empty",
                    change.key.resource(),
                    change.key.name(),
                );
                return Err(ApiError::about(Reason::Conflict, &change.key, message));
            }
            Ok(())
        }
        Step::Create | Step::Delete => Ok(()),
    }
}

/// Whether a container has containers below it, or objects in its namespace.
fn holds_anything(tree: &Tree, view: &View, key: &Key) -> bool {
    let name = key.name();
    let has_objects = || {
        namespaced().any(|resource| {
            let range = Range::Container(resource, name.into());
            view.range(&range).next().is_some()
        })
    };
    tree.has_children(name) || has_objects()
}

/// Everything that lives in containers. What only reports goes by itself.
pub(super) fn namespaced() -> impl Iterator<Item = Resource> {
    let kinds = registry::kinds().iter();
    let kinds = kinds.filter(|kind| kind.scope == Scope::Namespaced && !kind.reported);
    kinds.map(|kind| Resource::new(kind.plural, kind.group))
}

fn is_marked(container: &Value) -> bool {
    lookup::text(container, "/metadata/deletionTimestamp").is_some()
}

pub(super) fn has_finalizer(container: &Value) -> bool {
    metadata::has_finalizer(container, FINALIZER)
}

pub(super) fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.into_iter().flatten().filter_map(Value::as_str)
}

/// As the registry marks what has finalizers.
fn mark(container: &mut Value, now: Timestamp) {
    let generation = container.pointer("/metadata/generation").and_then(Value::as_i64);
    let Some(metadata) = container.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    metadata.insert("deletionTimestamp".into(), json!(now.to_string()));
    metadata.insert("deletionGracePeriodSeconds".into(), json!(0));
    metadata.insert("generation".into(), json!(generation.unwrap_or(0).saturating_add(1)));
}

fn add_finalizer(container: &mut Value) {
    if has_finalizer(container) {
        return;
    }
    let Some(metadata) = container.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let finalizers = metadata.entry("finalizers").or_insert_with(|| json!([]));
    if let Some(finalizers) = finalizers.as_array_mut() {
        finalizers.push(json!(FINALIZER));
    }
}

/// The container with a status that says so.
fn said<S: Container>(mut container: Value, now: Timestamp) -> Result<Value, ApiError> {
    let mut object: Object<S> = lookup::decode(&container)?;
    let (conditions, phase) = S::observed(&mut object.status);
    *phase = Some(ContainerPhase::Terminating);
    let finding = Finding::new(
        "Ready",
        ConditionStatus::False,
        "Terminating",
        "it is being deleted, with all that it holds",
    );
    set_condition(conditions, finding, object.metadata.generation, now);
    lookup::set_status::<S>(&mut container, &object.status)?;
    Ok(container)
}
