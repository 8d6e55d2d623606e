//! Whose packets were dropped, and why: since the program was loaded.

use std::collections::{BTreeMap, BTreeSet};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuHashMap},
};
use isocast_dataplane_common::{Outcome, drops};
use parking_lot::Mutex;

use crate::{
    ServiceKey,
    dataplane::Dataplane,
    maps::{MapFailure, failed, take},
};

const NAME: &str = "SERVICE_DROPS";

/// The program's counters of drops.
pub(crate) struct Drops(Mutex<PerCpuHashMap<MapData, u32, u64>>);

impl Drops {
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, MapFailure> {
        Ok(Self(Mutex::new(take(ebpf, NAME)?)))
    }

    /// Begins anew for numbers of services, which get new owners.
    pub(crate) fn forget(&self, numbers: &BTreeSet<u16>) -> Result<(), MapFailure> {
        if numbers.is_empty() {
            return Ok(());
        }
        let mut map = self.0.lock();
        let is_one = |key: &u32| {
            let (service, _) = drops::parts(*key);
            u16::try_from(service).is_ok_and(|service| numbers.contains(&service))
        };
        // Gathered first: a walk that removes loses its place.
        let keys: Vec<u32> = map.keys().filter_map(Result::ok).filter(is_one).collect();
        for key in keys {
            map.remove(&key).map_err(failed(NAME))?;
        }
        Ok(())
    }
}

impl Dataplane {
    /// Dropped packets of services in force, by reason.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn drops(&self) -> Result<BTreeMap<ServiceKey, BTreeMap<Outcome, u64>>, MapFailure> {
        let in_force = self.in_force();
        let names: BTreeMap<_, _> = in_force
            .ledger
            .services
            .iter()
            .map(|(name, number)| (u32::from(*number), name))
            .collect();
        let mut all: BTreeMap<ServiceKey, BTreeMap<Outcome, u64>> = BTreeMap::new();
        let map = self.drop_counters().0.lock();
        for item in map.iter() {
            let (key, values) = item.map_err(failed(NAME))?;
            let (service, reason) = drops::parts(key);
            let reason = Outcome::ALL.iter().find(|outcome| **outcome as u32 == reason);
            let (Some(name), Some(reason)) = (names.get(&service), reason) else { continue };
            let sum = values.iter().fold(0_u64, |sum, value| sum.wrapping_add(*value));
            let drops = all.entry(ServiceKey((*name).clone())).or_default();
            drops.insert(*reason, sum);
        }
        Ok(all)
    }
}
