//! A route collector: BGP sessions with every border, over the management network.
//!
//! It announces nothing and counts what borders withdraw. Borders show it only what their own
//! edges announce, so a withdrawal is one even when another datacenter still has the prefix. That
//! a session ends is no withdrawal.

use std::net::{IpAddr, Ipv4Addr};

use isocast_agent::bgp::{
    BgpSpeaker, PeerConfig, SpeakerConfig, SpeakerError, State, Transport, accept_all,
};
use thiserror::Error;

use crate::{
    netns::{EnterError, Namespace},
    topology::{Node, Topology},
};

/// A running collector; it ends when this is dropped.
#[derive(Debug)]
pub struct Collector {
    speaker: BgpSpeaker,
    peer_count: usize,
    /// Withdrawals before the window began.
    before: u64,
}

/// A collector that cannot be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CollectorError {
    /// Its namespace.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The management network has no host address.
    #[error("the management network has no address for the collector")]
    NoAddress,
    /// The speaker.
    #[error("the collector's BGP speaker")]
    Speaker(#[from] SpeakerError),
    /// The thread that starts it.
    #[error("the collector's thread ended at once")]
    Ended,
}

impl Collector {
    /// Starts sessions with `borders`.
    ///
    /// # Errors
    /// The management network cannot be entered, or no session can run with a border.
    pub fn start<'a>(
        topology: &Topology,
        borders: impl Iterator<Item = &'a Node>,
    ) -> Result<Self, CollectorError> {
        let address = topology.management.subnet.hosts().next().ok_or(CollectorError::NoAddress)?;
        let peers: Vec<_> = borders.map(|border| peer(border, address)).collect();
        let peer_count = peers.len();
        let namespace = topology.management_namespace();
        // A thread stays in the namespace it entered, and so do those it starts.
        let started = std::thread::spawn(move || speaker(&namespace, address, peers));
        let speaker = started.join().map_err(|_panic| CollectorError::Ended)??;
        Ok(Self { speaker, peer_count, before: 0 })
    }

    /// Whether the sessions with all borders are up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        let statuses = self.speaker.status();
        let statuses = statuses.borrow();
        let up = statuses.values().filter(|status| status.state == State::Established);
        up.count() == self.peer_count
    }

    /// Forgets what happened so far.
    ///
    /// # Errors
    /// The speaker has ended.
    pub async fn begin_window(&mut self) -> Result<(), CollectorError> {
        self.before = self.withdrawn().await?;
        Ok(())
    }

    /// Withdrawals in this window.
    ///
    /// # Errors
    /// The speaker has ended.
    pub async fn withdrawals(&self) -> Result<u64, CollectorError> {
        Ok(self.withdrawn().await?.saturating_sub(self.before))
    }

    async fn withdrawn(&self) -> Result<u64, CollectorError> {
        Ok(self.speaker.peers().await?.iter().map(|peer| peer.counters.withdrawn_in).sum())
    }
}

fn speaker(
    namespace: &Namespace,
    address: Ipv4Addr,
    peers: Vec<PeerConfig>,
) -> Result<BgpSpeaker, CollectorError> {
    namespace.enter()?;
    let speaker = BgpSpeaker::start(SpeakerConfig::new(ASN, address))?;
    speaker.set_peers(peers)?;
    Ok(speaker)
}

fn peer(border: &Node, local: Ipv4Addr) -> PeerConfig {
    let address = IpAddr::V4(border.management_address);
    let asn = border.asn.unwrap_or_default();
    PeerConfig {
        transport: Transport { local_address: Some(local.into()), ..Transport::default() },
        import: accept_all(PREFIXES_MAX),
        ..PeerConfig::new(border.name.as_str(), address, asn)
    }
}

/// The collector's autonomous system, as borders know it.
const ASN: u32 = 65_099;
/// Most prefixes that a border may show.
const PREFIXES_MAX: u32 = 1000;
