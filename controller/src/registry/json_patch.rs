//! [`JsonPatch`]: RFC 6902, within bounds.
//!
//! A patch of a few hundred bytes can double an object with every `copy`, and nest it with every
//! step; so what operations add is counted, and how deep it comes to lie. A field that an object lacks
//! passes a test for null, as with Kubernetes: this is how clients say "if nobody has set it yet".

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::decode::fill_texts;
use crate::{
    error::{ApiError, Reason},
    limits,
    store::{Key, size_of},
};

/// A patch that has been read.
#[derive(Debug)]
pub(super) struct JsonPatch(Patch);

impl JsonPatch {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let patch: Patch = serde_json::from_slice(body).map_err(|error| {
            ApiError::bad_request(format!("the body is not a JSON patch: {error}"))
        })?;
        if patch.0.len() > limits::JSON_PATCH_OPERATIONS {
            let message =
                format!("the patch has more than {} operations", limits::JSON_PATCH_OPERATIONS);
            return Err(ApiError::new(Reason::RequestEntityTooLarge, message));
        }
        Ok(Self(patch))
    }

    /// Patches `value`; it is of no use after an error.
    pub(super) fn apply(&self, key: &Key, value: &mut Value) -> Result<(), ApiError> {
        let mut copied = 0;
        for operation in &self.0.0 {
            if let PatchOperation::Copy(copy) = operation {
                copied += value.pointer(copy.from.as_str()).map_or(0, size_of);
                if copied > limits::OBJECT_BYTES {
                    let message =
                        format!("the patch copies more than {} bytes", limits::OBJECT_BYTES);
                    return Err(ApiError::about(Reason::RequestEntityTooLarge, key, message));
                }
            }
            if is_met_by_absence(operation, value) {
                continue;
            }
            json_patch::patch(value, std::slice::from_ref(operation)).map_err(|error| {
                ApiError::about(Reason::Invalid, key, format!("the patch failed: {error}"))
            })?;
            let path = operation.path().as_str();
            let above = path.matches('/').count();
            let room = limits::OBJECT_DEPTH.checked_sub(above);
            let added = value.pointer(path);
            if room.is_none_or(|room| added.is_some_and(|added| is_deeper(added, room))) {
                let message =
                    format!("the patch nests deeper than {} levels", limits::OBJECT_DEPTH);
                return Err(ApiError::about(Reason::Invalid, key, message));
            }
        }
        fill_texts(value);
        Ok(())
    }
}

/// Whether `operation` tests for null a field that an object of `value` does not have.
fn is_met_by_absence(operation: &PatchOperation, value: &Value) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let Some((parent, field)) = test.path.split_back() else { return false };
    let parent = value.pointer(parent.as_str()).and_then(Value::as_object);
    test.value.is_null() && parent.is_some_and(|fields| !fields.contains_key(&*field.decoded()))
}

/// Whether `value` has more than `levels`; looks no deeper than that.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let Some(below) = levels.checked_sub(1) else {
        return value.is_array() || value.is_object();
    };
    match value {
        Value::Array(items) => items.iter().any(|item| is_deeper(item, below)),
        Value::Object(fields) => fields.values().any(|field| is_deeper(field, below)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Resource;

    fn apply(value: &mut Value, patch: &Value) -> Result<(), u16> {
        let key = Key::new(Resource::new("pools", "test"), None, "www");
        let patch = JsonPatch::parse(patch.to_string().as_bytes()).map_err(|error| error.code())?;
        patch.apply(&key, value).map_err(|error| error.code())
    }

    #[test]
    fn operations_apply_in_order_and_a_failed_test_refuses_all() {
        let mut value = json!({"a": 1});
        let patch = json!([
            {"op": "test", "path": "/a", "value": 1},
            {"op": "add", "path": "/b", "value": [1]},
            {"op": "move", "from": "/a", "path": "/b/-"},
        ]);
        assert_eq!(apply(&mut value, &patch), Ok(()));
        assert_eq!(value, json!({"b": [1, 1]}));

        let failing = json!([{"op": "test", "path": "/b/0", "value": 2}]);
        assert_eq!(apply(&mut value, &failing), Err(422));

        let mut map = json!({"metadata": {}, "data": {"b": "x"}, "spec": {}});
        let nulls = json!([
            {"op": "add", "path": "/data/a", "value": null},
            {"op": "add", "path": "/metadata/labels", "value": {"l": null}},
            {"op": "add", "path": "/spec/a", "value": null},
        ]);
        assert_eq!(apply(&mut map, &nulls), Ok(()));
        let labels = json!({"labels": {"l": ""}});
        let expected =
            json!({"metadata": labels, "data": {"b": "x", "a": ""}, "spec": {"a": null}});
        assert_eq!(map, expected, "null is a text among texts");
        assert_eq!(apply(&mut value, &json!({"op": "test"})), Err(400));
    }

    #[test]
    fn a_field_that_is_not_there_passes_a_test_for_null() {
        let mut value = json!({"a": {"b/c": 1}, "list": []});
        let test = |path: &str| json!([{"op": "test", "path": path, "value": null}]);

        for absent in ["/x", "/a/x", "/a/b~0c"] {
            assert_eq!(apply(&mut value, &test(absent)), Ok(()), "{absent}");
        }
        for refused in ["/a", "/a/b~1c", "/x/y", "/list/0", "/list/-"] {
            assert_eq!(apply(&mut value, &test(refused)), Err(422), "{refused}");
        }
        let other = json!([{"op": "test", "path": "/x", "value": 1}]);
        assert_eq!(apply(&mut value, &other), Err(422));
    }

    #[test]
    fn copies_cannot_grow_without_bound() {
        let mut value = json!({"a": {"x": "y".repeat(100)}});
        let double = |step| json!({"op": "copy", "from": "/a", "path": format!("/a/z{step}")});
        let patch: Vec<Value> = (0..40).map(double).collect();

        assert_eq!(apply(&mut value, &json!(patch)), Err(413));
        assert!(size_of(&value) <= 2 * limits::OBJECT_BYTES);
    }

    #[test]
    fn nesting_is_bounded() {
        let deepen = |levels: usize| {
            let mut path = String::new();
            let mut patch = vec![json!({"op": "add", "path": "", "value": {}})];
            for _ in 0..levels {
                path.push_str("/a");
                patch.push(json!({"op": "add", "path": path, "value": {}}));
            }
            apply(&mut json!({}), &json!(patch))
        };
        assert_eq!(deepen(limits::OBJECT_DEPTH - 1), Ok(()));
        assert_eq!(deepen(limits::OBJECT_DEPTH), Err(422));

        let half = "/a".repeat(limits::OBJECT_DEPTH / 2);
        let mut value = json!({"a": "leaf"});
        for _ in 1..limits::OBJECT_DEPTH / 2 {
            value = json!({"a": value});
        }
        let fold = json!([{"op": "copy", "from": "/a", "path": half}]);
        assert_eq!(apply(&mut value, &fold), Ok(()));
        assert_eq!(apply(&mut value, &fold), Err(422));
    }
}
