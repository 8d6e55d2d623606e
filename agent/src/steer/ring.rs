//! A service's ring: who gets each slot, and who else may own flows of it.
//!
//! Both follow from member lists alone. A slot's own backend is that of the ring in force. Its chain
//! names the hosts that had the slot in earlier rings, the latest first, and then, where the service
//! asks for it, those that have or had it in other datacenters: anycast may have moved a flow from
//! there. A slot that never changed, of a service that keeps to its datacenter, has none.
//!
//! **Invariant:** slots depend on the name of the service and on where its flows go, not on uids. A
//! service or a pool that is deleted and applied again has the ring that it had, so its flows live.
//!
//! **Invariant:** the size of a ring follows the configured number of backends, so every edge comes
//! to the same. While rings of several sizes count, the slots are those of the largest: a slot of a
//! smaller ring stands for all that have the same low bits, as it does for the flow hash.
//!
//! **Datagrams** have chains of their own. A host that does not know a connection has lost nothing if the
//! packet goes on to a host that is dead; a datagram may begin a flow. So its chain has only hosts that
//! are healthy, and none of another datacenter: the first packet of each flow would go there and back.
//!
//! Filling a ring costs some hundred microseconds and an edge has thousands of them, so rings of
//! services to which nothing happened are taken from the plan before ([`Rings`]). That is a matter
//! of time only: with and without it the slots are the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use isocast_dataplane::{Ring, ring_key};
use isocast_dataplane_common::{CHAIN_HOPS, NO_BACKEND, NO_CHAIN, Slot, maglev};

use super::{Member, RingSize, ServiceMemory, Succession};
use crate::model::{Service, Uid};

/// The rings of a plan, by service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    made: BTreeMap<Uid, Made>,
}

/// A ring, and all that it follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Made {
    key: [u64; 2],
    lineage: Lineage,
    filled: Filled,
}

/// Slots and chains that point at the lineage's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filled {
    connections: Linked,
    datagrams: Linked,
}

/// Slots with their chains.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Linked {
    slots: Arc<[Slot]>,
    chains: Arc<[Vec<u16>]>,
}

/// The rings of one service: they differ in their chains alone.
#[derive(Clone, Debug)]
pub(super) struct ServiceRings {
    pub(super) connections: Ring,
    pub(super) datagrams: Ring,
}

/// Members and sizes of rings that a ring follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lineage {
    /// The ring in force, and those before it.
    own: Vec<(Vec<Member>, RingSize)>,
    /// Rings of other datacenters, in order of preference, each before those that it followed.
    others: Vec<(Vec<Member>, RingSize)>,
    /// Members of earlier rings that may be given datagrams, if the service has any.
    healthy: Option<BTreeSet<Uid>>,
}

// === impl Rings ===

impl Rings {
    /// The rings of a service; `position` numbers its backends in the tables. Those in `before` are
    /// taken over if they are the same.
    pub(super) fn rings(
        &mut self,
        before: &Self,
        service: &Service,
        lineage: Lineage,
        position: impl FnMut(&Member) -> usize,
    ) -> ServiceRings {
        let backends: Arc<[usize]> = lineage.backends().into_iter().map(position).collect();
        let key = ring_key(&format!("{}/{}", service.namespace, service.name));
        let same = |made: &&Made| made.key == key && made.lineage == lineage;
        let made = before.made.get(&service.uid).filter(same).cloned().unwrap_or_else(|| {
            let filled = fill(&key, &lineage);
            Made { key, lineage, filled }
        });
        let Filled { connections, datagrams } = made.filled.clone();
        self.made.insert(service.uid.clone(), made);
        let ring =
            |Linked { slots, chains }| Ring { backends: Arc::clone(&backends), chains, slots };
        ServiceRings { connections: ring(connections), datagrams: ring(datagrams) }
    }
}

// === impl Lineage ===

impl Lineage {
    /// Datacenters that `order` does not name served until lately; they come last. Datagrams may be
    /// given to the `healthy`, if the service has any.
    pub(super) fn of<'o>(
        memory: &ServiceMemory,
        order: impl Iterator<Item = &'o str>,
        healthy: Option<BTreeSet<Uid>>,
    ) -> Self {
        let mut names: Vec<&str> = order.collect();
        let rest = memory.others.keys().filter(|name| !names.contains(&name.as_str()));
        let rest: Vec<_> = rest.map(String::as_str).collect();
        names.extend(rest);
        let others = names.iter().filter_map(|name| memory.others.get(*name));
        Self {
            own: memory.own.rings().collect(),
            others: others.flat_map(Succession::rings).collect(),
            healthy,
        }
    }

    fn lists(&self) -> impl Iterator<Item = &(Vec<Member>, RingSize)> {
        self.own.iter().chain(&self.others)
    }

    /// The backends that slots and chains point at, in the order of their positions: each uid once.
    fn backends(&self) -> Vec<&Member> {
        let mut seen = BTreeSet::new();
        let members = self.lists().flat_map(|(members, _)| members);
        members.filter(|member| seen.insert(&member.uid)).collect()
    }
}

