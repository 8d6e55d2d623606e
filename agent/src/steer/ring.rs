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

/// Who may have a slot's flows, in turn: hosts, none twice.
#[derive(Clone, Debug, Default)]
struct Claims {
    own: Option<IpAddr>,
    hosts: Vec<IpAddr>,
    positions: Vec<u16>,
}

impl Claims {
    /// Adds a host unless it is there already, or `most` others are.
    fn add(&mut self, host: IpAddr, position: u16, most: usize) {
        if self.own != Some(host) && !self.hosts.contains(&host) && self.hosts.len() < most {
            self.hosts.push(host);
            self.positions.push(position);
        }
    }
}

/// Fills the slots; `positions` are those of the lineage's members, in their order.
fn fill(key: &[u64; 2], lineage: &Lineage, positions: &[u16]) -> Ring {
    let mut slots = vec![Slot::EMPTY; RING_SLOTS];
    let mut claims = vec![Claims::default(); RING_SLOTS];
    let mut ring = vec![NO_BACKEND; RING_SLOTS];
    let mut positions = positions;
    // One place is kept for another datacenter: earlier rings must not fill a chain.
    let most_own = CHAIN_HOPS.saturating_sub(usize::from(!lineage.others.is_empty()));
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
        let most = if age < lineage.own.len() { most_own } else { CHAIN_HOPS };
        for ((slot, claims), taken) in slots.iter_mut().zip(&mut claims).zip(&ring) {
            let taken = usize::from(*taken);
            let (Some(member), Some(position)) = (members.get(taken), list.get(taken)) else {
                continue;
            };
            if age == 0 {
                (slot.current, claims.own) = (*position, Some(member.tunnel_address));
            } else {
                claims.add(member.tunnel_address, *position, most);
            }
        }
    }
    let chains = link(&mut slots, claims);
    Ring { slots: slots.into(), chains }
}

/// Gives every slot with claims its chain; equal ones share one.
fn link(slots: &mut [Slot], claims: Vec<Claims>) -> Arc<[Vec<u16>]> {
    let mut numbers = BTreeMap::new();
    let mut chains = Vec::new();
    for (slot, claims) in slots.iter_mut().zip(claims) {
        // Flows of a slot that nobody serves are nobody's.
        if slot.current == NO_BACKEND || claims.positions.is_empty() {
            continue;
        }
        slot.chain = *numbers.entry(claims.positions).or_insert_with_key(|positions| {
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
