//! [`Links`]: which chain each slot of each ring has.
//!
//! A slot says who may have its flows besides its own backend; a chain is what of that can travel in
//! one header: hops of one outer family, none twice, at most [`CHAIN_HOPS`]. Many slots share few
//! chains. If there are more than there may be, every chain is cut to its first hop: the host that
//! had the slot last is the one that most likely has the flow.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use isocast_dataplane_common::{CHAIN_HOPS, NO_CHAIN, Slot, limits::MAX_CHAINS, tables::Chain};

use super::{ChainOwner, Node, TablesError, TargetOwner, dangling, target_numbers};
use crate::{
    header::{address_of, address_words},
    tables::{Ring, Tables},
};

/// Chains of all rings.
#[derive(Debug)]
pub(super) struct Links {
    rings: Vec<RingLinks>,
}

/// Chains of one ring, by what decides on them: the slot's own list, and how its backend is reached.
#[derive(Debug, Default)]
pub(super) struct RingLinks {
    by_cause: BTreeMap<(u16, Way), ChainOwner>,
    /// How each backend of this ring is reached.
    ways: BTreeMap<u16, Way>,
}

/// How a slot's own backend is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// It is this node, or nobody.
    Here,
    Ipv4,
    Ipv6,
}

/// Finds the chains of all rings.
pub(super) fn resolve(
    tables: &Tables,
    targets: &BTreeMap<TargetOwner, u16>,
    node: Node<'_>,
) -> Result<Links, TablesError> {
    let resolve = |hops_max| {
        let resolving =
            Resolving { tables, node, numbers: target_numbers(tables, targets), hops_max };
        let rings = tables.edge.rings.iter().map(|ring| resolving.ring(ring));
        rings.collect::<Result<_, _>>().map(|rings| Links { rings })
    };
    let links = resolve(CHAIN_HOPS)?;
    if links.owners().len() <= MAX_CHAINS { Ok(links) } else { resolve(1) }
}

struct Resolving<'a> {
    tables: &'a Tables,
    node: Node<'a>,
    /// Target numbers of backends, by position.
    numbers: Vec<u16>,
    hops_max: usize,
}

// === impl Resolving ===

impl Resolving<'_> {
    fn ring(&self, ring: &Ring) -> Result<RingLinks, TablesError> {
        let mut links = RingLinks::default();
        for slot in ring.slots.iter().filter(|slot| slot.chain != NO_CHAIN) {
            let way = *links.ways.entry(slot.current).or_insert_with(|| self.way(slot.current));
            if links.by_cause.contains_key(&(slot.chain, way)) {
                continue;
            }
            let positions = ring.chains.get(usize::from(slot.chain)).ok_or_else(|| {
                TablesError::Dangling { what: "chain", position: usize::from(slot.chain) }
            })?;
            if let Some(owner) = self.chain(positions, way)? {
                links.by_cause.insert((slot.chain, way), owner);
            }
        }
        Ok(links)
    }

    fn way(&self, position: u16) -> Way {
        match self.tables.edge.backends.get(usize::from(position)) {
            Some(backend) if !self.node.tunnel_addresses.contains(&backend.tunnel_address) => {
                Way::to(backend.tunnel_address)
            }
            _ => Way::Here,
        }
    }

    fn chain(&self, positions: &[u16], way: Way) -> Result<Option<ChainOwner>, TablesError> {
        let mut chain: Option<(ChainOwner, Way)> = None;
        for &position in positions {
            let backend = self.tables.edge.backends.get(usize::from(position));
            let address = backend.ok_or_else(|| dangling(position))?.tunnel_address;
            match &mut chain {
                // From here the first hop is reached as a target of its own.
                None if way == Way::Here || way == Way::to(address) => {
                    let first = self.numbers.get(usize::from(position)).copied();
                    let first = first.ok_or_else(|| dangling(position))?;
                    chain = Some((ChainOwner { first, hops: vec![address] }, Way::to(address)));
                }
                Some((owner, way))
                    if *way == Way::to(address)
                        && owner.hops.len() < self.hops_max
                        && !owner.hops.contains(&address) =>
                {
                    owner.hops.push(address);
                }
                _ => {}
            }
        }
        Ok(chain.map(|(owner, _)| owner))
    }
}

// === impl Links ===

impl Links {
    /// Every chain.
    pub(super) fn owners(&self) -> BTreeSet<ChainOwner> {
        self.rings.iter().flat_map(|ring| ring.by_cause.values()).cloned().collect()
    }

    /// Ring by ring, in their order.
    pub(super) fn of_rings(&self) -> impl Iterator<Item = &RingLinks> {
        self.rings.iter()
    }
}

impl RingLinks {
    /// The chain of a slot, if there is one.
    pub(super) fn owner(&self, slot: &Slot) -> Option<&ChainOwner> {
        if slot.chain == NO_CHAIN {
            return None;
        }
        self.by_cause.get(&(slot.chain, *self.ways.get(&slot.current)?))
    }
}

// === impl ChainOwner ===

impl ChainOwner {
    /// As the kernel's table holds it.
    pub(crate) fn to_kernel(&self) -> Chain {
        let mut chain = Chain { first: self.first, ..Chain::default() };
        for (hop, address) in chain.hops.iter_mut().zip(&self.hops) {
            *hop = address_words(*address);
            chain.len = chain.len.saturating_add(1);
        }
        chain
    }

    /// What a predecessor put in force.
    pub(crate) fn of_kernel(chain: &Chain) -> Self {
        let hops = chain.hops.iter().take(chain.len.into()).map(address_of).collect();
        Self { first: chain.first, hops }
    }
}

impl Way {
    const fn to(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}
