//! What is read: one object, all of a kind, and what becomes of them.

use std::sync::Arc;

use hyper::{Response, StatusCode};
use jiff::Timestamp;

use super::Call;
use crate::{
    apiserver::{
        flows::{Caller, Seat},
        lists,
        request::{Form, default_watch_timeout},
        respond::{self, Body, JSON},
        view::{Collection, render_one},
        watch::{Framing, WatchStream, failed},
    },
    authz::{Authorized, verb},
    error::{ApiError, Reason},
    limits,
    registry::{Kind, Listing, Selector, Watched, expect_reached, namespaces},
    store::{Document, Range, View},
};

impl Call<'_> {
    /// Brings back the past state that a listing shows.
    pub(super) async fn recall(
        &self,
        kind: &Arc<Kind>,
        namespace: Option<&str>,
    ) -> Result<(), ApiError> {
        if self.query.is_watch() {
            return Ok(());
        }
        let range = Collection::Objects(Arc::clone(kind)).range(namespace);
        let list = self.registry.authorize::<verb::List, _>(self.identity, range)?;
        self.registry.recall(&self.within(list), &self.query.list_options()?).await
    }

    /// Lists or watches, also one object alone.
    pub(in crate::apiserver) fn read(
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

    pub(super) fn stream(
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
    pub(in crate::apiserver) fn told(&self, error: ApiError) -> Result<Response<Body>, ApiError> {
        if self.query.is_watch() && error.reason() == Reason::Expired {
            return Ok(failed(self.query.framing(self.headers), &error));
        }
        Err(error)
    }

    /// A stored object, as it shows.
    pub(super) fn one(
        &self,
        collection: &Collection,
        object: &Arc<Document>,
    ) -> Result<Response<Body>, ApiError> {
        self.projected(collection, &collection.project(object))
    }

    pub(in crate::apiserver) fn projected(
        &self,
        collection: &Collection,
        object: &Document,
    ) -> Result<Response<Body>, ApiError> {
        let form = self.query.form(self.headers)?;
        let rendered = render_one(collection, form, object, Timestamp::now())?;
        Ok(respond::bytes(StatusCode::OK, JSON, rendered))
    }

    pub(super) fn selector(&self, collection: &Collection) -> Result<Selector, ApiError> {
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
    pub(in crate::apiserver) fn expect_reached(&self) -> Result<(), ApiError> {
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
