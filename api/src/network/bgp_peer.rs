//! BGPPeer: a router that nodes announce services to.
//!
//! Every field's description ends with what a change of it costs: *live* touches no session,
//! *soft refresh* judges routes anew within the session, *reset* takes a new session.

mod session;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::session::{Bfd, MaxPrefixes, Password, PeerRole};
use super::Family;
use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    reference::Reference,
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::{Duration, Name, Prefix},
};

/// A router that nodes announce services to.
pub type BgpPeer = Object<BgpPeerSpec>;

/// What is wanted of the sessions with the router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPeerSpec {
    /// What kind of neighbour the router is: decides the policies, role and limits that hold
    /// where none are named. A change is a soft refresh, and a reset if it changes the role.
    #[serde(default)]
    pub connection: Connection,
    /// Names of the nodes that speak with the router. Either this or `nodeSelector`. A change is
    /// live.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "set"))]
    pub nodes: Vec<Name>,
    /// Selects the nodes that speak with the router by their labels. Either this or `nodes`. A
    /// change is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,
    /// The router's address. Either this or `prefix`. A change is a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Whoever connects from this prefix is such a router (a dynamic peer). Either this or
    /// `address`. A change is a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Prefix>,
    /// Number of the router's autonomous system. A change is a reset.
    #[serde(rename = "peerASN")]
    #[schemars(range(min = 1))]
    pub peer_asn: u32,
    /// The node's end of the session. Default: the kernel's choice. A change is a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_address: Option<IpAddr>,
    /// Next hop of IPv4 routes. Default: the node's end of an IPv4 session. A change is a soft
    /// refresh.
    #[serde(rename = "nextHopIPv4", default, skip_serializing_if = "Option::is_none")]
    pub next_hop_ipv4: Option<Ipv4Addr>,
    /// Next hop of IPv6 routes. Default: the node's end of an IPv6 session; on an IPv4 session the
    /// uplink's first global IPv6 address. A change is a soft refresh.
    #[serde(rename = "nextHopIPv6", default, skip_serializing_if = "Option::is_none")]
    pub next_hop_ipv6: Option<Ipv6Addr>,
    /// Routes of which IP versions are exchanged. A change is a reset.
    #[serde(default = "both_families")]
    #[schemars(length(min = 1), extend("x-kubernetes-list-type" = "set"))]
    pub families: Vec<Family>,
    /// How long either side waits for a sign of life before it gives the session up: 3s to 1h, in
    /// whole seconds. A change is live and holds from the next session on.
    #[serde(default = "default_hold_time")]
    pub hold_time: Duration,
    /// Whether the router is asked to keep routes while the agent restarts (RFC 4724). A change is
    /// live and holds from the next session on.
    #[serde(default)]
    pub graceful_restart: GracefulRestart,
    /// Notices within milliseconds that the router is gone. Default: off. A change is live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<Bfd>,
    /// What the node is to the router (RFC 9234); routers that disagree refuse the session.
    /// Default: Customer for Transit, Peer for IXP and PNI, RouteServerClient for RouteServer, none
    /// for Fabric. A change is a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<PeerRole>,
    /// Whether packets from the router must have crossed no other router (RFC 5082). It must send
    /// with TTL 255. May not be given beside `multihop`. A change is a reset.
    #[serde(default)]
    pub ttl_security: bool,
    /// Most hops to a router that is not on the same link: 2 to 255. A change is a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 255))]
    pub multihop: Option<u8>,
    /// Whether the node waits for the router to connect. With `prefix` it always does. A change is
    /// live.
    #[serde(default)]
    pub passive: bool,
    /// Signs TCP segments (RFC 2385). Default: unsigned. A change is a reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// How many prefixes of a family may come from the router, and go to it. A change is live.
    #[serde(default)]
    pub max_prefixes: MaxPrefixes,
    /// Whether IPv4 routes may have IPv6 next hops (RFC 8950). A change is a reset.
    #[serde(default)]
    pub extended_next_hop: bool,
    /// Whether routes must have the router's AS first in their path (RFC 4271 §6.3). Default: yes,
    /// but not from a RouteServer, which leaves its own out (RFC 7947 §2.2.2). A change is a reset.
    #[serde(rename = "enforceFirstAS", default, skip_serializing_if = "Option::is_none")]
    pub enforce_first_as: Option<bool>,
    /// Name of the BGPPolicy for routes from the router. Default: the built-in one of
    /// `connection`. A change is a soft refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub import_policy: Option<Name>,
    /// Name of the BGPPolicy for routes to the router. Default: the built-in one of `connection`.
    /// A change is a soft refresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export_policy: Option<Name>,
}

