//! Typed looks at a change and at the state it follows.

use std::sync::Arc;

use isocast_api::{
    object::{Object, Spec},
    resourcemanager::{CONTAINERS_ABOVE_MAX, FolderSpec, OrganizationSpec, ProjectSpec},
};
use serde_json::Value;

use crate::{
    admission::ProposedChange,
    error::ApiError,
    store::{self, Key, Range, Resource, View},
};

/// The resource of kind `S`.
pub(super) fn resource<S: Spec>() -> Resource {
    Resource::new(S::KIND.plural, S::KIND.group)
}

/// The key of a cluster-scoped object of kind `S`.
pub(super) fn key<S: Spec>(name: &str) -> Key {
    Key::new(resource::<S>(), None, name)
}

/// Everything of kind `S`.
pub(super) fn all<S: Spec>() -> Range {
    Range::Resource(resource::<S>())
}

/// Everything of kind `S` in `namespace`.
pub(super) fn within<S: Spec>(namespace: &str) -> Range {
    Range::Container(resource::<S>(), namespace.into())
}

/// The object of kind `S` at `key`.
pub(super) fn find<S: Spec>(view: &View, key: &Key) -> Result<Option<Object<S>>, ApiError> {
    view.get(key).map(|object| decode(&object.value())).transpose()
}

/// `value` as an object of kind `S`.
pub(super) fn decode<S: Spec>(value: &Value) -> Result<Object<S>, ApiError> {
    Object::decode(value).map_err(|error| ApiError::internal(error.to_string()))
}

/// The typed object, where many are looked through.
pub(super) fn read<S: Spec>(object: &store::Object) -> Result<Object<S>, ApiError> {
    object
        .document
        .text()
        .read()
        .map_err(|error| ApiError::internal(format!("{}: {error}", object.key)))
}

/// Puts `status` into `value`, and touches nothing else.
pub(super) fn set_status<S: Spec>(value: &mut Value, status: &S::Status) -> Result<(), ApiError> {
    let status = serde_json::to_value(status)
        .map_err(|error| ApiError::internal(format!("cannot encode a status: {error}")))?;
    if let Some(object) = value.as_object_mut() {
        object.insert("status".to_owned(), status);
    }
    Ok(())
}

/// A text inside `value`.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// Name of the organization that `namespace` belongs to; none for a namespace that no tenant owns.
#[must_use]
pub fn organization_of(view: &View, namespace: &str) -> Option<Arc<str>> {
    let mut name = namespace.to_owned();
    for _ in 0..=CONTAINERS_ABOVE_MAX {
        if view.get(&key::<OrganizationSpec>(&name)).is_some() {
            return Some(name.into());
        }
        let container =
            view.get(&key::<ProjectSpec>(&name)).or_else(|| view.get(&key::<FolderSpec>(&name)))?;
        name = text(&container.value(), "/spec/parent/name")?.to_owned();
    }
    None
}

/// A step in an object's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It comes to be.
    Create,
    /// It stays, perhaps waiting for its finalizers.
    Update,
    /// It is marked for deletion and waits for its finalizers.
    BeginDeletion,
    /// It goes, without having been marked before.
    Delete,
    /// It goes, its finalizers are done.
    FinishDeletion,
}

impl Step {
    /// The step that `change` is.
    pub(super) fn of(change: &ProposedChange) -> Self {
        let marked = |value: &Value| text(value, "/metadata/deletionTimestamp").is_some();
        let was_marked = change.old_value().is_some_and(|old| marked(old));
        match (&change.old, &change.new) {
            (None, _) => Self::Create,
            (Some(_), Some(new)) if marked(new) && !was_marked => Self::BeginDeletion,
            (Some(_), Some(_)) => Self::Update,
            (Some(_), None) if was_marked => Self::FinishDeletion,
            (Some(_), None) => Self::Delete,
        }
    }

    /// Whether somebody has just asked for the object's deletion.
    pub(super) fn asks_for_deletion(self) -> bool {
        matches!(self, Self::BeginDeletion | Self::Delete)
    }

    /// Whether the object is gone afterwards.
    pub(super) fn removes(self) -> bool {
        matches!(self, Self::Delete | Self::FinishDeletion)
    }
}
