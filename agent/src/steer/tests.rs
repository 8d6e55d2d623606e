//! Properties and scenarios of [`steer`].

use proptest::prelude::*;

use std::{collections::BTreeSet, time::Instant};

use isocast_bgp::origination::Elsewhere;
use isocast_dataplane::{Ceilings, Fragments, PacketRules, Protocol, ServiceKey, ServicePolicy};
use isocast_dataplane_common::Slot;

use super::*;
use crate::{
    health::{Report, TargetId, Verdict, targets},
    model::{DrainOrder, DrainTarget, MidFlowMove, OnNoLocalBackend, testing},
};

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
fn a_dead_backend_leaves_at_once_and_keeps_its_claim_on_old_flows() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    let before = world.steer();
    world.set("ams-1", false);

    let after = world.steer();

    assert_eq!(current(&after), ["ams-2"]);
    let name = |plan: &Plan, position: u16| {
        backend_at(plan, position).map(|backend| backend.key.0.clone())
    };
    let pairs =
        before.tables.edge.rings[0].slots.iter().zip(after.tables.edge.rings[0].slots.iter());
    for ((old, new), chain) in pairs.zip(chains(&after)) {
        let moved = name(&before, old.current) != name(&after, new.current);
        let expected: &[&str] = if moved { &["ams-1"] } else { &[] };
        assert_eq!(chain, expected);
    }
}

#[test]
fn a_backend_that_returns_waits_until_the_picture_is_steady() {
    let mut world = World::with_health(&["ams-2"]);
    world.steer();
    world.set("ams-1", true);

    let early = world.steer();
    world.pass(SETTLE);
    let late = world.steer();

    assert_eq!(current(&early), ["ams-2"]);
    assert_eq!(early.wake_at, Some(UnixMs(1_000_000 + 1000)));
    assert_eq!(current(&late), ["ams-1", "ams-2"]);
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
fn a_slot_that_changes_hands_twice_remembers_both() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    let first = world.steer();
    world.set("ams-1", false);
    world.steer();
    world.set("ams-2", false);
    world.set("fra-1", true);

    let last = world.steer();

    let owner =
        |slot: &Slot| first.tables.edge.backends[usize::from(slot.current)].key.0.to_string();
    assert_eq!(current(&last), ["fra-1"]);
    for (slot, chain) in first.tables.edge.rings[0].slots.iter().zip(chains(&last)) {
        assert_eq!(chain[0], "ams-2", "everything was there last");
        assert_eq!(chain.get(1).is_some_and(|it| it == "ams-1"), owner(slot) == "ams-1");
    }
}

#[test]
fn a_rescued_flow_is_asked_for_where_the_other_datacenter_had_it() {
    let everybody = ["ams-1", "ams-2", "fra-1", "fra-2"];
    let mut ams = World::with_health(&everybody);
    let mut fra = World::with_health(&everybody);
    fra.model.datacenter = "fra".into();
    for world in [&mut ams, &mut fra] {
        let service = world.model.services.get_mut(testing::SERVICE).unwrap();
        service.mid_flow_move = MidFlowMove::Rescue;
    }

    let (here, there) = (ams.steer(), fra.steer());

    let owners = |plan: &Plan| -> Vec<String> {
        let name =
            |slot: &Slot| plan.tables.edge.backends[usize::from(slot.current)].key.0.to_string();
        plan.tables.edge.rings[0].slots.iter().map(name).collect()
    };
    let chained = |plan: &Plan| -> Vec<String> { chains(plan).concat() };
    assert_eq!(chained(&here), owners(&there), "one each, the one that the other edges choose");
    assert_eq!(chained(&there), owners(&here));
}

#[test]
fn earlier_rings_leave_a_rescue_its_place() {
    let mut world = World::with_health(&["ams-1", "fra-1"]);
    world.model.services.get_mut(testing::SERVICE).unwrap().mid_flow_move = MidFlowMove::Rescue;
    let pool = world.model.pools.get_mut(testing::POOL).unwrap();
    pool.backends.extend((3..6).map(|n| testing::backend(&format!("ams-{n}"), "ams", n + 10)));
    for unused in ["ams-3", "ams-4", "ams-5"] {
        world.set(unused, false);
    }
    world.steer();
    for (gone, next) in [("ams-1", "ams-3"), ("ams-3", "ams-4"), ("ams-4", "ams-5")] {
        world.set(next, true);
        world.set(gone, false);
        world.steer();
    }

    let plan = world.steer();

    assert_eq!(current(&plan), ["ams-5"]);
    assert!(chains(&plan).iter().all(|chain| chain == &["ams-4", "ams-3", "fra-1"]));
}

