//! AnycastService: addresses that are served from every datacenter.

use std::{collections::BTreeSet, sync::LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    packets::{Fragments, MssClamp},
    policy::{Affinity, Failover, HealthCheck, Limits},
};
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    reference::Reference,
    registry::{AGE, Column, READY, ResourceKind, Scope, VERSION},
    schema,
    text::{Community, HostAddress, IpPrefix, Label, Name},
};

/// Addresses that are served from every datacenter.
pub type AnycastService = Object<AnycastServiceSpec>;

/// What is wanted of the service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnycastServiceSpec {
    /// The service's addresses, one claim each. Every edge that can serve announces them.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["claim"])
    )]
    pub addresses: Vec<ServiceAddress>,
    /// What clients connect to; also the ports that the backends listen on.
    #[schemars(
        length(min = 1, max = 64),
        extend(
            "x-kubernetes-list-type" = "map",
            "x-kubernetes-list-map-keys" = ["protocol", "port"]
        )
    )]
    pub ports: Vec<ServicePort>,
    /// Name of the project's BackendPool that serves.
    pub backend_pool: Name,
    /// How the edges tell a backend that serves from one that does not.
    #[serde(default)]
    pub health_check: HealthCheck,
    /// What happens when backends fail.
    #[serde(default)]
    pub failover: Failover,
    /// What becomes of established connections that the Internet moves elsewhere.
    #[serde(default)]
    pub affinity: Affinity,
    /// Ceilings on what the service takes in.
    #[serde(default)]
    pub limits: Limits,
    /// What becomes of fragments.
    #[serde(default)]
    pub fragments: Fragments,
    /// What becomes of segment sizes that do not fit the path.
    #[serde(default)]
    pub mss_clamp: MssClamp,
    /// Prefixes of the clients that are let in, of either family. Empty: everyone who is not
    /// denied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "set"))]
    pub allowed_sources: Vec<IpPrefix>,
    /// Prefixes of the clients that are kept out. The longest prefix that covers a client decides,
    /// whichever of the two lists it stands in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "set"))]
    pub denied_sources: Vec<IpPrefix>,
    /// BGP communities that the service's routes carry, for example `65010:100`, `65010:1:2` or
    /// `no-export`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "set"))]
    pub communities: Vec<Community>,
}

/// One address of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAddress {
    /// Name of the project's AddressClaim that holds the address.
    pub claim: Name,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePort {
    /// Name of the port, unique in the service. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Label>,
    /// Transport protocol.
    #[serde(default)]
    pub protocol: TransportProtocol,
    /// Port number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// Transport protocols.
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
#[serde(rename_all = "UPPERCASE")]
pub enum TransportProtocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

/// What is so, in every datacenter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AnycastServiceStatus {
    /// `metadata.generation` that the rest of the status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Latest observations. `Programmed`: every edge has it in its tables. `Announced`: it is
    /// announced somewhere. `Healthy`: enough backends serve. `Ready`: all of these.
    /// `FullyEnforced`: the spec asks for nothing that this version does not do yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The service's addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub addresses: Vec<HostAddress>,
    /// The same per datacenter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub datacenters: Vec<ServiceDatacenterStatus>,
}

/// A service's state in one datacenter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceDatacenterStatus {
    /// Name of the datacenter.
    pub name: String,
    /// Latest observations: `Programmed`, `Announced`, `Healthy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Names of the nodes that announce the service to at least one router.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub announced_by: Vec<String>,
}

impl Spec for AnycastServiceSpec {
    type Status = AnycastServiceStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::AnycastService,
        group: super::GROUP,
        version: VERSION,
        kind: "AnycastService",
        plural: "anycastservices",
        singular: "anycastservice",
        short_names: &["acs", "anycast"],
        scope: Scope::Namespaced,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Addresses", "string", ".status.addresses", "The service's addresses"),
            Column::new("Backend Pool", "string", ".spec.backendPool", "Who serves"),
            condition("Programmed", ".status.conditions[?(@.type==\"Programmed\")].status").wide(),
            condition("Announced", ".status.conditions[?(@.type==\"Announced\")].status"),
            condition("Healthy", ".status.conditions[?(@.type==\"Healthy\")].status"),
            Column::new(
                "Datacenters",
                "string",
                ".status.datacenters[*].name",
                "Where the service is known",
            )
            .wide(),
            READY,
            AGE,
        ],
        selectable_fields: &["spec.backendPool"],
        description: "AnycastService is a set of addresses that every datacenter announces and \
                      serves: clients reach the nearest one, and another when it fails.",
    };

    const REFERENCES: &'static [Reference] = &[
        Reference::using(&["spec", "addresses", "*", "claim"], ResourceKind::AddressClaim),
        Reference::using(&["spec", "backendPool"], ResourceKind::BackendPool),
    ];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<AnycastServiceSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        for (index, port) in self.ports.iter().enumerate() {
            let repeats = |other: &ServicePort| other.name.is_some() && other.name == port.name;
            if let Some(name) = &port.name
                && self.ports.iter().take(index).any(repeats)
            {
                errors.duplicate(&spec.field("ports").index(index).field("name"), name);
            }
        }
        let health_check = spec.field("healthCheck");
        self.health_check.validate(&health_check, errors);
        if self.probe_port().is_none() {
            let message = "or give http: there is no TCP port among ports that could be probed";
            errors.required(&health_check.field("tcp"), message);
        }
        self.failover.validate(&spec.field("failover"), errors);
        self.mss_clamp.validate(&spec.field("mssClamp"), errors);
        self.limits.validate(&spec.field("limits"), errors);
        let allowed: BTreeSet<_> = self.allowed_sources.iter().collect();
        for (index, prefix) in self.denied_sources.iter().enumerate() {
            if allowed.contains(prefix) {
                let path = spec.field("deniedSources").index(index);
                errors.invalid(&path, prefix, "is in allowedSources as well");
            }
        }
    }
}

impl std::fmt::Display for TransportProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

impl AnycastServiceSpec {
    /// The port that health checks connect to: as given, else the service's first TCP port.
    #[must_use]
    pub fn probe_port(&self) -> Option<u16> {
        let first_tcp = || self.ports.iter().find(|port| port.protocol == TransportProtocol::Tcp);
        self.health_check.port().or_else(|| first_tcp().map(|port| port.port))
    }
}

const fn condition(name: &'static str, json_path: &'static str) -> Column {
    Column::new(name, "string", json_path, "See the condition of that name")
}
