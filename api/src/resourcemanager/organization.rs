//! Organization: a tenant.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ContainerPhase;
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    reference::{Reference, Target},
    registry::{AGE, Column, READY, ResourceKind, Scope, VERSION},
    schema,
    text::Label,
};

/// A tenant; owns projects and the namespace of its own name.
pub type Organization = Object<OrganizationSpec>;

/// What is wanted of the organization.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OrganizationSpec {
    /// Name for people. Default: the object's name is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub display_name: Option<String>,
    /// Name of the organization that this one is a part of. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Label>,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OrganizationStatus {
    /// Latest observations: `Ready`; while it is being deleted `ContentRemaining` and
    /// `DeletionBlocked`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// `Terminating` from when somebody deletes it until all that it holds is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<ContainerPhase>,
    /// The tenant's number in encapsulated packets: 24 bits, unique, given at creation.
    #[serde(rename = "tenantID", skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<u32>,
}

impl Spec for OrganizationSpec {
    type Status = OrganizationStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::Organization,
        group: super::GROUP,
        version: VERSION,
        kind: "Organization",
        plural: "organizations",
        singular: "organization",
        short_names: &["org"],
        scope: Scope::Cluster,
        name_format: "dns-label",
        columns: &[
            Column::new("Display Name", "string", ".spec.displayName", "Name for people"),
            Column::new("Parent", "string", ".spec.parent", "The organization above").wide(),
            Column::new("Tenant", "integer", ".status.tenantID", "Number in packets").wide(),
            READY,
            AGE,
        ],
        selectable_fields: &["spec.parent"],
        description: "Organization is a tenant. It owns projects, and a namespace of its own name \
                      for what belongs to the organization as a whole.",
    };

    const REFERENCES: &'static [Reference] =
        &[Reference::naming(&["spec", "parent"], Target::Kind(ResourceKind::Organization))];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<OrganizationSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
