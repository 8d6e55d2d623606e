//! A node with several controllers, of which the one that serves it is killed.

use crate::bench::{self, Bench};

/// The service, as it is for the `generation`th time.
fn service(generation: u64) -> String {
    let service = bench::service("www").replace("port: 80", &format!("port: {}", 79 + generation));
    format!("{service}  failover: {{onNoLocalBackend: ServeAnyway}}\n")
}

#[test]
fn a_node_whose_controller_is_killed_goes_on_with_another_and_withdraws_nothing() {
    Bench::run_on_etcd(|bench, [mut serves, mut waits]| {
        bench.apply(bench::PLATFORM);
        bench.apply(bench::ROUTER_PEER);
        bench.apply(&service(1));
        let router = bench.start_router();
        let agent = bench.start_agent("edge-1", &[]);
        bench.eventually("the agent is up", || agent.answers());
        let runs = |generation: u64| agent.status()["services"][0]["generation"] == generation;
        let is_told = |generation: u64| {
            bench
                .condition("www", "Programmed")
                .is_some_and(|it| it["status"] == "True" && it["observedGeneration"] == generation)
        };
        bench.eventually("the service is programmed", || runs(1) && is_told(1));
        bench.eventually("the router is told", || router.figure("routes_received") == 1);
        let announced = router.figure("announced_in");
        // Whoever has the lease answers for nodes: on a slow machine it may have changed hands.
        bench.eventually("one of them serves the node", || {
            let is_it = bench.ask("edge-1", PEERS).is_ok();
            if !is_it {
                std::mem::swap(&mut serves, &mut waits);
                bench.talk_to(&serves);
            }
            is_it
        });
        let session = bench.ask("edge-1", PEERS).unwrap()["peers"][0]["since"].clone();
        assert!(session.is_string());

        // Each of the two dies once while the node is its own, and comes back to wait for the other.
        for generation in 2..=3 {
            serves.kill();
            bench.talk_to(&waits);
            bench.apply(&service(generation));
            bench.eventually("a change through the other one arrives", || runs(generation));
            bench.eventually("the other one writes what the node says", || is_told(generation));
            bench.eventually("and knows it", || bench.is_connected("edge-1"));
            let asked = bench.ask("edge-1", PEERS).unwrap();
            assert_eq!(asked["peers"][0]["since"], session, "the session goes on");
            serves.revive();
            std::mem::swap(&mut serves, &mut waits);
        }

        assert_eq!(router.figure("withdrawn_in"), 0);
        assert_eq!(router.figure("announced_in"), announced, "nothing is announced anew");
        assert_eq!(router.figure("routes_received"), 1);
    });
}

const PEERS: &str = "v1/bgp/peers";
