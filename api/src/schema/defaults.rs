//! Defaulting: what the schema says of absent fields.

use serde_json::Value;

/// Fills in the schema's defaults, outer ones first, and drops nulls, which mean "not set".
///
/// Idempotent. A value of the wrong type is left as it is, for [`super::check()`] to name.
pub fn apply_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::Object(properties)) = schema.get("properties") {
                for (name, property) in properties {
                    if fields.get(name).is_some_and(Value::is_null) {
                        // Keeps the order of the others, unlike `remove`.
                        fields.shift_remove(name);
                    }
                    if let Some(default) = property.get("default")
                        && !fields.contains_key(name)
                    {
                        fields.insert(name.clone(), default.clone());
                    }
                    if let Some(field) = fields.get_mut(name) {
                        apply_defaults(field, property);
                    }
                }
            }
            if let Some(values) = schema.get("additionalProperties") {
                fields.values_mut().for_each(|field| apply_defaults(field, values));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| apply_defaults(item, schema));
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
    fn absent_and_null_fields_get_defaults_at_every_depth() {
        let schema = json!({"properties": {
            "a": {"default": {"b": 1}, "properties": {"b": {}, "c": {"default": 2}}},
            "list": {"items": {"properties": {"d": {"default": "x"}}}},
            "plain": {},
        }});
        let mut value = json!({"a": null, "list": [{}, {"d": "y"}], "plain": null});

        apply_defaults(&mut value, &schema);
        let once = value.clone();
        apply_defaults(&mut value, &schema);

        assert_eq!(once, json!({"list": [{"d": "x"}, {"d": "y"}], "a": {"b": 1, "c": 2}}));
        assert_eq!(value, once);
    }

    #[test]
    fn a_value_of_another_type_is_left_alone() {
        let schema = json!({"properties": {"a": {"properties": {"b": {"default": 1}}}}});
        let mut value = json!({"a": "text"});

        apply_defaults(&mut value, &schema);

        assert_eq!(value, json!({"a": "text"}));
    }
}
