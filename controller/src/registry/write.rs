//! Create, update, patch and apply: what becomes of an object, and who owns its fields then.
//!
//! The new object is made outside the sequencer, from the newest state; the write then demands
//! exactly that state, and starts again if somebody was faster. Only a caller that names a
//! resourceVersion is told of the conflict.

use std::sync::Arc;

use jiff::Timestamp;
use rand::RngExt;
use serde_json::Value;
use uuid::Uuid;

use super::{
    FieldValidation, Kind, Registry,
    apply::{self, Conflict, Conflicts},
    decode::{self, Nulls},
    fields::{Difference, FieldSet},
    managed::{ManagedFields, Manager, Operation},
    metadata,
};
use crate::{
    authz::{Authorized, Identity, Verb, WriteVerb, verb},
    error::{ApiError, Cause, Reason},
    limits,
    store::{Expect, Key, Object, Persistence, Revision, Write},
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
    pub object: Arc<Value>,
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
}

/// Where kubectl records what it applied from the client's side.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manager that kubectl is by default when it applies from the server's side.
const KUBECTL: &str = "kubectl";

/// What a write does to the object it found.
pub(super) enum Outcome {
    Unchanged,
    Put(Value),
    Remove,
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
        let generated = metadata::text(&object, "name").is_empty();
        let mut attempts = if generated { limits::NAME_ATTEMPTS } else { 1 };
        loop {
            let name = if generated {
                generate_name(metadata::text(&object, "generateName"))?
            } else {
                metadata::text(&object, "name").to_owned()
            };
            let key = kind.key(namespace, &name)?;
            let proof = self.authorize::<verb::Create, _>(identity, key)?;
            let object = kind.prepare_new(&proof, object.clone(), options)?;
            match self.put(&proof, Expect::Absent, object, Subresource::None, options).await {
                Err(taken) if taken.reason() == Reason::AlreadyExists && attempts > 1 => {
                    attempts -= 1;
                }
                result => {
                    let object = result?.value;
                    return Ok(Written { object, created: true, warnings });
                }
            }
        }
    }

    /// Replaces an object, or its status.
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
        check_name(&object, proof.resource())?;
        let manager = manager(Operation::Update, subresource, options);
        let object = self
            .modify(proof, subresource, options, |old| {
                kind.evolve(proof.resource(), old, object.clone(), subresource, &manager)
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
                let patch: json_patch::Patch = serde_json::from_slice(body).map_err(|error| {
                    ApiError::bad_request(format!("the body is not a JSON patch: {error}"))
                })?;
                if patch.0.len() > limits::JSON_PATCH_OPERATIONS {
                    let message = format!(
                        "the patch has more than {} operations",
                        limits::JSON_PATCH_OPERATIONS
                    );
                    return Err(ApiError::new(Reason::RequestEntityTooLarge, message));
                }
                let patched = |value: &mut Value| {
                    json_patch::patch(value, &patch).map_err(|error| {
                        ApiError::about(Reason::Invalid, key, format!("the patch failed: {error}"))
                    })
                };
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
                let mut value = Value::clone(&old.value);
                patched(&mut value)?;
                let decoded = decode::Decoded { value, duplicates: duplicates.clone() };
                let (mut new, faults) = kind.prune(decoded, options.validation)?;
                warnings = faults;
                kind.check_type(&mut new)?;
                check_name(&new, key)?;
                kind.evolve(key, old, new, subresource, &manager)
            })
            .await?;
        Ok(Written { object, created: false, warnings })
    }

    async fn apply(
        &self,
        proof: &Authorized<verb::Patch, Key>,
        kind: &Kind,
        subresource: Subresource,
        body: &[u8],
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let key = proof.resource();
        if options.manager.is_empty() {
            return Err(ApiError::bad_request("fieldManager is required for apply"));
        }
        let decoded = decode::yaml(body, Nulls::Drop)?;
        let (mut applied, warnings) = kind.prune(decoded, options.validation)?;
        kind.check_type(&mut applied)?;
        check_name(&applied, key)?;
        if applied.pointer("/metadata/managedFields").is_some() {
            return Err(ApiError::bad_request("metadata.managedFields must not be set"));
        }
        let manager = manager(Operation::Apply, subresource, options);
        let merge = |live: &Value| {
            let merged = |conflicts| {
                let mut managed = ManagedFields::of(live);
                apply::apply(live, &applied, kind.structure(), &manager, &mut managed, conflicts)
                    .map(|merged| (merged, managed))
            };
            if options.force {
                return merged(Conflicts::Force);
            }
            merged(Conflicts::Refuse).or_else(|conflicts| {
                let own = kind.stated_by_client_side_apply(live, &manager, &conflicts);
                if own { merged(Conflicts::Force) } else { Err(conflicts) }
            })
        };
        let merge = |live: &Value| merge(live).map_err(|conflicts| conflict(key, &conflicts));
        if self.store.current(proof).is_none() {
            if subresource == Subresource::Status {
                return Err(ApiError::not_found(key));
            }
            let mut object = applied.clone();
            strip_status(&mut object);
            let now = Timestamp::now();
            metadata::begin(&mut object, key, &Uuid::new_v4().to_string(), &seconds(now))?;
            kind.complete(&mut object);
            kind.check(key, &object, None)?;
            let (_, managed) = merge(&object)?;
            managed.write(&mut object, kind.api_version(), &seconds(now));
            match self.put(proof, Expect::Absent, object, subresource, options).await {
                Ok(made) => {
                    return Ok(Written { object: made.value, created: true, warnings });
                }
                Err(taken) if taken.reason() == Reason::AlreadyExists => {}
                Err(other) => return Err(other),
            }
        }
        let object = self
            .modify(proof, subresource, options, |old| {
                let (mut new, managed) = merge(&old.value)?;
                let base = metadata::text(&applied, "resourceVersion");
                check_revision(key, base, old.revision)?;
                kind.follow(key, old, &mut new, subresource)?;
                managed.write(&mut new, kind.api_version(), &seconds(Timestamp::now()));
                Ok(outcome(old, new))
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
    ) -> Result<Arc<Value>, ApiError> {
        let key = proof.resource();
        for _ in 0..limits::WRITE_ATTEMPTS {
            let old = self.store.current(proof).ok_or_else(|| ApiError::not_found(key))?;
            let expect = Expect::At(old.revision);
            let written = match decide(&old)? {
                Outcome::Unchanged => return Ok(old.value),
                Outcome::Put(value) => self.put(proof, expect, value, subresource, options).await,
                Outcome::Remove => self.remove(proof, expect, options).await,
            };
            match written {
                Err(overtaken) if overtaken.is_stale() => {}
                result => return Ok(result?.value),
            }
        }
        Err(ApiError::stale(key))
    }

    async fn put<V: Verb + WriteVerb>(
        &self,
        proof: &Authorized<V, Key>,
        expect: Expect,
        value: Value,
        subresource: Subresource,
        options: &WriteOptions,
    ) -> Result<Object, ApiError> {
        let subresource = (subresource == Subresource::Status).then_some("status");
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

impl Kind {
    /// The object as it will be stored for the first time.
    fn prepare_new(
        &self,
        proof: &Authorized<verb::Create, Key>,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let key = proof.resource();
        let now = seconds(Timestamp::now());
        strip_status(&mut object);
        metadata::begin(&mut object, key, &Uuid::new_v4().to_string(), &now)?;
        metadata::of(&mut object)?.shift_remove("managedFields");
        self.complete(&mut object);
        self.check(key, &object, None)?;
        let mut managed = ManagedFields::default();
        let manager = manager(Operation::Update, Subresource::None, options);
        let nothing = Value::Object(serde_json::Map::new());
        managed.update(&manager, Difference::between(&nothing, &object, self.structure()));
        managed.write(&mut object, self.api_version(), &now);
        Ok(object)
    }

    /// Whether a manager conflicts only with itself: kubectl recorded what it applied from the
    /// client's side in an annotation, and now applies from the server's.
    fn stated_by_client_side_apply(
        &self,
        live: &Value,
        manager: &Manager,
        conflicts: &[Conflict],
    ) -> bool {
        let annotations = live.pointer("/metadata/annotations");
        let recorded = annotations
            .and_then(|annotations| annotations.get(LAST_APPLIED)?.as_str())
            .and_then(|text| decode::json(text.as_bytes(), Nulls::Drop).ok());
        let Some(recorded) = recorded.filter(|_| manager.name == KUBECTL) else { return false };
        let stated = FieldSet::of(&recorded.value, self.structure());
        conflicts.iter().all(|conflict| {
            let mut rest = conflict.fields.clone();
            rest.subtract(&stated);
            rest.is_empty()
        })
    }

    /// What becomes of `old` when a client wants `new`.
    fn evolve(
        &self,
        key: &Key,
        old: &Object,
        mut new: Value,
        subresource: Subresource,
        manager: &Manager,
    ) -> Result<Outcome, ApiError> {
        check_revision(key, metadata::text(&new, "resourceVersion"), old.revision)?;
        // A client that sends managedFields back may have changed them (kubectl does, to migrate).
        let mut managed = match new.pointer("/metadata/managedFields") {
            Some(_) => ManagedFields::of(&new),
            None => ManagedFields::of(&old.value),
        };
        self.follow(key, old, &mut new, subresource)?;
        managed.update(manager, Difference::between(&old.value, &new, self.structure()));
        managed.write(&mut new, self.api_version(), &seconds(Timestamp::now()));
        Ok(outcome(old, new))
    }

    /// Makes `new` a legal successor of `old`.
    fn follow(
        &self,
        key: &Key,
        old: &Object,
        new: &mut Value,
        subresource: Subresource,
    ) -> Result<(), ApiError> {
        match subresource {
            Subresource::None => copy_status(&old.value, new),
            Subresource::Status => {
                let mut whole = Value::clone(&old.value);
                copy_status(new, &mut whole);
                *new = whole;
            }
        }
        self.complete(new);
        metadata::carry_over(new, &old.value, key)?;
        self.check(key, new, Some(&old.value))
    }
}

fn outcome(old: &Object, new: Value) -> Outcome {
    if metadata::is_terminating(&new) && !metadata::has_finalizers(&new) {
        Outcome::Remove
    } else if *old.value == new {
        Outcome::Unchanged
    } else {
        Outcome::Put(new)
    }
}

fn manager(operation: Operation, subresource: Subresource, options: &WriteOptions) -> Manager {
    Manager {
        operation,
        name: options.manager.clone(),
        subresource: (subresource == Subresource::Status).then(|| "status".to_owned()),
    }
}

fn strip_status(object: &mut Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
}

fn copy_status(from: &Value, to: &mut Value) {
    let Some(fields) = to.as_object_mut() else { return };
    match from.get("status") {
        Some(status) => fields.insert("status".into(), status.clone()),
        None => fields.shift_remove("status"),
    };
}

fn check_revision(key: &Key, base: &str, current: Revision) -> Result<(), ApiError> {
    if base.is_empty() || base == current.to_string() {
        return Ok(());
    }
    Err(ApiError::stale(key))
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

fn check_name(object: &Value, key: &Key) -> Result<(), ApiError> {
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

/// A time as Kubernetes writes it: whole seconds.
pub(super) fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn conflict(key: &Key, conflicts: &[Conflict]) -> ApiError {
    let mut causes = Vec::new();
    for Conflict { manager, fields } in conflicts {
        let using = match manager.operation {
            Operation::Apply => "",
            Operation::Update => " using an update",
        };
        for path in fields.paths() {
            causes.push(Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {:?}{using}", manager.name),
                field: path,
            });
        }
    }
    let list: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.message, cause.field)).collect();
    let count = match causes.len() {
        1 => "1 conflict".to_owned(),
        several => format!("{several} conflicts"),
    };
    let message = format!("Apply failed with {count}: {}", list.join(", "));
    ApiError::about(Reason::Conflict, key, message).with_causes(causes)
}
