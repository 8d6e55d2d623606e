//! What the agent under test is told: thirty services of one host, one router.

use isocast_api::agent::{
    AddressFamily, Backend, BackendPool, BgpPeer, BgpPolicy, Connection, Entry, Failover,
    HealthCheck, Keyring, Node, OnNoLocalBackend, Port, Protocol, Role, Service, Tombstone, Uplink,
    entry::Value,
};

use crate::bench::{EDGE, EDGE_ASN, NODE, PORT, ROUTER, ROUTER_ASN, address};

pub(crate) const SERVICES: u8 = 30;

pub(crate) fn entry(key: impl Into<String>, value: Value) -> Entry {
    Entry { key: key.into(), value: Some(value) }
}

pub(crate) fn node() -> Entry {
    let node = Node {
        name: NODE.into(),
        datacenter: "ams".into(),
        roles: vec![Role::Edge.into(), Role::Backend.into()],
        tunnel_addresses: vec![EDGE.to_string()],
        uplinks: vec![Uplink { interface: "eth1".into(), ..Uplink::default() }],
        asn: EDGE_ASN,
        router_id: EDGE.to_string(),
        keyring: Some(Keyring {
            sent_tag: vec![7; 4],
            believed_tags: vec![vec![7; 4]],
            flow_key: vec![7; 16],
            ..Keyring::default()
        }),
        announceable_prefixes: vec!["203.0.113.0/24".into()],
        idle: false,
    };
    entry("node", Value::Node(node))
}

pub(crate) fn router(export_policy: Option<BgpPolicy>) -> Entry {
    let peer = BgpPeer {
        uid: "router".into(),
        name: "router".into(),
        address: ROUTER.to_string(),
        peer_asn: ROUTER_ASN,
        families: vec![AddressFamily::Ipv4Unicast.into()],
        hold_time_s: 9,
        connection: Connection::Fabric.into(),
        export_policy,
        ..BgpPeer::default()
    };
    entry("bgppeer/router", Value::BgpPeer(peer))
}

pub(crate) fn pool() -> Entry {
    let backend = Backend {
        uid: "backend".into(),
        name: NODE.into(),
        datacenter: "ams".into(),
        node: NODE.into(),
        tunnel_address: EDGE.to_string(),
        weight: 1,
        drained: false,
    };
    let pool =
        BackendPool { uid: "pool".into(), backends: vec![backend], ..BackendPool::default() };
    entry("pool/pool", Value::Pool(pool))
}

pub(crate) fn service(number: u8) -> Entry {
    let uid = format!("service-{number:02}");
    let service = Service {
        uid: uid.clone(),
        namespace: "web".into(),
        name: uid.clone(),
        generation: 1,
        tenant_id: 1,
        addresses: vec![address(number)],
        ports: vec![Port { protocol: Protocol::Tcp.into(), port: PORT.into(), ..Port::default() }],
        pool_uid: "pool".into(),
        health_check: Some(HealthCheck {
            port: PORT.into(),
            interval_ms: 200,
            fast_interval_ms: 50,
            timeout_ms: 500,
            rise: 1,
            fall: 2,
            http: None,
        }),
        failover: Some(Failover {
            on_no_local_backend: OnNoLocalBackend::Withdraw.into(),
            min_healthy_backends: 1,
            ..Failover::default()
        }),
        ..Service::default()
    };
    entry(format!("service/{uid}"), Value::Service(service))
}

pub(crate) fn tombstone(number: u8) -> Entry {
    let uid = format!("service-{number:02}");
    let tombstone =
        Tombstone { uid: uid.clone(), reason: "Deleted".into(), ..Tombstone::default() };
    entry(format!("tombstone/{uid}"), Value::Tombstone(tombstone))
}

pub(crate) fn full() -> Vec<Entry> {
    full_of(SERVICES)
}

pub(crate) fn full_of(services: u8) -> Vec<Entry> {
    let services = (0..services).map(service);
    services.chain([node(), router(None), pool()]).collect()
}
