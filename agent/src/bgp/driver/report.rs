//! What the [`Driver`] tells others: the state of every session, as it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;
use isocast_bgp::fsm::{Action, State};
use isocast_bgp::speaker::{PeerCounts, PeerId, Speaker};
use tokio::sync::watch;

use super::Driver;
use super::peers::{Peer, Peers};
use crate::bgp::status::{PeerStatus, PeerStatuses, SessionFacts};

/// Shortest time between two reports of news.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// The pause after a report, in times of what the report cost.
const PAUSE_FACTOR: u32 = 20;

/// How old counts of routes may be while nothing else changes.
const COUNTS_AGE_MAX: Duration = Duration::from_secs(5);

/// Shortest time between two malformed UPDATEs of a peer that are logged in full, as warnings.
const MALFORMED_PAUSE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Reports {
    statuses: watch::Sender<PeerStatuses>,
    due: bool,
    /// When to count again.
    count_at: Option<Instant>,
    not_before: Option<Instant>,
}

// === impl Reports ===

impl Reports {
    pub(super) const fn new(statuses: watch::Sender<PeerStatuses>) -> Self {
        Self { statuses, due: false, count_at: None, not_before: None }
    }

    /// Something changed.
    pub(super) const fn mark(&mut self) {
        self.due = true;
    }

    /// When to report, if there is something to report.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.due { self.not_before } else { self.count_at }
    }

    /// Takes note of what a session says.
    pub(super) fn note(&mut self, now: Instant, peers: &mut Peers, peer: PeerId, action: &Action) {
        let Some(peer) = peers.get_mut(peer) else { return };
        self.due = true;
        let (name, status) = (&peer.config.name, &mut peer.status);
        match action {
            Action::Established => {
                (status.last_error, status.last_error_code) = (None, None);
                tracing::info!(peer = %name, "BGP session established");
            }
            Action::Ended { state, reason } => {
                let error = reason.to_string();
                // An attempt that fails as the last one did is no news.
                if *state == State::Established || status.last_error.as_ref() != Some(&error) {
                    tracing::warn!(peer = %name, %state, %reason, "BGP session ended");
                }
                status.last_error = Some(error);
                status.last_error_code = Some(reason.code());
                let was_up = u64::from(*state == State::Established);
                status.flaps = status.flaps.saturating_add(was_up);
            }
            Action::EndOfRib(family) => {
                tracing::debug!(peer = %name, %family, "End-of-RIB received");
            }
            Action::Fault(fault) => {
                status.faults = status.faults.saturating_add(1);
                tracing::debug!(peer = %name, %fault, "UPDATE with a fault");
            }
            Action::Malformed { prefixes, body } => {
                // RFC 7606 §8: whoever looks for the cause needs all of the message.
                let body = hex(body);
                let quiet = peer.malformed_at.and_then(|at| at.checked_add(MALFORMED_PAUSE));
                if quiet.is_some_and(|until| now < until) {
                    tracing::debug!(peer = %name, ?prefixes, body, "UPDATE malformed");
                } else {
                    peer.malformed_at = Some(now);
                    tracing::warn!(peer = %name, ?prefixes, body, "UPDATE malformed");
                }
            }
            told => tracing::debug!(peer = %name, ?told, "BGP session"),
        }
    }
}

impl Driver {
    /// Publishes what changed, unless that was done a moment ago.
    pub(super) fn report(&mut self, now: Instant) {
        let counts = self.reports.count_at.is_some_and(|at| at <= now);
        let due = self.reports.due || counts;
        if !due || self.reports.not_before.is_some_and(|at| now < at) {
            return;
        }
        self.reports.due = false;
        let begun = Instant::now();
        for (id, peer) in self.peers.iter_mut() {
            refresh(id, peer, &self.speaker);
        }
        let peers = &self.peers;
        let is_news = self.reports.statuses.send_if_modified(|statuses| {
            let same = peers.iter().map(|(_, peer)| (&peer.config.uid, &peer.status));
            let changed = !same.eq(statuses.iter());
            if changed {
                let all = peers.iter();
                *statuses =
                    all.map(|(_, p)| (Arc::clone(&p.config.uid), p.status.clone())).collect();
            }
            changed
        });
        // What turned out to be no news is not to hold up what is.
        let least = if is_news { PAUSE_MIN } else { Duration::ZERO };
        let pause = begun.elapsed().saturating_mul(PAUSE_FACTOR).max(least);
        self.reports.not_before = begun.checked_add(pause);
        let is_up = |(_, peer): (_, &Peer)| peer.status.state == State::Established;
        let age = self.peers.iter().any(is_up).then_some(COUNTS_AGE_MAX.max(pause));
        self.reports.count_at = age.and_then(|age| begun.checked_add(age));
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        // Writing to a string does not fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// Brings a status up to date.
fn refresh(id: PeerId, peer: &mut Peer, speaker: &Speaker) {
    let Some(view) = speaker.peer(id) else { return };
    let status = &mut peer.status;
    if status.state != view.state {
        status.state = view.state;
        status.since = SystemTime::now();
    }
    let up = view.state == State::Established;
    let both = [view.counts.ipv4, view.counts.ipv6];
    let sum = |of: fn(&PeerCounts) -> u32| both.iter().map(of).fold(0, u32::saturating_add);
    status.address = Some(view.address);
    status.received = sum(|counts| counts.received);
    status.stale = sum(|counts| counts.stale);
    status.session = view.session.negotiated().filter(|_| up).map(|agreed| SessionFacts {
        local_address: agreed.codec.local_address,
        asn: agreed.peer_asn.0,
        families: agreed.codec.families,
        graceful_restart: agreed.peer_restart.is_some()
            && view.session.config().restart_time.is_some(),
    });
    status.initial_routes_sent = up && view.session.end_of_rib_owed().is_empty();
    let (announced, withheld) = own_prefixes(id, status, speaker);
    if !announced.iter().eq(status.announced.iter()) {
        status.announced = announced.into_iter().collect();
        status.announced_at = peer.told_at;
    }
    status.withheld = withheld;
}

type Withheld = BTreeMap<IpNet, isocast_bgp::speaker::Withheld>;

/// What the peer was told of our own prefixes. One that is no longer wanted counts until the peer
/// has been told that, too.
fn own_prefixes(id: PeerId, status: &PeerStatus, speaker: &Speaker) -> (BTreeSet<IpNet>, Withheld) {
    let (mut announced, mut withheld) = (BTreeSet::new(), Withheld::new());
    for prefix in speaker.local().keys() {
        match speaker.sent_prefix(id, prefix) {
            Some(sent) if sent.told => drop(announced.insert(*prefix)),
            Some(sent) => {
                if let Err(why) = sent.outcome {
                    withheld.insert(*prefix, why);
                }
            }
            None => {}
        }
    }
    let gone = status.announced.iter().filter(|prefix| !speaker.local().contains_key(prefix));
    announced.extend(
        gone.copied()
            .filter(|prefix| speaker.sent_prefix(id, prefix).is_some_and(|sent| sent.told)),
    );
    (announced, withheld)
}
