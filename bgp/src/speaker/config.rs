//! What a speaker is told about itself and its peers.

use std::net::{IpAddr, Ipv4Addr};

use crate::fsm::{ConfigError, RestartState, SessionConfig};
use crate::limits::IMPORT_PREFIXES_DEFAULT;
use crate::policy::{Connection, Policy};
use crate::rib::{LearntRoutes, NextHopMode, OverLimit, PeerSettings, PrefixLimit};
use crate::types::Asn;

/// What a speaker is told about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpeakerConfig {
    /// Our AS.
    pub asn: Asn,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Paths of one prefix that share its traffic, as far as they tie with the best.
    pub multipath_max: usize,
    /// What this start of the process means for routes that peers still hold.
    pub restart: RestartState,
}

/// What a speaker is told about a peer. All but `session` takes effect without a reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Where the peer is. Of several equal routes that of the lowest address is best.
    pub address: IpAddr,
    /// The session with it.
    pub session: SessionConfig,
    /// What kind of neighbour it is, for policies.
    pub connection: Connection,
    /// What it may tell us.
    pub import: ImportConfig,
    /// What it may be told.
    pub export: ExportConfig,
}

/// What a peer may tell us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportConfig {
    /// Which routes are taken. Default: none (RFC 8212).
    pub policy: Policy,
    /// How many prefixes of one family, before policy.
    pub limit: PrefixLimit,
    /// Whether BLACKHOLE (RFC 7999) means something from this peer. Where it does not, it is a
    /// community like any other.
    pub blackhole: bool,
}

/// What a peer may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportConfig {
    /// Which routes, our own announcements among them. Default: none (RFC 8212).
    pub policy: Policy,
    /// What becomes of routes learnt from others.
    pub learnt: LearntRoutes,
    /// How many prefixes of one family; what is beyond waits until there is room.
    pub prefixes_max: Option<u32>,
    /// Next hop of routes learnt from others. Default: ourselves towards another AS, unchanged
    /// within ours.
    pub next_hop: Option<NextHopMode>,
}

/// Why a peer's configuration was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetPeerError {
    /// The session's part is not valid.
    #[error(transparent)]
    Session(#[from] ConfigError),
    /// See [`PEERS_MAX`](crate::limits::PEERS_MAX).
    #[error("too many peers")]
    TooMany,
}

impl PeerConfig {
    pub(super) fn settings(&self) -> PeerSettings {
        PeerSettings {
            address: self.address,
            router_id: self.session.router_id,
            connection: self.connection,
            import: self.import.policy.clone(),
            import_limit: self.import.limit,
            blackhole: self.import.blackhole,
            export: self.export.policy.clone(),
            learnt: self.export.learnt,
            export_max: self.export.prefixes_max,
            next_hop: self.export.next_hop,
        }
    }
}

impl ImportConfig {
    /// Whether nothing can pass, so that nothing is kept either.
    pub(super) fn is_shut(&self) -> bool {
        self.policy.constant().is_some_and(|verdict| !verdict.is_accept())
    }
}

impl Default for ImportConfig {
    fn default() -> Self {
        let prefixes_max = u32::try_from(IMPORT_PREFIXES_DEFAULT).unwrap_or(u32::MAX);
        Self {
            policy: Policy::reject_all(),
            limit: PrefixLimit { prefixes_max, over: OverLimit::EndSession },
            blackhole: false,
        }
    }
}

impl Default for ExportConfig {
    fn default() -> Self {
        Self {
            policy: Policy::reject_all(),
            learnt: LearntRoutes::Withhold,
            prefixes_max: None,
            next_hop: None,
        }
    }
}
