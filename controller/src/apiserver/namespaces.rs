//! core/v1 Namespaces: read, and what installers do to be sure that one is there.
//!
//! A namespace comes and goes with its container. Helm, Argo CD and Flux create or apply the one they
//! install into all the same: of one that is there they are told so, as by Kubernetes, and nothing
//! changes.

use std::sync::Arc;

use hyper::{Method, Response};
use serde_json::Value;

use super::{
    resources::{APPLY, Call, not_allowed},
    respond::{self, Body},
    view::Collection,
};
use crate::{
    authz::verb,
    error::ApiError,
    registry::{decode, metadata, namespaces},
    store::{Key, Range, Resource},
};

impl Call<'_> {
    /// Serves the namespaces.
    pub(super) fn namespaces(&self, name: Option<&str>) -> Result<Response<Body>, ApiError> {
        match (self.method, name) {
            (&Method::GET, None) => self.read(Collection::Namespaces, None, None),
            (&Method::GET, Some(name)) => {
                self.expect_reached()?;
                self.shown(self.namespace(name)?)
            }
            (&Method::POST, None) => Err(self.is_there()),
            (&Method::PATCH, Some(name)) if self.content_type() == APPLY => self.applied(name),
            _ => Err(not_allowed()),
        }
    }

    fn namespace(&self, name: &str) -> Result<Value, ApiError> {
        let proof = self.registry.authorize::<verb::List, _>(self.identity, Range::Containers)?;
        namespaces::get(&self.registry.store().view(&self.within(proof)), name)
    }

    fn shown(&self, namespace: Value) -> Result<Response<Body>, ApiError> {
        self.projected(&Collection::Namespaces, &Arc::new(namespace.into()))
    }

    /// What is said to whoever wants one to be made: it is there, or this is not how.
    fn is_there(&self) -> ApiError {
        let Ok(wanted) = decode::yaml(&self.body, decode::Nulls::Drop) else {
            return not_allowed();
        };
        let name = metadata::text(&wanted.value, "name");
        match self.namespace(name) {
            Ok(_) => {
                let key = Key::new(Resource::new("namespaces", ""), None, name);
                ApiError::already_exists(&key, false)
            }
            Err(_missing) => not_allowed(),
        }
    }

    /// What is applied to a namespace that is there changes nothing, and says so.
    fn applied(&self, name: &str) -> Result<Response<Body>, ApiError> {
        let namespace = self.namespace(name)?;
        let wanted = decode::yaml(&self.body, decode::Nulls::Drop)?.value;
        if metadata::text(&wanted, "name") != name {
            let message = "the name of the object does not match the name on the URL";
            return Err(ApiError::bad_request(message));
        }
        let ignored = ["labels", "annotations"].into_iter().filter(|field| {
            let of = |object: &Value| object.get("metadata")?.get(*field)?.as_object().cloned();
            let known = of(&namespace).unwrap_or_default();
            of(&wanted)
                .is_some_and(|it| it.iter().any(|(name, value)| known.get(name) != Some(value)))
        });
        let warnings: Vec<String> = ignored
            .map(|field| format!("metadata.{field}: a namespace has those of its container"))
            .collect();
        let mut response = self.shown(namespace)?;
        respond::warn(response.headers_mut(), &warnings);
        Ok(response)
    }
}
