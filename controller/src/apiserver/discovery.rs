//! Discovery: which groups, versions and resources there are, in both of Kubernetes' forms.

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderValue},
};
use isocast_api::registry::{KindDescriptor, Scope};
use serde_json::{Value, json};

use super::respond::{self, Body};
use super::reviews::{SERVED, Served};
use crate::registry::{Kind, Registry};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const OBJECT_VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];
const READ_VERBS: &[&str] = &["get", "list", "watch"];
const REVIEW_VERBS: &[&str] = &["create"];

/// A group and version, with its kinds and reviews.
struct GroupVersion<'a> {
    group: &'a str,
    version: &'a str,
    kinds: Vec<&'a Kind>,
    reviews: Vec<Names>,
}

/// `/api`, aggregated when the client asks so.
pub(super) fn core(headers: &HeaderMap) -> Response<Body> {
    if wants_aggregated(headers) {
        let version = json!({
            "version": "v1",
            "freshness": "Current",
            "resources": [
                aggregated_row(&NAMESPACE, READ_VERBS, &[]),
                aggregated_row(&EVENT, READ_VERBS, &[]),
            ],
        });
        return aggregated(vec![json!({"metadata": {"name": ""}, "versions": [version]})]);
    }
    respond::json(
        StatusCode::OK,
        &json!({
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        }),
    )
}

/// `/api/v1`
pub(super) fn core_resources() -> Value {
    json!({
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [row(&NAMESPACE, "", READ_VERBS), row(&EVENT, "", READ_VERBS)],
    })
}

/// `/apis`, aggregated when the client asks so.
pub(super) fn groups(registry: &Registry, in_view: bool, headers: &HeaderMap) -> Response<Body> {
    let versions = group_versions(registry, in_view);
    if wants_aggregated(headers) {
        return aggregated(versions.iter().map(aggregated_group).collect());
    }
    let groups: Vec<Value> = versions.iter().map(group_json).collect();
    respond::json(
        StatusCode::OK,
        &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}),
    )
}

/// `/apis/{group}`
pub(super) fn group(registry: &Registry, in_view: bool, name: &str) -> Option<Value> {
    let versions = group_versions(registry, in_view);
    let found = versions.iter().find(|version| version.group == name)?;
    let mut group = group_json(found);
    if let Some(fields) = group.as_object_mut() {
        fields.insert("kind".into(), json!("APIGroup"));
        fields.insert("apiVersion".into(), json!("v1"));
    }
    Some(group)
}

/// `/apis/{group}/{version}`
pub(super) fn resources(
    registry: &Registry,
    in_view: bool,
    group: &str,
    version: &str,
) -> Option<Value> {
    let versions = group_versions(registry, in_view);
    let found = versions.iter().find(|found| found.group == group && found.version == version)?;
    let mut rows: Vec<Value> = found
        .kinds
        .iter()
        .flat_map(|kind| {
            let names = Names::of(kind.descriptor());
            if kind.descriptor().reported {
                return vec![row(&names, "", READ_VERBS)];
            }
            vec![row(&names, "", OBJECT_VERBS), row(&names, "/status", STATUS_VERBS)]
        })
        .collect();
    rows.extend(found.reviews.iter().map(|names| row(names, "", REVIEW_VERBS)));
    Some(json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{group}/{version}"),
        "resources": rows,
    }))
}

/// What a resource is called.
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

const EVENT: Names = Names {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short: &["ev"],
    categories: &[],
    namespaced: true,
};

impl Names {
    fn of(declared: &'static KindDescriptor) -> Self {
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

    fn of_review(served: &'static Served) -> Self {
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

fn group_versions(registry: &Registry, in_view: bool) -> Vec<GroupVersion<'_>> {
    let mut versions: Vec<GroupVersion<'_>> = Vec::new();
    for kind in registry.kinds() {
        let declared = kind.descriptor();
        if !in_view || is_in_views(declared) {
            let of = (declared.group, declared.version);
            add(&mut versions, of, |version| version.kinds.push(kind));
        }
    }
    for served in SERVED {
        let of = (served.group, served.version);
        add(&mut versions, of, |version| version.reviews.push(Names::of_review(served)));
    }
    versions
}

/// Adds to the entry of a group and version, which is made if need be.
fn add<'a>(
    versions: &mut Vec<GroupVersion<'a>>,
    (group, version): (&'a str, &'a str),
    add: impl FnOnce(&mut GroupVersion<'a>),
) {
    match versions.iter_mut().find(|it| (it.group, it.version) == (group, version)) {
        Some(known) => add(known),
        None => {
            let mut new = GroupVersion { group, version, kinds: Vec::new(), reviews: Vec::new() };
            add(&mut new);
            versions.push(new);
        }
    }
}

fn group_json(version: &GroupVersion<'_>) -> Value {
    let only = json!({
        "groupVersion": format!("{}/{}", version.group, version.version),
        "version": version.version,
    });
    json!({"name": version.group, "versions": [only], "preferredVersion": only})
}

fn row(names: &Names, subresource: &str, verbs: &[&str]) -> Value {
    let mut row = json!({
        "name": format!("{}{subresource}", names.plural),
        "singularName": if subresource.is_empty() { names.singular } else { "" },
        "namespaced": names.namespaced,
        "kind": names.kind,
        "verbs": verbs,
    });
    if let Some(fields) = row.as_object_mut()
        && subresource.is_empty()
    {
        if !names.short.is_empty() {
            fields.insert("shortNames".into(), json!(names.short));
        }
        if !names.categories.is_empty() {
            fields.insert("categories".into(), json!(names.categories));
        }
    }
    row
}

fn aggregated_group(version: &GroupVersion<'_>) -> Value {
    let mut resources: Vec<Value> = version
        .kinds
        .iter()
        .map(|kind| {
            let names = Names::of(kind.descriptor());
            if kind.descriptor().reported {
                return aggregated_row(&names, READ_VERBS, &[]);
            }
            let status = json!({
                "subresource": "status",
                "responseKind": response_kind(&names),
                "verbs": STATUS_VERBS,
            });
            aggregated_row(&names, OBJECT_VERBS, &[status])
        })
        .collect();
    let reviews = version.reviews.iter();
    resources.extend(reviews.map(|names| aggregated_row(names, REVIEW_VERBS, &[])));
    json!({
        "metadata": {"name": version.group},
        "versions": [{
            "version": version.version,
            "freshness": "Current",
            "resources": resources,
        }],
    })
}

fn aggregated_row(names: &Names, verbs: &[&str], subresources: &[Value]) -> Value {
    let mut row = json!({
        "resource": names.plural,
        "responseKind": response_kind(names),
        "scope": if names.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": names.singular,
        "verbs": verbs,
    });
    if let Some(fields) = row.as_object_mut() {
        for (field, list) in [("shortNames", names.short), ("categories", names.categories)] {
            if !list.is_empty() {
                fields.insert(field.into(), json!(list));
            }
        }
        if !subresources.is_empty() {
            fields.insert("subresources".into(), json!(subresources));
        }
    }
    row
}

fn response_kind(names: &Names) -> Value {
    json!({"group": names.group, "version": names.version, "kind": names.kind})
}

fn wants_aggregated(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| {
        accepted.split(',').any(|range| {
            let has = |wanted: &str| range.split(';').any(|part| part.trim() == wanted);
            has("g=apidiscovery.k8s.io") && has("v=v2") && has("as=APIGroupDiscoveryList")
        })
    })
}

fn aggregated(items: Vec<Value>) -> Response<Body> {
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    });
    let mut response = respond::json(StatusCode::OK, &list);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(AGGREGATED));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