#[test]
fn earlier_rings_fill_a_chain_that_a_rescue_leaves_room_in() {
    let mut world = World::with_health(&["fra-1"]);
    world.model.services.get_mut(testing::SERVICE).unwrap().mid_flow_move = MidFlowMove::Rescue;
    world.steer();
    for (gone, next) in [("fra-1", "fra-2"), ("fra-2", "ams-1"), ("ams-1", "ams-2")] {
        world.set(next, true);
        world.set(gone, false);
        world.steer();
    }
    world.set("fra-2", true);

    let plan = world.steer();

    assert_eq!(current(&plan), ["ams-2"]);
    assert!(chains(&plan).iter().all(|chain| chain == &["ams-1", "fra-2", "fra-1"]));
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
fn a_drained_backend_keeps_its_flows_and_gets_no_others_for_as_long_as_it_is_drained() {
    let mut world = World::with_health(&["ams-1", "ams-2", "fra-1", "fra-2"]);
    let before = world.steer();
    let of_ams_1 = |plan: &Plan| -> Vec<usize> {
        let is_its = |slot: &Slot| &*backend_at(plan, slot.current).unwrap().key.0 == "ams-1";
        let slots = plan.tables.edge.rings[0].slots.iter().enumerate();
        slots.filter(|(_, slot)| is_its(slot)).map(|(position, _)| position).collect()
    };
    let owned = of_ams_1(&before);
    assert!(!owned.is_empty());

    world.weigh("ams-1", 0);
    world.steer();
    world.pass(SETTLE);
    let drained = world.steer();

    assert_eq!(current(&drained), ["ams-2"]);
    assert_eq!(
        &*drained.services[testing::SERVICE].message,
        "1 of 1 backends in ams are healthy, 1 drained"
    );
    let mut plan = drained;
    for _ in 0..10 {
        world.now = plan.wake_at.expect("an earlier ring's claim ends").max(world.now);
        plan = world.steer();
        let chains = chains(&plan);
        assert!(owned.iter().all(|slot| chains[*slot] == ["ams-1"]), "at {:?}", world.now);
    }
    world.weigh("ams-1", 1);
    world.steer();
    world.pass(SETTLE);
    assert_eq!(of_ams_1(&world.steer()), owned);
}

#[test]
fn a_backend_that_joins_gets_its_share_in_steps() {
    let mut world = World::with_health(&["ams-1", "fra-1", "fra-2"]);
    world.model.pools.values_mut().for_each(|pool| pool.slow_start = Duration::from_secs(50));
    world.steer();
    world.set("ams-2", true);
    let share = |plan: &Plan| {
        let slots = &plan.tables.edge.rings[0].slots;
        let is_its = |slot: &&Slot| &*backend_at(plan, slot.current).unwrap().key.0 == "ams-2";
        slots.iter().filter(is_its).count() * 100 / slots.len()
    };

    let mut plan = world.steer();
    let mut shares = vec![share(&plan)];
    while let Some(at) = plan.wake_at.filter(|_| share(&plan) < 50) {
        world.now = at;
        plan = world.steer();
        shares.push(share(&plan));
    }

    // Each step is seen, and settles a second later: one part of six, two of seven, and so on.
    shares.dedup();
    assert_eq!(shares, [0, 16, 28, 37, 44, 50]);
    assert_eq!(world.now, UnixMs(1_000_000).after(Duration::from_secs(41)));
}

#[test]
fn a_drained_backend_that_dies_keeps_nothing() {
    let mut world = World::with_health(&["ams-1", "ams-2", "fra-1", "fra-2"]);
    world.steer();
    world.weigh("ams-1", 0);
    world.steer();
    world.pass(SETTLE);
    world.steer();

    world.set("ams-1", false);
    world.pass(TRANSITION);
    world.steer();
    world.pass(TRANSITION);

    assert!(chains(&world.steer()).iter().all(Vec::is_empty));
}

#[test]
fn where_every_backend_is_drained_traffic_goes_elsewhere() {
    let mut world = World::with_health(&["ams-1", "ams-2", "fra-1", "fra-2"]);
    world.policy(OnNoLocalBackend::ForwardOverBackbone);
    world.steer();

    for backend in ["ams-1", "ams-2"] {
        world.weigh(backend, 0);
    }
    world.steer();
    world.pass(SETTLE);

    assert_eq!(current(&world.steer()), ["fra-1", "fra-2"]);
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
    service.ports.push(crate::model::Port { protocol: Protocol::Udp, port: 53 });
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
fn memory_survives_a_restart() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    let plan = world.steer();

    let bytes = serde_json::to_vec(&plan.memory).unwrap();

    assert_eq!(serde_json::from_slice::<Memory>(&bytes).unwrap(), plan.memory);
}

/// A service for each of `count` addresses, all over the same two local backends, with the policy
/// to withdraw; each is announced by others too.
fn many(count: u8) -> World {
    let mut world = World::new();
    let template = world.model.services.remove(testing::SERVICE).unwrap();
    for number in 0..count {
        let uid = Uid::from(format!("service-{number:03}"));
        let mut service = template.clone();
        service.uid = uid.clone();
        service.addresses = vec![format!("203.0.113.{number}").parse().unwrap()];
        service.failover.on_no_local_backend = OnNoLocalBackend::Withdraw;
        world.model.services.insert(uid.clone(), service);
        let known = Elsewhere::Known { others: 2, keeper: false };
        world.memory.elsewhere.insert(uid, known);
    }
    world.set_all(0..count, true);
    assert_eq!(world.steer().leases.len(), usize::from(count));
    world
}

impl World {
    fn set_all(&mut self, services: std::ops::Range<u8>, healthy: bool) {
        let verdict = if healthy { Verdict::Healthy } else { Verdict::Unhealthy };
        for number in services {
            for backend in ["ams-1", "ams-2"] {
                let service = Uid::from(format!("service-{number:03}"));
                let target = TargetId { service, backend: backend.into() };
                let at = Instant::now();
                self.health.record(Report { target, verdict, reason: "".into(), at });
            }
        }
    }

    fn only_service(&mut self) -> Uid {
        self.policy(OnNoLocalBackend::Withdraw);
        testing::SERVICE.into()
    }
}

fn reason(plan: &Plan, address: &str) -> &'static str {
    plan.standings[&IpNet::from(address.parse::<IpAddr>().unwrap())].reason()
}

