//! [`Subject`]: whom a binding or a membership is about.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    field::{Errors, FieldPath},
    text::Name,
};

/// The group of everybody who has proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of those whom no binding concerns: they may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of all service accounts.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// Names a user, a service account or a group.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// What it is.
    pub kind: SubjectKind,
    /// Its name. Of groups also `system:authenticated`, everybody who has proved who they are, and
    /// `system:serviceaccounts`, all service accounts.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of a service account or group. Default: the object's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
}

/// What a subject is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum SubjectKind {
    /// The members of a group, and of the groups in it.
    Group,
    /// A program.
    ServiceAccount,
    /// A person.
    User,
}

impl SubjectKind {
    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Group => "Group",
            Self::ServiceAccount => "ServiceAccount",
            Self::User => "User",
        }
    }
}

impl Subject {
    /// Whether it is one of the groups that nobody makes.
    #[must_use]
    pub fn is_system_group(&self) -> bool {
        self.kind == SubjectKind::Group
            && [AUTHENTICATED, SERVICE_ACCOUNTS].contains(&self.name.as_str())
    }

    /// Adds what is wrong with the subject at `path`.
    pub(super) fn check(&self, path: &FieldPath, errors: &mut Errors) {
        if self.is_system_group() {
            if self.namespace.is_some() {
                errors.forbidden(&path.field("namespace"), format!("{} has none", self.name));
            }
            return;
        }
        if let Err(invalid) = self.name.parse::<Name>() {
            errors.invalid(&path.field("name"), &self.name, invalid.to_string());
        }
        if self.kind == SubjectKind::User && self.namespace.is_some() {
            errors.forbidden(&path.field("namespace"), "a User has none");
        }
    }
}
