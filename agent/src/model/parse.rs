//! From entries to a [`NodeModel`]: the one place where text from outside becomes types.

mod peer;

use std::{collections::BTreeMap, net::IpAddr, str::FromStr, time::Duration};

use isocast_api::agent::{self as wire, Configuration, Entry, EntryError, Role, entry::Value};

use crate::bgp::Communities;

use super::{
    Backend, Check, ClusterSecret, Failover, HealthCheck, Limits, NodeModel, OnNoLocalBackend,
    Peer, Pool, Port, Protocol, Roles, Service, Uid, Uplink, XdpMode,
};

/// Tenant ids travel in 24 bits of the encapsulation header.
const TENANT_ID_MAX: u32 = (1 << 24) - 1;

/// Why one entry is refused: a sentence for its owner.
type Refusal = String;

pub(super) fn parse(
    configuration: &Configuration,
    limits: Limits,
    in_force: Option<&NodeModel>,
) -> Result<NodeModel, Vec<EntryError>> {
    let mut parsing = Parsing::default();
    for entry in configuration.entries() {
        parsing.entry(entry);
    }
    parsing.refuse_beyond(limits, in_force);
    parsing.finish()
}

/// What has been read so far; errors are collected, so that all owners hear at once.
#[derive(Default)]
struct Parsing {
    node: Option<NodeModel>,
    peers: Vec<Peer>,
    pools: BTreeMap<Uid, Pool>,
    services: BTreeMap<Uid, (String, Service)>,
    sources: Vec<IpAddr>,
    errors: Vec<EntryError>,
}

impl Parsing {
    fn entry(&mut self, entry: &Entry) {
        let outcome = match &entry.value {
            Some(Value::Node(it)) => node(it).map(|it| self.node = Some(it)),
            Some(Value::BgpPeer(it)) => peer::peer(it).map(|it| self.peers.push(it)),
            Some(Value::Pool(it)) => pool(it).map(|(uid, it)| drop(self.pools.insert(uid, it))),
            Some(Value::Service(it)) => service(it).map(|it| {
                self.services.insert(it.uid.clone(), (entry.key.clone(), it));
            }),
            Some(Value::Source(it)) => {
                address(&it.address, "address").map(|it| self.sources.push(it))
            }
            None => Err("the entry has a kind this agent does not know".into()),
        };
        if let Err(message) = outcome {
            self.refuse(&entry.key, "Invalid", message);
        }
    }

    fn refuse_beyond(&mut self, limits: Limits, in_force: Option<&NodeModel>) {
        let is_new = |uid: &Uid| in_force.is_none_or(|model| !model.services.contains_key(uid));
        let (new, old): (Vec<_>, Vec<_>) = self.services.iter().partition(|(uid, _)| is_new(uid));
        let beyond: Vec<String> = old
            .into_iter()
            .chain(new)
            .skip(limits.services)
            .map(|(_, (key, _))| key.clone())
            .collect();
        for key in beyond {
            let message = format!("this node takes at most {} services", limits.services);
            self.refuse(&key, "TooManyServices", message);
        }
    }

    fn finish(mut self) -> Result<NodeModel, Vec<EntryError>> {
        let Some(mut model) = self.node else {
            if self.errors.is_empty() {
                self.errors.push(refusal("node", "Missing", "there is no node entry".into()));
            }
            return Err(self.errors);
        };
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        model.peers = self.peers;
        model.pools = self.pools;
        model.services = self.services.into_iter().map(|(uid, (_, it))| (uid, it)).collect();
        model.sources = self.sources;
        Ok(model)
    }

    fn refuse(&mut self, key: &str, reason: &str, message: String) {
        self.errors.push(refusal(key, reason, message));
    }
}

fn refusal(key: &str, reason: &str, message: String) -> EntryError {
    EntryError { key: key.to_owned(), reason: reason.to_owned(), message }
}

fn node(wire: &wire::Node) -> Result<NodeModel, Refusal> {
    let roles = Roles {
        edge: wire.roles().any(|role| role == Role::Edge),
        backend: wire.roles().any(|role| role == Role::Backend),
    };
    if !roles.edge && !roles.backend {
        return Err("roles: at least one of Edge and Backend".into());
    }
    let secret = wire.cluster_secret.as_slice().try_into();
    let secret = secret.map_err(|_length| {
        format!("cluster_secret: 32 bytes, not {}", wire.cluster_secret.len())
    })?;
    Ok(NodeModel {
        name: wire.name.clone(),
        datacenter: filled(&wire.datacenter, "datacenter")?,
        roles,
        tunnel_addresses: addresses(&wire.tunnel_addresses, "tunnel_addresses")?,
        uplinks: wire.uplinks.iter().map(uplink).collect::<Result<_, _>>()?,
        asn: wire.asn,
        router_id: parsed(&wire.router_id, "router_id")?,
        cluster_secret: ClusterSecret(secret),
        announceable: wire
            .announceable_prefixes
            .iter()
            .map(|text| parsed(text, "announceable_prefixes"))
            .collect::<Result<_, _>>()?,
        peers: Vec::new(),
        pools: BTreeMap::new(),
        services: BTreeMap::new(),
        sources: Vec::new(),
    })
}

