//! OpenAPI v2 in protobuf, made of the v3 documents.
//!
//! kubectl before 1.29 knows no other form, and later ones check kinds that cannot be patched, such
//! as reviews, against it. It holds every schema, and of the paths the patches: that is where clients
//! look for what a kind's requests can say. Field numbers are those of `openapiv2/OpenAPIv2.proto` of
//! gnostic.

use prost::Message;
use serde_json::{Map, Value};

use super::{REFERENCE, fields};

/// What it is answered as.
pub(in crate::apiserver) const MEDIA_TYPE: &str =
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What clients ask for: no valid media type, and they refuse an answer that says it (RFC 9110 §8.3.1).
pub(in crate::apiserver) const ASKED_AS: &str =
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// One document of all groups.
pub(super) fn encode<'a>(documents: impl Iterator<Item = &'a Value>) -> Vec<u8> {
    let (mut paths, mut definitions) = (Vec::new(), Map::new());
    for document in documents {
        paths.extend(fields(document, "/paths").filter_map(|(path, item)| patch(path, item)));
        for (name, schema) in fields(document, "/components/schemas") {
            definitions.insert(name.clone(), schema.clone());
        }
    }
    let info = Info { title: "Isocast".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() };
    let document = Document {
        swagger: "2.0".to_owned(),
        info: Some(info),
        paths: Some(Paths { path: paths }),
        definitions: Some(Schemas::of(&definitions)),
    };
    document.encode_to_vec()
}

/// The part of a path that says how its objects are patched.
fn patch(path: &str, item: &Value) -> Option<NamedPath> {
    let operation = item.get("patch")?;
    let consumes = operation.pointer("/requestBody/content").and_then(Value::as_object);
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let parameters = parameters.into_iter().flatten().map(|parameter| {
        let query = Query {
            place: "query".to_owned(),
            name: text(parameter, "name"),
            kind: text(parameter.get("schema").unwrap_or(&Value::Null), "type"),
            unique_items: true,
        };
        let parameter = NonBodyParameter { query: Some(query) };
        ParametersItem { parameter: Some(Parameter { non_body: Some(parameter) }) }
    });
    let operation = Operation {
        id: text(operation, "operationId"),
        consumes: consumes.into_iter().flat_map(Map::keys).cloned().collect(),
        parameters: parameters.collect(),
        extensions: extensions(operation),
    };
    Some(NamedPath { name: path.to_owned(), value: Some(PathItem { patch: Some(operation) }) })
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// JSON is YAML.
fn any(value: &Value) -> Any {
    Any { yaml: value.to_string() }
}

fn extensions(value: &Value) -> Vec<NamedAny> {
    let fields = value.as_object().into_iter().flatten();
    let own = fields.filter(|(name, _)| name.starts_with("x-"));
    own.map(|(name, value)| NamedAny { name: name.clone(), value: Some(any(value)) }).collect()
}

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<Schemas>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct Paths {
    #[prost(message, repeated, tag = "2")]
    path: Vec<NamedPath>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedPath {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<PathItem>,
}

#[derive(Clone, PartialEq, Message)]
struct PathItem {
    #[prost(message, optional, tag = "8")]
    patch: Option<Operation>,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(string, tag = "5")]
    id: String,
    #[prost(string, repeated, tag = "7")]
    consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    parameters: Vec<ParametersItem>,
    #[prost(message, repeated, tag = "13")]
    extensions: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(message, optional, tag = "2")]
    non_body: Option<NonBodyParameter>,
}

#[derive(Clone, PartialEq, Message)]
struct NonBodyParameter {
    #[prost(message, optional, tag = "3")]
    query: Option<Query>,
}

#[derive(Clone, PartialEq, Message)]
struct Query {
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(string, tag = "6")]
    kind: String,
    #[prost(bool, tag = "20")]
    unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}

#[derive(Clone, PartialEq, Message)]
struct NamedAny {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

/// `Definitions` and `Properties`, which are the same on the wire.
#[derive(Clone, PartialEq, Message)]
struct Schemas {
    #[prost(message, repeated, tag = "1")]
    schemas: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "1")]
    reference: String,
    #[prost(string, tag = "2")]
    format: String,
    #[prost(string, tag = "4")]
    description: String,
    #[prost(message, optional, tag = "5")]
    default: Option<Any>,
    #[prost(string, repeated, tag = "19")]
    required: Vec<String>,
    #[prost(message, repeated, tag = "20")]
    values: Vec<Any>,
    #[prost(message, optional, boxed, tag = "21")]
    additional: Option<Box<Additional>>,
    #[prost(message, optional, tag = "22")]
    kind: Option<Kind>,
    #[prost(message, optional, tag = "23")]
    items: Option<Items>,
    #[prost(message, optional, tag = "25")]
    properties: Option<Schemas>,
    #[prost(message, repeated, tag = "31")]
    extensions: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
