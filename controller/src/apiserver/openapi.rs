//! OpenAPI v3: an index, and one document a group and version; and the same in version 2.
//!
//! Made once, for kinds are declared at build time. A document's address carries its hash, so
//! clients cache it for ever.
//!
//! What it says holds: every answer has the form that is declared for its code, and every refusal is
//! a `Status`, which is what `default` says.

mod paths;
mod schemas;
mod swagger;
mod v2;

use std::{collections::BTreeMap, sync::OnceLock};

use bytes::Bytes;
use isocast_api::registry::Scope;
use serde_json::{Map, Value, json};

pub(super) use self::v2::{ASKED_AS as V2_ASKED_AS, MEDIA_TYPE as V2};
use self::{
    paths::{Access, Names},
    schemas::{NAMESPACE, OBJECT_META, common_schemas},
};
use super::{
    Extension, definitions,
    reviews::{SERVED, Served, schema},
};
use crate::registry::{Kind, Registry};

/// The documents.
#[derive(Debug)]
pub(super) struct OpenApi {
    index: Value,
    documents: BTreeMap<String, Document>,
    /// All of them in version 2, in protobuf and in JSON, once somebody asked.
    v2: OnceLock<Document>,
    swagger: OnceLock<Document>,
}

/// A document and its hash.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) body: Bytes,
    pub(super) hash: String,
}

impl OpenApi {
    /// Of the kinds of `registry`, and what others serve below their objects.
    pub(super) fn new(registry: &Registry, extensions: &[Extension]) -> Self {
        let mut groups: BTreeMap<String, Vec<Declared<'_>>> = BTreeMap::new();
        for kind in registry.kinds() {
            let path = kind.descriptor().path().trim_start_matches('/').to_owned();
            groups.entry(path).or_default().push(Declared::Kind(kind));
        }
        let path = format!("apis/{}", definitions::API_VERSION);
        groups.entry(path).or_default().push(Declared::Definitions);
        for review in SERVED {
            let path = format!("apis/{}/{}", review.group, review.version);
            groups.entry(path).or_default().push(Declared::Review(review));
        }
        // One after the other: as trees, all of them take megabytes.
        let documents: BTreeMap<String, Document> = groups
            .into_iter()
            .map(|(path, declared)| (path, Document::of(&Group::of(declared, extensions).whole())))
            .collect();
        let paths: Map<String, Value> = documents
            .iter()
            .map(|(path, document)| {
                let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                (path.clone(), json!({"serverRelativeURL": url}))
            })
            .collect();
        Self {
            index: json!({"paths": paths}),
            documents,
            v2: OnceLock::new(),
            swagger: OnceLock::new(),
        }
    }

    pub(super) fn index(&self) -> &Value {
        &self.index
    }

    pub(super) fn document(&self, path: &str) -> Option<&Document> {
        self.documents.get(path)
    }

    /// Version 2, in protobuf.
    pub(super) fn v2(&self) -> &Document {
        self.v2.get_or_init(|| Document::new(v2::encode(self.whole().iter())))
    }

    /// Version 2, in JSON.
    pub(super) fn swagger(&self) -> &Document {
        self.swagger.get_or_init(|| Document::of(&swagger::document(self.whole().iter())))
    }

    fn whole(&self) -> Vec<Value> {
        let read = |document: &Document| serde_json::from_slice(&document.body).ok();
        self.documents.values().filter_map(read).collect()
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

/// What is described.
enum Declared<'a> {
    /// CustomResourceDefinitions.
    Definitions,
    Kind(&'a Kind),
    Review(&'static Served),
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
    fn of(declared: Vec<Declared<'_>>, extensions: &[Extension]) -> Self {
        let mut group = Self::default();
        for declared in declared {
            match declared {
                Declared::Definitions => group.add_undeclared(
                    DEFINITIONS,
                    "The definition of a kind, of which there are none.",
                    None,
                ),
                Declared::Kind(kind) => {
                    let its = |it: &&Extension| it.kind == kind.descriptor().resource_kind;
                    group.add_kind(kind, extensions.iter().filter(its).map(|it| it.name));
                }
                Declared::Review(review) => group.add_review(review),
            }
        }
        group
    }

    fn add_kind(&mut self, kind: &Kind, posted: impl Iterator<Item = &'static str>) {
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
            let metadata = (declared.schema)().pointer("/properties/metadata");
            let description = "The namespace of an organization, folder or project.";
            self.add_undeclared(NAMESPACES, description, metadata);
        }
        if let Some(metadata) = (declared.schema)().pointer("/properties/metadata") {
            self.schemas.entry(OBJECT_META).or_insert_with(|| metadata.clone());
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
        posted.for_each(|subresource| names.add_posted(&mut self.paths, subresource));
    }

    /// What is no declared kind, and only read.
    fn add_undeclared(
        &mut self,
        [group, version, kind, prefix, plural]: [&'static str; 5],
        description: &str,
        metadata: Option<&Value>,
    ) {
        let prefix = prefix.to_owned();
        let names = Names { group, version, kind, prefix, plural, namespaced: false };
        let schema = schemas::undeclared(description, &names.gvk(), metadata);
        self.schemas.insert(names.schema(), schema);
        self.schemas.insert(format!("{}List", names.schema()), names.list_schema());
        names.add_paths(&mut self.paths, Access::Read);
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
            "components": {
                "schemas": self.schemas,
                "securitySchemes": {"BearerToken": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"BearerToken": []}],
        })
    }
}

const NAMESPACES: [&str; 5] = ["", "v1", "Namespace", "/api/v1", "namespaces"];
const DEFINITIONS: [&str; 5] = [
    definitions::GROUP,
    definitions::VERSION,
    definitions::KIND,
    "/apis/apiextensions.k8s.io/v1",
    definitions::PLURAL,
];

/// Where schemas are in a document.
const REFERENCE: &str = "#/components/schemas/";

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("{REFERENCE}{schema}")})
}

/// The fields of an object in a document.
fn fields<'a>(
    document: &'a Value,
    pointer: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    document.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}
