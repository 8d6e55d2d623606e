//! BGPAdvertisement: what one node tells routers of one prefix, as the node reports it.

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
    text::{IpPrefix, Name, Time},
};

/// What one node tells routers of one prefix.
pub type BgpAdvertisement = Object<BgpAdvertisementSpec>;

/// Which node and which prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpAdvertisementSpec {
    /// Name of the node.
    pub node: Name,
    /// The prefix.
    pub prefix: IpPrefix,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpAdvertisementStatus {
    /// Latest observations: `Announced`, whether the node holds the right to announce the prefix
    /// and a router was told, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Services at the prefix: namespace/name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub services: Vec<String>,
    /// Communities that the node gives it, before policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub communities: Vec<String>,
    /// How many routers were told.
    pub told: u32,
    /// Every router that the node speaks with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub peers: Vec<AdvertisementPeer>,
}

/// What one router was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisementPeer {
    /// Its name, as in `BGPSession`.
    pub name: String,
    /// Since when it is told; absent: it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Why it is not told: one CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

impl Spec for BgpAdvertisementSpec {
    type Status = BgpAdvertisementStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::BgpAdvertisement,
        group: super::GROUP,
        version: VERSION,
        kind: "BGPAdvertisement",
        plural: "bgpadvertisements",
        singular: "bgpadvertisement",
        short_names: &["bgpadv"],
        scope: Scope::Cluster,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Prefix", "string", ".spec.prefix", "What is announced"),
            Column::new("Node", "string", ".spec.node", "By whom"),
            Column::new(
                "Announced",
                "string",
                ".status.conditions[?(@.type==\"Announced\")].status",
                "Whether it is",
            ),
            Column::new(
                "Reason",
                "string",
                ".status.conditions[?(@.type==\"Announced\")].reason",
                "Why, or why not",
            ),
            Column::new(
                "Since",
                "date",
                ".status.conditions[?(@.type==\"Announced\")].lastTransitionTime",
                "Time since that changed",
            ),
            Column::new("Told", "integer", ".status.told", "Routers that were told"),
            Column::new("Services", "string", ".status.services", "What it is for").wide(),
            Column::new("Communities", "string", ".status.communities", "Of the route").wide(),
            AGE,
        ],
        selectable_fields: &["spec.node", "spec.prefix"],
        description: "BGPAdvertisement is what one node tells routers of one prefix: since when, \
                      and why or why not, as the node reports it. It comes and goes with what the \
                      node carries and can only be read.",
    };

    const REPORTED: bool = true;

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> =
            LazyLock::new(schema::object_schema::<BgpAdvertisementSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
