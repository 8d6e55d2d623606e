//! OpenAPI v3: an index, and one document a group and version; and the same in version 2.
//!
//! Made once, for kinds are declared at build time. A document's address carries its hash, so
//! clients cache it for ever.

mod v2;

use std::{collections::BTreeMap, sync::OnceLock};

use bytes::Bytes;
use isocast_api::registry::Scope;
use serde_json::{Map, Value, json};

pub(super) use self::v2::{ASKED_AS as V2_ASKED_AS, MEDIA_TYPE as V2};
use super::reviews::{SERVED, Served, schema};
use crate::registry::{Kind, Registry};

/// The documents.
#[derive(Debug)]
pub(super) struct OpenApi {
    index: Value,
    documents: BTreeMap<String, Document>,
    /// All of them in version 2, once somebody asked.
    v2: OnceLock<Document>,
}

/// A document and its hash.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) body: Bytes,
    pub(super) hash: String,
}

impl OpenApi {
    pub(super) fn new(registry: &Registry) -> Self {
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        for kind in registry.kinds() {
            let path = kind.descriptor().path().trim_start_matches('/').to_owned();
            groups.entry(path).or_default().add_kind(kind);
        }
        for review in SERVED {
            let path = format!("apis/{}/{}", review.group, review.version);
            groups.entry(path).or_default().add_review(review);
        }
        let documents: BTreeMap<String, Document> =
            groups.into_iter().map(|(path, group)| (path, Document::of(&group.whole()))).collect();
        let paths: Map<String, Value> = documents
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        Self { index: json!({"paths": paths}), documents, v2: OnceLock::new() }
    }

    pub(super) fn index(&self) -> &Value {
        &self.index
    }

    pub(super) fn document(&self, path: &str) -> Option<&Document> {
        self.documents.get(path)
    }

    /// Version 2, in protobuf.
    pub(super) fn v2(&self) -> &Document {
        self.v2.get_or_init(|| {
            let read = |document: &Document| serde_json::from_slice(&document.body).ok();
            let documents: Vec<Value> = self.documents.values().filter_map(read).collect();
            Document::new(v2::encode(documents.iter()))
        })
    }
}

impl Document {
    fn of(value: &Value) -> Self {
        Self::new(value.to_string())
    }

    fn new(body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let hash = blake3::hash(&body).to_hex().to_string();
        Self { body, hash }
    }
}

/// A document in the making.
struct Group {
    paths: Map<String, Value>,
    schemas: Map<String, Value>,
}

impl Default for Group {
    fn default() -> Self {
        Self { paths: Map::new(), schemas: common_schemas() }
    }
}

impl Group {
    fn add_kind(&mut self, kind: &Kind) {
        let declared = kind.descriptor();
        let names = Names {
            group: declared.group,
            version: declared.version,
            kind: declared.kind,
            prefix: declared.path(),
            plural: declared.plural,
            namespaced: declared.scope == Scope::Namespaced,
        };
        if declared.group.is_empty() && !self.schemas.contains_key(NAMESPACE) {
            add_namespaces(&mut self.paths, &mut self.schemas);
        }
        let mut schema = (declared.schema)().clone();
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("description".into(), json!(declared.description));
        }
        self.add_schema(&names, schema);
        self.schemas.insert(format!("{}List", names.schema()), names.list_schema());
        let access = match (declared.reported, declared.built_in) {
            (true, _) => Access::Read,
            (false, true) => Access::Whole,
            (false, false) => Access::Write,
        };
        names.add_paths(&mut self.paths, access);
    }

    /// A review is posted, and that is all.
    fn add_review(&mut self, review: &Served) {
        let names = Names {
            group: review.group,
            version: review.version,
            kind: review.kind,
            prefix: format!("/apis/{}/{}", review.group, review.version),
            plural: review.plural,
            namespaced: review.namespaced,
        };
        self.add_schema(&names, schema::of(review.review));
        let (path, place) = names.collection();
        self.paths.insert(path, json!({"post": names.operation("post"), "parameters": place}));
    }

    fn add_schema(&mut self, names: &Names, mut schema: Value) {
        if let Some(fields) = schema.as_object_mut() {
            fields.insert("x-kubernetes-group-version-kind".into(), json!([names.gvk()]));
        }
        self.schemas.insert(names.schema(), schema);
    }

    fn whole(self) -> Value {
        json!({
            "openapi": "3.0.0",
            "info": {"title": "Isocast", "version": env!("CARGO_PKG_VERSION")},
            "paths": self.paths,
            "components": {"schemas": self.schemas},
        })
    }
}

