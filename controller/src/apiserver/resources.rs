//! Objects over HTTP: which verb a request is, and what it is answered.

mod charge;
mod claims;
mod options;

use std::sync::Arc;

use bytes::Bytes;
use hyper::{HeaderMap, Method, Response, StatusCode};
use isocast_api::{
    ResourceKind,
    registry::{KindDescriptor, Scope},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Extension, Metrics, Relayed,
    discovery::is_in_views,
    flows::{Caller, Flows, Seat},
    lists,
    request::{Form, ObjectPath, Prefix, Query, default_watch_timeout},
    respond::{self, Body, JSON},
    view::{Collection, render_one},
    watch::{Framing, WatchStream, failed},
};
use crate::{
    audit,
    authz::{Authorized, Identity, Verb, verb},
    error::{ApiError, Reason},
    limits,
    managers::Quota,
    registry::{
        DeleteOptions, Kind, Listing, Propagation, Registry, Selector, Subresource, Watched,
        Written, expect_reached, namespaces,
    },
    store::{Document, Key, Persistence, Range, Resource, View},
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

    async fn delete_collection(
        &self,
        kind: &Arc<Kind>,
        namespace: Option<&str>,
    ) -> Result<Response<Body>, ApiError> {
        let collection = Collection::Objects(Arc::clone(kind));
        let selector = self.selector(&collection)?;
        let range = collection.range(namespace);
        // Also when there is nothing to delete, and not only half of it.
        self.registry.authorize::<verb::Delete, _>(self.identity, range.clone())?;
        let proof = self.registry.authorize::<verb::List, _>(self.identity, range)?;
        let proof = self.within(proof);
        let (delete, options) = self.delete_options()?;
        let listing = self.registry.list(&proof, &selector, &self.query.list_options()?)?;
        let mut items = Vec::new();
        for object in &listing.items {
            let object = object.value();
            let text = |field: &str| {
                let metadata = object.get("metadata");
                metadata.and_then(|meta| meta.get(field)).and_then(Value::as_str)
            };
            let key = kind.key(text("namespace"), text("name").unwrap_or_default())?;
            let proof = self.registry.authorize::<verb::Delete, _>(self.identity, key)?;
            match self.registry.delete(&proof, &delete, &options).await {
                Ok(last) => items.push(last),
                Err(gone) if gone.reason() == Reason::NotFound => {}
                Err(other) => return Err(other),
            }
        }
        let items = items.iter().map(|item| collection.project(item)).collect();
        let listing = Listing { items, ..listing };
        lists::answer(&collection, Form::Object, listing, Timestamp::now())
    }

    async fn extension(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
    ) -> Result<Response<Body>, ApiError> {
        let served = self.extensions.iter().find(|extension| {
            extension.kind == kind.descriptor().resource_kind && extension.name == subresource
        });
        let extension = served.ok_or_else(unknown_resource)?;
        if *self.method != Method::POST {
            return Err(not_allowed());
        }
        let key = kind.key(namespace, name)?;
        let proof =
            self.registry.authorize_about::<verb::Create, _>(self.identity, key, extension.name)?;
        let object = self.registry.store().current(&proof);
        let object = object.ok_or_else(|| ApiError::not_found(proof.resource()))?;
        let body: Value = if self.body.is_empty() {
            json!({})
        } else {
            serde_json::from_slice(&self.body)
                .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?
        };
        let serve = Arc::clone(&extension.serve);
        let who = self.identity.clone();
        let serve = audit::carried(move || serve(&who, &object, &body));
        let answer = tokio::task::spawn_blocking(serve).await;
        let answer = answer.map_err(|_panic| ApiError::internal("the subresource failed"))??;
        Ok(respond::json(StatusCode::CREATED, &answer))
    }

    /// Brings back the past state that a listing shows.
    async fn recall(&self, kind: &Arc<Kind>, namespace: Option<&str>) -> Result<(), ApiError> {
        if self.query.is_watch() {
            return Ok(());
        }
        let range = Collection::Objects(Arc::clone(kind)).range(namespace);
        let list = self.registry.authorize::<verb::List, _>(self.identity, range)?;
        self.registry.recall(&self.within(list), &self.query.list_options()?).await
    }

    /// Lists or watches, also one object alone.
    pub(super) fn read(
        &self,
        collection: Collection,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<Response<Body>, ApiError> {
        let form = self.query.form(self.headers)?;
        let selector = self.selector(&collection)?;
        let selector = match name {
            Some(name) => selector.named(name),
            None => selector,
        };
        let range = collection.range(namespace);
        let list = self.registry.authorize::<verb::List, _>(self.identity, range)?;
        let list = self.within(list);
        if self.query.is_watch() {
            return self.watch(collection, selector, form, &list);
        }
        let options = self.query.list_options()?;
        let listing = match &collection {
            Collection::Objects(_) => {
                let mut listing = self.registry.list(&list, &selector, &options)?;
                for item in &mut listing.items {
                    *item = collection.project(item);
                }
                listing
            }
            Collection::Claims(..) | Collection::Definitions | Collection::Namespaces => {
                self.expect_reached()?;
                let view = self.registry.store().view(&list);
                let items = existing(&collection, &view, &selector);
                Listing { revision: view.revision(), items, next: None, remaining: None }
            }
        };
        lists::answer(&collection, form, listing, Timestamp::now())
    }

    fn watch(
        &self,
        collection: Collection,
        selector: Selector,
        form: Form,
        list: &Authorized<verb::List, Range>,
    ) -> Result<Response<Body>, ApiError> {
        let range = list.resource().clone();
        let proof = self.registry.authorize::<verb::Watch, _>(self.identity, range)?;
        let proof = self.within(proof);
        let watched = self.registry.watch(list, &proof, self.query.watch_options(self.headers)?)?;
        let items = match &watched.existing {
            Some(view) => existing(&collection, view, &selector),
            None => Vec::new(),
        };
        self.stream(collection, selector, form, watched, items)
    }

    fn stream(
        &self,
        collection: Collection,
        selector: Selector,
        form: Form,
        watched: Watched,
        existing: Vec<Arc<Document>>,
    ) -> Result<Response<Body>, ApiError> {
        let guard = self.metrics.begin_watch().ok_or_else(|| {
            ApiError::new(Reason::TooManyRequests, "too many watches").with_retry_after(5)
        })?;
        let caller = Caller { access: self.registry.access(), identity: self.identity };
        let seat: Option<Seat> = self.flows.begin_watch(caller)?;
        let framing = self.query.framing(self.headers);
        // A browser goes on from a mark, and has no other.
        let is_marked = framing == Framing::EventStream;
        let marks = is_marked || self.query.marks_initial_events();
        let mark = watched.existing.filter(|_| marks).map(|view| view.revision().into());
        let asked = self.query.timeout()?.filter(|timeout| !timeout.is_zero());
        let lasts = asked.unwrap_or_else(|| default_watch_timeout(Timestamp::now()));
        let watch = WatchStream {
            collection,
            selector,
            form,
            framing,
            existing,
            mark,
            bookmarks: is_marked || self.query.bookmarks(),
            cursor: watched.cursor,
            lasts: lasts.min(limits::WATCH_LASTS),
            shutdown: self.shutdown.clone(),
            under_way: (guard, seat),
        };
        Ok(watch.into_response())
    }

    /// A watch that cannot go on says so as an event: of clients, browsers and those of kube-rs begin
    /// anew upon that alone, and come back with the same revision for ever after any other answer.
    pub(super) fn told(&self, error: ApiError) -> Result<Response<Body>, ApiError> {
        if self.query.is_watch() && error.reason() == Reason::Expired {
            return Ok(failed(self.query.framing(self.headers), &error));
        }
        Err(error)
    }

    /// A stored object, as it shows.
    fn one(
        &self,
        collection: &Collection,
        object: &Arc<Document>,
    ) -> Result<Response<Body>, ApiError> {
        self.projected(collection, &collection.project(object))
    }

    pub(super) fn projected(
        &self,
        collection: &Collection,
        object: &Document,
    ) -> Result<Response<Body>, ApiError> {
        let form = self.query.form(self.headers)?;
        let rendered = render_one(collection, form, object, Timestamp::now())?;
        Ok(respond::bytes(StatusCode::OK, JSON, rendered))
    }

    fn written(&self, kind: &Arc<Kind>, written: &Written) -> Result<Response<Body>, ApiError> {
        let mut response = self.one(&Collection::Objects(Arc::clone(kind)), &written.object)?;
        if written.created {
            *response.status_mut() = StatusCode::CREATED;
        }
        respond::warn(response.headers_mut(), &written.warnings);
        if self.write_options()?.persistence == Persistence::DryRun {
            respond::warn(response.headers_mut(), &self.foresee(kind, &written.object.value())?);
        }
        Ok(response)
    }

    /// An object that is marked is returned; of one that is gone, who it was.
    fn deleted(
        &self,
        kind: &Arc<Kind>,
        options: &DeleteOptions,
        document: &Arc<Document>,
    ) -> Result<Response<Body>, ApiError> {
        let last = document.value();
        let has_finalizers = last.pointer("/metadata/finalizers").is_some();
        if has_finalizers && last.pointer("/metadata/deletionTimestamp").is_some() {
            let mut response = self.one(&Collection::Objects(Arc::clone(kind)), document)?;
            // Somebody who asked to wait for dependents hears that it is not done.
            let waits = options.propagation()? == Propagation::Foreground
                || options.orphan_dependents == Some(false);
            if waits {
                *response.status_mut() = StatusCode::ACCEPTED;
            }
            return Ok(response);
        }
        let status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": {
                "name": last.pointer("/metadata/name"),
                "group": kind.descriptor().group,
                "kind": kind.descriptor().plural,
                "uid": last.pointer("/metadata/uid"),
            },
        });
        Ok(respond::json(StatusCode::OK, &status))
    }

    fn selector(&self, collection: &Collection) -> Result<Selector, ApiError> {
        let (labels, fields) = (self.query.text("labelSelector"), self.query.text("fieldSelector"));
        let fields = match collection {
            Collection::Claims(..) | Collection::Definitions | Collection::Namespaces => {
                fields.into()
            }
            Collection::Objects(kind) => kind.to_stored_selector(fields),
        };
        Selector::parse(labels, &fields, collection.selectable())
    }

    /// Refuses a read that must not be older than what is yet to come.
    pub(super) fn expect_reached(&self) -> Result<(), ApiError> {
        let head = *self.registry.store().revisions().borrow();
        expect_reached(self.query.version()?.unwrap_or_default(), head)
    }
}

/// What is selected of a collection at one moment, as it shows.
fn existing(collection: &Collection, view: &View, selector: &Selector) -> Vec<Arc<Document>> {
    match collection {
        Collection::Claims(_, claims) => {
            let page = (None, limits::LIST_ITEMS);
            claims.list(view, None, page, |claim| selector.matches(claim)).0
        }
        Collection::Definitions => Vec::new(),
        Collection::Namespaces => {
            let all = namespaces::list(view).into_iter();
            let selected = all.filter(|namespace| selector.matches(namespace));
            selected.map(|namespace| Arc::new(namespace.into())).collect()
        }
        Collection::Objects(_) => view
            .iter()
            .filter(|object| selector.selects(&object.key, &object.document))
            .map(|object| collection.project(&object.document))
            .collect(),
    }
}

pub(super) fn unknown_resource() -> ApiError {
    ApiError::new(Reason::NotFound, "the server could not find the requested resource")
}

pub(super) fn not_allowed() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::new(Reason::MethodNotAllowed, message)
}
