//! [`Question`]: what a review asks.

use isocast_api::{
    field::{Errors, FieldPath},
    registry::{Scope as KindScope, kinds},
    resourcemanager,
};
use serde::Deserialize;

use super::served::{Review, Served};
use crate::{error::ApiError, iam::Asked, managers::SYSTEM_NAMESPACE, store::Resource};

/// The fields of all reviews' specs: each uses its own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Question {
    pub(super) user: Option<String>,
    pub(super) groups: Vec<String>,
    pub(super) uid: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) resource_attributes: Option<Attributes>,
    pub(super) non_resource_attributes: Option<NonResource>,
    pub(super) token: Option<String>,
    pub(super) audiences: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Attributes {
    pub(super) namespace: String,
    pub(super) verb: String,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) subresource: String,
    pub(super) name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NonResource {
    pub(super) path: String,
    pub(super) verb: String,
}

impl Question {
    /// The container that decides.
    pub(super) fn place(&self) -> String {
        match (&self.resource_attributes, self.namespace.as_deref()) {
            (Some(asked), _) => asked.place(),
            (None, None | Some("")) => SYSTEM_NAMESPACE.to_owned(),
            (None, Some(namespace)) => namespace.to_owned(),
        }
    }

    /// Kubernetes' reviews ask one thing, of somebody. Ours may leave out what it likes.
    ///
    /// # Errors
    /// `Invalid`, with what is missing or too much; `BadRequest` for want of a token.
    pub(super) fn expect_whole(&self, served: &Served) -> Result<(), ApiError> {
        let (object, path) = (&self.resource_attributes, &self.non_resource_attributes);
        let (is_of_other, is_one) = match served.review {
            Review::Token if self.token.as_deref().is_none_or(str::is_empty) => {
                let message = "token is required for TokenReview in authentication";
                return Err(ApiError::bad_request(message));
            }
            Review::SubjectAccess | Review::LocalSubjectAccess => (true, true),
            Review::SelfAccess => (false, true),
            _ => (false, false),
        };
        let mut errors = Errors::default();
        let field = |name| FieldPath::spec().field(name);
        if served.review == Review::LocalSubjectAccess && path.is_some() {
            errors.forbidden(&field("nonResourceAttributes"), "disallowed on this kind of request");
        } else if is_one && object.is_some() && path.is_some() {
            let message = "cannot be specified in combination with resourceAttributes";
            errors.forbidden(&field("nonResourceAttributes"), message);
        }
        let mut names = self.user.iter().chain(&self.groups);
        if is_of_other && names.all(String::is_empty) {
            errors.required(&field("user"), "at least one of user or group must be specified");
        }
        if is_one && self.asks_for_everything() {
            let message = "exactly one of nonResourceAttributes or resourceAttributes must be \
                           specified";
            errors.required(&field("resourceAttributes"), message);
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(ApiError::invalid(served.kind, served.group, "", &errors.into_vec())),
        }
    }

    /// Whether it names nothing in particular.
    pub(super) fn asks_for_everything(&self) -> bool {
        self.resource_attributes.is_none() && self.non_resource_attributes.is_none()
    }
}

impl Attributes {
    /// Whether the question is about every container at once.
    pub(super) fn is_everywhere(&self) -> bool {
        let namespaced = kinds().iter().any(|kind| {
            kind.scope == KindScope::Namespaced
                && (kind.plural, kind.group) == (self.resource.as_str(), self.group.as_str())
        });
        let container =
            resourcemanager::is_container(&self.resource, &self.group) && self.name.is_empty();
        self.namespace.is_empty() && (namespaced || container)
    }

    fn is_platform(&self) -> bool {
        kinds().iter().any(|kind| {
            kind.scope == KindScope::Cluster
                && (kind.plural, kind.group) == (self.resource.as_str(), self.group.as_str())
        })
    }

    /// The container that decides.
    fn place(&self) -> String {
        self.asked(&Resource::new(&self.resource, &self.group)).place().to_owned()
    }

    pub(super) fn asked<'a>(&'a self, resource: &'a Resource) -> Asked<'a> {
        // A container that has no name yet is asked about where it would be.
        let parent = (resourcemanager::is_container(&self.resource, &self.group)
            && !self.namespace.is_empty())
        .then_some(self.namespace.as_str())
        .filter(|_| self.name.is_empty() || self.verb == "create");
        let namespace = Some(self.namespace.as_str());
        Asked {
            verb: &self.verb,
            resource,
            subresource: &self.subresource,
            namespace: namespace.filter(|name| !name.is_empty() && !self.is_platform()),
            name: &self.name,
            parent,
        }
    }
}
