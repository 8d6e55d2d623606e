//! From entries to a [`NodeModel`]: the one place where text from outside becomes types.

mod peer;

use std::{collections::BTreeMap, net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;
use isocast_api::agent::{
    self as wire, Entry, FragmentHandling, Role, drain::Target, entry::Value,
};
use isocast_dataplane::{Ceilings, Fragments, ServicePolicy, SourceList, SourceRule};
use isocast_dataplane_common::policy::MAX_SOURCES_PER_SERVICE;

use crate::bgp::Communities;

use super::{
    Backend, Check, Departures, DrainOrder, DrainTarget, Failover, HealthCheck, Keys, MidFlowMove,
    NodeModel, OnNoLocalBackend, PacketPolicy, Peer, Pool, Port, Protocol, Roles, Service, Uid,
    Uplink, XdpMode,
};

/// Tenant ids travel in 24 bits of the encapsulation header.
const TENANT_ID_MAX: u32 = (1 << 24) - 1;

/// Why one entry is refused: a sentence for its owner.
pub(super) type Refusal = String;

/// One entry as a valid type.
#[derive(Debug)]
pub(super) enum Parsed {
    Node(Box<NodeModel>),
    Peer(Peer),
    Pool(Uid, Pool),
    Service(Box<Service>),
    Source(IpAddr),
    Drain(DrainOrder),
    Tombstone(Uid),
}

/// Reads an entry, whatever the others are.
pub(super) fn entry(entry: &Entry) -> Result<Parsed, Refusal> {
    match &entry.value {
        Some(Value::Node(it)) => node(it).map(|it| Parsed::Node(Box::new(it))),
        Some(Value::BgpPeer(it)) => peer::peer(it).map(Parsed::Peer),
        Some(Value::Pool(it)) => pool(it).map(|(uid, it)| Parsed::Pool(uid, it)),
        Some(Value::Service(it)) => service(it).map(|it| Parsed::Service(Box::new(it))),
        Some(Value::Source(it)) => address(&it.address, "address").map(Parsed::Source),
        Some(Value::Drain(it)) => drain(it).map(Parsed::Drain),
        Some(Value::Tombstone(it)) => filled(&it.uid, "uid").map(|it| Parsed::Tombstone(it.into())),
        None => Err("the entry has a kind this agent does not know".into()),
    }
}

impl Parsed {
    /// Becomes part of `model`.
    pub(super) fn join(self, model: &mut NodeModel) {
        match self {
            Self::Node(node) => *model = *node,
            Self::Peer(peer) => model.peers.push(peer),
            Self::Pool(uid, pool) => drop(model.pools.insert(uid, pool)),
            Self::Service(service) => {
                model.services.insert(service.uid.clone(), *service);
            }
            Self::Source(address) => model.sources.push(address),
            Self::Drain(order) => drop(model.drains.insert(order.uid.clone(), order)),
            Self::Tombstone(uid) => drop(model.departures.removed.insert(uid)),
        }
    }
}

fn node(wire: &wire::Node) -> Result<NodeModel, Refusal> {
    let roles = Roles {
        edge: wire.roles().any(|role| role == Role::Edge),
        backend: wire.roles().any(|role| role == Role::Backend),
    };
    if !roles.edge && !roles.backend {
        return Err("roles: at least one of Edge and Backend".into());
    }
    Ok(NodeModel {
        name: wire.name.clone(),
        datacenter: filled(&wire.datacenter, "datacenter")?,
        roles,
        tunnel_addresses: addresses(&wire.tunnel_addresses, "tunnel_addresses")?,
        uplinks: wire.uplinks.iter().map(uplink).collect::<Result<_, _>>()?,
        asn: wire.asn,
        router_id: parsed(&wire.router_id, "router_id")?,
        keys: Keys::parse(wire.keyring.as_ref())?,
        announceable: wire
            .announceable_prefixes
            .iter()
            .map(|text| parsed(text, "announceable_prefixes"))
            .collect::<Result<_, _>>()?,
        peers: Vec::new(),
        pools: BTreeMap::new(),
        services: BTreeMap::new(),
        sources: Vec::new(),
        drains: BTreeMap::new(),
        departures: Departures::default(),
    })
}

fn uplink(wire: &wire::Uplink) -> Result<Uplink, Refusal> {
    let xdp = match wire.xdp_mode() {
        wire::XdpMode::Unspecified => XdpMode::Auto,
        wire::XdpMode::Native => XdpMode::Native,
        wire::XdpMode::Generic => XdpMode::Generic,
    };
    let mtu = (wire.mtu != 0).then_some(wire.mtu);
    Ok(Uplink { interface: filled(&wire.interface, "uplinks.interface")?, xdp, mtu })
}

fn pool(wire: &wire::BackendPool) -> Result<(Uid, Pool), Refusal> {
    let backends = wire.backends.iter().map(backend).collect::<Result<_, _>>()?;
    let slow_start = Duration::from_millis(wire.slow_start_ms.into());
    Ok((filled(&wire.uid, "uid")?.into(), Pool { name: wire.name.clone(), backends, slow_start }))
}

fn backend(wire: &wire::Backend) -> Result<Backend, Refusal> {
    Ok(Backend {
        uid: filled(&wire.uid, "backends.uid")?.into(),
        name: wire.name.clone(),
        datacenter: wire.datacenter.clone(),
        node: wire.node.clone(),
        tunnel_address: address(&wire.tunnel_address, "backends.tunnel_address")?,
        weight: if wire.drained { 0 } else { wire.weight.max(1) },
    })
}

fn service(wire: &wire::Service) -> Result<Service, Refusal> {
    if wire.tenant_id > TENANT_ID_MAX {
        return Err(format!("tenant_id: {} does not fit 24 bits", wire.tenant_id));
    }
    let check = wire.health_check.as_ref().ok_or("health_check: missing")?;
    let failover = wire.failover.clone().unwrap_or_default();
    Ok(Service {
        uid: filled(&wire.uid, "uid")?.into(),
        namespace: wire.namespace.clone(),
        name: wire.name.clone(),
        generation: wire.generation,
        tenant: wire.tenant_id,
        addresses: addresses(&wire.addresses, "addresses")?,
        ports: wire.ports.iter().map(port).collect::<Result<_, _>>()?,
        pool: (!wire.pool_uid.is_empty()).then(|| Uid::from(wire.pool_uid.as_str())),
        health: health_check(check)?,
        mid_flow_move: match wire.mid_flow_move() {
            wire::MidFlowMove::Unspecified | wire::MidFlowMove::Reset => MidFlowMove::Reset,
            wire::MidFlowMove::Rescue => MidFlowMove::Rescue,
        },
        failover: Failover {
            on_no_local_backend: match failover.on_no_local_backend() {
                wire::OnNoLocalBackend::Unspecified
                | wire::OnNoLocalBackend::ForwardOverBackbone => {
                    OnNoLocalBackend::ForwardOverBackbone
                }
                wire::OnNoLocalBackend::Withdraw => OnNoLocalBackend::Withdraw,
                wire::OnNoLocalBackend::ServeAnyway => OnNoLocalBackend::ServeAnyway,
            },
            min_healthy: usize::try_from(failover.min_healthy_backends)
                .unwrap_or(usize::MAX)
                .max(1),
            preference: failover.datacenter_preference,
        },
        communities: Communities::parse(wire.communities.iter().map(String::as_str))
            .map_err(|error| format!("communities: {error}"))?,
        policy: policy(wire)?,
        tenant_ceilings: ceilings(wire.tenant_limits),
        packets: packets(wire)?,
    })
}

fn packets(wire: &wire::Service) -> Result<PacketPolicy, Refusal> {
    let fragments = wire.fragments.unwrap_or_default();
    let handling = |handling, unspecified| match handling {
        FragmentHandling::Unspecified => unspecified,
        FragmentHandling::Drop => Fragments::Drop,
        FragmentHandling::Hash => Fragments::Hash,
    };
    let segment_size = match wire.mss_clamp {
        None => None,
        Some(wire::MssClamp { largest: 0 }) => Some(u16::MAX),
        Some(wire::MssClamp { largest }) => match u16::try_from(largest) {
            Ok(largest) => Some(largest),
            Err(error) => return Err(format!("mss_clamp.largest: {largest}: {error}")),
        },
    };
    Ok(PacketPolicy {
        tcp_fragments: handling(fragments.tcp(), Fragments::Drop),
        udp_fragments: handling(fragments.udp(), Fragments::Hash),
        segment_size,
    })
}

fn policy(wire: &wire::Service) -> Result<ServicePolicy, Refusal> {
    let ceilings = ceilings(wire.limits);
    if wire.syn_cookies && ceilings.new_flows_per_second.is_none() {
        return Err("syn_cookies: limits.new_flows_per_second is missing".into());
    }
    Ok(ServicePolicy { sources: sources(wire)?, ceilings, syn_cookies: wire.syn_cookies })
}

fn sources(wire: &wire::Service) -> Result<Option<SourceList>, Refusal> {
    let (allowed, denied) = (&wire.allowed_sources, &wire.denied_sources);
    let count = allowed.len() + denied.len();
    if count == 0 {
        return Ok(None);
    }
    if count > MAX_SOURCES_PER_SERVICE {
        return Err(format!(
            "allowed_sources and denied_sources: {count} prefixes, at most \
             {MAX_SOURCES_PER_SERVICE} fit"
        ));
    }
    let mut rules = BTreeMap::new();
    for (texts, field, allowed) in
        [(allowed, "allowed_sources", true), (denied, "denied_sources", false)]
    {
        for text in texts {
            let prefix: IpNet = parsed(text, field)?;
            if prefix != prefix.trunc() {
                return Err(format!("{field}: {text:?} has bits set beyond its length"));
            }
            if rules.insert(prefix, allowed).is_some() {
                return Err(format!("{field}: {text} is there twice"));
            }
        }
    }
    let rules = rules.into_iter().map(|(prefix, allowed)| SourceRule { prefix, allowed });
    Ok(Some(SourceList { rules: rules.collect(), others_allowed: allowed.is_empty() }))
}

fn ceilings(wire: Option<wire::Ceilings>) -> Ceilings {
    let wire = wire.unwrap_or_default();
    let some = |value: u32| (value != 0).then_some(value);
    Ceilings {
        packets_per_second: some(wire.packets_per_second),
        new_flows_per_second: some(wire.new_flows_per_second),
    }
}

fn drain(wire: &wire::Drain) -> Result<DrainOrder, Refusal> {
    let target = match &wire.target {
        Some(Target::Node(name)) => DrainTarget::Node(filled(name, "node")?),
        Some(Target::Service(uid)) => DrainTarget::Service(filled(uid, "service")?.into()),
        Some(Target::Datacenter(name)) => DrainTarget::Datacenter(filled(name, "datacenter")?),
        None => return Err("target: missing".into()),
    };
    Ok(DrainOrder {
        uid: filled(&wire.uid, "uid")?.into(),
        target,
        wait: Duration::from_secs(wire.wait_s.into()),
        confirmed: wire.confirmed,
    })
}

fn port(wire: &wire::Port) -> Result<Port, Refusal> {
    let protocol = match wire.protocol() {
        wire::Protocol::Tcp => Protocol::Tcp,
        wire::Protocol::Udp => Protocol::Udp,
        wire::Protocol::Unspecified => return Err("ports.protocol: missing".into()),
    };
    Ok(Port { protocol, port: port_number(wire.port, "ports.port")? })
}

fn health_check(wire: &wire::HealthCheck) -> Result<HealthCheck, Refusal> {
    let positive = |value: u32, field: &str| match value {
        0 => Err(format!("health_check.{field}: must be positive")),
        value => Ok(value),
    };
    let millis =
        |value: u32, field: &str| positive(value, field).map(|ms| Duration::from_millis(ms.into()));
    Ok(HealthCheck {
        check: match &wire.http {
            Some(http) if !http.path.starts_with('/') => {
                return Err(format!("health_check.http.path: {:?} must start with /", http.path));
            }
            Some(http) => Check::Http {
                path: http.path.clone(),
                host: (!http.host.is_empty()).then(|| http.host.clone()),
            },
            None => Check::TcpConnect,
        },
        port: port_number(wire.port, "health_check.port")?,
        interval: millis(wire.interval_ms, "interval_ms")?,
        fast_interval: millis(wire.fast_interval_ms, "fast_interval_ms")?,
        timeout: millis(wire.timeout_ms, "timeout_ms")?,
        rise: positive(wire.rise, "rise")?,
        fall: positive(wire.fall, "fall")?,
    })
}

fn port_number(value: u32, field: &str) -> Result<u16, Refusal> {
    match u16::try_from(value) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("{field}: {value} is not in 1–65535")),
    }
}

fn filled(text: &str, field: &str) -> Result<String, Refusal> {
    if text.is_empty() { Err(format!("{field}: missing")) } else { Ok(text.to_owned()) }
}

fn addresses(texts: &[String], field: &str) -> Result<Vec<IpAddr>, Refusal> {
    texts.iter().map(|text| address(text, field)).collect()
}

fn address(text: &str, field: &str) -> Result<IpAddr, Refusal> {
    parsed(text, field)
}

fn optional<T>(text: &str, field: &str) -> Result<Option<T>, Refusal>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    if text.is_empty() { Ok(None) } else { parsed(text, field).map(Some) }
}

fn parsed<T>(text: &str, field: &str) -> Result<T, Refusal>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| format!("{field}: {text:?}: {error}"))
}
