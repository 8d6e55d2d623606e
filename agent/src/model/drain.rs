//! [`DrainOrder`] and [`Departures`]: what is to go, and what is merely not there.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use super::{NodeModel, Service, Uid};

/// An order to take prefixes away without losing a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainOrder {
    /// Uid of the object it comes from.
    pub uid: Uid,
    /// What is to be drained.
    pub target: DrainTarget,
    /// Between the signal to peers and the withdrawal.
    pub wait: Duration,
    /// Whether the last announcer may go.
    pub confirmed: bool,
}

impl DrainOrder {
    /// Whether `service` on the node of `model` is to be drained.
    #[must_use]
    pub fn concerns(&self, model: &NodeModel, service: &Service) -> bool {
        match &self.target {
            DrainTarget::Datacenter(name) => *name == model.datacenter,
            DrainTarget::Node(name) => *name == model.name,
            DrainTarget::Service(uid) => *uid == service.uid,
        }
    }
}

/// What is to be drained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrainTarget {
    /// Everything in the datacenter of that name.
    Datacenter(String),
    /// Everything on the node of that name.
    Node(String),
    /// The service of that uid.
    Service(Uid),
}

/// What was in force and is no longer configured. It is served until it is withdrawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Departures {
    /// Objects that were removed, and said to be.
    pub removed: BTreeSet<Uid>,
    /// Services that are missing without a word. They stay.
    pub missing: BTreeSet<Uid>,
    /// Addresses that a service no longer has.
    pub addresses: BTreeSet<IpAddr>,
}
