//! [`Discovery`]: which groups, versions and resources there are, in both of Kubernetes' forms.
//!
//! What exists is known once the server is put together; what is shown depends on the view and the
//! form. An answer carries its hash, so clients that have it already are told so in a line.

use std::collections::BTreeSet;

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderValue},
};
use isocast_api::registry::{KindDescriptor, Scope};
use serde_json::{Value, json};

use super::{
    Extension, Relayed, definitions,
    respond::{self, Body},
    reviews::{SERVED, Served},
};
use crate::registry::Registry;

const OBJECT_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];
const READ_VERBS: &[&str] = &["get", "list", "watch"];
const GET: &[&str] = &["get"];
const CREATE: &[&str] = &["create"];

/// Everything there is.
#[derive(Debug)]
pub(super) struct Discovery {
    versions: Vec<GroupVersion>,
}

/// A group and version, with its resources.
#[derive(Debug)]
struct GroupVersion {
    group: &'static str,
    version: &'static str,
    resources: Vec<Resource>,
}

/// A resource, and what there is below its objects.
#[derive(Debug)]
struct Resource {
    names: Names,
    verbs: &'static [&'static str],
    subresources: Vec<(&'static str, &'static [&'static str])>,
    /// Whether a view of a container shows it.
    is_in_views: bool,
}

/// What a resource is called.
#[derive(Clone, Copy, Debug)]
struct Names {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
}

/// Versions of the aggregated form, by what a client asks for.
const AGGREGATED: [(&str, HeaderValue); 2] = [
    (
        "v2",
        HeaderValue::from_static(
            "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        ),
    ),
    (
        "v2beta1",
        HeaderValue::from_static(
            "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        ),
    ),
];

const NAMESPACE: Names = Names {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short: &["ns"],
    categories: &[],
    namespaced: false,
};

const DEFINITION: Names = Names {
    group: definitions::GROUP,
    version: definitions::VERSION,
    kind: definitions::KIND,
    plural: definitions::PLURAL,
    singular: "customresourcedefinition",
    short: &["crd", "crds"],
    categories: &[],
    namespaced: false,
};

impl Discovery {
    /// The kinds of `registry`, and what others serve below their objects.
    pub(super) fn new(registry: &Registry, extensions: &[Extension], relayed: &[Relayed]) -> Self {
        let mut this = Self { versions: Vec::new() };
        this.add(Resource {
            names: NAMESPACE,
            verbs: READ_VERBS,
            subresources: Vec::new(),
            is_in_views: true,
        });
        this.add(Resource {
            names: DEFINITION,
            verbs: READ_VERBS,
            subresources: Vec::new(),
            is_in_views: true,
        });
        for kind in registry.kinds() {
            let declared = kind.descriptor();
            let mut subresources = Vec::new();
            if !declared.reported && !declared.built_in {
                subresources.push(("status", STATUS_VERBS));
            }
            let its = |kind| kind == declared.resource_kind;
            let posted = extensions.iter().filter(|it| its(it.kind)).map(|it| (it.name, CREATE));
            let read = relayed.iter().filter(|it| its(it.kind)).map(|it| (it.name, GET));
            subresources.extend(posted.chain(read));
            subresources.sort_unstable_by_key(|(name, _)| *name);
            this.add(Resource {
                names: Names::of(declared),
                verbs: if declared.reported { READ_VERBS } else { OBJECT_VERBS },
                subresources,
                is_in_views: is_in_views(declared),
            });
        }
        for served in SERVED {
            this.add(Resource {
                names: Names::of_review(served),
                verbs: CREATE,
                subresources: Vec::new(),
                is_in_views: true,
            });
        }
        this
    }

    fn add(&mut self, resource: Resource) {
        let Names { group, version, .. } = resource.names;
        let its = |known: &&mut GroupVersion| known.group == group && known.version == version;
        match self.versions.iter_mut().find(its) {
            Some(known) => known.resources.push(resource),
            None => self.versions.push(GroupVersion { group, version, resources: vec![resource] }),
        }
    }

    /// `/`: where all else is.
    pub(super) fn index(&self, in_view: bool) -> Response<Body> {
        const OTHERS: [&str; 6] =
            ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];
        let mut paths: BTreeSet<String> =
            ["/api", "/api/v1", "/apis"].into_iter().chain(OTHERS).map(str::to_owned).collect();
        for GroupVersion { group, version, .. } in self.named(in_view) {
            paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{version}")]);
        }
        respond::json(StatusCode::OK, &json!({"paths": paths}))
    }

    /// `/api`, aggregated when the client asks so.
    pub(super) fn core(&self, in_view: bool, headers: &HeaderMap) -> Response<Body> {
        if let Some(form) = aggregated_form(headers) {
            let core = self.versions.iter().filter(|version| version.group.is_empty());
            return aggregated(headers, form, core, in_view);
        }
        let versions = json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        });
        respond::json(StatusCode::OK, &versions)
    }

    /// `/apis`, aggregated when the client asks so.
    pub(super) fn groups(&self, in_view: bool, headers: &HeaderMap) -> Response<Body> {
        if let Some(form) = aggregated_form(headers) {
            return aggregated(headers, form, self.named(in_view), in_view);
        }
        let groups: Vec<Value> = self.named(in_view).map(GroupVersion::to_json).collect();
        let list = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
        respond::json(StatusCode::OK, &list)
    }

    /// `/apis/{group}`
    pub(super) fn group(&self, in_view: bool, name: &str) -> Option<Value> {
        let found = self.named(in_view).find(|version| version.group == name)?;
        let mut group = found.to_json();
        if let Some(fields) = group.as_object_mut() {
            fields.insert("kind".into(), json!("APIGroup"));
            fields.insert("apiVersion".into(), json!("v1"));
        }
        Some(group)
    }

    /// `/apis/{group}/{version}`, `/api/v1`
    pub(super) fn resources(&self, in_view: bool, group: &str, version: &str) -> Option<Value> {
        let its = |it: &&GroupVersion| it.group == group && it.version == version;
        let found = self.versions.iter().find(its)?;
        let rows: Vec<Value> = found.shown(in_view).flat_map(Resource::rows).collect();
        let group_version =
            if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        (!rows.is_empty()).then(|| {
            json!({
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": group_version,
                "resources": rows,
            })
        })
    }

    /// Every group but the core one, which has no name.
    fn named(&self, in_view: bool) -> impl Iterator<Item = &GroupVersion> {
        self.versions
            .iter()
            .filter(move |it| !it.group.is_empty() && it.shown(in_view).next().is_some())
    }
}

