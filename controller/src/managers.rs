//! Managers: what each product's objects mean, decided in the transaction that writes them.
//!
//! A manager here is an [`Admission`]: pure, over the state the write will follow, so that an
//! address is given once and a name taken once without locks. They never wait and never do I/O.

mod drains;
mod events;
mod ipam;
mod key_rotations;
mod lookup;
mod platform;
mod policies;
mod protection;
mod quota;
mod reseal;
mod resourcemanager;
mod services;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

pub use isocast_api::resourcemanager::SYSTEM_NAMESPACE;

pub use self::{
    drains::Drains,
    events::{EventExpiry, Events},
    ipam::Ipam,
    key_rotations::KeyRotations,
    lookup::organization_of,
    platform::Platform,
    policies::{Policies, Trials},
    protection::Protection,
    quota::{GrantExpiry, Metrics as QuotaMetrics, Prover, Quota},
    reseal::{Metrics as ResealMetrics, Reseal},
    resourcemanager::{Purge, ResourceManager},
    services::Services,
};
pub(crate) use self::{
    policies::preview as preview_policy,
    quota::{Claims, Place, Request, foresee},
};
use crate::{admission::Admission, iam::Access};

/// Every manager, in the order that writes pass them.
#[must_use]
pub fn admissions(access: &Arc<Access>) -> Vec<Arc<dyn Admission>> {
    // Containers first: what lives in one that does not exist concerns nobody else.
    vec![
        Arc::new(ResourceManager::default()),
        Arc::new(Platform),
        Arc::new(Policies),
        Arc::new(Drains),
        Arc::new(KeyRotations),
        Arc::new(Ipam),
        Arc::new(Services),
        Arc::new(Events::default()),
        // Last: it remembers what the others made of a write.
        Arc::new(Protection::new(Arc::clone(access))),
    ]
}
