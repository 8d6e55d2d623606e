//! The agents' configuration files, for a demo without a controller.
//!
//! The same service that the manifests describe: what the controller would compile for each node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use isocast_api::agent::{
    self as wire, AddressFamily, Entry, OnNoLocalBackend, Protocol, Role as NodeRole, entry::Value,
};
use serde::Serialize;

use super::{DemoError, file_error, scene};
use crate::{
    lab::{Lab, LabError, Route},
    programs::AGENT_FILE,
    topology::{Node, Role},
};

#[derive(Serialize)]
struct File {
    entries: Vec<Entry>,
}

/// Writes a file for every node with an agent.
pub(super) fn write(lab: &Lab) -> Result<(), DemoError> {
    let mut shared = vec![entry(format!("pool/{POOL_UID}"), Value::Pool(pool(lab)?))];
    shared.push(entry(format!("service/{SERVICE_UID}"), Value::Service(service())));
    for node in lab.topology.nodes.values().filter(|node| node.role.has_agent()) {
        let addresses = Addresses::of(lab, node)?;
        let own = Value::Node(own_entry(node, &addresses));
        let mut entries = vec![entry("node".to_owned(), own)];
        match node.role {
            Role::Edge => entries.extend(peers(lab, node, &addresses)),
            _ => entries.extend(sources(lab)?),
        }
        entries.extend(shared.clone());
        let path = lab.topology.node_folder(&node.name).join(AGENT_FILE);
        serde_json::to_vec_pretty(&File { entries })
            .map_err(Into::into)
            .and_then(|text| std::fs::write(&path, text))
            .map_err(file_error(&path))?;
    }
    Ok(())
}

/// Where a node is in its network: found out from the node itself.
struct Addresses {
    ipv4: Route,
    ipv6: Route,
}

impl Addresses {
    /// As seen on the way to the Internet, for which documentation addresses stand.
    fn of(lab: &Lab, node: &Node) -> Result<Self, LabError> {
        let far = |address: IpAddr| lab.route(&node.name, address);
        Ok(Self {
            ipv4: far(Ipv4Addr::new(192, 0, 2, 1).into())?,
            ipv6: far(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())?,
        })
    }
}

fn entry(key: String, value: Value) -> Entry {
    Entry { key, value: Some(value) }
}

fn own_entry(node: &Node, addresses: &Addresses) -> wire::Node {
    let role = if node.role == Role::Edge { NodeRole::Edge } else { NodeRole::Backend };
    let uplink = wire::Uplink { interface: addresses.ipv4.interface.clone(), ..Default::default() };
    wire::Node {
        name: node.name.clone(),
        datacenter: node.datacenter.clone().unwrap_or_default(),
        roles: vec![role.into()],
        tunnel_addresses: vec![
            addresses.ipv4.source.to_string(),
            addresses.ipv6.source.to_string(),
        ],
        uplinks: vec![uplink],
        asn: node.asn.unwrap_or_default(),
        router_id: addresses.ipv4.source.to_string(),
        keyring: Some(wire::Keyring {
            sent_tag: b"lab!".to_vec(),
            believed_tags: vec![b"lab!".to_vec()],
            flow_key: b"only for this lab".iter().copied().take(16).collect(),
            ..Default::default()
        }),
        announceable_prefixes: scene::PREFIXES.map(str::to_owned).to_vec(),
        idle: false,
    }
}

/// An edge speaks with its border, over both families.
fn peers(lab: &Lab, node: &Node, addresses: &Addresses) -> Vec<Entry> {
    let border = lab.topology.links_of(&node.name).find_map(|(_, link)| {
        link.endpoints.iter().find(|end| end.node != node.name).map(|end| end.node.clone())
    });
    let asn = border.and_then(|border| lab.node(&border).ok()?.asn).unwrap_or_default();
    let sessions = [
        ("v4", &addresses.ipv4, AddressFamily::Ipv4Unicast),
        ("v6", &addresses.ipv6, AddressFamily::Ipv6Unicast),
    ];
    let peer = |(suffix, route, family): (&str, &Route, AddressFamily)| {
        let uid = format!("{}-{suffix}", node.name);
        let peer = wire::BgpPeer {
            uid: uid.clone(),
            name: format!("border-{suffix}"),
            generation: 1,
            address: route.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            peer_asn: asn,
            local_address: route.source.to_string(),
            families: vec![family.into()],
            hold_time_s: 3,
            graceful_restart_s: 30,
            bfd: Some(wire::Bfd { interval_ms: 50, multiplier: 3, multihop: false }),
            ..Default::default()
        };
        entry(format!("bgppeer/{uid}"), Value::BgpPeer(peer))
    };
    sessions.into_iter().map(peer).collect()
}

/// A backend takes encapsulated packets from every edge, and second chances from every backend.
fn sources(lab: &Lab) -> Result<Vec<Entry>, LabError> {
    let mut entries = Vec::new();
    for node in lab.topology.nodes.values().filter(|node| node.role.has_agent()) {
        let address = Addresses::of(lab, node)?.ipv4.source.to_string();
        let source = wire::EncapSource { address: address.clone(), node: node.name.clone() };
        entries.push(entry(format!("source/{address}"), Value::Source(source)));
    }
    Ok(entries)
}

fn pool(lab: &Lab) -> Result<wire::BackendPool, LabError> {
    let backend = |node: &Node| {
        Ok(wire::Backend {
            uid: format!("backend-{}", node.name),
            name: node.name.clone(),
            datacenter: node.datacenter.clone().unwrap_or_default(),
            node: node.name.clone(),
            tunnel_address: Addresses::of(lab, node)?.ipv4.source.to_string(),
            weight: 1,
            drained: false,
        })
    };
    let backends = lab.topology.with_role(Role::Backend).map(backend);
    Ok(wire::BackendPool {
        uid: POOL_UID.to_owned(),
        namespace: "web-prod".to_owned(),
        name: "www".to_owned(),
        backends: backends.collect::<Result<_, LabError>>()?,
        slow_start_ms: 0,
    })
}

fn service() -> wire::Service {
    let http = wire::HttpCheck { path: "/healthz".to_owned(), host: String::new() };
    wire::Service {
        uid: SERVICE_UID.to_owned(),
        namespace: "web-prod".to_owned(),
        name: "www".to_owned(),
        generation: 1,
        tenant_id: 1,
        addresses: scene::ADDRESSES.map(|address| address.to_string()).to_vec(),
        ports: vec![wire::Port {
            name: "http".to_owned(),
            protocol: Protocol::Tcp.into(),
            port: scene::PORT.into(),
        }],
        pool_uid: POOL_UID.to_owned(),
        health_check: Some(wire::HealthCheck {
            http: Some(http),
            port: scene::PORT.into(),
            interval_ms: 500,
            fast_interval_ms: 100,
            timeout_ms: 300,
            rise: 3,
            fall: 2,
        }),
        failover: Some(wire::Failover {
            on_no_local_backend: OnNoLocalBackend::ForwardOverBackbone.into(),
            min_healthy_backends: 1,
            datacenter_preference: vec!["ams".to_owned(), "fra".to_owned()],
        }),
        mid_flow_move: wire::MidFlowMove::Rescue.into(),
        ..wire::Service::default()
    }
}

const SERVICE_UID: &str = "7d6f4c8e-2a53-4f0b-9a31-5c1d8e0b7a01";
const POOL_UID: &str = "7d6f4c8e-2a53-4f0b-9a31-5c1d8e0b7a02";
