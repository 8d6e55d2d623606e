//! [`Collection`]: what can be listed and watched, and how it is shown.
//!
//! Declared kinds, and the namespaces that are a view of containers: to the wire both are the same.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use isocast_api::registry::Column;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::request::Form;
use crate::{
    error::ApiError,
    managers::Claims,
    registry::{
        Kind, Listing, Selector, namespaces,
        table::{self, Columns},
    },
    store::{Document, Event, Key, Range, Version},
};

/// Bytes of what comes before the items of a list, about.
const LIST_HEAD_BYTES: usize = 256;

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
    pub(super) fn project(&self, stored: &Arc<Document>) -> Arc<Document> {
        match self {
            Self::Claims(_, claims) => {
                claims.of(&stored.value()).unwrap_or_else(|| Arc::new(Value::Null.into()))
            }
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
            Self::Namespaces => selector.matches(&namespaces::of(&stored.value())),
            Self::Objects(_) => selector.selects(key, stored),
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
) -> Result<Bytes, ApiError> {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), json!(Version::from(listing.revision).to_string()));
    if let Some(token) = &listing.next {
        metadata.insert("continue".into(), json!(token));
    }
    if let Some(remaining) = listing.remaining {
        metadata.insert("remainingItemCount".into(), json!(remaining));
    }
    let metadata = Value::Object(metadata);
    let parsed = || listing.items.iter().map(|item| item.glance());
    let rendered = match form {
        Form::Table(include) => collection.columns().table(&metadata, parsed(), include, now),
        Form::Partial => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "items": parsed().map(|item| table::partial(&item)).collect::<Vec<_>>(),
        }),
        Form::Object => {
            let (kind, api_version) =
                (format!("{}List", collection.kind()), collection.api_version());
            return list(&ListHead { kind, api_version, metadata }, &listing.items);
        }
    };
    text(&rendered)
}

/// What comes before the items.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListHead<'a> {
    kind: String,
    api_version: &'a str,
    metadata: Value,
}

/// The objects of a listing as they are: their text is copied and not looked at.
fn list(head: &ListHead<'_>, items: &[Arc<Document>]) -> Result<Bytes, ApiError> {
    let size: usize = items.iter().map(|item| item.size().saturating_add(1)).sum();
    let mut list = Vec::with_capacity(size.saturating_add(LIST_HEAD_BYTES));
    serde_json::to_writer(&mut list, head).map_err(unencodable)?;
    // The items go into the object that was just closed.
    list.pop();
    list.extend_from_slice(b",\"items\":[");
    for (number, item) in items.iter().enumerate() {
        if number > 0 {
            list.push(b',');
        }
        item.append_to(&mut list);
    }
    list.extend_from_slice(b"]}");
    Ok(list.into())
}

fn text(value: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(unencodable)
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err passes")]
fn unencodable(error: serde_json::Error) -> ApiError {
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

static NAMESPACE_COLUMNS: LazyLock<Columns> = LazyLock::new(|| {
    Columns::new(&[
        Column::new("Status", "string", ".status.phase", "Active or Terminating"),
        Column::new("Age", "date", ".metadata.creationTimestamp", "Time since creation"),
    ])
});
