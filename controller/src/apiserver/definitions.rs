//! CustomResourceDefinitions, of which there are none: every kind is declared when the server is built.
//!
//! Clients that look for the definition of a kind before they use it (Terraform, lightkube) take "there
//! is none" for an answer, and "what is that?" for a fault.

use hyper::{Method, Response};

use super::{
    resources::{Call, not_allowed},
    respond::Body,
    view::Collection,
};
use crate::{
    error::ApiError,
    store::{Key, Resource},
};

pub(super) const GROUP: &str = "apiextensions.k8s.io";
pub(super) const VERSION: &str = "v1";
pub(super) const API_VERSION: &str = "apiextensions.k8s.io/v1";
pub(super) const KIND: &str = "CustomResourceDefinition";
pub(super) const PLURAL: &str = "customresourcedefinitions";

impl Call<'_> {
    /// Serves those that there are.
    pub(super) fn definitions(&self, name: Option<&str>) -> Result<Response<Body>, ApiError> {
        match (self.method, name) {
            (&Method::GET, None) => self.read(Collection::Definitions, None, None),
            (&Method::GET, Some(name)) => {
                Err(ApiError::not_found(&Key::new(Resource::new(PLURAL, GROUP), None, name)))
            }
            _ => Err(not_allowed()),
        }
    }
}
