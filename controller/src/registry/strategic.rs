//! [`StrategicPatch`]: Kubernetes' strategic merge patch, which clients send for built-in kinds.
//!
//! A merge patch (RFC 7386) in which lists merge by what tells their items apart, and directives say
//! what a value cannot: `$patch: delete` and `$patch: replace`, `$deleteFromPrimitiveList/f`,
//! `$setElementOrder/f`, `$retainKeys`. How lists merge is read from the kind's structure. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::structure::{ListKey, ListType, Structure, key_element};
use crate::error::ApiError;

/// A patch that has been read.
#[derive(Debug)]
pub(super) struct StrategicPatch(Map<String, Value>);

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

impl StrategicPatch {
    pub(super) fn new(patch: Value) -> Result<Self, ApiError> {
        match patch {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(ApiError::bad_request("a strategic merge patch is an object")),
        }
    }

    /// Patches `value`; it is of no use after an error.
    pub(super) fn apply(&self, value: &mut Value, structure: &Structure) -> Result<(), ApiError> {
        let Value::Object(fields) = value else {
            return Err(ApiError::bad_request("expected an object"));
        };
        merge(fields, &self.0, structure)
    }
}

fn merge(
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    structure: &Structure,
) -> Result<(), ApiError> {
    match directive(patch)? {
        Some("replace") => {
            *target = plain(patch);
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        _ => {}
    }
    if let Some(Value::Array(kept)) = patch.get(RETAIN) {
        target.retain(|name, _| kept.iter().any(|kept| kept == name));
    }
    for (name, value) in patch {
        if let Some(name) = name.strip_prefix(DELETE_FROM) {
            if let (Some(Value::Array(items)), Value::Array(gone)) = (target.get_mut(name), value) {
                items.retain(|item| !gone.contains(item));
            }
        } else if name.starts_with('$') {
            // Read above, or with the list that it orders.
        } else if value.is_null() {
            target.shift_remove(name);
        } else {
            let below = structure.field(name).unwrap_or(&Structure::Any);
            merge_field(target, name, value, below)?;
        }
    }
    for (name, order) in patch {
        let Some(name) = name.strip_prefix(ORDER) else { continue };
        if let (Some(Value::Array(items)), Value::Array(order)) = (target.get_mut(name), order) {
            arrange(items, order, structure.field(name).unwrap_or(&Structure::Any));
        }
    }
    Ok(())
}

fn merge_field(
    target: &mut Map<String, Value>,
    name: &str,
    value: &Value,
    structure: &Structure,
) -> Result<(), ApiError> {
    match (value, structure) {
        (Value::Object(patch), structure) => {
            if directive(patch)? == Some("delete") {
                target.shift_remove(name);
                return Ok(());
            }
            let field = target.entry(name).or_insert(Value::Null);
            match field {
                Value::Object(fields) => merge(fields, patch, structure),
                other => {
                    let mut fields = Map::new();
                    merge(&mut fields, patch, structure)?;
                    *other = Value::Object(fields);
                    Ok(())
                }
            }
        }
        (Value::Array(patch), Structure::List(item, ListType::Map(keys))) => {
            let field = target.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            match field {
                Value::Array(items) => merge_items(items, patch, item, keys),
                other => {
                    *other = value.clone();
                    Ok(())
                }
            }
        }
        (Value::Array(patch), Structure::List(_, ListType::Set)) => {
            let field = target.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(items) = field {
                for item in patch {
                    if !items.contains(item) {
                        items.push(item.clone());
                    }
                }
            }
            Ok(())
        }
        _ => {
            target.insert(name.to_owned(), value.clone());
            Ok(())
        }
    }
}

fn merge_items(
    items: &mut Vec<Value>,
    patch: &[Value],
    item: &Structure,
    keys: &[ListKey],
) -> Result<(), ApiError> {
    let replaces = patch.iter().any(|entry| entry.get(PATCH).is_some_and(|it| it == "replace"));
    if replaces {
        items.clear();
    }
    let mut places: BTreeMap<String, usize> =
        items.iter().enumerate().map(|(place, item)| (key_element(item, keys), place)).collect();
    let mut gone = Vec::new();
    for entry in patch {
        let Value::Object(fields) = entry else {
            return Err(ApiError::bad_request("an item of a list that merges is an object"));
        };
        let what = directive(fields)?;
        if what == Some("replace") {
            continue;
        }
        let lacks = |key: &&ListKey| key.default.is_none() && !fields.contains_key(&key.name);
        if let Some(ListKey { name, .. }) = keys.iter().find(lacks) {
            return Err(ApiError::bad_request(format!("an item of the patch has no {name:?}")));
        }
        let element = key_element(entry, keys);
        let known = places.get(&element).copied();
        match (what, known) {
            (Some("delete"), _) => gone.push(element),
            (_, Some(place)) => {
                if let Some(Value::Object(target)) = items.get_mut(place) {
                    merge(target, fields, item)?;
                }
            }
            (_, None) => {
                places.insert(element, items.len());
                items.push(Value::Object(plain(fields)));
            }
        }
    }
    items.retain(|item| !gone.contains(&key_element(item, keys)));
    Ok(())
}

/// Puts items in the order of `order`; what it does not name stays behind.
fn arrange(items: &mut [Value], order: &[Value], structure: &Structure) {
    let name = |item: &Value| match structure {
        Structure::List(_, ListType::Map(keys)) => key_element(item, keys),
        _ => item.to_string(),
    };
    let places: BTreeMap<String, usize> =
        order.iter().enumerate().map(|(place, item)| (name(item), place)).collect();
    items.sort_by_key(|item| places.get(&name(item)).copied().unwrap_or(usize::MAX));
}

/// What `$patch` says.
fn directive(patch: &Map<String, Value>) -> Result<Option<&str>, ApiError> {
    match patch.get(PATCH).map(Value::as_str) {
        None => Ok(None),
        Some(Some(known @ ("delete" | "merge" | "replace"))) => Ok(Some(known)),
        Some(other) => {
            let other = other.unwrap_or_default();
            Err(ApiError::bad_request(format!("unknown patch directive: {other:?}")))
        }
    }
}

/// What a patch adds where nothing is.
fn plain(patch: &Map<String, Value>) -> Map<String, Value> {
    let fields = patch.iter().filter(|(name, value)| !name.starts_with('$') && !value.is_null());
    let fields = fields.map(|(name, value)| {
        let value = match value {
            Value::Object(below) => Value::Object(plain(below)),
            other => other.clone(),
        };
        (name.clone(), value)
    });
    fields.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn structure() -> Structure {
        let text = json!({"type": "string"});
        Structure::of(&json!({"type": "object", "properties": {
            "data": {"type": "object", "additionalProperties": text},
            "finalizers": {"type": "array", "x-kubernetes-list-type": "set", "items": text},
            "order": {"type": "array", "x-kubernetes-list-type": "atomic", "items": text},
            "owners": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["uid"],
                "items": {"type": "object", "properties": {"uid": text, "name": text}}},
        }}))
    }

    fn patched(value: &Value, patch: &Value) -> Result<Value, u16> {
        let mut value = value.clone();
        let patch = StrategicPatch::new(patch.clone()).map_err(|error| error.code())?;
        patch.apply(&mut value, &structure()).map_err(|error| error.code())?;
        Ok(value)
    }

    #[test]
    fn values_merge_as_their_structure_says() {
        let old = json!({
            "data": {"a": "1", "b": "2"},
            "finalizers": ["x", "y"],
            "order": ["p", "q"],
            "owners": [{"uid": "1", "name": "a"}, {"uid": "2", "name": "b"}],
        });
        for (what, patch, changed) in [
            (
                "a map merges, null removes",
                json!({"data": {"a": null, "c": "3"}}),
                json!({"data": {"b": "2", "c": "3"}}),
            ),
            (
                "a map is replaced",
                json!({"data": {"$patch": "replace", "z": "9"}}),
                json!({"data": {"z": "9"}}),
            ),
            ("a field goes", json!({"data": {"$patch": "delete"}}), json!({"data": null})),
            (
                "only these keys stay",
                json!({"data": {"$retainKeys": ["b"], "b": "3"}}),
                json!({"data": {"b": "3"}}),
            ),
            (
                "a set grows",
                json!({"finalizers": ["y", "z"]}),
                json!({"finalizers": ["x", "y", "z"]}),
            ),
            (
                "a set shrinks",
                json!({"$deleteFromPrimitiveList/finalizers": ["x"]}),
                json!({"finalizers": ["y"]}),
            ),
            ("a list with one owner is replaced", json!({"order": ["r"]}), json!({"order": ["r"]})),
            (
                "items merge by key",
                json!({"owners": [{"uid": "2", "name": "c"}, {"uid": "3"}]}),
                json!({"owners": [{"uid": "1", "name": "a"}, {"uid": "2", "name": "c"},
                    {"uid": "3"}]}),
            ),
            (
                "an item goes",
                json!({"owners": [{"$patch": "delete", "uid": "1"}]}),
                json!({"owners": [{"uid": "2", "name": "b"}]}),
            ),
            (
                "all items go",
                json!({"owners": [{"$patch": "replace"}, {"uid": "3"}]}),
                json!({"owners": [{"uid": "3"}]}),
            ),
            (
                "items are put in order",
                json!({"$setElementOrder/owners": [{"uid": "2"}, {"uid": "1"}]}),
                json!({"owners": [{"uid": "2", "name": "b"}, {"uid": "1", "name": "a"}]}),
            ),
        ] {
            let mut expected = old.clone();
            for (name, value) in changed.as_object().into_iter().flatten() {
                expected[name] = value.clone();
            }
            if let Some(fields) = expected.as_object_mut() {
                fields.retain(|_, value| !value.is_null());
            }
            assert_eq!(patched(&old, &patch), Ok(expected), "{what}");
        }
    }

    #[test]
    fn what_is_no_patch_is_a_bad_request() {
        for patch in [
            json!([]),
            json!({"$patch": "explode"}),
            json!({"owners": [1]}),
            json!({"owners": [{"name": "keyless"}]}),
            json!({"data": {"$patch": 7}}),
        ] {
            assert_eq!(patched(&json!({"owners": []}), &patch), Err(400), "{patch}");
        }
    }
}
