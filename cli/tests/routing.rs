//! What the program says of routing, asked of an agent by its socket.

mod support;

use support::{Agent, isocast, text};

const PEERS: &str = r#"{"peers": [{
    "name": "tor1", "uid": "u", "address": "10.0.0.2", "asn": 65001, "state": "Established",
    "since": "2026-11-22T02:00:00Z", "families": ["ipv4-unicast"],
    "prefixesReceived": 2, "prefixesAccepted": 2, "prefixesStale": 0, "prefixesSent": 1,
    "prefixesWithheld": 0, "waiting": 0, "updatesReceived": 3, "updatesSent": 1, "flaps": 0, "faults": 0
}]}"#;

#[test]
fn peers_of_an_agent_are_a_table_or_json() {
    let agent = Agent::answering(&[("200 OK", PEERS), ("200 OK", PEERS)]);

    let table = agent.isocast(&["bgp", "peers"]);
    let json = agent.isocast(&["bgp", "peers", "-o", "json"]);

    let expected = "\
PEER   ADDRESS    ASN     STATE         SINCE                  RECEIVED   SENT   WITHHELD   ERROR
tor1   10.0.0.2   65001   Established   2026-11-22T02:00:00Z   2          1      0          -
";
    assert_eq!(text(&table.stdout), expected);
    assert_eq!(agent.requests.recv().unwrap(), "GET /v1/bgp/peers HTTP/1.0");
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json.pointer("/peers/0/name"), Some(&"tor1".into()));
}

const ROUTE: &str = r#"{"prefix": "192.0.2.0/24", "peer": "tor1", "best": true, "multipath": false,
    "stale": false, "verdict": "Accepted", "nextHop": "10.0.0.2", "asPath": [65001, 65002],
    "origin": "igp", "communities": []}"#;

#[test]
fn routes_are_read_page_by_page_up_to_the_limit() {
    let page = |next: &str| -> &'static str {
        Box::leak(format!(r#"{{"routes": [{ROUTE}], "next": "{next}"}}"#).into_boxed_str())
    };
    let answers = vec![("200 OK", page("4-256")), ("200 OK", page("4-512"))];
    let agent = Agent::answering(Box::leak(answers.into_boxed_slice()));

    let output = agent.isocast(&["bgp", "routes", "--family", "ipv4-unicast", "--limit", "2"]);

    let shown = text(&output.stdout);
    assert_eq!(shown.lines().filter(|line| line.contains("65001 65002")).count(), 2, "{shown}");
    assert!(shown.ends_with("There are more: --limit shows them.\n"), "{shown}");
    let asked: Vec<_> = agent.requests.try_iter().collect();
    let first = "GET /v1/bgp/routes?limit=2&family=ipv4-unicast HTTP/1.0";
    let second = "GET /v1/bgp/routes?limit=1&family=ipv4-unicast&cursor=4-256 HTTP/1.0";
    assert_eq!(asked, [first, second]);
}

const CHANGES: &str = r#"{"peers": [{"name": "ix1", "known": true,
        "gained": {"count": 1, "prefixes": ["192.0.2.0/24"]},
        "lost": {"count": 0, "prefixes": []}, "changed": {"count": 0, "prefixes": []}}]}"#;

#[test]
fn a_policy_is_posted_to_the_agent_that_knows_what_it_would_change() {
    let agent = Agent::answering(&[("200 OK", CHANGES)]);
    let file = agent.socket().with_file_name("policy.yaml");
    std::fs::write(&file, "{kind: BGPPolicy, metadata: {name: from-ix}, spec: {terms: []}}")
        .unwrap();

    let output = agent.isocast(&["bgp", "policy", "preview", file.to_str().unwrap()]);

    let shown = text(&output.stdout);
    assert!(shown.contains("ix1    +   192.0.2.0/24"), "{shown}");
    assert_eq!(agent.requests.recv().unwrap(), "POST /v1/bgp/import-preview HTTP/1.0");
}

#[test]
fn an_address_is_asked_about_as_its_host_route_and_a_refusal_is_the_agents_words() {
    let agent = Agent::answering(&[("503 Service Unavailable", r#"{"error": "ask again"}"#)]);

    let output = agent.isocast(&["why", "203.0.113.10"]);

    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(
        error.starts_with("Error: ask again (503, GET /v1/why?prefix=203.0.113.10%2F32"),
        "{error}"
    );
}

#[test]
fn an_agent_that_is_not_there_is_named() {
    let output = isocast(&["bgp", "peers", "--socket", "/nonexistent.sock"]).output().unwrap();

    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("/nonexistent.sock: is the agent running?"), "{error}");
}

#[test]
fn what_cannot_be_asked_is_misuse() {
    for arguments in
        [&["bgp", "routes"][..], &["bgp", "peers", "--node", "a", "--socket", "b"], &["why", "www"]]
    {
        let output = isocast(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
}
