//! [`Routing`]: the BGP speaker as the runtime uses it, from leases to what peers were told.

mod peers;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::ControlFlow,
    sync::Arc,
    time::{Instant, SystemTime},
};

use ipnet::IpNet;
use isocast_api::agent;
use tokio::sync::watch;

pub(crate) use self::told::{PeerTold, Told};
use self::{
    peers::{is_dynamic, peer_config},
    told::milliseconds,
};
use super::forwarding::Start;
use crate::{
    bfd,
    bgp::{
        Advertisement, BGP_PORT, BfdChange, BgpSpeaker, Desk, PeerStatus, PeerStatuses,
        SpeakerConfig, State, Stop, words,
    },
    model::{NodeModel, Peer, Uid},
    steer::Lease,
};

/// The speaker, once there is a configuration for it.
#[derive(Debug, Default)]
pub(super) struct Routing {
    running: Option<Running>,
    told: Told,
}

#[derive(Debug)]
struct Running {
    speaker: BgpSpeaker,
    status: watch::Receiver<PeerStatuses>,
    identity: Identity,
    leases: Vec<Lease>,
}

// === impl Routing ===

impl Routing {
    /// Has a speaker with the model's identity and peers, that lets nothing leave which is not
    /// `announceable`. One that takes over from a killed predecessor says so to its peers (RFC 4724
    /// §4.1).
    pub(super) async fn ensure(&mut self, model: &NodeModel, announceable: &[IpNet], start: Start) {
        if !model.roles.edge {
            return self.stop(Stop::Drain { text: "no longer an edge".into() }).await;
        }
        let identity = identity(model);
        if self.running.as_ref().is_some_and(|running| running.identity != identity) {
            self.stop(Stop::Drain { text: "new identity".into() }).await;
        }
        if self.running.is_none() {
            self.running = begin(model, start);
        }
        let Some(running) = &mut self.running else { return };
        running.speaker.set_announceable(announceable.to_vec());
        if let Err(error) = running.set_peers(&model.peers) {
            tracing::error!(
                error = format!("{error:#}"),
                "BGP peers refused; the former ones stay"
            );
        }
    }

    /// Tells the sessions what BFD finds out.
    pub(super) fn bfd_listener(&self) -> Option<bfd::Listener> {
        let tell = self.running.as_ref()?.speaker.bfd_ear();
        Some(Arc::new(move |peer, verdict| {
            let change = match verdict {
                bfd::Verdict::Up => BfdChange::Up,
                bfd::Verdict::Lost { control_plane_independent } => {
                    BfdChange::Down { control_plane_independent }
                }
            };
            tell(peer, change);
        }))
    }

    /// Withdraws what is not in `leases` and announces nothing new. Whether anything went.
    pub(super) fn retain(&mut self, leases: &[Lease]) -> bool {
        let Some(running) = &mut self.running else { return false };
        let wanted: BTreeSet<IpAddr> = leases.iter().map(|lease| lease.address).collect();
        let mut kept = running.leases.clone();
        kept.retain(|lease| wanted.contains(&lease.address));
        let goes = kept.len() < running.leases.len();
        running.set(kept);
        goes
    }

    /// Announces exactly `leases`, and lets nothing leave which is not `announceable`.
    pub(super) fn announce(&mut self, leases: &[Lease], announceable: &[IpNet]) {
        if let Some(running) = &mut self.running {
            running.speaker.set_announceable(announceable.to_vec());
            running.set(leases.to_vec());
        }
    }

