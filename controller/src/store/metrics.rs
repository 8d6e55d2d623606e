//! [`StoreMetrics`]: what the store tells Prometheus.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::Revision;

/// Figures of the log.
#[derive(Debug)]
pub struct StoreMetrics {
    revision: Gauge<u64, AtomicU64>,
    change_sets: Counter,
    failures: Counter,
    commit_seconds: Histogram,
    apply_seconds: Histogram,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            revision: Gauge::default(),
            change_sets: Counter::default(),
            failures: Counter::default(),
            commit_seconds: Histogram::new([
                0.0001, 0.00025, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.25, 1.0,
            ]),
            apply_seconds: Histogram::new([0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.25, 1.0]),
        }
    }
}

impl StoreMetrics {
    /// Lists the figures in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "isocast_controller_store_revision",
            "Last revision of the log",
            self.revision.clone(),
        );
        registry.register(
            "isocast_controller_store_change_sets",
            "Change-sets made durable",
            self.change_sets.clone(),
        );
        registry.register(
            "isocast_controller_store_failures",
            "Commits that the storage failed",
            self.failures.clone(),
        );
        registry.register(
            "isocast_controller_store_commit_seconds",
            "Time from a batch's last decision until it is durable",
            self.commit_seconds.clone(),
        );
        registry.register(
            "isocast_controller_store_apply_seconds",
            "Time in which the tables were brought up to the journal",
            self.apply_seconds.clone(),
        );
    }

    pub(super) fn applied(&self, elapsed: Duration) {
        self.apply_seconds.observe(elapsed.as_secs_f64());
    }

    pub(super) fn committed(&self, sets: usize, head: Revision, elapsed: Duration) {
        self.revision.set(head.0);
        self.change_sets.inc_by(sets as u64);
        self.commit_seconds.observe(elapsed.as_secs_f64());
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    pub(super) fn reached(&self, head: Revision) {
        self.revision.set(head.0);
    }
}
