//! [`Metrics`]: what quota tells Prometheus.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Figures of quota.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Writes that did not fit, dry runs included.
    pub(super) refusals: Counter,
    /// Requests that came too fast.
    pub(super) throttled: Counter,
    /// Proofs that what is counted is what there is.
    pub(super) proofs: Counter,
    /// Proofs of the contrary.
    pub(super) failures: Counter,
}

impl Metrics {
    /// Lists the figures in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "isocast_controller_quota_refusals",
            "Writes that did not fit, dry runs included",
            self.refusals.clone(),
        );
        registry.register(
            "isocast_controller_quota_throttled",
            "Requests that came faster than was granted",
            self.throttled.clone(),
        );
        registry.register(
            "isocast_controller_quota_proofs",
            "Proofs that what is counted is what there is",
            self.proofs.clone(),
        );
        registry.register(
            "isocast_controller_quota_failed_proofs",
            "Proofs that found something else counted than there is",
            self.failures.clone(),
        );
    }
}
