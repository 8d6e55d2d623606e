//! Whose services are in force.

use std::collections::BTreeMap;

use isocast_dataplane_common::directory::{Space, Value};

use crate::{ServiceKey, dataplane::Dataplane, explain::TENANT};

impl Dataplane {
    /// The isolation domain of each service in force.
    #[must_use]
    pub fn tenants(&self) -> BTreeMap<ServiceKey, u32> {
        let in_force = self.in_force();
        let names: BTreeMap<_, _> =
            in_force.ledger.services.iter().map(|(name, number)| (*number, name)).collect();
        let listeners = in_force.directory.entries().filter(|entry| {
            entry.key.is_in(Space::Listener) && entry.value.tenant != Value::TUNNEL
        });
        let tenant = |value: Value| {
            let name = names.get(&value.service)?;
            Some((ServiceKey((*name).clone()), value.tenant & TENANT))
        };
        listeners.filter_map(|entry| tenant(entry.value)).collect()
    }
}
