//! The words of a node's local API: what an agent answers about its routing.
//!
//! Shared by the agent, which writes them, and by whoever reads them: over the node's socket, or
//! through the controller. Fields are only ever added.

pub mod dataplane;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use self::dataplane::{CAPTURE_PATH, COUNTERS_PATH, EXPLAIN_PATH, TRACE_PATH};
use crate::text::Time;

/// `GET /v1/bgp/peers`
pub const PEERS_PATH: &str = "/v1/bgp/peers";

/// `GET /v1/bgp/routes?family=…[&prefix=…][&limit=…][&cursor=…]`
pub const ROUTES_PATH: &str = "/v1/bgp/routes";

/// `GET /v1/bgp/advertisements[?limit=…][&cursor=…]`
pub const ADVERTISEMENTS_PATH: &str = "/v1/bgp/advertisements";

/// `GET /v1/why?prefix=…`
pub const WHY_PATH: &str = "/v1/why";

/// [`ImportPreviewView`]; takes a POST of a BGPPolicy.
pub const IMPORT_PREVIEW_PATH: &str = "/v1/bgp/import-preview";

/// `GET /v1/status`
pub const STATUS_PATH: &str = "/v1/status";

/// `GET /metrics`
pub const METRICS_PATH: &str = "/metrics";

/// Every path that the controller passes on and that takes a GET. All of them only read.
pub const RELAYED_PATHS: [&str; 10] = [
    ADVERTISEMENTS_PATH,
    CAPTURE_PATH,
    COUNTERS_PATH,
    EXPLAIN_PATH,
    METRICS_PATH,
    PEERS_PATH,
    ROUTES_PATH,
    STATUS_PATH,
    TRACE_PATH,
    WHY_PATH,
];

/// Every path that the controller passes on and that takes a POST. It only reads, too.
pub const RELAYED_POST_PATHS: [&str; 1] = [IMPORT_PREVIEW_PATH];

/// Largest body of a POST: no policy within the API's limits is larger.
pub const POST_BYTES_MAX: usize = 4 << 20;

/// Entries of a page, if nobody says how many.
pub const PAGE_DEFAULT: usize = 1000;

/// Most entries of a page.
pub const PAGE_MAX: usize = 5000;

/// Every peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeersView {
    /// By name.
    pub peers: Vec<PeerView>,
}

/// One peer and its session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerView {
    /// Its name.
    pub name: String,
    /// Identity of its configuration.
    pub uid: String,
    /// Where it is.
    pub address: IpAddr,
    /// Our end of the session.
    pub local_address: Option<IpAddr>,
    /// Its AS, as it said itself.
    pub asn: Option<u32>,
    /// Its BGP identifier.
    pub router_id: Option<Ipv4Addr>,
    /// State of the session.
    pub state: String,
    /// Since when.
    pub since: Option<Time>,
    /// Why the last session, or the last attempt at one, ended.
    pub last_error: Option<ErrorView>,
    /// Families that both ends agreed on.
    pub families: Vec<String>,
    /// Hold time that both ends agreed on; 0: none.
    pub hold_time_s: Option<u64>,
    /// Off, Agreed or Stale.
    pub graceful_restart: Option<String>,
    /// State of its BFD session.
    pub bfd: Option<String>,
    /// Prefixes that it announces.
    pub prefixes_received: u64,
    /// Those of them that policy accepted.
    pub prefixes_accepted: u64,
    /// Those of a former session that are kept.
    pub prefixes_stale: u64,
    /// Prefixes that it was told of.
    pub prefixes_sent: u64,
    /// Prefixes of this node that it was not told of.
    pub prefixes_withheld: u64,
    /// Changes that wait until it reads them.
    pub waiting: u64,
    /// UPDATEs from it.
    pub updates_received: u64,
    /// UPDATEs to it.
    pub updates_sent: u64,
    /// Established sessions that ended, since the agent started.
    pub flaps: u64,
    /// Faults in UPDATEs that sessions survived (RFC 7606).
    pub faults: u64,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorView {
    /// One CamelCase word.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// A page of routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutesView {
    /// Paths, those of one prefix together and its best first.
    pub routes: Vec<RouteView>,
    /// The next page's `cursor`; absent: that was all.
    pub next: Option<String>,
}

/// One path to a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteView {
    /// The prefix.
    pub prefix: IpNet,
    /// Who told us; absent: it is our own.
    pub peer: Option<String>,
    /// It is used and passed on.
    pub best: bool,
    /// It ties with the best.
    pub multipath: bool,
    /// Its session is down, its peer may be back soon.
    pub stale: bool,
    /// What import made of it: Accepted, or why not.
    pub verdict: String,
    /// The import policy's term that decided on it; only where one prefix is asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<String>,
    /// Where packets go; absent: to ourselves.
    pub next_hop: Option<IpAddr>,
    /// The ASes it came through, the nearest first.
    pub as_path: Vec<u32>,
    /// igp, egp or incomplete.
    pub origin: String,
    /// `MULTI_EXIT_DISC`.
    pub med: Option<u32>,
    /// `LOCAL_PREF`.
    pub local_pref: Option<u32>,
    /// Its communities.
    pub communities: Vec<String>,
}

