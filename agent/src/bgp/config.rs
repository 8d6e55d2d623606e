//! What a speaker and its peers are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use isocast_bgp::{
    fsm::{ConfigError, ConnectMode, HelperConfig, PeerAs, RestartState, Role, SessionConfig},
    limits::CONNECT_RETRY_MAX,
    policy::{Connection, Policy},
    speaker::{self as core, ExportConfig, ImportConfig, LearntRoutes, OverLimit, PrefixLimit},
    types::{Asn, FamilySet, PerFamily},
    wire::{community::Communities, next_hop::NextHop},
};

use super::kernel::KernelConfig;
use super::md5::Md5Key;
use crate::model::{Bfd, Remote};

/// Identity of a peer across renames.
pub type Uid = Arc<str>;

/// The TCP port of BGP (RFC 4271 §8.2.1).
pub const BGP_PORT: u16 = 179;

/// Peers that one prefix admits unless told otherwise.
pub const DYNAMIC_PEERS_DEFAULT: u32 = 100;

/// Prefixes taken from a peer unless told otherwise: more than the Internet has.
pub const IMPORT_PREFIXES_DEFAULT: u32 = 4_000_000;

/// Paths of one prefix that are shown as sharing its traffic.
const MULTIPATH_MAX: usize = 64;

/// Largest TTL: what a peer with GTSM expects of a neighbour (RFC 5082 §3).
const TTL_MAX: u8 = 255;

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
    /// Spreads the timers of speakers that start together.
    pub seed: u64,
    /// Where to install learnt routes; nothing: nowhere.
    pub kernel: Option<KernelConfig>,
}

/// Configuration of one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Identity.
    pub uid: Uid,
    /// Name for people.
    pub name: String,
    /// Where it is, or where such peers come from.
    pub remote: Remote,
    /// Its TCP port.
    pub port: u16,
    /// Most peers at a time, if they come from a prefix.
    pub peers_max: u32,
    /// Its AS.
    pub peer_as: PeerAs,
    /// How its connections are made.
    pub transport: Transport,
    /// Next hop of IPv4 prefixes, if not the session's own address.
    pub next_hop_ipv4: Option<Ipv4Addr>,
    /// Next hop of IPv6 prefixes, if not the session's own address or its interface's.
    pub next_hop_ipv6: Option<Ipv6Addr>,
    /// Families to offer.
    pub families: FamilySet,
    /// Whether to offer IPv6 next hops for IPv4 (RFC 8950).
    pub extended_next_hop: bool,
    /// Hold time to propose.
    pub hold_time: Duration,
    /// Longest wait between attempts to connect.
    pub connect_retry_max: Duration,
    /// How long the peer keeps routes while we restart, and we its; nothing: not offered.
    pub graceful_restart: Option<Duration>,
    /// Who connects.
    pub connect: ConnectMode,
    /// What kind of neighbour it is.
    pub connection: Connection,
    /// What we are to it (RFC 9234); nothing: not said.
    pub role: Option<Role>,
    /// Whether its AS must be first in the path of its routes (RFC 4271 §6.3).
    pub enforce_first_as: bool,
    /// What is taken from it.
    pub import: ImportConfig,
    /// What it is told.
    pub export: ExportConfig,
    /// How its death is noticed early; nothing: by the hold time alone.
    pub bfd: Option<Bfd>,
}

/// How connections with a peer are made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Source of our connections, if not the kernel's choice.
    pub local_address: Option<IpAddr>,
    /// Most hops to the peer; nothing: it is on the same link.
    pub multihop: Option<NonZeroU8>,
    /// Whether its packets must prove by their TTL that they come from no farther (RFC 5082).
    pub ttl_security: bool,
    /// Key of TCP MD5 signatures (RFC 2385).
    pub md5: Option<Md5Key>,
}

/// One prefix to announce to all peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The prefix.
    pub prefix: IpNet,
    /// Its next hop, if not each session's own.
    pub next_hop: Option<IpAddr>,
    /// Its communities.
    pub communities: Communities,
}

// === impl SpeakerConfig ===

impl SpeakerConfig {
    /// A speaker that starts from nothing, listens nowhere.
    #[must_use]
    pub const fn new(asn: u32, router_id: Ipv4Addr) -> Self {
        Self {
            asn,
            router_id,
            restarting: false,
            forwarding_preserved: false,
            listen: Vec::new(),
            seed: 0,
            kernel: None,
        }
    }

    /// The core's part of it.
    pub(super) const fn core(&self) -> core::SpeakerConfig {
        core::SpeakerConfig {
            asn: Asn(self.asn),
            router_id: self.router_id,
            multipath_max: MULTIPATH_MAX,
            restart: RestartState {
                restarting: self.restarting,
                forwarding_preserved: self.forwarding_preserved,
            },
        }
    }
}

// === impl PeerConfig ===

