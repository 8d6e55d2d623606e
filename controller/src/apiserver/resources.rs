//! Objects over HTTP: which verb a request is, and what it is answered.

mod charge;
mod claims;
mod options;
mod read;
mod write;

use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Method, Response};
use isocast_api::{
    ResourceKind,
    registry::{KindDescriptor, Scope},
};
use tokio_util::sync::CancellationToken;

pub(super) use self::options::APPLY;
use super::{
    Extension, Metrics, Relayed,
    discovery::is_in_views,
    flows::Flows,
    request::{ObjectPath, Prefix, Query},
    respond::Body,
    view::Collection,
};
use crate::{
    authz::{Authorized, Identity, Verb, verb},
    error::{ApiError, Reason},
    managers::Quota,
    registry::{Kind, Registry, Subresource},
    store::{Key, Range, Resource},
};

/// A request, as far as objects are concerned.
pub(super) struct Call<'a> {
    pub(super) registry: &'a Registry,
    /// Where requests are counted.
    pub(super) quota: Option<&'a Quota>,
    pub(super) extensions: &'a [Extension],
    pub(super) relayed: &'a [Relayed],
    pub(super) metrics: &'a Arc<Metrics>,
    pub(super) flows: &'a Flows,
    pub(super) shutdown: &'a CancellationToken,
    pub(super) identity: &'a Identity,
    /// The view it is asked in.
    pub(super) prefix: Option<&'a Prefix>,
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    pub(super) raw_query: Option<&'a str>,
    pub(super) query: Query<'a>,
    pub(super) body: Bytes,
}

