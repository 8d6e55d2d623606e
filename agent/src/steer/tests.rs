//! Properties and scenarios of [`steer`].

use proptest::prelude::*;

use std::{collections::BTreeSet, time::Instant};

use isocast_bgp::origination::Elsewhere;
use isocast_dataplane::{
    Ceilings, Encap, Fragments, PacketRules, Protocol, ServiceKey, ServicePolicy,
};
use isocast_dataplane_common::Slot;

use super::*;
use crate::{
    health::{Report, TargetId, Verdict, targets},
    model::{DrainOrder, DrainTarget, MidFlowMove, OnNoLocalBackend, Port, testing},
};

mod agentless;
mod keys;
mod routes;
mod sizes;
mod succession;
mod weights;

/// A world that is steered again and again, with memory handed on.
struct World {
    model: NodeModel,
    health: HealthView,
    marks: Marks,
    memory: Memory,
    rings: Rings,
    faults: Closed,
    traffic: BTreeMap<Uid, Traffic>,
    now: UnixMs,
}

impl World {
    fn new() -> Self {
        let model = testing::two_datacenters();
        let mut marks = Marks::default();
        marks.assign(&targets(&model));
        let now = UnixMs(1_000_000);
        let (health, memory, rings, faults, traffic) = <_>::default();
        Self { model, health, marks, memory, rings, faults, traffic, now }
    }

    fn with_health(healthy: &[&str]) -> Self {
        let mut world = Self::new();
        for backend in ["ams-1", "ams-2", "fra-1", "fra-2"] {
            world.set(backend, healthy.contains(&backend));
        }
        world
    }

    fn set(&mut self, backend: &str, healthy: bool) {
        let target = TargetId { service: testing::SERVICE.into(), backend: backend.into() };
        let verdict = if healthy { Verdict::Healthy } else { Verdict::Unhealthy };
        self.health.record(Report { target, verdict, reason: "".into(), at: Instant::now() });
    }

    fn weigh(&mut self, backend: &str, weight: u32) {
        let all = self.model.pools.values_mut().flat_map(|pool| &mut pool.backends);
        all.filter(|it| &*it.uid == backend).for_each(|it| it.weight = weight);
    }

    fn policy(&mut self, policy: OnNoLocalBackend) {
        self.model.services.get_mut(testing::SERVICE).unwrap().failover.on_no_local_backend =
            policy;
    }

    fn steer(&mut self) -> Plan {
        let plan = steer(&Inputs {
            model: &self.model,
            targets: &targets(&self.model),
            health: &self.health,
            marks: &self.marks,
            memory: &self.memory,
            rings: &self.rings,
            faults: &self.faults,
            traffic: &self.traffic,
            now: self.now,
        });
        self.memory = plan.memory.clone();
        self.rings = plan.rings.clone();
        plan
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
    }
}

/// The backend that a position in the first ring's slots stands for.
fn backend_at(plan: &Plan, position: u16) -> Option<&isocast_dataplane::Backend> {
    let edge = &plan.tables.edge;
    edge.rings[0].backends.get(usize::from(position)).map(|position| &edge.backends[*position])
}

fn current(plan: &Plan) -> Vec<String> {
    let names = |position: u16| backend_at(plan, position).unwrap().key.0.to_string();
    let slots = plan.tables.edge.rings[0].slots.iter();
    let mut all: Vec<_> =
        slots.filter(|slot| slot.current != u16::MAX).map(|slot| names(slot.current)).collect();
    all.sort();
    all.dedup();
    all
}

/// Who may have the flows of each slot besides its own backend.
fn chains(plan: &Plan) -> Vec<Vec<String>> {
    let ring = &plan.tables.edge.rings[0];
    let name = |position: &u16| backend_at(plan, *position).unwrap().key.0.to_string();
    let chain = |slot: &Slot| {
        assert!(!slot.is_tracked());
        let positions = ring.chains.get(usize::from(slot.chain));
        positions.into_iter().flatten().map(name).collect()
    };
    ring.slots.iter().map(chain).collect()
}

fn placement(plan: &Plan) -> &Placement {
    &plan.services[testing::SERVICE].placement
}

#[test]
fn healthy_local_backends_share_the_flows() {
    let mut world = World::with_health(&["ams-1", "ams-2", "fra-1", "fra-2"]);

    let plan = world.steer();

    assert_eq!(current(&plan), ["ams-1", "ams-2"]);
    assert_eq!(placement(&plan), &Placement::Local);
    assert_eq!(plan.leases.len(), 2, "one per address family");
    assert!(chains(&plan).iter().all(Vec::is_empty));
}

#[test]
fn nothing_is_leased_before_a_backend_is_known_to_be_healthy() {
    let plan = World::new().steer();

    assert!(plan.leases.is_empty());
    assert_eq!(placement(&plan), &Placement::Unjudged);
    assert_eq!(plan.tables.edge.vips.len(), 2, "its packets must not reach the edge's stack");
}

