//! Drain: an order to take prefixes away without losing a flow.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::{Duration, Name, Time},
};

/// An order to take prefixes away without losing a flow; deleting it brings them back.
pub type Drain = Object<DrainSpec>;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainSpec {
    /// What stops to be announced. Cannot be changed.
    pub target: DrainTarget,
    /// How long routers are told that the routes are going (RFC 8326) before they go: 0s to 1h. Less
    /// if hardly any traffic arrives any more. An agent counts whole seconds.
    #[serde(default = "default_wait")]
    pub wait: Duration,
    /// Whether prefixes that nothing else announces may go too. Without it such a drain is refused,
    /// and where it is not known who else announces, the prefixes stay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm_last_announcer: bool,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// What is drained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DrainTarget {
    /// Kind of the target. Nodes and datacenters are drained from the namespace isocast-system alone.
    pub kind: DrainTargetKind,
    /// Its name.
    pub name: Name,
    /// Namespace of an `AnycastService`. Default: the drain's own, and another only from the
    /// namespace isocast-system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
}

/// What can be drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DrainTargetKind {
    /// One service, at every edge.
    AnycastService,
    /// Every service, at every edge of a datacenter.
    Datacenter,
    /// Every service, at one edge.
    Node,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainStatus {
    /// Latest observations: `Progressing`, whether something still happens by itself, and
    /// `Drained`, whether what stood behind the routes may stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far the node has come that is furthest behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<DrainStage>,
    /// Every node concerned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub nodes: Vec<DrainNode>,
}

/// How far one node has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DrainNode {
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub stage: DrainStage,
    /// Since when, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Prefixes that it keeps announcing although they should be gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub held: Vec<String>,
    /// What keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How far a drain has come; the least first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum DrainStage {
    /// The node is silent.
    Unknown,
    /// Prefixes are kept although they should go.
    Held,
    /// The order has not arrived yet.
    Pending,
    /// Routers are told that the routes are going.
    Signalling,
    /// The routes are withdrawn; packets may still be on their way.
    Withdrawing,
    /// Nothing arrives any more.
    Drained,
}

/// Condition of a drain that is done.
pub const DRAINED: &str = "Drained";
/// Condition of a drain that goes on by itself.
pub const PROGRESSING: &str = "Progressing";

const WAIT_MAX: Duration = Duration::from_secs(3600);

const fn default_wait() -> Duration {
    Duration::from_secs(30)
}

impl DrainTargetKind {
    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AnycastService => "AnycastService",
            Self::Datacenter => "Datacenter",
            Self::Node => "Node",
        }
    }
}

impl Spec for DrainSpec {
    type Status = DrainStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::Drain,
        group: super::GROUP,
        version: VERSION,
        kind: "Drain",
        plural: "drains",
        singular: "drain",
        short_names: &["dr"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Kind", "string", ".spec.target.kind", "Kind of what is drained"),
            Column::new("Target", "string", ".spec.target.name", "What is drained"),
            Column::new("Stage", "string", ".status.stage", "How far it has come everywhere"),
            Column::new(
                "Drained",
                "string",
                ".status.conditions[?(@.type==\"Drained\")].status",
                "Whether what stood behind the routes may stop",
            ),
            Column::new("Wait", "string", ".spec.wait", "Between signal and withdrawal").wide(),
            Column::new("Reason", "string", ".spec.reason", "Why").wide(),
            AGE,
        ],
        selectable_fields: &["spec.target.kind", "spec.target.name"],
        description: "Drain takes the prefixes of a service, a node or a datacenter away without \
                      losing a flow: routers are told that the routes are going, then they go, then \
                      what stood behind them may stop. Deleting the Drain cancels it, and the \
                      prefixes come back.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<DrainSpec>);
        &SCHEMA
    }

    fn validate(&self, old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        let target = spec.field("target");
        errors.immutable(&target, &self.target, old.map(|old| &old.target));
        if self.target.namespace.is_some() && self.target.kind != DrainTargetKind::AnycastService {
            let message = format!("a {} has none", self.target.kind.as_str());
            errors.forbidden(&target.field("namespace"), message);
        }
        if self.wait > WAIT_MAX {
            let message = format!("must be at most {WAIT_MAX}");
            errors.invalid(&spec.field("wait"), self.wait, message);
        }
    }
}
