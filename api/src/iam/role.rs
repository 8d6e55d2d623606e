//! Role: permissions under one name.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PermissionPattern, RoleReference};
use crate::{
    field::{Errors, FieldPath},
    object::{Kind, Object, Spec},
    reference::Reference,
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
};

/// Permissions under one name; PolicyBindings say who has them where.
pub type Role = Object<RoleSpec>;

/// What the role allows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleSpec {
    /// Name for people. Default: the object's name is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub display_name: Option<String>,
    /// What the role is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// How far the role is from being what it will stay.
    #[serde(default)]
    pub launch_stage: LaunchStage,
    /// Permissions: `network.isocast.dev/anycastservices.get`, with `*` for any group, resource,
    /// subresource or verb. Verbs: create, delete, get, list, patch, update, watch; bind and
    /// escalate must be named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 512), extend("x-kubernetes-list-type" = "set"))]
    pub included_permissions: Vec<PermissionPattern>,
    /// Roles whose permissions this one has too: of the same namespace, of one above, or of
    /// isocast-system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub inherited_roles: Vec<RoleReference>,
}

/// How far something is from being what it will stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LaunchStage {
    /// It may change in any way.
    Alpha,
    /// It may still change.
    Beta,
    /// It stays.
    #[default]
    Stable,
    /// It will go.
    Deprecated,
}

/// Nothing is observed of a role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RoleStatus {}

impl Spec for RoleSpec {
    type Status = RoleStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::Role,
        group: super::GROUP,
        version: VERSION,
        kind: "Role",
        plural: "roles",
        singular: "role",
        short_names: &["irole"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Display Name", "string", ".spec.displayName", "Name for people"),
            Column::new("Stage", "string", ".spec.launchStage", "How far from final").wide(),
            Column::new(
                "Permissions",
                "string",
                ".spec.includedPermissions",
                "What the role allows by itself",
            )
            .wide(),
            AGE,
        ],
        selectable_fields: &["spec.launchStage"],
        description: "Role is a set of permissions under one name. It can be bound in its own \
                      namespace and in those of the containers below.",
    };

    const REFERENCES: &'static [Reference] =
        &[Reference::using(&["spec", "inheritedRoles", "*"], ResourceKind::Role)];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<RoleSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        for (index, role) in self.inherited_roles.iter().enumerate() {
            if self.inherited_roles.iter().take(index).any(|other| other == role) {
                errors.duplicate(&spec.field("inheritedRoles").index(index), &role.name);
            }
        }
    }
}
