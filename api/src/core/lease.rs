//! Lease: who of several does the work, by `coordination.k8s.io`.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BuiltIn, Words};
use crate::{
    registry::{AGE, Column, ResourceKind},
    schema,
};

/// Who of several does the work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Lease {
    /// What is held.
    pub spec: LeaseSpec,
}

/// What is held, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// Who holds the lease.
    pub holder_identity: Option<String>,
    /// How long others wait since they saw the lease renewed last.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub lease_duration_seconds: Option<i32>,
    /// When its holder got it.
    #[schemars(extend("format" = "date-time"))]
    pub acquire_time: Option<String>,
    /// When its holder renewed it last.
    #[schemars(extend("format" = "date-time"))]
    pub renew_time: Option<String>,
    /// How often it went from one holder to another.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub lease_transitions: Option<i32>,
    /// How a holder is chosen, if somebody chooses.
    pub strategy: Option<String>,
    /// Who should have it instead.
    pub preferred_holder: Option<String>,
}

impl BuiltIn for Lease {
    const WORDS: Words = Words {
        resource_kind: ResourceKind::Lease,
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        short_names: &[],
        columns: &[Column::new("Holder", "string", ".spec.holderIdentity", "Who holds it"), AGE],
        selectable_fields: &[],
        description: "Lease says who of several programs does the work.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::built_in_schema::<Lease>);
        &SCHEMA
    }
}
