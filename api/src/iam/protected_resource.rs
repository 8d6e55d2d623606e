//! ProtectedResource: what can be allowed of a kind.

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

/// What can be allowed of a kind; derived from the kinds, one object for each.
pub type ProtectedResource = Object<ProtectedResourceSpec>;

/// What can be allowed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProtectedResourceSpec {
    /// API group of the kind.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// Its plural.
    pub plural: String,
    /// Every permission that roles can include.
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub permissions: Vec<String>,
}

/// Nothing is observed of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProtectedResourceStatus {}

impl Spec for ProtectedResourceSpec {
    type Status = ProtectedResourceStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::ProtectedResource,
        group: super::GROUP,
        version: VERSION,
        kind: "ProtectedResource",
        plural: "protectedresources",
        singular: "protectedresource",
        short_names: &["pres"],
        scope: Scope::Cluster,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Group", "string", ".spec.group", "API group of the kind"),
            Column::new("Kind", "string", ".spec.kind", "The kind"),
            Column::new("Permissions", "string", ".spec.permissions", "What roles can include")
                .wide(),
            AGE,
        ],
        selectable_fields: &["spec.group", "spec.kind"],
        description: "ProtectedResource lists the permissions that roles can include for one kind. \
                      There is one for each kind that is served; they cannot be written.",
    };

    const REPORTED: bool = true;

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> =
            LazyLock::new(schema::object_schema::<ProtectedResourceSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
