//! [`Metrics`]: what the API server tells Prometheus, and the counts its limits go by.

use std::{
    sync::{Arc, atomic::AtomicI64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::limits;

/// Figures of the API server.
#[derive(Debug)]
pub struct Metrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Histogram,
    in_flight: Gauge<i64, AtomicI64>,
    watches: Gauge<i64, AtomicI64>,
    connections: Gauge<i64, AtomicI64>,
    audit_records: Counter,
    audit_suppressed: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: String,
    code: u16,
}

/// Counts one thing that is under way.
#[derive(Debug)]
pub(super) struct UnderWay(Gauge<i64, AtomicI64>);

impl Default for Metrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.000_25, 4.0, 9)),
            in_flight: Gauge::default(),
            watches: Gauge::default(),
            connections: Gauge::default(),
            audit_records: Counter::default(),
            audit_suppressed: Counter::default(),
        }
    }
}

impl Metrics {
    /// Lists the figures in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "isocast_controller_requests",
            "Requests answered, by method and status code",
            self.requests.clone(),
        );
        registry.register(
            "isocast_controller_request_seconds",
            "Time to answer a request, watches apart",
            self.seconds.clone(),
        );
        registry.register(
            "isocast_controller_requests_in_flight",
            "Requests being answered, watches apart",
            self.in_flight.clone(),
        );
        registry.register(
            "isocast_controller_watches",
            "Watches being served",
            self.watches.clone(),
        );
        registry.register(
            "isocast_controller_connections",
            "Client connections",
            self.connections.clone(),
        );
        registry.register(
            "isocast_controller_audit_records",
            "Audit records of what was denied, and of secrets that were read",
            self.audit_records.clone(),
        );
        registry.register(
            "isocast_controller_audit_suppressed",
            "Such records that were left out because there were too many",
            self.audit_suppressed.clone(),
        );
    }

    pub(super) fn audit_recorded(&self) {
        self.audit_records.inc();
    }

    pub(super) fn audit_suppressed(&self) {
        self.audit_suppressed.inc();
    }

    pub(super) fn answered(&self, method: &str, code: u16, elapsed: Option<Duration>) {
        let labels = RequestLabels { method: method.to_owned(), code };
        self.requests.get_or_create(&labels).inc();
        if let Some(elapsed) = elapsed {
            self.seconds.observe(elapsed.as_secs_f64());
        }
    }

    pub(super) fn begin_request(&self) -> Option<UnderWay> {
        UnderWay::begin(&self.in_flight, limits::REQUESTS_IN_FLIGHT)
    }

    pub(super) fn begin_watch(self: &Arc<Self>) -> Option<UnderWay> {
        UnderWay::begin(&self.watches, limits::WATCHES)
    }

    pub(super) fn begin_connection(&self) -> Option<UnderWay> {
        UnderWay::begin(&self.connections, limits::CONNECTIONS)
    }
}

impl UnderWay {
    fn begin(gauge: &Gauge<i64, AtomicI64>, limit: usize) -> Option<Self> {
        let before = gauge.inc();
        let guard = Self(gauge.clone());
        usize::try_from(before).is_ok_and(|before| before < limit).then_some(guard)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watch_after_the_last_is_refused_until_one_ends() {
        let metrics = Arc::new(Metrics::default());
        let mut watches: Vec<_> = (0..limits::WATCHES).map(|_| metrics.begin_watch()).collect();
        assert!(watches.iter().all(Option::is_some));

        assert!(metrics.begin_watch().is_none());

        drop(watches.pop());
        assert!(metrics.begin_watch().is_some());
    }
}
