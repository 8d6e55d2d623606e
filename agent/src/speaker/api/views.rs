//! The API's own shapes of what the speaker knows.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use isocast_bgp::wire::next_hop::NextHop;
use serde::{Serialize, Serializer};

use crate::bgp::{PeerReport, RouteReport, words};
use crate::speaker::announcements::Announcement;
use crate::speaker::config::LOCAL;

/// An announcement, as it is asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct AnnouncementView {
    prefix: IpNet,
    #[serde(serialize_with = "next_hop")]
    next_hop: Option<IpAddr>,
    communities: Vec<String>,
}

/// One session.
#[derive(Debug, Serialize)]
pub(super) struct PeerView {
    name: String,
    address: IpAddr,
    asn: Option<u32>,
    state: String,
    since: String,
    last_error: Option<String>,
    routes_received: u64,
    routes_accepted: u64,
    routes_stale: u64,
    routes_sent: u64,
    updates_received: u64,
    updates_sent: u64,
    faults: u64,
}

/// One route.
#[derive(Debug, Serialize)]
pub(super) struct RouteView {
    prefix: IpNet,
    peer: Arc<str>,
    best: bool,
    next_hop: Option<IpAddr>,
    as_path: Vec<u32>,
    origin: &'static str,
    med: Option<u32>,
    local_pref: Option<u32>,
    communities: Vec<String>,
    stale: bool,
}

// === impl AnnouncementView ===

impl AnnouncementView {
    pub(super) fn new(prefix: IpNet, announcement: &Announcement) -> Self {
        let next_hop = announcement.next_hop;
        Self { prefix, next_hop, communities: words::communities(&announcement.communities) }
    }
}

// === impl PeerView ===

impl PeerView {
    pub(super) fn new(peer: &PeerReport) -> Self {
        let status = &peer.status;
        Self {
            name: status.name.clone(),
            address: peer.address,
            asn: peer.asn,
            state: status.state.to_string(),
            since: humantime::format_rfc3339_millis(status.since).to_string(),
            last_error: status.last_error.clone(),
            routes_received: peer.count(|counts| counts.received),
            routes_accepted: peer.count(|counts| counts.accepted),
            routes_stale: peer.count(|counts| counts.stale),
            routes_sent: peer.count(|counts| counts.told),
            updates_received: peer.counters.updates_in,
            updates_sent: peer.counters.updates_out,
            faults: status.faults,
        }
    }
}

// === impl RouteView ===

impl RouteView {
    pub(super) fn new(route: RouteReport) -> Self {
        let RouteReport { prefix, path, .. } = route;
        let attributes = path.attributes;
        Self {
            prefix,
            peer: path.peer.unwrap_or_else(|| LOCAL.into()),
            best: path.best,
            next_hop: path.next_hop.map(NextHop::address),
            as_path: attributes.as_path.0.iter().map(|asn| asn.0).collect(),
            origin: words::origin(attributes.origin),
            med: attributes.med,
            local_pref: attributes.local_pref,
            communities: words::communities(&attributes.communities),
            stale: path.stale,
        }
    }

    pub(super) fn peer(&self) -> &str {
        &self.peer
    }
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn next_hop<S: Serializer>(next_hop: &Option<IpAddr>, serializer: S) -> Result<S::Ok, S::Error> {
    match next_hop {
        None => serializer.serialize_str("self"),
        Some(address) => address.serialize(serializer),
    }
}