#[test]
fn a_checker_gone_mad_withdraws_nothing_and_every_backend_is_used() {
    let mut world = many(20);
    world.set_all(0..20, false);

    let plan = world.steer();

    assert_eq!(plan.leases.len(), 20);
    assert_eq!(plan.newly_held.len(), 20);
    assert_eq!(reason(&plan, "203.0.113.7"), "HeldBySharedCause");
    let held = &plan.services["service-007"];
    assert_eq!(held.placement, Placement::Held { reason: "HeldBySharedCause" });
    world.pass(SETTLE);
    assert_eq!(current(&world.steer()), ["ams-1", "ams-2"], "as before it went mad");
}

#[test]
fn several_real_failures_go_as_far_as_the_budget_and_the_others_are_still_served() {
    let mut world = many(20);
    world.set_all(0..8, false);

    let plan = world.steer();

    assert_eq!(plan.leases.len(), 15);
    assert_eq!(reason(&plan, "203.0.113.7"), "HeldByWithdrawalBudget");
    let rings = plan.tables.edge.rings.iter();
    let served = rings.filter(|ring| ring.slots.iter().all(|slot| slot.current != u16::MAX));
    assert_eq!(served.count(), 15, "what is announced is served");
    assert_eq!(plan.wake_at, Some(world.now.after(Duration::from_secs(60))));
    world.pass(Duration::from_secs(60));
    assert_eq!(world.steer().leases.len(), 12);
}

#[test]
fn a_service_that_is_applied_again_keeps_its_route_and_its_slots() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    let before = world.steer();
    let mut service = world.model.services.remove(testing::SERVICE).unwrap();
    service.uid = "another-uid".into();
    for backend in &mut world.model.pools.get_mut(testing::POOL).unwrap().backends {
        backend.uid = format!("another-{}", backend.uid).into();
    }
    world.model.services.insert(service.uid.clone(), service);
    let hosts = |plan: &Plan| -> Vec<_> {
        let host = |position: u16| backend_at(plan, position).map(|it| it.tunnel_address);
        let slots = plan.tables.edge.rings[0].slots.iter();
        slots.zip(chains(plan)).map(|(slot, chain)| (host(slot.current), chain)).collect()
    };

    let after = world.steer();

    assert_eq!(after.leases.len(), 2);
    assert_eq!(reason(&after, "203.0.113.10"), "HeldUntilJudged");
    assert_eq!(hosts(&after), hosts(&before));
}

