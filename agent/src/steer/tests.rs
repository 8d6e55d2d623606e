//! Properties and scenarios of [`steer`].

use proptest::prelude::*;

use super::*;
use crate::{
    health::{Report, TargetId, Verdict, targets},
    model::{OnNoLocalBackend, testing},
};

/// A world that is steered again and again, with memory handed on.
struct World {
    model: NodeModel,
    health: HealthView,
    marks: Marks,
    memory: Memory,
    rings: Rings,
    now: UnixMs,
}

impl World {
    fn new() -> Self {
        let model = testing::two_datacenters();
        let mut marks = Marks::default();
        marks.assign(&targets(&model));
        let now = UnixMs(1_000_000);
        let (health, memory, rings) = <_>::default();
        Self { model, health, marks, memory, rings, now }
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
        self.health.record(Report { target, verdict, reason: "".into() });
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

fn current(plan: &Plan) -> Vec<String> {
    let names = |position: u16| plan.tables.edge.backends[usize::from(position)].key.0.to_string();
    let slots = plan.tables.edge.rings[0].slots.iter();
    let mut all: Vec<_> =
        slots.filter(|slot| slot.current != u16::MAX).map(|slot| names(slot.current)).collect();
    all.sort();
    all.dedup();
    all
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
    assert!(plan.tables.edge.rings[0].slots.iter().all(|slot| slot.previous == u16::MAX));
}

#[test]
fn nothing_is_leased_before_a_backend_is_known_to_be_healthy() {
    let plan = World::new().steer();

    assert!(plan.leases.is_empty());
    assert_eq!(placement(&plan), &Placement::Nowhere { reason: "HealthUnknown" });
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
        plan.tables.edge.backends.get(usize::from(position)).map(|backend| backend.key.0.clone())
    };
    let pairs =
        before.tables.edge.rings[0].slots.iter().zip(after.tables.edge.rings[0].slots.iter());
    for (old, new) in pairs {
        let moved = name(&before, old.current) != name(&after, new.current);
        let expected = moved.then(|| "ams-1".into());
        assert_eq!(name(&after, new.previous), expected);
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
                health: &world.health,
                marks: &world.marks,
                memory: &world.memory,
                rings: &Rings::default(),
                now: world.now,
            });

            let plan = world.steer();

            prop_assert_eq!(&plan, &again);
            let served = plan.tables.edge.rings[0].slots.iter().all(|slot| slot.current != u16::MAX);
            prop_assert_eq!(served, !plan.leases.is_empty());
            for member in &plan.memory.services[testing::SERVICE].members {
                let target = TargetId { service: testing::SERVICE.into(), backend: member.uid.clone() };
                prop_assert_ne!(world.health.verdict(&target), Verdict::Unhealthy);
            }
            prop_assert!(plan.memory.services[testing::SERVICE].past.len() <= EPOCHS_MAX);
            for slot in plan.tables.edge.rings[0].slots.iter() {
                prop_assert!(slot.previous == u16::MAX || slot.previous != slot.current);
            }
        }
    }
}
