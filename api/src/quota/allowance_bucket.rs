//! AllowanceBucket: what a container may have, has and can still get of one thing.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ConsumerReference, ResourceType};
use crate::{
    field::{Errors, FieldPath},
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
};

/// What a container may have, has and can still get of one thing.
pub type AllowanceBucket = Object<AllowanceBucketSpec>;

/// Whose it is, and of what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowanceBucketSpec {
    /// The container.
    pub consumer_ref: ConsumerReference,
    /// What is counted.
    pub resource_type: ResourceType,
}

/// What is so, exactly as of the object's resourceVersion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AllowanceBucketStatus {
    /// What the container and everything below it may have together; of a Feature, 1 is on and 0 is
    /// off, however many objects have it.
    pub limit: u64,
    /// What they have.
    pub allocated: u64,
    /// What they can still get here; containers above may have less.
    pub available: u64,
    /// What they have beyond the limit, since it was lowered or began when there was more.
    #[serde(skip_serializing_if = "is_zero")]
    pub overage: u64,
    /// Objects that have it.
    pub claim_count: u64,
    /// Grants that the limit is the sum of; none of them: it is the default limit.
    pub grant_count: u64,
    /// The first 64 of those grants.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub contributing_grant_refs: Vec<ContributingGrant>,
}

/// What a grant contributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContributingGrant {
    /// Name of the ResourceGrant, in the same namespace.
    pub name: String,
    /// How much.
    pub amount: u64,
}

impl Spec for AllowanceBucketSpec {
    type Status = AllowanceBucketStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::AllowanceBucket,
        group: super::GROUP,
        version: VERSION,
        kind: "AllowanceBucket",
        plural: "allowancebuckets",
        singular: "allowancebucket",
        short_names: &["abucket"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Resource Type", "string", ".spec.resourceType", "What is counted"),
            Column::new("Limit", "integer", ".status.limit", "What there may be"),
            Column::new("Allocated", "integer", ".status.allocated", "What there is"),
            Column::new("Available", "integer", ".status.available", "What there can still be"),
            Column::new("Overage", "integer", ".status.overage", "What is beyond the limit").wide(),
            Column::new("Claims", "integer", ".status.claimCount", "Objects that have it").wide(),
            Column::new("Grants", "integer", ".status.grantCount", "Grants that add up").wide(),
            AGE,
        ],
        selectable_fields: &["spec.resourceType"],
        description: "AllowanceBucket says what a container and everything below it may have of one \
                      thing, has, and can still get. There is one wherever there is a limit, of the \
                      name of the ResourceRegistration. The server derives them; they can only be \
                      read.",
    };

    const REPORTED: bool = true;

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> =
            LazyLock::new(schema::object_schema::<AllowanceBucketSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(amount: &u64) -> bool {
    *amount == 0
}
