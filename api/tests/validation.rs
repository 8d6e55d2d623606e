//! What each kind accepts, and how it refuses the rest: the exact field and words.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking"
)]

use isocast_api::registry::{KindDescriptor, kinds};
use serde_json::{Value, json};

fn kind(name: &str) -> &'static KindDescriptor {
    kinds().iter().find(|kind| kind.kind == name).unwrap()
}

fn object(kind: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "x"}, "spec": spec,
    })
}

/// The refusals of an object, as the server words them.
fn refusals(value: &Value, old: Option<&Value>) -> Vec<String> {
    let kind = kind(value["kind"].as_str().unwrap());
    let mut value = value.clone();
    (kind.default)(&mut value);
    (kind.validate)(&value, old).iter().map(ToString::to_string).collect()
}

/// `good` is accepted; with each of `changes` (JSON pointer, value; null removes) it is refused in
/// exactly these words.
fn table(kind: &str, good: &Value, cases: &[(&[(&str, Value)], &str)]) {
    let good = object(kind, good.clone());
    assert_eq!(refusals(&good, None), [""; 0], "{kind}");
    for (changes, expected) in cases {
        let mut bad = good.clone();
        for (pointer, value) in *changes {
            set(&mut bad["spec"], pointer, value.clone());
        }
        assert_eq!(refusals(&bad, None), [*expected], "{kind} {changes:?}");
    }
}

fn set(value: &mut Value, pointer: &str, new: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match value.pointer_mut(parent).unwrap() {
        Value::Object(fields) if new.is_null() => drop(fields.remove(name)),
        Value::Object(fields) => drop(fields.insert(name.to_owned(), new)),
        Value::Array(items) if name == "-" => items.push(new),
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = new,
        other => panic!("{pointer} is in {other}"),
    }
}

fn defaulted(kind_name: &str, spec: Value) -> Value {
    let mut value = object(kind_name, spec);
    (kind(kind_name).default)(&mut value);
    value["spec"].take()
}

fn updated(kind: &str, old: Value, new: Value) -> Vec<String> {
    refusals(&object(kind, new), Some(&object(kind, old)))
}

#[test]
fn organization() {
    table(
        "Organization",
        &json!({"displayName": "Acme", "parent": "holding"}),
        &[
            (
                &[("/parent", json!("Holding"))],
                "spec.parent: Invalid value: \"Holding\": must be 1 to 63 lower-case letters, digits or '-', beginning and ending with a letter or digit (for example 'web-prod')",
            ),
            (
                &[("/displayName", json!("x".repeat(101)))],
                "spec.displayName: Too long: may not be longer than 100 characters",
            ),
            (&[("/color", json!("red"))], "spec.color: Forbidden: there is no such field"),
        ],
    );
    let moved = updated("Organization", json!({"parent": "a"}), json!({"parent": "b"}));
    assert_eq!(moved, [""; 0]);
}

#[test]
fn names_of_containers_are_labels_and_others_are_subdomains() {
    let mut organization = object("Organization", json!({}));
    organization["metadata"]["name"] = json!("a.b");
    assert_eq!(refusals(&organization, None).len(), 1);
    assert!(refusals(&organization, None)[0].starts_with("metadata.name: Invalid value: \"a.b\""));

    let mut pool = object("BackendPool", json!({}));
    pool["metadata"]["name"] = json!("a.b");
    assert_eq!(refusals(&pool, None), [""; 0]);
    pool["metadata"]["name"] = json!("a_b");
    assert_eq!(refusals(&pool, None).len(), 1);
}

#[test]
fn project() {
    let good = json!({"parent": {"kind": "Organization", "name": "acme"}});
    table(
        "Project",
        &good,
        &[
            (&[("/parent", Value::Null)], "spec.parent: Required value"),
            (&[("/parent/name", Value::Null)], "spec.parent.name: Required value"),
            (
                &[("/parent/kind", json!("Team"))],
                "spec.parent.kind: Unsupported value: \"Team\": supported values: \"Folder\", \"Organization\"",
            ),
            (
                &[("/parent", json!("acme"))],
                "spec.parent: Invalid value: \"string\": must be of type object",
            ),
        ],
    );
    let moved = json!({"parent": {"kind": "Folder", "name": "shop"}});
    assert_eq!(updated("Project", good, moved), [""; 0]);
}

