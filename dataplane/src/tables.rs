//! What the data plane is told: one complete, validated set of tables.
//!
//! `agent::steer` computes a [`Tables`]; [`crate::Dataplane::apply`] makes it so or refuses it
//! whole. Nothing here reads a clock, a socket or the kernel. Rings and services point at
//! backends by position, so a set is meaningful only as a whole; it is flipped in as one
//! generation.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use isocast_dataplane_common::{NO_BACKEND, Slot};

use crate::{
    keys::Keyring,
    policy::{Ceilings, ServicePolicy},
};

/// Everything one node's data plane does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// What the node balances. Empty on a node without the edge role.
    pub edge: EdgeTables,
    /// What the node accepts out of tunnels. Empty on a node without the backend role.
    pub decap: DecapTables,
    /// What packets are placed, marked and believed by.
    pub keys: Keyring,
}

/// The balancer's share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeTables {
    /// Listening points: one per (address, protocol, port).
    pub vips: Vec<Vip>,
    /// Rings, pointed at by [`Vip::ring`]: several VIPs of one service share one.
    pub rings: Vec<Ring>,
    /// Where flows go, pointed at by rings.
    pub backends: Vec<Backend>,
    /// Which marked packets of this host are health probes, and for whom.
    pub probes: Vec<Probe>,
    /// What services let in; one that is not named lets in everything.
    pub policies: BTreeMap<ServiceKey, ServicePolicy>,
    /// Ceilings on all services of a tenant together.
    pub tenants: BTreeMap<u32, Ceilings>,
    /// What time it is in the flow table: counts the changes of rings with [`Track`]s.
    pub era: u32,
}

/// Packets that this host sends with `mark` to a service's address are encapsulated to one
/// backend, whatever the ring says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Firewall mark (`SO_MARK`) of the probing socket.
    pub mark: u32,
    /// 24 bits; the isolation domain of the probed service.
    pub tenant: u32,
    /// Outer destination.
    pub tunnel_address: IpAddr,
    /// What the backend takes the packets out of.
    pub encap: Encap,
}

/// What packets to a host are put into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encap {
    /// The tunnel of agents, with tenant, key tag and further hops.
    #[default]
    Gue,
    /// An IP header and nothing else, for a host without an agent. It is not asked whose a flow is,
    /// and asks nobody: such a host is left out of chains, and its slots have none. What its TCP flows
    /// need when slots come to it or leave it is a [`Track`].
    Ip,
}

/// One (address, protocol, port) that tenants' clients connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vip {
    /// The anycast address.
    pub address: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// In host byte order.
    pub port: u16,
    /// 24 bits; travels in the encapsulation header.
    pub tenant: u32,
    /// Position in [`EdgeTables::rings`].
    pub ring: usize,
    /// Stable identity of the service, for its counters.
    pub service: ServiceKey,
    /// What is done with packets out of the ordinary.
    pub rules: PacketRules,
}

/// What is done with packets out of the ordinary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketRules {
    /// Pieces of packets.
    pub fragments: Fragments,
    /// The largest segment that a TCP handshake may offer, by the smaller of this and what fits
    /// the path; without it handshakes are left alone.
    pub segment_size: Option<u16>,
}

/// What becomes of fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fragments {
    /// Dropped.
    #[default]
    Drop,
    /// They go where source, destination and protocol say. So do whole TCP packets of the service,
    /// for a connection has one backend; whole datagrams go where their ports say as well.
    Hash,
}

/// Identity of a service in counters: survives generations.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey(pub Arc<str>);

/// Identity of a backend in counters: survives generations. Its uid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendKey(pub Arc<str>);

/// A Maglev ring: slots, each with the backend that new flows get
/// ([`isocast_dataplane_common::NO_BACKEND`] for none) and the chain of those that may have its
/// flows otherwise ([`isocast_dataplane_common::NO_CHAIN`] for nobody).
///
/// A slot that is [tracked](isocast_dataplane_common::Slot::tracked) has a [`Track`] instead of a chain.
///
/// Slots point into the ring's own lists: they stay the same, and need not be written again, when
/// backends of other rings come and go.
#[derive(Clone, Debug, Eq)]
pub struct Ring {
    /// Positions in [`EdgeTables::backends`].
    pub backends: Arc<[usize]>,
    /// Each a list of positions in `backends`, asked in turn; those that the outer family of the one
    /// before does not reach, and those beyond [`isocast_dataplane_common::CHAIN_HOPS`], are left out.
    pub chains: Arc<[Vec<u16>]>,
    /// For slots where a chain does not help.
    pub tracks: Arc<[Track]>,
    /// Positions in `backends` and in `chains` or `tracks`; [`isocast_dataplane_common::slot::is_ring_size`] says
    /// how many there may be.
    pub slots: Arc<[Slot]>,
}

