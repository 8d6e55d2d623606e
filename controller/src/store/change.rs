//! What a revision of the log says: [`ChangeSet`], its [`Change`]s and its [`Audit`] record.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Document, Key};
use crate::audit::Details;

/// Position in the one log of the platform; 0 is before the first change.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub u64);

/// An object as it is stored.
#[derive(Clone, Debug)]
pub struct Object {
    /// Where it lives.
    pub key: Key,
    /// Revision of its last change.
    pub revision: Revision,
    /// The object, with its version in `metadata.resourceVersion`.
    pub document: Arc<Document>,
}

/// Everything that happens at one revision: all of it or nothing.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    /// Who did it, and when.
    pub audit: Audit,
    /// At most one change a key.
    pub changes: Vec<Change>,
}

/// One object's part of a [`ChangeSet`].
#[derive(Clone, Debug)]
pub struct Change {
    /// Which object.
    pub key: Key,
    /// What became of it.
    pub operation: Operation,
    /// Revision of the change before this one, 0 for a new object.
    pub previous: Revision,
    /// The object after the change; for a deletion, its last state.
    pub document: Arc<Document>,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// It is gone.
    Delete,
    /// It is new or changed.
    Put,
}

/// The audit record, committed with the change it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Who: `user "admin"`.
    pub actor: String,
    /// The verb that was authorised.
    pub verb: String,
    /// Field manager or user agent.
    pub agent: String,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// What else is known.
    #[serde(default)]
    pub details: Details,
}

impl Object {
    /// The object, parsed.
    pub fn value(&self) -> Arc<Value> {
        self.document.value()
    }

    /// The same, for one of many that are looked through.
    pub fn glance(&self) -> Arc<Value> {
        self.document.glance()
    }
}

impl Change {
    /// The object after the change, parsed; for a deletion, its last state.
    pub fn value(&self) -> Arc<Value> {
        self.document.value()
    }
}

impl Revision {
    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
