//! A service's ring: who gets each slot, and who may still own flows of it.
//!
//! Both follow from member lists alone. The previous backend of a slot is that of the latest
//! earlier ring in which the slot was somebody else's; a slot that never changed has none.
//!
//! **Invariant:** slots depend on the name of the service and on where its flows go, not on uids. A
//! service or a pool that is deleted and applied again has the ring that it had, so its flows live.
//!
//! **Invariant:** the size of a ring follows the configured number of backends, so every edge comes
//! to the same. While rings of several sizes count, the slots are those of the largest: a slot of a
//! smaller ring stands for all that have the same low bits, as it does for the flow hash.
//!
//! Filling a ring costs some hundred microseconds and an edge has thousands of them, so rings of
//! services to which nothing happened are taken from the plan before ([`Rings`]). That is a matter
//! of time only: with and without it the slots are the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use isocast_dataplane::{ClusterSecret, Ring};
use isocast_dataplane_common::{NO_BACKEND, Slot, maglev};

use super::{Member, RingSize, ServiceMemory};
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
    slots: Arc<[Slot]>,
}

/// Members and sizes of the ring in force and of those before it.
type Lineage = Vec<(Vec<Member>, RingSize)>;

// === impl Rings ===

impl Rings {
    /// The ring of a service; `position` is that of a backend in the tables. The slots in `before`
    /// are taken over if they are the same.
    pub(super) fn ring(
        &mut self,
        before: &Self,
        secret: &ClusterSecret,
        service: &Service,
        memory: &ServiceMemory,
        position: impl FnMut(&Member) -> usize,
    ) -> Ring {
        let past = memory.past.iter().map(|epoch| (epoch.members.clone(), epoch.size));
        let lineage: Lineage =
            [(memory.members.clone(), memory.size)].into_iter().chain(past).collect();
        let backends = backends(&lineage).into_iter().map(position).collect();
        let key = secret.ring_key(&format!("{}/{}", service.namespace, service.name));
        let same = |made: &&Made| made.key == key && made.lineage == lineage;
        let made = before.made.get(&service.uid).filter(same).cloned().unwrap_or_else(|| {
            let slots = slots(&key, &lineage).into();
            Made { key, lineage, slots }
        });
        let slots = Arc::clone(&made.slots);
        self.made.insert(service.uid.clone(), made);
        Ring { backends, slots }
    }
}

/// The backends that slots point at, in the order of their positions: each uid once.
fn backends(lineage: &Lineage) -> Vec<&Member> {
    let mut seen = BTreeSet::new();
    let members = lineage.iter().flat_map(|(members, _)| members);
    members.filter(|member| seen.insert(&member.uid)).collect()
}

/// Fills the slots from the ring in force, first in `lineage`, and those before it.
fn slots(key: &[u64; 2], lineage: &Lineage) -> Vec<Slot> {
    let positions: BTreeMap<_, _> =
        backends(lineage).into_iter().map(|member| &member.uid).zip(0..NO_BACKEND).collect();
    let size = lineage.iter().map(|(_, size)| size.slots()).max().unwrap_or(0);
    let mut slots = vec![Slot::EMPTY; size];
    let mut owners = vec![None; size];
    for (age, (members, size)) in lineage.iter().enumerate() {
        let candidates: Vec<_> = members
            .iter()
            .map(|member| maglev::Member {
                id: identity(member.tunnel_address),
                weight: member.weight,
            })
            .collect();
        let mut ring = vec![NO_BACKEND; size.slots()];
        maglev::fill(key, &candidates, &mut ring);
        for ((slot, owner), taken) in slots.iter_mut().zip(&mut owners).zip(ring.iter().cycle()) {
            let member = members.get(usize::from(*taken));
            let backend = member.and_then(|member| positions.get(&member.uid).copied());
            let backend = backend.unwrap_or(NO_BACKEND);
            let host = member.map(|member| member.tunnel_address);
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
