//! Datacenter: a site.

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, READY, ResourceKind, Scope, VERSION},
    schema,
};

/// A site whose edges announce services and whose backends serve them.
pub type Datacenter = Object<DatacenterSpec>;

/// What is wanted of the datacenter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatacenterSpec {
    /// Name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub display_name: Option<String>,
    /// Where it is, in the operator's words, for example `eu-west`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub region: Option<String>,
    /// Whether services are announced here.
    #[serde(default)]
    pub state: DatacenterState,
}

/// What a datacenter does for the services that could be announced there.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
    Default,
)]
pub enum DatacenterState {
    /// Its edges announce every service that they can serve.
    #[default]
    Active,
    /// Its edges announce nothing and go on serving what still arrives.
    Draining,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DatacenterStatus {
    /// Latest observations: `Ready`, whether a node is connected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Nodes that belong here.
    pub nodes: u32,
    /// Nodes whose agents are connected.
    pub connected_nodes: u32,
}

impl Spec for DatacenterSpec {
    type Status = DatacenterStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::Datacenter,
        group: super::GROUP,
        version: VERSION,
        kind: "Datacenter",
        plural: "datacenters",
        singular: "datacenter",
        short_names: &["dc"],
        scope: Scope::Cluster,
        name_format: "dns-label",
        columns: &[
            Column::new("Region", "string", ".spec.region", "Where it is"),
            Column::new("State", "string", ".spec.state", "Whether services are announced here"),
            Column::new("Nodes", "integer", ".status.nodes", "Nodes that belong here"),
            Column::new("Connected", "integer", ".status.connectedNodes", "Nodes connected"),
            READY,
            AGE,
        ],
        selectable_fields: &["spec.region", "spec.state"],
        description: "Datacenter is a site: its edge nodes announce services to their routers, its \
                      backend nodes serve them.",
    };

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<DatacenterSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