#[test]
fn the_first_ring_waits_for_every_local_verdict() {
    let mut world = World::new();
    world.set("fra-1", true);
    world.set("ams-1", true);

    let early = world.steer();
    world.set("ams-2", false);
    let late = world.steer();

    assert!(early.leases.is_empty());
    assert_eq!(current(&late), ["ams-1"]);
}

#[test]
fn a_new_local_backend_without_a_verdict_does_not_disturb_the_ring() {
    let mut world = World::with_health(&["fra-1", "fra-2"]);
    world.steer();
    let pool = world.model.pools.get_mut(testing::POOL).unwrap();
    pool.backends.push(testing::backend("ams-3", "ams", 5));

    let plan = world.steer();

    assert_eq!(current(&plan), ["fra-1", "fra-2"]);
}

#[test]
fn without_local_backends_flows_cross_the_backbone_and_the_route_stays() {
    let mut world = World::with_health(&["fra-1", "fra-2"]);

    let plan = world.steer();

    assert_eq!(current(&plan), ["fra-1", "fra-2"]);
    assert_eq!(placement(&plan), &Placement::Remote { datacenter: "fra".into() });
    assert_eq!(plan.leases.len(), 2);
}

#[test]
fn withdraw_takes_the_route_instead() {
    let mut world = World::with_health(&["fra-1", "fra-2"]);
    world.policy(OnNoLocalBackend::Withdraw);

    let plan = world.steer();

    assert!(plan.leases.is_empty());
}

#[test]
fn serve_anyway_ignores_health_only_when_nobody_is_healthy() {
    let mut world = World::with_health(&[]);
    world.policy(OnNoLocalBackend::ServeAnyway);

    let plan = world.steer();

    assert_eq!(current(&plan), ["ams-1", "ams-2"]);
    assert_eq!(placement(&plan), &Placement::Regardless);
    assert_eq!(plan.leases.len(), 2);
}

#[test]
fn an_unknown_pool_is_said_so_and_nothing_is_leased() {
    let mut world = World::with_health(&["ams-1"]);
    world.model.pools.clear();

    let plan = world.steer();

    assert_eq!(placement(&plan), &Placement::Nowhere { reason: "UnknownBackendPool" });
    assert!(plan.leases.is_empty());
}

#[test]
fn a_backend_accepts_its_services_and_their_check_port_only() {
    let mut world = World::with_health(&[]);
    world.model.roles = crate::model::Roles { edge: false, backend: true };
    world.model.name = "node-ams-1".into();
    world.model.services.get_mut(testing::SERVICE).unwrap().health.port = 8080;

    let plan = world.steer();

    let ports: Vec<_> = plan.tables.decap.accepts.iter().map(|accept| accept.port).collect();
    assert_eq!(ports, [80, 8080, 80, 8080]);
    assert!(plan.tables.edge.vips.is_empty());
}

#[test]
fn an_edge_and_a_backend_have_the_same_rules_for_packets_out_of_the_ordinary() {
    let mut world = World::with_health(&["ams-1"]);
    world.model.name = "node-ams-1".into();
    world.model.roles = crate::model::Roles { edge: true, backend: true };
    let service = world.model.services.get_mut(testing::SERVICE).unwrap();
    service.ports.push(Port { protocol: Protocol::Udp, port: 53 });
    service.packets.segment_size = Some(1400);

    let tables = world.steer().tables;

    let tcp = PacketRules { fragments: Fragments::Drop, segment_size: Some(1400) };
    let udp = PacketRules { fragments: Fragments::Hash, segment_size: None };
    let rules = |protocol| if protocol == Protocol::Tcp { tcp } else { udp };
    assert!(!tables.edge.vips.is_empty() && !tables.decap.accepts.is_empty());
    assert!(tables.edge.vips.iter().all(|vip| vip.rules == rules(vip.protocol)));
    assert!(tables.decap.accepts.iter().all(|accept| accept.rules == rules(accept.protocol)));
}

#[test]
fn what_a_service_and_its_tenant_may_take_in_is_in_the_edges_tables() {
    let mut world = World::with_health(&["ams-1"]);
    let open = world.steer().tables.edge;
    assert!(open.policies.is_empty() && open.tenants.is_empty());

    let ceilings = Ceilings { packets_per_second: Some(5), new_flows_per_second: None };
    let service = world.model.services.get_mut(testing::SERVICE).unwrap();
    service.policy = ServicePolicy { ceilings, ..ServicePolicy::default() };
    service.tenant_ceilings = Ceilings { new_flows_per_second: Some(6), ..ceilings };
    let (policy, tenant_ceilings) = (service.policy.clone(), service.tenant_ceilings);

    let edge = world.steer().tables.edge;
    let key = ServiceKey(testing::SERVICE.into());
    assert_eq!(edge.policies, BTreeMap::from([(key, policy)]));
    assert_eq!(edge.tenants, BTreeMap::from([(5, tenant_ceilings)]));
}

