//! [`Structure`]: the shape of a kind, read once from its OpenAPI schema.
//!
//! It answers what strict decoding, server-side apply and field ownership ask: which fields there
//! are, and which parts of a value have owners of their own (`x-kubernetes-list-type`,
//! `x-kubernetes-list-map-keys`, `x-kubernetes-map-type`). It validates nothing.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Shape of a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Structure {
    /// Whatever it is, it has one owner and its fields are not known.
    Any,
    /// A list.
    List(Box<Self>, ListType),
    /// An object with keys of the user's choice.
    Map(Box<Self>),
    /// Text, number, boolean: has one owner.
    Scalar,
    /// An object with known fields.
    Struct(BTreeMap<String, Self>, Unknown),
}

/// How the items of a list are told apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ListType {
    /// Not at all: the list has one owner.
    Atomic,
    /// By the values of these fields.
    Map(Vec<ListKey>),
    /// By themselves.
    Set,
}

/// A field that tells items of a list apart.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListKey {
    pub(crate) name: String,
    /// What its absence means.
    pub(crate) default: Option<Value>,
}

/// What happens to fields that a structure does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// They stay.
    Preserve,
    /// They are mistakes.
    Refuse,
}

/// A part of a value that can have owners of its own.
pub(crate) struct Part<'a> {
    /// Its path element in the wire form of FieldsV1: `f:name`, `k:{"name":"a"}`, `v:"x"`.
    pub(crate) element: String,
    pub(crate) value: &'a Value,
    pub(crate) structure: &'a Structure,
}

impl Structure {
    /// Reads an OpenAPI schema without references.
    pub(crate) fn of(schema: &Value) -> Self {
        let atomic = schema.get("x-kubernetes-map-type").is_some_and(|kind| kind == "atomic");
        let preserve =
            schema.get("x-kubernetes-preserve-unknown-fields").is_some_and(|yes| yes == true);
        let fields = properties(schema);
        if atomic && fields.is_empty() {
            return Self::Any;
        }
        if !fields.is_empty() {
            let unknown = if preserve { Unknown::Preserve } else { Unknown::Refuse };
            return Self::Struct(fields, unknown);
        }
        if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
            return Self::Map(Box::new(Self::of(values)));
        }
        if let Some(items) = schema.get("items") {
            let keys = || {
                let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
                let keys = keys.into_iter().flatten().filter_map(Value::as_str).map(|name| {
                    let field = items.get("properties").and_then(|fields| fields.get(name));
                    let default = field.and_then(|field| field.get("default")).cloned();
                    ListKey { name: name.to_owned(), default }
                });
                let mut keys: Vec<ListKey> = keys.collect();
                keys.sort_by(|a, b| a.name.cmp(&b.name));
                keys
            };
            let list_type = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("map") => ListType::Map(keys()),
                Some("set") => ListType::Set,
                _ => ListType::Atomic,
            };
            return Self::List(Box::new(Self::of(items)), list_type);
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") | None => Self::Any,
            Some(_) => Self::Scalar,
        }
    }

    /// The structure of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Any => Some(self),
            Self::Map(values) => Some(values),
            Self::Struct(fields, unknown) => match (fields.get(name), unknown) {
                (Some(field), _) => Some(field),
                (None, Unknown::Preserve) => Some(&Self::Any),
                (None, Unknown::Refuse) => None,
            },
            Self::List(..) | Self::Scalar => None,
        }
    }

    /// Path of an item that a list has twice though it tells its items apart.
    pub(crate) fn duplicate(&self, value: &Value) -> Option<String> {
        let parts = self.parts(value)?;
        let mut seen = std::collections::BTreeSet::new();
        parts.iter().find_map(|part| {
            let name = || display(&part.element);
            if !seen.insert(&part.element) {
                return Some(name());
            }
            part.structure.duplicate(part.value).map(|below| format!("{}{below}", name()))
        })
    }

    /// The parts of `value` that can have owners of their own; none when it has one owner as a
    /// whole, because of its structure or because it is empty.
    pub(crate) fn parts<'a>(&'a self, value: &'a Value) -> Option<Vec<Part<'a>>> {
        let parts: Vec<Part<'a>> = match (self, value) {
            (Self::Struct(..) | Self::Map(_), Value::Object(object)) => object
                .iter()
                .map(|(name, value)| Part {
                    element: format!("f:{name}"),
                    value,
                    structure: self.field(name).unwrap_or(&Self::Any),
                })
                .collect(),
            (Self::List(item, ListType::Map(keys)), Value::Array(items)) => items
                .iter()
                .map(|value| Part { element: key_element(value, keys), value, structure: item })
                .collect(),
            (Self::List(_, ListType::Set), Value::Array(items)) => items
                .iter()
                .map(|value| Part { element: format!("v:{value}"), value, structure: &Self::Any })
                .collect(),
            _ => return None,
        };
        if parts.is_empty() { None } else { Some(parts) }
    }
}

