//! Questions about rights: what may I, what may they, who am I, and which binding says so.
//!
//! Kubernetes' reviews (authorization.k8s.io/v1, authentication.k8s.io/v1) and our own, which names
//! the binding that decides. Nothing is stored for a review.

mod question;
pub(super) mod schema;
mod served;
mod verdict;
mod wire;

use std::{collections::BTreeMap, sync::LazyLock};

use hyper::{Method, Response, StatusCode};
use isocast_api::{
    field::{Errors, FieldPath},
    iam::{AUTHENTICATED, GROUP, MASTERS},
    registry::CORE,
    schema::check,
};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(super) use self::served::{Review, SERVED, Served};
use self::{
    question::Question,
    served::{AUTHENTICATION, AUTHORIZATION, LOCAL_REVIEWS},
    verdict::Verdict,
};
use super::{
    resources::{Call, not_allowed, unknown_resource},
    respond::{self, Body},
};
use crate::{
    authz::{Identity, verb},
    error::ApiError,
    iam::{Catalog, Deciding},
    registry::decode::{self, Nulls},
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

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Request {
    spec: Question,
}

/// Adds what may be left out, as Kubernetes does: an answer is a whole review.
fn complete(served: &Served, fields: &mut Map<String, Value>) -> Result<(), ApiError> {
    let version = format!("{}/{}", served.group, served.version);
    for (field, expected) in [("apiVersion", version.as_str()), ("kind", served.kind)] {
        let said = fields.entry(field).or_insert_with(|| json!(expected));
        if *said == "" {
            *said = json!(expected);
        }
        if *said != expected {
            let message = format!("the review has {field} {said}; {expected:?} is expected");
            return Err(ApiError::bad_request(message));
        }
    }
    if !fields.entry("metadata").or_insert_with(|| json!({})).is_object() {
        return Err(ApiError::bad_request("not a review: metadata is no object"));
    }
    if served.review != Review::SelfSubject {
        fields.entry("spec").or_insert_with(|| json!({}));
    }
    Ok(())
}

/// What is asked is of the types that the review's schema says.
fn expect_well_formed(served: &Served, fields: &Map<String, Value>) -> Result<(), ApiError> {
    static SPECS: LazyLock<Vec<(Review, Value)>> = LazyLock::new(|| {
        let spec = |review| schema::of(review).pointer_mut("/properties/spec").map(Value::take);
        SERVED.iter().filter_map(|it| Some((it.review, spec(it.review)?))).collect()
    });
    let schema = SPECS.iter().find(|(review, _)| *review == served.review);
    let (Some((_, schema)), Some(spec)) = (schema, fields.get("spec")) else { return Ok(()) };
    let mut errors = Errors::default();
    check(spec, schema, &FieldPath::spec(), &mut errors);
    match errors.into_vec().first() {
        Some(error) => Err(ApiError::bad_request(format!("not a review: {error}"))),
        None => Ok(()),
    }
}

impl Call<'_> {
    /// Answers a review, which is about `namespace` if it was asked there.
    pub(super) fn review(
        &self,
        review: Review,
        namespace: Option<&str>,
    ) -> Result<Response<Body>, ApiError> {
        if *self.method != Method::POST {
            return Err(not_allowed());
        }
        self.expect_right_to_ask(review, namespace.unwrap_or_default())?;
        let mut body: Value = if self.content_type() == wire::PROTOBUF {
            wire::decode(review, &self.body)?
        } else {
            decode::yaml(&self.body, Nulls::Drop)?.value
        };
        let fields = body
            .as_object_mut()
            .ok_or_else(|| ApiError::bad_request("not a review: the body is no object"))?;
        let served = SERVED.iter().find(|served| served.review == review);
        let served = served.ok_or_else(unknown_resource)?;
        complete(served, fields)?;
        expect_well_formed(served, fields)?;
        let request = Request::deserialize(&*fields)
            .map_err(|error| ApiError::bad_request(format!("not a review: {error}")))?;
        request.spec.expect_whole(served)?;
        let status = self.answer(review, namespace.unwrap_or_default(), &request.spec)?;
        fields.insert("status".to_owned(), status);
        // As Kubernetes: an answer does not repeat the secret.
        if review == Review::Token
            && let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut)
        {
            spec.remove("token");
        }
        Ok(respond::json(StatusCode::CREATED, &body))
    }

    fn answer(
        &self,
        review: Review,
        namespace: &str,
        question: &Question,
    ) -> Result<Value, ApiError> {
        let access = self.registry.access();
        Ok(match review {
            Review::SelfSubject => json!({"userInfo": self.user_info(self.identity)}),
            Review::SelfRules => self.rules(Some(self.identity), &question.place()),
            Review::SelfAccess => Verdict::on(access, self.identity, question).to_status(),
            Review::SubjectAccess => self.judge_subject(question),
            Review::LocalSubjectAccess => self.judge_locally(question, namespace)?,
            Review::Token => self.judge_token(question),
            Review::Access => self.explain(question)?,
        })
    }

    /// To ask about others is a right. Whoever does not have it is not told what is wrong with the
    /// question.
    fn expect_right_to_ask(&self, review: Review, namespace: &str) -> Result<(), ApiError> {
        let resource = match review {
            Review::SubjectAccess => Resource::new("subjectaccessreviews", AUTHORIZATION),
            Review::Token => Resource::new("tokenreviews", AUTHENTICATION),
            Review::LocalSubjectAccess => {
                self.expect_within(&Key::new(Resource::new("namespaces", ""), None, namespace))?;
                return self.expect_right_in(namespace, LOCAL_REVIEWS, AUTHORIZATION);
            }
            Review::SelfSubject | Review::SelfRules | Review::SelfAccess | Review::Access => {
                return Ok(());
            }
        };
        let right = Key::new(resource, None, "");
        self.registry.authorize::<verb::Create, _>(self.identity, right).map(drop)
    }

    fn expect_right_in(&self, namespace: &str, plural: &str, group: &str) -> Result<(), ApiError> {
        let right = Range::Container(Resource::new(plural, group), namespace.into());
        self.registry.authorize::<verb::Create, _>(self.identity, right).map(drop)
    }

    fn judge_subject(&self, question: &Question) -> Value {
        let access = self.registry.access();
        let who = access.identity(question.user.as_deref().unwrap_or_default());
        let is_meant = |who: &Identity| match (&question.uid, who) {
            (Some(uid), Identity::Subject(who)) => uid.is_empty() || **uid == *who.uid,
            _ => true,
        };
        match who.filter(is_meant) {
            Some(who) => Verdict::on(access, &who, question).to_status(),
            None => Verdict::no("there is no such account").to_status(),
        }
    }

    /// About one namespace, so that its administrators can ask.
    fn judge_locally(&self, question: &Question, namespace: &str) -> Result<Value, ApiError> {
        match &question.resource_attributes {
            Some(asked) if asked.namespace == namespace => Ok(self.judge_subject(question)),
            _ => Err(ApiError::bad_request(format!(
                "spec.resourceAttributes.namespace must match namespace: {namespace}"
            ))),
        }
    }

    fn judge_token(&self, question: &Question) -> Value {
        let token = question.token.as_deref().unwrap_or_default();
        let access = self.registry.access();
        match access.review_token(token, &question.audiences, Timestamp::now()) {
            Some((who, audiences)) => json!({
                "authenticated": true,
                "user": self.user_info(&Identity::Subject(who)),
                "audiences": audiences,
            }),
            None => json!({
                "authenticated": false,
                "user": {},
                "error": "the token is not known, over or for other audiences, or its account \
                          cannot be used",
            }),
        }
    }

    fn explain(&self, question: &Question) -> Result<Value, ApiError> {
        let own = username(self.identity);
        let (who, name) = match &question.user {
            Some(user) if *user != own => {
                self.expect_right_in(&question.place(), "accessreviews", GROUP)?;
                (self.registry.access().identity(user), user.clone())
            }
            _ => (Some(self.identity.clone()), own),
        };
        if question.asks_for_everything() {
            return Ok(self.rules(who.as_ref(), &question.place()));
        }
        let verdict = match &who {
            Some(who) => Verdict::on(self.registry.access(), who, question),
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
        let resource = Resource::new("policybindings", GROUP);
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

    /// Everything that somebody may in a container.
    fn rules(&self, who: Option<&Identity>, place: &str) -> Value {
        let mut incomplete = false;
        let rules = match who {
            Some(Identity::Administrator { .. }) => {
                vec![json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})]
            }
            Some(Identity::Subject(who)) => {
                let rights = self.registry.access().rights(who, place, Timestamp::now());
                incomplete = rights.conditional;
                let mut verbs: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
                for permission in rights.allowed.iter().filter(|it| rights.contains(*it)) {
                    let Some(entry) = Catalog::get().entry(permission) else { continue };
                    let what = match entry.subresource {
                        "" => entry.resource.to_owned(),
                        subresource => format!("{}/{subresource}", entry.resource),
                    };
                    let group = if entry.group == CORE { "" } else { entry.group };
                    verbs.entry((group, what)).or_default().push(entry.verb);
                }
                verbs
                    .into_iter()
                    .map(|((group, what), verbs)| {
                        json!({"verbs": verbs, "apiGroups": [group], "resources": [what]})
                    })
                    .collect()
            }
            Some(Identity::Component { .. } | Identity::Node { .. }) | None => Vec::new(),
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

    fn user_info(&self, who: &Identity) -> Value {
        let mut groups = match who {
            Identity::Administrator { .. } => vec![MASTERS.to_owned(), AUTHENTICATED.to_owned()],
            Identity::Subject(who) => self.registry.access().groups(who),
            Identity::Component { .. } | Identity::Node { .. } => vec![AUTHENTICATED.to_owned()],
        };
        groups.sort();
        let mut info = json!({"username": username(who), "groups": groups});
        if let (Identity::Subject(who), Some(fields)) = (who, info.as_object_mut()) {
            fields.insert("uid".to_owned(), json!(who.uid));
            if let Some(token) = &who.token {
                fields.insert("extra".to_owned(), json!({"iam.isocast.dev/token-id": [token]}));
            }
        }
        info
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
