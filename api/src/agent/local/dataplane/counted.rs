//! [`CountersView`]: what was counted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ServiceRef;

/// What was counted, since each thing came into force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CountersView {
    /// The node that answers.
    pub node: String,
    /// When they were read, in nanoseconds of the node's monotonic clock.
    pub at_ns: u64,
    /// Generation of the tables.
    pub generation: u32,
    /// Packets to services; without those that had none.
    pub services: Vec<ServiceCount>,
    /// Packets sent to backends; without those that had none.
    pub backends: Vec<BackendCount>,
    /// What became of packets.
    pub outcomes: Vec<OutcomeCount>,
}

/// Packets to a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceCount {
    /// Which.
    pub service: ServiceRef,
    /// Packets.
    pub packets: u64,
    /// Bytes, by IP length before encapsulation.
    pub bytes: u64,
    /// Those that were dropped, by reason.
    #[serde(default)]
    pub drops: BTreeMap<String, u64>,
}

/// Packets sent to a backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendCount {
    /// Its namespace; empty: it is configured no longer.
    pub namespace: String,
    /// Its pool; empty: it is configured no longer.
    pub pool: String,
    /// Its name; empty: it is configured no longer.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Packets.
    pub packets: u64,
    /// Bytes, by IP length before encapsulation.
    pub bytes: u64,
}

/// Packets of one outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeCount {
    /// Its name.
    pub outcome: String,
    /// The packets were dropped.
    pub drop: bool,
    /// How many.
    pub packets: u64,
}