/// Kinds of neighbours.
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
pub enum Connection {
    /// A router of the same datacenter.
    #[default]
    Fabric,
    /// A network at the same Internet exchange.
    IXP,
    /// A network at the other end of a private interconnect.
    PNI,
    /// The route server of an Internet exchange.
    RouteServer,
    /// A network that carries traffic to all others.
    Transit,
}

/// Selects nodes by their labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeSelector {
    /// Labels that a node must have, with these values.
    #[schemars(length(min = 1, max = 16))]
    pub match_labels: BTreeMap<String, String>,
}

/// Graceful restart (RFC 4724).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[serde(default)]
pub struct GracefulRestart {
    /// Whether it is offered.
    pub mode: GracefulRestartMode,
    /// How long the router keeps the routes of an agent that is restarting: 1s to 4095s, in whole
    /// seconds. Keep it short: some routers ignore BFD meanwhile.
    pub restart_time: Duration,
}

/// Whether graceful restart is offered.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum GracefulRestartMode {
    /// Routes go when the session does.
    Disabled,
    /// The router keeps routes while the agent restarts.
    Enabled,
}

/// What is so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPeerStatus {
    /// Latest observations: `Established`, whether every session is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The sessions, one per node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["node"]))]
    pub sessions: Vec<SessionStatus>,
}

/// One node's session with the router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// Name of the node.
    pub node: String,
    /// Idle, Connect, Active, OpenSent, OpenConfirm or Established (RFC 4271 §8.2.2).
    pub state: String,
    /// Why the session was last closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Prefixes announced to the router.
    #[serde(default)]
    pub prefixes_sent: u32,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self { mode: GracefulRestartMode::Enabled, restart_time: Duration::from_secs(30) }
    }
}

impl Spec for BgpPeerSpec {
    type Status = BgpPeerStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::BgpPeer,
        group: super::GROUP,
        version: VERSION,
        kind: "BGPPeer",
        plural: "bgppeers",
        singular: "bgppeer",
        short_names: &["peer"],
        scope: Scope::Cluster,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Connection", "string", ".spec.connection", "Kind of neighbour"),
            Column::new("Address", "string", ".spec.address", "The router's address"),
            Column::new("ASN", "integer", ".spec.peerASN", "The router's autonomous system"),
            Column::new(
                "Established",
                "string",
                ".status.conditions[?(@.type==\"Established\")].status",
                "Whether every session is established",
            ),
            Column::new("Nodes", "string", ".spec.nodes", "Nodes that speak with it").wide(),
            Column::new("Hold Time", "string", ".spec.holdTime", "Of the sessions").wide(),
            AGE,
        ],
        selectable_fields: &["spec.address", "spec.connection"],
        description: "BGPPeer is a router that nodes announce services to, and how they speak with \
                      it.",
    };

    const REFERENCES: &'static [Reference] = &[
        Reference::using(&["spec", "importPolicy"], ResourceKind::BgpPolicy),
        Reference::using(&["spec", "exportPolicy"], ResourceKind::BgpPolicy),
    ];

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<BgpPeerSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, spec: &FieldPath, errors: &mut Errors) {
        match (self.nodes.is_empty(), &self.node_selector) {
            (true, None) => errors.required(&spec.field("nodes"), "or give nodeSelector"),
            (false, Some(_)) => {
                errors.forbidden(&spec.field("nodeSelector"), "may not be given beside nodes");
            }
            _ => {}
        }
        self.check_remote(spec, errors);
        check_asn(self.peer_asn, &spec.field("peerASN"), errors);
        if let Some(local) = self.local_address {
            let path = spec.field("localAddress");
            match self.remote_is_ipv4() {
                Some(is_ipv4) if is_ipv4 != local.is_ipv4() => {
                    let remote = if self.prefix.is_some() { "prefix" } else { "address" };
                    let message = format!("must be of the same IP version as {remote}");
                    errors.invalid(&path, local, message);
                }
                _ => check_peer_address(local, &path, errors),
            }
        }
        if let Some(next_hop) = self.next_hop_ipv4 {
            check_peer_address(next_hop.into(), &spec.field("nextHopIPv4"), errors);
        }
        if let Some(next_hop) = self.next_hop_ipv6 {
            let path = spec.field("nextHopIPv6");
            if next_hop.is_unicast_link_local() {
                errors.invalid(&path, next_hop, "must be a global address");
            } else {
                check_peer_address(next_hop.into(), &path, errors);
            }
        }
        // RFC 4271 §4.2: zero or at least three seconds; zero would never notice a dead peer.
        check_seconds(self.hold_time, 3, 3600, &spec.field("holdTime"), errors);
        // RFC 4724 §3: twelve bits.
        let path = spec.field("gracefulRestart").field("restartTime");
        check_seconds(self.graceful_restart.restart_time, 1, 4095, &path, errors);
        if self.ttl_security && self.multihop.is_some() {
            let message = "may not be given beside multihop: packets arrive with another TTL";
            errors.forbidden(&spec.field("ttlSecurity"), message);
        }
        if let Some(bfd) = &self.bfd {
            bfd.validate(&spec.field("bfd"), errors);
        }
        if let Some(password) = &self.password {
            password.validate(&spec.field("password"), errors);
        }
    }
}

