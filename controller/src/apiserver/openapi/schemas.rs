//! Schemas that no kind declares: what requests and answers of all kinds are made of.

use serde_json::{Map, Value, json};

use super::reference;

pub(super) const NAMESPACE: &str = "io.k8s.api.core.v1.Namespace";
/// What all metadata is like. Clients look for it by this name (Terraform), though every kind says what
/// its own is.
pub(super) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// What every document has.
pub(super) fn common_schemas() -> Map<String, Value> {
    [(STATUS, status()), (DELETE_OPTIONS, delete_options())]
        .map(|(name, schema)| (name.to_owned(), schema))
        .into_iter()
        .collect()
}

/// The schema of what is no declared kind, and only read; its `metadata` is that of any other.
pub(super) fn undeclared(description: &str, gvk: &Value, metadata: Option<&Value>) -> Value {
    json!({
        "type": "object",
        "description": description,
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": metadata.cloned().unwrap_or_else(free),
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
        "x-kubernetes-group-version-kind": [gvk],
    })
}

/// The answer to a deletion: who is gone, or what is still there for its finalizers.
pub(super) fn deleted(schema: &str) -> Value {
    json!({"anyOf": [reference(STATUS), reference(schema)]})
}

/// Anything, of which the server says what is wrong.
pub(super) fn free() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Every refusal says all that is required here.
fn status() -> Value {
    let cause = json!({
        "type": "object",
        "description": "One thing that is wrong.",
        "properties": {
            "reason": {"type": "string"},
            "message": {"type": "string"},
            "field": {"type": "string"},
        },
    });
    let details = json!({
        "type": "object",
        "description": "What the outcome is about.",
        "properties": {
            "name": {"type": "string"},
            "group": {"type": "string"},
            "kind": {"type": "string"},
            "uid": {"type": "string"},
            "causes": {"type": "array", "items": cause},
            "retryAfterSeconds": {"type": "integer"},
        },
    });
    json!({
        "type": "object",
        "description": "The outcome of a request that returns no object.",
        "required": ["apiVersion", "kind", "metadata", "status"],
        "properties": {
            "apiVersion": {"type": "string", "enum": ["v1"]},
            "kind": {"type": "string", "enum": ["Status"]},
            "metadata": {
                "type": "object",
                "properties": {"continue": {"type": "string"}},
            },
            "status": {"type": "string", "enum": ["Success", "Failure"]},
            "message": {"type": "string"},
            "reason": {"type": "string"},
            "details": details,
            "code": {"type": "integer"},
        },
    })
}

fn delete_options() -> Value {
    json!({
        "type": "object",
        "description": "Options of a deletion.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "dryRun": {"type": "array", "items": {"type": "string"}},
            "gracePeriodSeconds": {"type": "integer"},
            "propagationPolicy": {"type": "string"},
            "preconditions": {
                "type": "object",
                "properties": {
                    "resourceVersion": {"type": "string"},
                    "uid": {"type": "string"},
                },
            },
        },
    })
}