/// Whose the TCP flows of a slot are that a host without an agent has or had lately: see
/// [`isocast_dataplane_common::tracking`]. Datagrams of such a slot are its own backend's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Track {
    /// Position of the backend that has the flows which are not noted: those from before the slot was
    /// tracked.
    pub former: u16,
    /// Positions of the hosts that may have them besides, as in a chain.
    pub further: Vec<u16>,
    /// Positions of other backends that had the slot since, and may have flows that are noted; at most
    /// [`isocast_dataplane_common::tracking::BETWEEN_MAX`] are believed.
    pub between: Vec<u16>,
    /// The era that the slot is tracked since.
    pub since: u32,
}

impl Ring {
    /// A ring of slots that point into [`EdgeTables::backends`], without chains.
    #[must_use]
    pub fn from_positions(slots: impl IntoIterator<Item = Slot>) -> Self {
        Self::chained(slots, &[])
    }

    /// A ring of slots and chains that point into [`EdgeTables::backends`].
    #[must_use]
    pub fn chained(slots: impl IntoIterator<Item = Slot>, chains: &[Vec<u16>]) -> Self {
        Self::tracked(slots, chains, &[])
    }

    /// A ring of slots, chains and tracks that point into [`EdgeTables::backends`].
    #[must_use]
    pub fn tracked(
        slots: impl IntoIterator<Item = Slot>,
        chains: &[Vec<u16>],
        tracks: &[Track],
    ) -> Self {
        let mut backends = Vec::new();
        let mut numbers = BTreeMap::new();
        let mut number = |position: u16| match position {
            NO_BACKEND => NO_BACKEND,
            _ => *numbers.entry(position).or_insert_with(|| {
                backends.push(usize::from(position));
                // There are fewer different positions than 16-bit numbers.
                u16::try_from(backends.len() - 1).unwrap_or(NO_BACKEND)
            }),
        };
        let with = |backend, slot: Slot| match slot {
            Slot { chain, .. } if slot.is_tracked() => Slot::tracked(backend, chain),
            Slot { chain, .. } => Slot { current: backend, chain },
        };
        let slots = slots.into_iter();
        let slots = slots.map(|slot| with(number(slot.backend()), slot)).collect();
        let mut all = |list: &Vec<u16>| list.iter().map(|it| number(*it)).collect::<Vec<_>>();
        let chains = chains.iter().map(&mut all).collect();
        let track = |track: &Track| {
            let Track { former, further, between, since } = track;
            let former = all(&vec![*former]).into_iter().next().unwrap_or(NO_BACKEND);
            Track { former, further: all(further), between: all(between), since: *since }
        };
        let tracks = tracks.iter().map(track).collect();
        Self { backends: backends.into(), chains, tracks, slots }
    }
}

impl PartialEq for Ring {
    fn eq(&self, other: &Self) -> bool {
        self.backends == other.backends
            && self.chains == other.chains
            && self.tracks == other.tracks
            && (Arc::ptr_eq(&self.slots, &other.slots) || self.slots == other.slots)
    }
}

/// One encapsulation target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its uid.
    pub key: BackendKey,
    /// Outer destination; its family is the outer family.
    pub tunnel_address: IpAddr,
    /// What it takes its packets out of.
    pub encap: Encap,
}

/// Transport protocols that are balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

/// The decapsulator's share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecapTables {
    /// Outer sources that are believed (edges, and backends for the second chance).
    pub sources: Vec<IpAddr>,
    /// What may come out of a tunnel. The distinct addresses are put on loopback.
    pub accepts: Vec<Accept>,
}

/// One inner destination that this backend serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Accept {
    /// 24 bits.
    pub tenant: u32,
    /// The anycast address.
    pub address: IpAddr,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// In host byte order.
    pub port: u16,
    /// What is done with packets out of the ordinary.
    pub rules: PacketRules,
}
