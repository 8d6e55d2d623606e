//! From tables to what the kernel's maps must hold.
//!
//! A pure function of the tables, of what is in force and of the node's own addresses. What is in
//! force is never written over: new rings, targets and services take numbers that nothing in
//! force has, so a failure half-way changes nothing, and the flip changes everything. An owner
//! that stays keeps its number, and with it its counters.

mod chains;
mod contents;
mod entries;
mod places;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use isocast_dataplane_common::{
    NO_BACKEND, OTHER_FLOW_KEYS, RING_SLOTS_MIN,
    limits::{
        CHAIN_POOL, MAX_CHAINS, MAX_DIRECTORY_ENTRIES, MAX_NAME_LEN, MAX_RING_BLOCKS, MAX_SERVICES,
        MAX_TARGETS, SERVICE_POOL, TARGET_NUMBERS,
    },
    tables::FIRST_TARGET,
};

pub(crate) use self::{
    chains::{ChainOwner, Tracked},
    contents::{Content, Known, RingContent},
    entries::{is_by_address, listener},
    places::Places,
};
use crate::{
    directory::Entries,
    tables::{Backend, Encap, Probe, Protocol, Tables},
};

/// Who has a target number: a backend by its key, or, with an empty key, any node by its address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TargetOwner {
    pub(crate) key: Arc<str>,
    pub(crate) address: IpAddr,
    pub(crate) encap: Encap,
}

impl TargetOwner {
    /// A node with an agent.
    pub(crate) fn node(address: IpAddr) -> Self {
        Self { key: "".into(), address, encap: Encap::Gue }
    }

    fn probed(probe: &Probe) -> Self {
        Self { encap: probe.encap, ..Self::node(probe.tunnel_address) }
    }

    fn backend(backend: &Backend) -> Self {
        let Backend { key, tunnel_address, encap } = backend;
        Self { key: key.0.clone(), address: *tunnel_address, encap: *encap }
    }
}

/// Who has which number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger {
    pub(crate) services: BTreeMap<Arc<str>, u16>,
    pub(crate) targets: BTreeMap<TargetOwner, u16>,
    pub(crate) chains: BTreeMap<ChainOwner, u16>,
    /// Rings by what they hold.
    pub(crate) rings: Places,
}

/// A generation, ready to be written.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) ledger: Ledger,
    pub(crate) entries: Entries,
    /// What the tables' rings hold, in their order.
    pub(crate) rings: Vec<RingContent>,
}

/// Why tables cannot be put in force. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TablesError {
    /// More of something than there may be.
    #[error("{count} {what}, at most {limit} fit")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A position that points at nothing.
    #[error("{what} {position} does not exist")]
    Dangling {
        /// What it should be.
        what: &'static str,
        /// The position.
        position: usize,
    },
    /// Two listeners, or two probes, that cannot be told apart.
    #[error("{what} twice")]
    Duplicate {
        /// Which.
        what: String,
    },
    /// A value out of its range.
    #[error("{what} is out of range")]
    OutOfRange {
        /// Which.
        what: String,
    },
    /// A service's address is one of this node's own.
    #[error("{address} is a tunnel address of this node, not a service's")]
    OwnAddress {
        /// The address.
        address: IpAddr,
    },
}

/// What a plan is made for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    pub(crate) tunnel_addresses: &'a [IpAddr],
    /// Whether tunnels end here.
    pub(crate) decapsulates: bool,
}

