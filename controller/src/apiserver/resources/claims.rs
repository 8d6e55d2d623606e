//! ResourceClaims, which are views of what is counted, and what a rehearsed write would take of it.
//!
//! Claims are made of all objects that count, by somebody who sees them all; their reader is shown
//! what they may see of them.

use std::sync::Arc;

use hyper::Response;
use jiff::Timestamp;
use serde_json::Value;

use super::{Call, unknown_resource};
use crate::{
    apiserver::{lists, request::ObjectPath, respond::Body, view::Collection},
    authz::{Authorizer, Identity, verb},
    error::ApiError,
    limits,
    managers::{Claims, foresee},
    registry::{Kind, Listing, Selector},
    store::{Key, Range},
};

/// Who looks at everything that claims are made of, for somebody who may see the claims.
const CLAIMANT: Identity = Identity::Component { name: "quota" };

impl Call<'_> {
    /// Serves the claims of what is counted.
    pub(super) fn claims(
        &self,
        kind: &Arc<Kind>,
        path: &ObjectPath,
    ) -> Result<Response<Body>, ApiError> {
        self.expect_writable(kind)?;
        let part = match path.subresource.as_deref() {
            None => "",
            Some("status") => "status",
            Some(_) => return Err(unknown_resource()),
        };
        let namespace = path.namespace.as_deref();
        let (registry, who, access) = (self.registry, self.identity, self.registry.access());
        let whole = Authorizer.authorize::<verb::List, _>(&CLAIMANT, Range::Everything)?;
        let view = registry.store().view(&whole);
        if let Some(name) = &path.name {
            let key = kind.key(namespace, name)?;
            let proof = registry.authorize_about::<verb::Get, _>(who, key, part)?;
            let claims = Arc::new(Claims::new(&view, access, None));
            let object = claims.get(&view, namespace.unwrap_or_default(), name);
            let object = object.ok_or_else(|| ApiError::not_found(proof.resource()))?;
            return self.one(&Collection::Claims(Arc::clone(kind), claims), &object);
        }
        let range = kind.range(namespace);
        let list = self.within(registry.authorize::<verb::List, _>(who, range.clone())?);
        let sight = if self.query.is_watch() {
            let watch = registry.authorize::<verb::Watch, _>(who, range)?;
            self.within(watch).sight().cloned()
        } else {
            list.sight().cloned()
        };
        let options = self.query.list_options()?;
        let (view, after) = match self.query.is_watch() {
            true => (view, None),
            false => registry.begin_page(&whole, &options)?,
        };
        let claims = Arc::new(Claims::new(&view, access, sight));
        let collection = Collection::Claims(Arc::clone(kind), Arc::clone(&claims));
        let fields = match namespace {
            Some(namespace) => {
                format!("{},metadata.namespace={namespace}", self.query.text("fieldSelector"))
            }
            None => self.query.text("fieldSelector").to_owned(),
        };
        let labels = self.query.text("labelSelector");
        let selector = Selector::parse(labels, &fields, collection.selectable())?;
        let form = self.query.form(self.headers)?;
        let selects = |claim: &Value| selector.matches(claim);
        if !self.query.is_watch() {
            let page = (after.as_ref(), options.page_size());
            let (items, last) = claims.list(&view, namespace, page, selects);
            let next = last.map(|last| registry.end_page(&view, &last));
            let listing = Listing { revision: view.revision(), items, next, remaining: None };
            return lists::answer(&collection, form, listing, Timestamp::now());
        }
        let watch = Authorizer.authorize::<verb::Watch, _>(&CLAIMANT, Range::Everything)?;
        let watched = registry.watch(&whole, &watch, self.query.watch_options(self.headers)?)?;
        let mut items = Vec::new();
        if let Some(existing) = &watched.existing {
            let most = limits::LIST_ITEMS;
            let (all, more) = claims.list(existing, namespace, (None, most), selects);
            if more.is_some() {
                let message = format!("there are more than {most} claims: watch fewer namespaces");
                return Err(ApiError::bad_request(message));
            }
            items = all;
        }
        self.stream(collection, selector, form, watched, items)
    }

    /// What a write that is only rehearsed would take of what is counted.
    pub(super) fn foresee(&self, kind: &Kind, object: &Value) -> Result<Vec<String>, ApiError> {
        let whole = Authorizer.authorize::<verb::List, _>(&CLAIMANT, Range::Everything)?;
        let view = self.registry.store().view(&whole);
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let name = text("/metadata/name").unwrap_or_default();
        let key = kind.key(text("/metadata/namespace"), name)?;
        let access = self.registry.access();
        let may_see = |bucket: &Key| match self.identity {
            who @ Identity::Subject(_) => access.allows(who, "get", bucket, Timestamp::now()),
            _ => true,
        };
        Ok(foresee(&view, &key, object, may_see))
    }
}