/// Namespaces, which are no declared kind.
fn add_namespaces(paths: &mut Map<String, Value>, schemas: &mut Map<String, Value>) {
    let names = Names {
        group: "",
        version: "v1",
        kind: "Namespace",
        prefix: "/api/v1".into(),
        plural: "namespaces",
        namespaced: false,
    };
    let schema = json!({
        "type": "object",
        "description": "The namespace of an organization, folder or project.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
        "x-kubernetes-group-version-kind": [names.gvk()],
    });
    schemas.insert(names.schema(), schema);
    schemas.insert(format!("{}List", names.schema()), names.list_schema());
    names.add_paths(paths, Access::Read);
}

/// Whether a resource can be changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    /// As a whole: it has no status.
    Whole,
    Write,
}

/// What a resource is called.
struct Names {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    prefix: String,
    plural: &'static str,
    namespaced: bool,
}

impl Names {
    fn gvk(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }

    /// `dev.isocast.network.v1alpha1.Node`
    fn schema(&self) -> String {
        let mut parts: Vec<&str> = match self.group {
            "" => vec!["core", "api", "k8s", "io"],
            group => group.split('.').collect(),
        };
        parts.reverse();
        format!("{}.{}.{}", parts.join("."), self.version, self.kind)
    }

    fn list_schema(&self) -> Value {
        json!({
            "type": "object",
            "description": format!("A list of {} objects.", self.kind),
            "required": ["items"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "items": {"type": "array", "items": reference(&self.schema())},
            },
            "x-kubernetes-group-version-kind": [{
                "group": self.group, "version": self.version, "kind": format!("{}List", self.kind),
            }],
        })
    }

    /// The path of the objects of one place, and its parameters.
    fn collection(&self) -> (String, Vec<Value>) {
        let Self { prefix, plural, .. } = self;
        if self.namespaced {
            let parameter = path_parameter("namespace", "the container's namespace");
            (format!("{prefix}/namespaces/{{namespace}}/{plural}"), vec![parameter])
        } else {
            (format!("{prefix}/{plural}"), vec![])
        }
    }

    fn add_paths(&self, paths: &mut Map<String, Value>, access: Access) {
        if self.namespaced {
            let everywhere = format!("{}/{}", self.prefix, self.plural);
            paths.insert(everywhere, json!({"get": self.operation("list")}));
        }
        let (collection, mut place) = self.collection();
        let mut many = Map::new();
        many.insert("get".into(), self.operation("list"));
        let mut one = Map::new();
        one.insert("get".into(), self.operation("get"));
        if access != Access::Read {
            many.insert("post".into(), self.operation("post"));
            many.insert("delete".into(), self.operation("deletecollection"));
            one.insert("put".into(), self.operation("put"));
            one.insert("patch".into(), self.operation("patch"));
            one.insert("delete".into(), self.operation("delete"));
        }
        many.insert("parameters".into(), json!(place));
        paths.insert(collection.clone(), Value::Object(many));
        place.push(path_parameter("name", "the object's name"));
        one.insert("parameters".into(), json!(place));
        let object = format!("{collection}/{{name}}");
        if access == Access::Write {
            let mut status = one.clone();
            status.shift_remove("delete");
            paths.insert(format!("{object}/status"), Value::Object(status));
        }
        paths.insert(object, Value::Object(one));
    }

