//! Metrics of the agent that are views of its status and of the kernel's counters, read when
//! asked for.
//!
//! Names are labels for people; the uid beside them tells an object from one made anew under its
//! name, and adds no series: each uid has one name. There are as many series as the data plane has
//! room for services and backends (`isocast_dataplane_common::limits`), at most five more for each
//! service with limits, one for each pair of a service and a reason that packets of it were dropped
//! for, and five for each peer.

mod backends;
mod services;

use std::{collections::BTreeMap, fmt, sync::Arc};

use isocast_api::agent::{NodeStatus, PeerStatus};
use isocast_dataplane::{Counter, Dataplane};
use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use tokio::sync::watch;

use crate::runtime::KernelCounters;

/// Registers everything that follows from the status and the kernel's counters.
pub fn register(
    registry: &mut Registry,
    status: watch::Receiver<Arc<NodeStatus>>,
    kernel: KernelCounters,
) {
    let registry = registry.sub_registry_with_prefix("isocast_agent");
    registry.register_collector(Box::new(View { status, kernel, tenants: Arc::default() }));
}

/// Packets or bytes of a counter.
type Part = fn(&Counter) -> u64;

/// A count of prefixes.
type Count = fn(&PeerStatus) -> u32;

#[derive(Debug)]
struct View {
    status: watch::Receiver<Arc<NodeStatus>>,
    kernel: KernelCounters,
    tenants: Arc<Mutex<services::Tenants>>,
}

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = Arc::clone(&self.status.borrow());
        gauge(&mut encoder, "config_revision", "Revision in force", status.revision)?;
        let generation = status.dataplane_generation;
        gauge(&mut encoder, "dataplane_generation", "Generation of tables in force", generation)?;
        gauge(&mut encoder, "services", "Services in force", count(status.services.len()))?;
        self.sessions(&mut encoder, &status)?;
        self.backends(&mut encoder, &status)?;
        self.kernel(&mut encoder, &status)
    }
}

// === impl View ===

impl View {
    fn sessions(&self, encoder: &mut DescriptorEncoder<'_>, status: &NodeStatus) -> fmt::Result {
        let help = "1 if the session is established";
        let mut family =
            encoder.encode_descriptor("bgp_session_up", help, None, MetricType::Gauge)?;
        for peer in &status.peers {
            let up = u64::from(peer.state == "Established");
            ConstGauge::new(up).encode(family.encode_family(&of_peer(peer))?)?;
        }
        let gauges: [(&str, &str, Count); 3] = [
            ("bgp_prefixes_received", "Prefixes the peer announces", |it| it.prefixes_received),
            ("bgp_prefixes_sent", "Prefixes the peer was told", |it| it.prefixes_sent),
            ("bgp_prefixes_withheld", "Prefixes the peer was not told", |it| it.prefixes_withheld),
        ];
        for (name, help, count) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for peer in &status.peers {
                let count = u64::from(count(peer));
                ConstGauge::new(count).encode(family.encode_family(&of_peer(peer))?)?;
            }
        }
        let help = "Established sessions that ended";
        let mut family =
            encoder.encode_descriptor("bgp_session_flaps", help, None, MetricType::Counter)?;
        for peer in &status.peers {
            ConstCounter::new(peer.flaps).encode(family.encode_family(&of_peer(peer))?)?;
        }
        Ok(())
    }

    fn backends(&self, encoder: &mut DescriptorEncoder<'_>, status: &NodeStatus) -> fmt::Result {
        let help = "1 if the backend is healthy for the service";
        let mut family =
            encoder.encode_descriptor("backend_healthy", help, None, MetricType::Gauge)?;
        for service in &status.services {
            for backend in &service.backends {
                let labels = [
                    ("namespace", service.namespace.as_str()),
                    ("service", service.name.as_str()),
                    ("backend", backend.name.as_str()),
                    ("service_uid", service.uid.as_str()),
                    ("backend_uid", backend.uid.as_str()),
                ];
                let healthy = u64::from(backend.healthy);
                ConstGauge::new(healthy).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn kernel(&self, encoder: &mut DescriptorEncoder<'_>, status: &NodeStatus) -> fmt::Result {
        let Some(counters) = self.kernel.read() else { return Ok(()) };
        let help = "Packets by what became of them";
        let mut family = encoder.encode_descriptor("packets", help, None, MetricType::Counter)?;
        for (outcome, packets) in &counters.outcomes {
            let drop = if outcome.is_drop() { "true" } else { "false" };
            let labels = [("outcome", outcome.as_str()), ("drop", drop)];
            ConstCounter::new(*packets).encode(family.encode_family(&labels)?)?;
        }
        if let Some(noted) = self.kernel.with(Dataplane::noted_flows) {
            let help = "Connections that are noted while slots are tracked";
            gauge(encoder, "flow_table_entries", help, count(noted))?;
        }
        let names = Names::of(status);
        services::encode(encoder, &names, &counters, &self.kernel, &self.tenants)?;
        backends::encode(encoder, &names, &counters)
    }
}

/// What people call what the kernel counts by uid. What is no longer configured has no name left,
/// and is counted until the kernel forgets it.
#[derive(Default)]
pub(crate) struct Names<'a> {
    pub(crate) services: BTreeMap<&'a str, (&'a str, &'a str)>,
    pub(crate) backends: BTreeMap<&'a str, (&'a str, &'a str, &'a str)>,
}

