//! What a request counts for where a platform counts requests.
//!
//! Only who may do what they ask is counted: a stranger cannot use up what a tenant was granted. The
//! platform's own parts, nodes and administrators are not held back by what tenants may have.

use std::time::Instant;

use isocast_api::{quota::RequestVerb, resourcemanager};
use jiff::Timestamp;

use super::Call;
use crate::{
    apiserver::request::{ObjectPath, verb},
    authz::Identity,
    error::ApiError,
    iam::Asked,
    managers::{Place, Request, SYSTEM_NAMESPACE},
    registry::Kind,
    store::Key,
};

impl Call<'_> {
    /// Counts a request, or says that it comes too fast.
    pub(super) fn charge(&self, kind: &Kind, path: &ObjectPath) -> Result<(), ApiError> {
        let (Some(quota), Identity::Subject(who)) = (self.quota, self.identity) else {
            return Ok(());
        };
        let resource = kind.resource();
        let verb = verb(self.method, path.name.is_some(), self.query.is_watch());
        let Some(verb) = verb.filter(|verb| quota.counts(resource, *verb)) else { return Ok(()) };
        let (namespace, name) = (path.namespace.as_deref(), path.name.as_deref());
        let is_container = resourcemanager::is_container(resource.plural(), resource.group());
        let parent = match is_container && verb == RequestVerb::Create {
            // What cannot be read is refused for that.
            true => self.registry.parent_in(kind, &self.body).unwrap_or_default(),
            false => None,
        };
        let view = self.prefix.map(|prefix| &*prefix.name);
        let asked = Asked {
            verb: verb.as_str(),
            resource,
            subresource: path.subresource.as_deref().unwrap_or_default(),
            namespace: namespace.or_else(|| view.filter(|_| name.is_none())),
            name: name.unwrap_or_default(),
            parent: parent.as_deref(),
        };
        if self.registry.access().check(who, &asked, Timestamp::now()).is_err() {
            return Ok(());
        }
        let place = match name {
            Some(name) if is_container => Place::Above(name),
            _ => Place::In(parent.as_deref().or(asked.namespace).unwrap_or(SYSTEM_NAMESPACE)),
        };
        let about = Key::new(resource.clone(), namespace, asked.name);
        let request = Request { actor: self.identity, verb, about: &about, place };
        quota.charge(&request, Instant::now())
    }
}
