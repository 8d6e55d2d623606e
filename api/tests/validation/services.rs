//! Services and their backend pools.

use serde_json::{Value, json};

use super::{defaulted, object, refusals, table};

#[test]
fn backend_pool() {
    table(
        "BackendPool",
        &json!({"mode": "GUE", "backends": [
            {"node": "be-1", "weight": 1000}, {"address": "10.0.0.9", "datacenter": "ams"},
            {"node": "be-2", "weight": 0},
        ], "slowStart": "30s"}),
        &[
            (
                &[("/backends/0/node", Value::Null)],
                "spec.backends[0].node: Required value: or give address",
            ),
            (
                &[("/backends/0/address", json!("10.0.0.1"))],
                "spec.backends[0].address: Forbidden: may not be given beside node",
            ),
            (
                &[("/backends/0/datacenter", json!("ams"))],
                "spec.backends[0].datacenter: Forbidden: is the node's own, and may not be given beside node",
            ),
            (
                &[("/backends/1/datacenter", Value::Null)],
                "spec.backends[1].datacenter: Required value: where address is",
            ),
            (
                &[("/backends/-", json!({"node": "be-1"}))],
                "spec.backends[3].node: Duplicate value: \"be-1\"",
            ),
            (
                &[("/backends/-", json!({"address": "10.0.0.9", "datacenter": "fra"}))],
                "spec.backends[3].address: Duplicate value: \"10.0.0.9\"",
            ),
            (
                &[("/backends/0/weight", json!(1001))],
                "spec.backends[0].weight: Invalid value: 1001: must be between 0 and 1000",
            ),
            (
                &[("/slowStart", json!("5s"))],
                "spec.slowStart: Invalid value: \"5s\": must be between 10s and 15m",
            ),
            (
                &[("/mode", json!("IPIP"))],
                "spec.mode: Unsupported value: \"IPIP\": supported values: \"GUE\"",
            ),
        ],
    );
    let defaulted = defaulted("BackendPool", json!({"backends": [{"node": "be-1"}]}));
    assert_eq!(defaulted, json!({"backends": [{"node": "be-1", "weight": 100}], "mode": "GUE"}));
}

fn sources(count: u32) -> Value {
    (0..count).map(|n| format!("10.0.{}.{}/32", n / 256, n % 256)).collect()
}

fn service() -> Value {
    json!({
        "addresses": [{"claim": "www-v4"}, {"claim": "www-v6"}],
        "ports": [{"name": "https", "protocol": "TCP", "port": 443}, {"protocol": "UDP", "port": 443}],
        "backendPool": "www",
        "healthCheck": {
            "http": {"path": "/healthz", "port": 8080},
            "interval": "500ms", "fastInterval": "100ms", "timeout": "300ms", "rise": 2, "fall": 3,
        },
        "failover": {
            "onNoLocalBackend": "ForwardOverBackbone", "minHealthyBackends": 1,
            "datacenterPreference": ["ams", "fra"],
        },
        "affinity": {"midFlowMove": "Reset"}, "limits": {"packetsPerSecond": 1000, "synCookies": "Never"},
        "allowedSources": ["0.0.0.0/0"], "deniedSources": ["198.51.100.0/24", "::/0"],
        "communities": ["65010:100", "no-export"],
    })
}

