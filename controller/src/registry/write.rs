//! Create, update and patch: from a request to the write that answers it.
//!
//! The new object is made outside the sequencer, from the newest state; the write then demands
//! exactly that state, and starts again if somebody was faster. Only a caller that names a
//! resourceVersion is told of the conflict.

use std::sync::Arc;

use rand::RngExt;
use serde_json::Value;

use super::{
    FieldValidation, Kind, Registry,
    decode::{self, Nulls},
    json_patch::JsonPatch,
    managed::Operation,
    metadata,
    strategic::StrategicPatch,
    successor::{Outcome, manager},
};
use crate::{
    authz::{Authorized, Identity, Verb, WriteVerb, verb},
    error::{ApiError, Reason},
    iam::parent_of,
    limits,
    store::{Document, Expect, Key, Object, Persistence, Write},
};

/// Options of a write.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Who will own the fields.
    pub manager: String,
    /// Whether it is meant.
    pub persistence: Persistence,
    /// What to do about unknown and duplicate fields.
    pub validation: FieldValidation,
    /// Whether an apply takes over fields that others own.
    pub force: bool,
}

/// A write that happened.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object after it.
    pub object: Arc<Document>,
    /// Whether the object is new.
    pub created: bool,
    /// What the client should hear of.
    pub warnings: Vec<String>,
}

/// The part of an object a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// Everything but the status.
    None,
    /// The status alone.
    Status,
}

