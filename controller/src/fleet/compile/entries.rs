//! From one object's words to those of the agent protocol.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::IpNet;
use isocast_api::{
    agent as wire,
    network::{
        AnycastService, BackendPool, FragmentPolicy, Fragments, MidFlowMove, MssClampMode, Node,
        NodeRole, OnNoLocalBackend, SynCookies, TransportProtocol, XdpMode,
    },
    text::{Duration, HostAddress, IpPrefix},
};

pub(super) fn node(
    node: &Node,
    keyring: &wire::Keyring,
    announceable: &BTreeSet<IpNet>,
) -> wire::Node {
    let spec = &node.spec;
    let role = |role: &NodeRole| match role {
        NodeRole::Backend => wire::Role::Backend,
        NodeRole::Edge => wire::Role::Edge,
    };
    let xdp_mode = |mode| match mode {
        XdpMode::Auto => wire::XdpMode::Unspecified,
        XdpMode::Generic => wire::XdpMode::Generic,
        XdpMode::Native => wire::XdpMode::Native,
    };
    let uplinks = spec.uplinks.iter().map(|uplink| wire::Uplink {
        interface: uplink.interface.clone(),
        mtu: uplink.mtu.unwrap_or_default(),
        xdp_mode: xdp_mode(uplink.xdp_mode).into(),
    });
    wire::Node {
        name: node.name().to_owned(),
        datacenter: spec.datacenter.to_string(),
        roles: spec.roles.iter().map(|it| role(it).into()).collect(),
        tunnel_addresses: spec.tunnel_addresses.iter().map(ToString::to_string).collect(),
        uplinks: uplinks.collect(),
        asn: spec.asn.unwrap_or_default(),
        router_id: spec.router_id().unwrap_or(Ipv4Addr::UNSPECIFIED).to_string(),
        keyring: Some(keyring.clone()),
        announceable_prefixes: announceable.iter().map(ToString::to_string).collect(),
        idle: false,
    }
}

pub(super) fn service(
    service: &AnycastService,
    tenant: Option<Tenant>,
    addresses: &[HostAddress],
    pool: Option<&wire::BackendPool>,
) -> wire::Service {
    let spec = &service.spec;
    let ports = spec.ports.iter().map(|port| wire::Port {
        name: text(port.name.as_ref()),
        protocol: match port.protocol {
            TransportProtocol::Tcp => wire::Protocol::Tcp,
            TransportProtocol::Udp => wire::Protocol::Udp,
        }
        .into(),
        port: port.port.into(),
    });
    wire::Service {
        uid: service.metadata.uid.clone(),
        namespace: service.namespace().to_owned(),
        name: service.name().to_owned(),
        generation: service.metadata.generation,
        tenant_id: tenant.map(|it| it.id).unwrap_or_default(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        ports: ports.collect(),
        pool_uid: pool.map(|pool| pool.uid.clone()).unwrap_or_default(),
        health_check: Some(health_check(service)),
        failover: Some(failover(service)),
        communities: spec.communities.iter().map(ToString::to_string).collect(),
        allowed_sources: prefixes(&spec.allowed_sources),
        denied_sources: prefixes(&spec.denied_sources),
        limits: ceilings(spec.limits.packets_per_second, spec.limits.new_flows_per_second),
        syn_cookies: spec.limits.syn_cookies == SynCookies::Auto,
        tenant_limits: tenant.and_then(|it| it.limits),
        mid_flow_move: match spec.affinity.mid_flow_move {
            MidFlowMove::Rescue => wire::MidFlowMove::Rescue,
            MidFlowMove::Reset => wire::MidFlowMove::Reset,
        }
        .into(),
        // What is as always goes without saying: agents that do not know the field agree.
        fragments: (spec.fragments != Fragments::default()).then(|| wire::FragmentPolicy {
            tcp: fragments(spec.fragments.tcp).into(),
            udp: fragments(spec.fragments.udp).into(),
        }),
        mss_clamp: match spec.mss_clamp.mode {
            MssClampMode::Auto => {
                let largest = spec.mss_clamp.largest.unwrap_or_default().into();
                Some(wire::MssClamp { largest })
            }
            MssClampMode::Off => None,
        },
    }
}

const fn fragments(policy: FragmentPolicy) -> wire::FragmentHandling {
    match policy {
        FragmentPolicy::Drop => wire::FragmentHandling::Drop,
        FragmentPolicy::Hash => wire::FragmentHandling::Hash,
    }
}

/// Who a service belongs to, and what all its services may take in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tenant {
    pub(super) id: u32,
    pub(super) limits: Option<wire::Ceilings>,
}

