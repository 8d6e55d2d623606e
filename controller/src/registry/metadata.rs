//! `metadata`: what the server reads and writes there, for every kind alike.
//!
//! Clients state names, labels, annotations, finalizers and owners; everything else is the
//! server's. Pure: time, uid and random suffix come in.

use serde_json::{Map, Value, json};

use crate::{
    error::{ApiError, Cause, Reason},
    store::Key,
};

/// Fields that only the server sets; they keep the value they have.
const SERVER_FIELDS: &[&str] = &[
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
];

/// Fields besides `metadata` that are not desired state.
const NOT_DESIRED: &[&str] = &["apiVersion", "kind", "metadata", "status"];

/// Fields that say nothing when they are empty, and are as good as absent.
const OMITTED: &[&str] =
    &["annotations", "finalizers", "generateName", "labels", "ownerReferences"];

/// A text of `metadata`, empty when absent.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|meta| meta.get(field)).and_then(Value::as_str).unwrap_or("")
}

/// `metadata`, made if need be.
pub(crate) fn of(object: &mut Value) -> Result<&mut Map<String, Value>, ApiError> {
    let malformed = || ApiError::bad_request("metadata: expected an object");
    let object =
        object.as_object_mut().ok_or_else(|| ApiError::bad_request("expected an object"))?;
    object.entry("metadata").or_insert_with(|| json!({})).as_object_mut().ok_or_else(malformed)
}

/// Whether deletion waits for something.
pub(crate) fn has_finalizers(object: &Value) -> bool {
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

/// Whether deletion waits for this.
pub(crate) fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.is_some_and(|finalizers| finalizers.iter().any(|it| it == finalizer))
}

/// Whether the object is on its way out.
pub(crate) fn is_terminating(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Makes the metadata of a new object complete.
pub(crate) fn begin(object: &mut Value, key: &Key, uid: &str, now: &str) -> Result<(), ApiError> {
    let metadata = of(object)?;
    for field in SERVER_FIELDS {
        metadata.shift_remove(*field);
    }
    metadata.shift_remove("resourceVersion");
    omit_empty(metadata);
    metadata.insert("name".into(), json!(key.name()));
    match key.container() {
        Some(namespace) => metadata.insert("namespace".into(), json!(namespace)),
        None => metadata.shift_remove("namespace"),
    };
    metadata.insert("uid".into(), json!(uid));
    metadata.insert("creationTimestamp".into(), json!(now));
    metadata.insert("generation".into(), json!(1));
    Ok(())
}

fn omit_empty(metadata: &mut Map<String, Value>) {
    for field in OMITTED {
        let is_empty = metadata.get(*field).is_some_and(|value| match value {
            Value::Object(fields) => fields.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::String(text) => text.is_empty(),
            _ => false,
        });
        if is_empty {
            metadata.shift_remove(*field);
        }
    }
}

/// Makes the metadata of a changed object follow from the stored one, and counts the generation
/// when the desired state changed.
pub(crate) fn carry_over(new: &mut Value, old: &Value, key: &Key) -> Result<(), ApiError> {
    let (old_uid, uid) = (text(old, "uid"), text(new, "uid"));
    if !uid.is_empty() && uid != old_uid {
        let why = format!("the object has uid {old_uid}, not {uid}");
        return Err(ApiError::conflict(key, &why));
    }
    let desired_changed = desired(new) != desired(old);
    let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(1);
    let terminating = is_terminating(old);
    let metadata = of(new)?;
    omit_empty(metadata);
    for field in SERVER_FIELDS.iter().chain(&["resourceVersion", "name", "namespace"]) {
        match old.get("metadata").and_then(|meta| meta.get(*field)) {
            Some(value) => metadata.insert((*field).into(), value.clone()),
            None => metadata.shift_remove(*field),
        };
    }
    // Built-in kinds do not count generations.
    if desired_changed && old.pointer("/metadata/generation").is_some() {
        metadata.insert("generation".into(), json!(generation.saturating_add(1)));
    }
    if terminating && adds_finalizers(new, old) {
        let cause = Cause {
            reason: "FieldValueForbidden".into(),
            message: "no new finalizers can be added once the object is being deleted".into(),
            field: "metadata.finalizers".into(),
        };
        let message = format!(
            "{} {:?} is invalid: {}: Forbidden: {}",
            key.resource(),
            key.name(),
            cause.field,
            cause.message
        );
        return Err(ApiError::about(Reason::Invalid, key, message).with_causes(vec![cause]));
    }
    Ok(())
}

/// The desired state: all that is not metadata or status.
fn desired(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    let mut desired: Vec<_> =
        fields.filter(|(name, _)| !NOT_DESIRED.contains(&name.as_str())).collect();
    desired.sort_by_key(|(name, _)| *name);
    desired
}

fn adds_finalizers(new: &Value, old: &Value) -> bool {
    let of = |object: &Value| -> Vec<Value> {
        let finalizers = object.pointer("/metadata/finalizers").and_then(Value::as_array);
        finalizers.cloned().unwrap_or_default()
    };
    let old = of(old);
    of(new).iter().any(|finalizer| !old.contains(finalizer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Resource;

    fn key() -> Key {
        Key::new(Resource::new("pools", "test"), Some("web"), "www")
    }

    fn stored() -> Value {
        let mut object = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"size": 1}});
        begin(&mut object, &key(), "u-1", "2026-01-01T00:00:00Z").expect("an object");
        object
    }

    #[test]
    fn generation_counts_changes_of_the_desired_state_only() {
        let old = stored();
        let mut labelled = old.clone();
        labelled["metadata"]["labels"]["a"] = json!("c");
        labelled["status"] = json!({"ready": true});
        carry_over(&mut labelled, &old, &key()).expect("allowed");
        assert_eq!(labelled["metadata"]["generation"], 1);

        let mut grown = old.clone();
        grown["spec"]["size"] = json!(2);
        carry_over(&mut grown, &old, &key()).expect("allowed");
        assert_eq!(grown["metadata"]["generation"], 2);
    }

    #[test]
    fn the_servers_fields_cannot_be_set() {
        let old = stored();
        let mut new = old.clone();
        new["metadata"]["creationTimestamp"] = json!("1999-01-01T00:00:00Z");
        new["metadata"]["generation"] = json!(77);
        new["metadata"]["deletionTimestamp"] = json!("1999-01-01T00:00:00Z");

        carry_over(&mut new, &old, &key()).expect("allowed");

        assert_eq!(new, old);
    }

    #[test]
    fn another_uid_is_another_object() {
        let old = stored();
        let mut new = old.clone();
        new["metadata"]["uid"] = json!("u-2");

        let refusal = carry_over(&mut new, &old, &key()).expect_err("another uid");

        assert_eq!(refusal.reason(), Reason::Conflict);
    }

    #[test]
    fn a_dying_object_gets_no_new_finalizers() {
        let mut old = stored();
        old["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        old["metadata"]["finalizers"] = json!(["a", "b"]);
        let mut fewer = old.clone();
        fewer["metadata"]["finalizers"] = json!(["b"]);
        let mut more = old.clone();
        more["metadata"]["finalizers"] = json!(["a", "b", "c"]);

        assert!(carry_over(&mut fewer, &old, &key()).is_ok());
        assert_eq!(carry_over(&mut more, &old, &key()).map_err(|error| error.code()), Err(422));
    }
}
