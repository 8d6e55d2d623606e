//! Pruning: fields that the schema does not know.

use serde_json::Value;

use crate::field::FieldPath;

/// Removes unknown fields and returns their paths, in document order.
///
/// Strict decoding refuses an object when there are any; otherwise they become warnings.
pub fn prune_unknown(value: &mut Value, schema: &Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune(value, schema, &FieldPath::root(), &mut unknown);
    unknown
}

fn prune(value: &mut Value, schema: &Value, path: &FieldPath, unknown: &mut Vec<String>) {
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)) {
        return;
    }
    match value {
        Value::Object(fields) => {
            if let Some(values) = schema.get("additionalProperties") {
                for (name, field) in fields {
                    prune(field, values, &path.key(name), unknown);
                }
                return;
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            fields.retain(|name, field| {
                let path = path.field(name);
                match properties.and_then(|properties| properties.get(name)) {
                    Some(property) => {
                        prune(field, property, &path, unknown);
                        true
                    }
                    None => {
                        unknown.push(path.to_string());
                        false
                    }
                }
            });
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter_mut().enumerate() {
                    prune(item, schema, &path.index(index), unknown);
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn unknown_fields_are_named_by_path_and_removed() {
        let schema = json!({"properties": {
            "labels": {"additionalProperties": {"type": "string"}},
            "list": {"items": {"properties": {"a": {}}}},
            "free": {"x-kubernetes-preserve-unknown-fields": true},
        }});
        let mut value = json!({
            "labels": {"any": "x"}, "list": [{"a": 1, "b": 2}], "free": {"c": 3}, "lisst": [],
        });

        let unknown = prune_unknown(&mut value, &schema);

        assert_eq!(unknown, ["list[0].b", "lisst"]);
        assert_eq!(value, json!({"labels": {"any": "x"}, "list": [{"a": 1}], "free": {"c": 3}}));
    }
}
