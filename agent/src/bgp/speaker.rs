//! The speaker: the handle that the rest of the program holds.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;
use isocast_bgp::{
    fsm::{ConfigError, Stop},
    guard::ExportGuard,
    limits::ADVERTISEMENTS_MAX,
    speaker::{Announcement, Announcements},
    wire::{community::Communities, next_hop::NextHop},
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::config::{Advertisement, PeerConfig, SpeakerConfig, Uid};
use super::desk::Desk;
use super::driver::Driver;
use super::kernel::KernelReport;
use super::mailbox::{BfdChange, End, Mailbox};
use super::query::{PeerReport, RoutesPage, RoutesQuery};
use super::status::PeerStatuses;

/// How long a shutdown waits for the thread, which itself waits a little less for farewells.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(4);

/// What a speaker refuses. Whatever it refuses, it goes on with what it had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpeakerError {
    /// The speaker has ended, or so many ask that one more has to wait.
    #[error("the speaker does not answer")]
    Busy,
    /// The kernel does not let its routes be read or written.
    #[error("cannot install routes")]
    Kernel(#[source] io::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A peer's configuration is not valid.
    #[error("peer {name}: {source}")]
    Peer {
        /// Its uid.
        uid: Uid,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: ConfigError,
    },
    /// Two peers with one uid or one place.
    #[error("peers {0} and {1} are the same")]
    SamePeer(String, String),
    /// Its thread, or what the thread waits with.
    #[error("cannot start the speaker's thread")]
    Thread(#[source] io::Error),
    /// More prefixes than a speaker announces.
    #[error("{count} advertisements, at most {ADVERTISEMENTS_MAX} are possible")]
    TooManyAdvertisements {
        /// How many there were.
        count: usize,
    },
}

/// A running speaker. What it is told is level-triggered: each method states the whole truth.
#[derive(Debug)]
pub struct BgpSpeaker {
    config: Arc<SpeakerConfig>,
    mailbox: Arc<Mailbox>,
    statuses: watch::Receiver<PeerStatuses>,
    kernel: Arc<Mutex<KernelReport>>,
    /// Resolves when the thread has ended.
    ended: watch::Receiver<()>,
}

// === impl BgpSpeaker ===

impl BgpSpeaker {
    /// Starts a speaker without peers and with nothing to announce, in the network namespace of the
    /// calling thread.
    ///
    /// # Errors
    /// A listening address that cannot be bound, or routes that cannot be installed.
    pub fn start(config: SpeakerConfig) -> Result<Self, SpeakerError> {
        let config = Arc::new(config);
        let (publish, statuses) = watch::channel(PeerStatuses::new());
        let (alive, ended) = watch::channel(());
        let kernel = Arc::new(Mutex::new(KernelReport::default()));
        let (driver, mailbox) = Driver::new(Arc::clone(&config), publish, &kernel)?;
        thread::Builder::new()
            .name("bgp".to_owned())
            .spawn(move || {
                if let Err(error) = driver.run() {
                    tracing::error!(%error, "the BGP thread cannot go on");
                }
                drop(alive);
            })
            .map_err(SpeakerError::Thread)?;
        Ok(Self { config, mailbox, statuses, kernel, ended })
    }

    /// Replaces the set of peers: new ones are connected, changed ones reset only if the change
    /// needs it, missing ones are told (Cease) and forgotten.
    ///
    /// # Errors
    /// A peer that no session can run with; then nothing changes.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) -> Result<(), SpeakerError> {
        let mut wanted = BTreeMap::<Uid, Arc<PeerConfig>>::new();
        for peer in peers {
            peer.check(&self.config).map_err(|source| {
                let (uid, name) = (Arc::clone(&peer.uid), peer.name.clone());
                SpeakerError::Peer { uid, name, source }
            })?;
            let twin =
                |other: &&Arc<PeerConfig>| other.uid == peer.uid || other.remote == peer.remote;
            if let Some(other) = wanted.values().find(twin) {
                return Err(SpeakerError::SamePeer(other.name.clone(), peer.name));
            }
            wanted.insert(Arc::clone(&peer.uid), Arc::new(peer));
        }
        self.mailbox.post(|inbox| inbox.peers = Some(wanted.into_values().collect()));
        Ok(())
    }

    /// Replaces the set of announcements. Two entries for one prefix are one, with the communities
    /// of both and the next hop of the first that has one.
    ///
    /// # Errors
    /// Too many of them; then nothing changes.
    pub fn set_advertisements(
        &self,
        advertisements: Vec<Advertisement>,
    ) -> Result<(), SpeakerError> {
        let announcements = merged(advertisements);
        if announcements.len() > ADVERTISEMENTS_MAX {
            return Err(SpeakerError::TooManyAdvertisements { count: announcements.len() });
        }
        self.mailbox.post(|inbox| inbox.announcements = Some(announcements));
        Ok(())
    }

    /// Replaces the export guard: nothing of our own outside these prefixes is ever announced.
    pub fn set_announceable(&self, prefixes: Vec<IpNet>) {
        let guard = ExportGuard::new(prefixes);
        self.mailbox.post(|inbox| inbox.guard = Some(guard));
    }

    /// Says whether forwarding would outlive this process from now on: the F bit of later OPENs.
    pub fn set_forwarding_preserved(&self, preserved: bool) {
        self.mailbox.post(|inbox| inbox.forwarding_preserved = Some(preserved));
    }

    /// Says that the announcements given so far are all there are for now. End-of-RIB waits for
    /// this, though no longer than five seconds: it makes peers drop what we no longer announce.
    pub fn initial_set_complete(&self) {
        self.mailbox.post(|inbox| inbox.initial_set_complete = true);
    }

    /// Tells the session of a peer what BFD found out about it.
    pub fn note_bfd(&self, peer: std::net::IpAddr, change: BfdChange) {
        self.mailbox.post(|inbox| inbox.note_bfd(peer, change));
    }

    /// [`Self::note_bfd`] for another thread, which may outlive the speaker.
    pub fn bfd_ear(&self) -> impl Fn(std::net::IpAddr, BfdChange) + Send + Sync + use<> {
        let mailbox = Arc::clone(&self.mailbox);
        move |peer, change| mailbox.post(|inbox| inbox.note_bfd(peer, change))
    }

    /// Status of all peers, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<PeerStatuses> {
        self.statuses.clone()
    }

    /// What the kernel holds of ours, as of now; nothing: routes are not installed.
    #[must_use]
    pub fn kernel(&self) -> Option<KernelReport> {
        self.config.kernel.map(|_installed| *self.kernel.lock())
    }

    /// Whom to ask about peers and routes, from anywhere.
    #[must_use]
    pub fn desk(&self) -> Desk {
        Desk::new(Arc::clone(&self.mailbox))
    }

    /// Every peer with its counters, as of now.
    ///
    /// # Errors
    /// See [`Desk::peers`].
    pub async fn peers(&self) -> Result<Vec<PeerReport>, SpeakerError> {
        self.desk().peers().await
    }

    /// A page of routes, as of now.
    ///
    /// # Errors
    /// See [`Desk::routes`].
    pub async fn routes(&self, query: RoutesQuery) -> Result<RoutesPage, SpeakerError> {
        self.desk().routes(query).await
    }

    /// Stops all sessions and waits until their farewells are delivered, or cannot be.
    pub async fn shutdown(&self, stop: Stop) {
        self.mailbox.post(|inbox| inbox.end = Some(End::Stop(stop)));
        let mut ended = self.ended.clone();
        // It never changes: an error says that the thread is gone.
        let gone = async { while ended.changed().await.is_ok() {} };
        if tokio::time::timeout(SHUTDOWN_WAIT, gone).await.is_err() {
            tracing::warn!("BGP sessions did not end in time");
        }
    }
}

