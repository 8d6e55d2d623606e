//! Deletion: at once, or when the finalizers are done.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Registry, Subresource, WriteOptions, metadata,
    successor::{Outcome, seconds},
};
use crate::{
    authz::{Authorized, verb},
    error::ApiError,
    store::{Key, Object, Revision},
};

/// The body of a DELETE.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    /// Which object exactly.
    pub preconditions: Preconditions,
    /// `All`, to try only.
    pub dry_run: Vec<String>,
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
        preconditions: &Preconditions,
        options: &WriteOptions,
    ) -> Result<std::sync::Arc<Value>, ApiError> {
        let key = proof.resource();
        self.modify(proof, Subresource::None, options, |old| {
            preconditions.check(key, old)?;
            if !metadata::has_finalizers(&old.value) {
                return Ok(Outcome::Remove);
            }
            if metadata::is_terminating(&old.value) {
                return Ok(Outcome::Unchanged);
            }
            let mut marked = Value::clone(&old.value);
            let generation = old.value.pointer("/metadata/generation").and_then(Value::as_i64);
            let metadata = metadata::of(&mut marked)?;
            let now = seconds(jiff::Timestamp::now());
            metadata.insert("deletionTimestamp".into(), json!(now));
            metadata.insert("deletionGracePeriodSeconds".into(), json!(0));
            // Deletion is a change of what is wanted.
            metadata.insert("generation".into(), json!(generation.unwrap_or(0) + 1));
            Ok(Outcome::Put(marked))
        })
        .await
    }
}

impl Preconditions {
    fn check(&self, key: &Key, object: &Object) -> Result<(), ApiError> {
        let revision = object.revision;
        if let Some(uid) = &self.uid
            && metadata::text(&object.value, "uid") != uid
        {
            let actual = metadata::text(&object.value, "uid");
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {actual}"
            );
            return Err(ApiError::conflict(key, &why));
        }
        if let Some(wanted) = &self.resource_version
            && wanted.parse().map(Revision) != Ok(revision)
        {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion \
                 in object meta: {revision}"
            );
            return Err(ApiError::conflict(key, &why));
        }
        Ok(())
    }
}
