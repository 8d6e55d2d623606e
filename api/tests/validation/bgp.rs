//! Peers and policies of BGP.

use serde_json::{Value, json};

use super::{defaulted, object, refusals, table};

#[test]
fn bgp_peer() {
    let good = json!({
        "connection": "Transit", "nodes": ["edge-1"], "address": "10.0.0.254", "peerASN": 65001,
        "localAddress": "10.0.0.1", "nextHopIPv4": "10.0.0.1", "nextHopIPv6": "fd00::1",
        "families": ["IPv4"], "holdTime": "3s",
        "gracefulRestart": {"mode": "Enabled", "restartTime": "4095s"},
        "bfd": {"interval": "10ms", "multiplier": 3}, "role": "Customer", "ttlSecurity": false,
        "passive": true, "password": {"file": "/etc/isocast/tor1.md5"},
        "maxPrefixes": {"inbound": 1, "outbound": 1}, "extendedNextHop": true,
        "enforceFirstAS": true, "importPolicy": "from-transit", "exportPolicy": "to-transit",
    });
    table(
        "BGPPeer",
        &good,
        &[
            (&[("/nodes", json!([]))], "spec.nodes: Required value: or give nodeSelector"),
            (
                &[("/nodeSelector", json!({"matchLabels": {"a": "b"}}))],
                "spec.nodeSelector: Forbidden: may not be given beside nodes",
            ),
            (&[("/address", Value::Null)], "spec.address: Required value: or give prefix"),
            (
                &[("/prefix", json!("10.0.0.0/24"))],
                "spec.prefix: Forbidden: may not be given beside address",
            ),
            (
                &[("/address", Value::Null), ("/prefix", json!("fd00::/64"))],
                "spec.localAddress: Invalid value: \"10.0.0.1\": must be of the same IP version as prefix",
            ),
            (
                &[("/ttlSecurity", json!(true)), ("/multihop", json!(2))],
                "spec.ttlSecurity: Forbidden: may not be given beside multihop: packets arrive with another TTL",
            ),
            (
                &[("/multihop", json!(1))],
                "spec.multihop: Invalid value: 1: must be between 2 and 255",
            ),
            (
                &[("/bfd", json!({"interval": "9ms"}))],
                "spec.bfd.interval: Invalid value: \"9ms\": must be between 10ms and 10s",
            ),
            (
                &[("/bfd", json!({"multiplier": 1}))],
                "spec.bfd.multiplier: Invalid value: 1: must be between 2 and 50",
            ),
            (
                &[("/role", json!("Friend"))],
                "spec.role: Unsupported value: \"Friend\": supported values: \"Customer\", \"Peer\", \"Provider\", \"RouteServer\", \"RouteServerClient\"",
            ),
            (
                &[("/password", json!({"file": "keys/../tor1"}))],
                "spec.password.file: Invalid value: \"keys/../tor1\": must be an absolute path without \"..\"",
            ),
            (
                &[("/password", json!({"text": "secret", "file": "/k"}))],
                "spec.password.text: Forbidden: there is no such field",
            ),
            (
                &[("/maxPrefixes", json!({"inbound": 0}))],
                "spec.maxPrefixes.inbound: Invalid value: 0: must be between 1 and 4294967295",
            ),
            (
                &[("/exportPolicy", json!("To_Transit"))],
                "spec.exportPolicy: Invalid value: \"To_Transit\": must be 1 to 253 lower-case letters, digits, '-' or '.', beginning and ending with a letter or digit (for example 'edge-1.ams')",
            ),
            (
                &[("/address", json!("10.0.0.0/24"))],
                "spec.address: Invalid value: \"10.0.0.0/24\": must be an IPv4 or IPv6 address",
            ),
            (
                &[("/address", json!("224.0.0.1"))],
                "spec.address: Invalid value: \"224.0.0.1\": must be a unicast address",
            ),
            (
                &[("/localAddress", json!("fd00::1"))],
                "spec.localAddress: Invalid value: \"fd00::1\": must be of the same IP version as address",
            ),
            (
                &[("/nextHopIPv6", json!("fe80::1"))],
                "spec.nextHopIPv6: Invalid value: \"fe80::1\": must be a global address",
            ),
            (
                &[("/nextHopIPv6", json!("::ffff:10.0.0.1"))],
                "spec.nextHopIPv6: Invalid value: \"::ffff:10.0.0.1\": must be a unicast address",
            ),
            (
                &[("/nextHopIPv4", json!("fd00::1"))],
                "spec.nextHopIPv4: Invalid value: \"fd00::1\": must be an IPv4 address",
            ),
            (&[("/peerASN", json!(65535))], "spec.peerASN: Invalid value: \"65535\": is reserved"),
            (
                &[("/families", json!([]))],
                "spec.families: Required value: must have at least 1 item",
            ),
            (
                &[("/holdTime", json!("2s"))],
                "spec.holdTime: Invalid value: \"2s\": must be whole seconds from 3s to 3600s",
            ),
            (
                &[("/holdTime", json!("3500ms"))],
                "spec.holdTime: Invalid value: \"3s500ms\": must be whole seconds from 3s to 3600s",
            ),
            (
                &[("/holdTime", json!("fast"))],
                "spec.holdTime: Invalid value: \"fast\": must be a duration such as 500ms, 30s or 1h30m",
            ),
            (
                &[("/gracefulRestart/restartTime", json!("4096s"))],
                "spec.gracefulRestart.restartTime: Invalid value: \"1h8m16s\": must be whole seconds from 1s to 4095s",
            ),
        ],
    );
    let minimal = json!({"nodes": ["edge-1"], "address": "10.0.0.254", "peerASN": 65001});
    let expected = json!({
        "connection": "Fabric", "nodes": ["edge-1"], "address": "10.0.0.254", "peerASN": 65001,
        "families": ["IPv4", "IPv6"], "holdTime": "9s",
        "gracefulRestart": {"mode": "Enabled", "restartTime": "30s"}, "ttlSecurity": false,
        "passive": false, "extendedNextHop": false,
    });
    assert_eq!(defaulted("BGPPeer", minimal), expected);
    let dynamic = json!({
        "nodes": ["edge-1"], "prefix": "10.0.0.0/24", "peerASN": 65001, "bfd": {},
    });
    assert_eq!(refusals(&object("BGPPeer", dynamic.clone()), None), [""; 0]);
    assert_eq!(defaulted("BGPPeer", dynamic)["bfd"], json!({"interval": "50ms", "multiplier": 3}),);
}