    fn operation(&self, action: &str) -> Value {
        let schema = match action {
            "list" => reference(&format!("{}List", self.schema())),
            "delete" | "deletecollection" => reference(STATUS),
            _ => reference(&self.schema()),
        };
        let mut content = json!({"application/json": {"schema": schema}});
        if action == "list"
            && let Some(types) = content.as_object_mut()
        {
            let streamed = types.get("application/json").cloned().unwrap_or_default();
            types.insert("application/json;stream=watch".into(), streamed);
        }
        let parameters: Vec<Value> =
            query_parameters(action).map(|(name, kind)| query_parameter(name, kind)).collect();
        let code = if action == "post" { "201" } else { "200" };
        let mut responses = Map::new();
        responses.insert(code.into(), json!({"description": "OK", "content": content}));
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        let mut operation = json!({
            "operationId": format!("{action}{}{}", self.version, self.kind),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.gvk(),
            "parameters": parameters,
            "responses": responses,
        });
        let whole = || json!({"schema": reference(&self.schema())});
        let patch = || json!({"schema": {"type": "object"}});
        let body = match action {
            "post" | "put" => json!({"application/json": whole(), "application/yaml": whole()}),
            "patch" => json!({
                "application/apply-patch+yaml": patch(),
                "application/json-patch+json": {"schema": {"type": "array"}},
                "application/merge-patch+json": patch(),
            }),
            "delete" => json!({"application/json": {"schema": reference(DELETE_OPTIONS)}}),
            _ => return operation,
        };
        if let Some(fields) = operation.as_object_mut() {
            fields.insert("requestBody".into(), json!({"content": body}));
        }
        operation
    }
}

fn query_parameters(action: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    const READ: &[(&str, &str)] = &[("resourceVersion", "string")];
    const LIST: &[(&str, &str)] = &[
        ("allowWatchBookmarks", "boolean"),
        ("continue", "string"),
        ("fieldSelector", "string"),
        ("labelSelector", "string"),
        ("limit", "integer"),
        ("resourceVersion", "string"),
        ("resourceVersionMatch", "string"),
        ("sendInitialEvents", "boolean"),
        ("timeoutSeconds", "integer"),
        ("watch", "boolean"),
    ];
    const WRITE: &[(&str, &str)] =
        &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
    const FORCE: &[(&str, &str)] = &[("force", "boolean")];
    const DELETE: &[(&str, &str)] = &[("dryRun", "string"), ("propagationPolicy", "string")];
    let (first, second) = match action {
        "list" => (LIST, &[][..]),
        "get" => (READ, &[][..]),
        "patch" => (WRITE, FORCE),
        "delete" => (DELETE, &[][..]),
        "deletecollection" => (DELETE, LIST.get(2..4).unwrap_or_default()),
        _ => (WRITE, &[][..]),
    };
    first.iter().chain(second).copied()
}

fn query_parameter(name: &str, kind: &str) -> Value {
    json!({
        "name": name,
        "in": "query",
        "schema": {"type": kind, "uniqueItems": true},
    })
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({
        "name": name,
        "in": "path",
        "description": description,
        "required": true,
        "schema": {"type": "string", "uniqueItems": true},
    })
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("{REFERENCE}{schema}")})
}

/// Where schemas are in a document.
const REFERENCE: &str = "#/components/schemas/";
const NAMESPACE: &str = "io.k8s.api.core.v1.Namespace";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

fn common_schemas() -> Map<String, Value> {
    let mut schemas = Map::new();
    schemas.insert(
        STATUS.into(),
        json!({
            "type": "object",
            "description": "The outcome of a request that returns no object.",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "status": {"type": "string"},
                "message": {"type": "string"},
                "reason": {"type": "string"},
                "code": {"type": "integer"},
            },
        }),
    );
    schemas.insert(
        DELETE_OPTIONS.into(),
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
        }),
    );
    schemas
}
