//! What is read below a subresource and answered by somebody else: `nodes/{name}/agent/{path}`.

use bytes::Bytes;
use hyper::{Method, Response, StatusCode, header::HeaderValue};
use std::sync::Arc;

use super::{
    Relayed,
    resources::{Call, not_allowed, unknown_resource},
    respond::{self, Body, JSON},
};
use crate::{authz::verb, error::ApiError, registry::Kind};

impl Call<'_> {
    /// Passes a question on.
    pub(super) async fn relay(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        (subresource, rest): (&str, &str),
    ) -> Result<Response<Body>, ApiError> {
        let is_it = |relayed: &&Relayed| {
            relayed.kind == kind.descriptor().resource_kind && relayed.name == subresource
        };
        let relayed = self.relayed.iter().find(is_it).ok_or_else(unknown_resource)?;
        // A question that needs a body is posted, and reads all the same.
        let body = match *self.method {
            Method::GET => Bytes::new(),
            Method::POST => self.body.clone(),
            _ => return Err(not_allowed()),
        };
        let key = kind.key(namespace, name)?;
        let proof =
            self.registry.authorize_about::<verb::Get, _>(self.identity, key, relayed.name)?;
        let object = self.registry.store().get(&proof);
        let object = object.ok_or_else(|| ApiError::not_found(proof.resource()))?;
        if *self.method == Method::POST && body.is_empty() {
            return Err(ApiError::bad_request("a question that is posted has a body"));
        }
        let target = match self.raw_query {
            Some(query) => format!("/{rest}?{query}"),
            None => format!("/{rest}"),
        };
        let ask = Arc::clone(&relayed.ask);
        let answer = ask(object, target, body).await?;
        let content_type = HeaderValue::from_str(&answer.content_type).unwrap_or(JSON);
        Ok(respond::bytes(StatusCode::OK, content_type, answer.body))
    }
}