struct Additional {
    #[prost(message, optional, tag = "1")]
    schema: Option<Schema>,
    #[prost(bool, optional, tag = "2")]
    allowed: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct Kind {
    #[prost(string, repeated, tag = "1")]
    value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Items {
    #[prost(message, repeated, tag = "1")]
    schema: Vec<Schema>,
}

impl Schemas {
    fn of(fields: &Map<String, Value>) -> Self {
        let named = |(name, schema): (&String, &Value)| NamedSchema {
            name: name.clone(),
            value: Some(Schema::of(schema)),
        };
        Self { schemas: fields.iter().map(named).collect() }
    }
}

impl Schema {
    /// What both versions can say; of alternatives, which v2 does not know, nothing is left.
    fn of(schema: &Value) -> Self {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let name = name.trim_start_matches(REFERENCE);
            return Self { reference: format!("#/definitions/{name}"), ..Self::default() };
        }
        let list = |field: &str| schema.get(field).and_then(Value::as_array).into_iter().flatten();
        let additional = schema.get("additionalProperties").map(|additional| {
            Box::new(match additional {
                Value::Bool(allowed) => Additional { schema: None, allowed: Some(*allowed) },
                schema => Additional { schema: Some(Self::of(schema)), allowed: None },
            })
        });
        let kind = schema.get("type").and_then(Value::as_str);
        let properties = schema.get("properties").and_then(Value::as_object);
        Self {
            reference: String::new(),
            format: text(schema, "format"),
            description: text(schema, "description"),
            default: schema.get("default").map(any),
            required: list("required").filter_map(Value::as_str).map(str::to_owned).collect(),
            values: list("enum").map(any).collect(),
            additional,
            kind: kind.map(|kind| Kind { value: vec![kind.to_owned()] }),
            items: schema.get("items").map(|items| Items { schema: vec![Self::of(items)] }),
            properties: properties.map(Schemas::of),
            extensions: extensions(schema),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_both_versions_can_say_is_in_the_second_and_alternatives_are_left_out() {
        let document = json!({
            "paths": {
                "/apis/g/v1/things/{name}": {"get": {}, "patch": {
                    "operationId": "patchThing",
                    "x-kubernetes-group-version-kind": {"kind": "Thing"},
                    "parameters": [{"name": "dryRun", "in": "query", "schema": {"type": "string"}}],
                    "requestBody": {"content": {"application/merge-patch+json": {}}},
                }},
                "/apis/g/v1/things": {"get": {}},
            },
            "components": {"schemas": {"Thing": {
                "type": "object",
                "required": ["a"],
                "properties": {
                    "a": {"type": "array", "items": {"$ref": "#/components/schemas/Other"}},
                    "b": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                    "c": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            }}},
        });

        let decoded = Document::decode(encode([&document].into_iter()).as_slice()).expect("v2");

        let paths = decoded.paths.expect("paths").path;
        assert_eq!(paths.len(), 1, "only what can be patched");
        let patch = paths[0].value.clone().and_then(|item| item.patch).expect("a patch");
        assert_eq!(patch.consumes, ["application/merge-patch+json"]);
        assert_eq!(patch.extensions[0].value.clone().expect("a value").yaml, r#"{"kind":"Thing"}"#);
        let parameter = patch.parameters[0].parameter.clone().and_then(|it| it.non_body);
        assert_eq!(parameter.and_then(|it| it.query).expect("of the query").name, "dryRun");
        let definitions = decoded.definitions.expect("definitions").schemas;
        let thing = definitions[0].value.clone().expect("a schema");
        assert_eq!(thing.required, ["a"]);
        let fields = thing.properties.expect("properties").schemas;
        let [a, b, c] = [0, 1, 2].map(|place| fields[place].value.clone().expect("a schema"));
        assert_eq!(a.items.expect("items").schema[0].reference, "#/definitions/Other");
        assert_eq!(b, Schema::default(), "anything");
        assert!(c.additional.is_some_and(|additional| additional.schema.is_some()));
    }
}