impl Call<'_> {
    /// Serves declared kinds.
    pub(super) async fn objects(&self, path: &ObjectPath) -> Result<Response<Body>, ApiError> {
        let kind = self
            .registry
            .kind(&path.group, &path.version, &path.plural)
            .ok_or_else(unknown_resource)?;
        let namespace = path.namespace.as_deref();
        self.expect_in_view(kind, namespace, path.name.as_deref())?;
        self.charge(kind, path)?;
        if kind.descriptor().resource_kind == ResourceKind::ResourceClaim {
            return self.flows.list(|| self.claims(kind, path));
        }
        let Some(name) = path.name.as_deref() else {
            return self.collection(kind, namespace).await;
        };
        if let (Some(subresource), Some(rest)) = (&path.subresource, &path.rest) {
            return self.relay(kind, namespace, name, (subresource, rest)).await;
        }
        let subresource = match path.subresource.as_deref() {
            None => Subresource::None,
            Some("status") if !kind.descriptor().built_in => Subresource::Status,
            Some(other) => return self.extension(kind, namespace, name, other).await,
        };
        self.object(kind, namespace, name, subresource).await
    }

    async fn collection(
        &self,
        kind: &Arc<Kind>,
        namespace: Option<&str>,
    ) -> Result<Response<Body>, ApiError> {
        self.expect_writable(kind)?;
        match (kind.descriptor().scope, namespace) {
            // What is in namespaces is made and deleted in one.
            (Scope::Namespaced, None) if *self.method != Method::GET => return Err(not_allowed()),
            // A cluster-scoped kind has no place in a namespace.
            (_, Some(_)) => drop(kind.key(namespace, "")?),
            (_, None) => {}
        }
        match *self.method {
            Method::GET => {
                self.recall(kind, namespace).await?;
                let collection = Collection::Objects(Arc::clone(kind));
                self.flows.list(|| self.read(collection, namespace, None))
            }
            Method::POST => {
                let options = self.write_options()?;
                let body = self.whole_object(kind)?;
                self.expect_parent_in_view(kind, &body)?;
                let written =
                    self.registry.create(self.identity, kind, namespace, &body, &options).await?;
                self.written(kind, &written)
            }
            Method::DELETE => self.delete_collection(kind, namespace).await,
            _ => Err(not_allowed()),
        }
    }

    async fn object(
        &self,
        kind: &Arc<Kind>,
        namespace: Option<&str>,
        name: &str,
        subresource: Subresource,
    ) -> Result<Response<Body>, ApiError> {
        self.expect_writable(kind)?;
        let key = kind.key(namespace, name)?;
        let part = match subresource {
            Subresource::None => "",
            Subresource::Status => "status",
        };
        let (registry, who) = (self.registry, self.identity);
        match *self.method {
            // As older clients watch one object.
            Method::GET if self.query.is_watch() && subresource == Subresource::None => {
                self.read(Collection::Objects(Arc::clone(kind)), namespace, Some(name))
            }
            Method::GET => {
                let proof = registry.authorize_about::<verb::Get, _>(who, key, part)?;
                self.expect_reached()?;
                let object = self.registry.store().get(&proof);
                let object = object.ok_or_else(|| ApiError::not_found(proof.resource()))?;
                self.one(&Collection::Objects(Arc::clone(kind)), &object.document)
            }
            Method::PUT => {
                let proof = registry.authorize_about::<verb::Update, _>(who, key, part)?;
                let options = self.write_options()?;
                let body = self.whole_object(kind)?;
                let written =
                    self.registry.update(&proof, kind, subresource, &body, &options).await?;
                self.written(kind, &written)
            }
            Method::PATCH => {
                let proof = registry.authorize_about::<verb::Patch, _>(who, key, part)?;
                let (patch, options) = self.patch(kind)?;
                let written =
                    self.registry.patch(&proof, kind, subresource, patch, &options).await?;
                self.written(kind, &written)
            }
            Method::DELETE if subresource == Subresource::None => {
                let proof = self.registry.authorize::<verb::Delete, _>(self.identity, key)?;
                let (delete, options) = self.delete_options()?;
                let last = self.registry.delete(&proof, &delete, &options).await?;
                self.deleted(kind, &delete, &last)
            }
            _ => Err(not_allowed()),
        }
    }

    /// The same right, for what the view shows.
    pub(super) fn within<V: Verb>(&self, proof: Authorized<V, Range>) -> Authorized<V, Range> {
        match self.prefix {
            Some(prefix) => proof.below(self.registry.access(), &prefix.name),
            None => proof,
        }
    }

    /// What lies outside the view does not exist in it.
    fn expect_in_view(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<(), ApiError> {
        if self.prefix.is_none() {
            return Ok(());
        }
        if !is_in_views(kind.descriptor()) {
            return Err(unknown_resource());
        }
        let place = match (namespace, name) {
            (Some(namespace), _) => Key::new(Resource::new("namespaces", ""), None, namespace),
            (None, Some(name)) => Key::new(kind.resource().clone(), None, name),
            (None, None) => return Ok(()),
        };
        self.expect_within(&place)
    }

    /// The same of a container, or a namespace.
    pub(super) fn expect_within(&self, place: &Key) -> Result<(), ApiError> {
        match self.prefix {
            Some(prefix) if !self.registry.access().is_within(place.name(), &prefix.name) => {
                Err(ApiError::not_found(place))
            }
            _ => Ok(()),
        }
    }

    fn expect_parent_in_view(&self, kind: &Kind, body: &[u8]) -> Result<(), ApiError> {
        let Some(prefix) = self.prefix else { return Ok(()) };
        let Some(parent) = self.registry.parent_in(kind, body)? else { return Ok(()) };
        if self.registry.access().is_within(&parent, &prefix.name) {
            return Ok(());
        }
        let namespaces = Resource::new("namespaces", "");
        Err(ApiError::not_found(&Key::new(namespaces, None, &parent)))
    }

    /// What nodes report is read; whoever could write it could say what is not so.
    fn expect_writable(&self, kind: &Kind) -> Result<(), ApiError> {
        let KindDescriptor { reported, group, plural, .. } = kind.descriptor();
        if !reported || *self.method == Method::GET {
            return Ok(());
        }
        let origin = match *group {
            isocast_api::network::GROUP => "what nodes report",
            _ => "derived by the platform",
        };
        let message = format!("{plural} are {origin}: they can be read, and not written");
        Err(ApiError::new(Reason::MethodNotAllowed, message))
    }
}

pub(super) fn unknown_resource() -> ApiError {
    ApiError::new(Reason::NotFound, "the server could not find the requested resource")
}

pub(super) fn not_allowed() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::new(Reason::MethodNotAllowed, message)
}