#[test]
fn role() {
    let well_formed = "must be GROUP/RESOURCE.VERB or GROUP/RESOURCE/SUBRESOURCE.VERB, with * for \
                       any (for example 'network.isocast.dev/anycastservices.get')";
    table(
        "Role",
        &json!({
            "includedPermissions": ["network.isocast.dev/*.get", "*/*/*.get"],
            "inheritedRoles": [{"name": "viewer", "namespace": "isocast-system"}],
        }),
        &[
            (
                &[("/includedPermissions/0", json!("nodes.get"))],
                &format!(
                    "spec.includedPermissions[0]: Invalid value: \"nodes.get\": {well_formed}"
                ),
            ),
            (
                &[("/includedPermissions/1", json!("network.isocast.dev/*.get"))],
                "spec.includedPermissions[1]: Duplicate value: \"network.isocast.dev/*.get\"",
            ),
            (
                &[("/inheritedRoles/-", json!({"name": "viewer", "namespace": "isocast-system"}))],
                "spec.inheritedRoles[1]: Duplicate value: \"viewer\"",
            ),
            (
                &[("/launchStage", json!("Final"))],
                "spec.launchStage: Unsupported value: \"Final\": supported values: \"Alpha\", \"Beta\", \"Stable\", \"Deprecated\"",
            ),
        ],
    );
}

#[test]
fn policy_binding() {
    let good = json!({
        "role": {"name": "viewer", "namespace": "isocast-system"},
        "subjects": [
            {"kind": "User", "name": "alice"},
            {"kind": "Group", "name": "system:authenticated"},
        ],
    });
    table(
        "PolicyBinding",
        &good,
        &[
            (
                &[("/subjects", json!([]))],
                "spec.subjects: Required value: must have at least 1 item",
            ),
            (
                &[("/subjects/-", json!({"kind": "User", "name": "alice"}))],
                "spec.subjects[2]: Duplicate value: \"alice\"",
            ),
            (
                &[("/subjects/0/namespace", json!("acme"))],
                "spec.subjects[0].namespace: Forbidden: a User has none",
            ),
            (
                &[("/subjects/0/name", json!("system:masters"))],
                "spec.subjects[0].name: Invalid value: \"system:masters\": must be 1 to 253 lower-case letters, digits, '-' or '.', beginning and ending with a letter or digit (for example 'edge-1.ams')",
            ),
            (
                &[("/subjects/1/namespace", json!("acme"))],
                "spec.subjects[1].namespace: Forbidden: system:authenticated has none",
            ),
            (
                &[("/condition", json!({"expression": ""}))],
                "spec.condition.expression: Invalid value: \"\": should be at least 1 characters long",
            ),
            (
                &[("/expiresAt", json!("soon"))],
                "spec.expiresAt: Invalid value: \"soon\": must be a time such as 2026-11-22T02:00:00Z (RFC 3339)",
            ),
        ],
    );
    let mut other = good.clone();
    other["role"]["name"] = json!("admin");
    assert_eq!(
        updated("PolicyBinding", good, other),
        ["spec.role: Invalid value: is immutable: delete the object and create it again"],
    );
}

#[test]
fn group_membership() {
    let good = json!({"group": "web", "member": {"kind": "User", "name": "alice"}});
    table(
        "GroupMembership",
        &good,
        &[
            (&[("/group", Value::Null)], "spec.group: Required value"),
            (
                &[("/member", json!({"kind": "Group", "name": "system:authenticated"}))],
                "spec.member: Forbidden: everybody cannot be a member: bind the role to them instead",
            ),
        ],
    );
    let other = json!({"group": "ops", "member": {"kind": "User", "name": "alice"}});
    assert_eq!(
        updated("GroupMembership", good, other),
        ["spec.group: Invalid value: is immutable: delete the object and create it again"],
    );
}

#[test]
fn datacenter() {
    table(
        "Datacenter",
        &json!({"region": "eu-west", "state": "Draining"}),
        &[
            (
                &[("/state", json!("Down"))],
                "spec.state: Unsupported value: \"Down\": supported values: \"Active\", \"Draining\"",
            ),
            (
                &[("/region", json!(""))],
                "spec.region: Invalid value: \"\": should be at least 1 characters long",
            ),
        ],
    );
    assert_eq!(defaulted("Datacenter", json!({})), json!({"state": "Active"}));
}

