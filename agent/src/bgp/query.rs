//! Questions that the driver's thread answers, about routes page by page: however many there are,
//! no answer holds up the sessions for long.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use isocast_bgp::fsm::State;
use isocast_bgp::policy::Policy;
use isocast_bgp::speaker::{
    Counters, Cursor, ImportChange, Judgement, Page, PathView, PeerCounts, Reason, SentView,
};
use isocast_bgp::types::{Family, PerFamily};
use tokio::sync::oneshot;

use super::config::Uid;
use super::status::PeerStatus;

/// Prefixes of one page: well below a millisecond.
pub(super) const PAGE_PREFIXES: usize = 256;

/// A question, and where the answer goes.
#[derive(Debug)]
pub(super) enum Question {
    Peers(oneshot::Sender<Vec<PeerReport>>),
    Prefix(IpNet, oneshot::Sender<PrefixReport>),
    PreviewImport(ImportQuery, oneshot::Sender<Option<Page<(IpNet, ImportChange)>>>),
    Routes(RoutesQuery, oneshot::Sender<RoutesPage>),
}

/// Which routes are asked for.
#[derive(Clone, Debug)]
pub struct RoutesQuery {
    /// Of this family.
    pub family: Family,
    /// Of this prefix alone.
    pub prefix: Option<IpNet>,
    /// From here on.
    pub from: Cursor,
}

/// Which changes are asked for.
#[derive(Clone, Debug)]
pub struct ImportQuery {
    /// By this policy.
    pub policy: Policy,
    /// Of what the peer of this name announces.
    pub peer: String,
    /// Of this family.
    pub family: Family,
    /// From here on.
    pub from: Cursor,
}

/// Some routes.
#[derive(Debug)]
pub struct RoutesPage {
    /// Those that are in use or could be, the best of a prefix first.
    pub routes: Vec<RouteReport>,
    /// Where the next page begins; nothing: that was all.
    pub next: Option<Cursor>,
}

/// One route.
#[derive(Debug)]
pub struct RouteReport {
    /// The prefix.
    pub prefix: IpNet,
    /// How it is reached, and the name of the peer that says so; no peer: it is our own.
    pub path: PathView<Arc<str>>,
    /// The import policy's term that decided on it; only if one prefix is asked about.
    pub term: Option<String>,
}

/// Everything about one prefix.
#[derive(Debug)]
pub struct PrefixReport {
    /// Every path, also those that import refused; the best first.
    pub paths: Vec<RouteReport>,
    /// What made the first one the best; nothing: none is usable.
    pub best_by: Option<Reason>,
    /// The export guard lets it pass as our own.
    pub permitted: bool,
    /// What became of it at each peer.
    pub passages: Vec<Passage>,
}

/// What became of a prefix at one peer.
#[derive(Debug)]
pub struct Passage {
    /// The peer's name.
    pub peer: String,
    /// State of its session.
    pub state: State,
    /// What it was told; nothing: there is nothing to tell.
    pub sent: Option<SentView>,
    /// The policy that decides what it is told.
    pub policy: String,
    /// What that policy says, if it is asked.
    pub judgement: Option<Judgement>,
}

/// One peer, as of now.
#[derive(Clone, Debug)]
pub struct PeerReport {
    /// What changes rarely.
    pub status: PeerStatus,
    /// Name of the policy that decides what it may tell us.
    pub import_policy: String,
    /// Where it is.
    pub address: IpAddr,
    /// Identity of its configuration.
    pub uid: Uid,
    /// Its AS, once it has said so.
    pub asn: Option<u32>,
    /// Its BGP identifier, once it has said so.
    pub router_id: Option<Ipv4Addr>,
    /// Hold time that both ends agreed on.
    pub hold_time: Option<Duration>,
    /// What went on since it was configured.
    pub counters: Counters,
    /// What is in the table of it now.
    pub counts: PerFamily<PeerCounts>,
}

// === impl PeerReport ===

impl PeerReport {
    /// The sum of a count over both families.
    #[must_use]
    pub fn count(&self, of: impl Fn(&PeerCounts) -> u32) -> u64 {
        u64::from(of(&self.counts.ipv4)).saturating_add(of(&self.counts.ipv6).into())
    }
}
