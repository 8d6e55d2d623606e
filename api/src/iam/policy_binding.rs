//! PolicyBinding: who has which role in a container and below.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Subject;
use crate::{
    field::{Errors, FieldPath},
    object::{Kind, Object, Spec},
    reference::Reference,
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::{Name, Time},
};

/// Says who has which role in the container of its namespace, and in all containers below it.
pub type PolicyBinding = Object<PolicyBindingSpec>;

/// Who has which role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyBindingSpec {
    /// Whether the permissions are given or taken. What any binding takes, none gives.
    #[serde(default)]
    pub effect: Effect,
    /// The role. Cannot change.
    pub role: RoleReference,
    /// Who.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub subjects: Vec<Subject>,
    /// When. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
    /// Until when. Default: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// Whether permissions are given or taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// They are given.
    #[default]
    Allow,
    /// They are taken, whatever else gives them.
    Deny,
}

/// Names a role.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleReference {
    /// Its name.
    pub name: Name,
    /// Its namespace: the referring object's, that of a container above, or isocast-system. Default:
    /// the referring object's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
}

/// When a binding holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub title: Option<String>,
    /// Common Expression Language, true or false, over `request`: `time`, `verb`, `group`,
    /// `resource`, `subresource`, `namespace`, `name`, `user`.
    #[schemars(length(min = 1, max = 1024))]
    pub expression: String,
}

/// Nothing is observed of a binding: it holds from the revision on that it was written at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyBindingStatus {}

impl Spec for PolicyBindingSpec {
    type Status = PolicyBindingStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::PolicyBinding,
        group: super::GROUP,
        version: VERSION,
        kind: "PolicyBinding",
        plural: "policybindings",
        singular: "policybinding",
        short_names: &["pb"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Effect", "string", ".spec.effect", "Allow or Deny"),
            Column::new("Role", "string", ".spec.role.name", "The role"),
            Column::new("Subjects", "string", ".spec.subjects[*].name", "Who has it"),
            Column::new("Condition", "string", ".spec.condition.expression", "When").wide(),
            Column::new("Expires", "string", ".spec.expiresAt", "Until when").wide(),
            AGE,
        ],
        selectable_fields: &["spec.effect", "spec.role.name"],
        description: "PolicyBinding gives a role's permissions to users, service accounts and \
                      groups, or takes them, in the container of its namespace and in all below.",
    };

    const REFERENCES: &'static [Reference] =
        &[Reference::using(&["spec", "role"], ResourceKind::Role)];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<PolicyBindingSpec>);
        &SCHEMA
    }

    fn validate(&self, old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        errors.immutable(&spec.field("role"), &self.role, old.map(|old| &old.role));
        let subjects = spec.field("subjects");
        for (index, subject) in self.subjects.iter().enumerate() {
            let path = subjects.index(index);
            subject.check(&path, errors);
            if self.subjects.iter().take(index).any(|other| other == subject) {
                errors.duplicate(&path, &subject.name);
            }
        }
    }
}
