//! Group `network.isocast.dev`: the platform's sites, hosts, sessions and address space, and the
//! tenants' addresses, backends and services.

mod address_claim;
mod address_pool;
mod anycast_service;
mod backend_pool;
mod bgp_advertisement;
mod bgp_peer;
mod bgp_policy;
mod bgp_session;
mod datacenter;
mod drain;
mod key_rotation;
mod node;
mod packets;
mod policy;

pub use self::{
    address_claim::{AddressClaim, AddressClaimSpec, AddressClaimStatus},
    address_pool::{
        AddressPool, AddressPoolSpec, AddressPoolStatus, Grant, GrantHolder, RELEASED_MAX,
        ReleasedAddress,
    },
    anycast_service::{
        AnycastService, AnycastServiceSpec, AnycastServiceStatus, ServiceAddress,
        ServiceDatacenterStatus, ServicePort, TransportProtocol,
    },
    backend_pool::{Backend, BackendPool, BackendPoolSpec, BackendPoolStatus, PoolMode},
    bgp_advertisement::{
        AdvertisementPeer, BgpAdvertisement, BgpAdvertisementSpec, BgpAdvertisementStatus,
    },
    bgp_peer::{
        Bfd, BgpPeer, BgpPeerSpec, BgpPeerStatus, Connection, GracefulRestart, GracefulRestartMode,
        MaxPrefixes, NodeSelector, Password, PeerRole, SessionStatus,
    },
    bgp_policy::{
        ALLOW_WITHDRAWALS, AsPathMatch, BgpPolicy, BgpPolicySpec, BgpPolicyStatus, CONFIRM,
        CONFIRMED, CommunityEdit, END_OF_POLICY, OriginCode, PendingRollback, PolicyTerm,
        PrefixRange, RouteSource, SessionKind, TermMatch, TermSet, Then,
    },
    bgp_session::{BgpSession, BgpSessionSpec, BgpSessionStatus, SessionError},
    datacenter::{Datacenter, DatacenterSpec, DatacenterState, DatacenterStatus},
    drain::{
        DRAINED, Drain, DrainNode, DrainSpec, DrainStage, DrainStatus, DrainTarget,
        DrainTargetKind, PROGRESSING,
    },
    key_rotation::{
        COMPLETE, FORMER_FOR, KeyKind, KeyRotation, KeyRotationPhase, KeyRotationSpec,
        KeyRotationStatus,
    },
    node::{Node, NodeRole, NodeSpec, NodeStatus, Uplink, XdpMode},
    packets::{FragmentPolicy, Fragments, MssClamp, MssClampMode},
    policy::{
        Affinity, Failover, HealthCheck, HttpProbe, Limits, MidFlowMove, OnNoLocalBackend,
        OrganizationLimits, SynCookies, TcpProbe,
    },
};

/// The API group.
pub const GROUP: &str = "network.isocast.dev";

/// An IP version.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub enum Family {
    /// 32-bit addresses.
    IPv4,
    /// 128-bit addresses.
    IPv6,
}

impl Family {
    /// The version of `address`.
    #[must_use]
    pub fn of(address: std::net::IpAddr) -> Self {
        if address.is_ipv4() { Self::IPv4 } else { Self::IPv6 }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::IPv4 => "IPv4",
            Self::IPv6 => "IPv6",
        })
    }
}