/// The path element of an item of a keyed list.
pub(crate) fn key_element(item: &Value, keys: &[ListKey]) -> String {
    let fields = keys.iter().filter_map(|key| {
        let value = item.get(&key.name).or(key.default.as_ref())?;
        Some((key.name.clone(), value.clone()))
    });
    format!("k:{}", Value::Object(fields.collect::<Map<_, _>>()))
}

/// A path element for people: `.spec`, `[name="https"]`.
pub(crate) fn display(element: &str) -> String {
    match element.split_once(':') {
        Some(("f", name)) => format!(".{name}"),
        Some(("k", keys)) => match serde_json::from_str::<Map<String, Value>>(keys) {
            Ok(keys) => {
                let keys: Vec<String> =
                    keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("[{}]", keys.join(","))
            }
            Err(_) => format!("[{keys}]"),
        },
        Some(("v", value)) => format!("[={value}]"),
        _ => format!("[{element}]"),
    }
}

/// The fields of a schema and of its alternatives.
fn properties(schema: &Value) -> BTreeMap<String, Structure> {
    let mut fields = BTreeMap::new();
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for branch in schema.get(keyword).and_then(Value::as_array).into_iter().flatten() {
            fields.extend(properties(branch));
        }
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        for (name, schema) in properties {
            fields.insert(name.clone(), Structure::of(schema));
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_keyed_list_tells_its_items_apart_by_sorted_keys() {
        let structure = Structure::of(&json!({
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["protocol", "port"],
            "items": {"type": "object", "properties": {
                "port": {"type": "integer"}, "protocol": {"type": "string"}}},
        }));
        let value = json!([{"protocol": "TCP", "port": 443, "name": "https"}]);

        let parts = structure.parts(&value).expect("a granular list");

        assert_eq!(parts[0].element, r#"k:{"port":443,"protocol":"TCP"}"#);
    }

    #[test]
    fn an_absent_key_means_its_default_and_a_repeated_item_is_found() {
        let structure = Structure::of(&json!({"type": "object", "properties": {"ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": {"type": "object", "properties": {"port": {"type": "integer"},
                "protocol": {"type": "string", "default": "TCP"}}},
        }}}));
        let twice = json!({"ports": [{"port": 53}, {"port": 53, "protocol": "TCP"}]});
        let path = structure.duplicate(&twice);
        assert_eq!(path.as_deref(), Some(r#".ports[port=53,protocol="TCP"]"#));
        let once = json!({"ports": [{"port": 53}, {"port": 53, "protocol": "UDP"}]});
        assert_eq!(structure.duplicate(&once), None);
    }

    #[test]
    fn lists_without_a_type_and_empty_objects_have_one_owner() {
        let list = Structure::of(&json!({"type": "array", "items": {"type": "string"}}));
        assert!(list.parts(&json!(["a"])).is_none());

        let map =
            Structure::of(&json!({"type": "object", "additionalProperties": {"type": "string"}}));
        assert!(map.parts(&json!({})).is_none());
        assert!(map.parts(&json!({"a": "b"})).is_some());
    }
}
