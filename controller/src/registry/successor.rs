//! What an object becomes: the first one, and each one after it.
//!
//! Pure but for the clock and the uid: takes what the client wants and what is stored, and gives
//! what may follow, complete, checked and with the owners of its fields.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Kind, Subresource, WriteOptions,
    fields::Difference,
    managed::{ManagedFields, Manager, Operation},
    metadata,
};
use crate::{
    authz::{Authorized, verb},
    error::ApiError,
    store::{Key, Object},
    uid,
};

/// What a write does to the object it found.
pub(super) enum Outcome {
    Unchanged,
    Put(Value),
    /// The object goes. It was to become this first, if it goes because it waits for nothing any more.
    Remove(Option<Value>),
}

impl Kind {
    /// The object as it will be stored for the first time.
    pub(super) fn prepare_new(
        &self,
        proof: &Authorized<verb::Create, Key>,
        mut object: Value,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let key = proof.resource();
        let now = seconds(Timestamp::now());
        strip_status(&mut object);
        self.begin(&mut object, key, &now)?;
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

    /// Makes the metadata of a new object complete.
    pub(super) fn begin(&self, object: &mut Value, key: &Key, now: &str) -> Result<(), ApiError> {
        metadata::begin(object, key, &uid::random().to_string(), now)?;
        if self.descriptor().built_in {
            metadata::of(object)?.shift_remove("generation");
        }
        Ok(())
    }

    /// What becomes of `old` when a client wants `new`.
    pub(super) fn evolve(
        &self,
        key: &Key,
        old: &Object,
        mut new: Value,
        subresource: Subresource,
        manager: &Manager,
    ) -> Result<Outcome, ApiError> {
        check_version(key, metadata::text(&new, "resourceVersion"), old)?;
        // A client that sends managedFields back may have changed them (kubectl does, to migrate).
        let mut managed = match new.pointer("/metadata/managedFields") {
            Some(_) => ManagedFields::of(&new),
            None => ManagedFields::of(&old.value()),
        };
        self.follow(key, old, &mut new, subresource)?;
        managed.update(manager, Difference::between(&old.value(), &new, self.structure()));
        managed.write(&mut new, self.api_version(), &seconds(Timestamp::now()));
        Ok(outcome(old, new))
    }

    /// Makes `new` a legal successor of `old`.
    pub(super) fn follow(
        &self,
        key: &Key,
        old: &Object,
        new: &mut Value,
        subresource: Subresource,
    ) -> Result<(), ApiError> {
        match subresource {
            Subresource::None => copy_status(&old.value(), new),
            Subresource::Status => {
                let mut whole = Value::clone(&old.value());
                copy_status(new, &mut whole);
                *new = whole;
            }
        }
        self.complete(new);
        metadata::carry_over(new, &old.value(), key)?;
        self.check(key, new, Some(&old.value()))
    }
}

pub(super) fn outcome(old: &Object, new: Value) -> Outcome {
    if metadata::is_terminating(&new) && !metadata::has_finalizers(&new) {
        Outcome::Remove(Some(new))
    } else if *old.value() == new {
        Outcome::Unchanged
    } else {
        Outcome::Put(new)
    }
}

pub(super) fn manager(
    operation: Operation,
    subresource: Subresource,
    options: &WriteOptions,
) -> Manager {
    Manager {
        operation,
        name: options.manager.clone(),
        subresource: (subresource == Subresource::Status).then(|| "status".to_owned()),
    }
}

pub(super) fn strip_status(object: &mut Value) {
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

/// Refuses a change that is based on another version than `old`, if it says on which.
pub(super) fn check_version(key: &Key, base: &str, old: &Object) -> Result<(), ApiError> {
    if base.is_empty() || base == metadata::text(&old.value(), "resourceVersion") {
        return Ok(());
    }
    Err(ApiError::stale(key))
}

/// A time as Kubernetes writes it: whole seconds.
pub(super) fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
