//! Checking a value against a structural schema: every error, each with its path.

use serde_json::{Map, Value};

use crate::{
    field::{Errors, FieldErrorReason, FieldPath},
    text,
};

/// Adds to `errors` everything about `value` that `schema` does not allow.
pub fn check(value: &Value, schema: &Value, path: &FieldPath, errors: &mut Errors) {
    if !has_type(value, schema) {
        let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default();
        let message = format!("must be of type {wanted}");
        errors.push(path, FieldErrorReason::TypeInvalid, message, Some(type_name(value)));
        return;
    }
    check_enum(value, schema, path, errors);
    match value {
        Value::String(text) => check_string(text, schema, path, errors),
        Value::Number(_) => check_number(value, schema, path, errors),
        Value::Array(items) => check_list(items, schema, path, errors),
        Value::Object(fields) => check_fields(fields, schema, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
}

fn has_type(value: &Value, schema: &Value) -> bool {
    match schema.get("type").and_then(Value::as_str) {
        Some("array") => value.is_array(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("object") => value.is_object(),
        Some("string") => value.is_string(),
        _ => true,
    }
}

fn type_name(value: &Value) -> String {
    let name = match value {
        Value::Array(_) => "array",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
        Value::Number(_) => "number",
        Value::Object(_) => "object",
        Value::String(_) => "string",
    };
    format!("\"{name}\"")
}

fn check_enum(value: &Value, schema: &Value, path: &FieldPath, errors: &mut Errors) {
    let Some(Value::Array(known)) = schema.get("enum") else { return };
    if !known.contains(value) {
        let known: Vec<_> = known.iter().map(Value::to_string).collect();
        let message = format!("supported values: {}", known.join(", "));
        errors.push(path, FieldErrorReason::NotSupported, message, Some(value.to_string()));
    }
}

fn check_string(text: &str, schema: &Value, path: &FieldPath, errors: &mut Errors) {
    let length = text.chars().count();
    if let Some(max) = limit(schema, "maxLength")
        && length > max
    {
        let message = format!("may not be longer than {max} characters");
        errors.push(path, FieldErrorReason::TooLong, message, None);
        return;
    }
    if let Some(min) = limit(schema, "minLength")
        && length < min
    {
        errors.invalid(path, text, format!("should be at least {min} characters long"));
        return;
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str)
        && let Err(message) = text::check_format(format, text)
    {
        errors.invalid(path, text, message);
    }
}

fn check_number(value: &Value, schema: &Value, path: &FieldPath, errors: &mut Errors) {
    let Some(number) = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
    else {
        return;
    };
    let bound = |word| schema.get(word).and_then(Value::as_i64).map(i128::from);
    let message = match (bound("minimum"), bound("maximum")) {
        (Some(min), Some(max)) if number < min || number > max => {
            format!("must be between {min} and {max}")
        }
        (Some(min), None) if number < min => format!("must be at least {min}"),
        (None, Some(max)) if number > max => format!("must be at most {max}"),
        _ => return,
    };
    errors.push(path, FieldErrorReason::Invalid, message, Some(value.to_string()));
}

fn check_list(items: &[Value], schema: &Value, path: &FieldPath, errors: &mut Errors) {
    if let Some(max) = limit(schema, "maxItems")
        && items.len() > max
    {
        let message = format!("must have at most {max} items");
        errors.push(path, FieldErrorReason::TooMany, message, Some(items.len().to_string()));
        return;
    }
    if let Some(min) = limit(schema, "minItems")
        && items.len() < min
    {
        let noun = if min == 1 { "item" } else { "items" };
        errors.required(path, format!("must have at least {min} {noun}"));
    }
    if let Some(schema) = schema.get("items") {
        for (index, item) in items.iter().enumerate() {
            check(item, schema, &path.index(index), errors);
        }
    }
    for index in duplicates(items, schema) {
        let key = items.get(index).map(|item| list_key(item, schema).to_string());
        errors.push(&path.index(index), FieldErrorReason::Duplicate, String::new(), key);
    }
}

/// Positions of the items of a set or map that repeat an earlier one.
fn duplicates(items: &[Value], schema: &Value) -> Vec<usize> {
    let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    if !matches!(list_type, Some("map" | "set")) {
        return Vec::new();
    }
    let mut seen = std::collections::BTreeSet::new();
    let repeats = |(index, item): (usize, &Value)| {
        (!seen.insert(list_key(item, schema).to_string())).then_some(index)
    };
    items.iter().enumerate().filter_map(repeats).collect()
}

/// What identifies an item: its key fields in a map, itself in a set.
fn list_key(item: &Value, schema: &Value) -> Value {
    let (Some(Value::Array(keys)), Value::Object(fields)) =
        (schema.get("x-kubernetes-list-map-keys"), item)
    else {
        return item.clone();
    };
    let named = |key: &Value| {
        let key = key.as_str()?;
        Some((key.to_owned(), fields.get(key)?.clone()))
    };
    Value::Object(keys.iter().filter_map(named).collect())
}

fn check_fields(
    fields: &Map<String, Value>,
    schema: &Value,
    path: &FieldPath,
    errors: &mut Errors,
) {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        return;
    }
    if let Some(Value::Array(required)) = schema.get("required") {
        for name in required.iter().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                errors.required(&path.field(name), String::new());
            }
        }
    }
    if let Some(values) = schema.get("additionalProperties") {
        for (name, field) in fields {
            check(field, values, &path.key(name), errors);
        }
        return;
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, field) in fields {
        let path = path.field(name);
        match properties.and_then(|properties| properties.get(name)) {
            Some(property) => check(field, property, &path, errors),
            None => errors.push(
                &path,
                FieldErrorReason::Unknown,
                "there is no such field".to_owned(),
                None,
            ),
        }
    }
}