/// A pool of that many backends in this datacenter, all healthy.
fn resize(world: &mut World, count: u8) {
    let names: Vec<_> = (0..count).map(|n| format!("ams-{n}")).collect();
    let backends = names.iter().zip(1..).map(|(name, n)| testing::backend(name, "ams", n));
    world.model.pools.get_mut(testing::POOL).unwrap().backends = backends.collect();
    for name in &names {
        world.set(name, true);
    }
}

#[test]
fn a_ring_that_grows_names_the_previous_backend_of_each_slot_that_moves() {
    let mut world = World::with_health(&[]);
    resize(&mut world, 40);
    let small = world.steer();
    resize(&mut world, 41);
    world.steer();
    world.pass(SETTLE);

    let large = world.steer();

    let slots = |plan: &Plan| Arc::clone(&plan.tables.edge.rings[0].slots);
    assert_eq!((slots(&small).len(), slots(&large).len()), (4096, 8192));
    let uid = |plan: &Plan, position| backend_at(plan, position).map(|it| it.key.clone());
    let mut moved = 0;
    let (large_slots, small_slots) = (slots(&large), slots(&small));
    let pairs = large_slots.iter().zip(small_slots.iter().cycle());
    for ((slot, before), chain) in pairs.zip(chains(&large)) {
        let before = uid(&small, before.current);
        if uid(&large, slot.current) == before {
            assert!(chain.is_empty());
        } else {
            assert_eq!(chain, [before.unwrap().0.to_string()]);
            moved += 1;
        }
    }
    assert!((100..8192 / 16).contains(&moved), "{moved} slots moved for a share of 200");
}

#[test]
fn a_ring_that_shrinks_keeps_its_slots_until_the_transition_is_over() {
    let mut world = World::with_health(&[]);
    resize(&mut world, 41);
    world.steer();
    resize(&mut world, 4);
    let during = world.steer();
    world.pass(SETTLE);
    world.steer();
    world.pass(TRANSITION);
    let after = world.steer();

    let size = |plan: &Plan| plan.tables.edge.rings[0].slots.len();
    assert_eq!((size(&during), size(&after)), (8192, 4096));
}

#[test]
fn health_does_not_change_the_size_of_a_ring() {
    let mut world = World::with_health(&[]);
    resize(&mut world, 41);
    world.steer();
    for n in 2..41 {
        world.set(&format!("ams-{n}"), false);
    }
    world.steer();
    world.pass(TRANSITION);

    assert_eq!(world.steer().tables.edge.rings[0].slots.len(), 8192);
}

#[test]
fn a_memory_from_before_rings_had_sizes_is_of_the_smallest() {
    let memory: ServiceMemory =
        serde_json::from_str(r#"{"members": [], "past": [], "pending": null}"#).unwrap();
    assert_eq!(memory.size, RingSize::of(1));
    let odd = r#"{"members": [], "size": 5000, "past": [], "pending": null}"#;
    assert!(serde_json::from_str::<ServiceMemory>(odd).is_err());
}

#[test]
fn a_service_that_gets_another_pool_keeps_its_route_until_that_is_judged() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    world.steer();
    let pool = world.model.pools.get_mut(testing::POOL).unwrap();
    pool.backends = vec![testing::backend("ams-3", "ams", 5), testing::backend("ams-4", "ams", 6)];

    let unjudged = world.steer();
    world.set("ams-3", false);
    let half = world.steer();
    world.set("ams-4", false);
    let judged = world.steer();

    assert_eq!(unjudged.leases.len(), 2);
    assert_eq!(current(&unjudged), ["ams-3", "ams-4"]);
    assert_eq!(current(&half), ["ams-4"], "what is known of the others counts");
    assert!(judged.leases.is_empty());
}

#[test]
fn a_restart_brings_no_second_budget() {
    let mut world = many(20);
    world.set_all(0..5, false);
    assert_eq!(world.steer().leases.len(), 15);

    let bytes = serde_json::to_vec(&world.memory).unwrap();
    world.memory = serde_json::from_slice(&bytes).unwrap();
    world.rings = Rings::default();
    world.set_all(5..6, false);

    assert_eq!(world.steer().leases.len(), 15);
}

#[test]
fn the_keeper_goes_on_until_another_node_keeps_the_service() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    let service = world.only_service();
    world.steer();
    let keeper = |keeper| Elsewhere::Known { others: 1, keeper };
    world.memory.elsewhere.insert(service.clone(), keeper(true));
    world.set("ams-1", false);
    world.set("ams-2", false);

    let kept = world.steer();
    world.memory.elsewhere.insert(service, keeper(false));
    let released = world.steer();

    assert_eq!(kept.leases.len(), 2);
    assert_eq!(reason(&kept, "203.0.113.10"), "LastAnnouncer");
    assert_eq!(placement(&kept), &Placement::Held { reason: "LastAnnouncer" });
    assert!(!current(&kept).is_empty());
    assert!(released.leases.is_empty());
}

