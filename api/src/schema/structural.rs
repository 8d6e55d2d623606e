//! From a Rust type to a structural schema, by way of schemars.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{core::BuiltIn, meta::ObjectMeta, object::Spec};

/// The schema of a whole object of kind `S`.
pub(crate) fn object_schema<S: Spec>() -> Value {
    let kind = S::KIND;
    let mut generator = generator();
    let (spec, status) = (part::<S>(&mut generator), part::<S::Status>(&mut generator));
    let mut schema =
        envelope(&mut generator, kind.description, kind.group, kind.version, kind.kind);
    if let Some(Value::Array(required)) = schema.get_mut("required") {
        required.push(json!("spec"));
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.insert("spec".to_owned(), spec);
        properties.insert("status".to_owned(), without_defaults(status));
    }
    structuralize(&mut schema);
    schema
}

/// The schema of a whole object of a built-in kind, whose fields lie beside `metadata`.
pub(crate) fn built_in_schema<B: BuiltIn>() -> Value {
    let words = B::WORDS;
    let mut generator = generator();
    let mut body = without_defaults(part::<B>(&mut generator));
    let mut schema = envelope(&mut generator, words.description, words.group, "v1", words.kind);
    if let (Some(Value::Object(properties)), Some(Value::Object(fields))) =
        (schema.get_mut("properties"), body.get_mut("properties"))
    {
        properties.extend(std::mem::take(fields));
    }
    structuralize(&mut schema);
    schema
}

fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
        settings.transforms.clear();
    });
    settings.into_generator()
}

/// What the schema of every object has.
fn envelope(
    generator: &mut SchemaGenerator,
    description: &str,
    group: &str,
    version: &str,
    kind: &str,
) -> Value {
    json!({
        "type": "object",
        "description": description,
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": {
                "type": "string",
                "description": "Group and version of this representation of the object.",
            },
            "kind": {"type": "string", "description": "What the object is, in CamelCase."},
            "metadata": without_defaults(part::<ObjectMeta>(generator)),
        },
        "x-kubernetes-group-version-kind":
            [{"group": group, "version": version, "kind": kind}],
    })
}

fn part<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

/// Only what users write is defaulted; absent metadata and status mean "not known".
fn without_defaults(mut schema: Value) -> Value {
    if let Value::Object(words) = &mut schema {
        words.remove("default");
        for word in ["items", "additionalProperties"] {
            if let Some(child) = words.get_mut(word) {
                *child = without_defaults(child.take());
            }
        }
        if let Some(Value::Object(properties)) = words.get_mut("properties") {
            properties.values_mut().for_each(|child| *child = without_defaults(child.take()));
        }
    }
    schema
}

/// Rewrites what schemars says in JSON Schema's words into the structural subset, bottom up.
fn structuralize(schema: &mut Value) {
    let Value::Object(schema) = schema else { return };
    for word in ["$schema", "title"] {
        schema.remove(word);
    }
    // Unknown fields are refused or pruned everywhere; structural schemas need not say so.
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
    flatten_optional(schema);
    flatten_variants(schema);
    fix_integer_format(schema);
    if schema.get_mut("default").is_some_and(says_nothing) {
        schema.remove("default");
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        // Doc comments are wrapped; paragraphs stay.
        let paragraphs = description.split("\n\n").map(|text| text.replace('\n', " "));
        *description = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
    for word in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(word) {
            structuralize(child);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(structuralize);
    }
}

/// `Option<T>` is T: a missing field and null mean the same.
fn flatten_optional(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    if let Some(Value::Array(options)) = schema.get_mut("anyOf") {
        options.retain(|option| option.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = options.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (word, value) in only {
                // The field's own words go before those of its type.
                schema.entry(word).or_insert(value);
            }
        }
    }
}

/// An enum whose variants are documented arrives as alternatives of constants; `enum` plus a
/// description says the same.
fn flatten_variants(schema: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = schema.get("oneOf") else { return };
    let mut values = Vec::new();
    let mut description =
        schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for variant in variants {
        let constants = match (variant.get("const"), variant.get("enum")) {
            (Some(constant), _) => vec![constant.clone()],
            (None, Some(Value::Array(constants))) => constants.clone(),
            _ => return,
        };
        let meaning = variant.get("description").and_then(Value::as_str).unwrap_or_default();
        for constant in constants {
            let name = constant.as_str().unwrap_or_default();
            description.push_str(&format!("\n\n{name}: {}", meaning.replace('\n', " ")));
            values.push(constant);
        }
    }
    schema.remove("oneOf");
    schema.insert("type".to_owned(), json!("string"));
    schema.insert("enum".to_owned(), Value::Array(values));
    schema.insert("description".to_owned(), Value::String(description.trim().to_owned()));
}

/// OpenAPI knows only int32 and int64; what narrower types promise becomes bounds.
fn fix_integer_format(schema: &mut Map<String, Value>) {
    let (format, maximum) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => ("int32", Some(u32::from(u8::MAX))),
        Some("uint16") => ("int32", Some(u32::from(u16::MAX))),
        Some("uint32") => ("int64", Some(u32::MAX)),
        Some("uint64") => ("int64", None),
        _ => return,
    };
    schema.insert("format".to_owned(), json!(format));
    if let Some(maximum) = maximum {
        schema.entry("maximum").or_insert_with(|| json!(maximum));
    }
}

/// Empties a default of nulls and empty collections; true if nothing is left of it.
fn says_nothing(value: &mut Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => {
            fields.retain(|_, field| !says_nothing(field));
            fields.is_empty()
        }
        _ => false,
    }
}
