//! What is seen of the data plane from outside: questions to the node, through the controller and
//! on its socket.

use std::process::Command;

use serde_json::Value;

use crate::bench::{self, Bench};

/// A service that serves whatever its backends are like, and more of its spec.
fn www(more: &str) -> String {
    let service = bench::service("www");
    format!("{service}  failover: {{onNoLocalBackend: ServeAnyway}}\n{more}")
}

/// Serves it at a backend whose next hop is known.
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test support: it fails where it stands"
)]
fn serve(bench: &Bench) -> (bench::Agent, String) {
    let neighbour = "neighbour add 10.98.0.9 lladdr 02:00:00:00:00:09 dev eth1 nud permanent";
    let status = Command::new("ip").args(neighbour.split(' ')).status().unwrap();
    assert!(status.success(), "ip {neighbour}");
    bench.apply(bench::PLATFORM);
    bench.apply(&www(""));
    let agent = bench.start_agent("edge-1", &[]);
    bench.eventually("www is programmed", || bench.is("www", "Programmed", "Programmed"));
    let claim = ["get", "-n", "web", "addressclaim", "www", "-o", "jsonpath={.status.address}"];
    let address = bench.try_kubectl(&claim, "").unwrap();
    let flow = format!(
        "protocol=tcp&source=192.0.2.1&sourcePort=4711&destination={address}&port=80&syn=true"
    );
    bench.eventually("its flows have somewhere to go", || {
        let explained = bench.ask("edge-1", &format!("v1/dataplane/explain?{flow}"));
        explained.is_ok_and(|it| it["outcome"] == "encapsulated")
    });
    (agent, flow)
}

#[test]
fn a_flow_is_explained_and_traced_by_the_node_that_balances_it() {
    Bench::run(|bench| {
        let (agent, flow) = serve(bench);

        let explained = bench.ask("edge-1", &format!("v1/dataplane/explain?{flow}")).unwrap();
        let traced = bench.ask("edge-1", &format!("v1/dataplane/trace?{flow}")).unwrap();

        assert_eq!(explained["node"], "edge-1", "{explained}");
        assert_eq!(explained["service"]["name"], "www", "{explained}");
        assert_eq!(explained["backend"]["address"], "10.98.0.9", "{explained}");
        assert_eq!(explained["interface"], "eth1", "{explained}");
        let stages: Vec<_> = explained["stages"].as_array().unwrap().iter().collect();
        let stages: Vec<_> = stages.iter().map(|it| it["stage"].as_str().unwrap()).collect();
        let road = ["parse", "directory", "hash", "slot", "backend", "encapsulation", "action"];
        assert_eq!(stages, road);
        let slot = &explained["slot"];
        assert_eq!((&slot["ringSlots"], &slot["further"]), (&4096.into(), &Value::Array(vec![])));
        assert_eq!(traced["differences"], Value::from(Vec::<Value>::new()), "{traced}");
        assert_eq!(traced["frame"], explained["frame"]);
        assert_eq!(explained["outer"]["destination"], "10.98.0.9", "{explained}");
        assert_eq!(
            traced["tunnel"],
            Value::Null,
            "IP in IP, for a host without an agent: {traced}"
        );
        assert_eq!(traced["counted"]["encapsulated"], 1, "{traced}");

        let destination = format!("{}:80", explained["outer"]["destination"].as_str().unwrap());
        let here = agent.command(&["explain", "tcp", "192.0.2.1:4711", &destination]);
        assert!(here.contains("not an address of a service"), "{here}");
        let refused = bench.ask("edge-1", "v1/dataplane/explain?protocol=tcp").unwrap_err();
        assert!(refused.contains("source"), "{refused}");
    });
}

