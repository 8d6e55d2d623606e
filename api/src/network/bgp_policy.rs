//! BGPPolicy: which routes pass between nodes and routers, and how they are changed.
//!
//! A change can be on trial: with `confirmWithin` the controller puts the former terms back by
//! itself unless somebody confirms in time. What is to be put back is kept in the status, so a
//! trial survives the controller that began it.

mod term;

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::term::{
    AsPathMatch, CommunityEdit, END_OF_POLICY, OriginCode, PolicyTerm, PrefixRange, RouteSource,
    SessionKind, TermMatch, TermSet, Then,
};
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::{Duration, Time},
};

/// Which routes pass between nodes and routers, and how they are changed.
pub type BgpPolicy = Object<BgpPolicySpec>;

/// The policy, and how its changes are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPolicySpec {
    /// Terms in their order: the first that accepts or rejects a route decides. A route that none
    /// decides is rejected (RFC 8212). A change is a soft refresh of the peers that name the
    /// policy.
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "atomic"))]
    pub terms: Vec<PolicyTerm>,
    /// A change of `terms` takes effect at once and is undone by itself unless it is confirmed
    /// within this time: 10s to 1h. Default: changes need no confirmation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within: Option<Duration>,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPolicyStatus {
    /// Latest observations: `Confirmed`, whether the terms in force are there to stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// What happens if nobody confirms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_rollback: Option<PendingRollback>,
}

/// A trial that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingRollback {
    /// When the former specification comes back.
    pub deadline: Time,
    /// The former specification.
    pub spec: BgpPolicySpec,
}

/// Annotation that confirms a change on trial; its value is the `metadata.generation` that is meant.
pub const CONFIRM: &str = "isocast.dev/confirm";

/// Annotation that lets a change withdraw prefixes; its value is how many at most.
pub const ALLOW_WITHDRAWALS: &str = "isocast.dev/allow-withdrawals";

/// Condition of a policy whose terms are there to stay.
pub const CONFIRMED: &str = "Confirmed";

const CONFIRM_MIN: Duration = Duration::from_secs(10);
const CONFIRM_MAX: Duration = Duration::from_secs(3600);

impl Spec for BgpPolicySpec {
    type Status = BgpPolicyStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::BgpPolicy,
        group: super::GROUP,
        version: VERSION,
        kind: "BGPPolicy",
        plural: "bgppolicies",
        singular: "bgppolicy",
        short_names: &["bpol"],
        scope: Scope::Cluster,
        name_format: "dns-subdomain",
        columns: &[
            Column::new(
                "Confirmed",
                "string",
                ".status.conditions[?(@.type==\"Confirmed\")].status",
                "Whether the terms in force are there to stay",
            ),
            Column::new(
                "Rollback",
                "string",
                ".status.pendingRollback.deadline",
                "When the former terms come back unless somebody confirms",
            ),
            AGE,
        ],
        selectable_fields: &[],
        description: "BGPPolicy decides which routes pass between nodes and the routers whose \
                      BGPPeer names it, and how they are changed.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<BgpPolicySpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        for (index, term) in self.terms.iter().enumerate() {
            let path = spec.field("terms").index(index);
            if self.terms.iter().take(index).any(|other| other.name == term.name) {
                errors.duplicate(&path.field("name"), &term.name);
            }
            term.validate(&path, errors);
        }
        if let Some(time) = self.confirm_within
            && !(CONFIRM_MIN..=CONFIRM_MAX).contains(&time)
        {
            let message = format!("must be between {CONFIRM_MIN} and {CONFIRM_MAX}");
            errors.invalid(&spec.field("confirmWithin"), time, message);
        }
    }
}