impl BgpPeerSpec {
    /// What the node is to the router: as given, or as the kind of neighbour implies.
    #[must_use]
    pub fn role(&self) -> Option<PeerRole> {
        self.role.or(match self.connection {
            Connection::Fabric => None,
            Connection::IXP | Connection::PNI => Some(PeerRole::Peer),
            Connection::RouteServer => Some(PeerRole::RouteServerClient),
            Connection::Transit => Some(PeerRole::Customer),
        })
    }

    /// Whether the path must begin with the router's AS.
    #[must_use]
    pub fn enforces_first_as(&self) -> bool {
        self.enforce_first_as.unwrap_or(self.connection != Connection::RouteServer)
    }

    /// Most prefixes of a family from the router; none: no limit.
    #[must_use]
    pub fn max_prefixes_inbound(&self) -> Option<u32> {
        self.max_prefixes.inbound.or(match self.connection {
            Connection::Fabric => None,
            Connection::IXP | Connection::PNI => Some(100_000),
            Connection::RouteServer => Some(500_000),
            Connection::Transit => Some(2_000_000),
        })
    }

    /// Most prefixes of a family to the router; none: no limit.
    #[must_use]
    pub fn max_prefixes_outbound(&self) -> Option<u32> {
        self.max_prefixes.outbound.or(match self.connection {
            Connection::Fabric => None,
            Connection::IXP | Connection::PNI | Connection::RouteServer | Connection::Transit => {
                Some(10_000)
            }
        })
    }

    fn check_remote(&self, spec: &FieldPath, errors: &mut Errors) {
        match (self.address, self.prefix) {
            (None, None) => errors.required(&spec.field("address"), "or give prefix"),
            (Some(_), Some(_)) => {
                errors.forbidden(&spec.field("prefix"), "may not be given beside address");
            }
            (Some(address), None) => check_peer_address(address, &spec.field("address"), errors),
            (None, Some(_)) => {}
        }
    }

    fn remote_is_ipv4(&self) -> Option<bool> {
        let address = self.address.or_else(|| self.prefix.map(|prefix| prefix.get().addr()));
        address.map(|address| address.is_ipv4())
    }
}

/// Refuses numbers that no autonomous system has.
pub(super) fn check_asn(asn: u32, path: &FieldPath, errors: &mut Errors) {
    // AS_TRANS (RFC 6793 §9), and the last ones of each width (RFC 7300).
    if matches!(asn, 23_456 | 65_535 | u32::MAX) {
        errors.invalid(path, asn, "is reserved");
    }
}

fn check_peer_address(address: IpAddr, path: &FieldPath, errors: &mut Errors) {
    let mapped = matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some());
    let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    if address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || broadcast
        || mapped
    {
        errors.invalid(path, address, "must be a unicast address");
    }
}

fn check_seconds(value: Duration, min: u64, max: u64, path: &FieldPath, errors: &mut Errors) {
    let ms = value.as_millis();
    if !(min * 1000..=max * 1000).contains(&ms) || !ms.is_multiple_of(1000) {
        errors.invalid(path, value, format!("must be whole seconds from {min}s to {max}s"));
    }
}

fn both_families() -> Vec<Family> {
    vec![Family::IPv4, Family::IPv6]
}

fn default_hold_time() -> Duration {
    Duration::from_secs(9)
}
