//! Rings of several sizes.

use super::*;

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
    assert_eq!(memory.own.size, RingSize::of(1));
    let odd = r#"{"members": [], "size": 5000, "past": [], "pending": null}"#;
    assert!(serde_json::from_str::<ServiceMemory>(odd).is_err());
}
