//! A small platform: two datacenters, one tenant, one service.

use isocast_api::{agent::Keyring, registry};
use serde_json::{Value, json};

use super::compile::World;

/// Uid of the object of that name.
pub(super) fn uid(name: &str) -> String {
    format!("uid-{name}")
}

/// The world of `objects`, defaulted and validated as the server does.
pub(super) fn world(objects: &[Value]) -> World {
    let keyring = Keyring { id: "one".into(), ..Keyring::default() };
    let mut world = World { keyring, ..World::default() };
    for object in objects {
        let mut object = object.clone();
        let kind = registry::kinds().iter().find(|kind| object["kind"] == kind.kind).unwrap();
        (kind.default)(&mut object);
        assert_eq!((kind.validate)(&object, None), [], "{object}");
        world.insert(&object).unwrap();
    }
    world
}

pub(super) fn node(name: &str, datacenter: &str, roles: &[&str], addresses: &[&str]) -> Value {
    object(
        "network",
        "Node",
        name,
        json!({
            "datacenter": datacenter, "roles": roles, "tunnelAddresses": addresses,
            "uplinks": [{"interface": "eth1"}], "asn": 65010,
        }),
    )
}

pub(super) fn objects() -> Vec<Value> {
    let mut organization = object("resourcemanager", "Organization", "acme", json!({}));
    organization["status"] = json!({"tenantID": 0x00a1_b2c3});
    let grants = json!([{"organization": "acme"}]);
    let spec = json!({"prefixes": ["203.0.113.0/24"], "grants": grants});
    let mut vips = object("network", "AddressPool", "vips", spec);
    vips["status"] = json!({"grants": [{"organization": "acme", "uid": uid("acme")}]});
    let mut claim =
        object("network", "AddressClaim", "www-v4", json!({"pool": "vips", "family": "IPv4"}));
    claim["metadata"]["namespace"] = json!("web");
    claim["status"] = json!({"address": "203.0.113.10"});
    let mut pool = object(
        "network",
        "BackendPool",
        "backends",
        json!({"backends": [
            {"node": "be-ams-1"}, {"node": "be-ams-2"},
            {"address": "198.51.100.9", "datacenter": "fra", "weight": 50},
        ]}),
    );
    pool["metadata"]["namespace"] = json!("web");
    let mut service = object(
        "network",
        "AnycastService",
        "www",
        json!({
            "addresses": [{"claim": "www-v4"}], "backendPool": "backends",
            "ports": [{"name": "https", "port": 443}], "communities": ["65010:100"],
        }),
    );
    service["metadata"]["namespace"] = json!("web");
    service["metadata"]["generation"] = json!(4);
    vec![
        organization,
        object(
            "resourcemanager",
            "Project",
            "web",
            json!({
                "parent": {"kind": "Organization", "name": "acme"},
            }),
        ),
        object("network", "Datacenter", "ams", json!({})),
        object("network", "Datacenter", "fra", json!({})),
        node("edge-ams", "ams", &["Edge"], &["10.1.0.1", "fd00:1::1"]),
        node("edge-fra", "fra", &["Edge"], &["10.2.0.1"]),
        node("be-ams-1", "ams", &["Backend"], &["10.1.0.11"]),
        node("be-ams-2", "ams", &["Backend"], &["10.1.0.12"]),
        node("be-idle", "fra", &["Backend"], &["10.2.0.13"]),
        object(
            "network",
            "BGPPeer",
            "bor-ams",
            json!({
                "nodes": ["edge-ams"], "address": "10.1.0.254", "peerASN": 65001,
            }),
        ),
        vips,
        claim,
        pool,
        service,
    ]
}

pub(super) fn object(group: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("{group}.isocast.dev/v1alpha1"), "kind": kind,
        "metadata": {"name": name, "uid": uid(name), "generation": 1}, "spec": spec,
    })
}
