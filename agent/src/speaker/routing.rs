//! [`Routing`]: the speaker and what it announces, shared by the API and the reload of the file.

use std::collections::BTreeMap;
use std::time::Instant;

use ipnet::IpNet;
use isocast_bgp::origination::{self, Moment};
use parking_lot::Mutex;
use thiserror::Error;

use super::announcements::{Announcement, Announcements, Change, Refusal};
use super::config::Config;
use crate::bgp::{BgpSpeaker, PeerReport, RoutesPage, RoutesQuery, SpeakerError, Stop};

/// See the module.
#[derive(Debug)]
pub(super) struct Routing {
    speaker: BgpSpeaker,
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
        let Config { peers, announcements, .. } = config;
        let speaker = BgpSpeaker::start(config.speaker)?;
        let announcements = Announcements::new(announcements);
        publish(&speaker, &announcements)?;
        // A file is read as a whole: there is nothing to wait for.
        speaker.initial_set_complete();
        speaker.set_peers(peers)?;
        let (announcements, epoch) = (Mutex::new(announcements), Instant::now());
        Ok(Self { speaker, announcements, epoch })
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
        self.speaker.set_peers(config.peers)?;
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

    /// Ends all sessions.
    pub(super) async fn shutdown(&self, stop: Stop) {
        self.speaker.shutdown(stop).await;
    }

    fn now(&self) -> Moment {
        Moment(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The guard admits what the speaker announces of its own, and nothing else.
fn publish(speaker: &BgpSpeaker, announcements: &Announcements) -> Result<(), SpeakerError> {
    speaker.set_announceable(announcements.iter().map(|(prefix, _)| *prefix).collect());
    speaker.set_advertisements(announcements.advertisements())
}
