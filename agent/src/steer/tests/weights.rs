//! Backends that are drained, and backends that join.

use super::*;

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
