//! [`Links`]: what the positions in each ring's slots stand for.
//!
//! A slot says who may have its flows besides its own backend; a chain is what of that can travel in
//! one header: hops of one outer family, none twice, at most [`CHAIN_HOPS`], and not this node where
//! the slot's own backend is this node. A host without an agent is in none, and its slots have none: its
//! header has no place for hops. A [`Track`] is the chain of its former backend, and says more. Many slots share
//! few chains. If there are more than there may be, every chain is cut to its first hop: the host that
//! had the slot last is the one that most likely has the flow.
//!
//! Slots are not read here: the cost is that of backends and chains.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use isocast_dataplane_common::{
    CHAIN_HOPS, NO_BACKEND, NO_CHAIN, limits::MAX_CHAINS, tables::Chain, tracking::BETWEEN_MAX,
};

use super::{Node, TablesError, TargetOwner, contents::Meaning};
use crate::{
    flow_table,
    header::{address_of, address_words},
    tables::{Encap, Ring, Tables, Track},
};

/// What a chain number stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChainOwner {
    /// Target number of the first hop; 0 if there is none.
    first: u16,
    /// Tunnel addresses of one family, the first included.
    hops: Vec<IpAddr>,
    /// Of a tracked slot.
    tracked: Option<Tracked>,
}

/// What the flow table is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tracked {
    /// Target number of the backend that has the flows which are not noted.
    pub(crate) former: u16,
    /// As the kernel's table holds it.
    pub(crate) since: u16,
    /// Target numbers; 0 for none.
    pub(crate) between: [u16; BETWEEN_MAX],
}

/// How a slot's own backend is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// It is this node, or nobody.
    Here,
    Ipv4,
    Ipv6,
    /// It has no agent.
    Plain,
}

/// Something that depends on how the slot's own backend is reached.
pub(super) type ByWay<T> = [T; 4];

/// Backends and chains of all rings.
#[derive(Debug)]
pub(super) struct Links {
    rings: Vec<RingLinks>,
}

#[derive(Debug)]
struct RingLinks {
    /// Target number of each backend, and how it is reached.
    targets: Vec<(u16, Way)>,
    chains: Vec<ByWay<Option<ChainOwner>>>,
    /// The same however the slot's own backend is reached.
    tracks: Vec<ChainOwner>,
}

/// Finds backends and chains of all rings.
pub(super) fn resolve(
    tables: &Tables,
    targets: &BTreeMap<TargetOwner, u16>,
    node: Node<'_>,
) -> Result<Links, TablesError> {
    let resolve = |hops_max| {
        let resolving = Resolving { tables, targets, node, hops_max };
        let rings = tables.edge.rings.iter().map(|ring| resolving.ring(ring));
        rings.collect::<Result<_, _>>().map(|rings| Links { rings })
    };
    let links = resolve(CHAIN_HOPS)?;
    if links.owners().len() <= MAX_CHAINS { Ok(links) } else { resolve(1) }
}

struct Resolving<'a> {
    tables: &'a Tables,
    targets: &'a BTreeMap<TargetOwner, u16>,
    node: Node<'a>,
    hops_max: usize,
}

/// A backend of a ring.
struct Member {
    /// Its target.
    number: u16,
    address: IpAddr,
    way: Way,
}

// === impl Resolving ===

