//! Metrics of BFD: views of what the thread knows, read when asked for.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{SessionStatus, State, status::Readout};
use crate::priority::Priority;

/// Registers everything there is.
pub fn register(registry: &mut Registry, readout: Readout) {
    let registry = registry.sub_registry_with_prefix("isocast_agent_bfd");
    registry.register_collector(Box::new(View(readout)));
}

#[derive(Debug)]
struct View(Readout);

/// Name, help, and what it shows of a session.
type Gauge = (&'static str, &'static str, fn(&SessionStatus) -> u64);

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.sessions(&mut encoder)?;
        let totals = self.0.totals.lock().clone();
        let help = "Datagrams that were discarded, by the rule that did";
        let mut family =
            encoder.encode_descriptor("discarded_packets", help, None, MetricType::Counter)?;
        for (discard, count) in totals.discards.iter() {
            let labels = [("reason", discard.as_str())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        let help = "Packets that could not be sent";
        let failures =
            encoder.encode_descriptor("send_failures", help, None, MetricType::Counter)?;
        ConstCounter::new(totals.send_failures).encode(failures)?;
        let help = "1 if the thread runs before all that is not real-time";
        let realtime = u64::from(totals.priority == Priority::Realtime);
        let gauge = encoder.encode_descriptor("realtime", help, None, MetricType::Gauge)?;
        ConstGauge::new(realtime).encode(gauge)
    }
}

// === impl View ===

impl View {
    fn sessions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let statuses = self.0.statuses.borrow().clone();
        let views: [Gauge; 2] = [
            ("session_up", "1 if the session is up", |s| u64::from(s.state == State::Up)),
            ("session_reflected", "1 if the XDP program answers the peer", |s| {
                u64::from(s.is_reflected)
            }),
        ];
        for (name, help, value) in views {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (uid, status) in &statuses {
                let gauge = ConstGauge::new(value(status));
                gauge.encode(family.encode_family(&[("peer", uid.as_ref())])?)?;
            }
        }
        let help = "Times that the peer was lost";
        let mut family = encoder.encode_descriptor("failures", help, None, MetricType::Counter)?;
        for (uid, status) in &statuses {
            let counter = ConstCounter::new(status.failures);
            counter.encode(family.encode_family(&[("peer", uid.as_ref())])?)?;
        }
        Ok(())
    }
}
