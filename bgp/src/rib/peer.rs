//! One peer as the table knows it: what it may tell us, what it may be told, and how much of both
//! there is.

use std::net::{IpAddr, Ipv4Addr};

use super::outbox::Outbox;
use super::path::{Neighbour, SourceId, Verdict};
use crate::fsm::SessionTerms;
use crate::policy::{Connection, Policy};
use crate::types::{Family, PeerKind, PerFamily};
use crate::wire::fault::Disposition;

/// How many prefixes of one family a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLimit {
    /// One more is too many.
    pub prefixes_max: u32,
    /// What one too many costs.
    pub over: OverLimit,
}

/// What one prefix too many costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OverLimit {
    /// The session (RFC 4486 §4: Cease, maximum number of prefixes reached).
    #[default]
    EndSession,
    /// A warning; the prefix is not taken, until the peer says it again when there is room.
    Ignore,
}

/// What becomes of routes learnt from other peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LearntRoutes {
    /// They stay here: the peer is told our own announcements alone.
    #[default]
    Withhold,
    /// They are passed on, as far as policy lets them.
    Pass,
}

/// Next hop of routes that are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopMode {
    /// Ourselves: usual towards another AS.
    Own,
    /// Whoever told us: usual within an AS.
    Unchanged,
}

/// What the table is told of a peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerSettings {
    pub(crate) address: IpAddr,
    /// Our own BGP identifier.
    pub(crate) router_id: Ipv4Addr,
    pub(crate) connection: Connection,
    pub(crate) import: Policy,
    pub(crate) import_limit: PrefixLimit,
    pub(crate) blackhole: bool,
    pub(crate) export: Policy,
    pub(crate) learnt: LearntRoutes,
    pub(crate) export_max: Option<u32>,
    pub(crate) next_hop: Option<NextHopMode>,
}

/// What went on with a peer since it was configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// UPDATEs received.
    pub updates_in: u64,
    /// Prefixes announced by the peer.
    pub announced_in: u64,
    /// Prefixes that the peer had announced and withdrew. That its session ended is no withdrawal.
    pub withdrawn_in: u64,
    /// Announcements refused because our AS is in their path.
    pub rejected_loop: u64,
    /// Announcements refused by policy.
    pub rejected_policy: u64,
    /// Announcements refused as route leaks (RFC 9234).
    pub rejected_leak: u64,
    /// Announcements not taken for the sake of the peer's limit.
    pub rejected_limit: u64,
    /// Faults that cost an attribute (RFC 7606).
    pub faults_discard: u64,
    /// Faults that cost the routes of a message.
    pub faults_withdraw: u64,
    /// Faults that cost the session.
    pub faults_reset: u64,
    /// UPDATEs sent.
    pub updates_out: u64,
    /// Prefixes announced to the peer.
    pub announced_out: u64,
    /// Prefixes withdrawn from the peer.
    pub withdrawn_out: u64,
}

/// What the table has of one family and one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Prefixes that the peer announces to us.
    pub received: u32,
    /// Those that policy accepted.
    pub accepted: u32,
    /// Those of an earlier session that are kept (RFC 4724), or about to be replaced (RFC 7313).
    pub stale: u32,
    /// Prefixes that the peer holds from us.
    pub told: u32,
    /// Changes that wait until the peer takes them.
    pub waiting: usize,
    /// Prefixes were not taken for the sake of the import limit.
    pub over_limit_in: bool,
    /// Prefixes are not told for the sake of the export limit.
    pub over_limit_out: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RibPeer {
    pub(super) settings: PeerSettings,
    /// While a session is up.
    pub(super) terms: Option<Box<SessionTerms>>,
    /// What the peer's routes come from, during this session.
    pub(super) current: PerFamily<Option<SourceId>>,
    /// What is left of earlier sessions, or of before a refresh.
    pub(super) stale: PerFamily<Vec<SourceId>>,
    pub(super) outboxes: PerFamily<Outbox>,
    pub(super) counters: Counters,
    /// The limit was passed and said so, once a session.
    pub(super) warned: PerFamily<bool>,
}

impl PeerSettings {
    /// Whether nothing that the peer sends is kept (RFC 8212).
    pub(super) fn imports_nothing(&self) -> bool {
        self.import.constant().is_some_and(|verdict| !verdict.is_accept())
    }

    /// Whether the peer is told nothing (RFC 8212).
    pub(super) fn exports_nothing(&self) -> bool {
        self.export.constant().is_some_and(|verdict| !verdict.is_accept())
    }
}

impl RibPeer {
    pub(super) fn new(settings: PeerSettings) -> Self {
        Self {
            settings,
            terms: None,
            current: PerFamily::default(),
            stale: PerFamily::default(),
            outboxes: PerFamily::default(),
            counters: Counters::default(),
            warned: PerFamily::default(),
        }
    }

    pub(super) fn passes_learnt(&self) -> bool {
        self.settings.learnt == LearntRoutes::Pass
    }

    /// Whether a session is up that carries a family.
    pub(super) fn agrees_on(&self, family: Family) -> bool {
        let terms = self.terms.as_ref();
        terms.is_some_and(|terms| terms.negotiated.codec.families.contains(family))
    }

    /// Whether the peer may be told anything of a family.
    pub(super) fn listens(&self, family: Family) -> bool {
        self.agrees_on(family) && !self.settings.exports_nothing()
    }

    /// Whether the peer tells last resorts from other routes (RFC 9494 §4.3).
    pub(super) fn knows_long_lived(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.negotiated.peer_long_lived.is_some())
    }

    /// Whether anything waits to be told.
    pub(super) fn has_output(&self) -> bool {
        Family::ALL.into_iter().any(|family| !self.outboxes.get(family).is_settled())
    }

    pub(super) fn neighbour(&self) -> Option<Neighbour> {
        let negotiated = &self.terms.as_ref()?.negotiated;
        Some(Neighbour {
            kind: Some(negotiated.codec.peer_kind),
            router_id: negotiated.peer_router_id.to_bits(),
            address: self.settings.address,
        })
    }

    pub(super) fn kind(&self) -> Option<PeerKind> {
        self.terms.as_ref().map(|terms| terms.negotiated.codec.peer_kind)
    }
}

impl Counters {
    pub(super) const fn fault(&mut self, disposition: Disposition) {
        let counter = match disposition {
            Disposition::Discard => &mut self.faults_discard,
            Disposition::TreatAsWithdraw => &mut self.faults_withdraw,
            Disposition::Reset => &mut self.faults_reset,
        };
        *counter = counter.saturating_add(1);
    }

    pub(super) const fn judged(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Accepted => return,
            Verdict::Loop => &mut self.rejected_loop,
            Verdict::Policy => &mut self.rejected_policy,
            Verdict::Leak => &mut self.rejected_leak,
        };
        *counter = counter.saturating_add(1);
    }
}
