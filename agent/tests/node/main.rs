//! One real node under one real control plane: what its owner is told when the node refuses.
//!
//! Controller, agent and kubectl run in a network namespace of the test's own; the agent loads
//! its real data plane on a veth there.

mod bench;

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