#[test]
fn anycast_service() {
    table(
        "AnycastService",
        &service(),
        &[
            (
                &[("/addresses", json!([]))],
                "spec.addresses: Required value: must have at least 1 item",
            ),
            (
                &[("/addresses/-", json!({"claim": "www-v4"}))],
                "spec.addresses[2]: Duplicate value: {\"claim\":\"www-v4\"}",
            ),
            (&[("/ports", json!([]))], "spec.ports: Required value: must have at least 1 item"),
            (
                &[("/ports/0/port", json!(0))],
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535",
            ),
            (
                &[("/ports/0/port", json!(65536))],
                "spec.ports[0].port: Invalid value: 65536: must be between 1 and 65535",
            ),
            (
                &[("/ports/0/port", json!("443"))],
                "spec.ports[0].port: Invalid value: \"string\": must be of type integer",
            ),
            (
                &[("/ports/0/protocol", json!("SCTP"))],
                "spec.ports[0].protocol: Unsupported value: \"SCTP\": supported values: \"TCP\", \"UDP\"",
            ),
            (
                &[("/ports/-", json!({"port": 443}))],
                "spec.ports[2]: Duplicate value: {\"protocol\":\"TCP\",\"port\":443}",
            ),
            (
                &[("/ports/1/name", json!("https"))],
                "spec.ports[1].name: Duplicate value: \"https\"",
            ),
            (&[("/backendPool", Value::Null)], "spec.backendPool: Required value"),
            (
                &[
                    ("/healthCheck/interval", json!("49ms")),
                    ("/healthCheck/fastInterval", json!("50ms")),
                    ("/healthCheck/timeout", json!("50ms")),
                ],
                "spec.healthCheck.interval: Invalid value: \"49ms\": must be between 50ms and 1m",
            ),
            (
                &[("/healthCheck/interval", json!("61s"))],
                "spec.healthCheck.interval: Invalid value: \"1m1s\": must be between 50ms and 1m",
            ),
            (
                &[("/healthCheck/timeout", json!("501ms"))],
                "spec.healthCheck.timeout: Invalid value: \"501ms\": must be between 10ms and 500ms",
            ),
            (
                &[("/healthCheck/fastInterval", json!("501ms"))],
                "spec.healthCheck.fastInterval: Invalid value: \"501ms\": must be between 50ms and 500ms",
            ),
            (
                &[("/healthCheck/rise", json!(0))],
                "spec.healthCheck.rise: Invalid value: 0: must be between 1 and 10",
            ),
            (
                &[("/healthCheck/http/path", json!("healthz"))],
                "spec.healthCheck.http.path: Invalid value: \"healthz\": must begin with / and hold neither blanks nor control characters",
            ),
            (
                &[("/healthCheck/http/path", json!("/\r\nX: y"))],
                "spec.healthCheck.http.path: Invalid value: \"/\\r\\nX: y\": must begin with / and hold neither blanks nor control characters",
            ),
            (
                &[("/healthCheck/http/host", json!("a b"))],
                "spec.healthCheck.http.host: Invalid value: \"a b\": must hold neither blanks nor control characters",
            ),
            (
                &[("/healthCheck/tcp", json!({"port": 80}))],
                "spec.healthCheck.tcp: Forbidden: may not be given beside http",
            ),
            (
                &[
                    ("/healthCheck/http", Value::Null),
                    ("/ports", json!([{"protocol": "UDP", "port": 53}])),
                ],
                "spec.healthCheck.tcp: Required value: or give http: there is no TCP port among ports that could be probed",
            ),
            (
                &[("/failover/minHealthyBackends", json!(0))],
                "spec.failover.minHealthyBackends: Invalid value: 0: must be between 1 and 1024",
            ),
            (
                &[("/failover/datacenterPreference/-", json!("ams"))],
                "spec.failover.datacenterPreference[2]: Duplicate value: \"ams\"",
            ),
            (
                &[("/fragments", json!({"udp": "Reassemble"}))],
                "spec.fragments.udp: Unsupported value: \"Reassemble\": supported values: \"Drop\", \"Hash\"",
            ),
            (
                &[("/mssClamp", json!({"mode": "Auto", "largest": 535}))],
                "spec.mssClamp.largest: Invalid value: 535: must be between 536 and 65495",
            ),
            (
                &[("/mssClamp", json!({"largest": 1400}))],
                "spec.mssClamp.largest: Forbidden: may not be given with mode Off",
            ),
            (
                &[("/allowedSources", json!(["198.51.100.7/24"]))],
                "spec.allowedSources[0]: Invalid value: \"198.51.100.7/24\": has bits set beyond its length: did you mean 198.51.100.0/24?",
            ),
            (
                &[("/allowedSources", json!(["0.0.0.0/0", "0.0.0.0/0"]))],
                "spec.allowedSources[1]: Duplicate value: \"0.0.0.0/0\"",
            ),
            (
                &[("/deniedSources", json!(["0.0.0.0/0", "198.51.100.7"]))],
                "spec.deniedSources[1]: Invalid value: \"198.51.100.7\": must be a prefix such as 0.0.0.0/0 or 2001:db8:f::/48",
            ),
            (
                &[
                    ("/allowedSources", json!(["10.0.0.0/8", "2001:db8::/32"])),
                    ("/deniedSources", json!(["10.1.0.0/16", "2001:db8::/32"])),
                ],
                "spec.deniedSources[1]: Invalid value: \"2001:db8::/32\": is in allowedSources as well",
            ),
            (
                &[("/allowedSources", sources(1025))],
                "spec.allowedSources: Too many: 1025: must have at most 1024 items",
            ),
            (
                &[("/limits/packetsPerSecond", json!(0))],
                "spec.limits.packetsPerSecond: Invalid value: 0: must be between 1 and 4294967295",
            ),
            (
                &[("/limits/synCookies", json!("Auto"))],
                "spec.limits.newFlowsPerSecond: Required value: synCookies: Auto begins when it is exceeded",
            ),
            (
                &[("/communities/0", json!("65536:1"))],
                "spec.communities[0]: Invalid value: \"65536:1\": must be a community such as 65010:100, a large community such as 65010:1:2, or one of graceful-shutdown, no-advertise, no-export",
            ),
            (
                &[("/healthChecks", json!({}))],
                "spec.healthChecks: Forbidden: there is no such field",
            ),
        ],
    );
}