/// Who may have a slot's flows besides its own backend.
#[derive(Clone, Debug, Default)]
struct Claims {
    own: Option<IpAddr>,
    /// From earlier rings, the latest first.
    former: Vec<Claim>,
    /// Those of them that may be given datagrams.
    healthy: Vec<Claim>,
    /// From other datacenters, in order of preference.
    others: Vec<Claim>,
}

/// A host, and the position of the backend that it is.
type Claim = (IpAddr, u16);

impl Claims {
    /// Those that a chain of connections has room for. As many as there is room for come from
    /// earlier rings, but one of another datacenter has its place.
    fn of_connections(&self) -> Vec<u16> {
        self.chain([
            (&self.former, CHAIN_HOPS.saturating_sub(1)),
            (&self.others, CHAIN_HOPS),
            (&self.former, CHAIN_HOPS),
        ])
    }

    /// Those that a chain of datagrams has room for.
    fn of_datagrams(&self) -> Vec<u16> {
        self.chain([(&self.healthy, CHAIN_HOPS)])
    }

    /// Lists one after the other, each as far as there is room for so many; none twice.
    fn chain<const LISTS: usize>(&self, lists: [(&Vec<Claim>, usize); LISTS]) -> Vec<u16> {
        let mut chain: Vec<Claim> = Vec::new();
        for (claims, most) in lists {
            for claim in claims {
                let is_known = self.own == Some(claim.0) || chain.iter().any(|it| it.0 == claim.0);
                if !is_known && chain.len() < most {
                    chain.push(*claim);
                }
            }
        }
        chain.into_iter().map(|(_, position)| position).collect()
    }
}

fn fill(key: &[u64; 2], lineage: &Lineage) -> Filled {
    let positions: BTreeMap<_, _> =
        lineage.backends().into_iter().map(|member| &member.uid).zip(0..NO_BACKEND).collect();
    let size = lineage.lists().map(|(_, size)| size.slots()).max().unwrap_or(0);
    let mut slots = vec![Slot::EMPTY; size];
    let mut claims = vec![Claims::default(); size];
    for (age, (members, size)) in lineage.lists().enumerate() {
        let candidates: Vec<_> = members
            .iter()
            .map(|member| maglev::Member {
                id: identity(member.tunnel_address),
                weight: member.weight.saturating_mul(member.share.into()),
            })
            .collect();
        let mut ring = vec![NO_BACKEND; size.slots()];
        maglev::fill(key, &candidates, &mut ring);
        // Found once a member, not once a slot.
        let of_member = |member: &Member| {
            let position = positions.get(&member.uid).copied()?;
            let healthy = lineage.healthy.as_ref();
            let may_have_datagrams = healthy.is_some_and(|them| them.contains(&member.uid));
            Some(((member.tunnel_address, position), may_have_datagrams))
        };
        let found: Vec<Option<(Claim, bool)>> = members.iter().map(of_member).collect();
        for ((slot, claims), taken) in slots.iter_mut().zip(&mut claims).zip(ring.iter().cycle()) {
            let found = found.get(usize::from(*taken)).copied().flatten();
            let Some((claim, may_have_datagrams)) = found else { continue };
            if age == 0 {
                (claims.own, slot.current) = (Some(claim.0), claim.1);
            } else if age < lineage.own.len() {
                claims.former.push(claim);
                if may_have_datagrams {
                    claims.healthy.push(claim);
                }
            } else {
                claims.others.push(claim);
            }
        }
    }
    let datagrams = lineage.healthy.is_some();
    let datagrams = datagrams.then(|| link(slots.clone(), claims.iter().map(Claims::of_datagrams)));
    let connections = link(slots, claims.iter().map(Claims::of_connections));
    // What is the same is kept once.
    let datagrams = datagrams.filter(|it| *it != connections);
    let datagrams = datagrams.unwrap_or_else(|| connections.clone());
    Filled { connections, datagrams }
}

/// Gives every slot its chain, if there is anybody in it; equal ones share one.
fn link(mut slots: Vec<Slot>, wanted: impl Iterator<Item = Vec<u16>>) -> Linked {
    let mut numbers = BTreeMap::new();
    let mut chains = Vec::new();
    for (slot, chain) in slots.iter_mut().zip(wanted) {
        // Flows of a slot that nobody serves are nobody's.
        if slot.current == NO_BACKEND || chain.is_empty() {
            continue;
        }
        slot.chain = *numbers.entry(chain).or_insert_with_key(|positions| {
            chains.push(positions.clone());
            u16::try_from(chains.len().saturating_sub(1)).unwrap_or(NO_CHAIN)
        });
    }
    Linked { slots: slots.into(), chains: chains.into() }
}

fn identity(host: IpAddr) -> [u8; 16] {
    let mut id = [0; 16];
    let octets = match host {
        IpAddr::V4(host) => host.to_ipv6_mapped().octets(),
        IpAddr::V6(host) => host.octets(),
    };
    blake3::Hasher::new().update(&octets).finalize_xof().fill(&mut id);
    id
}
