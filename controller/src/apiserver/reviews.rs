//! Questions about rights: what may I, what may they, who am I, and which binding says so.
//!
//! Kubernetes' reviews (authorization.k8s.io/v1, authentication.k8s.io/v1) and our own, which names
//! the binding that decides. Nothing is stored for a review.

mod wire;

use std::collections::BTreeMap;

use hyper::{Method, Response, StatusCode};
use isocast_api::{
    iam::{AUTHENTICATED, MASTERS},
    registry::{Scope as KindScope, kinds},
    resourcemanager,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    resources::{Call, not_allowed},
    respond::{self, Body},
};
use crate::{
    authz::{Identity, verb},
    error::ApiError,
    iam::{Asked, Catalog, Deciding, Decision, Reach},
    managers::SYSTEM_NAMESPACE,
    store::{Key, Range, Resource},
};

/// What everybody may read, and whether that means all below it.
const OPEN_PATHS: [(&str, bool); 7] = [
    ("/api", true),
    ("/apis", true),
    ("/healthz", false),
    ("/livez", false),
    ("/openapi", true),
    ("/readyz", false),
    ("/version", false),
];

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Review {
    /// `iam.isocast.dev/v1alpha1` `accessreviews`
    Access,
    /// `authorization.k8s.io/v1` `selfsubjectaccessreviews`
    SelfAccess,
    /// `authorization.k8s.io/v1` `selfsubjectrulesreviews`
    SelfRules,
    /// `authentication.k8s.io/v1` `selfsubjectreviews`
    SelfSubject,
    /// `authorization.k8s.io/v1` `subjectaccessreviews`
    SubjectAccess,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Request {
    spec: Spec,
}

/// The fields of all reviews' specs: each uses its own.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    user: Option<String>,
    namespace: Option<String>,
    resource_attributes: Option<Attributes>,
    non_resource_attributes: Option<NonResource>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Attributes {
    namespace: String,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NonResource {
    path: String,
    verb: String,
}

/// What a review answers about one thing.
#[derive(Debug)]
struct Verdict {
    allowed: bool,
    denied: bool,
    reason: String,
    deciding: Option<Deciding>,
}

impl Review {
    /// The review at a path, if it is one.
    pub(super) fn of(group: &str, version: &str, plural: &str) -> Option<Self> {
        Some(match (group, version, plural) {
            ("authentication.k8s.io", "v1", "selfsubjectreviews") => Self::SelfSubject,
            ("authorization.k8s.io", "v1", "selfsubjectaccessreviews") => Self::SelfAccess,
            ("authorization.k8s.io", "v1", "selfsubjectrulesreviews") => Self::SelfRules,
            ("authorization.k8s.io", "v1", "subjectaccessreviews") => Self::SubjectAccess,
            ("iam.isocast.dev", "v1alpha1", "accessreviews") => Self::Access,
            _ => return None,
        })
    }
}

impl Call<'_> {
    /// Answers a review.
    pub(super) fn review(&self, review: Review) -> Result<Response<Body>, ApiError> {
        if *self.method != Method::POST {
            return Err(not_allowed());
        }
        let mut body: Value = if self.content_type() == wire::PROTOBUF {
            wire::decode(review, &self.body)?
        } else {
            serde_json::from_slice(&self.body)
                .map_err(|error| ApiError::bad_request(format!("the body is not JSON: {error}")))?
        };
        let request = Request::deserialize(&body)
            .map_err(|error| ApiError::bad_request(format!("not a review: {error}")))?;
        let status = match review {
            Review::SelfSubject => json!({"userInfo": self.user_info()}),
            Review::SelfRules => self.rules(request.spec.namespace.as_deref().unwrap_or_default()),
            Review::SelfAccess => self.judge(self.identity, &request.spec).to_status(),
            Review::SubjectAccess => {
                let resource = Resource::new("subjectaccessreviews", "authorization.k8s.io");
                let right = Key::new(resource, None, "");
                self.registry.authorize::<verb::Create, _>(self.identity, right)?;
                let who = self
                    .registry
                    .access()
                    .identity(request.spec.user.as_deref().unwrap_or_default());
                match who {
                    Some(who) => self.judge(&who, &request.spec).to_status(),
                    None => Verdict::no("there is no such account").to_status(),
                }
            }
            Review::Access => self.explain(&request.spec)?,
        };
        if let Some(fields) = body.as_object_mut() {
            fields.insert("status".to_owned(), status);
            fields.entry("metadata").or_insert_with(|| json!({}));
        }
        Ok(respond::json(StatusCode::CREATED, &body))
    }

    fn explain(&self, spec: &Spec) -> Result<Value, ApiError> {
        let asked = spec.resource_attributes.clone().unwrap_or_default();
        let own = username(self.identity);
        let (who, name) = match &spec.user {
            Some(user) if *user != own => {
                // To ask about others is a right, at the place that is asked about.
                let place = asked.place();
                let resource = Resource::new("accessreviews", isocast_api::iam::GROUP);
                let right = Range::Container(resource, place.into());
                self.registry.authorize::<verb::Create, _>(self.identity, right)?;
                (self.registry.access().identity(user), user.clone())
            }
            _ => (Some(self.identity.clone()), own),
        };
        let verdict = match &who {
            Some(who) => self.judge(who, spec),
            None => Verdict::no("there is no such account"),
        };
        let mut status = verdict.to_status();
        if let (Some(deciding), Some(fields)) = (&verdict.deciding, status.as_object_mut()) {
            fields.insert("user".to_owned(), json!(name));
            self.tell(deciding, fields);
        }
        Ok(status)
    }

    /// Adds what decided, as far as the caller may read it.
    fn tell(&self, deciding: &Deciding, status: &mut Map<String, Value>) {
        let (namespace, name) = &deciding.binding;
        let resource = Resource::new("policybindings", isocast_api::iam::GROUP);
        let key = Key::new(resource, Some(namespace), name);
        if self.registry.authorize::<verb::Get, _>(self.identity, key).is_err() {
            status.insert("reason".to_owned(), json!("decided by a binding that you cannot read"));
            return;
        }
        let placed =
            |(namespace, name): &(String, String)| json!({"namespace": namespace, "name": name});
        let via = deciding.via.iter();
        let via = via.map(|group| json!({"kind": group.kind(), "name": group.username()}));
        status.insert("binding".to_owned(), placed(&deciding.binding));
        status.insert("role".to_owned(), placed(&deciding.role));
        status.insert("via".to_owned(), via.collect());
        status.insert("inherited".to_owned(), json!(deciding.inherited));
        status.insert("conditional".to_owned(), json!(deciding.conditional));
        let expires = deciding.expires.and_then(|at| Timestamp::from_second(at).ok());
        if let Some(at) = expires {
            status.insert("expiresAt".to_owned(), json!(at.to_string()));
        }
    }

    fn judge(&self, who: &Identity, spec: &Spec) -> Verdict {
        match (&spec.resource_attributes, &spec.non_resource_attributes) {
            (Some(attributes), _) => self.judge_resource(who, attributes),
            (None, Some(path)) => {
                let is_open = OPEN_PATHS.iter().any(|(open, _)| path.path.starts_with(open));
                let is_read = path.verb == "get" && is_open;
                if is_read { Verdict::yes("everybody may") } else { Verdict::no("") }
            }
            (None, None) => Verdict::no("nothing was asked"),
        }
    }

    fn judge_resource(&self, who: &Identity, attributes: &Attributes) -> Verdict {
        let who = match who {
            Identity::Administrator { .. } => {
                return Verdict::yes("administrators may do everything");
            }
            Identity::Subject(who) => who,
            Identity::Component { .. } | Identity::Node { .. } => {
                return Verdict::no("it has no rights in the API");
            }
        };
        let now = Timestamp::now();
        let access = self.registry.access();
        let resource = Resource::new(&attributes.resource, &attributes.group);
        let Attributes { verb, subresource, .. } = attributes;
        let Some(permission) = Catalog::get().find(resource.as_str(), subresource, verb) else {
            return Verdict::no("");
        };
        if attributes.is_everywhere() {
            return match access.reach(who, permission, None, now) {
                Reach::Everywhere => Verdict::yes("by a binding of the platform"),
                // Such a list shows what may be seen.
                Reach::Somewhere if ["list", "watch"].contains(&&**verb) => {
                    Verdict::yes("in some containers")
                }
                Reach::Somewhere | Reach::Nowhere => Verdict::no(""),
            };
        }
        let asked = attributes.asked(&resource);
        let (decision, deciding) = access.explain(who, &asked, now);
        Verdict::of(decision, deciding)
    }

    fn rules(&self, namespace: &str) -> Value {
        let mut incomplete = false;
        let rules = match self.identity {
            Identity::Administrator { .. } => {
                vec![json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})]
            }
            Identity::Subject(who) => {
                let place = if namespace.is_empty() { SYSTEM_NAMESPACE } else { namespace };
                let rights = self.registry.access().rights(who, place, Timestamp::now());
                incomplete = rights.conditional;
                let mut verbs: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
                for permission in rights.allowed.iter().filter(|it| rights.contains(*it)) {
                    let Some(entry) = Catalog::get().entry(permission) else { continue };
                    let what = match entry.subresource {
                        "" => entry.resource.to_owned(),
                        subresource => format!("{}/{subresource}", entry.resource),
                    };
                    verbs.entry((entry.group, what)).or_default().push(entry.verb);
                }
                verbs
                    .into_iter()
                    .map(|((group, what), verbs)| {
                        json!({"verbs": verbs, "apiGroups": [group], "resources": [what]})
                    })
                    .collect()
            }
            Identity::Component { .. } | Identity::Node { .. } => Vec::new(),
        };
        let open = OPEN_PATHS.iter().flat_map(|(path, is_tree)| {
            let below = is_tree.then(|| format!("{path}/*"));
            [(*path).to_owned()].into_iter().chain(below)
        });
        json!({
            "resourceRules": rules,
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": open.collect::<Vec<_>>()}],
            "incomplete": incomplete,
        })
    }

    fn user_info(&self) -> Value {
        let mut groups = match self.identity {
            Identity::Administrator { .. } => vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()],
            Identity::Subject(who) => self.registry.access().groups(who),
            Identity::Component { .. } | Identity::Node { .. } => vec![AUTHENTICATED.to_owned()],
        };
        groups.sort();
        let mut info = json!({"username": username(self.identity), "groups": groups});
        if let (Identity::Subject(who), Some(fields)) = (self.identity, info.as_object_mut()) {
            fields.insert("uid".to_owned(), json!(who.uid));
            if let Some(token) = &who.token {
                fields.insert("extra".to_owned(), json!({"iam.isocast.dev/token-id": [token]}));
            }
        }
        info
    }
}

