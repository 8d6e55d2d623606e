//! [`Collection`]: what can be listed and watched, and how it is shown.
//!
//! Declared kinds, and the namespaces that are a view of containers: to the wire both are the same.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use isocast_api::registry::Column;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{definitions, request::Form};
use crate::{
    error::ApiError,
    managers::Claims,
    registry::{
        Kind, Selector, namespaces,
        table::{self, Columns},
    },
    store::{Document, Event, Key, Range},
};

/// Something to list and watch.
#[derive(Clone, Debug)]
pub(super) enum Collection {
    /// ResourceClaims, made of the objects that they are about.
    Claims(Arc<Kind>, Arc<Claims>),
    /// CustomResourceDefinitions, of which there are none.
    Definitions,
    /// core/v1 Namespaces.
    Namespaces,
    /// The objects of a kind.
    Objects(Arc<Kind>),
}

impl Collection {
    pub(super) fn kind(&self) -> &str {
        match self {
            Self::Definitions => definitions::KIND,
            Self::Namespaces => "Namespace",
            Self::Claims(kind, _) | Self::Objects(kind) => kind.descriptor().kind,
        }
    }

    pub(super) fn api_version(&self) -> &str {
        match self {
            Self::Definitions => definitions::API_VERSION,
            Self::Namespaces => "v1",
            Self::Claims(kind, _) | Self::Objects(kind) => kind.api_version(),
        }
    }

    pub(super) fn columns(&self) -> &Columns {
        match self {
            Self::Definitions => &DEFINITION_COLUMNS,
            Self::Namespaces => &NAMESPACE_COLUMNS,
            Self::Claims(kind, _) | Self::Objects(kind) => kind.columns(),
        }
    }

    /// Fields to select by, besides name and namespace.
    pub(super) fn selectable(&self) -> &'static [&'static str] {
        match self {
            Self::Definitions => &[],
            Self::Namespaces => &["status.phase"],
            Self::Claims(kind, _) | Self::Objects(kind) => kind.descriptor().selectable_fields,
        }
    }

    /// The share of the store it is made from.
    pub(super) fn range(&self, namespace: Option<&str>) -> Range {
        match self {
            // What everybody may look at; nothing there is one.
            Self::Definitions | Self::Namespaces => Range::Containers,
            Self::Claims(kind, _) | Self::Objects(kind) => kind.range(namespace),
        }
    }

    /// Whether a stored object shows in it.
    pub(super) fn covers(&self, key: &Key) -> bool {
        match self {
            Self::Claims(_, claims) => claims.covers(key),
            Self::Definitions => false,
            Self::Namespaces => {
                namespaces::containers().any(|resource| resource == *key.resource())
            }
            Self::Objects(_) => true,
        }
    }

    /// A stored object as it shows.
    pub(super) fn project(&self, stored: &Arc<Document>) -> Arc<Document> {
        match self {
            Self::Claims(_, claims) => {
                claims.of(&stored.value()).unwrap_or_else(|| Arc::new(Value::Null.into()))
            }
            Self::Definitions => Arc::clone(stored),
            Self::Namespaces => Arc::new(namespaces::of(&stored.value()).into()),
            Self::Objects(kind) => kind.to_served(stored),
        }
    }

    /// Whether a stored object is selected, and what it shows as is visible.
    pub(super) fn selects(&self, selector: &Selector, key: &Key, stored: &Arc<Document>) -> bool {
        match self {
            Self::Claims(_, claims) => {
                let claim = claims.of(&stored.value());
                claim.is_some_and(|claim| {
                    let claim = claim.value();
                    selector.matches(&claim) && claims.shows(&claim)
                })
            }
            Self::Definitions => false,
            Self::Namespaces => selector.matches(&namespaces::of(&stored.value())),
            Self::Objects(_) => selector.selects(key, stored),
        }
    }

    /// Whether an event makes it another collection, which is to be listed anew.
    pub(super) fn ends_with(&self, event: &Event) -> bool {
        matches!(self, Self::Claims(..)) && Claims::end_with(event)
    }
}

pub(super) fn text(value: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(unencodable)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
pub(super) fn unencodable(error: serde_json::Error) -> ApiError {
    ApiError::internal(format!("cannot be encoded: {error}"))
}

/// An object in the form that was asked for.
pub(super) fn render_one(
    collection: &Collection,
    form: Form,
    object: &Document,
    now: Timestamp,
) -> Result<Bytes, ApiError> {
    match form {
        Form::Table(include) => {
            let object = object.glance();
            let revision = object.pointer("/metadata/resourceVersion").cloned();
            let metadata = json!({"resourceVersion": revision});
            text(&collection.columns().table(&metadata, [object], include, now))
        }
        Form::Partial => text(&table::partial(&object.glance())),
        Form::Object => Ok(Bytes::copy_from_slice(object.text().as_bytes())),
    }
}

static DEFINITION_COLUMNS: LazyLock<Columns> = LazyLock::new(|| {
    Columns::new(&[Column::new(
        "Created At",
        "date",
        ".metadata.creationTimestamp",
        "When it was made",
    )])
});

static NAMESPACE_COLUMNS: LazyLock<Columns> = LazyLock::new(|| {
    Columns::new(&[
        Column::new("Status", "string", ".status.phase", "Active or Terminating"),
        Column::new("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
    ])
});
