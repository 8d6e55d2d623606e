//! From objects to configurations: what each node shall run.
//!
//! Pure: the same objects give the same entries, byte for byte, so an unchanged node sees an
//! unchanged digest. References are resolved once for all nodes; what does not resolve becomes a
//! [`Finding`] for its owner and never an error, for one tenant's mistake must not hold up
//! another's change.
//!
//! | a node with the role | gets |
//! |---|---|
//! | any | its own entry |
//! | Edge | its BGP peers, every service that has an address, those services' pools, drains, and tombstones of what is gone |
//! | Backend | the services whose pools name it, their pools, and the sources to believe |

pub mod drains;
mod entries;
mod exports;
mod peering;
mod resolve;
#[cfg(test)]
mod tests;
mod texts;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use isocast_api::{
    agent::{Configuration, EncapSource, Entry, Tombstone, entry::Value},
    meta::Finding,
    network::{BgpPeer, Node, NodeRole},
    text::HostAddress,
};

use self::resolve::ResolvedService;
pub(super) use self::resolve::{RESOLVED_REFS, backends};
pub use self::{
    exports::{Exports, Told},
    texts::Texts,
    world::{Objects, World},
};

/// What all nodes shall run.
#[derive(Debug)]
pub struct Compilation {
    world: Arc<World>,
    /// By uid.
    services: BTreeMap<String, ResolvedService>,
    /// What edges must be told is gone.
    tombstones: Vec<Tombstone>,
}

impl Compilation {
    /// Resolves everything that nodes share.
    #[must_use]
    pub fn new(world: Arc<World>) -> Self {
        let services = world
            .services
            .values()
            .map(|service| (service.metadata.uid.clone(), resolve::service(&world, service)));
        Self { services: services.collect(), world, tombstones: Vec::new() }
    }

    /// The services that edges carry: uid, name and host routes.
    pub(super) fn carried(&self) -> impl Iterator<Item = (&str, String, BTreeSet<IpNet>)> {
        self.services.iter().filter(|(_, service)| service.is_usable()).map(|(uid, service)| {
            let name = format!("{}/{}", service.wire.namespace, service.wire.name);
            let prefixes = service.addresses.iter().map(|address| address.host_route()).collect();
            (uid.as_str(), name, prefixes)
        })
    }

    /// Why a service whose object is there is not carried.
    pub(super) fn reason(&self, service_uid: &str) -> Option<&str> {
        let service = self.services.get(service_uid).filter(|it| !it.is_leaving)?;
        Some(service.problem.as_ref().map_or("NotUsable", |problem| problem.reason.as_str()))
    }

    /// A service that is gone stays as it was in `before`, for now.
    pub(super) fn hold(&mut self, service_uid: &str, before: &Self) {
        if let Some(service) = before.services.get(service_uid) {
            self.services.insert(service_uid.to_owned(), service.clone());
        }
    }

    /// Tells edges what is gone.
    pub(super) fn set_tombstones(&mut self, tombstones: Vec<Tombstone>) {
        self.tombstones = tombstones;
    }

    /// The objects it was made of.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// What `node` shall run; none if there is no such node.
    #[must_use]
    pub fn configuration(&self, node: &str) -> Option<Configuration> {
        let node = self.world.nodes.get(node)?;
        let services: Vec<_> =
            self.services.values().filter(|service| service.concerns(node)).collect();
        let mut entries = BTreeMap::new();
        let announceable = self.announceable(node, &services);
        let mut own = entries::node(node, &self.world.keyring, &announceable);
        // Without any service anywhere nobody can tell a beginning from a store that lost what it
        // had: it is no order to stop.
        own.idle = services.is_empty() && !self.services.is_empty();
        entries.insert("node".to_owned(), Value::Node(own));
        for peer in self.peers(node) {
            let key = format!("bgppeer/{}", peer.metadata.uid);
            entries.insert(key, Value::BgpPeer(peering::bgp_peer(&self.world, peer)));
        }
        for service in &services {
            let wire = service.wire.clone();
            entries.insert(format!("service/{}", wire.uid), Value::Service(wire));
            if let Some(pool) = &service.pool {
                entries.insert(format!("pool/{}", pool.uid), Value::Pool(pool.clone()));
            }
        }
        if node.spec.has_role(NodeRole::Edge) {
            let peers = entries.keys().any(|key| key.starts_with("bgppeer/"));
            // An edge keeps its last routers unless each of them is said to be gone.
            let others = self.world.peers.values().filter(|_| !peers).map(|peer| Tombstone {
                uid: peer.metadata.uid.clone(),
                name: peer.name().to_owned(),
                reason: "NotSelected".to_owned(),
            });
            for tombstone in self.tombstones.iter().cloned().chain(others) {
                let key = format!("tombstone/{}", tombstone.uid);
                entries.insert(key, Value::Tombstone(tombstone));
            }
            for drain in drains::of_node(&self.world, node) {
                entries.insert(format!("drain/{}", drain.uid), Value::Drain(drain));
            }
        }
        for source in self.sources(node, &services) {
            entries.insert(format!("source/{}", source.address), Value::Source(source));
        }
        let entries = entries.into_iter().map(|(key, value)| Entry { key, value: Some(value) });
        // Keys of a map are unique, and none of these is empty.
        Configuration::from_entries(entries).ok()
    }