/// What another import policy would change of what routers have told the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportPreviewView {
    /// Routers whose import policy it is, by name.
    pub peers: Vec<ImportPreviewPeer>,
}

/// What would change of one router's routes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportPreviewPeer {
    /// Its name.
    pub name: String,
    /// The node knows what it would say. Not while its session is down, nor of a router that may
    /// tell nothing: what such a one says is not kept (RFC 8212).
    pub known: bool,
    /// Prefixes that would be taken, and are not.
    pub gained: ChangedPrefixes,
    /// Prefixes that would no longer be taken.
    pub lost: ChangedPrefixes,
    /// Prefixes that would be taken with other attributes.
    pub changed: ChangedPrefixes,
}

/// Prefixes, the first thousand by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedPrefixes {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub prefixes: Vec<IpNet>,
}

/// A page of what the node announces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisementsView {
    /// By prefix.
    pub advertisements: Vec<AdvertisementView>,
    /// The next page's `cursor`; absent: that was all.
    pub next: Option<String>,
}

/// One prefix that the node carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdvertisementView {
    /// The prefix.
    pub prefix: IpNet,
    /// The node holds the right to announce it.
    pub announced: bool,
    /// Why, or why not: one CamelCase word.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
    /// Services at it: namespace/name.
    pub services: Vec<String>,
    /// Communities before policies.
    pub communities: Vec<String>,
    /// What became of it at each peer.
    pub peers: Vec<ToldView>,
}

/// Whether one peer was told of a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldView {
    /// Its name.
    pub peer: String,
    /// Since when it is told; absent: it is not.
    pub since: Option<Time>,
    /// Why it is not: one CamelCase word.
    pub withheld: Option<String>,
}

/// Everything that decides on one prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyView {
    /// The node that answers.
    pub node: String,
    /// The prefix.
    pub prefix: IpNet,
    /// Why it is, or is not, announced by the node itself; absent: no service has it.
    pub origin: Option<OriginView>,
    /// Every path to it, the best first.
    pub paths: Vec<RouteView>,
    /// What made the first path the best.
    pub best_by: Option<String>,
    /// What each peer was told of it.
    pub peers: Vec<PassageView>,
}

/// The node's own right to announce a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginView {
    /// The node holds it.
    pub announced: bool,
    /// Why, or why not: one CamelCase word.
    pub reason: String,
    /// The same as a sentence.
    pub message: String,
    /// Services at the prefix.
    pub services: Vec<OriginService>,
    /// What must all be open.
    pub gates: Vec<GateView>,
    /// Why it is announced although a gate is closed.
    pub hold: Option<String>,
    /// How many other nodes announce it; absent: the controller never said.
    pub other_announcers: Option<u32>,
    /// This node must not stop announcing it by itself.
    pub keeper: bool,
    /// The export guard, the last judge before the wire, lets it pass.
    pub permitted: bool,
    /// How many prefixes automation may still withdraw.
    pub withdrawals: BudgetView,
}

/// A service at a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OriginService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where its flows go.
    pub placement: String,
}

/// One thing that must be so for a prefix to be announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateView {
    /// Its name.
    pub name: String,
    /// It is so.
    pub open: bool,
    /// Why not: one CamelCase word.
    pub reason: Option<String>,
    /// The same as a sentence.
    pub message: Option<String>,
}

/// A withdrawal budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BudgetView {
    /// Prefixes that may still go now.
    pub left: usize,
    /// Prefixes that may go within a window.
    pub limit: usize,
    /// The window.
    pub window_s: u64,
}

/// What one peer was told of a prefix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassageView {
    /// Its name.
    pub peer: String,
    /// State of its session.
    pub state: String,
    /// It holds the prefix from us.
    pub told: bool,
    /// Since when.
    pub since: Option<Time>,
    /// A change waits until it reads it.
    pub waiting: bool,
    /// Where it is to send packets.
    pub next_hop: Option<IpAddr>,
    /// Why it is not told: one CamelCase word.
    pub withheld: Option<String>,
    /// The policy that was asked.
    pub policy: String,
    /// The term of it that decided.
    pub term: Option<String>,
    /// Communities that the route leaves with.
    pub communities: Vec<String>,
}

/// An answer that is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Why, as a sentence.
    pub error: String,
}
