//! A service's ring: who gets each slot, and who else may own flows of it.
//!
//! Both follow from member lists alone. A slot's own backend is that of the ring in force. Its chain
//! names the hosts that had the slot in earlier rings, the latest first, and then, where the service
//! asks for it, those that have it in other datacenters: anycast may have moved a flow from there. A
//! slot that never changed, of a service that keeps to its datacenter, has none.
//!
//! **Invariant:** slots depend on the name of the service and on where its flows go, not on uids. A
//! service or a pool that is deleted and applied again has the ring that it had, so its flows live.
//!
//! Filling a ring costs some hundred microseconds and an edge has a thousand of them, so rings of
//! services to which nothing happened are taken from the plan before ([`Rings`]). That is a matter
//! of time only: with and without it the slots are the same.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use isocast_dataplane::{ClusterSecret, Ring};
use isocast_dataplane_common::{CHAIN_HOPS, NO_BACKEND, NO_CHAIN, RING_SLOTS, Slot, maglev};

use super::{Member, ServiceMemory};
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
    /// Positions of the lineage's backends in the tables.
    positions: Vec<u16>,
    ring: Ring,
}

/// Member lists that a ring follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lineage {
    /// The ring in force, and those before it.
    own: Vec<Vec<Member>>,
    /// Rings of other datacenters.
    others: Vec<Vec<Member>>,
}

// === impl Rings ===

impl Rings {
    /// The ring of a service; `position` numbers its backends in the tables. The one in `before`
    /// is taken over if it is the same.
    pub(super) fn ring(
        &mut self,
        before: &Self,
        secret: &ClusterSecret,
        service: &Service,
        memory: &ServiceMemory,
        others: &[Vec<Member>],
        position: impl FnMut(&Member) -> u16,
    ) -> Ring {
        let past = memory.past.iter().map(|epoch| &epoch.members);
        let own = [&memory.members].into_iter().chain(past).cloned().collect();
        let lineage = Lineage { own, others: others.to_vec() };
        let positions: Vec<u16> = lineage.members().map(position).collect();
        let key = secret.ring_key(&format!("{}/{}", service.namespace, service.name));
        let same = |made: &&Made| {
            made.key == key && made.lineage == lineage && made.positions == positions
        };
        let made = before.made.get(&service.uid).filter(same).cloned().unwrap_or_else(|| {
            let ring = fill(&key, &lineage, &positions);
            Made { key, lineage, positions, ring }
        });
        let ring = made.ring.clone();
        self.made.insert(service.uid.clone(), made);
        ring
    }
}

// === impl Lineage ===

impl Lineage {
    fn lists(&self) -> impl Iterator<Item = &Vec<Member>> {
        self.own.iter().chain(&self.others)
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.lists().flatten()
    }
}

/// Who may have a slot's flows besides its own backend.
#[derive(Clone, Debug, Default)]
struct Claims {
    own: Option<IpAddr>,
    /// From earlier rings, the latest first.
    former: Vec<Claim>,
    /// From other datacenters, in order of preference.
    others: Vec<Claim>,
}

/// A host, and the position of the backend that it is.
type Claim = (IpAddr, u16);

impl Claims {
    /// Those that a chain has room for, none twice. As many as there is room for come from earlier
    /// rings, but one of another datacenter has its place.
    fn chain(&self) -> Vec<u16> {
        let mut chain: Vec<Claim> = Vec::new();
        let mut add = |claims: &[Claim], most: usize| {
            for claim in claims {
                let is_known = self.own == Some(claim.0) || chain.iter().any(|it| it.0 == claim.0);
                if !is_known && chain.len() < most {
                    chain.push(*claim);
                }
            }
        };
        add(&self.former, CHAIN_HOPS.saturating_sub(1));
        add(&self.others, CHAIN_HOPS);
        add(&self.former, CHAIN_HOPS);
        chain.into_iter().map(|(_, position)| position).collect()
    }
}

/// Fills the slots; `positions` are those of the lineage's members, in their order.
fn fill(key: &[u64; 2], lineage: &Lineage, positions: &[u16]) -> Ring {
    let mut slots = vec![Slot::EMPTY; RING_SLOTS];
    let mut claims = vec![Claims::default(); RING_SLOTS];
    let mut ring = vec![NO_BACKEND; RING_SLOTS];
    let mut positions = positions;
    for (age, members) in lineage.lists().enumerate() {
        let (list, rest) = positions.split_at_checked(members.len()).unwrap_or((positions, &[]));
        positions = rest;
        let candidates: Vec<_> = members
            .iter()
            .map(|member| maglev::Member {
                id: identity(member.tunnel_address),
                weight: member.weight,
            })
            .collect();
        maglev::fill(key, &candidates, &mut ring);
        for ((slot, claims), taken) in slots.iter_mut().zip(&mut claims).zip(&ring) {
            let taken = usize::from(*taken);
            let (Some(member), Some(position)) = (members.get(taken), list.get(taken)) else {
                continue;
            };
            let host = member.tunnel_address;
            if age == 0 {
                (slot.current, claims.own) = (*position, Some(host));
            } else if age < lineage.own.len() {
                claims.former.push((host, *position));
            } else {
                claims.others.push((host, *position));
            }
        }
    }
    let chains = link(&mut slots, &claims);
    Ring { slots: slots.into(), chains }
}

/// Gives every slot with claims its chain; equal ones share one.
fn link(slots: &mut [Slot], claims: &[Claims]) -> Arc<[Vec<u16>]> {
    let mut numbers = BTreeMap::new();
    let mut chains = Vec::new();
    for (slot, claims) in slots.iter_mut().zip(claims) {
        let chain = claims.chain();
        // Flows of a slot that nobody serves are nobody's.
        if slot.current == NO_BACKEND || chain.is_empty() {
            continue;
        }
        slot.chain = *numbers.entry(chain).or_insert_with_key(|positions| {
            chains.push(positions.clone());
            u16::try_from(chains.len().saturating_sub(1)).unwrap_or(NO_CHAIN)
        });
    }
    chains.into()
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
