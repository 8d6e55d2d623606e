//! [`Routing`]: the BGP speaker as the runtime uses it, from leases to what peers were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;
use isocast_api::agent;
use tokio::sync::watch;

use super::Start;
use crate::{
    bgp::{
        Advertisement, BgpSpeaker, FamilySet, PeerConfig, PeerStatus, PeerStatuses, SpeakerConfig,
        State, Stop,
    },
    model::{NodeModel, Peer, Remote, Uid},
    steer::Lease,
};

/// The speaker, once there is a configuration for it.
#[derive(Debug, Default)]
pub(super) struct Routing {
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    speaker: BgpSpeaker,
    status: watch::Receiver<PeerStatuses>,
    identity: (u32, Ipv4Addr),
    leases: Vec<Lease>,
}

// === impl Routing ===

impl Routing {
    /// Has a speaker with the model's identity, peers and export guard. One that takes over from
    /// a killed predecessor says so to its peers (RFC 4724 §4.1).
    pub(super) async fn ensure(&mut self, model: &NodeModel, start: Start) {
        if !model.roles.edge {
            return self.stop(Stop::Drain { text: "no longer an edge".into() }).await;
        }
        let identity = (model.asn, model.router_id);
        if self.running.as_ref().is_some_and(|running| running.identity != identity) {
            self.stop(Stop::Drain { text: "new identity".into() }).await;
        }
        if self.running.is_none() {
            self.running = begin(model, start);
        }
        let Some(running) = &mut self.running else { return };
        running.speaker.set_announceable(model.announceable.clone());
        let peers = model.peers.iter().filter_map(peer_config).collect();
        if let Err(error) = running.speaker.set_peers(peers) {
            tracing::error!(%error, "BGP peers refused; the former ones stay");
        }
    }

    /// Withdraws what is not in `leases` and announces nothing new.
    pub(super) fn retain(&mut self, leases: &[Lease]) {
        let Some(running) = &mut self.running else { return };
        let wanted: BTreeSet<IpAddr> = leases.iter().map(|lease| lease.address).collect();
        let mut kept = running.leases.clone();
        kept.retain(|lease| wanted.contains(&lease.address));
        running.set(kept);
    }

    /// Announces exactly `leases`.
    pub(super) fn announce(&mut self, leases: &[Lease]) {
        if let Some(running) = &mut self.running {
            running.set(leases.to_vec());
        }
    }

    /// From now on a prefix that is not announced is meant not to be.
    pub(super) fn initial_set_complete(&self) {
        if let Some(running) = &self.running {
            running.speaker.initial_set_complete();
        }
    }

    /// Waits for a change of any session. Cancellation-safe.
    pub(super) async fn changed(&mut self) {
        if let Some(running) = &mut self.running
            && running.status.changed().await.is_ok()
        {
            running.status.mark_unchanged();
            return;
        }
        std::future::pending().await
    }

    /// Addresses that at least one established peer was told.
    pub(super) fn announced(&self) -> BTreeSet<IpAddr> {
        let Some(running) = &self.running else { return BTreeSet::new() };
        let statuses = running.status.borrow();
        let up = statuses.values().filter(|peer| peer.state == State::Established);
        up.flat_map(|peer| peer.announced.iter().map(IpNet::addr)).collect()
    }

    /// The sessions in the form of the protocol.
    pub(super) fn peers(&self) -> Vec<agent::PeerStatus> {
        let Some(running) = &self.running else { return Vec::new() };
        let statuses: BTreeMap<Uid, PeerStatus> = running.status.borrow().clone();
        statuses.iter().map(|(uid, status)| report(uid, status)).collect()
    }

    /// Says whether forwarding would outlive this agent, for the F bit of later OPENs (RFC 4724
    /// §3). Not before every session is up: a fresh start has preserved nothing.
    pub(super) fn set_forwarding_preserved(&self, verify: impl FnOnce() -> bool) {
        let Some(running) = &self.running else { return };
        if running.status.borrow().values().all(|peer| peer.state == State::Established) {
            running.speaker.set_forwarding_preserved(verify());
        }
    }

    /// Ends all sessions without a word, so that peers keep the routes for the next agent.
    pub(super) async fn preserve(&mut self) {
        self.stop(Stop::Preserve).await;
    }

    async fn stop(&mut self, stop: Stop) {
        if let Some(running) = self.running.take() {
            running.speaker.shutdown(stop).await;
        }
    }
}

// === impl Running ===

impl Running {
    fn set(&mut self, leases: Vec<Lease>) {
        let advertisement = |lease: &Lease| Advertisement {
            prefix: IpNet::from(lease.address),
            communities: lease.communities.clone(),
        };
        let all = leases.iter().map(advertisement).collect();
        match self.speaker.set_advertisements(all) {
            Ok(()) => self.leases = leases,
            Err(error) => tracing::error!(%error, "announcements refused; the former ones stay"),
        }
    }
}

fn begin(model: &NodeModel, start: Start) -> Option<Running> {
    let identity = (model.asn, model.router_id);
    let took_over = start == Start::Adopted;
    let config = SpeakerConfig {
        restarting: took_over,
        forwarding_preserved: took_over,
        seed: u64::from(u32::from(model.router_id)),
        ..SpeakerConfig::new(model.asn, model.router_id)
    };
    match BgpSpeaker::start(config) {
        Ok(speaker) => {
            let status = speaker.status();
            Some(Running { speaker, status, identity, leases: Vec::new() })
        }
        Err(error) => {
            tracing::error!(%error, "BGP speaker does not start");
            None
        }
    }
}

/// None for a dynamic peer, which nobody can call.
fn peer_config(peer: &Peer) -> Option<PeerConfig> {
    let Remote::Address(address) = peer.remote else { return None };
    Some(PeerConfig {
        name: peer.name.clone(),
        local_address: peer.local_address,
        next_hop_ipv4: peer.next_hop_ipv4,
        next_hop_ipv6: peer.next_hop_ipv6,
        families: FamilySet { ipv4: peer.families.ipv4, ipv6: peer.families.ipv6 },
        hold_time: peer.hold_time,
        graceful_restart: peer.graceful_restart,
        ..PeerConfig::new(peer.uid.clone(), address, peer.peer_asn)
    })
}

fn report(uid: &Uid, status: &PeerStatus) -> agent::PeerStatus {
    agent::PeerStatus {
        uid: uid.to_string(),
        name: status.name.clone(),
        state: format!("{:?}", status.state),
        last_error: status.last_error.clone().unwrap_or_default(),
        prefixes_sent: u32::try_from(status.prefixes_sent()).unwrap_or(u32::MAX),
    }
}