/// In one order: the order of the list means nothing, so it shall change nothing.
fn prefixes(prefixes: &[IpPrefix]) -> Vec<String> {
    let prefixes: BTreeSet<_> = prefixes.iter().map(|it| it.get()).collect();
    prefixes.iter().map(ToString::to_string).collect()
}

/// Nothing where there are none.
pub(super) fn ceilings(packets: Option<u32>, new_flows: Option<u32>) -> Option<wire::Ceilings> {
    (packets.is_some() || new_flows.is_some()).then(|| wire::Ceilings {
        packets_per_second: packets.unwrap_or_default(),
        new_flows_per_second: new_flows.unwrap_or_default(),
    })
}

fn health_check(service: &AnycastService) -> wire::HealthCheck {
    let spec = &service.spec.health_check;
    wire::HealthCheck {
        http: spec.http.as_ref().map(|http| wire::HttpCheck {
            path: http.path.clone(),
            host: http.host.clone().unwrap_or_default(),
        }),
        port: service.spec.probe_port().unwrap_or_default().into(),
        interval_ms: millis(spec.interval),
        fast_interval_ms: millis(spec.fast_interval),
        timeout_ms: millis(spec.timeout),
        rise: spec.rise,
        fall: spec.fall,
    }
}

fn failover(service: &AnycastService) -> wire::Failover {
    let spec = &service.spec.failover;
    wire::Failover {
        on_no_local_backend: match spec.on_no_local_backend {
            OnNoLocalBackend::ForwardOverBackbone => wire::OnNoLocalBackend::ForwardOverBackbone,
            OnNoLocalBackend::ServeAnyway => wire::OnNoLocalBackend::ServeAnyway,
            OnNoLocalBackend::Withdraw => wire::OnNoLocalBackend::Withdraw,
        }
        .into(),
        min_healthy_backends: spec.min_healthy_backends,
        datacenter_preference: spec.datacenter_preference.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn node_backend(pool: &BackendPool, node: &Node, weight: u32) -> wire::Backend {
    let tunnel_address = node.spec.tunnel_addresses.first().map(ToString::to_string);
    wire::Backend {
        uid: backend_uid(pool, "node", &node.metadata.uid),
        name: node.name().to_owned(),
        datacenter: node.spec.datacenter.to_string(),
        node: node.name().to_owned(),
        tunnel_address: tunnel_address.unwrap_or_default(),
        weight,
        drained: weight == 0,
    }
}

pub(super) fn address_backend(
    pool: &BackendPool,
    address: HostAddress,
    datacenter: &str,
    weight: u32,
) -> wire::Backend {
    wire::Backend {
        uid: backend_uid(pool, "address", &address.to_string()),
        name: address.to_string(),
        datacenter: datacenter.to_owned(),
        node: String::new(),
        tunnel_address: address.to_string(),
        weight,
        drained: weight == 0,
    }
}

/// The addresses that `node` sends encapsulated packets from.
pub(super) fn sources(node: &Node) -> impl Iterator<Item = wire::EncapSource> {
    node.spec.tunnel_addresses.iter().map(|address| wire::EncapSource {
        address: address.to_string(),
        node: node.name().to_owned(),
    })
}

/// Identity of a backend: a re-created pool or node gives another one.
fn backend_uid(pool: &BackendPool, what: &str, identity: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [&pool.metadata.uid, what, identity] {
        hasher.update(part.as_bytes());
        hasher.update(&[0]);
    }
    let mut uid = [0; 16];
    hasher.finalize_xof().fill(&mut uid);
    uid.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
