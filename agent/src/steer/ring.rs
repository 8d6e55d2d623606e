//! A service's ring: who gets each slot, and who may still own flows of it.
//!
//! Both follow from member lists alone. The previous backend of a slot is that of the latest
//! earlier ring in which the slot was somebody else's; a slot that never changed has none.
//!
//! **Invariant:** slots depend on the name of the service and on where its flows go, not on uids. A
//! service or a pool that is deleted and applied again has the ring that it had, so its flows live.
//!
//! Filling a ring costs some hundred microseconds and an edge has a thousand of them, so rings of
//! services to which nothing happened are taken from the plan before ([`Rings`]). That is a matter
//! of time only: with and without it the slots are the same.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use isocast_dataplane::ClusterSecret;
use isocast_dataplane_common::{NO_BACKEND, RING_SLOTS, Slot, maglev};

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
    slots: Arc<[Slot]>,
}

/// Members of the ring in force and of those before it.
type Lineage = Vec<Vec<Member>>;

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
        position: impl FnMut(&Member) -> u16,
    ) -> Arc<[Slot]> {
        let past = memory.past.iter().map(|epoch| &epoch.members);
        let lineage: Lineage = [&memory.members].into_iter().chain(past).cloned().collect();
        let positions: Vec<u16> = lineage.iter().flatten().map(position).collect();
        let key = secret.ring_key(&format!("{}/{}", service.namespace, service.name));
        let same = |made: &&Made| {
            made.key == key && made.lineage == lineage && made.positions == positions
        };
        let made = before.made.get(&service.uid).filter(same).cloned().unwrap_or_else(|| {
            let slots = slots(&key, &lineage, &positions).into();
            Made { key, lineage, positions, slots }
        });
        let slots = Arc::clone(&made.slots);
        self.made.insert(service.uid.clone(), made);
        slots
    }
}

/// Fills the slots from the ring in force, first in `lineage`, and those before it.
fn slots(key: &[u64; 2], lineage: &[Vec<Member>], positions: &[u16]) -> Vec<Slot> {
    let mut slots = vec![Slot::EMPTY; RING_SLOTS];
    let mut ring = vec![NO_BACKEND; RING_SLOTS];
    let mut owners = vec![None; RING_SLOTS];
    let mut positions = positions;
    for (age, members) in lineage.iter().enumerate() {
        let (own, rest) = positions.split_at_checked(members.len()).unwrap_or((positions, &[]));
        positions = rest;
        let candidates: Vec<_> = members
            .iter()
            .map(|member| maglev::Member {
                id: identity(member.tunnel_address),
                weight: member.weight,
            })
            .collect();
        maglev::fill(key, &candidates, &mut ring);
        for ((slot, owner), taken) in slots.iter_mut().zip(&mut owners).zip(&ring) {
            let backend = own.get(usize::from(*taken)).copied().unwrap_or(NO_BACKEND);
            let host = members.get(usize::from(*taken)).map(|member| member.tunnel_address);
            if age == 0 {
                (slot.current, *owner) = (backend, host);
            } else if slot.previous == NO_BACKEND && *owner != host {
                slot.previous = backend;
            }
        }
    }
    slots
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
