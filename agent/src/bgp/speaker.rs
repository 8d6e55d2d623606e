//! The speaker: the handle that the rest of the agent holds.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use isocast_bgp::{
    adj_out::Desired,
    fsm::{ConfigError, Stop},
    guard::ExportGuard,
    limits::ADVERTISEMENTS_MAX,
    wire::community::Communities,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::config::{Advertisement, PeerConfig, SpeakerConfig, Uid};
use super::listener::{self, Doors, WAITING_MAX};
use super::peer::{Ends, Orders, Peer, Wishes};
use super::status::{PeerStatus, PeerStatuses};

/// How long a shutdown waits for farewells.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(3);

/// What a speaker refuses. Whatever it refuses, it goes on with what it had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpeakerError {
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
    /// Two peers with one uid or one address.
    #[error("peers {0} and {1} are the same")]
    SamePeer(String, String),
    /// More prefixes than a speaker announces.
    #[error("{count} advertisements, at most {ADVERTISEMENTS_MAX} are possible")]
    TooManyAdvertisements {
        /// How many there were.
        count: usize,
    },
}

/// A running speaker. All its methods are level-triggered: each states the whole truth.
#[derive(Debug)]
pub struct BgpSpeaker {
    config: Arc<SpeakerConfig>,
    wishes: watch::Sender<Wishes>,
    statuses: watch::Sender<PeerStatuses>,
    peers: BTreeMap<Uid, watch::Sender<Orders>>,
    doors: Doors,
    tasks: JoinSet<()>,
    /// Aborted when dropped, at once and without a word.
    _listeners: JoinSet<()>,
}

impl BgpSpeaker {
    /// Starts a speaker without peers and with nothing to announce.
    ///
    /// # Errors
    /// A listening address that cannot be bound.
    pub fn start(config: SpeakerConfig) -> Result<Self, SpeakerError> {
        let doors = Doors::default();
        let mut listeners = JoinSet::new();
        for address in config.listen.iter().copied() {
            let listener = listener::bind(address)
                .map_err(|source| SpeakerError::Listen { address, source })?;
            listeners.spawn(listener::run(listener, Arc::clone(&doors)));
        }
        let forwarding_preserved = config.forwarding_preserved;
        let wishes = Wishes { forwarding_preserved, ..Wishes::default() };
        Ok(Self {
            config: Arc::new(config),
            wishes: watch::Sender::new(wishes),
            statuses: watch::Sender::new(PeerStatuses::new()),
            peers: BTreeMap::new(),
            doors,
            tasks: JoinSet::new(),
            _listeners: listeners,
        })
    }

    /// Replaces the set of peers: new ones are connected, changed ones reset only if the change
    /// needs it, missing ones are told (Cease) and forgotten.
    ///
    /// # Errors
    /// A peer that no session can run with; then nothing changes.
    pub fn set_peers(&mut self, peers: Vec<PeerConfig>) -> Result<(), SpeakerError> {
        let mut wanted = BTreeMap::<Uid, Arc<PeerConfig>>::new();
        for peer in peers {
            peer.session(&self.config).map_err(|source| {
                let (uid, name) = (Arc::clone(&peer.uid), peer.name.clone());
                SpeakerError::Peer { uid, name, source }
            })?;
            let twin =
                |other: &&Arc<PeerConfig>| other.uid == peer.uid || other.remote() == peer.remote();
            if let Some(other) = wanted.values().find(twin) {
                return Err(SpeakerError::SamePeer(other.name.clone(), peer.name));
            }
            wanted.insert(Arc::clone(&peer.uid), Arc::new(peer));
        }
        while self.tasks.try_join_next().is_some() {}
        self.remove_all_but(&wanted);
        self.doors.lock().retain(|_, door| !door.is_closed());
        for (uid, config) in wanted {
            match self.peers.get(&uid) {
                None => self.add(config)?,
                Some(orders) => {
                    let mut doors = self.doors.lock();
                    if let Some(door) = doors.remove(&orders.borrow().config.address) {
                        doors.insert(config.address, door);
                    }
                    orders.send_if_modified(|orders| {
                        let changed = orders.config != config;
                        orders.config = config;
                        changed
                    });
                }
            }
        }
        Ok(())
    }

    /// Replaces the set of announcements. Two entries for one prefix are one, with the communities
    /// of both.
    ///
    /// # Errors
    /// Too many of them; then nothing changes.
    pub fn set_advertisements(
        &self,
        advertisements: Vec<Advertisement>,
    ) -> Result<(), SpeakerError> {
        let mut merged = BTreeMap::<IpNet, Communities>::new();
        for Advertisement { prefix, mut communities } in advertisements {
            let known = merged.entry(prefix.trunc()).or_default();
            known.standard.append(&mut communities.standard);
            known.extended.append(&mut communities.extended);
            known.large.append(&mut communities.large);
        }
        if merged.len() > ADVERTISEMENTS_MAX {
            return Err(SpeakerError::TooManyAdvertisements { count: merged.len() });
        }
        let desired: Desired = merged.into_iter().map(|(p, c)| (p, Arc::new(c))).collect();
        self.wishes.send_if_modified(|wishes| {
            let changed = *wishes.desired != desired;
            if changed {
                wishes.desired = Arc::new(desired);
            }
            changed
        });
        Ok(())
    }