    /// Waits until every established peer was told what is announced now, no less and no more, and
    /// says when the last one's socket took it; nothing if there is no peer to tell.
    pub(super) fn when_told(&self) -> impl Future<Output = Option<Instant>> + use<> {
        let running = self.running.as_ref();
        let leases = running.into_iter().flat_map(|running| &running.leases);
        let wanted: BTreeSet<IpNet> = leases.map(|lease| lease.address.into()).collect();
        let status = running.map(|running| running.status.clone());
        async move {
            let mut status = status?;
            loop {
                match told_at(&status.borrow_and_update(), &wanted) {
                    ControlFlow::Break(at) => return at,
                    ControlFlow::Continue(()) => {}
                }
                status.changed().await.ok()?;
            }
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
    pub(super) fn peers(&self, bfd: Option<&bfd::Statuses>) -> Vec<agent::PeerStatus> {
        let Some(running) = &self.running else { return Vec::new() };
        let statuses: BTreeMap<Uid, PeerStatus> = running.status.borrow().clone();
        let bfd = |uid: &Uid| Some(bfd?.get(uid)?.state.to_string());
        statuses.iter().map(|(uid, status)| report(uid, status, bfd(uid))).collect()
    }

    /// Takes note of what the sessions have told since the last time.
    pub(super) fn follow(&mut self) {
        match &self.running {
            Some(running) => self.told.follow(&running.status.borrow(), SystemTime::now()),
            None => self.told = Told::default(),
        }
    }

    /// Who was told what, since when.
    pub(super) const fn told(&self) -> &Told {
        &self.told
    }

    /// Where to ask about peers and routes.
    pub(super) fn desk(&self) -> Option<Desk> {
        self.running.as_ref().map(|running| running.speaker.desk())
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
    fn set_peers(&self, peers: &[Peer]) -> anyhow::Result<()> {
        let peers = peers.iter().map(peer_config).collect::<Result<_, _>>()?;
        Ok(self.speaker.set_peers(peers)?)
    }

    fn set(&mut self, leases: Vec<Lease>) {
        if leases == self.leases {
            return;
        }
        let advertisement = |lease: &Lease| Advertisement {
            prefix: IpNet::from(lease.address),
            next_hop: None,
            communities: lease.communities.clone(),
        };
        let all = leases.iter().map(advertisement).collect();
        match self.speaker.set_advertisements(all) {
            Ok(()) => self.leases = leases,
            Err(error) => tracing::error!(%error, "announcements refused; the former ones stay"),
        }
    }
}

/// What takes a new speaker to change.
type Identity = (u32, Ipv4Addr, Vec<SocketAddr>);

fn identity(model: &NodeModel) -> Identity {
    (model.asn, model.router_id, listen(model))
}

/// Only peers that connect themselves make us listen: an edge is no server.
fn listen(model: &NodeModel) -> Vec<SocketAddr> {
    if !model.peers.iter().any(|peer| peer.passive || is_dynamic(peer)) {
        return Vec::new();
    }
    let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    everywhere.map(|address| SocketAddr::new(address, BGP_PORT)).to_vec()
}

/// When every established peer had been told what is wanted; nothing if there is none. Goes on while
/// one has not.
fn told_at(peers: &PeerStatuses, wanted: &BTreeSet<IpNet>) -> ControlFlow<Option<Instant>> {
    let is_told = |peer: &PeerStatus| {
        let announced: BTreeSet<IpNet> = peer.announced.iter().copied().collect();
        let is_told = |it: &IpNet| announced.contains(it) || peer.withheld.contains_key(it);
        announced.is_subset(wanted) && wanted.iter().all(is_told)
    };
    let up = peers.values().filter(|peer| peer.state == State::Established);
    if up.clone().all(is_told) {
        return ControlFlow::Break(up.filter_map(|peer| peer.announced_at).max());
    }
    ControlFlow::Continue(())
}

fn begin(model: &NodeModel, start: Start) -> Option<Running> {
    let took_over = start == Start::Adopted;
    let config = SpeakerConfig {
        restarting: took_over,
        forwarding_preserved: took_over,
        listen: listen(model),
        seed: rand::random(),
        ..SpeakerConfig::new(model.asn, model.router_id)
    };
    match BgpSpeaker::start(config) {
        Ok(speaker) => {
            let status = speaker.status();
            Some(Running { speaker, status, identity: identity(model), leases: Vec::new() })
        }
        Err(error) => {
            tracing::error!(%error, "BGP speaker does not start");
            None
        }
    }
}

fn report(uid: &Uid, status: &PeerStatus, bfd: Option<String>) -> agent::PeerStatus {
    let session = status.session.as_ref();
    let address = |address: Option<IpAddr>| address.map(|it| it.to_string()).unwrap_or_default();
    agent::PeerStatus {
        uid: uid.to_string(),
        name: status.name.clone(),
        state: format!("{:?}", status.state),
        last_error: status.last_error.clone().unwrap_or_default(),
        prefixes_sent: u32::try_from(status.prefixes_sent()).unwrap_or(u32::MAX),
        since_ms: milliseconds(status.since),
        last_error_code: status.last_error_code.unwrap_or_default().to_owned(),
        address: address(status.address),
        local_address: address(session.and_then(|session| session.local_address)),
        asn: session.map(|session| session.asn).unwrap_or_default(),
        families: session.map(|it| words::families(it.families)).unwrap_or_default(),
        prefixes_received: status.received,
        prefixes_withheld: u32::try_from(status.withheld.len()).unwrap_or(u32::MAX),
        flaps: status.flaps,
        graceful_restart: status.graceful_restart().unwrap_or_default().to_owned(),
        bfd: bfd.unwrap_or_default(),
    }
}
