//! What goes on being announced, and what goes: budgets, holds, drains, removals.

use super::*;

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
