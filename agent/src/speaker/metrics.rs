//! Metrics of the speaker: views of its peers, made when asked for.

use std::fmt::{self, Write};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::bgp::{KernelReport, PeerReport, State};

/// Name, help and value of each gauge of a peer.
type Reading = (&'static str, &'static str, fn(&PeerReport) -> u64);

const GAUGES: [Reading; 7] = [
    ("session_up", "1 if the session is established", |peer| {
        u64::from(peer.status.state == State::Established)
    }),
    ("routes_received", "Prefixes that the peer announces", |peer| peer.count(|c| c.received)),
    ("routes_accepted", "Prefixes that policy accepted", |peer| peer.count(|c| c.accepted)),
    ("routes_stale", "Prefixes kept of an earlier session", |peer| peer.count(|c| c.stale)),
    ("routes_told", "Prefixes that the peer holds from us", |peer| peer.count(|c| c.told)),
    ("routes_over_limit_in", "1 if the import limit is reached", |peer| {
        u64::from(peer.counts.ipv4.over_limit_in || peer.counts.ipv6.over_limit_in)
    }),
    ("routes_over_limit_out", "1 if the export limit is reached", |peer| {
        u64::from(peer.counts.ipv4.over_limit_out || peer.counts.ipv6.over_limit_out)
    }),
];

const COUNTERS: [Reading; 13] = [
    ("updates_in", "UPDATEs received", |peer| peer.counters.updates_in),
    ("announced_in", "Prefixes announced by the peer", |peer| peer.counters.announced_in),
    ("withdrawn_in", "Prefixes withdrawn by the peer", |peer| peer.counters.withdrawn_in),
    ("rejected_loop", "Refused: our AS in the path", |peer| peer.counters.rejected_loop),
    ("rejected_policy", "Refused by policy", |peer| peer.counters.rejected_policy),
    ("rejected_leak", "Refused: a route leak", |peer| peer.counters.rejected_leak),
    ("rejected_limit", "Refused: too many", |peer| peer.counters.rejected_limit),
    ("faults_discard", "Faults that cost an attribute", |peer| peer.counters.faults_discard),
    ("faults_withdraw", "Faults that cost routes", |peer| peer.counters.faults_withdraw),
    ("faults_reset", "Faults that cost the session", |peer| peer.counters.faults_reset),
    ("updates_out", "UPDATEs sent", |peer| peer.counters.updates_out),
    ("announced_out", "Prefixes announced to the peer", |peer| peer.counters.announced_out),
    ("withdrawn_out", "Prefixes withdrawn from the peer", |peer| peer.counters.withdrawn_out),
];

/// The same of the kernel's table.
type KernelReading = (&'static str, &'static str, fn(&KernelReport) -> u64);

const KERNEL_GAUGES: [KernelReading; 3] = [
    ("kernel_routes_installed", "Routes in the kernel", |kernel| count(kernel.installed)),
    ("kernel_routes_refused", "Routes that the kernel does not take now", |kernel| {
        count(kernel.refused)
    }),
    ("kernel_over_limit", "1 if routes are left out", |kernel| u64::from(kernel.over_limit)),
];

const KERNEL_COUNTERS: [KernelReading; 4] = [
    ("kernel_routes_written", "Routes added and replaced", |kernel| kernel.written),
    ("kernel_routes_removed", "Routes removed", |kernel| kernel.removed),
    ("kernel_refusals", "Attempts that the kernel refused", |kernel| kernel.refusals),
    ("kernel_beyond_limit", "Routes left out: too many", |kernel| kernel.beyond_limit),
];

/// Writes everything in the OpenMetrics text format.
///
/// # Errors
/// The writer's.
pub(super) fn write(
    peers: Vec<PeerReport>,
    announcements: usize,
    kernel: Option<KernelReport>,
    out: &mut impl Write,
) -> fmt::Result {
    let mut registry = Registry::with_prefix("isocast_bgp");
    registry.register_collector(Box::new(View { peers, announcements, kernel }));
    text::encode(out, &registry)
}

#[derive(Debug)]
struct View {
    peers: Vec<PeerReport>,
    announcements: usize,
    kernel: Option<KernelReport>,
}

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Prefixes the speaker originates";
        let metric = encoder.encode_descriptor("announcements", help, None, MetricType::Gauge)?;
        ConstGauge::new(count(self.announcements)).encode(metric)?;
        for (name, help, read) in GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for peer in &self.peers {
                let labels = [("peer", peer.status.name.as_str())];
                ConstGauge::new(read(peer)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (name, help, read) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for peer in &self.peers {
                let labels = [("peer", peer.status.name.as_str())];
                ConstCounter::new(read(peer)).encode(family.encode_family(&labels)?)?;
            }
        }
        if let Some(kernel) = &self.kernel {
            for (name, help, read) in KERNEL_GAUGES {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(read(kernel)).encode(metric)?;
            }
            for (name, help, read) in KERNEL_COUNTERS {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
                ConstCounter::new(read(kernel)).encode(metric)?;
            }
        }
        Ok(())
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
