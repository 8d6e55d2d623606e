//! [`Routing`]: the speaker and what it announces, shared by the API and the reload of the file.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use isocast_bgp::origination::{self, Moment};
use parking_lot::Mutex;
use thiserror::Error;

use super::announcements::{Announcement, Announcements, Change, Refusal};
use super::config::Config;
use crate::bfd::{Bfd, Hops, SessionSpec};
use crate::bgp::{
    BgpSpeaker, KernelReport, PeerConfig, PeerReport, RoutesPage, RoutesQuery, SpeakerConfig,
    SpeakerError, Stop,
};
use crate::model::Remote;

/// See the module.
#[derive(Debug)]
pub(super) struct Routing {
    speaker: BgpSpeaker,
    /// Once a peer asks for it.
    bfd: Mutex<Option<Bfd>>,
    announcements: Mutex<Announcements>,
    epoch: Instant,
}

/// Why a change is refused. Nothing was changed then.
#[derive(Debug, Error)]
pub(super) enum RoutingError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Speaker(#[from] SpeakerError),
}

// === impl Routing ===

impl Routing {
    /// A speaker with the file's peers and announcements.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub(super) fn start(config: Config) -> Result<Self, SpeakerError> {
        let Config { speaker, peers, announcements, .. } = config;
        let speaker = BgpSpeaker::start(SpeakerConfig { seed: rand::random(), ..speaker })?;
        let announcements = Announcements::new(announcements);
        publish(&speaker, &announcements)?;
        // A file is read as a whole: there is nothing to wait for.
        speaker.initial_set_complete();
        let sessions = sessions(&peers);
        speaker.set_peers(peers)?;
        let routing = Self {
            speaker,
            bfd: Mutex::default(),
            announcements: Mutex::new(announcements),
            epoch: Instant::now(),
        };
        routing.set_bfd(sessions);
        Ok(routing)
    }

    /// Takes peers and announcements of a file that was read again; what may not be withdrawn
    /// stays, and is returned as the reason.
    ///
    /// # Errors
    /// Peers that the speaker refuses; then nothing changes.
    pub(super) fn reload(
        &self,
        config: Config,
    ) -> Result<Option<origination::Refusal>, SpeakerError> {
        let sessions = sessions(&config.peers);
        self.speaker.set_peers(config.peers)?;
        self.set_bfd(sessions);
        let mut announcements = self.announcements.lock();
        let held = announcements.set_file(self.now(), config.announcements).err();
        publish(&self.speaker, &announcements)?;
        Ok(held)
    }

    pub(super) fn announce(
        &self,
        prefix: IpNet,
        wanted: Announcement,
    ) -> Result<Change, RoutingError> {
        let mut announcements = self.announcements.lock();
        let change = announcements.announce(prefix, wanted)?;
        if change != Change::None {
            publish(&self.speaker, &announcements)?;
        }
        Ok(change)
    }

    pub(super) fn withdraw(
        &self,
        prefix: IpNet,
        confirmed: Option<usize>,
    ) -> Result<Announcement, RoutingError> {
        let mut announcements = self.announcements.lock();
        let withdrawn = announcements.withdraw(self.now(), prefix, confirmed)?;
        publish(&self.speaker, &announcements)?;
        Ok(withdrawn)
    }

    /// What is announced, in order.
    pub(super) fn announcements(&self) -> BTreeMap<IpNet, Announcement> {
        let announcements = self.announcements.lock();
        announcements.iter().map(|(prefix, it)| (*prefix, it.clone())).collect()
    }

    /// All peers.
    pub(super) async fn peers(&self) -> Result<Vec<PeerReport>, SpeakerError> {
        self.speaker.peers().await
    }

    /// Some routes, and where to go on.
    pub(super) async fn routes(&self, query: RoutesQuery) -> Result<RoutesPage, SpeakerError> {
        self.speaker.routes(query).await
    }

    /// What is installed in the kernel; nothing: routes are not installed.
    pub(super) fn kernel(&self) -> Option<KernelReport> {
        self.speaker.kernel()
    }

    /// Ends all sessions.
    pub(super) async fn shutdown(&self, stop: Stop) {
        self.speaker.shutdown(stop).await;
    }

    fn set_bfd(&self, sessions: Vec<SessionSpec>) {
        let mut running = self.bfd.lock();
        if running.is_none() && !sessions.is_empty() {
            match Bfd::start(rand::random()) {
                Ok(bfd) => {
                    let tell = self.speaker.bfd_ear();
                    bfd.set_listener(Some(Arc::new(move |peer, verdict| {
                        tell(peer, verdict.into())
                    })));
                    *running = Some(bfd);
                }
                Err(error) => tracing::error!(%error, "BFD does not start; hold times remain"),
            }
        }
        if let Some(bfd) = &*running {
            bfd.set_sessions(sessions);
        }
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The BFD sessions that peers ask for.
fn sessions(peers: &[PeerConfig]) -> Vec<SessionSpec> {
    let session = |peer: &PeerConfig| {
        let (bfd, Remote::Address(address)) = (peer.bfd?, peer.remote) else { return None };
        Some(SessionSpec {
            uid: peer.uid.clone(),
            name: peer.name.clone(),
            peer: address,
            local: peer.transport.local_address,
            hops: if bfd.multihop { Hops::Many } else { Hops::One },
            interval: bfd.interval,
            multiplier: bfd.multiplier,
        })
    };
    peers.iter().filter_map(session).collect()
}

/// The guard admits what the speaker announces of its own, and nothing else.
fn publish(speaker: &BgpSpeaker, announcements: &Announcements) -> Result<(), SpeakerError> {
    speaker.set_announceable(announcements.iter().map(|(prefix, _)| *prefix).collect());
    speaker.set_advertisements(announcements.advertisements())
}
