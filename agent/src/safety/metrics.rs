//! [`Metrics`]: what the interlocks did, and how fast a change of health becomes an UPDATE.

use isocast_bgp::origination::Hold;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Counters of the interlocks.
#[derive(Clone, Debug)]
pub struct Metrics {
    held: Family<Reason, Counter>,
    lapses: Counter,
    health_to_update: Histogram,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// From half a millisecond, which a withdrawal takes, to what nobody should wait for.
const BUCKETS_S: [f64; 10] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0];

impl Default for Metrics {
    fn default() -> Self {
        let held = Family::default();
        for hold in Hold::ALL {
            // A series that is absent until the first refusal is one that no alert can watch.
            drop(held.get_or_create_owned(&Reason { reason: hold.reason() }));
        }
        Self { held, lapses: Counter::default(), health_to_update: Histogram::new(BUCKETS_S) }
    }
}

impl Metrics {
    /// Adds the metrics to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Withdrawals that an interlock refused";
        registry.register("isocast_origination_held", help, self.held.clone());
        let help = "Leases that lapsed because a gate-keeper stalled";
        registry.register("isocast_origination_lapses", help, self.lapses.clone());
        let help = "From a prober's verdict until the routers' sockets took the UPDATE";
        let histogram = self.health_to_update.clone();
        registry.register_with_unit("isocast_health_to_update", help, Unit::Seconds, histogram);
    }

    /// A withdrawal was refused.
    pub fn held(&self, hold: Hold) {
        self.held.get_or_create(&Reason { reason: hold.reason() }).inc();
    }

    /// A lease lapsed.
    pub fn lapsed(&self) {
        self.lapses.inc();
    }

    /// A change of health is on the wire after `seconds`.
    pub fn on_the_wire(&self, seconds: f64) {
        self.health_to_update.observe(seconds);
    }
}
