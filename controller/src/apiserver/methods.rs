//! [`methods`]: those of a path, which a refusal of another one names.

use isocast_api::registry::Scope;

use super::request::{ObjectPath, Route};
use crate::registry::Registry;

/// The methods of what is at `route`, as `Allow` lists them.
pub(super) fn methods(route: &Route, registry: &Registry) -> &'static str {
    match route {
        Route::Objects(path) => of_objects(path, registry),
        Route::Review { .. } => "POST",
        _ => "GET",
    }
}

fn of_objects(path: &ObjectPath, registry: &Registry) -> &'static str {
    let kind = registry.kind(&path.group, &path.version, &path.plural);
    let Some(declared) = kind.map(|kind| kind.descriptor()) else { return "GET" };
    let is_everywhere = declared.scope == Scope::Namespaced && path.namespace.is_none();
    match (&path.name, path.subresource.as_deref(), &path.rest) {
        (_, Some(_), Some(_)) => "GET, POST",
        _ if declared.reported => "GET",
        (None, ..) if is_everywhere => "GET",
        (None, ..) => "DELETE, GET, POST",
        (Some(_), None, _) => "DELETE, GET, PATCH, PUT",
        (Some(_), Some("status"), _) => "GET, PATCH, PUT",
        (Some(_), Some(_), _) => "POST",
    }
}