#[test]
fn node() {
    let good = json!({
        "datacenter": "ams", "roles": ["Edge", "Backend"],
        "tunnelAddresses": ["10.0.0.1", "fd00::1"],
        "uplinks": [{"interface": "eth1", "mtu": 1600, "xdpMode": "Native"}],
        "asn": 65010, "routerID": "10.0.0.1",
    });
    table(
        "Node",
        &good,
        &[
            (&[("/datacenter", Value::Null)], "spec.datacenter: Required value"),
            (&[("/roles", json!([]))], "spec.roles: Required value: must have at least 1 item"),
            (&[("/roles/-", json!("Edge"))], "spec.roles[2]: Duplicate value: \"Edge\""),
            (
                &[("/roles/0", json!("edge"))],
                "spec.roles[0]: Unsupported value: \"edge\": supported values: \"Backend\", \"Edge\"",
            ),
            (
                &[("/tunnelAddresses/1", json!("10.0.0.2"))],
                "spec.tunnelAddresses[1]: Invalid value: \"10.0.0.2\": must be of the other IP version than the first",
            ),
            (
                &[("/tunnelAddresses/0", json!("127.0.0.1"))],
                "spec.tunnelAddresses[0]: Invalid value: \"127.0.0.1\": must be a unicast address that can be routed to",
            ),
            (
                &[("/tunnelAddresses/-", json!("10.0.0.2"))],
                "spec.tunnelAddresses: Too many: 3: must have at most 2 items",
            ),
            (
                &[("/uplinks/-", json!({"interface": "eth1"}))],
                "spec.uplinks[1]: Duplicate value: {\"interface\":\"eth1\"}",
            ),
            (
                &[("/uplinks/0/interface", json!("a/b"))],
                "spec.uplinks[0].interface: Invalid value: \"a/b\": must be the name of an interface, such as eth1",
            ),
            (
                &[("/uplinks/0/interface", json!("sixteen-letters-"))],
                "spec.uplinks[0].interface: Too long: may not be longer than 15 characters",
            ),
            (
                &[("/uplinks/0/mtu", json!(1279))],
                "spec.uplinks[0].mtu: Invalid value: 1279: must be between 1280 and 9216",
            ),
            (&[("/asn", Value::Null)], "spec.asn: Required value: an edge speaks BGP"),
            (&[("/asn", json!(23456))], "spec.asn: Invalid value: \"23456\": is reserved"),
            (
                &[("/asn", json!(4_294_967_296_u64))],
                "spec.asn: Invalid value: 4294967296: must be between 1 and 4294967295",
            ),
            (
                &[("/routerID", json!("10.0.0"))],
                "spec.routerID: Invalid value: \"10.0.0\": must be an IPv4 address",
            ),
            (
                &[("/routerID", json!("0.0.0.0"))],
                "spec.routerID: Invalid value: \"0.0.0.0\": must not be zero",
            ),
            (
                &[("/routerID", Value::Null), ("/tunnelAddresses", json!(["fd00::1"]))],
                "spec.routerID: Required value: an edge without an IPv4 tunnel address needs one",
            ),
        ],
    );
    let backend = json!({
        "datacenter": "ams", "roles": ["Backend"], "tunnelAddresses": ["fd00::1"],
        "uplinks": [{"interface": "eth1"}],
    });
    table("Node", &backend, &[]);
    assert_eq!(defaulted("Node", backend)["uplinks"][0]["xdpMode"], "Auto");
}

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

#[test]
fn drain() {
    let good = json!({"target": {"kind": "Node", "name": "edge-ams-1"}, "wait": "10s"});
    table(
        "Drain",
        &good,
        &[
            (
                &[("/target/namespace", json!("web"))],
                "spec.target.namespace: Forbidden: a Node has none",
            ),
            (&[("/wait", json!("1h1s"))], "spec.wait: Invalid value: \"1h1s\": must be at most 1h"),
        ],
    );
    let service = json!({"kind": "AnycastService", "name": "www", "namespace": "web"});
    assert_eq!(refusals(&object("Drain", json!({"target": service})), None), [""; 0]);
    assert_eq!(defaulted("Drain", json!({"target": service}))["wait"], "30s");
    assert_eq!(
        updated("Drain", good, json!({"target": service})),
        ["spec.target: Invalid value: is immutable: delete the object and create it again"],
    );
}

#[test]
fn key_rotation() {
    let good = json!({"what": "ClusterSecret", "formerFor": "24h", "skipNodes": ["be-ams-1"]});
    table(
        "KeyRotation",
        &good,
        &[
            (
                &[("/what", json!("EncapsulationKey"))],
                "spec.formerFor: Forbidden: an EncapsulationKey places no connections",
            ),
            (
                &[("/formerFor", json!("31d"))],
                "spec.formerFor: Invalid value: \"31d\": must be at most 30d",
            ),
        ],
    );
    let other = json!({"what": "EncapsulationKey"});
    assert_eq!(refusals(&object("KeyRotation", other.clone()), None), [""; 0]);
    assert_eq!(
        updated("KeyRotation", good, other),
        ["spec.what: Invalid value: is immutable: delete the object and create it again"],
    );
}

