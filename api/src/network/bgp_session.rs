//! BGPSession: one node's session with one router, as the node reports it.

use std::{net::IpAddr, sync::LazyLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    field::{Errors, FieldPath},
    meta::Condition,
    object::{Kind, Object, Spec},
    registry::{AGE, Column, ResourceKind, Scope, VERSION},
    schema,
    text::{Name, Time},
};

/// One node's session with one router.
pub type BgpSession = Object<BgpSessionSpec>;

/// Whose session it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpSessionSpec {
    /// Name of the node.
    pub node: Name,
    /// Name of the `BGPPeer`; with the router's address behind it where the peer is a whole prefix
    /// of routers.
    #[schemars(length(min = 1, max = 512))]
    pub peer: String,
}

/// What is so. Counts may be some seconds old.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpSessionStatus {
    /// Latest observations: `Established`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Idle, Connect, Active, OpenSent, OpenConfirm or Established (RFC 4271 §8.2.2); Unknown while
    /// the node is silent.
    pub state: String,
    /// Since when it is in that state, by the node's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Address of the router.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IpAddr>")]
    pub address: Option<IpAddr>,
    /// The node's end of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<IpAddr>")]
    pub local_address: Option<IpAddr>,
    /// The router's autonomous system, as it said itself.
    #[serde(rename = "peerASN", skip_serializing_if = "Option::is_none")]
    pub peer_asn: Option<u32>,
    /// Families that both ends agreed on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub families: Vec<String>,
    /// What becomes of routes when either end restarts (RFC 4724): Off, Agreed, or Stale while
    /// routes of the router's former session are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub graceful_restart: Option<String>,
    /// State of the BFD session (RFC 5880), if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bfd: Option<String>,
    /// Prefixes that the router announces to the node.
    pub prefixes_received: u32,
    /// Prefixes that the router was told of.
    pub prefixes_sent: u32,
    /// Prefixes of this node that the router was not told of; each `BGPAdvertisement` says why.
    pub prefixes_withheld: u32,
    /// Established sessions with the router that ended, since the agent started.
    pub flaps: u64,
    /// Why the last session, or the last attempt at one, ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<SessionError>,
}

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionError {
    /// One CamelCase word for programs, `HoldTimerExpired` for one.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

impl Spec for BgpSessionSpec {
    type Status = BgpSessionStatus;

    const KIND: Kind = Kind {
        resource_kind: ResourceKind::BgpSession,
        group: super::GROUP,
        version: VERSION,
        kind: "BGPSession",
        plural: "bgpsessions",
        singular: "bgpsession",
        short_names: &["bgps"],
        scope: Scope::Cluster,
        name_format: "dns-subdomain",
        columns: &[
            Column::new("Node", "string", ".spec.node", "Whose session it is"),
            Column::new("Peer", "string", ".spec.peer", "With whom"),
            Column::new("State", "string", ".status.state", "State of the session"),
            Column::new("Since", "date", ".status.since", "Time in that state"),
            Column::new("Received", "integer", ".status.prefixesReceived", "Prefixes from it"),
            Column::new("Sent", "integer", ".status.prefixesSent", "Prefixes it was told of"),
            Column::new("Withheld", "integer", ".status.prefixesWithheld", "Prefixes it was not"),
            Column::new("Address", "string", ".status.address", "Of the router").wide(),
            Column::new("ASN", "integer", ".status.peerASN", "Of the router").wide(),
            Column::new("BFD", "string", ".status.bfd", "State of its BFD session").wide(),
            Column::new("Flaps", "integer", ".status.flaps", "Sessions that ended").wide(),
            Column::new("Error", "string", ".status.lastError.code", "Why the last one ended")
                .wide(),
            AGE,
        ],
        selectable_fields: &["spec.node", "spec.peer", "status.state"],
        description: "BGPSession is one node's session with one router, as the node reports it. It \
                      comes and goes with its Node and its BGPPeer and can only be read.",
    };

    const REPORTED: bool = true;

    fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::object_schema::<BgpSessionSpec>);
        &SCHEMA
    }

    fn validate(&self, _old: Option<&Self>, _spec: &FieldPath, _errors: &mut Errors) {}
}
