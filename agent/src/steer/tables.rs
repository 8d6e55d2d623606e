//! From decisions to [`Tables`]: numbering, probes and the backend's own list.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use isocast_dataplane::{
    Accept, Backend, BackendKey, ClusterSecret, DecapTables, EdgeTables, Probe, Protocol,
    ServiceKey, Tables, Vip,
};

use super::{Inputs, Member, ServiceMemory, ring::Rings};
use crate::{
    health,
    model::{NodeModel, Service, Uid},
};

/// Collects the edge's share service by service.
pub(super) struct Builder<'a> {
    inputs: &'a Inputs<'a>,
    secret: ClusterSecret,
    edge: EdgeTables,
    rings: Rings,
    numbers: Numbers,
}

// === impl Builder ===

impl<'a> Builder<'a> {
    pub(super) fn new(inputs: &'a Inputs<'a>) -> Self {
        let secret = ClusterSecret::new(inputs.model.cluster_secret.0);
        Self {
            inputs,
            secret,
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
        let filled = self.rings.ring(before, &self.secret, service, memory, order, position);
        let ring = self.edge.rings.len();
        self.edge.rings.push(filled);
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
                ring,
                service: ServiceKey(Arc::clone(&service.uid)),
                rules: service.packets.rules(port.protocol),
            }));
        }
    }

    pub(super) fn finish(mut self) -> (Tables, Rings) {
        if self.inputs.model.roles.edge {
            self.edge.probes = probes(self.inputs);
        }
        let backend = self.inputs.model.roles.backend;
        let decap = if backend { decap(self.inputs.model) } else { DecapTables::default() };
        (Tables { edge: self.edge, decap }, self.rings)
    }
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
        backends.push(Backend { key, tunnel_address: member.tunnel_address });
        self.by_uid.insert(member.uid.clone(), position);
        position
    }
}

fn probes(inputs: &Inputs<'_>) -> Vec<Probe> {
    let marked = |(id, target): (health::TargetId, health::Target)| {
        let (mark, tunnel_address) = (inputs.marks.mark(&id)?, target.tunnel?);
        Some(Probe { mark, tenant: target.tenant, tunnel_address })
    };
    health::targets(inputs.model).into_iter().filter_map(marked).collect()
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
