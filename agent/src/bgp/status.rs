//! What a speaker reports of itself, as it changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use isocast_bgp::{fsm::State, speaker::Withheld};

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
    /// Our own prefixes that the peer has been told, in order.
    pub announced: Arc<[IpNet]>,
    /// Our own prefixes that it has not been told, and why.
    pub withheld: BTreeMap<IpNet, Withheld>,
    /// End-of-RIB was sent for every family of the session.
    pub initial_routes_sent: bool,
    /// Faults in UPDATEs that sessions survived.
    pub faults: u64,
}

impl PeerStatus {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            state: State::Idle,
            since: SystemTime::now(),
            last_error: None,
            announced: Arc::default(),
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
}