    /// Replaces the export guard: nothing outside these prefixes is ever announced.
    pub fn set_announceable(&self, prefixes: Vec<IpNet>) {
        let guard = ExportGuard::new(prefixes);
        self.wishes.send_if_modified(|wishes| {
            let changed = *wishes.guard != guard;
            if changed {
                wishes.guard = Arc::new(guard);
            }
            changed
        });
    }

    /// Says whether forwarding would outlive this process from now on: the F bit of later OPENs.
    pub fn set_forwarding_preserved(&self, preserved: bool) {
        self.wishes.send_if_modified(|wishes| {
            std::mem::replace(&mut wishes.forwarding_preserved, preserved) != preserved
        });
    }

    /// Says that the announcements given so far are all there are for now. End-of-RIB waits for
    /// this, though no longer than five seconds: it makes peers drop what we no longer announce.
    pub fn initial_set_complete(&self) {
        self.wishes
            .send_if_modified(|wishes| !std::mem::replace(&mut wishes.initial_set_complete, true));
    }

    /// Status of all peers, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<PeerStatuses> {
        self.statuses.subscribe()
    }

    /// Stops all sessions and waits until their farewells are delivered, or cannot be.
    pub async fn shutdown(mut self, stop: Stop) {
        for orders in self.peers.values() {
            orders.send_modify(|orders| orders.stop = Some(stop.clone()));
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(SHUTDOWN_WAIT, all).await.is_err() {
            tracing::warn!("BGP sessions did not end in time");
        }
    }

    fn remove_all_but(&mut self, wanted: &BTreeMap<Uid, Arc<PeerConfig>>) {
        let statuses = &self.statuses;
        let doors = &self.doors;
        self.peers.retain(|uid, orders| {
            let keep = wanted.contains_key(uid);
            if !keep {
                statuses.send_if_modified(|statuses| statuses.remove(uid).is_some());
                doors.lock().remove(&orders.borrow().config.address);
                orders.send_modify(|orders| orders.stop = Some(Stop::Deconfigure));
            }
            keep
        });
    }

    fn add(&mut self, config: Arc<PeerConfig>) -> Result<(), SpeakerError> {
        let (door, accepted) = mpsc::channel(WAITING_MAX);
        let uid = Arc::clone(&config.uid);
        let orders = watch::Sender::new(Orders { config: Arc::clone(&config), stop: None });
        let ends = Ends {
            orders: orders.subscribe(),
            wishes: self.wishes.subscribe(),
            accepted,
            statuses: self.statuses.clone(),
        };
        let (speaker, seed) = (Arc::clone(&self.config), self.seed(&uid));
        let peer = Peer::new(speaker, Arc::clone(&config), seed, ends).map_err(|source| {
            SpeakerError::Peer { uid: Arc::clone(&uid), name: config.name.clone(), source }
        })?;
        self.doors.lock().insert(config.address, door);
        let status = PeerStatus::new(config.name.clone());
        self.statuses.send_modify(|statuses| drop(statuses.insert(Arc::clone(&uid), status)));
        self.peers.insert(uid, orders);
        self.tasks.spawn(peer.run());
        Ok(())
    }

    /// The same for the same speaker and peer, different for any two.
    fn seed(&self, uid: &Uid) -> u64 {
        let digest = blake3::hash(uid.as_bytes());
        let mut word = [0; 8];
        word.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
        self.config.seed ^ u64::from_be_bytes(word) ^ u64::from(self.config.router_id.to_bits())
    }
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
        let communities = Communities::default();
        addresses
            .map(|address| Advertisement {
                prefix: IpNet::from(IpAddr::V4(address)),
                communities: communities.clone(),
            })
            .collect()
    }

    #[test]
    fn the_limit_of_advertisements_is_allowed_and_one_more_changes_nothing() {
        let speaker = speaker();

        speaker.set_advertisements(advertisements(ADVERTISEMENTS_MAX)).unwrap();
        let refused = speaker.set_advertisements(advertisements(ADVERTISEMENTS_MAX + 1));

        assert!(matches!(refused, Err(SpeakerError::TooManyAdvertisements { .. })));
        assert_eq!(speaker.wishes.borrow().desired.len(), ADVERTISEMENTS_MAX);
    }

    #[test]
    fn two_entries_for_one_prefix_are_merged() {
        let speaker = speaker();
        let entry = |text| Advertisement {
            prefix: "192.0.2.1/32".parse().unwrap(),
            communities: Communities::parse([text]).unwrap(),
        };

        speaker.set_advertisements(vec![entry("65010:1"), entry("no-export")]).unwrap();

        let desired = Arc::clone(&speaker.wishes.borrow().desired);
        let both = Communities::parse(["65010:1", "no-export"]).unwrap();
        assert_eq!(desired.values().map(|c| (**c).clone()).collect::<Vec<_>>(), [both]);
    }

    #[tokio::test]
    async fn a_set_with_a_bad_or_doubled_peer_leaves_the_former_peers() {
        let mut speaker = speaker();
        speaker.set_peers(vec![peer("a", 2)]).unwrap();
        let mut bad = peer("b", 3);
        bad.hold_time = Duration::from_secs(1);

        let invalid = speaker.set_peers(vec![bad]);
        let doubled = speaker.set_peers(vec![peer("b", 3), peer("c", 3)]);

        assert!(matches!(invalid, Err(SpeakerError::Peer { .. })));
        assert!(matches!(doubled, Err(SpeakerError::SamePeer(..))));
        assert!(speaker.status().borrow().keys().eq([&Uid::from("a")]));
        speaker.shutdown(Stop::Preserve).await;
    }
}