// === impl Names ===

impl<'a> Names<'a> {
    pub(crate) fn of(status: &'a NodeStatus) -> Self {
        let mut names = Self::default();
        for service in &status.services {
            let namespace = service.namespace.as_str();
            names.services.insert(&service.uid, (namespace, &service.name));
            let backends = service.backends.iter();
            names.backends.extend(backends.map(|backend| {
                (backend.uid.as_str(), (namespace, service.pool.as_str(), backend.name.as_str()))
            }));
        }
        names
    }
}

fn of_peer(peer: &PeerStatus) -> [(&str, &str); 2] {
    [("peer", &peer.name), ("peer_uid", &peer.uid)]
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use isocast_api::agent::{BackendHealth, ServiceStatus};

    use super::*;

    fn status() -> NodeStatus {
        let backend = |uid: &str| BackendHealth {
            uid: uid.into(),
            // A node may be called as another backend's address is written.
            name: "10.0.0.9".into(),
            healthy: true,
            ..BackendHealth::default()
        };
        let service = ServiceStatus {
            uid: "77aa".into(),
            namespace: "web-prod".into(),
            name: "www".into(),
            pool: "farm".into(),
            backends: vec![backend("b1"), backend("b2")],
            ..ServiceStatus::default()
        };
        let (uid, name) = ("5e0c".into(), "tor1".into());
        let peer = PeerStatus { uid, name, state: "Established".into(), ..PeerStatus::default() };
        NodeStatus { services: vec![service], peers: vec![peer], ..NodeStatus::default() }
    }

    #[test]
    fn metrics_name_objects_as_people_do_and_no_series_appears_twice() {
        let (_sender, follow) = watch::channel(Arc::new(status()));
        let mut registry = Registry::default();
        register(&mut registry, follow, KernelCounters::default());

        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();

        let peer = r#"isocast_agent_bgp_session_up{peer="tor1",peer_uid="5e0c"} 1"#;
        assert!(text.lines().any(|line| line == peer), "{text}");
        let flaps = r#"isocast_agent_bgp_session_flaps_total{peer="tor1",peer_uid="5e0c"} 0"#;
        assert!(text.lines().any(|line| line == flaps), "{text}");
        let backends: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("isocast_agent_backend_healthy{"))
            .collect();
        assert_eq!(backends.len(), 2, "{text}");
        assert_ne!(backends[0], backends[1]);
        let names = r#"{namespace="web-prod",service="www",backend="10.0.0.9","#;
        assert!(backends.iter().all(|line| line.contains(names)), "{text}");
    }

    #[test]
    fn what_the_kernel_counts_by_uid_has_the_names_of_its_objects() {
        let status = status();

        let names = Names::of(&status);

        assert_eq!(names.services.get("77aa"), Some(&("web-prod", "www")));
        assert_eq!(names.backends.get("b2"), Some(&("web-prod", "farm", "10.0.0.9")));
        assert_eq!(names.backends.get("gone"), None);
    }
}