#[test]
fn a_short_service_gets_sensible_defaults() {
    let short = json!({
        "addresses": [{"claim": "a"}], "ports": [{"port": 80}], "backendPool": "www",
        "healthCheck": {"http": {"port": 80}, "interval": "2s"},
    });
    let expected = json!({
        "addresses": [{"claim": "a"}], "ports": [{"port": 80, "protocol": "TCP"}],
        "backendPool": "www",
        "healthCheck": {
            "http": {"port": 80, "path": "/"},
            "interval": "2s", "fastInterval": "200ms", "timeout": "500ms", "rise": 2, "fall": 3,
        },
        "failover": {"onNoLocalBackend": "ForwardOverBackbone", "minHealthyBackends": 1},
        "affinity": {"midFlowMove": "Reset"}, "limits": {"synCookies": "Never"},
        "fragments": {"tcp": "Drop", "udp": "Hash"}, "mssClamp": {"mode": "Off"},
    });
    assert_eq!(defaulted("AnycastService", short), expected);
}

#[test]
fn lists_have_limits() {
    for (field, limit, item) in [
        ("addresses", 16, (|i| json!({"claim": format!("c{i}")})) as fn(usize) -> Value),
        ("ports", 64, |i| json!({"port": i + 1})),
        ("communities", 32, |i| json!(format!("65010:{i}"))),
    ] {
        let with = |count: usize| {
            let mut spec = service();
            spec[field] = (0..count).map(item).collect();
            refusals(&object("AnycastService", spec), None)
        };
        assert_eq!(with(limit), [""; 0], "{field}");
        let expected =
            format!("spec.{field}: Too many: {}: must have at most {limit} items", limit + 1);
        assert_eq!(with(limit + 1), [expected]);
    }
}

#[test]
fn every_error_is_reported_not_only_the_first() {
    let mut spec = service();
    spec["ports"][0]["port"] = json!(0);
    spec["backendPool"] = json!("A");
    spec["extra"] = json!(1);

    assert_eq!(refusals(&object("AnycastService", spec), None).len(), 3);
}

#[test]
fn what_a_service_may_ask_for_is_enforced() {
    let mut spec = service();
    spec["affinity"] = json!({"midFlowMove": "Rescue"});
    spec["limits"] = json!({"newFlowsPerSecond": 50_000, "synCookies": "Auto"});
    let object = object("AnycastService", spec);

    assert_eq!(refusals(&object, None), [""; 0]);
}
