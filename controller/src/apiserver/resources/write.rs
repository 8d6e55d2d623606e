//! What is answered to those who changed something, and changes of more than one object.

use std::sync::Arc;

use hyper::{Method, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Call, not_allowed, unknown_resource};
use crate::{
    apiserver::{
        lists,
        request::Form,
        respond::{self, Body},
        view::Collection,
    },
    audit,
    authz::verb,
    error::{ApiError, Reason},
    registry::{
        DeleteOptions, Kind, Listing, Propagation, Written,
        decode::{self, Nulls},
    },
    store::{Document, Persistence},
};

impl Call<'_> {
    pub(super) async fn delete_collection(
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

    pub(super) async fn extension(
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
        let body = match self.body.is_empty() {
            true => json!({}),
            false => decode::yaml(&self.body, Nulls::Drop)?.value,
        };
        let serve = Arc::clone(&extension.serve);
        let who = self.identity.clone();
        let serve = audit::carried(move || serve(&who, &object, &body));
        let answer = tokio::task::spawn_blocking(serve).await;
        let answer = answer.map_err(|_panic| ApiError::internal("the subresource failed"))??;
        Ok(respond::json(StatusCode::CREATED, &answer))
    }

    pub(super) fn written(
        &self,
        kind: &Arc<Kind>,
        written: &Written,
    ) -> Result<Response<Body>, ApiError> {
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
    pub(super) fn deleted(
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
}
