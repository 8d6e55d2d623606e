//! BGP neighbours as the agent understands them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::{NonZeroU8, NonZeroU32},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
pub use isocast_bgp::policy::Connection;
use isocast_bgp::policy::Policy;

use super::Uid;

/// One BGP neighbour, or a kind of neighbour that may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Uid of the BGPPeer object.
    pub uid: Uid,
    /// Its name, for people.
    pub name: String,
    /// Where the neighbour is.
    pub remote: Remote,
    /// What kind of neighbour it is.
    pub connection: Connection,
    /// Its autonomous system.
    pub peer_asn: u32,
    /// Source of the session, if not the kernel's choice.
    pub local_address: Option<IpAddr>,
    /// Next hop of IPv4 routes, if not the session's own address.
    pub next_hop_ipv4: Option<Ipv4Addr>,
    /// Next hop of IPv6 routes, if not the session's own address or the uplink's.
    pub next_hop_ipv6: Option<Ipv6Addr>,
    /// Families offered.
    pub families: Families,
    /// Hold time offered, at least 3 s (RFC 4271 §4.2).
    pub hold_time: Duration,
    /// Restart time offered; `None`: graceful restart is not offered.
    pub graceful_restart: Option<Duration>,
    /// How its death is noticed early; `None`: by the hold time alone.
    pub bfd: Option<Bfd>,
    /// What this node is to it; `None`: nothing is said.
    pub role: Option<PeerRole>,
    /// How far away it may be.
    pub reach: Reach,
    /// Whether the neighbour opens the connection.
    pub passive: bool,
    /// File with the TCP-MD5 password (RFC 2385). Read by the driver, so that a password that
    /// changes needs no new configuration.
    pub password_file: Option<PathBuf>,
    /// How much may be exchanged.
    pub max_prefixes: MaxPrefixes,
    /// Whether IPv6 next hops of IPv4 routes are offered (RFC 8950).
    pub extended_next_hop: bool,
    /// Whether its AS must be first in the path of its routes (RFC 4271 §6.3).
    pub enforce_first_as: bool,
    /// Which of its routes are taken.
    pub import: Policy,
    /// Which routes it is told.
    pub export: Policy,
}

/// Where a neighbour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remote {
    /// One router.
    Address(IpAddr),
    /// Whoever connects from there.
    Prefix(IpNet),
}

/// What this node is to a neighbour (RFC 9234 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRole {
    /// It carries our traffic to all others.
    Customer,
    /// We exchange our own and our customers' routes.
    Peer,
    /// We carry its traffic to all others.
    Provider,
    /// We pass routes on among the members of an exchange.
    RouteServer,
    /// It does.
    RouteServerClient,
}

/// How far away a neighbour may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// On the same link.
    #[default]
    Link,
    /// On the same link, and packets prove it by TTL 255 (RFC 5082).
    LinkProven,
    /// At most so many hops away.
    Hops(NonZeroU8),
}

/// Bidirectional forwarding detection (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// Wanted between packets, both ways. At least 1 ms.
    pub interval: Duration,
    /// Missed packets that make the session go down.
    pub multiplier: NonZeroU8,
    /// RFC 5883 instead of RFC 5881.
    pub multihop: bool,
}

/// Most prefixes of a family; `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxPrefixes {
    /// From the neighbour.
    pub inbound: Option<NonZeroU32>,
    /// To the neighbour.
    pub outbound: Option<NonZeroU32>,
}

/// Address families of a session; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// IPv4 unicast.
    pub ipv4: bool,
    /// IPv6 unicast.
    pub ipv6: bool,
}