/// Plans the generation that follows `in_force`. Rings that are `known` need not be read again.
pub(crate) fn plan(
    tables: &Tables,
    in_force: &Ledger,
    known: &Known,
    node: Node<'_>,
) -> Result<Plan, TablesError> {
    check(tables, node)?;
    let edge = &tables.edge;
    let decap = &tables.decap;

    let services: BTreeSet<_> = edge.vips.iter().map(|vip| vip.service.0.clone()).collect();
    let services = number(services, &in_force.services, 0, SERVICE_POOL);
    let services = services.ok_or_else(|| too_many("services", edge.vips.len(), MAX_SERVICES))?;

    let backends = edge.backends.iter().map(TargetOwner::backend);
    let sources = decap.sources.iter().copied().map(TargetOwner::node);
    let probed = edge.probes.iter().map(TargetOwner::probed);
    let owners: BTreeSet<_> = backends.chain(sources).chain(probed).collect();
    let count = owners.len();
    let targets = number(owners, &in_force.targets, FIRST_TARGET, TARGET_NUMBERS);
    let targets = targets.ok_or_else(|| too_many("tunnel addresses", count, MAX_TARGETS))?;

    let links = chains::resolve(tables, &targets, node)?;
    let owners = links.owners();
    let count = owners.len();
    let chains = number(owners, &in_force.chains, 0, CHAIN_POOL);
    let chains = chains.ok_or_else(|| too_many("chains", count, MAX_CHAINS))?;

    let rings = edge.rings.iter().zip(links.meanings(&chains));
    let contents = rings.map(|(ring, meaning)| known.content(ring, meaning));
    let contents = contents.collect::<Result<Vec<_>, _>>()?;
    let rings = places::assign(&contents, &in_force.rings);
    let rings = rings.ok_or_else(|| too_many(RING_BLOCKS, blocks(tables), MAX_RING_BLOCKS))?;

    let ledger = Ledger { services, targets, chains, rings };
    let entries = entries::entries(tables, &ledger, &contents, node)?;
    if entries.len() > MAX_DIRECTORY_ENTRIES {
        let what = "listeners, sources and destinations";
        return Err(too_many(what, entries.len(), MAX_DIRECTORY_ENTRIES));
    }
    Ok(Plan { ledger, entries, rings: contents })
}

/// Limits and ranges.
fn check(tables: &Tables, node: Node<'_>) -> Result<(), TablesError> {
    let edge = &tables.edge;
    let services: BTreeSet<_> = edge.vips.iter().map(|vip| &vip.service).collect();
    let targets = edge.backends.len() + tables.decap.sources.len();
    for (what, count, limit) in [
        ("services", services.len(), MAX_SERVICES),
        (RING_BLOCKS, blocks(tables), MAX_RING_BLOCKS),
        ("tunnel addresses", targets, MAX_TARGETS),
        ("other flow keys", tables.keys.other_flows.len(), OTHER_FLOW_KEYS),
    ] {
        if count > limit {
            return Err(too_many(what, count, limit));
        }
    }
    let names = (services.iter().map(|service| &service.0))
        .chain(edge.backends.iter().map(|backend| &backend.key.0));
    for name in names {
        if name.is_empty() || name.len() > MAX_NAME_LEN {
            return Err(TablesError::OutOfRange { what: format!("length of the name {name:?}") });
        }
    }
    let tenants = (edge.vips.iter().map(|vip| vip.tenant))
        .chain(edge.probes.iter().map(|probe| probe.tenant))
        .chain(tables.decap.accepts.iter().map(|accept| accept.tenant));
    for tenant in tenants {
        if tenant >> 24 != 0 {
            return Err(TablesError::OutOfRange { what: format!("tenant {tenant}") });
        }
    }
    for vip in &edge.vips {
        if node.tunnel_addresses.contains(&vip.address) {
            return Err(TablesError::OwnAddress { address: vip.address });
        }
    }
    Ok(())
}

/// Gives numbers to owners: who has one keeps it, the others get numbers that nobody has now.
fn number<K: Ord>(
    owners: BTreeSet<K>,
    in_force: &BTreeMap<K, u16>,
    first: u16,
    pool: usize,
) -> Option<BTreeMap<K, u16>> {
    let taken: BTreeSet<_> = in_force.values().copied().collect();
    let mut free =
        (first..u16::try_from(pool).unwrap_or(NO_BACKEND)).filter(|number| !taken.contains(number));
    owners
        .into_iter()
        .map(|owner| {
            let number = in_force.get(&owner).copied().or_else(|| free.next())?;
            Some((owner, number))
        })
        .collect()
}

const RING_BLOCKS: &str = "blocks of 4096 ring slots";
const _: () = assert!(RING_SLOTS_MIN == 4096);

fn blocks(tables: &Tables) -> usize {
    tables.edge.rings.iter().map(|ring| ring.slots.len().div_ceil(RING_SLOTS_MIN)).sum()
}

pub(crate) const fn too_many(what: &'static str, count: usize, limit: usize) -> TablesError {
    TablesError::TooMany { what, count, limit }
}

/// The protocol's number in IP headers.
pub(crate) const fn number_of(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

#[cfg(test)]
mod tests;
