//! The node's configuration as valid types: what the rest of the agent works with.
//!
//! [`NodeModel::parse`] is the only way in. It takes a [`Configuration`] off the wire, a file or
//! the last-known-good store and returns a model in which everything holds (addresses are addresses,
//! ports fit, references resolve), beside every entry that it had to leave out, so that the
//! controller can tell their owners. Nothing behind this room meets raw text again.

mod admission;
mod drain;
mod keyring;
mod parse;
mod peer;
mod precedent;
mod service;
#[cfg(test)]
pub(crate) mod testing;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;
use isocast_api::agent::{Configuration, EntryError};

pub use self::admission::Admission;
pub use self::drain::{Departures, DrainOrder, DrainTarget};
pub use self::keyring::Keys;
pub use self::peer::{Bfd, Connection, Families, MaxPrefixes, Peer, PeerRole, Reach, Remote};
pub use self::precedent::{Precedent, Refusals};
pub use self::service::{
    Backend, Check, Failover, HealthCheck, MidFlowMove, OnNoLocalBackend, PacketPolicy, Pool, Port,
    Protocol, Service,
};

/// Identity of an object across renames and re-creations: a Kubernetes uid or a hash.
pub type Uid = Arc<str>;

/// Everything this node is told to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeModel {
    /// Name of the Node object.
    pub name: String,
    /// Datacenter the node stands in.
    pub datacenter: String,
    /// What the node does.
    pub roles: Roles,
    /// Own tunnel addresses; the first is the one others encapsulate to.
    pub tunnel_addresses: Vec<IpAddr>,
    /// Interfaces that carry service traffic.
    pub uplinks: Vec<Uplink>,
    /// Own autonomous system number.
    pub asn: u32,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// What tunnel packets are marked with and believed by, and flows are placed by.
    pub keys: Keys,
    /// The export guard: nothing outside is ever announced.
    pub announceable: Vec<IpNet>,
    /// BGP neighbours.
    pub peers: Vec<Peer>,
    /// Backend pools by uid.
    pub pools: BTreeMap<Uid, Pool>,
    /// Services by uid.
    pub services: BTreeMap<Uid, Service>,
    /// Outer sources whose encapsulated packets this node believes.
    pub sources: Vec<IpAddr>,
    /// What is to be drained, by the order's uid.
    pub drains: BTreeMap<Uid, DrainOrder>,
    /// What is no longer configured.
    pub departures: Departures,
}

/// What a node does; at least one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// Announces addresses and balances.
    pub edge: bool,
    /// Takes flows out of tunnels and serves them.
    pub backend: bool,
}

/// One interface that carries service traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name in the kernel.
    pub interface: String,
    /// Native with generic fallback unless told otherwise.
    pub xdp: XdpMode,
    /// Longest IP packet that may leave by it; `None`: what the interface says.
    pub mtu: Option<u32>,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// Native, generic where the driver has none.
    Auto,
    /// In the stack, for drivers without XDP.
    Generic,
    /// In the driver or not at all.
    Native,
}

/// What this agent is willing to take on, whatever it is told.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most services.
    pub services: usize,
}

// === impl NodeModel ===

impl NodeModel {
    /// Decides which entries of a configuration come into force, given what was in force `before`.
    ///
    /// # Errors
    /// There is no usable entry `node`: then nothing of it is taken.
    pub fn parse(
        configuration: &Configuration,
        limits: Limits,
        before: Option<&Precedent<'_>>,
    ) -> Result<Admission, Vec<EntryError>> {
        admission::admit(configuration, limits, before)
    }
}
