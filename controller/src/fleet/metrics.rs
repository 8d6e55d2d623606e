//! Counters of the fleet.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// The fleet's metrics.
#[derive(Debug)]
pub struct Metrics {
    /// Agents in session.
    pub connected: Gauge,
    /// Connections turned away for lack of room.
    pub turned_away: Counter,
    /// Connections ended for a breach of the protocol.
    pub violations: Counter,
    /// Requests for a certificate that were granted, and refused.
    pub enrolled: Counter,
    /// See `enrolled`.
    pub not_enrolled: Counter,
    /// Configurations acknowledged, and refused, by agents.
    pub acks: Counter,
    /// See `acks`.
    pub nacks: Counter,
    /// Bytes of configuration sent.
    pub sent_bytes: Counter,
    /// Seconds from an offer to its acknowledgement.
    pub lag: Histogram,
    /// Status writes, and those that failed and are tried again.
    pub status_writes: Counter,
    /// See `status_writes`.
    pub status_failures: Counter,
    /// Objects that nodes report, written or removed, and those that failed and are tried again.
    pub reported_writes: Counter,
    /// See `reported_writes`.
    pub reported_failures: Counter,
    /// Questions to nodes that were answered, and those that were not.
    pub questions: Counter,
    /// See `questions`.
    pub unanswered: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            connected: Gauge::default(),
            turned_away: Counter::default(),
            violations: Counter::default(),
            enrolled: Counter::default(),
            not_enrolled: Counter::default(),
            acks: Counter::default(),
            nacks: Counter::default(),
            sent_bytes: Counter::default(),
            lag: Histogram::new(LAG_BUCKETS_S),
            status_writes: Counter::default(),
            status_failures: Counter::default(),
            reported_writes: Counter::default(),
            reported_failures: Counter::default(),
            questions: Counter::default(),
            unanswered: Counter::default(),
        }
    }
}

impl Metrics {
    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("isocast_fleet");
        registry.register("connected_nodes", "Agents in session", self.connected.clone());
        for (name, help, counter) in [
            ("turned_away", "Connections turned away for lack of room", &self.turned_away),
            ("violations", "Connections that broke the protocol", &self.violations),
            ("enrolled", "Certificates issued to nodes", &self.enrolled),
            ("not_enrolled", "Requests for a certificate refused", &self.not_enrolled),
            ("acks", "Configurations acknowledged", &self.acks),
            ("nacks", "Configurations refused", &self.nacks),
            ("sent_bytes", "Bytes of configuration sent", &self.sent_bytes),
            ("status_writes", "Status writes", &self.status_writes),
            ("status_failures", "Status writes that failed", &self.status_failures),
            ("reported_writes", "Writes of reported objects", &self.reported_writes),
            ("reported_failures", "The same that failed", &self.reported_failures),
            ("questions", "Questions that nodes answered", &self.questions),
            ("unanswered_questions", "Questions that no node answered", &self.unanswered),
        ] {
            registry.register(name, help, counter.clone());
        }
        let help = "Seconds from an offer of configuration to its acknowledgement";
        registry.register("lag_seconds", help, self.lag.clone());
    }
}

const LAG_BUCKETS_S: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2.0, 10.0];
