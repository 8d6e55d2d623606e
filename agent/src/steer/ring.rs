//! A service's ring: who gets each slot, and who may still own flows of it.
//!
//! Both follow from member lists alone. The previous backend of a slot is that of the latest
//! earlier ring in which the slot was somebody else's; a slot that never changed has none.

use isocast_dataplane_common::{NO_BACKEND, RING_SLOTS, Slot, maglev};

use super::{Member, ServiceMemory};
use crate::model::{ClusterSecret, Uid};

/// Key of a service's ring; every edge derives the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingKey([u64; 2]);

// === impl RingKey ===

impl RingKey {
    pub(super) fn derive(secret: &ClusterSecret, service: &Uid) -> Self {
        Self(isocast_dataplane::ClusterSecret::new(secret.0).ring_key(service))
    }
}

/// Fills the slots; `position` numbers the backends in the tables.
pub(super) fn slots(
    key: RingKey,
    memory: &ServiceMemory,
    mut position: impl FnMut(&Member) -> u16,
) -> Vec<Slot> {
    let mut ring = vec![NO_BACKEND; RING_SLOTS];
    fill(key, &memory.members, &mut position, &mut ring);
    let mut slots: Vec<Slot> = ring.iter().map(|current| Slot::settled(*current)).collect();
    for epoch in &memory.past {
        fill(key, &epoch.members, &mut position, &mut ring);
        for (slot, before) in slots.iter_mut().zip(&ring) {
            if slot.previous == NO_BACKEND && slot.current != *before {
                slot.previous = *before;
            }
        }
    }
    slots
}

fn fill(
    key: RingKey,
    members: &[Member],
    position: &mut impl FnMut(&Member) -> u16,
    ring: &mut [u16],
) {
    let candidates: Vec<_> = members
        .iter()
        .map(|member| maglev::Member { id: identity(&member.uid), weight: member.weight })
        .collect();
    maglev::fill(&key.0, &candidates, ring);
    let positions: Vec<u16> = members.iter().map(position).collect();
    for slot in ring {
        *slot = positions.get(usize::from(*slot)).copied().unwrap_or(NO_BACKEND);
    }
}

fn identity(uid: &Uid) -> [u8; 16] {
    let mut id = [0; 16];
    blake3::Hasher::new().update(uid.as_bytes()).finalize_xof().fill(&mut id);
    id
}
