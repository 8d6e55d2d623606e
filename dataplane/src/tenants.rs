//! Whose services are in force.

use std::collections::BTreeMap;

use isocast_dataplane_common::directory::{Space, Value};

use crate::{ServiceKey, dataplane::Dataplane};

impl Dataplane {
    /// The isolation domain of each service in force.
    #[must_use]
    pub fn tenants(&self) -> BTreeMap<ServiceKey, u32> {
        let in_force = self.in_force();
        let names: BTreeMap<_, _> =
            in_force.ledger.services.iter().map(|(name, number)| (*number, name)).collect();
        let listeners = in_force
            .entries
            .iter()
            .filter(|(key, value)| key.is_in(Space::Listener) && value.tenant != Value::TUNNEL);
        let tenant = |value: Value| {
            let name = names.get(&value.service)?;
            Some((ServiceKey((*name).clone()), value.tenant & Value::TENANT))
        };
        listeners.filter_map(|(_, value)| tenant(*value)).collect()
    }
}
