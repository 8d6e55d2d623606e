//! What the programs counted.

use std::{collections::BTreeMap, sync::Arc};

use isocast_dataplane_common::{Outcome, policy::Refused, tables::Counter};

use crate::{
    ceilings::CeilingKeeper,
    maps::{MapFailure, Maps, Numbered},
    plan::Ledger,
    tables::{BackendKey, ServiceKey},
};

/// Counters since each thing got its number: they survive generations and restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets to services, before any decision.
    pub services: BTreeMap<ServiceKey, Counter>,
    /// Packets that services kept out, by reason.
    pub refused: BTreeMap<ServiceKey, Refused>,
    /// Packets sent to backends.
    pub backends: BTreeMap<BackendKey, Counter>,
    /// What became of packets.
    pub outcomes: BTreeMap<Outcome, u64>,
}

impl Counters {
    pub(crate) fn read(
        maps: &Maps,
        ceilings: &CeilingKeeper,
        ledger: &Ledger,
    ) -> Result<Self, MapFailure> {
        let mut counters = Self::default();
        for (name, &number) in &ledger.services {
            let counter = maps.read_counter(Numbered::Service, number)?;
            let service = ServiceKey(Arc::clone(name));
            counters.services.insert(service.clone(), counter);
            counters.refused.insert(service, ceilings.refused(number)?);
        }
        for (owner, &number) in &ledger.targets {
            if owner.key.is_empty() {
                continue;
            }
            let counter = maps.read_counter(Numbered::Target, number)?;
            // A backend that changes its tunnel address has both for one generation.
            let sum = counters.backends.entry(BackendKey(Arc::clone(&owner.key))).or_default();
            sum.packets = sum.packets.wrapping_add(counter.packets);
            sum.bytes = sum.bytes.wrapping_add(counter.bytes);
        }
        for &outcome in Outcome::ALL {
            counters.outcomes.insert(outcome, maps.read_outcome(outcome as u32)?);
        }
        Ok(counters)
    }
}