#[test]
fn a_client_that_is_kept_out_is_explained_by_the_prefix_that_decides() {
    Bench::run(|bench| {
        let (_agent, flow) = serve(bench);
        let explain = || bench.ask("edge-1", &format!("v1/dataplane/explain?{flow}"));
        assert_eq!(explain().unwrap()["guard"], Value::Null);
        bench.apply(&www(
            "  limits: {newFlowsPerSecond: 500, synCookies: Auto}\n  deniedSources: [192.0.2.0/28]\n",
        ));
        bench.eventually("the list is in force", || {
            explain().is_ok_and(|it| it["outcome"] == "source_not_allowed")
        });

        let traced = bench.ask("edge-1", &format!("v1/dataplane/trace?{flow}")).unwrap();
        let beside = flow.replace("192.0.2.1", "192.0.2.16");
        let let_in = bench.ask("edge-1", &format!("v1/dataplane/trace?{beside}")).unwrap();

        let guard = &traced["explained"]["guard"];
        assert_eq!(
            (&guard["source"]["rule"], &guard["level"]),
            (&"192.0.2.0/28".into(), &"within".into())
        );
        assert_eq!(guard["ceilings"]["newFlowsPerSecond"], 500, "{guard}");
        assert_eq!(traced["counted"]["source_not_allowed"], 1, "{traced}");
        assert_eq!(let_in["counted"]["encapsulated"], 1, "{let_in}");
        for traced in [&traced, &let_in] {
            assert_eq!(traced["differences"], Value::Array(vec![]), "{traced}");
        }
        let path = "/apis/network.isocast.dev/v1alpha1/nodes/edge-1/agent/metrics";
        let metrics = bench.try_kubectl(&["get", "--raw", path], "").unwrap();
        let kept_out = metrics.lines().find(|line| {
            line.starts_with(
                "isocast_agent_service_guarded_total{namespace=\"web\",service=\"www\"",
            )
        });
        let wanted = "reason=\"source_not_allowed\"} 1";
        assert!(kept_out.is_some_and(|line| line.ends_with(wanted)), "{kept_out:?}");
    });
}

#[test]
fn packets_are_counted_for_service_backend_and_tenant() {
    Bench::run(|bench| {
        let (_agent, flow) = serve(bench);
        let counters = || bench.ask("edge-1", "v1/dataplane/counters").unwrap();
        let before = counters();
        for _ in 0..3 {
            bench.ask("edge-1", &format!("v1/dataplane/trace?{flow}")).unwrap();
        }

        let after = counters();

        assert!(after["atNs"].as_u64() > before["atNs"].as_u64(), "{after}");
        let service = &after["services"][0];
        assert_eq!((&service["service"]["name"], &service["packets"]), (&"www".into(), &3.into()));
        assert_eq!(service["bytes"], 120, "{service}");
        assert_eq!(after["backends"][0]["packets"], 3, "{after}");
        let path = "/apis/network.isocast.dev/v1alpha1/nodes/edge-1/agent/metrics";
        let metrics = bench.try_kubectl(&["get", "--raw", path], "").unwrap();
        let tenant = &service["service"]["tenant"];
        let wanted = format!("isocast_agent_tenant_bytes_total{{tenant=\"{tenant}\"}} 120");
        assert!(metrics.lines().any(|line| line == wanted), "{wanted} in {metrics}");
    });
}

#[test]
fn a_capture_has_both_frames_of_a_packet_and_is_alone() {
    Bench::run(|bench| {
        let (_agent, flow) = serve(bench);
        let capture = |id: &str, rest: &str| {
            bench.ask("edge-1", &format!("v1/dataplane/capture?id={id}&service=web%2Fwww{rest}"))
        };
        assert_eq!(capture("first", "").unwrap()["records"], Value::from(Vec::<Value>::new()));
        let traced = bench.ask("edge-1", &format!("v1/dataplane/trace?{flow}")).unwrap();

        let refused = capture("second", "").unwrap_err();
        let taken = capture("first", "&end=true").unwrap();
        let over = capture("first", "").unwrap();
        let next = capture("second", "").unwrap();

        assert!(refused.contains("somebody else captures"), "{refused}");
        let [arrived, left] = taken["records"].as_array().unwrap().as_slice() else {
            panic!("{taken}")
        };
        assert_eq!((&arrived["left"], &left["left"]), (&false.into(), &true.into()));
        assert_eq!(arrived["packet"], left["packet"]);
        assert_eq!(left["data"], traced["frame"], "{left}");
        assert_eq!((&left["outcome"], &left["sent"]), (&"encapsulated".into(), &true.into()));
        assert_eq!(left["slot"], traced["explained"]["slot"]["slot"], "{left}");
        assert_eq!(left["backend"], traced["explained"]["backend"]["name"], "{left}");
        assert_eq!((&taken["ended"], &over["ended"]), (&true.into(), &true.into()));
        assert_eq!((&taken["lost"], &next["ended"]), (&0.into(), &false.into()));
        let unknown = bench.ask("edge-1", "v1/dataplane/capture?id=x&service=web%2Fnobody");
        assert!(unknown.unwrap_err().contains("one capture at a time"));
    });
}
