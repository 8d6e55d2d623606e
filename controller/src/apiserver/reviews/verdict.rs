//! [`Verdict`]: what a review answers about one thing.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    OPEN_PATHS,
    question::{Attributes, Question},
};
use crate::{
    authz::Identity,
    iam::{Access, Catalog, Deciding, Decision, Reach},
    store::Resource,
};

/// What a review answers about one thing.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) allowed: bool,
    pub(super) denied: bool,
    pub(super) reason: String,
    pub(super) deciding: Option<Deciding>,
}

impl Verdict {
    /// Whether `who` may do what is asked.
    pub(super) fn on(access: &Access, who: &Identity, question: &Question) -> Self {
        match (&question.resource_attributes, &question.non_resource_attributes) {
            (Some(attributes), _) => Self::on_resource(access, who, attributes),
            (None, Some(path)) => {
                let is_open = OPEN_PATHS.iter().any(|(open, _)| path.path.starts_with(open));
                let is_read = path.verb == "get" && is_open;
                if is_read { Self::yes("everybody may") } else { Self::no("") }
            }
            (None, None) => Self::no("nothing was asked"),
        }
    }

    fn on_resource(access: &Access, who: &Identity, attributes: &Attributes) -> Self {
        let who = match who {
            Identity::Administrator { .. } => {
                return Self::yes("administrators may do everything");
            }
            Identity::Subject(who) => who,
            Identity::Component { .. } | Identity::Node { .. } => {
                return Self::no("it has no rights in the API");
            }
        };
        let now = Timestamp::now();
        let resource = Resource::new(&attributes.resource, &attributes.group);
        let Attributes { verb, subresource, .. } = attributes;
        let Some(permission) = Catalog::get().find(resource.as_str(), subresource, verb) else {
            return Self::no("");
        };
        if attributes.is_everywhere() {
            return match access.reach(who, permission, None, now) {
                Reach::Everywhere => Self::yes("by a binding of the platform"),
                // Such a list shows what may be seen.
                Reach::Somewhere if ["list", "watch"].contains(&&**verb) => {
                    Self::yes("in some containers")
                }
                Reach::Somewhere | Reach::Nowhere => Self::no(""),
            };
        }
        let asked = attributes.asked(&resource);
        let (decision, deciding) = access.explain(who, &asked, now);
        Self::of(decision, deciding)
    }

    fn yes(reason: &str) -> Self {
        Self { allowed: true, denied: false, reason: reason.to_owned(), deciding: None }
    }

    pub(super) fn no(reason: &str) -> Self {
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

    pub(super) fn to_status(&self) -> Value {
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
