//! [`Collection`]: what can be listed and watched, and how it is shown.
//!
//! Declared kinds, and the namespaces that are a view of containers: to the wire both are the same.

use std::sync::{Arc, LazyLock};

use isocast_api::registry::Column;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::request::Form;
use crate::{
    managers::Claims,
    registry::{
        Kind, Listing, namespaces,
        table::{self, Columns},
    },
    store::{Event, Key, Range},
};

/// Something to list and watch.
#[derive(Clone, Debug)]
pub(super) enum Collection {
    /// ResourceClaims, made of the objects that they are about.
    Claims(Arc<Kind>, Arc<Claims>),
    /// core/v1 Namespaces.
    Namespaces,
    /// The objects of a kind.
    Objects(Arc<Kind>),
}

impl Collection {
    pub(super) fn kind(&self) -> &str {
        match self {
            Self::Namespaces => "Namespace",
            Self::Claims(kind, _) | Self::Objects(kind) => kind.descriptor().kind,
        }
    }

    pub(super) fn api_version(&self) -> &str {
        match self {
            Self::Namespaces => "v1",
            Self::Claims(kind, _) | Self::Objects(kind) => kind.api_version(),
        }
    }

    pub(super) fn columns(&self) -> &Columns {
        match self {
            Self::Namespaces => &NAMESPACE_COLUMNS,
            Self::Claims(kind, _) | Self::Objects(kind) => kind.columns(),
        }
    }

    /// Fields to select by, besides name and namespace.
    pub(super) fn selectable(&self) -> &'static [&'static str] {
        match self {
            Self::Namespaces => &["status.phase"],
            Self::Claims(kind, _) | Self::Objects(kind) => kind.descriptor().selectable_fields,
        }
    }

    /// The share of the store it is made from.
    pub(super) fn range(&self, namespace: Option<&str>) -> Range {
        match self {
            Self::Namespaces => Range::Containers,
            Self::Claims(kind, _) | Self::Objects(kind) => kind.range(namespace),
        }
    }

    /// Whether a stored object shows in it.
    pub(super) fn covers(&self, key: &Key) -> bool {
        match self {
            Self::Claims(_, claims) => claims.covers(key),
            Self::Namespaces => {
                namespaces::containers().any(|resource| resource == *key.resource())
            }
            Self::Objects(_) => true,
        }
    }

    /// A stored object as it shows.
    pub(super) fn project(&self, stored: &Arc<Value>) -> Arc<Value> {
        match self {
            Self::Claims(_, claims) => claims.of(stored).unwrap_or_default(),
            Self::Namespaces => Arc::new(namespaces::of(stored)),
            Self::Objects(kind) => kind.to_served(stored),
        }
    }

    /// A stored object as selectors see it.
    pub(super) fn judged(&self, stored: &Arc<Value>) -> Arc<Value> {
        match self {
            Self::Claims(..) | Self::Namespaces => self.project(stored),
            Self::Objects(_) => Arc::clone(stored),
        }
    }

    /// Whether objects show otherwise than they are stored.
    pub(super) fn is_projected(&self) -> bool {
        match self {
            Self::Claims(..) | Self::Namespaces => true,
            Self::Objects(kind) => kind.is_alias(),
        }
    }

    /// Whether what an object shows as is visible.
    pub(super) fn shows(&self, projected: &Value) -> bool {
        match self {
            Self::Claims(_, claims) => !projected.is_null() && claims.shows(projected),
            Self::Namespaces | Self::Objects(_) => true,
        }
    }

    /// Whether an event makes it another collection, which is to be listed anew.
    pub(super) fn ends_with(&self, event: &Event) -> bool {
        matches!(self, Self::Claims(..)) && Claims::end_with(event)
    }
}

/// A listing in the form that was asked for.
pub(super) fn render_list(
    collection: &Collection,
    form: Form,
    listing: &Listing,
    now: Timestamp,
) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), json!(listing.revision.to_string()));
    if let Some(token) = &listing.next {
        metadata.insert("continue".into(), json!(token));
    }
    if let Some(remaining) = listing.remaining {
        metadata.insert("remainingItemCount".into(), json!(remaining));
    }
    let metadata = Value::Object(metadata);
    let items = listing.items.iter().map(|item| &**item);
    match form {
        Form::Table(include) => collection.columns().table(&metadata, items, include, now),
        Form::Partial => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": items.map(table::partial).collect::<Vec<_>>(),
        }),
        Form::Object => json!({
            "kind": format!("{}List", collection.kind()),
            "apiVersion": collection.api_version(),
            "metadata": metadata,
            "items": items.collect::<Vec<_>>(),
        }),
    }
}

/// An object in the form that was asked for.
pub(super) fn render_one(
    collection: &Collection,
    form: Form,
    object: &Value,
    now: Timestamp,
) -> Value {
    match form {
        Form::Table(include) => {
            let revision = object.pointer("/metadata/resourceVersion").cloned();
            let metadata = json!({"resourceVersion": revision});
            collection.columns().table(&metadata, [object], include, now)
        }
        Form::Partial => table::partial(object),
        Form::Object => object.clone(),
    }
}

static NAMESPACE_COLUMNS: LazyLock<Columns> = LazyLock::new(|| {
    Columns::new(&[
        Column::new("Status", "string", ".status.phase", "Active or Terminating"),
        Column::new("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
    ])
});