    /// What is wrong with what a service refers to; none if nothing is.
    #[must_use]
    pub fn problem(&self, service_uid: &str) -> Option<&Finding> {
        self.services.get(service_uid)?.problem.as_ref()
    }

    /// Names of the nodes that carry a service, as edges or backends.
    #[must_use]
    pub fn carriers(&self, service_uid: &str) -> Vec<&Node> {
        let service = self.services.get(service_uid);
        let carries = |node: &&Node| service.is_some_and(|service| service.concerns(node));
        self.world.nodes.values().filter(carries).collect()
    }

    /// The addresses that a service has.
    #[must_use]
    pub fn addresses(&self, service_uid: &str) -> &[HostAddress] {
        let service = self.services.get(service_uid);
        service.map(|service| service.addresses.as_slice()).unwrap_or_default()
    }

    /// The nodes that speak with a router.
    #[must_use]
    pub fn speakers(&self, peer: &BgpPeer) -> Vec<&Node> {
        let edges = self.world.nodes.values().filter(|node| node.spec.has_role(NodeRole::Edge));
        edges.filter(|node| speaks_with(node, peer)).collect()
    }

    /// The routers that `node` speaks with; of two with one address the first by name.
    fn peers(&self, node: &Node) -> impl Iterator<Item = &BgpPeer> {
        let speaks = node.spec.has_role(NodeRole::Edge);
        let mut seen = BTreeSet::new();
        let peers = self.world.peers.values();
        let remote = |peer: &BgpPeer| (peer.spec.address, peer.spec.prefix);
        peers.filter(move |peer| speaks && speaks_with(node, peer) && seen.insert(remote(peer)))
    }

    /// The host routes that `node` may announce at all.
    fn announceable(&self, node: &Node, services: &[&ResolvedService]) -> BTreeSet<IpNet> {
        let has_datacenter = self.world.datacenters.contains_key(node.spec.datacenter.as_str());
        if !has_datacenter || !node.spec.has_role(NodeRole::Edge) {
            return BTreeSet::new();
        }
        services.iter().flat_map(|service| &service.addresses).map(|it| it.host_route()).collect()
    }

    /// Whose encapsulated packets `node` believes: every edge's, and those of backends that may
    /// hand it a flow that was its own before a ring changed.
    fn sources(&self, node: &Node, services: &[&ResolvedService]) -> Vec<EncapSource> {
        if !node.spec.has_role(NodeRole::Backend) {
            return Vec::new();
        }
        let shares_pool = |other: &Node| {
            services.iter().any(|service| {
                service.is_served_by(node.name()) && service.is_served_by(other.name())
            })
        };
        self.world
            .nodes
            .values()
            .filter(|other| other.name() != node.name())
            .filter(|other| other.spec.has_role(NodeRole::Edge) || shares_pool(other))
            .flat_map(entries::sources)
            .collect()
    }
}

/// Whether `peer` names or selects `node`.
fn speaks_with(node: &Node, peer: &BgpPeer) -> bool {
    match &peer.spec.node_selector {
        Some(selector) => selector
            .match_labels
            .iter()
            .all(|(key, value)| node.metadata.labels.get(key) == Some(value)),
        None => peer.spec.nodes.iter().any(|name| name.as_str() == node.name()),
    }
}
