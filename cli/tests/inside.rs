//! What the program shows of a data plane, asked of an agent by its socket.

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::{Agent, text};

/// One answer after the other.
fn agent(answers: Vec<(&'static str, Value)>) -> Agent {
    let answers: Vec<_> =
        answers.into_iter().map(|(status, body)| (status, &*body.to_string().leak())).collect();
    Agent::answering(answers.leak())
}

fn explained() -> Value {
    let backend = json!({"name": "be-1", "uid": "b1", "address": "10.1.0.2", "reach": "ready"});
    json!({
        "node": "edge-1", "generation": 7,
        "stages": [
            {"stage": "parse", "says": "TCP from 192.0.2.1:4711 to 203.0.113.10:80"},
            {"stage": "action", "says": "transmit by up0\u{1b}[2J"},
        ],
        "action": "transmit", "outcome": "encapsulated",
        "service": {"namespace": "web", "name": "www", "uid": "s1", "tenant": 5},
        "slot": {
            "hash": "00", "ring": 3, "ringSlots": 4096, "slot": 17,
            "current": backend, "further": []
        },
        "backend": backend,
        "outer": null, "interface": "up0", "frame": "0011"
    })
}

#[test]
fn a_flow_is_explained_stage_by_stage() {
    let agent = agent(vec![("200 OK", explained()), ("200 OK", explained())]);
    let flow = ["explain", "tcp", "192.0.2.1:4711", "203.0.113.10:80"];

    let output = agent.isocast(&flow);
    let json = agent.isocast(&[&flow[..], &["--syn", "--local-socket", "-o", "json"]].concat());

    let expected = "\
parse          TCP from 192.0.2.1:4711 to 203.0.113.10:80
action         transmit by up0 [2J
";
    assert_eq!(text(&output.stdout), expected, "{}", text(&output.stderr));
    let asked: Vec<_> = agent.requests.try_iter().collect();
    let question = "protocol=tcp&source=192.0.2.1&sourcePort=4711&destination=203.0.113.10&port=80";
    for (asked, (syn, socket)) in asked.iter().zip([("false", "none"), ("true", "open")]) {
        let rest = format!("&syn={syn}&payload=0&class=0&socket={socket} HTTP/1.0");
        assert_eq!(*asked, format!("GET /v1/dataplane/explain?{question}{rest}"));
    }
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json.pointer("/0/backend/name"), Some(&"be-1".into()));
}

#[test]
fn a_flow_that_cannot_be_is_refused_before_anybody_is_asked() {
    let agent = agent(vec![]);

    let output = agent.isocast(&["explain", "tcp", "192.0.2.1", "203.0.113.10:80"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("must be ADDRESS:PORT"), "{output:?}");
}

#[test]
fn a_program_that_disagrees_with_its_tables_is_a_failure() {
    let trace = |differences: &[&str]| {
        json!({
            "explained": explained(), "action": "pass", "frame": "0011",
            "tunnel": {
                "source": "10.0.0.1", "destination": "10.1.0.2", "tenant": 5, "flags": [],
                "furtherHops": ["10.1.0.3", "10.1.0.4"]
            },
            "counted": {"encapsulated": 1}, "differences": differences
        })
    };
    let agent = agent(vec![("200 OK", trace(&[])), ("200 OK", trace(&["action", "bytes"]))]);
    let flow = ["trace", "tcp", "192.0.2.1:4711", "203.0.113.10:80"];

    let agrees = agent.isocast(&flow);
    let disagrees = agent.isocast(&flow);

    assert!(agrees.status.success(), "{agrees:?}");
    let shown = text(&agrees.stdout);
    assert!(shown.ends_with("verdict        program and tables agree\n"), "{shown}");
    let tunnel = "tunnel         from 10.0.0.1 to 10.1.0.2, tenant 5, further hop 10.1.0.3, further \
                  hop 10.1.0.4\n";
    assert!(shown.contains(tunnel), "{shown}");
    assert_eq!(disagrees.status.code(), Some(1));
    assert!(text(&disagrees.stdout).contains("DISAGREE: action, bytes"), "{disagrees:?}");
}

fn reading(at_s: u64, packets: u64) -> Value {
    json!({
        "node": "edge-1", "atNs": at_s * 1_000_000_000, "generation": 7,
        "services": [{
            "service": {"namespace": "web", "name": "www", "uid": "s1", "tenant": 5},
            "packets": packets, "bytes": packets * 1000, "drops": {"no_backend": packets / 10}
        }],
        "backends": [{
            "namespace": "web", "pool": "farm", "name": "be-1", "uid": "b1",
            "packets": packets, "bytes": packets * 1000
        }],
        "outcomes": [
            {"outcome": "encapsulated", "drop": false, "packets": packets},
            {"outcome": "no_backend", "drop": true, "packets": packets / 10}
        ]
    })
}

#[test]
fn the_busiest_are_shown_by_rates_between_two_readings() {
    let readings = [reading(10, 1000), reading(12, 3000), reading(20, 0), reading(21, 500)];
    let agent = agent(readings.into_iter().map(|it| ("200 OK", it)).collect());
    let once = ["top", "--once", "--interval", "200ms"];

    let table = agent.isocast(&once);
    let json = agent.isocast(&[&once[..], &["-o", "json"]].concat());

    let expected = "\
1 of 1 nodes, over 200ms

SERVICE   PACKETS/S   BITS/S   DROPS/S   MOSTLY
web/www   1.0 k       8.0 M    100       no_backend

BACKEND         PACKETS/S   BITS/S
web/farm/be-1   1.0 k       8.0 M

TENANT   PACKETS/S   BITS/S   DROPS/S   MOSTLY
5        1.0 k       8.0 M    100       no_backend

DROPPED      PACKETS/S
no_backend   100
";
    assert_eq!(text(&table.stdout), expected, "{}", text(&table.stderr));
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json.pointer("/services/0/packetsPerS"), Some(&json!(500.0)));
    assert_eq!(json.pointer("/tenants/0/name"), Some(&json!("5")));
}

/// A frame with an IPv4 UDP datagram to port 53, and the same in a tunnel.
fn frames() -> [String; 2] {
    let udp = "1267003500080000";
    let inner = format!("4500001c0000400040110000c0000201cb00710a{udp}");
    let ethernet = "0200000000fe0200000000010800";
    let gue = "0204000000000500deadbeef";
    let outer = format!("450000440000400040110000 0a000001 0a010002 c00017c000300000{gue}");
    [format!("{ethernet}{inner}"), format!("{ethernet}{outer}{inner}").replace(' ', "")]
}

fn record(packet: u64, left: bool, outcome: Option<&str>) -> Value {
    let [arrived, encapsulated] = frames();
    let sent = outcome == Some("encapsulated");
    let data = if sent { encapsulated } else { arrived };
    json!({
        "atNs": 1_795_000_000_000_000_000_u64 + packet * 1000, "left": left, "packet": packet,
        "interface": 2, "generation": 7, "slot": 17, "backend": "be-1", "outcome": outcome,
        "tunnel": sent.then(|| json!({
            "source": "10.0.0.1", "destination": "10.1.0.2", "tenant": 5, "flags": ["cookie"],
            "furtherHops": ["10.1.0.3", "10.1.0.4"]
        })),
        "sent": sent, "len": data.len() / 2, "data": data
    })
}

fn captures() -> Vec<(&'static str, Value)> {
    let first = json!({
        "node": "edge-1", "lost": 0, "limited": 0, "ended": false,
        "records": [
            record(1, false, None), record(1, true, Some("encapsulated")),
            record(2, false, None), record(2, true, Some("no_backend")),
            record(3, false, None),
        ]
    });
    let last = json!({"node": "edge-1", "lost": 1, "limited": 9, "ended": true, "records": []});
    vec![("200 OK", first), ("200 OK", last)]
}

#[test]
fn captured_packets_are_a_file_that_tcpdump_reads() {
    let agent = agent(captures());
    let file = agent.socket().with_file_name("www.pcapng");

    let output = agent.isocast(&["pcap", "web/www", "-w", file.to_str().unwrap()]);

    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stderr);
    assert_eq!(said, "3 packets; 1 frames lost, 9 packets beyond the rate\n");
    let tcpdump = Command::new("tcpdump").arg("-nr").arg(&file).output().unwrap();
    let shown = text(&tcpdump.stdout);
    let lines: Vec<_> = shown.lines().collect();
    // Of three packets that arrived, one left.
    assert_eq!(lines.len(), 4, "{tcpdump:?}");
    assert!(lines[0].contains("192.0.2.1.4711 > 203.0.113.10.53"), "{shown}");
    assert!(lines[1].contains("10.0.0.1.49152 > 10.1.0.2.6080"), "{shown}");
    let bytes = std::fs::read(&file).unwrap();
    let comments = String::from_utf8_lossy(&bytes);
    let encapsulated = "service=web/www backend=be-1 slot=17 generation=7 packet=1 \
                        outcome=encapsulated tenant=5 hops=10.1.0.3,10.1.0.4 flags=cookie";
    assert_eq!(comments.matches(encapsulated).count(), 2);
    assert_eq!(comments.matches("packet=2 outcome=no_backend").count(), 1);
    assert_eq!(comments.matches("packet=3 outcome=unknown").count(), 1);
}

#[test]
fn a_capture_stops_when_it_has_enough_and_says_so_to_the_node() {
    let agent = agent(captures());

    let output = agent.isocast(&["pcap", "web/www", "--count", "1", "--sample", "1/10"]);

    let shown = text(&output.stdout);
    assert_eq!(shown.lines().count(), 1, "{output:?}");
    assert!(shown.contains("backend=be-1 slot=17"), "{shown}");
    let asked: Vec<_> = agent.requests.try_iter().collect();
    let [first, last] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(first.contains("service=web%2Fwww&oneIn=10&end=false"), "{first}");
    assert!(last.contains("&end=true"), "{last}");
}

#[test]
fn a_refused_capture_is_the_agents_words() {
    let refusal = json!({"error": "somebody else captures on this node: one capture at a time"});
    let agent = agent(vec![("409 Conflict", refusal)]);

    let output = agent.isocast(&["pcap", "web/www"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("one capture at a time (409"), "{output:?}");
}