#[test]
fn a_drained_service_is_signalled_then_withdrawn_and_served_all_along() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    world.steer();
    let order = DrainOrder {
        uid: "drain".into(),
        target: DrainTarget::Service(testing::SERVICE.into()),
        wait: Duration::from_secs(30),
        confirmed: false,
    };
    world.model.drains.insert(order.uid.clone(), order);
    let signalled = Community::GRACEFUL_SHUTDOWN;

    let first = world.steer();
    world.pass(Duration::from_secs(30));
    let second = world.steer();
    world.model.drains.clear();
    let cancelled = world.steer();

    assert!(first.leases.iter().all(|it| it.communities.standard.contains(&signalled)));
    assert_eq!(first.wake_at, Some(UnixMs(1_000_000).after(Duration::from_secs(30))));
    assert!(second.leases.is_empty());
    assert_eq!(current(&second), ["ams-1", "ams-2"]);
    assert_eq!(reason(&second, "203.0.113.10"), "Drained");
    assert_eq!(cancelled.leases.len(), 2);
    assert!(cancelled.leases.iter().all(|it| !it.communities.standard.contains(&signalled)));
}

#[test]
fn a_drain_of_another_node_or_datacenter_is_none_of_our_business() {
    for target in [DrainTarget::Node("edge-ams-2".into()), DrainTarget::Datacenter("fra".into())] {
        let mut world = World::with_health(&["ams-1", "ams-2"]);
        world.steer();
        let (uid, wait) = (Uid::from("drain"), Duration::ZERO);
        let order = DrainOrder { uid: uid.clone(), target, wait, confirmed: true };
        world.model.drains.insert(uid, order);

        let plan = world.steer();

        assert_eq!(plan.leases.len(), 2);
        assert_eq!(reason(&plan, "203.0.113.10"), "Announced");
    }
}

#[test]
fn a_drained_node_keeps_the_last_route_unless_that_was_confirmed() {
    for (confirmed, announced) in [(false, 2), (true, 0)] {
        let mut world = World::with_health(&["ams-1", "ams-2"]);
        world.steer();
        let alone = Elsewhere::Known { others: 0, keeper: true };
        world.memory.elsewhere.insert(testing::SERVICE.into(), alone);
        let target = DrainTarget::Node(world.model.name.clone());
        let (uid, wait) = (Uid::from("drain"), Duration::ZERO);
        world.model.drains.insert(uid.clone(), DrainOrder { uid, target, wait, confirmed });

        let plan = world.steer();

        assert_eq!(plan.leases.len(), announced);
    }
}

#[test]
fn what_was_removed_goes_and_what_lost_its_grant_goes_within_the_budget() {
    let mut world = many(20);
    world.model.departures.removed.insert("service-003".into());
    world.model.announceable.retain(|net| net.addr().is_ipv6());

    let plan = world.steer();

    assert_eq!(reason(&plan, "203.0.113.3"), "Removed");
    assert_eq!(plan.leases.len(), 14, "one removed, five without a grant");
    assert_eq!(reason(&plan, "203.0.113.19"), "HeldByWithdrawalBudget");
    let held: IpNet = "203.0.113.19/32".parse().unwrap();
    assert!(plan.announceable.contains(&held), "the guard lets pass what is held");
    let gone: IpNet = "203.0.113.0/32".parse().unwrap();
    assert!(!plan.announceable.contains(&gone));
}

#[test]
fn tables_that_are_not_in_force_end_every_announcement_but_the_last() {
    let mut world = many(20);
    let alone = Elsewhere::Known { others: 0, keeper: false };
    world.memory.elsewhere.insert("service-019".into(), alone);
    world.faults = Closed::from([isocast_bgp::origination::Gate::DataPlane]);

    let plan = world.steer();

    assert_eq!(plan.leases.len(), 1);
    assert_eq!(reason(&plan, "203.0.113.0"), "DataPlaneNotReady");
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
            for member in &plan.memory.services[testing::SERVICE].members {
                let target = TargetId { service: testing::SERVICE.into(), backend: member.uid.clone() };
                prop_assert_ne!(world.health.verdict(&target), Verdict::Unhealthy);
            }
            prop_assert!(plan.memory.services[testing::SERVICE].past.len() <= EPOCHS_MAX);
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
