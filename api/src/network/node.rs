//! Node: a host that runs the agent.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::LazyLock,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    reference::Reference,
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::{HostAddress, Label},
};

/// A host that runs the agent.
pub type Node = Object<NodeSpec>;

/// What is wanted of the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSpec {
    /// Name of the datacenter that the node stands in.
    pub datacenter: Label,
    /// What the node does.
    #[schemars(length(min = 1), extend("x-kubernetes-list-type" = "set"))]
    pub roles: Vec<NodeRole>,
    /// Addresses that encapsulated packets are sent from and to, at most one of each IP version;
    /// the first is the one that others send to. Must be the host's own.
    #[schemars(length(min = 1, max = 2), extend("x-kubernetes-list-type" = "atomic"))]
    pub tunnel_addresses: Vec<HostAddress>,
    /// Interfaces that packets of services come in by.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["interface"])
    )]
    pub uplinks: Vec<Uplink>,
    /// Number of the autonomous system that the node's BGP speaker is in. Edge nodes need one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub asn: Option<u32>,
    /// BGP identifier, unique among the node's neighbours. Default: the IPv4 tunnel address.
    #[serde(rename = "routerID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Ipv4Addr>")]
    pub router_id: Option<Ipv4Addr>,
}

/// What a node does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum NodeRole {
    /// Serves clients of services: takes packets out of tunnels.
    Backend,
    /// Announces services and carries their packets to backends.
    Edge,
}

/// An interface that packets of services come in by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Uplink {
    /// Name of the interface, for example `eth1`.
    #[schemars(length(min = 1, max = 15))]
    pub interface: String,
    /// Largest IP packet in bytes. Default: the interface's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1280, max = 9216))]
    pub mtu: Option<u32>,
    /// How the packet program is attached.
    #[serde(default)]
    pub xdp_mode: XdpMode,
}

/// How the packet program is attached to an interface.
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
pub enum XdpMode {
    /// In the driver where it can, in the generic path otherwise.
    #[default]
    Auto,
    /// In the generic path: any driver, slower.
    Generic,
    /// In the driver, or not at all.
    Native,
}

/// What is so, as the node's agent said last.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Latest observations: `Connected`, whether the agent is; `Applied`, whether it took its
    /// newest configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Version of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    /// Revision of the configuration in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Generation of the packet program's tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataplane_generation: Option<u64>,
}

impl NodeSpec {
    /// Whether the node has `role`.
    #[must_use]
    pub fn has_role(&self, role: NodeRole) -> bool {
        self.roles.contains(&role)
    }

    /// The BGP identifier: as given, else the IPv4 tunnel address.
    #[must_use]
    pub fn router_id(&self) -> Option<Ipv4Addr> {
        let tunnel = self.tunnel_addresses.iter().find_map(|address| match address.get() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        self.router_id.or(tunnel)
    }
}

impl Spec for NodeSpec {
    type Status = NodeStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::Node,
        group: super::GROUP,
        version: VERSION,
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["inode"],
        scope: Scope::Cluster,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Datacenter", "string", ".spec.datacenter", "Where the node stands"),
            Column::new("Roles", "string", ".spec.roles", "What the node does"),
            Column::new(
                "Connected",
                "string",
                ".status.conditions[?(@.type==\"Connected\")].status",
                "Whether its agent is connected",
            ),
            Column::new(
                "Applied",
                "string",
                ".status.conditions[?(@.type==\"Applied\")].status",
                "Whether its newest configuration is in force",
            ),
            Column::new("Revision", "integer", ".status.revision", "Configuration in force").wide(),
            Column::new("Addresses", "string", ".spec.tunnelAddresses", "Tunnel ends").wide(),
            Column::new("ASN", "integer", ".spec.asn", "Autonomous system").wide(),
            Column::new("Version", "string", ".status.agentVersion", "Of the agent").wide(),
            AGE,
        ],
        selectable_fields: &["spec.datacenter"],
        description: "Node is a host that runs the agent: an edge, which announces services and \
                      carries their packets to backends, a backend, or both.",
    };

    const REFERENCES: &'static [Reference] =
        &[Reference::using(&["spec", "datacenter"], ResourceKind::Datacenter)];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<NodeSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        if let [first, second] = self.tunnel_addresses.as_slice()
            && first.get().is_ipv4() == second.get().is_ipv4()
        {
            let path = spec.field("tunnelAddresses").index(1);
            errors.invalid(&path, second, "must be of the other IP version than the first");
        }
        for (index, uplink) in self.uplinks.iter().enumerate() {
            let name = &uplink.interface;
            let path = spec.field("uplinks").index(index).field("interface");
            // As the kernel's dev_valid_name.
            if name == "." || name == ".." || name.contains(['/', ':']) || !is_graphic(name) {
                errors.invalid(&path, name, "must be the name of an interface, such as eth1");
            }
        }
        if self.has_role(NodeRole::Edge) {
            if self.asn.is_none() {
                errors.required(&spec.field("asn"), "an edge speaks BGP");
            }
            if self.router_id().is_none() {
                let message = "an edge without an IPv4 tunnel address needs one";
                errors.required(&spec.field("routerID"), message);
            }
        }
        if let Some(router_id) = self.router_id
            && router_id.is_unspecified()
        {
            // RFC 6286 §2.1: non-zero.
            errors.invalid(&spec.field("routerID"), router_id, "must not be zero");
        }
        if let Some(asn) = self.asn {
            super::bgp_peer::check_asn(asn, &spec.field("asn"), errors);
        }
    }
}

fn is_graphic(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_graphic())
}
