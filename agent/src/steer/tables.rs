//! From decisions to [`Tables`]: numbering, probes and the backend's own list.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use isocast_dataplane::{
    Accept, Backend, BackendKey, DecapTables, EdgeTables, Probe, Protocol, Ring, ServiceKey,
    Tables, Vip,
};

use super::{
    Inputs, Member, ServiceMemory,
    ring::{Lineage, Rings, ServiceRings},
};
use crate::{
    health::{self, TargetId, Verdict},
    model::{NodeModel, Service, Uid},
};

/// Collects the edge's share service by service.
pub(super) struct Builder<'a> {
    inputs: &'a Inputs<'a>,
    edge: EdgeTables,
    rings: Rings,
    numbers: Numbers,
}

// === impl Builder ===

impl<'a> Builder<'a> {
    pub(super) fn new(inputs: &'a Inputs<'a>) -> Self {
        Self {
            inputs,
            edge: EdgeTables::default(),
            rings: Rings::default(),
            numbers: Numbers::default(),
        }
    }

    /// Adds a service with the ring that its memory says; other datacenters that serve it are asked
    /// for flows in this `order`. One without backends gets a ring that drops, never an absent VIP: its
    /// packets must not reach the edge's own stack.
    pub(super) fn add_service<'o>(
        &mut self,
        service: &Service,
        memory: &ServiceMemory,
        order: impl Iterator<Item = &'o str>,
    ) {
        let (edge, numbers) = (&mut self.edge, &mut self.numbers);
        let position = |member: &Member| numbers.position(member, &mut edge.backends);
        let before = self.inputs.rings;
        let lineage = Lineage::of(memory, order, healthy(self.inputs, service, memory));
        let ServiceRings { connections, datagrams } =
            self.rings.rings(before, service, lineage, position);
        let ring_of = place(&mut self.edge.rings, service, connections, datagrams);
        if !service.policy.is_open() {
            let service_key = ServiceKey(Arc::clone(&service.uid));
            self.edge.policies.insert(service_key, service.policy.clone());
        }
        if !service.tenant_ceilings.is_none() {
            self.edge.tenants.insert(service.tenant, service.tenant_ceilings);
        }
        for address in &service.addresses {
            self.edge.vips.extend(service.ports.iter().map(|port| Vip {
                address: *address,
                protocol: port.protocol,
                port: port.port,
                tenant: service.tenant,
                ring: ring_of(port.protocol),
                service: ServiceKey(Arc::clone(&service.uid)),
                rules: service.packets.rules(port.protocol),
            }));
        }
    }

    /// The tables, where this is the time in the flow table.
    pub(super) fn finish(mut self, era: u32) -> (Tables, Rings) {
        self.edge.era = era;
        if self.inputs.model.roles.edge {
            self.edge.probes = probes(self.inputs);
        }
        let backend = self.inputs.model.roles.backend;
        let decap = if backend { decap(self.inputs.model) } else { DecapTables::default() };
        let keys = self.inputs.model.keys.ring.clone();
        (Tables { edge: self.edge, decap, keys }, self.rings)
    }
}

/// Puts a service's rings into the tables, those that it has ports for and each once; the position of
/// a protocol's.
fn place(
    rings: &mut Vec<Ring>,
    service: &Service,
    connections: Ring,
    datagrams: Ring,
) -> impl Fn(Protocol) -> usize + use<> {
    let has = |protocol| service.ports.iter().any(|port| port.protocol == protocol);
    let first = rings.len();
    let (tcp, udp) = (has(Protocol::Tcp), has(Protocol::Udp));
    let is_one = !tcp || !udp || connections == datagrams;
    rings.push(if tcp || !udp { connections } else { datagrams.clone() });
    if !is_one {
        rings.push(datagrams);
    }
    move |protocol| if protocol == Protocol::Udp && !is_one { first + 1 } else { first }
}

/// Backends that had flows of a service with datagrams, are still in its pool, and answer probes.
fn healthy(
    inputs: &Inputs<'_>,
    service: &Service,
    memory: &ServiceMemory,
) -> Option<BTreeSet<Uid>> {
    service.ports.iter().find(|port| port.protocol == Protocol::Udp)?;
    let former = memory.own.past.iter().flat_map(|epoch| &epoch.members);
    let former: BTreeSet<_> = former.map(|member| &member.uid).collect();
    let pool = service.pool.as_ref().and_then(|uid| inputs.model.pools.get(uid));
    let is_healthy = |backend: &Uid| inputs.health.of(&service.uid, backend) == Verdict::Healthy;
    let all = pool.into_iter().flat_map(|pool| &pool.backends).map(|backend| &backend.uid);
    Some(all.filter(|uid| former.contains(uid) && is_healthy(uid)).cloned().collect())
}

/// Positions of backends in the tables.
#[derive(Default)]
struct Numbers {
    by_uid: BTreeMap<Uid, usize>,
}

// === impl Numbers ===

impl Numbers {
    /// The backend's position in the tables; backends of several rings appear once.
    fn position(&mut self, member: &Member, backends: &mut Vec<Backend>) -> usize {
        if let Some(position) = self.by_uid.get(&member.uid) {
            return *position;
        }
        let position = backends.len();
        let key = BackendKey(Arc::clone(&member.uid));
        let Member { tunnel_address, encap, .. } = *member;
        backends.push(Backend { key, tunnel_address, encap });
        self.by_uid.insert(member.uid.clone(), position);
        position
    }
}

fn probes(inputs: &Inputs<'_>) -> Vec<Probe> {
    let marked = |(id, target): (&TargetId, &health::Target)| {
        let (mark, (tunnel_address, encap)) = (inputs.marks.mark(id)?, target.tunnel?);
        Some(Probe { mark, tenant: target.tenant, tunnel_address, encap })
    };
    inputs.targets.iter().filter_map(marked).collect()
}

/// What this node serves: the services whose pools name it. The check's port is let in too, for
/// probes come the same way; clients cannot reach it, no edge has a VIP for it.
fn decap(model: &NodeModel) -> DecapTables {
    let serves = |service: &&Service| {
        let pool = service.pool.as_ref().and_then(|uid| model.pools.get(uid));
        pool.is_some_and(|pool| pool.backends.iter().any(|backend| backend.node == model.name))
    };
    let mut accepts = BTreeSet::new();
    for service in model.services.values().filter(serves) {
        let checked = (Protocol::Tcp, service.health.port);
        let ports = service.ports.iter().map(|port| (port.protocol, port.port));
        for (protocol, port) in ports.chain([checked]) {
            accepts.extend(service.addresses.iter().map(|address| Accept {
                tenant: service.tenant,
                address: *address,
                protocol,
                port,
                rules: service.packets.rules(protocol),
            }));
        }
    }
    DecapTables { sources: model.sources.clone(), accepts: accepts.into_iter().collect() }
}
