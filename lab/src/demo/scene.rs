//! The stage: the lab, the users on it, and whether everything is as it should be.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use ipnet::IpNet;

use super::{DemoError, kube::Kube};
use crate::{
    collector::Collector,
    lab::{Lab, LabError},
    load::{CYCLE, FlowKey, Load, RECENT, Sample},
    routers::{self, Flow, POLL_INTERVAL},
    topology::{Link, Node, Role},
};

/// The demo in progress.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) lab: Lab,
    pub(super) load: Load,
    pub(super) collector: Collector,
    /// Absent without a controller.
    pub(super) kube: Option<Kube>,
}

impl Scene {
    /// Waits until every border has all its edges as next hops, and every user is served by the
    /// nearest datacenter, for as long as it takes every flow to have its turn: then who served a
    /// flow last is who is expected to serve it next.
    pub(super) async fn settle(&self) -> Result<(), DemoError> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let mut settled_since = None;
        let mut seen = "it did not last".to_owned();
        loop {
            let now = Instant::now();
            match self.unsettled()? {
                None if now >= *settled_since.get_or_insert(now) + CYCLE => return Ok(()),
                None => {}
                Some(unsettled) => {
                    settled_since = None;
                    seen = unsettled;
                }
            }
            if now > deadline {
                return Err(DemoError::NotSettled {
                    waited_for: "the normal state".to_owned(),
                    seconds: SETTLE_TIMEOUT.as_secs(),
                    seen,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// What is not as it should be.
    fn unsettled(&self) -> Result<Option<String>, DemoError> {
        for border in self.lab.topology.borders() {
            for prefix in prefixes() {
                let hops = routers::kernel_next_hops(&self.lab, &border.name, prefix)?.len();
                let edges = self.edges_of(border).count();
                if hops != edges {
                    let name = &border.name;
                    return Ok(Some(format!("{name} has {hops} of {edges} next hops of {prefix}")));
                }
            }
        }
        if !self.collector.is_up() {
            return Ok(Some("the collector waits for a border".to_owned()));
        }
        for (client, datacenter) in NEAREST {
            if let Some(seen) = self.not_wholly_served(client, datacenter) {
                return Ok(Some(seen));
            }
        }
        Ok(self.load.missing_connections(Instant::now()))
    }

    /// Why a client's users are not all served, on every stream, by all backends of a datacenter.
    fn not_wholly_served(&self, client: &str, datacenter: &str) -> Option<String> {
        let backends = self.lab.topology.in_datacenter(datacenter);
        let all = backends.filter(|node| node.role == Role::Backend).count();
        for (position, stream) in self.load.streams().iter().enumerate() {
            if stream.client != client {
                continue;
            }
            let address = stream.destination.ip();
            let samples = self.samples_before(Instant::now(), |flow| flow.stream == position);
            let mut failed =
                samples.iter().filter_map(|s| Some((s.flow, s.answer.as_ref().err()?)));
            if let Some((flow, why)) = failed.next() {
                let port = flow.port;
                return Some(format!(
                    "a request of {client}, port {port}, to {address} fails: {why}"
                ));
            }
            let servers = samples.iter().filter_map(|sample| sample.answer.as_ref().ok());
            let servers: BTreeSet<_> = servers.collect();
            if let Some(other) = servers.iter().find(|server| server.datacenter != datacenter) {
                return Some(format!("{client} is served by {}", other.backend));
            }
            if servers.len() < all {
                let seen = servers.len();
                return Some(format!("{client} reaches {seen} of {all} backends by {address}"));
            }
        }
        None
    }

    /// Samples of the last second before `instant` of the flows that `select` chooses.
    pub(super) fn samples_before(
        &self,
        instant: Instant,
        select: impl Fn(&FlowKey) -> bool,
    ) -> Vec<Sample> {
        self.load.with_record(|record| {
            let recent = record.samples().iter().filter(|sample| {
                (recently(instant)..instant).contains(&sample.started) && select(&sample.flow)
            });
            recent.cloned().collect()
        })
    }

    /// Names of the backends that answered in the last second.
    pub(super) fn backends_before(&self, instant: Instant) -> BTreeSet<String> {
        let samples = self.samples_before(instant, |_| true);
        samples.into_iter().filter_map(|sample| Some(sample.answer.ok()?.backend)).collect()
    }

    /// Edges of a border's datacenter.
    pub(super) fn edges_of(&self, border: &Node) -> impl Iterator<Item = &Node> {
        let edges = self.lab.topology.with_role(Role::Edge);
        edges.filter(|node| node.datacenter == border.datacenter)
    }

    /// The edge that each flow goes to now: the border's kernel is asked, which decides by hash.
    pub(super) fn edges_of_flows(&self) -> Result<HashMap<FlowKey, String>, LabError> {
        let last = self.load.with_record(|record| record.last().clone());
        let mut edges = HashMap::new();
        for border in self.lab.topology.borders() {
            let Some(uplink) = self.transit_interface(border) else { continue };
            // Without power it has no kernel; a flow that nobody has answered since is still its own.
            if !self.lab.topology.node_namespace(&border.name).exists() {
                continue;
            }
            let mut of_border: Vec<_> = last
                .iter()
                .filter(|(_, server)| Some(&server.datacenter) == border.datacenter.as_ref())
                .map(|(flow, _)| *flow)
                .collect();
            of_border.sort_unstable();
            let asked: Vec<_> = of_border.iter().filter_map(|flow| self.flow(*flow)).collect();
            if asked.is_empty() {
                continue;
            }
            let chosen = routers::interfaces_of_flows(&self.lab, &border.name, uplink, &asked)?;
            for (flow, interface) in of_border.iter().zip(chosen) {
                if let Some(edge) = self.neighbour(border, &interface) {
                    edges.insert(*flow, edge.to_owned());
                }
            }
        }
        Ok(edges)
    }

    fn flow(&self, key: FlowKey) -> Option<Flow> {
        let stream = self.load.streams().get(key.stream)?;
        Some(Flow {
            source: stream.source,
            source_port: key.port,
            destination: stream.destination.ip(),
            destination_port: stream.destination.port(),
        })
    }

    /// A border's interface towards what is in no datacenter.
    fn transit_interface<'a>(&'a self, border: &'a Node) -> Option<&'a str> {
        let nodes = &self.lab.topology.nodes;
        let is_transit = |name: &str| nodes.get(name).is_some_and(|node| node.datacenter.is_none());
        self.interfaces(border).find(|(_, other)| is_transit(other)).map(|(interface, _)| interface)
    }

    fn neighbour<'a>(&'a self, node: &'a Node, interface: &str) -> Option<&'a str> {
        self.interfaces(node).find(|(own, _)| *own == interface).map(|(_, other)| other)
    }

    /// A node's interfaces, each with the node at the other end.
    fn interfaces<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.lab.topology.links_of(&node.name).map(|(_, Link { endpoints: [a, b], .. })| {
            let (own, other) = if a.node == node.name { (a, b) } else { (b, a) };
            (own.interface.as_str(), other.node.as_str())
        })
    }
}

/// One second before `instant`.
pub(super) fn recently(instant: Instant) -> Instant {
    instant.checked_sub(RECENT).unwrap_or(instant)
}

/// The service's prefixes.
pub(super) fn prefixes() -> impl Iterator<Item = IpNet> {
    ADDRESSES.into_iter().map(IpNet::from)
}

/// The service's addresses.
pub(super) const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10)),
];
/// Its prefixes, as text.
pub(super) const PREFIXES: [&str; 2] = ["203.0.113.10/32", "2001:db8:f::10/128"];
/// Its port.
pub(super) const PORT: u16 = 80;
/// The datacenter that is nearest to each client node by AS path.
pub(super) const NEAREST: [(&str, &str); 2] = [("cl-ams", "ams"), ("cl-fra", "fra")];
/// More than the 100 s for which a kernel tries to close a connection that nobody answers for.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(150);
