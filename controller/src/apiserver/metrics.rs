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

use super::flows::GateMetrics;
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
    gates: Gates,
    disconnected: Family<DisconnectedLabels, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct DisconnectedLabels {
    reason: String,
}

/// Of each level of requests, and of what is bounded by itself.
#[derive(Debug)]
struct Gates {
    taken: Family<GateLabels, Gauge<i64, AtomicI64>>,
    waiting: Family<GateLabels, Gauge<i64, AtomicI64>>,
    rejected: Family<GateLabels, Counter>,
    waited: Family<GateLabels, Histogram>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GateLabels {
    level: String,
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
            disconnected: Family::default(),
            gates: Gates {
                taken: Family::default(),
                waiting: Family::default(),
                rejected: Family::default(),
                waited: Family::new_with_constructor(|| {
                    Histogram::new(exponential_buckets(0.000_25, 4.0, 9))
                }),
            },
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
        registry.register(
            "isocast_controller_disconnected",
            "Clients that said nothing, or did not take what they asked for",
            self.disconnected.clone(),
        );
        let Gates { taken, waiting, rejected, waited } = &self.gates;
        registry.register(
            "isocast_controller_level_seats_taken",
            "Requests of tenants and nodes that are being served, by level",
            taken.clone(),
        );
        registry.register(
            "isocast_controller_level_waiting",
            "Those that wait for their turn, by level",
            waiting.clone(),
        );
        registry.register(
            "isocast_controller_level_rejected",
            "Those that were told to come back, by level",
            rejected.clone(),
        );
        registry.register(
            "isocast_controller_level_wait_seconds",
            "How long those waited that had to, by level",
            waited.clone(),
        );
    }

    /// What the gate of a level counts.
    pub(super) fn gate(&self, level: &str) -> GateMetrics {
        let labels = GateLabels { level: level.to_owned() };
        GateMetrics {
            taken: self.gates.taken.get_or_create(&labels).clone(),
            waiting: self.gates.waiting.get_or_create(&labels).clone(),
            rejected: self.gates.rejected.get_or_create(&labels).clone(),
            waited: self.gates.waited.get_or_create(&labels).clone(),
        }
    }

    pub(super) fn disconnected(&self, reason: &str) {
        self.disconnected.get_or_create(&DisconnectedLabels { reason: reason.to_owned() }).inc();
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