impl GroupVersion {
    fn shown(&self, in_view: bool) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(move |resource| !in_view || resource.is_in_views)
    }

    fn to_json(&self) -> Value {
        let only = json!({
            "groupVersion": format!("{}/{}", self.group, self.version),
            "version": self.version,
        });
        json!({"name": self.group, "versions": [only], "preferredVersion": only})
    }

    fn aggregated(&self, in_view: bool) -> Value {
        let resources: Vec<Value> = self.shown(in_view).map(Resource::aggregated).collect();
        json!({
            "metadata": {"name": self.group, "creationTimestamp": null},
            "versions": [{
                "version": self.version,
                "freshness": "Current",
                "resources": resources,
            }],
        })
    }
}

impl Resource {
    /// One row for it, and one for each subresource.
    fn rows(&self) -> Vec<Value> {
        let Names { group, version, kind, plural, singular, short, categories, namespaced } =
            self.names;
        let mut row = json!({
            "name": plural,
            "singularName": singular,
            "namespaced": namespaced,
            "kind": kind,
            "verbs": self.verbs,
        });
        if let Some(fields) = row.as_object_mut() {
            if !short.is_empty() {
                fields.insert("shortNames".into(), json!(short));
            }
            if !categories.is_empty() {
                fields.insert("categories".into(), json!(categories));
            }
            if self.verbs.contains(&"list") {
                let hash = blake3::hash(format!("{group}/{version}/{kind}").as_bytes());
                let short = hash.as_bytes().first_chunk::<8>().map(|hash| STANDARD.encode(hash));
                fields.insert("storageVersionHash".into(), json!(short));
            }
        }
        let below = self.subresources.iter().map(|(name, verbs)| {
            json!({
                "name": format!("{plural}/{name}"),
                "singularName": "",
                "namespaced": namespaced,
                "kind": kind,
                "verbs": verbs,
            })
        });
        std::iter::once(row).chain(below).collect()
    }

    fn aggregated(&self) -> Value {
        let names = &self.names;
        let response_kind =
            json!({"group": names.group, "version": names.version, "kind": names.kind});
        let mut row = json!({
            "resource": names.plural,
            "responseKind": response_kind,
            "scope": if names.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": names.singular,
            "verbs": self.verbs,
        });
        if let Some(fields) = row.as_object_mut() {
            for (field, list) in [("shortNames", names.short), ("categories", names.categories)] {
                if !list.is_empty() {
                    fields.insert(field.into(), json!(list));
                }
            }
            if !self.subresources.is_empty() {
                let subresource = |(name, verbs): &(&str, &[&str])| json!({"subresource": name, "responseKind": response_kind, "verbs": verbs});
                let subresources: Vec<Value> = self.subresources.iter().map(subresource).collect();
                fields.insert("subresources".into(), json!(subresources));
            }
        }
        row
    }
}

impl Names {
    fn of(declared: &KindDescriptor) -> Self {
        Self {
            group: declared.group,
            version: declared.version,
            kind: declared.kind,
            plural: declared.plural,
            singular: declared.singular,
            short: declared.short_names,
            categories: declared.categories,
            namespaced: declared.scope == Scope::Namespaced,
        }
    }

    fn of_review(served: &Served) -> Self {
        Self {
            group: served.group,
            version: served.version,
            kind: served.kind,
            plural: served.plural,
            singular: served.singular,
            short: &[],
            categories: &[],
            namespaced: served.namespaced,
        }
    }
}

/// Whether objects of a kind belong to containers: a view shows no others.
pub(super) fn is_in_views(kind: &KindDescriptor) -> bool {
    kind.scope == Scope::Namespaced || kind.group == isocast_api::resourcemanager::GROUP
}

/// The first aggregated form that the client would take, if it comes before the plain one.
fn aggregated_form(headers: &HeaderMap) -> Option<usize> {
    let accepted = headers.get(header::ACCEPT)?.to_str().ok()?;
    accepted.split(',').find_map(|range| {
        let has = |wanted: &str| range.split(';').any(|part| part.trim() == wanted);
        if !has("g=apidiscovery.k8s.io") || !has("as=APIGroupDiscoveryList") {
            return None;
        }
        AGGREGATED.iter().position(|(version, _)| has(&format!("v={version}")))
    })
}

fn aggregated<'a>(
    asked: &HeaderMap,
    form: usize,
    versions: impl Iterator<Item = &'a GroupVersion>,
    in_view: bool,
) -> Response<Body> {
    let Some((version, content_type)) = AGGREGATED.get(form).cloned() else {
        return respond::json(StatusCode::NOT_ACCEPTABLE, &json!({}));
    };
    let items: Vec<Value> = versions.map(|version| version.aggregated(in_view)).collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    let body = list.to_string();
    let hash = blake3::hash(body.as_bytes()).to_hex().to_uppercase();
    let mut response = respond::tagged(asked, &hash, content_type, body);
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