impl Resolving<'_> {
    fn ring(&self, ring: &Ring) -> Result<RingLinks, TablesError> {
        let members: Vec<Member> =
            ring.backends.iter().map(|at| self.member(*at)).collect::<Result<_, _>>()?;
        let targets: Vec<_> = members.iter().map(|member| (member.number, member.way)).collect();
        // A slot without a backend counts as one that is here.
        let ways: BTreeSet<Way> = targets.iter().map(|(_, way)| *way).chain([Way::Here]).collect();
        let by_way = |positions: &Vec<u16>| {
            let mut chains: ByWay<Option<ChainOwner>> = <_>::default();
            for way in ways.iter().filter(|way| **way != Way::Plain) {
                *way.of_mut(&mut chains) = self.chain(&members, positions, *way)?;
            }
            Ok(chains)
        };
        let chains = ring.chains.iter().map(by_way).collect::<Result<_, TablesError>>()?;
        let tracks = ring.tracks.iter().map(|track| self.track(&members, track));
        let tracks = tracks.collect::<Result<_, _>>()?;
        Ok(RingLinks { targets, chains, tracks })
    }

    /// The chain of a track's former backend.
    fn track(&self, members: &[Member], track: &Track) -> Result<ChainOwner, TablesError> {
        let member = |position: u16| {
            let position = usize::from(position);
            let dangling = TablesError::Dangling { what: "backend of a track", position };
            members.get(position).ok_or(dangling)
        };
        let former = member(track.former)?;
        let mut tracked = Tracked {
            former: former.number,
            since: flow_table::since(track.since, self.tables.edge.era),
            between: [0; BETWEEN_MAX],
        };
        for (to, position) in tracked.between.iter_mut().zip(&track.between) {
            *to = member(*position)?.number;
        }
        let chain = match former.way {
            Way::Plain => None,
            way => self.chain(members, &track.further, way)?,
        };
        let none = ChainOwner { first: 0, hops: Vec::new(), tracked: None };
        Ok(ChainOwner { tracked: Some(tracked), ..chain.unwrap_or(none) })
    }

    fn member(&self, position: usize) -> Result<Member, TablesError> {
        let backend = self.tables.edge.backends.get(position);
        let backend = backend.ok_or(TablesError::Dangling { what: "backend", position })?;
        let (address, owner) = (backend.tunnel_address, TargetOwner::backend(backend));
        let way = match backend.encap {
            _ if self.node.tunnel_addresses.contains(&address) => Way::Here,
            Encap::Gue => Way::to(address),
            Encap::Ip => Way::Plain,
        };
        let number = self.targets.get(&owner).copied().unwrap_or(NO_BACKEND);
        Ok(Member { number, address, way })
    }

    fn chain(
        &self,
        members: &[Member],
        positions: &[u16],
        way: Way,
    ) -> Result<Option<ChainOwner>, TablesError> {
        let mut chain: Option<(ChainOwner, Way)> = None;
        for &position in positions {
            let position = usize::from(position);
            let dangling = TablesError::Dangling { what: "backend of a chain", position };
            let member = members.get(position).ok_or(dangling)?;
            let &Member { number: first, address, way: of_member } = member;
            // A flow that this host has no socket for is not found here under another address either.
            let is_in_vain = way == Way::Here && of_member == Way::Here;
            if is_in_vain || of_member == Way::Plain {
                continue;
            }
            match &mut chain {
                // From here the first hop is reached as a target of its own.
                None if way == Way::Here || way == Way::to(address) => {
                    let owner = ChainOwner { first, hops: vec![address], tracked: None };
                    chain = Some((owner, Way::to(address)));
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
        let chains = self.rings.iter().flat_map(|ring| &ring.chains);
        let tracks = self.rings.iter().flat_map(|ring| &ring.tracks);
        chains.flatten().flatten().chain(tracks).cloned().collect()
    }

    /// What the positions of each ring stand for, once the chains have numbers.
    pub(super) fn meanings(
        self,
        numbers: &BTreeMap<ChainOwner, u16>,
    ) -> impl Iterator<Item = Meaning> {
        let number = |owner: Option<ChainOwner>| {
            owner.and_then(|owner| numbers.get(&owner).copied()).unwrap_or(NO_CHAIN)
        };
        self.rings.into_iter().map(move |RingLinks { targets, chains, tracks }| {
            let chains = chains.into_iter().map(|by_way| by_way.map(number)).collect();
            let tracks = tracks.into_iter().map(|owner| number(Some(owner))).collect();
            Meaning { targets, chains, tracks }
        })
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
        if let Some(Tracked { former, since, between }) = self.tracked {
            (chain.former, chain.since, chain.between) = (former, since, between);
        }
        chain
    }

    /// What the flow table is asked about, if this is the chain of a tracked slot.
    pub(crate) const fn tracked(&self) -> Option<Tracked> {
        self.tracked
    }

    /// What a predecessor put in force.
    pub(crate) fn of_kernel(chain: &Chain) -> Self {
        let hops = chain.hops.iter().take(chain.len.into()).map(address_of).collect();
        let Chain { first, former, since, between, .. } = *chain;
        let tracked = (former != 0).then_some(Tracked { former, since, between });
        Self { first, hops, tracked }
    }
}

// === impl Way ===

impl Way {
    const fn to(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    pub(super) const fn of<T>(self, [here, ipv4, ipv6, plain]: &ByWay<T>) -> &T {
        match self {
            Self::Here => here,
            Self::Ipv4 => ipv4,
            Self::Ipv6 => ipv6,
            Self::Plain => plain,
        }
    }

    const fn of_mut<T>(self, [here, ipv4, ipv6, plain]: &mut ByWay<T>) -> &mut T {
        match self {
            Self::Here => here,
            Self::Ipv4 => ipv4,
            Self::Ipv6 => ipv6,
            Self::Plain => plain,
        }
    }
}
