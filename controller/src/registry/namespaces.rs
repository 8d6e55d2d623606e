//! core/v1 Namespaces: a read view of the tenancy containers.
//!
//! Every container (Organization, Folder, Project) owns the namespace of its name; what concerns the
//! whole platform lives in [`SYSTEM_NAMESPACE`]. Nothing is stored for a namespace.

use serde_json::{Value, json};

use super::metadata;
use crate::{
    error::{ApiError, Reason},
    managers::SYSTEM_NAMESPACE,
    store::{Key, Resource, View},
};

const GROUP: &str = "resourcemanager.isocast.dev";
const CONTAINERS: &[&str] = &["organizations", "folders", "projects"];

/// The resources whose objects are containers.
pub(crate) fn containers() -> impl Iterator<Item = Resource> {
    CONTAINERS.iter().map(|plural| Resource::new(plural, GROUP))
}

/// The namespace that belongs to a container.
pub(crate) fn of(container: &Value) -> Value {
    let name = metadata::text(container, "name");
    let terminating = metadata::is_terminating(container);
    let mut meta = serde_json::Map::new();
    for field in ["name", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp"] {
        if let Some(value) = container.get("metadata").and_then(|meta| meta.get(field)) {
            meta.insert(field.into(), value.clone());
        }
    }
    let mut labels = container.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    if let Some(labels) = labels.as_object_mut() {
        labels.insert("kubernetes.io/metadata.name".into(), json!(name));
    }
    meta.insert("labels".into(), labels);
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": meta,
        "spec": {"finalizers": []},
        "status": {"phase": if terminating { "Terminating" } else { "Active" }},
    })
}

/// The platform's namespace, which no container owns.
pub(crate) fn system() -> Value {
    of(
        &json!({"metadata": {"name": SYSTEM_NAMESPACE, "uid": SYSTEM_NAMESPACE, "resourceVersion": "1"}}),
    )
}

/// Every namespace, in order of names.
pub(crate) fn list(view: &View) -> Vec<Value> {
    let mut namespaces = Vec::new();
    if view.shows(&place(SYSTEM_NAMESPACE)) {
        namespaces.push(system());
    }
    for resource in containers() {
        let range = crate::store::Range::Resource(resource);
        namespaces.extend(view.range(&range).map(|object| of(&object.glance())));
    }
    namespaces.sort_by(|a, b| metadata::text(a, "name").cmp(metadata::text(b, "name")));
    namespaces
}

/// One namespace.
pub(crate) fn get(view: &View, name: &str) -> Result<Value, ApiError> {
    if name == SYSTEM_NAMESPACE && view.shows(&place(name)) {
        return Ok(system());
    }
    containers()
        .find_map(|resource| view.get(&Key::new(resource, None, name)))
        .map(|container| of(&container.value()))
        .ok_or_else(|| not_found(name))
}

/// A place where a container called `name` could be.
fn place(name: &str) -> Key {
    Key::new(Resource::new("projects", GROUP), None, name)
}

fn not_found(name: &str) -> ApiError {
    ApiError::new(Reason::NotFound, format!("namespaces {name:?} not found")).of(
        "namespaces",
        "",
        name,
    )
}
