//! Counters of the channel.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// The channel's metrics; clones share their values.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// 1 while a session with the controller is open.
    pub connected: Gauge,
    /// Sessions opened.
    pub connections: Counter,
    /// Certificates obtained, the first and renewed ones.
    pub enrollments: Counter,
    /// Bytes of configuration received.
    pub received_bytes: Counter,
    /// Revision of the configuration in force.
    pub revision: Gauge<u64, AtomicU64>,
    /// Configurations that were refused.
    pub nacks: Counter,
    /// Entries that are refused of the configuration in force.
    pub refused_entries: Gauge<u64, AtomicU64>,
    /// Writes of the last-known-good configuration that failed.
    pub store_failures: Counter,
}

impl Metrics {
    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("isocast_agent_channel");
        registry.register("connected", "Whether a session is open", self.connected.clone());
        registry.register("connections", "Sessions opened", self.connections.clone());
        registry.register("enrollments", "Certificates obtained", self.enrollments.clone());
        let help = "Bytes of configuration received";
        registry.register("received_bytes", help, self.received_bytes.clone());
        let help = "Revision of the configuration in force";
        registry.register("revision", help, self.revision.clone());
        registry.register("nacks", "Configurations refused", self.nacks.clone());
        let help = "Entries refused of the configuration in force";
        registry.register("refused_entries", help, self.refused_entries.clone());
        let help = "Failed writes of the last-known-good configuration";
        registry.register("store_failures", help, self.store_failures.clone());
    }
}
