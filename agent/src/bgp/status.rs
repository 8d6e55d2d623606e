//! What a speaker reports of itself, as it changes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ipnet::IpNet;
use isocast_bgp::{fsm::State, speaker::Withheld, types::FamilySet};

use super::config::Uid;

/// Status of all peers, by uid.
pub type PeerStatuses = BTreeMap<Uid, PeerStatus>;

/// Status of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Name for people.
    pub name: String,
    /// State of the session.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// Why the last session, or the last attempt at one, ended. Empty once a session is up.
    pub last_error: Option<String>,
    /// The same as one word.
    pub last_error_code: Option<&'static str>,
    /// Where it is.
    pub address: Option<IpAddr>,
    /// What the session is like; nothing: none is up.
    pub session: Option<SessionFacts>,
    /// Prefixes that the peer announces; may be some seconds old.
    pub received: u32,
    /// Prefixes of a former session that are kept (RFC 4724).
    pub stale: u32,
    /// Established sessions that ended.
    pub flaps: u64,
    /// Our own prefixes that the peer has been told, in order.
    pub announced: Arc<[IpNet]>,
    /// When its socket took the last of that; nothing: before anything changed.
    pub announced_at: Option<Instant>,
    /// Our own prefixes that it has not been told, and why.
    pub withheld: BTreeMap<IpNet, Withheld>,
    /// End-of-RIB was sent for every family of the session.
    pub initial_routes_sent: bool,
    /// Faults in UPDATEs that sessions survived.
    pub faults: u64,
}

/// What both ends of a session agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// Our end.
    pub local_address: Option<IpAddr>,
    /// The peer's AS.
    pub asn: u32,
    /// Families of the session.
    pub families: FamilySet,
    /// Routes survive a restart of either end.
    pub graceful_restart: bool,
}

impl PeerStatus {
    /// A peer of which nothing is known.
    #[cfg(test)]
    pub(crate) fn unknown() -> Self {
        Self::new(String::new())
    }

    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            state: State::Idle,
            since: SystemTime::now(),
            last_error: None,
            last_error_code: None,
            address: None,
            session: None,
            received: 0,
            stale: 0,
            flaps: 0,
            announced: Arc::default(),
            announced_at: None,
            withheld: BTreeMap::new(),
            initial_routes_sent: false,
            faults: 0,
        }
    }

    /// Number of our own prefixes that the peer has been told.
    #[must_use]
    pub fn prefixes_sent(&self) -> usize {
        self.announced.len()
    }

    /// What becomes of routes when either end restarts (RFC 4724), as one word; nothing: that is
    /// not known without a session.
    #[must_use]
    pub fn graceful_restart(&self) -> Option<&'static str> {
        match self.session {
            _ if self.stale > 0 => Some("Stale"),
            Some(facts) if facts.graceful_restart => Some("Agreed"),
            Some(_) => Some("Off"),
            None => None,
        }
    }
}
