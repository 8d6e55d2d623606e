//! ResourceGrant: what a container may have.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AMOUNT_MAX, ConsumerReference, ResourceType};
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::Time,
};

/// What the container whose namespace it is in may have, together with everything below it.
pub type ResourceGrant = Object<ResourceGrantSpec>;

/// What is granted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceGrantSpec {
    /// The container that it is for. It is that of the grant's namespace; naming another one is
    /// refused. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer_ref: Option<ConsumerReference>,
    /// How much of what.
    #[schemars(
        length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["resourceType"])
    )]
    pub allowances: Vec<Allowance>,
    /// Until when. What exists then stays, and is shown as overage. Default: for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
}

/// How much of one thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allowance {
    /// What: the `resourceType` of a ResourceRegistration.
    pub resource_type: ResourceType,
    /// Amounts that are added up, with those of the container's other grants.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub buckets: Vec<GrantedAmount>,
}

/// An amount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantedAmount {
    /// In base units of the ResourceRegistration; of a Feature, 1 is on and 0 is off.
    #[schemars(range(max = AMOUNT_MAX))]
    pub amount: u64,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceGrantStatus {
    /// Latest observations: `Active`, whether it counts; not after `expiresAt`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Allowance {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.buckets.iter().fold(0, |total: u64, bucket| total.saturating_add(bucket.amount))
    }
}

impl Spec for ResourceGrantSpec {
    type Status = ResourceGrantStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::ResourceGrant,
        group: super::GROUP,
        version: VERSION,
        kind: "ResourceGrant",
        plural: "resourcegrants",
        singular: "resourcegrant",
        short_names: &["rgrant"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Allowances", "string", ".spec.allowances", "How much of what").wide(),
            Column::new(
                "Active",
                "string",
                ".status.conditions[?(@.type==\"Active\")].status",
                "Whether it counts",
            ),
            Column::new("Expires", "date", ".spec.expiresAt", "Until when").wide(),
            AGE,
        ],
        selectable_fields: &[],
        description: "ResourceGrant says how much the container whose namespace it is in may have, \
                      together with everything below it. Grants of one container add up and \
                      replace its default limit. It takes the right to write grants in the \
                      container above.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<ResourceGrantSpec>);
        &SCHEMA
    }

    fn validate(&self, old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        let path = spec.field("consumerRef");
        errors.immutable(&path, &self.consumer_ref, old.map(|old| &old.consumer_ref));
        for (index, allowance) in self.allowances.iter().enumerate() {
            if allowance.total() > AMOUNT_MAX {
                let path = spec.field("allowances").index(index).field("buckets");
                errors.invalid(&path, allowance.total(), format!("must be {AMOUNT_MAX} at most"));
            }
        }
    }
}