#[test]
fn an_edge_that_lost_its_data_plane_still_knows_whose_old_flows_are() {
    let mut world = World::with_health(&["fra-1", "fra-2"]);
    world.steer();
    world.set("ams-1", true);
    world.set("ams-2", true);
    world.steer();
    world.pass(SETTLE);
    assert_eq!(current(&world.steer()), ["ams-1", "ams-2"]);
    let services = world.memory.services.clone();

    let memory = Memory { services, ..Memory::default() };
    let mut returned = World { memory, now: world.now, ..World::new() };
    let blind = returned.steer();
    for backend in ["ams-1", "ams-2", "fra-1", "fra-2"] {
        returned.set(backend, true);
    }
    let plan = returned.steer();

    assert!(blind.leases.is_empty(), "health is not remembered");
    assert_eq!(current(&plan), ["ams-1", "ams-2"]);
    for chain in chains(&plan) {
        assert!(chain.len() == 1 && chain[0].starts_with("fra-"), "{chain:?}");
    }
}

#[test]
fn hosts_without_an_agent_get_their_packets_and_probes_in_nothing_but_ip() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    let pool = world.model.pools.get_mut(testing::POOL).unwrap();
    let host = pool.backends.iter_mut().find(|backend| &*backend.uid == "ams-2").unwrap();
    host.node = String::new();
    let address = host.tunnel_address;

    let plan = world.steer();

    let edge = &plan.tables.edge;
    assert_eq!(edge.backends.len(), 2);
    for backend in &edge.backends {
        assert_eq!(backend.encap == Encap::Ip, backend.tunnel_address == address);
    }
    assert!(edge.probes.iter().any(|probe| probe.tunnel_address == address));
    for probe in &edge.probes {
        assert_eq!(probe.encap == Encap::Ip, probe.tunnel_address == address);
    }
}

#[test]
fn memories_from_before_there_was_a_choice_are_of_agents() {
    let member = Member {
        uid: "ams-1".into(),
        tunnel_address: [192, 0, 2, 1].into(),
        weight: 1,
        share: Member::WHOLE,
        encap: Encap::Ip,
    };
    let mut json = serde_json::to_value(&member).unwrap();
    assert_eq!(serde_json::from_value::<Member>(json.clone()).unwrap(), member);
    json.as_object_mut().unwrap().remove("encap");
    let before = serde_json::from_value::<Member>(json).unwrap();
    assert_eq!(before, Member { encap: Encap::Gue, ..member });
}

#[test]
fn memory_survives_a_restart() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    let plan = world.steer();

    let bytes = serde_json::to_vec(&plan.memory).unwrap();

    assert_eq!(serde_json::from_slice::<Memory>(&bytes).unwrap(), plan.memory);
}

proptest! {
    /// Whatever health does: leased means served, dead means not in the ring, and two edges
    /// with the same past plan the same, whether they made their rings before or make them now.
    #[test]
    fn leased_means_served(events in prop::collection::vec((0..4_usize, any::<bool>(), 0..3000_u64), 1..40)) {
        let mut world = World::new();
        for (backend, healthy, millis) in events {
            let name = ["ams-1", "ams-2", "fra-1", "fra-2"][backend];
            world.set(name, healthy);
            world.pass(Duration::from_millis(millis));
            let again = steer(&Inputs {
                model: &world.model,
                targets: &targets(&world.model),
                health: &world.health,
                marks: &world.marks,
                memory: &world.memory,
                rings: &Rings::default(),
                faults: &world.faults,
                traffic: &world.traffic,
                now: world.now,
            });

            let plan = world.steer();

            prop_assert_eq!(&plan, &again);
            let served = plan.tables.edge.rings[0].slots.iter().all(|slot| slot.current != u16::MAX);
            prop_assert!(served || plan.leases.is_empty());
            for member in &plan.memory.services[testing::SERVICE].own.members {
                let target = TargetId { service: testing::SERVICE.into(), backend: member.uid.clone() };
                prop_assert_ne!(world.health.verdict(&target), Verdict::Unhealthy);
            }
            prop_assert!(plan.memory.services[testing::SERVICE].own.past.len() <= EPOCHS_MAX);
            let slots = plan.tables.edge.rings[0].slots.iter();
            for (slot, chain) in slots.zip(chains(&plan)) {
                let own = backend_at(&plan, slot.current);
                let own = own.map(|backend| backend.key.0.to_string());
                let hosts: BTreeSet<_> = own.iter().chain(&chain).collect();
                prop_assert_eq!(hosts.len(), chain.len() + usize::from(own.is_some()));
            }
        }
    }
}
