//! What a speaker and its peers are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use isocast_bgp::{
    adj_in::ImportPolicy,
    fsm::{ConfigError, ConnectMode, PeerAs, SessionConfig},
    types::{Asn, FamilySet, PerFamily},
    wire::{community::Communities, next_hop::NextHop},
};
use tokio::sync::mpsc;

use super::status::RouteEvent;

/// Identity of a peer across renames.
pub type Uid = Arc<str>;

/// The TCP port of BGP (RFC 4271 §8.2.1).
const PORT: u16 = 179;

/// Configuration of a speaker, for its lifetime.
#[derive(Clone, Debug)]
pub struct SpeakerConfig {
    /// Our AS.
    pub asn: u32,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// This process took over from one that died (the R bit of graceful restart).
    pub restarting: bool,
    /// The data plane kept forwarding meanwhile (the F bit).
    pub forwarding_preserved: bool,
    /// Where to accept connections of peers; empty: nowhere.
    pub listen: Vec<SocketAddr>,
    /// Where changes of accepted routes go. A full channel stops reading from the peer.
    pub routes: Option<mpsc::Sender<RouteEvent>>,
    /// Spreads the timers of speakers that start together.
    pub seed: u64,
}

/// Configuration of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Identity.
    pub uid: Uid,
    /// Name for people.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// Its TCP port.
    pub port: u16,
    /// Its AS.
    pub peer_asn: u32,
    /// Source of our connections, if not the kernel's choice.
    pub local_address: Option<IpAddr>,
    /// Next hop of IPv4 prefixes, if not the session's own address.
    pub next_hop_ipv4: Option<Ipv4Addr>,
    /// Next hop of IPv6 prefixes, if not the session's own address or its interface's.
    pub next_hop_ipv6: Option<Ipv6Addr>,
    /// Families to offer.
    pub families: FamilySet,
    /// Hold time to propose.
    pub hold_time: Duration,
    /// How long the peer keeps routes while we restart; nothing: not offered.
    pub graceful_restart: Option<Duration>,
    /// Who connects.
    pub connect: ConnectMode,
    /// What to do with the peer's routes.
    pub import: ImportPolicy,
}

/// One prefix to announce to all peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The prefix.
    pub prefix: IpNet,
    /// Its communities.
    pub communities: Communities,
}

impl SpeakerConfig {
    /// A speaker that starts from nothing, listens nowhere and reports no routes.
    #[must_use]
    pub const fn new(asn: u32, router_id: Ipv4Addr) -> Self {
        Self {
            asn,
            router_id,
            restarting: false,
            forwarding_preserved: false,
            listen: Vec::new(),
            routes: None,
            seed: 0,
        }
    }
}

impl PeerConfig {
    /// A peer that we connect to, with both families, a hold time of 9 s, and no graceful restart.
    #[must_use]
    pub fn new(uid: impl Into<Uid>, address: IpAddr, peer_asn: u32) -> Self {
        Self {
            uid: uid.into(),
            name: address.to_string(),
            address,
            port: PORT,
            peer_asn,
            local_address: None,
            next_hop_ipv4: None,
            next_hop_ipv6: None,
            families: FamilySet::BOTH,
            hold_time: Duration::from_secs(9),
            graceful_restart: None,
            connect: ConnectMode::Active,
            import: ImportPolicy::DenyAll,
        }
    }

    /// Where to connect to.
    pub(super) const fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Whether going from `self` to `new` takes other sockets.
    pub(super) fn needs_reconnect(&self, new: &Self) -> bool {
        self.remote() != new.remote() || self.local_address != new.local_address
    }

    /// The session's part of the configuration.
    pub(super) fn session(&self, speaker: &SpeakerConfig) -> Result<SessionConfig, ConfigError> {
        let ipv6 = self.next_hop_ipv6.map(|global| NextHop::V6 { global, link_local: None });
        let peer_as = PeerAs::Number(Asn(self.peer_asn));
        let config = SessionConfig {
            connect: self.connect,
            families: self.families,
            hold_time: self.hold_time,
            restart_time: self.graceful_restart,
            next_hops: PerFamily { ipv4: self.next_hop_ipv4.map(NextHop::V4), ipv6 },
            ..SessionConfig::new(Asn(speaker.asn), speaker.router_id, peer_as)
        };
        config.validate()?;
        Ok(config)
    }
}
