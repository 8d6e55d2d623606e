//! Who may have the flows of a slot that changed hands: predecessors, and those that are rescued.

use super::*;

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

/// Who may have the datagrams of each slot besides its own backend: the second ring is theirs.
fn chains_of_datagrams(plan: &Plan) -> Vec<Vec<String>> {
    let mut plan = plan.clone();
    let datagrams = plan.tables.edge.vips.iter().find(|vip| vip.protocol == Protocol::Udp);
    let ring = datagrams.expect("a UDP port").ring;
    plan.tables.edge.rings.swap(0, ring);
    chains(&plan)
}

fn with_udp(world: &mut World) {
    let service = world.model.services.get_mut(testing::SERVICE).unwrap();
    service.ports.push(Port { protocol: Protocol::Udp, port: 53 });
}

#[test]
fn datagrams_go_on_to_hosts_that_are_well_and_to_no_others() {
    let mut world = World::with_health(&["ams-1", "ams-2", "fra-1"]);
    with_udp(&mut world);
    world.model.services.get_mut(testing::SERVICE).unwrap().mid_flow_move = MidFlowMove::Rescue;
    let settled = world.steer();
    assert!(chains_of_datagrams(&settled).iter().all(Vec::is_empty), "Rescue is for connections");
    assert!(chains(&settled).iter().all(|chain| chain == &["fra-1"]));

    // A host that is drained is asked for what it had.
    world.weigh("ams-1", 0);
    world.steer();
    world.pass(SETTLE);
    let drained = world.steer();
    let asked = |plan: &Plan| -> BTreeSet<String> {
        chains_of_datagrams(plan).concat().into_iter().collect()
    };
    assert_eq!(asked(&drained), BTreeSet::from(["ams-1".to_owned()]));

    // One that is dead is not, and neither is one that is no longer in the pool.
    world.set("ams-1", false);
    let dead = world.steer();
    assert_eq!(asked(&dead), BTreeSet::new());
    assert!(chains(&dead).concat().contains(&"ams-1".to_owned()), "connections are another matter");
    world.set("ams-1", true);
    assert_eq!(asked(&world.steer()), BTreeSet::from(["ams-1".to_owned()]));
    let pool = world.model.pools.get_mut(testing::POOL).unwrap();
    pool.backends.retain(|backend| &*backend.uid != "ams-1");
    assert_eq!(asked(&world.steer()), BTreeSet::new());
}

#[test]
fn datagrams_and_connections_share_a_ring_that_is_the_same() {
    let mut world = World::with_health(&["ams-1", "ams-2"]);
    with_udp(&mut world);

    let plan = world.steer();

    assert_eq!(plan.tables.edge.rings.len(), 1);
    assert!(plan.tables.edge.vips.iter().all(|vip| vip.ring == 0));
}

#[test]
fn a_rescued_flow_is_asked_for_where_the_other_datacenter_had_it_before() {
    let mut world = World::with_health(&["ams-1", "ams-2", "fra-1", "fra-2"]);
    world.model.services.get_mut(testing::SERVICE).unwrap().mid_flow_move = MidFlowMove::Rescue;
    let before = chains(&world.steer());

    world.weigh("fra-1", 0);
    let drained = world.steer();
    world.now = world.now.after(TRANSITION);
    let long_drained = world.steer();
    world.weigh("fra-1", 100);
    world.weigh("fra-2", 0);
    let exchanged = world.steer();
    world.weigh("fra-2", 100);
    world.steer();
    world.now = world.now.after(TRANSITION);
    let settled = world.steer();

    for (slot, chain) in before.iter().enumerate() {
        let [had_it] = chain.as_slice() else { panic!("one host each: {chain:?}") };
        for (now, plan) in [("fra-2", &drained), ("fra-2", &long_drained), ("fra-1", &exchanged)] {
            let chain = &chains(plan)[slot];
            assert_eq!(chain[0], now, "who has it now is asked first");
            assert!(chain.contains(had_it), "{had_it} is not in {chain:?}");
        }
    }
    assert_eq!(chains(&settled), before);
    let service = world.model.services.get_mut(testing::SERVICE).unwrap();
    service.mid_flow_move = MidFlowMove::Reset;
    assert!(chains(&world.steer()).iter().all(Vec::is_empty), "nobody is asked any more");
}

#[test]
fn a_flow_is_rescued_before_the_first_check_of_the_other_datacenter_returns() {
    let mut world = World::new();
    world.model.services.get_mut(testing::SERVICE).unwrap().mid_flow_move = MidFlowMove::Rescue;
    for backend in ["ams-1", "ams-2"] {
        world.set(backend, true);
    }

    let unjudged = chains(&world.steer());
    world.set("fra-1", true);
    world.set("fra-2", true);

    assert_eq!(chains(&world.steer()), unjudged);
    assert!(unjudged.iter().all(|chain| chain.len() == 1));
}
