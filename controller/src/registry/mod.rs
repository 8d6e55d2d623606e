//! The generic registry: every verb for every kind, from the kinds' declarations.
//!
//! Between the wire and the store: decodes strictly, keeps metadata and field ownership, defaults,
//! validates, and turns verbs into writes. It knows no kind by name.

mod apply;
pub(crate) mod decode;
mod delete;
mod fields;
mod json_patch;
mod json_path;
mod kind;
mod labels;
mod list;
mod managed;
pub(crate) mod metadata;
pub(crate) mod namespaces;
mod selector;
mod server_side;
mod strategic;
mod structure;
mod successor;
pub(crate) mod table;
mod write;

use std::{fmt, sync::Arc};

use isocast_api::{core::aliases, registry::kinds};
use serde_json::Value;

pub use self::{
    delete::{DeleteOptions, Preconditions, Propagation},
    kind::{FieldValidation, Kind},
    list::{ListOptions, Listing, VersionMatch, WatchOptions, WatchStart},
    write::{Patch, Subresource, WriteOptions, Written},
};
pub(crate) use self::{
    list::{Watched, expect_reached},
    selector::Selector,
};
use crate::{
    authz::{self, About, Authorized, Identity, Target, Verb},
    error::ApiError,
    iam::{self, Access},
    store::{Key, Store},
};

/// Every kind, and the store behind them.
pub struct Registry {
    store: Arc<Store>,
    access: Arc<Access>,
    kinds: Vec<Arc<Kind>>,
    pages: list::Pages,
}

impl Registry {
    /// The declared kinds over `store`, for those whom `access` lets.
    pub fn new(store: Arc<Store>, access: Arc<Access>) -> Self {
        let mut kinds: Vec<Arc<Kind>> =
            kinds().iter().map(|descriptor| Arc::new(Kind::new(descriptor))).collect();
        for alias in aliases() {
            let stored = kinds.iter().find(|kind| kind.descriptor().resource_kind == alias.stored);
            if let Some(alias) = stored.map(|stored| Kind::alias(alias, stored)) {
                kinds.push(Arc::new(alias));
            }
        }
        Self { store, access, kinds, pages: list::Pages::default() }
    }

    /// Every kind, in the order of declaration.
    pub fn kinds(&self) -> &[Arc<Kind>] {
        &self.kinds
    }

    /// The kind served as `plural` in `group` and `version`.
    pub fn kind(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.kinds.iter().find(|kind| {
            let declared = kind.descriptor();
            declared.plural == plural && declared.group == group && declared.version == version
        })
    }

    /// The store below.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Who may do what.
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Asks whether `identity` may do `V` to `resource`.
    ///
    /// # Errors
    /// `Forbidden` when it may not, `NotFound` when it may not know of the container.
    pub fn authorize<V: Verb, R: Target>(
        &self,
        identity: &Identity,
        resource: R,
    ) -> Result<Authorized<V, R>, ApiError> {
        authz::authorize(&self.access, identity, resource, About::default())
    }

    /// Asks whether `identity` may do `V` to a part of `resource`: its `subresource`.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub fn authorize_about<V: Verb, R: Target>(
        &self,
        identity: &Identity,
        resource: R,
        subresource: &'static str,
    ) -> Result<Authorized<V, R>, ApiError> {
        let about = About { subresource, ..About::default() };
        authz::authorize(&self.access, identity, resource, about)
    }

    /// Asks whether `identity` may make `object`.
    ///
    /// # Errors
    /// As [`Self::authorize`].
    pub(crate) fn authorize_creation<V: Verb>(
        &self,
        identity: &Identity,
        key: Key,
        object: &Value,
    ) -> Result<Authorized<V, Key>, ApiError> {
        let parent = iam::parent_of(key.resource(), object).map(str::to_owned);
        let about = About { parent: parent.as_deref(), ..About::default() };
        authz::authorize(&self.access, identity, key, about)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("store", &self.store).finish_non_exhaustive()
    }
}
