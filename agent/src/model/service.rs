//! Services, pools and health checks as the agent understands them.

use std::{net::IpAddr, time::Duration};

use isocast_dataplane::{Ceilings, Encap, Fragments, PacketRules, ServicePolicy};

use super::Uid;
use crate::bgp::Communities;

/// One anycast service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Uid of the AnycastService object.
    pub uid: Uid,
    /// Its namespace, for people.
    pub namespace: String,
    /// Its name, for people.
    pub name: String,
    /// metadata.generation this comes from.
    pub generation: i64,
    /// 24-bit isolation domain.
    pub tenant: u32,
    /// Anycast addresses.
    pub addresses: Vec<IpAddr>,
    /// Listening ports.
    pub ports: Vec<Port>,
    /// Its backends; `None` while the pool does not exist.
    pub pool: Option<Uid>,
    /// How backends are judged.
    pub health: HealthCheck,
    /// What happens when the datacenter has too few healthy backends.
    pub failover: Failover,
    /// What a connection gets that anycast moved to another datacenter.
    pub mid_flow_move: MidFlowMove,
    /// BGP communities of its routes.
    pub communities: Communities,
    /// What it lets in.
    pub policy: ServicePolicy,
    /// What all services of its tenant take together.
    pub tenant_ceilings: Ceilings,
    /// What is done with its packets out of the ordinary.
    pub packets: PacketPolicy,
}

/// What a connection gets that anycast moved to another datacenter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MidFlowMove {
    /// The host that does not know it says so.
    #[default]
    Reset,
    /// It is carried on to the datacenter where it began.
    Rescue,
}

/// What is done with a service's packets out of the ordinary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketPolicy {
    /// Fragments of TCP segments.
    pub tcp_fragments: Fragments,
    /// Fragments of datagrams.
    pub udp_fragments: Fragments,
    /// Ceiling of the segment size in TCP handshakes; `None`: they are left alone.
    pub segment_size: Option<u16>,
}

impl Default for PacketPolicy {
    fn default() -> Self {
        Self { tcp_fragments: Fragments::Drop, udp_fragments: Fragments::Hash, segment_size: None }
    }
}

impl PacketPolicy {
    /// What of it is about one protocol.
    #[must_use]
    pub const fn rules(&self, protocol: Protocol) -> PacketRules {
        match protocol {
            Protocol::Tcp => {
                PacketRules { fragments: self.tcp_fragments, segment_size: self.segment_size }
            }
            Protocol::Udp => PacketRules { fragments: self.udp_fragments, segment_size: None },
        }
    }
}

/// A listening port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Never 0.
    pub port: u16,
}

/// The data plane's own notion serves: there is no other kind of port.
pub type Protocol = isocast_dataplane::Protocol;

/// How a backend of a service is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub check: Check,
    /// TCP port asked.
    pub port: u16,
    /// Time between probes while the verdict stands.
    pub interval: Duration,
    /// Time between probes while it is being formed or contradicted.
    pub fast_interval: Duration,
    /// A probe without an answer by then has failed.
    pub timeout: Duration,
    /// Successes in a row that make a backend healthy.
    pub rise: u32,
    /// Failures in a row that make it unhealthy.
    pub fall: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// GET; a status of 200–399 passes.
    Http {
        /// Origin-form request target.
        path: String,
        /// Host header; `None`: the service's address.
        host: Option<String>,
    },
    /// A completed handshake passes.
    TcpConnect,
}

/// What happens when the datacenter has too few healthy backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The policy.
    pub on_no_local_backend: OnNoLocalBackend,
    /// Fewer healthy backends than this and a datacenter does not count. At least 1.
    pub min_healthy: usize,
    /// Order in which other datacenters are tried; those not named come after, by name.
    pub preference: Vec<String>,
}

/// Policy for a datacenter with too few healthy backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNoLocalBackend {
    /// Carry flows to another datacenter over the private backbone.
    ForwardOverBackbone,
    /// As above, and with no healthy backend anywhere, use the local ones regardless.
    ServeAnyway,
    /// Take the route away, so that anycast moves the clients.
    Withdraw,
}

/// A set of backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Its name, for people; its services are of the same namespace.
    pub name: String,
    /// Members in the order given.
    pub backends: Vec<Backend>,
    /// How long a backend that joins takes to its whole share; zero: no time.
    pub slow_start: Duration,
}

/// One member of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Hash of the pool's uid and its node's uid or address.
    pub uid: Uid,
    /// For people.
    pub name: String,
    /// Where it stands.
    pub datacenter: String,
    /// Node it runs on; empty for a plain address.
    pub node: String,
    /// Where encapsulated packets go.
    pub tunnel_address: IpAddr,
    /// Share of new flows relative to the others. 0: it is drained.
    pub weight: u32,
}

impl Backend {
    /// What it takes its packets out of: agents know the tunnel, other hosts nothing but IP.
    #[must_use]
    pub fn encap(&self) -> Encap {
        if self.node.is_empty() { Encap::Ip } else { Encap::Gue }
    }

    /// Whether it keeps the flows that it has, and gets no others.
    #[must_use]
    pub const fn is_drained(&self) -> bool {
        self.weight == 0
    }
}
