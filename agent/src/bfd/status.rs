//! What is known of sessions from outside.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use isocast_bgp::bfd::{Diagnostic, Discards, State};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::priority::Priority;

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Name of the BGP peer.
    pub name: String,
    /// The peer's address.
    pub peer: IpAddr,
    /// The state.
    pub state: State,
    /// What the peer says of its own.
    pub remote_state: State,
    /// Why the session last went down.
    pub diagnostic: Diagnostic,
    /// Since when it is in its state.
    pub since: SystemTime,
    /// How often the peer was lost.
    pub failures: u64,
    /// The XDP program answers the peer.
    pub is_reflected: bool,
    /// How long the peer may be silent.
    pub detection_time: Duration,
    /// Why there are no packets.
    pub problem: Option<String>,
}

/// All sessions, by the uid of their BGP peer.
pub type Statuses = BTreeMap<Arc<str>, SessionStatus>;

/// What can be read at any time, from any thread.
#[derive(Clone, Debug)]
pub struct Readout {
    pub(super) statuses: watch::Receiver<Statuses>,
    pub(super) totals: Arc<Mutex<Totals>>,
}

/// What is counted over all sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) discards: Discards,
    pub(super) send_failures: u64,
    pub(super) priority: Priority,
}
