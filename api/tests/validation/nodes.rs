//! Datacenters and nodes, and what is done to them.

use serde_json::{Value, json};

use super::{defaulted, object, refusals, table, updated};

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
