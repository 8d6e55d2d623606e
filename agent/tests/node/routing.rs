//! What is seen of routing from outside: objects that a node reports, and questions to it.

use serde_json::Value;

use crate::bench::{self, Bench};

/// A service that is announced whatever its backends are like.
fn steadfast(name: &str) -> String {
    format!("{}  failover: {{onNoLocalBackend: ServeAnyway}}\n", bench::service(name))
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let all = object.pointer("/status/conditions")?.as_array()?;
    let it = all.iter().find(|it| it.get("type").is_some_and(|it| it == kind))?;
    Some((it.get("status")?.as_str()?, it.get("reason")?.as_str()?))
}

#[test]
fn sessions_and_advertisements_are_objects_that_only_nodes_write() {
    Bench::run(|bench| {
        bench.apply(bench::PLATFORM);
        bench.apply(bench::ROUTER_PEER);
        bench.apply(&steadfast("www"));
        let _router = bench.start_router();
        let agent = bench.start_agent("edge-1", &[]);

        let session = || bench.object("bgpsessions", "edge-1.tor");
        bench.eventually("the session is reported", || {
            session().is_some_and(|it| {
                condition(&it, "Established") == Some(("True", "Established"))
                    && it["status"]["prefixesReceived"] == 1
                    && it["status"]["prefixesSent"] == 1
            })
        });
        let session_now = session().unwrap();
        assert_eq!(session_now["status"]["peerASN"], 65001, "{session_now}");
        assert_eq!(session_now["status"]["localAddress"], "10.98.0.1", "{session_now}");
        let list = bench.try_kubectl(&["get", "bgpadvertisements", "-o", "json"], "").unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let advertisement = &list["items"][0];
        assert_eq!(condition(advertisement, "Announced"), Some(("True", "Announced")), "{list}");
        assert_eq!(advertisement["status"]["services"][0], "web/www");
        assert_eq!(advertisement["status"]["peers"][0]["name"], "tor");
        assert!(advertisement["status"]["peers"][0]["since"].is_string(), "{advertisement}");
        assert_eq!(advertisement["metadata"]["ownerReferences"][0]["name"], "edge-1");

        let refused = bench.try_kubectl(&["delete", "bgpsession", "edge-1.tor"], "").unwrap_err();
        assert!(refused.contains("what nodes report"), "{refused}");
        let mut forged = session_now;
        forged["metadata"] = serde_json::json!({"name": "edge-1.forged"});
        let refused = bench
            .try_kubectl(&["create", "--validate=false", "-f", "-"], &forged.to_string())
            .unwrap_err();
        assert!(refused.contains("what nodes report"), "{refused}");

        drop(agent);
        bench.eventually("nobody speaks for a silent node", || {
            session()
                .is_some_and(|it| condition(&it, "Established") == Some(("Unknown", "NodeSilent")))
        });
        bench.try_kubectl(&["delete", "node.network.isocast.dev", "edge-1"], "").unwrap();
        bench.eventually("they go with the node", || session().is_none());
    });
}

