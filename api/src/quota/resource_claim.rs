//! ResourceClaim: what one object holds of what is counted.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConsumerReference, ResourceType};
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
};

/// What one object holds of what is counted.
pub type ResourceClaim = Object<ResourceClaimSpec>;

/// Who holds how much of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceClaimSpec {
    /// The container that the object belongs to. It counts there and in each container above.
    pub consumer_ref: ConsumerReference,
    /// The object.
    pub resource_ref: ClaimedResource,
    /// How much of what.
    #[schemars(
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["resourceType"])
    )]
    pub requests: Vec<ResourceRequest>,
}

/// An object that holds something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClaimedResource {
    /// API group of its kind.
    pub api_group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, if its kind has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// How much of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceRequest {
    /// What.
    pub resource_type: ResourceType,
    /// How much, in base units.
    pub amount: u64,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceClaimStatus {
    /// Latest observations: `Granted`, which holds as long as the object exists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What was given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["resourceType"])
    )]
    pub allocations: Vec<Allocation>,
}

/// What was given of one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// What.
    pub resource_type: ResourceType,
    /// Always Granted: what is not granted is not there.
    pub status: AllocationStatus,
    /// How much.
    pub allocated_amount: u64,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AllocationStatus {
    /// It was given.
    Granted,
}

impl Spec for ResourceClaimSpec {
    type Status = ResourceClaimStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::ResourceClaim,
        group: super::GROUP,
        version: VERSION,
        kind: "ResourceClaim",
        plural: "resourceclaims",
        singular: "resourceclaim",
        short_names: &["rclaim"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Kind", "string", ".spec.resourceRef.kind", "Kind of the object"),
            Column::new("Object", "string", ".spec.resourceRef.name", "Name of the object"),
            Column::new("Requests", "string", ".spec.requests", "How much of what").wide(),
            Column::new(
                "Granted",
                "string",
                ".status.conditions[?(@.type==\"Granted\")].status",
                "Whether it was given",
            ),
            AGE,
        ],
        selectable_fields: &["spec.resourceRef.kind", "spec.resourceRef.name"],
        description: "ResourceClaim says what one object holds of what is counted. It comes, \
                      changes and goes with its object, in the same revision. The server derives \
                      them; they can only be read.",
    };

    const REPORTED: bool = true;

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<ResourceClaimSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