impl Attributes {
    /// Whether the question is about every container at once.
    fn is_everywhere(&self) -> bool {
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

    fn asked<'a>(&'a self, resource: &'a Resource) -> Asked<'a> {
        // A container that has no name yet is asked about where it would be.
        let is_container = resourcemanager::is_container(&self.resource, &self.group);
        let parent = (is_container && !self.namespace.is_empty())
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

impl Verdict {
    fn yes(reason: &str) -> Self {
        Self { allowed: true, denied: false, reason: reason.to_owned(), deciding: None }
    }

    fn no(reason: &str) -> Self {
        Self { allowed: false, ..Self::yes(reason) }
    }

    fn of(decision: Decision, deciding: Option<Deciding>) -> Self {
        let reason = match decision {
            Decision::Allowed(_) => "a binding allows it",
            Decision::Denied(_) => "a binding denies it",
            // As Kubernetes: what is merely not allowed needs no reason.
            Decision::NotGranted | Decision::NoContainer => "",
            Decision::OutOfScope => "the token's scope leaves it out",
            Decision::NoAccount => "the account cannot be used",
            Decision::TooManyGroups => "the account is in too many groups",
        };
        Self {
            allowed: decision.is_allowed(),
            denied: matches!(decision, Decision::Denied(_)),
            reason: reason.to_owned(),
            deciding,
        }
    }

    fn to_status(&self) -> Value {
        let mut status = json!({"allowed": self.allowed});
        if let Some(fields) = status.as_object_mut() {
            if self.denied {
                fields.insert("denied".to_owned(), json!(true));
            }
            if !self.reason.is_empty() {
                fields.insert("reason".to_owned(), json!(self.reason));
            }
        }
        status
    }
}

/// Kubernetes' name of somebody.
fn username(who: &Identity) -> String {
    match who {
        Identity::Administrator { name } => name.to_string(),
        Identity::Component { name } => format!("system:component:{name}"),
        Identity::Node { name } => format!("system:node:{name}"),
        Identity::Subject(who) => who.subject.username(),
    }
}