#[test]
fn a_node_is_asked_through_the_controller_what_its_socket_says() {
    Bench::run(|bench| {
        bench.apply(bench::PLATFORM);
        bench.apply(bench::SECOND_EDGE);
        bench.apply(bench::ROUTER_PEER);
        bench.apply(&steadfast("www"));
        let _router = bench.start_router();
        let _agent = bench.start_agent("edge-1", &[]);
        let told = || {
            let all = bench.ask("edge-1", "v1/bgp/advertisements").ok()?;
            let first = all["advertisements"][0].clone();
            first["peers"][0]["since"].is_string().then_some(first)
        };
        bench.eventually("the router is told", || told().is_some());
        let prefix = told().unwrap()["prefix"].as_str().unwrap().to_owned();

        let own = bench.ask("edge-1", &format!("v1/why?prefix={prefix}")).unwrap();
        let learnt = bench.ask("edge-1", "v1/why?prefix=192.0.2.0/24").unwrap();
        let peers = bench.ask("edge-1", "v1/bgp/peers").unwrap();
        let routes = bench.ask("edge-1", "v1/bgp/routes?family=ipv4-unicast&limit=10").unwrap();

        assert_eq!(own["node"], "edge-1", "{own}");
        assert_eq!(own["origin"]["announced"], true, "{own}");
        assert_eq!(own["origin"]["permitted"], true, "{own}");
        let gates = own["origin"]["gates"].as_array().unwrap();
        assert!(gates.iter().all(|gate| gate["open"] == true), "{own}");
        assert_eq!(own["peers"][0]["told"], true, "{own}");
        assert_eq!(own["peers"][0]["nextHop"], "10.98.0.1", "{own}");
        assert!(own["peers"][0]["term"].is_string(), "{own}");
        assert_eq!(learnt["origin"], Value::Null, "{learnt}");
        assert_eq!(learnt["paths"][0]["peer"], "tor", "{learnt}");
        assert_eq!(peers["peers"][0]["state"], "Established", "{peers}");
        assert!(!routes["routes"].as_array().unwrap().is_empty(), "{routes}");

        let unknown = bench.ask("edge-1", "v1/secrets").unwrap_err();
        assert!(unknown.contains("NotFound") && unknown.contains("v1/why"), "{unknown}");
        let malformed = bench.ask("edge-1", "v1/why?prefix=www").unwrap_err();
        assert!(malformed.contains("must be a prefix"), "{malformed}");
        let absent = bench.ask("edge-2", "v1/status").unwrap_err();
        assert!(absent.contains("the node is not connected"), "{absent}");
        assert!(bench.ask("edge-3", "v1/status").unwrap_err().contains("not found"));
    });
}

/// The import policy of the router, with these terms.
fn import_policy(terms: &Value) -> Value {
    serde_json::json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BGPPolicy",
        "metadata": {"name": "from-tor"}, "spec": {"terms": terms},
    })
}

#[test]
fn an_edge_says_what_another_import_policy_would_change_of_what_routers_told_it() {
    Bench::run(|bench| {
        let accept = serde_json::json!({"name": "rest", "then": "Accept"});
        let reject = |path: &str| {
            let when = serde_json::json!({"asPath": {"patterns": [path]}});
            serde_json::json!({"name": "no", "match": when, "then": "Reject"})
        };
        bench.apply(bench::PLATFORM);
        bench.apply(&import_policy(&Value::from(vec![accept.clone()])).to_string());
        bench.apply(&format!("{}  importPolicy: from-tor\n", bench::ROUTER_PEER));
        let _router = bench.start_router();
        let agent = bench.start_agent("edge-1", &[]);
        let accepted = || {
            let peers = bench.ask("edge-1", "v1/bgp/peers").ok()?;
            peers["peers"][0]["prefixesAccepted"].as_u64()
        };
        bench.eventually("the router's route is taken", || accepted() == Some(1));
        let preview = |terms: Vec<Value>| {
            agent.post("/v1/bgp/import-preview", &import_policy(&Value::from(terms)))
        };

        let lost = preview(vec![reject("65001+"), accept.clone()]);
        let same = preview(vec![reject("65001 ?+"), accept.clone()]);
        assert_eq!(lost["peers"][0]["lost"]["prefixes"][0], "192.0.2.0/24", "{lost}");
        assert_eq!(same["peers"][0]["lost"]["count"], 0, "{same}");

        // What policy refuses is kept, and what would come back is known.
        let refusing = vec![reject("65001+"), accept.clone()];
        bench.apply(&import_policy(&Value::from(refusing)).to_string());
        bench.eventually("the route is refused", || accepted() == Some(0));
        let accepting = Value::from(vec![accept.clone()]);
        let gained = preview(vec![accept]);
        assert_eq!(gained["peers"][0]["gained"]["prefixes"][0], "192.0.2.0/24", "{gained}");
        let why = bench.ask("edge-1", "v1/why?prefix=192.0.2.0/24").unwrap();
        assert_eq!(why["paths"][0]["term"], "no", "{why}");
        let relayed = bench.post("edge-1", "v1/bgp/import-preview", &import_policy(&accepting));
        assert_eq!(relayed.unwrap(), gained);
        let relayed = bench.ask("edge-1", "v1/bgp/import-preview").unwrap_err();
        assert!(relayed.contains("NotFound"), "{relayed}");
    });
}
