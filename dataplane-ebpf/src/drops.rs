//! Counts dropped packets by service and reason.

use aya_ebpf::{btf_maps::PerCpuHashMap, macros::btf_map};
use isocast_dataplane_common::{
    Outcome,
    drops::{DROP_PAIRS, key},
};

use crate::capture::Served;

#[btf_map]
static SERVICE_DROPS: PerCpuHashMap<u32, u64, DROP_PAIRS> = PerCpuHashMap::new();

/// Counts a packet that is dropped, if it is one of a service. Off the road of all others.
#[inline(always)]
pub fn count(served: Served, reason: Outcome) {
    if let Some(service) = served.service() {
        count_service(service, reason);
    }
}

#[inline(never)]
fn count_service(service: u16, reason: Outcome) {
    const NO_EXIST: u64 = 1;
    let key = key(service, reason);
    if let Some(counter) = SERVICE_DROPS.get_ptr_mut(key) {
        // SAFETY: this CPU's own value, and programs do not interrupt each other on a CPU.
        unsafe { *counter += 1 };
    } else {
        // The first of its kind, on any CPU. With the map full it counts by its reason alone.
        let _full = SERVICE_DROPS.insert(key, 1, NO_EXIST);
    }
}