fn limit(schema: &Value, word: &str) -> Option<usize> {
    schema.get(word).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(value: Value, schema: Value) -> Vec<String> {
        let mut errors = Errors::default();
        check(&value, &schema, &FieldPath::root().field("spec"), &mut errors);
        errors.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_word_of_the_schema_is_enforced() {
        let cases = [
            (
                json!("x"),
                json!({"type": "integer"}),
                "spec: Invalid value: \"string\": must be of type integer",
            ),
            (
                json!(1.5),
                json!({"type": "integer"}),
                "spec: Invalid value: \"number\": must be of type integer",
            ),
            (
                json!("C"),
                json!({"enum": ["A", "B"]}),
                "spec: Unsupported value: \"C\": supported values: \"A\", \"B\"",
            ),
            (
                json!(70000),
                json!({"minimum": 1, "maximum": 65535}),
                "spec: Invalid value: 70000: must be between 1 and 65535",
            ),
            (
                json!(u64::MAX),
                json!({"minimum": 1, "maximum": 65535}),
                "spec: Invalid value: 18446744073709551615: must be between 1 and 65535",
            ),
            (json!(-1), json!({"minimum": 0}), "spec: Invalid value: -1: must be at least 0"),
            (
                json!("abc"),
                json!({"maxLength": 2}),
                "spec: Too long: may not be longer than 2 characters",
            ),
            (
                json!(""),
                json!({"minLength": 1}),
                "spec: Invalid value: \"\": should be at least 1 characters long",
            ),
            (
                json!("5"),
                json!({"format": "duration"}),
                "spec: Invalid value: \"5\": must be a duration such as 500ms, 30s or 1h30m",
            ),
            (json!([1, 2]), json!({"maxItems": 1}), "spec: Too many: 2: must have at most 1 items"),
            (json!([]), json!({"minItems": 1}), "spec: Required value: must have at least 1 item"),
            (
                json!([1, 2, 1]),
                json!({"x-kubernetes-list-type": "set"}),
                "spec[2]: Duplicate value: 1",
            ),
            (
                json!([{"a": 1, "b": 1}, {"a": 1, "b": 2}]),
                json!({"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"],
                    "items": {"properties": {"a": {}, "b": {}}}}),
                "spec[1]: Duplicate value: {\"a\":1}",
            ),
            (
                json!({}),
                json!({"required": ["a"], "properties": {"a": {}}}),
                "spec.a: Required value",
            ),
            (
                json!({"b": 1}),
                json!({"properties": {"a": {}}}),
                "spec.b: Forbidden: there is no such field",
            ),
            (
                json!({"k.v/x": 1}),
                json!({"additionalProperties": {"type": "string"}}),
                "spec[k.v/x]: Invalid value: \"number\": must be of type string",
            ),
        ];
        for (value, schema, expected) in cases {
            assert_eq!(errors(value, schema), [expected]);
        }
    }

    #[test]
    fn limits_themselves_are_allowed() {
        let schema = json!({"type": "array", "maxItems": 2, "items": {"maximum": 5, "minimum": 1}});

        assert!(errors(json!([1, 5]), schema).is_empty());
    }
}
