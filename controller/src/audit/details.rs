//! [`Details`]: what a record says besides who, what and when.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Call;
use crate::{admission::ProposedChange, registry::metadata, store::Key};

/// The part of a record that older ones lack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// The request, as its answer named it; none for what the controller does by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Arc<str>>,
    /// Who asked, if it was as the actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonator: Option<Arc<str>>,
    /// Where the request came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// `anycastservices.network.isocast.dev`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource: String,
    /// Namespace of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name; empty for a collection.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The part of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subresource: String,
    /// Its identity, where it is known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The containers it is in, the topmost first: `acme/eng/shop`. Empty for the platform's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The containers it is in from here on, if it is a container that moved.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub moved_to: String,
    /// What came of it.
    pub outcome: Outcome,
    /// The HTTP status of what was denied, read or refused.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: u16,
    /// Records like this one that were left out before it, because there were too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub suppressed: u16,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Something was changed.
    #[default]
    Changed,
    /// Whoever asked may not.
    Denied,
    /// A secret was given out.
    Read,
    /// It would have changed something, but could not: a conflict, a fault, a limit.
    Refused,
}

impl Outcome {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "Changed",
            Self::Denied => "Denied",
            Self::Read => "Read",
            Self::Refused => "Refused",
        }
    }
}

impl Details {
    /// Details of a call about the object at `key`.
    pub(crate) fn of(call: Option<&Call>, key: &Key) -> Self {
        Self {
            id: call.map(|call| Arc::clone(&call.id)),
            source: call.map(|call| call.source),
            resource: key.resource().as_str().to_owned(),
            namespace: key.container().unwrap_or_default().to_owned(),
            name: key.name().to_owned(),
            ..Self::default()
        }
    }

    /// Details of a change that was admitted.
    pub(crate) fn of_change(call: Option<&Call>, change: &ProposedChange) -> Self {
        let object = change.new.as_ref().or_else(|| change.old_value().map(|old| &**old));
        Self {
            subresource: change.subresource.unwrap_or_default().to_owned(),
            uid: object.map(|object| metadata::text(object, "uid").to_owned()).unwrap_or_default(),
            scope: change.scope.clone(),
            moved_to: change.moved_to.clone(),
            impersonator: change.actor.impersonator(),
            ..Self::of(call, &change.key)
        }
    }

    /// Whether it is about something in the container, or the container itself.
    pub(crate) fn is_within(&self, container: &str) -> bool {
        self.containers().any(|step| step == container)
    }

    /// The containers that it is in, or was.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &str> {
        self.scope.split('/').chain(self.moved_to.split('/'))
    }
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}
