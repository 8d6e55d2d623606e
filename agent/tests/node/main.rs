//! One real node under one real control plane: what its owner is told when the node refuses.
//!
//! Controller, agent and kubectl run in a network namespace of the test's own; the agent loads
//! its real data plane on a veth there.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod bench;
#[expect(
    clippy::expect_used,
    dead_code,
    unreachable_pub,
    reason = "it is the tests' of the controller, and not all of it is for these"
)]
#[path = "../../../controller/tests/support/etcd.rs"]
mod etcd;
mod inside;
mod processes;
mod routing;
mod several;

use bench::Bench;

#[test]
fn a_service_that_a_node_has_no_room_for_says_so_and_the_others_go_on() {
    Bench::run(|bench| {
        bench.apply(bench::PLATFORM);
        bench.apply(&bench::service("first"));
        let agent = bench.start_agent("edge-1", &["--max-services", "1"]);
        bench.eventually("first is programmed", || {
            bench.condition("first", "Programmed").is_some_and(|it| it["status"] == "True")
        });

        bench.apply(&bench::service("second"));

        bench.eventually("second says why not", || {
            bench.condition("second", "Programmed").is_some_and(|it| {
                it["status"] == "False"
                    && it["reason"] == "TooManyServices"
                    && it["message"].as_str().is_some_and(|text| text.contains("at most 1"))
            })
        });
        let first = bench.condition("first", "Programmed").unwrap();
        assert_eq!(first["status"], "True", "{first}");
        let status = agent.status();
        assert_eq!(status["services"].as_array().map(Vec::len), Some(1), "{status}");
    });
}

#[test]
fn a_tenant_without_room_holds_up_no_other_and_a_restart_decides_the_same() {
    Bench::run(|bench| {
        bench.apply(bench::PLATFORM);
        bench.apply(&bench::service("first"));
        let mut agent = bench.start_agent("edge-1", &["--max-services", "1"]);
        bench.eventually("first is programmed", || bench.is("first", "Programmed", "Programmed"));
        bench.apply(&bench::service("second"));
        bench.eventually("second is refused", || {
            bench.is("second", "Programmed", "TooManyServices")
        });
        let backends = |agent: &bench::Agent| -> Vec<String> {
            let status = agent.status();
            let backends = status["services"][0]["backends"].as_array().cloned();
            let name = |it: serde_json::Value| it["name"].as_str().unwrap().to_owned();
            backends.unwrap_or_default().into_iter().map(name).collect()
        };
        assert_eq!(backends(&agent), ["10.98.0.9"]);

        // The pool is another object of the same node; then the service itself changes.
        bench.apply(&bench::pool(&["10.98.0.9", "10.98.0.10"]));
        bench.eventually("the pool's change is in force", || backends(&agent).len() == 2);
        bench.apply(&bench::service("first").replace("port: 80", "port: 81"));
        bench.eventually("the service's change is in force", || {
            agent.status()["services"][0]["generation"] == 2
                && bench.is("first", "Programmed", "Programmed")
        });
        bench.eventually("second is refused still", || {
            bench.is("second", "Programmed", "TooManyServices")
        });
        bench
            .eventually("the node says so", || bench.node_is("edge-1", "Applied", "RefusedInPart"));

        bench.restart(&mut agent);

        bench.eventually("the agent is back", || agent.answers());
        bench.eventually("it runs what it ran", || {
            let status = agent.status();
            status["services"].as_array().map(Vec::len) == Some(1)
                && status["services"][0]["name"] == "first"
                && status["refused"][0]["name"] == "web/second"
                && status["refused"][0]["reason"] == "TooManyServices"
        });
        assert!(agent.table().contains("web/first"), "{}", agent.table());
        assert!(agent.table().contains("web/second"), "{}", agent.table());

        // Room for it: the first one goes.
        bench.delete("first");
        bench.eventually("second is programmed", || bench.is("second", "Programmed", "Programmed"));
        bench.eventually("nothing is refused", || bench.node_is("edge-1", "Applied", "Applied"));
    });
}

#[test]
fn a_used_token_and_a_token_of_another_node_do_not_join() {
    Bench::run(|bench| {
        bench.apply(bench::PLATFORM);
        bench.apply(bench::SECOND_EDGE);
        let token = bench.token("edge-1");
        let _first = bench.start_agent_with("edge-1", &token, &[]);
        bench.eventually("the node is connected", || bench.is_connected("edge-1"));

        let again = bench.start_agent_with("edge-1", &token, &[]);
        let stranger = bench.start_agent_with("edge-2", &bench.token("edge-1"), &[]);

        bench.eventually("the used token is refused", || again.has_logged("used"));
        bench.eventually("the stranger is refused", || stranger.has_logged("token"));
        assert!(!bench.is_connected("edge-2"));
    });
}