#[test]
fn address_pool() {
    table(
        "AddressPool",
        &json!({
            "prefixes": ["203.0.113.0/24", "2001:db8:f::/48"],
            "grants": [{"organization": "acme"}], "reuseAfter": "30d",
        }),
        &[
            (
                &[("/prefixes", json!([]))],
                "spec.prefixes: Required value: must have at least 1 item",
            ),
            (
                &[("/prefixes/0", json!("203.0.113.1/24"))],
                "spec.prefixes[0]: Invalid value: \"203.0.113.1/24\": has bits set beyond its length: did you mean 203.0.113.0/24?",
            ),
            (
                &[("/prefixes/0", json!("203.0.113.0"))],
                "spec.prefixes[0]: Invalid value: \"203.0.113.0\": must be a prefix such as 203.0.113.0/24 or 2001:db8:f::/48",
            ),
            (
                &[("/prefixes/0", json!("224.0.0.0/8"))],
                "spec.prefixes[0]: Invalid value: \"224.0.0.0/8\": must be a block of unicast addresses that can be routed to",
            ),
            (
                &[("/prefixes/-", json!("203.0.113.128/25"))],
                "spec.prefixes[2]: Invalid value: \"203.0.113.128/25\": overlaps 203.0.113.0/24",
            ),
            (
                &[("/grants/-", json!({"organization": "acme"}))],
                "spec.grants[1]: Duplicate value: {\"organization\":\"acme\"}",
            ),
            (
                &[("/reuseAfter", json!("31d"))],
                "spec.reuseAfter: Invalid value: \"31d\": must be at most 30d",
            ),
        ],
    );
    let minimal = defaulted("AddressPool", json!({"prefixes": ["203.0.113.0/24"]}));
    assert_eq!(minimal["reuseAfter"], "10m");
}

#[test]
fn address_claim() {
    table("AddressClaim", &json!({"pool": "vips", "address": "2001:db8:f::10"}), &[]);
    let good = json!({"pool": "vips", "family": "IPv4"});
    table(
        "AddressClaim",
        &good,
        &[
            (&[("/pool", Value::Null)], "spec.pool: Required value"),
            (&[("/family", Value::Null)], "spec.family: Required value: or give address"),
            (
                &[("/address", json!("203.0.113.10"))],
                "spec.family: Forbidden: may not be given beside address",
            ),
            (
                &[("/family", Value::Null), ("/address", json!("203.0.113.0/24"))],
                "spec.address: Invalid value: \"203.0.113.0/24\": must be a single address such as 203.0.113.10, not a prefix: every service address is announced as its own /32 or /128; blocks of addresses belong in an AddressPool",
            ),
            (
                &[("/family", json!("IPv5"))],
                "spec.family: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
            ),
        ],
    );
    let immutable = "Invalid value: is immutable: delete the object and create it again";
    assert_eq!(
        updated("AddressClaim", good.clone(), json!({"pool": "other", "family": "IPv4"})),
        [format!("spec.pool: {immutable}")],
    );
    assert_eq!(
        updated("AddressClaim", good, json!({"pool": "vips", "address": "203.0.113.1"})),
        [format!("spec.family: {immutable}"), format!("spec.address: {immutable}")],
    );
}

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
fn an_object_of_the_wrong_shape_is_refused_without_a_panic() {
    for kind in kinds() {
        for value in [json!(null), json!([]), json!({}), json!({"spec": 1, "metadata": "x"})] {
            let mut value = value;
            (kind.default)(&mut value);
            assert!(!(kind.validate)(&value, Some(&json!(7))).is_empty(), "{}", kind.kind);
        }
    }
}

#[test]
fn what_a_service_may_ask_for_is_enforced() {
    let mut spec = service();
    spec["affinity"] = json!({"midFlowMove": "Rescue"});
    spec["limits"] = json!({"newFlowsPerSecond": 50_000, "synCookies": "Auto"});
    let object = object("AnycastService", spec);

    assert_eq!(refusals(&object, None), [""; 0]);
}

#[test]
fn a_malformed_object_is_refused_and_panics_nobody() {
    for kind in kinds() {
        for value in [json!(null), json!([]), json!({"spec": 1})] {
            assert_ne!((kind.validate)(&value, None), [], "{}", kind.kind);
        }
    }
}
