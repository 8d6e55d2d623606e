//! Deletion: at once, or when the finalizers are done.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Registry, Subresource, WriteOptions, metadata,
    successor::{Outcome, outcome, seconds},
};
use crate::{
    authz::{Authorized, verb},
    error::ApiError,
    gc,
    store::{Document, Key, Object},
};

/// The body of a DELETE.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    /// Which object exactly.
    pub preconditions: Preconditions,
    /// `All`, to try only.
    pub dry_run: Vec<String>,
    /// What becomes of objects that have this one as their owner.
    pub propagation_policy: Option<String>,
    /// The same, as older clients say it.
    pub orphan_dependents: Option<bool>,
    /// Seconds until it is gone; nothing here needs any.
    pub grace_period_seconds: Option<i64>,
}

/// What becomes of the objects that have a deleted one as their owner (`propagationPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// They go after it.
    #[default]
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

impl DeleteOptions {
    /// What becomes of the dependents.
    ///
    /// # Errors
    /// `Invalid` for a word that means nothing, or two that do not agree.
    pub fn propagation(&self) -> Result<Propagation, ApiError> {
        const FIELD: &str = "propagationPolicy";
        match (self.propagation_policy.as_deref(), self.orphan_dependents) {
            (Some(_), Some(_)) => {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                Err(ApiError::option("DeleteOptions", FIELD, "Invalid value", why))
            }
            (None, Some(true)) | (Some("Orphan"), None) => Ok(Propagation::Orphan),
            (None, Some(false) | None) | (Some("Background"), None) => Ok(Propagation::Background),
            (Some("Foreground"), None) => Ok(Propagation::Foreground),
            (Some(other), None) => {
                let why = format!(
                    "{other:?}: supported values: \"Background\", \"Foreground\", \"Orphan\""
                );
                Err(ApiError::option("DeleteOptions", FIELD, "Unsupported value", &why))
            }
        }
    }
}

impl DeleteOptions {
    /// What the deletion of `object` waits for: the finalizers it has, but of those that are about
    /// dependents the one that is asked for.
    fn finalizers(&self, object: &Value) -> Result<Vec<String>, ApiError> {
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        let mut finalizers: Vec<String> = finalizers
            .into_iter()
            .flatten()
            .filter_map(|finalizer| finalizer.as_str().map(str::to_owned))
            .collect();
        if self.propagation_policy.is_none() && self.orphan_dependents.is_none() {
            return Ok(finalizers);
        }
        finalizers.retain(|finalizer| ![gc::FOREGROUND, gc::ORPHAN].contains(&finalizer.as_str()));
        match self.propagation()? {
            Propagation::Background => {}
            Propagation::Foreground => finalizers.push(gc::FOREGROUND.to_owned()),
            Propagation::Orphan => finalizers.push(gc::ORPHAN.to_owned()),
        }
        Ok(finalizers)
    }
}

impl Propagation {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Background => "Background",
            Self::Foreground => "Foreground",
            Self::Orphan => "Orphan",
        }
    }
}

/// What the object must be to be deleted.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    /// This one and not a namesake.
    pub uid: Option<String>,
    /// As it was at this revision.
    pub resource_version: Option<String>,
}

impl Registry {
    /// Deletes an object, and returns its last state; one with finalizers is marked instead.
    ///
    /// # Errors
    /// When there is no such object, a precondition does not hold, or an admission refuses.
    pub async fn delete(
        &self,
        proof: &Authorized<verb::Delete, Key>,
        delete: &DeleteOptions,
        options: &WriteOptions,
    ) -> Result<Arc<Document>, ApiError> {
        let key = proof.resource();
        self.modify(proof, Subresource::None, options, |old| {
            delete.preconditions.check(key, old)?;
            let last = old.value();
            let finalizers = delete.finalizers(&last)?;
            if finalizers.is_empty() {
                return Ok(Outcome::Remove(None));
            }
            let mut marked = Value::clone(&last);
            metadata::of(&mut marked)?.insert("finalizers".into(), json!(finalizers));
            if metadata::is_terminating(&last) {
                return Ok(outcome(old, marked));
            }
            let generation = last.pointer("/metadata/generation").and_then(Value::as_i64);
            let metadata = metadata::of(&mut marked)?;
            let now = seconds(jiff::Timestamp::now());
            metadata.insert("deletionTimestamp".into(), json!(now));
            metadata.insert("deletionGracePeriodSeconds".into(), json!(0));
            if let Some(generation) = generation {
                // Deletion is a change of what is wanted.
                metadata.insert("generation".into(), json!(generation.saturating_add(1)));
            }
            Ok(Outcome::Put(marked))
        })
        .await
    }
}

impl Preconditions {
    fn check(&self, key: &Key, object: &Object) -> Result<(), ApiError> {
        let value = object.value();
        if let Some(uid) = &self.uid {
            let actual = metadata::text(&value, "uid");
            if actual != uid {
                let why = format!(
                    "Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}"
                );
                return Err(ApiError::conflict(key, &why));
            }
        }
        let actual = metadata::text(&value, "resourceVersion");
        if let Some(wanted) = self.resource_version.as_deref().filter(|wanted| *wanted != actual) {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion \
                 in object meta: {actual}"
            );
            return Err(ApiError::conflict(key, &why));
        }
        Ok(())
    }
}
