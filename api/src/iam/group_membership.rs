//! GroupMembership: one who belongs to a group.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Subject;
use crate::{
    field::{Errors, FieldPath},
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::Name,
};

/// One who belongs to a group of the same namespace.
pub type GroupMembership = Object<GroupMembershipSpec>;

/// Who belongs to what. Neither can change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupMembershipSpec {
    /// The group, in the membership's own namespace.
    pub group: Name,
    /// Who belongs to it. A group may be part of others, five deep.
    pub member: Subject,
}

/// Nothing is observed of a membership.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupMembershipStatus {}

impl Spec for GroupMembershipSpec {
    type Status = GroupMembershipStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::GroupMembership,
        group: super::GROUP,
        version: VERSION,
        kind: "GroupMembership",
        plural: "groupmemberships",
        singular: "groupmembership",
        short_names: &["gm"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Group", "string", ".spec.group", "The group"),
            Column::new("Kind", "string", ".spec.member.kind", "What the member is"),
            Column::new("Member", "string", ".spec.member.name", "Who belongs to it"),
            AGE,
        ],
        selectable_fields: &["spec.group", "spec.member.kind", "spec.member.name"],
        description: "GroupMembership says that a user, a service account or another group belongs \
                      to a group of the same namespace.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> =
            LazyLock::new(schema::object_schema::<GroupMembershipSpec>);
        &SCHEMA
    }

    fn validate(&self, old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        errors.immutable(&spec.field("group"), &self.group, old.map(|old| &old.group));
        errors.immutable(&spec.field("member"), &self.member, old.map(|old| &old.member));
        let member = spec.field("member");
        if self.member.is_system_group() {
            errors
                .forbidden(&member, "everybody cannot be a member: bind the role to them instead");
        }
        self.member.check(&member, errors);
    }
}