impl Drop for BgpSpeaker {
    fn drop(&mut self) {
        self.mailbox.post(|inbox| {
            inbox.end.get_or_insert(End::Abandon);
        });
    }
}

fn merged(advertisements: Vec<Advertisement>) -> Announcements {
    let mut merged = BTreeMap::<IpNet, (Communities, Option<NextHop>)>::new();
    for Advertisement { prefix, next_hop, mut communities } in advertisements {
        let (known, hop) = merged.entry(prefix.trunc()).or_default();
        known.standard.append(&mut communities.standard);
        known.extended.append(&mut communities.extended);
        known.large.append(&mut communities.large);
        *hop = hop.or_else(|| next_hop.and_then(NextHop::new));
    }
    let announcement = |(prefix, (communities, next_hop))| {
        (prefix, Announcement { communities: Arc::new(communities), next_hop })
    };
    merged.into_iter().map(announcement).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn speaker() -> BgpSpeaker {
        BgpSpeaker::start(SpeakerConfig::new(65_010, Ipv4Addr::new(10, 0, 0, 1))).unwrap()
    }

    fn peer(uid: &str, last_octet: u8) -> PeerConfig {
        let mut peer = PeerConfig::new(uid, IpAddr::from([127, 0, 0, last_octet]), 65_020);
        peer.port = 1;
        peer
    }

    fn advertisements(count: usize) -> Vec<Advertisement> {
        let addresses = (0..count).map(|n| Ipv4Addr::from(u32::try_from(n).unwrap()));
        addresses
            .map(|address| Advertisement {
                prefix: IpNet::from(IpAddr::V4(address)),
                next_hop: None,
                communities: Communities::default(),
            })
            .collect()
    }

    #[test]
    fn the_limit_of_advertisements_is_allowed_and_one_more_is_refused() {
        let speaker = speaker();

        speaker.set_advertisements(advertisements(ADVERTISEMENTS_MAX)).unwrap();
        let refused = speaker.set_advertisements(advertisements(ADVERTISEMENTS_MAX + 1));

        assert!(matches!(refused, Err(SpeakerError::TooManyAdvertisements { .. })));
    }

    #[test]
    fn two_entries_for_one_prefix_are_merged() {
        let entry = |text| Advertisement {
            prefix: "192.0.2.1/32".parse().unwrap(),
            next_hop: None,
            communities: Communities::parse([text]).unwrap(),
        };

        let merged = merged(vec![entry("65010:1"), entry("no-export")]);

        let both = Communities::parse(["65010:1", "no-export"]).unwrap();
        assert_eq!(merged.values().map(|it| (*it.communities).clone()).collect::<Vec<_>>(), [both]);
    }

    #[tokio::test]
    async fn a_set_with_a_bad_or_doubled_peer_leaves_the_former_peers() {
        let speaker = speaker();
        speaker.set_peers(vec![peer("a", 2)]).unwrap();
        let mut bad = peer("b", 3);
        bad.hold_time = Duration::from_secs(1);

        let invalid = speaker.set_peers(vec![bad]);
        let doubled = speaker.set_peers(vec![peer("b", 3), peer("c", 3)]);

        assert!(matches!(invalid, Err(SpeakerError::Peer { .. })));
        assert!(matches!(doubled, Err(SpeakerError::SamePeer(..))));
        let peers = speaker.peers().await.unwrap();
        assert!(peers.iter().map(|peer| peer.status.name.as_str()).eq(["a"]));
        speaker.shutdown(Stop::Preserve).await;
    }
}
