//! Group: several who are allowed the same.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    field::{Errors, FieldPath},
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
};

/// Several who are allowed the same; who belongs to it is said by GroupMemberships.
pub type Group = Object<GroupSpec>;

/// What is wanted of the group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupSpec {
    /// Name for people. Default: the object's name is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub display_name: Option<String>,
    /// What the group is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
}

/// Nothing is observed of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupStatus {}

impl Spec for GroupSpec {
    type Status = GroupStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::Group,
        group: super::GROUP,
        version: VERSION,
        kind: "Group",
        plural: "groups",
        singular: "group",
        short_names: &["grp"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Display Name", "string", ".spec.displayName", "Name for people"),
            AGE,
        ],
        selectable_fields: &[],
        description: "Group is several users, service accounts and other groups that are allowed \
                      the same. Who belongs to it is said by GroupMemberships of its namespace.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<GroupSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
