//! A small world for tests: one service over two datacenters with two backends each.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use isocast_api::agent as wire;
use isocast_bgp::policy::Policy;
use isocast_dataplane::{Ceilings, ServicePolicy};

use crate::bgp::Communities;

use super::{
    Backend, Check, Connection, Departures, Failover, Families, HealthCheck, Keys, MaxPrefixes,
    MidFlowMove, NodeModel, OnNoLocalBackend, PacketPolicy, Peer, Pool, Port, Protocol, Reach,
    Remote, Roles, Service,
};

pub(crate) const SERVICE: &str = "service-uid";
pub(crate) const POOL: &str = "pool-uid";

/// Seen from an edge in `ams`.
pub(crate) fn two_datacenters() -> NodeModel {
    let backends = vec![
        backend("ams-1", "ams", 1),
        backend("ams-2", "ams", 2),
        backend("fra-1", "fra", 3),
        backend("fra-2", "fra", 4),
    ];
    NodeModel {
        name: "edge-ams-1".into(),
        datacenter: "ams".into(),
        roles: Roles { edge: true, backend: false },
        tunnel_addresses: vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100))],
        uplinks: Vec::new(),
        asn: 65010,
        router_id: Ipv4Addr::new(10, 0, 0, 100),
        keys: Keys::parse(Some(&keyring())).unwrap(),
        announceable: vec!["203.0.113.0/24".parse().unwrap(), "2001:db8:f::/48".parse().unwrap()],
        peers: Vec::new(),
        pools: BTreeMap::from([(
            POOL.into(),
            Pool { name: "www".into(), backends, ..Pool::default() },
        )]),
        services: BTreeMap::from([(SERVICE.into(), service())]),
        sources: Vec::new(),
        drains: BTreeMap::new(),
        departures: Departures::default(),
    }
}

/// Nobody's keys: a test's.
pub(crate) fn keyring() -> wire::Keyring {
    wire::Keyring {
        id: "one".into(),
        sent_tag: vec![7; 4],
        believed_tags: vec![vec![7; 4]],
        flow_key: vec![7; 16],
        other_flow_keys: Vec::new(),
    }
}

/// A router on the link that is told everything.
pub(crate) fn peer(uid: &str) -> Peer {
    Peer {
        uid: uid.into(),
        name: uid.into(),
        remote: Remote::Address(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254))),
        connection: Connection::Fabric,
        peer_asn: 65_001,
        local_address: None,
        next_hop_ipv4: None,
        next_hop_ipv6: None,
        families: Families { ipv4: true, ipv6: true },
        hold_time: Duration::from_secs(9),
        graceful_restart: None,
        bfd: None,
        role: None,
        reach: Reach::Link,
        passive: false,
        password_file: None,
        max_prefixes: MaxPrefixes::default(),
        extended_next_hop: false,
        enforce_first_as: true,
        import: Policy::accept_all(),
        export: Policy::accept_all(),
    }
}

pub(crate) fn backend(name: &str, datacenter: &str, last: u8) -> Backend {
    Backend {
        uid: name.into(),
        name: name.into(),
        datacenter: datacenter.into(),
        node: format!("node-{name}"),
        tunnel_address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        weight: 1,
    }
}

pub(crate) fn service() -> Service {
    Service {
        uid: SERVICE.into(),
        namespace: "web-prod".into(),
        name: "www".into(),
        generation: 1,
        tenant: 5,
        addresses: vec!["203.0.113.10".parse().unwrap(), "2001:db8:f::10".parse().unwrap()],
        ports: vec![Port { protocol: Protocol::Tcp, port: 80 }],
        pool: Some(POOL.into()),
        health: HealthCheck {
            check: Check::TcpConnect,
            port: 80,
            interval: Duration::from_millis(500),
            fast_interval: Duration::from_millis(100),
            timeout: Duration::from_millis(300),
            rise: 2,
            fall: 3,
        },
        failover: Failover {
            on_no_local_backend: OnNoLocalBackend::ForwardOverBackbone,
            min_healthy: 1,
            preference: Vec::new(),
        },
        mid_flow_move: MidFlowMove::Reset,
        communities: Communities::parse(["65010:100"]).unwrap(),
        policy: ServicePolicy::default(),
        tenant_ceilings: Ceilings::default(),
        packets: PacketPolicy::default(),
    }
}