#[test]
fn bgp_policy() {
    let good = json!({
        "confirmWithin": "5m",
        "terms": [
            {
                "name": "a",
                "match": {
                    "prefixes": [
                        {"prefix": "0.0.0.0/0", "ge": 25}, {"prefix": "2001:db8::/32"},
                        {"prefix": "10.0.0.0/8", "ge": 9, "le": 16},
                    ],
                    "communities": ["65010:*", "65010:1:*", "rt:65010:1", "no-export"],
                    "asPath": {
                        "contains": [64512], "origin": [1], "neighbour": [2],
                        "patterns": ["*", "65010+ ? [1,64512..65534] *"], "lengthMin": 1,
                        "lengthMax": 5, "reserved": true,
                    },
                    "connections": ["Transit"], "sessions": ["External"], "families": ["IPv4"],
                    "origins": ["IGP"], "nextHops": ["10.0.0.0/8"], "source": "Learned",
                    "ownSpace": false,
                },
                "set": {
                    "localPref": 200, "med": 1, "prepend": 16, "nextHop": "Self",
                    "communities": {"set": [], "remove": ["65010:*"], "add": ["65010:1"]},
                },
                "then": "Next",
            },
            {"name": "b", "then": "Accept"},
        ],
    });
    table(
        "BGPPolicy",
        &good,
        &[
            (&[("/terms", Value::Null)], "spec.terms: Required value"),
            (&[("/terms/1/name", json!("a"))], "spec.terms[1].name: Duplicate value: \"a\""),
            (
                &[("/terms/1/name", json!("end-of-policy"))],
                "spec.terms[1].name: Invalid value: \"end-of-policy\": is what comes after the last term",
            ),
            (
                &[("/terms/1/then", json!("Drop"))],
                "spec.terms[1].then: Unsupported value: \"Drop\": supported values: \"Accept\", \"Next\", \"Reject\"",
            ),
            (
                &[("/terms/0/match/prefix", json!("10.0.0.0/8"))],
                "spec.terms[0].match.prefix: Forbidden: there is no such field",
            ),
            (
                &[("/terms/0/match/prefixes/0/prefix", json!("10.0.0.1/8"))],
                "spec.terms[0].match.prefixes[0].prefix: Invalid value: \"10.0.0.1/8\": has bits set beyond its length: did you mean 10.0.0.0/8?",
            ),
            (
                &[("/terms/0/match/prefixes/0/ge", json!(33))],
                "spec.terms[0].match.prefixes[0].ge: Invalid value: \"33\": must be between 0 and 32",
            ),
            (
                &[("/terms/0/match/prefixes/2/le", json!(8))],
                "spec.terms[0].match.prefixes[2].le: Invalid value: \"8\": must be between 9 and 32",
            ),
            (
                &[("/terms/0/match/asPath/patterns/1", json!("65010 ^1"))],
                "spec.terms[0].match.asPath.patterns[1]: Invalid value: \"65010 ^1\": must be 1 to 32 of 65010, 64512..65534, [65010,64512..65534], ? for any AS and * for any number of them, with one space between; + after one of the first four repeats it",
            ),
            (
                &[("/terms/0/match/asPath/patterns", json!(vec!["*"; 65]))],
                "spec.terms[0].match.asPath.patterns: Too many: 65: must have at most 64 items",
            ),
            (
                &[("/terms/0/match/communities/0", json!("65536:1"))],
                "spec.terms[0].match.communities[0]: Invalid value: \"65536:1\": must be a community such as 65010:100, 65010:1:2, rt:65010:1, soo:65010:1, ext:0x and 16 hex digits, or a well-known one such as no-export; * stands for any number",
            ),
            (
                &[("/terms/0/match/asPath/lengthMin", json!(6))],
                "spec.terms[0].match.asPath.lengthMax: Invalid value: \"5\": must not be below lengthMin",
            ),
            (
                &[("/terms/0/set/communities/add/0", json!("65010:*"))],
                "spec.terms[0].set.communities.add[0]: Invalid value: \"65010:*\": may hold no *: that is for matching and removing",
            ),
            (
                &[("/terms/0/set/prepend", json!(17))],
                "spec.terms[0].set.prepend: Invalid value: 17: must be between 0 and 16",
            ),
            (
                &[("/terms/0/set/nextHop", json!("self"))],
                "spec.terms[0].set.nextHop: Invalid value: \"self\": must be Self, Unchanged, or an address",
            ),
            (
                &[("/confirmWithin", json!("5s"))],
                "spec.confirmWithin: Invalid value: \"5s\": must be between 10s and 1h",
            ),
        ],
    );
    assert_eq!(
        defaulted("BGPPolicy", json!({"terms": [{"name": "a"}]})),
        json!({"terms": [{"name": "a", "then": "Next"}]}),
    );
    let term = |n: usize| json!({"name": format!("t{n}")});
    let many = json!({"terms": (0..257).map(term).collect::<Vec<_>>()});
    assert_eq!(
        refusals(&object("BGPPolicy", many), None),
        ["spec.terms: Too many: 257: must have at most 256 items"],
    );
}
