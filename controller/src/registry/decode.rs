//! Reading what clients send: JSON or YAML into a value, with every duplicate field named.
//!
//! serde_json would keep the last of two equal fields and say nothing. Null fields are dropped: in
//! an object's desired state absence and null mean the same; but for maps of texts that everybody knows
//! (labels, what a ConfigMap holds), where null is the empty text, as in Kubernetes. Depth is bounded.

use std::{cell::RefCell, collections::HashSet, fmt};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::{options::DuplicateKeyPolicy, with_deserializer_from_slice_with_options};

use crate::{error::ApiError, limits};

/// A value and the paths of the fields that were given twice.
#[derive(Debug, PartialEq)]
pub(crate) struct Decoded {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
}

/// What to do with fields that are null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// They are as good as absent, or as empty where there are texts alone.
    Drop,
    /// They mean something: "remove", in a merge patch.
    Keep,
}

/// Reads a JSON document.
pub(crate) fn json(body: &[u8], nulls: Nulls) -> Result<Decoded, ApiError> {
    let duplicates = RefCell::default();
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Node { path: Path::Root, depth: 0, nulls, duplicates: &duplicates }
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?;
    Ok(Decoded { value, duplicates: duplicates.into_inner() })
}

/// Reads a YAML document, of which JSON is a part.
pub(crate) fn yaml(body: &[u8], nulls: Nulls) -> Result<Decoded, ApiError> {
    // Clients that speak of YAML mostly send JSON.
    if body.trim_ascii_start().starts_with(b"{") {
        return json(body, nulls);
    }
    let duplicates = RefCell::default();
    let options = serde_saphyr::options! { duplicate_keys: DuplicateKeyPolicy::PassThrough };
    let value = with_deserializer_from_slice_with_options(body, options, |reader| {
        Node { path: Path::Root, depth: 0, nulls, duplicates: &duplicates }.deserialize(reader)
    })
    .map_err(|error| ApiError::bad_request(format!("the body is not YAML: {error}")))?;
    Ok(Decoded { value, duplicates: duplicates.into_inner() })
}

/// Where a value is. It becomes text where somebody is told.
#[derive(Clone, Copy)]
enum Path<'a> {
    Root,
    Field(&'a Self, &'a str),
    Item(&'a Self, usize),
}

impl Path<'_> {
    /// Whether what lies right below is text, whatever the kind.
    fn holds_texts(self) -> bool {
        match self {
            Self::Field(Path::Root, name) => TEXTS.contains(&name),
            Self::Field(Path::Field(Path::Root, "metadata"), name) => TEXTS_OF_ALL.contains(&name),
            _ => false,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Reads one value that lives at `path`.
#[derive(Clone, Copy)]
struct Node<'a> {
    path: Path<'a>,
    /// Lists and objects that it is in.
    depth: usize,
    nulls: Nulls,
    duplicates: &'a RefCell<Vec<String>>,
}

impl Node<'_> {
    /// The depth of what is in this list or object.
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth < limits::OBJECT_DEPTH {
            return Ok(self.depth + 1);
        }
        Err(E::custom(format!("more than {} levels of nesting", limits::OBJECT_DEPTH)))
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut list = Vec::new();
        loop {
            let path = Path::Item(&self.path, list.len());
            match items.next_element_seed(Node { path, depth, ..self })? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut object = Map::new();
        // Names of fields that were null, and dropped.
        let mut dropped = HashSet::new();
        while let Some(name) = fields.next_key::<String>()? {
            let path = Path::Field(&self.path, &name);
            let value = fields.next_value_seed(Node { path, depth, ..self })?;
            if object.contains_key(&name) || dropped.contains(&name) {
                let mut duplicates = self.duplicates.borrow_mut();
                if duplicates.len() >= DUPLICATES_MAX {
                    return Err(A::Error::custom("too many duplicate fields"));
                }
                duplicates.push(path.to_string());
            }
            if value.is_null() && self.nulls == Nulls::Drop && self.path.holds_texts() {
                object.insert(name, Value::String(String::new()));
            } else if value.is_null() && self.nulls == Nulls::Drop {
                object.shift_remove(&name);
                dropped.insert(name);
            } else {
                object.insert(name, value);
            }
        }
        Ok(Value::Object(object))
    }
}

/// Makes null the empty text where there are texts alone, as reading an object does.
pub(super) fn fill_texts(object: &mut Value) {
    let of_all = TEXTS_OF_ALL.map(|field| format!("/metadata/{field}"));
    for place in of_all.into_iter().chain(TEXTS.map(|field| format!("/{field}"))) {
        let texts = object.pointer_mut(&place).and_then(Value::as_object_mut);
        for text in texts.into_iter().flat_map(Map::values_mut).filter(|text| text.is_null()) {
            *text = Value::String(String::new());
        }
    }
}

/// Of ConfigMaps and Secrets.
const TEXTS: [&str; 3] = ["binaryData", "data", "stringData"];
/// Of all metadata.
const TEXTS_OF_ALL: [&str; 2] = ["annotations", "labels"];
/// Duplicates that are worth naming.
const DUPLICATES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn duplicates_are_named_with_their_path() {
        let body = br#"{"spec": {"a": 1, "list": [{"b": 1, "b": 2}], "a": 2}, "kind": null}"#;

        let decoded = json(body, Nulls::Drop).expect("JSON");

        assert_eq!(decoded.duplicates, ["spec.list[0].b", "spec.a"]);
        assert_eq!(decoded.value, json!({"spec": {"a": 2, "list": [{"b": 2}]}}));
    }

    #[test]
    fn null_is_the_empty_text_where_there_are_texts_alone_and_nothing_elsewhere() {
        let body = b"metadata:\n  labels: {a: null, b: x}\n  name: null\ndata:\n  key:\nspec: {data: {a: null}}";

        let decoded = yaml(body, Nulls::Drop).expect("YAML");

        let expected = json!({
            "metadata": {"labels": {"a": "", "b": "x"}}, "data": {"key": ""}, "spec": {"data": {}},
        });
        assert_eq!(decoded.value, expected);
    }

    #[test]
    fn yaml_reads_like_the_json_it_stands_for() {
        let body = b"spec:\n  a: 1\n  b: [x, \"1\", true]\n  a: 2\n  c: null\n";

        let decoded = yaml(body, Nulls::Keep).expect("YAML");

        assert_eq!(decoded.duplicates, ["spec.a"]);
        let expected = json!({"spec": {"a": 2, "b": ["x", "1", true], "c": null}});
        assert_eq!(decoded.value, expected);
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested =
            |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        for nulls in [Nulls::Drop, Nulls::Keep] {
            assert!(json(nested(limits::OBJECT_DEPTH).as_bytes(), nulls).is_ok());
            let deeper = json(nested(limits::OBJECT_DEPTH + 1).as_bytes(), nulls);
            assert_eq!(deeper.map_err(|error| error.code()), Err(400));
        }
        let list = format!("a: {}{}", "[".repeat(40), "]".repeat(40));
        assert_eq!(yaml(list.as_bytes(), Nulls::Drop).map_err(|error| error.code()), Err(400));
    }

    #[test]
    fn rubbish_and_endless_nesting_are_bad_requests() {
        for body in [&b"{"[..], b"{} {}", "[".repeat(10_000).as_bytes(), b"\xff"] {
            assert_eq!(json(body, Nulls::Drop).map_err(|error| error.code()), Err(400));
        }
        for body in [&b"a: [1"[..], b"a: &a [*a, *b]"] {
            assert_eq!(yaml(body, Nulls::Drop).map_err(|error| error.code()), Err(400));
        }
    }
}