impl PeerConfig {
    /// A peer that we connect to, with both families, a hold time of 9 s, and no graceful restart.
    /// It is told our own announcements, and nothing is taken from it (RFC 8212).
    #[must_use]
    pub fn new(uid: impl Into<Uid>, remote: impl Into<Remote>, peer_asn: u32) -> Self {
        let (uid, remote) = (uid.into(), remote.into());
        Self {
            name: uid.to_string(),
            uid,
            remote,
            port: BGP_PORT,
            peers_max: DYNAMIC_PEERS_DEFAULT,
            peer_as: PeerAs::Number(Asn(peer_asn)),
            transport: Transport::default(),
            next_hop_ipv4: None,
            next_hop_ipv6: None,
            families: FamilySet::BOTH,
            extended_next_hop: false,
            hold_time: Duration::from_secs(9),
            connect_retry_max: CONNECT_RETRY_MAX,
            graceful_restart: None,
            connect: ConnectMode::Active,
            connection: Connection::default(),
            role: None,
            enforce_first_as: true,
            import: ImportConfig::default(),
            export: own_announcements(),
            bfd: None,
        }
    }

    /// The same for one that came from a prefix.
    pub(super) fn instance(&self, address: IpAddr) -> Self {
        Self {
            uid: format!("{}-{address}", self.uid).into(),
            name: format!("{}-{address}", self.name),
            remote: Remote::Address(address),
            ..self.clone()
        }
    }

    /// Whether going from `self` to `new` takes other sockets.
    pub(super) fn needs_reconnect(&self, new: &Self) -> bool {
        self.remote != new.remote || self.port != new.port || self.transport != new.transport
    }

    /// Whether a session can run with this.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, speaker: &SpeakerConfig) -> Result<(), ConfigError> {
        self.session(speaker).validate()
    }

    /// The core's part of the configuration of a peer at `address`.
    pub(super) fn core(&self, address: IpAddr, speaker: &SpeakerConfig) -> core::PeerConfig {
        core::PeerConfig {
            address,
            session: self.session(speaker),
            connection: self.connection,
            import: self.import.clone(),
            export: self.export.clone(),
        }
    }

    fn session(&self, speaker: &SpeakerConfig) -> SessionConfig {
        let ipv6 = self.next_hop_ipv6.map(|global| NextHop::V6 { global, link_local: None });
        SessionConfig {
            connect: self.connect,
            families: self.families,
            hold_time: self.hold_time,
            connect_retry_max: self.connect_retry_max,
            restart_time: self.graceful_restart,
            helper: self.graceful_restart.map(|_offered| HelperConfig::default()),
            next_hops: PerFamily { ipv4: self.next_hop_ipv4.map(NextHop::V4), ipv6 },
            extended_next_hop: self.extended_next_hop,
            enforce_first_as: self.enforce_first_as,
            role: self.role,
            ..SessionConfig::new(Asn(speaker.asn), speaker.router_id, self.peer_as)
        }
    }
}

// === impl Transport ===

impl Transport {
    /// TTL of what we send. A neighbour is always sent the largest, so that it may check it.
    pub(super) const fn ttl_out(&self) -> u8 {
        match self.multihop {
            Some(hops) if !self.ttl_security => hops.get(),
            _ => TTL_MAX,
        }
    }

    /// Least TTL of what we take (RFC 5082 §3).
    pub(super) const fn ttl_in_min(&self) -> Option<u8> {
        if !self.ttl_security {
            return None;
        }
        Some(match self.multihop {
            Some(hops) => TTL_MAX.saturating_sub(hops.get().saturating_sub(1)),
            None => TTL_MAX,
        })
    }
}

impl From<IpAddr> for Remote {
    fn from(address: IpAddr) -> Self {
        Self::Address(address)
    }
}

/// Everything is taken, up to so many prefixes of each family.
#[must_use]
pub fn accept_all(prefixes_max: u32) -> ImportConfig {
    ImportConfig {
        policy: Policy::accept_all(),
        limit: PrefixLimit { prefixes_max, over: OverLimit::EndSession },
        blackhole: false,
    }
}

/// RFC 8212: nothing of others. Our own announcements are somebody's explicit wish.
#[must_use]
pub fn own_announcements() -> ExportConfig {
    ExportConfig {
        policy: Policy::accept_all(),
        learnt: LearntRoutes::Withhold,
        ..ExportConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_security_asks_for_no_less_than_the_hops_allow() {
        let ttl = |hops, ttl_security| {
            let multihop = NonZeroU8::new(hops);
            let transport = Transport { multihop, ttl_security, ..Transport::default() };
            (transport.ttl_out(), transport.ttl_in_min())
        };

        assert_eq!(ttl(0, false), (255, None));
        assert_eq!(ttl(0, true), (255, Some(255)));
        assert_eq!(ttl(3, false), (3, None));
        assert_eq!(ttl(3, true), (255, Some(253)));
    }
}