fn uplink(wire: &wire::Uplink) -> Result<Uplink, Refusal> {
    let xdp = match wire.xdp_mode() {
        wire::XdpMode::Unspecified => XdpMode::Auto,
        wire::XdpMode::Native => XdpMode::Native,
        wire::XdpMode::Generic => XdpMode::Generic,
    };
    Ok(Uplink { interface: filled(&wire.interface, "uplinks.interface")?, xdp })
}

fn pool(wire: &wire::BackendPool) -> Result<(Uid, Pool), Refusal> {
    let backends = wire.backends.iter().map(backend).collect::<Result<_, _>>()?;
    Ok((filled(&wire.uid, "uid")?.into(), Pool { backends }))
}

fn backend(wire: &wire::Backend) -> Result<Backend, Refusal> {
    Ok(Backend {
        uid: filled(&wire.uid, "backends.uid")?.into(),
        name: wire.name.clone(),
        datacenter: wire.datacenter.clone(),
        node: wire.node.clone(),
        tunnel_address: address(&wire.tunnel_address, "backends.tunnel_address")?,
        weight: wire.weight.max(1),
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
        name: format!("{}/{}", wire.namespace, wire.name),
        generation: wire.generation,
        tenant: wire.tenant_id,
        addresses: addresses(&wire.addresses, "addresses")?,
        ports: wire.ports.iter().map(port).collect::<Result<_, _>>()?,
        pool: (!wire.pool_uid.is_empty()).then(|| Uid::from(wire.pool_uid.as_str())),
        health: health_check(check)?,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn service_entry(uid: &str) -> Entry {
        let check = wire::HealthCheck {
            port: 80,
            interval_ms: 500,
            fast_interval_ms: 100,
            timeout_ms: 300,
            rise: 2,
            fall: 3,
            ..wire::HealthCheck::default()
        };
        let service = wire::Service {
            uid: uid.into(),
            addresses: vec!["203.0.113.10".into()],
            ports: vec![wire::Port {
                protocol: wire::Protocol::Tcp.into(),
                port: 80,
                ..Default::default()
            }],
            health_check: Some(check),
            ..wire::Service::default()
        };
        Entry { key: format!("service/{uid}"), value: Some(Value::Service(service)) }
    }

    fn configuration(services: &[&str]) -> Configuration {
        let node = wire::Node {
            name: "edge-1".into(),
            datacenter: "ams".into(),
            roles: vec![Role::Edge.into()],
            asn: 65010,
            router_id: "10.0.0.1".into(),
            cluster_secret: vec![1; 32],
            ..wire::Node::default()
        };
        let node = Entry { key: "node".into(), value: Some(Value::Node(node)) };
        let services = services.iter().map(|uid| service_entry(uid));
        Configuration::from_entries(services.chain([node])).unwrap()
    }

    const ONE: Limits = Limits { services: 1 };

    #[test]
    fn a_newcomer_beyond_the_limit_is_named_whatever_its_uid() {
        for (old, new) in [("a", "b"), ("b", "a")] {
            let in_force = parse(&configuration(&[old]), ONE, None).unwrap();

            let refused = parse(&configuration(&[old, new]), ONE, Some(&in_force)).unwrap_err();

            assert_eq!(refused.len(), 1);
            assert_eq!(refused[0].key, format!("service/{new}"));
            assert_eq!(refused[0].reason, "TooManyServices");
        }
    }

    #[test]
    fn every_entry_at_fault_is_named() {
        let mut broken = service_entry("b");
        let Some(Value::Service(service)) = &mut broken.value else { unreachable!() };
        service.addresses = vec!["203.0.113.0/24".into()];
        let mut worse = service_entry("c");
        let Some(Value::Service(service)) = &mut worse.value else { unreachable!() };
        service.ports[0].port = 0;
        let all = configuration(&["a"]);
        let all = all.entries().cloned().chain([broken, worse]);

        let refused =
            parse(&Configuration::from_entries(all).unwrap(), Limits { services: 9 }, None)
                .unwrap_err();

        let keys: Vec<_> = refused.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["service/b", "service/c"]);
        assert!(refused[0].message.contains("203.0.113.0/24"), "{}", refused[0].message);
    }

    #[test]
    fn a_configuration_without_a_node_is_refused() {
        let refused = parse(&Configuration::from_entries([service_entry("a")]).unwrap(), ONE, None)
            .unwrap_err();

        assert_eq!(refused[0].reason, "Missing");
    }
}