/// A patch, as it came.
#[derive(Clone, Copy, Debug)]
pub enum Patch<'a> {
    /// Server-side apply: JSON or YAML.
    Apply(&'a [u8]),
    /// RFC 6902.
    Json(&'a [u8]),
    /// RFC 7386.
    Merge(&'a [u8]),
    /// Kubernetes' strategic merge patch; for built-in kinds.
    Strategic(&'a [u8]),
}

impl Registry {
    /// Makes a new object.
    ///
    /// # Errors
    /// When the object is malformed, invalid, not admitted, or its name is taken.
    pub async fn create(
        &self,
        identity: &Identity,
        kind: &Kind,
        namespace: Option<&str>,
        body: &[u8],
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let decoded = decode::yaml(body, Nulls::Drop)?;
        let (mut object, warnings) = kind.prune(decoded, options.validation)?;
        kind.check_type(&mut object)?;
        if !metadata::text(&object, "resourceVersion").is_empty() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(ApiError::bad_request(message));
        }
        check_namespace(&object, namespace)?;
        let (kind, mut object) = (kind.stored(), kind.to_stored(object));
        let generated = metadata::text(&object, "name").is_empty();
        let mut attempts = if generated { limits::NAME_ATTEMPTS } else { 1 };
        loop {
            let name = if generated {
                generate_name(metadata::text(&object, "generateName"))?
            } else {
                metadata::text(&object, "name").to_owned()
            };
            let key = kind.key(namespace, &name)?;
            let proof = self.authorize_creation::<verb::Create>(identity, key, &object)?;
            attempts -= 1;
            let this = if attempts > 0 { object.clone() } else { std::mem::take(&mut object) };
            let this = kind.prepare_new(&proof, this, options)?;
            match self.put(&proof, Expect::Absent, this, Subresource::None, options).await {
                Err(taken) if taken.reason() == Reason::AlreadyExists && attempts > 0 => {}
                result => {
                    let object = result?.document;
                    return Ok(Written { object, created: true, warnings });
                }
            }
        }
    }

    /// The container above the container that `body` describes; none for what is no container.
    pub(crate) fn parent_in(&self, kind: &Kind, body: &[u8]) -> Result<Option<String>, ApiError> {
        let decoded = decode::yaml(body, Nulls::Drop)?;
        Ok(parent_of(kind.resource(), &decoded.value).map(str::to_owned))
    }

    /// Replaces an object, or its status. Leases and Events are made by it if need be.
    ///
    /// # Errors
    /// When there is no such object, it is not at the resourceVersion the new one names, or the new
    /// one is malformed, invalid or not admitted.
    pub async fn update(
        &self,
        proof: &Authorized<verb::Update, Key>,
        kind: &Kind,
        subresource: Subresource,
        body: &[u8],
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let decoded = decode::yaml(body, Nulls::Drop)?;
        let (mut object, warnings) = kind.prune(decoded, options.validation)?;
        kind.check_type(&mut object)?;
        let (kind, object) = (kind.stored(), kind.to_stored(object));
        let key = proof.resource();
        check_name(&object, key)?;
        if self.store.current(proof).is_none() {
            if subresource == Subresource::Status || !kind.is_made_by_update() {
                return Err(ApiError::not_found(key));
            }
            let proof =
                self.authorize_creation::<verb::Create>(proof.actor(), key.clone(), &object)?;
            let new = kind.prepare_new(&proof, object.clone(), options)?;
            match self.put(&proof, Expect::Absent, new, subresource, options).await {
                Err(taken) if taken.reason() == Reason::AlreadyExists => {}
                result => {
                    let object = result?.document;
                    return Ok(Written { object, created: true, warnings });
                }
            }
        }
        kind.check_based(key, &object)?;
        let manager = manager(Operation::Update, subresource, options);
        let object = self
            .modify(proof, subresource, options, |old| {
                kind.evolve(key, old, object.clone(), subresource, &manager)
            })
            .await?;
        Ok(Written { object, created: false, warnings })
    }

    /// Changes an object in part; an apply makes it if need be.
    ///
    /// # Errors
    /// When the patch does not fit, or as [`Self::update`]. An apply that meets fields of other
    /// managers is a conflict that names them.
    pub async fn patch(
        &self,
        proof: &Authorized<verb::Patch, Key>,
        kind: &Kind,
        subresource: Subresource,
        patch: Patch<'_>,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let key = proof.resource();
        match patch {
            Patch::Apply(body) => self.apply(proof, kind, subresource, body, options).await,
            Patch::Json(body) => {
                let patch = JsonPatch::parse(body)?;
                let patched = |value: &mut Value| patch.apply(key, value);
                self.change(proof, kind, subresource, options, Vec::new(), patched).await
            }
            Patch::Merge(body) => {
                let decoded = decode::json(body, Nulls::Keep)?;
                let patch = decoded.value;
                if !patch.is_object() {
                    return Err(ApiError::bad_request("a merge patch is an object"));
                }
                let duplicates = decoded.duplicates;
                let patched = |value: &mut Value| {
                    json_patch::merge(value, &patch);
                    Ok(())
                };
                self.change(proof, kind, subresource, options, duplicates, patched).await
            }
            Patch::Strategic(body) => {
                let decoded = decode::json(body, Nulls::Keep)?;
                let patch = StrategicPatch::new(decoded.value)?;
                let patched = |value: &mut Value| patch.apply(value, kind.structure());
                self.change(proof, kind, subresource, options, decoded.duplicates, patched).await
            }
        }
    }

    /// Changes an object by a function of its newest state.
    async fn change(
        &self,
        proof: &Authorized<verb::Patch, Key>,
        kind: &Kind,
        subresource: Subresource,
        options: &WriteOptions,
        duplicates: Vec<String>,
        patched: impl Fn(&mut Value) -> Result<(), ApiError>,
    ) -> Result<Written, ApiError> {
        let key = proof.resource();
        let manager = manager(Operation::Update, subresource, options);
        let mut warnings = Vec::new();
        let object = self
            .modify(proof, subresource, options, |old| {
                let mut value = Value::clone(&kind.to_served(&old.document).value());
                patched(&mut value)?;
                let decoded = decode::Decoded { value, duplicates: duplicates.clone() };
                let (mut new, faults) = kind.prune(decoded, options.validation)?;
                warnings = faults;
                kind.check_type(&mut new)?;
                check_name(&new, key)?;
                let (kind, new) = (kind.stored(), kind.to_stored(new));
                kind.evolve(key, old, new, subresource, &manager)
            })
            .await?;
        Ok(Written { object, created: false, warnings })
    }

    /// Writes what `decide` makes of the newest state, again if that was overtaken.
    pub(super) async fn modify<V: Verb + WriteVerb>(
        &self,
        proof: &Authorized<V, Key>,
        subresource: Subresource,
        options: &WriteOptions,
        mut decide: impl FnMut(&Object) -> Result<Outcome, ApiError>,
    ) -> Result<Arc<Document>, ApiError> {
        let key = proof.resource();
        for _ in 0..limits::WRITE_ATTEMPTS {
            let old = self.store.current(proof).ok_or_else(|| ApiError::not_found(key))?;
            let expect = Expect::At(old.revision);
            let written = match decide(&old)? {
                Outcome::Unchanged => return Ok(old.document),
                Outcome::Put(value) => self.put(proof, expect, value, subresource, options).await,
                Outcome::Remove(last) => {
                    let removed = self.remove(proof, expect, options).await;
                    removed.map(|removed| with_last(removed, last))
                }
            };
            match written {
                Err(overtaken) if overtaken.is_stale() => {}
                result => return Ok(result?.document),
            }
        }
        Err(ApiError::stale(key))
    }

    pub(super) async fn put<V: Verb + WriteVerb>(
        &self,
        proof: &Authorized<V, Key>,
        expect: Expect,
        value: Value,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Object, ApiError> {
        let subresource = match subresource {
            Subresource::None => "",
            Subresource::Status => "status",
        };
        if proof.subresource() != subresource {
            return Err(ApiError::internal("a proof for one part of an object, spent on another"));
        }
        let subresource = Some(subresource).filter(|subresource| !subresource.is_empty());
        let write = Write {
            expect,
            value: Some(value),
            subresource,
            agent: options.manager.clone(),
            persistence: options.persistence,
        };
        self.store.write(proof, write).await
    }

    pub(super) async fn remove<V: Verb + WriteVerb>(
        &self,
        proof: &Authorized<V, Key>,
        expect: Expect,
        options: &WriteOptions,
    ) -> Result<Object, ApiError> {
        let write = Write {
            expect,
            value: None,
            subresource: None,
            agent: options.manager.clone(),
            persistence: options.persistence,
        };
        self.store.write(proof, write).await
    }
}

/// What is answered to whoever made an object go by an update: what they made of it, and not what it was
/// before. Clients go on with what they are told.
fn with_last(removed: Object, last: Option<Value>) -> Object {
    let Some(mut last) = last else { return removed };
    let version = removed.value().pointer("/metadata/resourceVersion").cloned();
    if let (Some(version), Ok(metadata)) = (version, metadata::of(&mut last)) {
        metadata.insert("resourceVersion".into(), version);
    }
    Object { document: Arc::new(last.into()), ..removed }
}

fn check_namespace(object: &Value, namespace: Option<&str>) -> Result<(), ApiError> {
    let given = metadata::text(object, "namespace");
    if given.is_empty() || Some(given) == namespace {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the namespace of the provided object does not match the namespace sent on the request: \
         {given:?} and {:?}",
        namespace.unwrap_or_default()
    )))
}

pub(super) fn check_name(object: &Value, key: &Key) -> Result<(), ApiError> {
    check_namespace(object, key.container())?;
    let given = metadata::text(object, "name");
    if given.is_empty() || given == key.name() {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the name of the object ({given}) does not match the name on the URL ({})",
        key.name()
    )))
}

/// `prefix` with a random suffix, of letters that spell no words.
fn generate_name(prefix: &str) -> Result<String, ApiError> {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    const SUFFIX: usize = 5;
    if prefix.is_empty() {
        return Err(ApiError::bad_request("metadata.name or metadata.generateName is required"));
    }
    let mut random = rand::rng();
    let suffix = (0..SUFFIX)
        .filter_map(|_| LETTERS.get(random.random_range(0..LETTERS.len())))
        .map(|letter| char::from(*letter));
    Ok(prefix.chars().chain(suffix).collect())
}
