//! Whom a drain concerns: which edges stop announcing which services.
//!
//! Shared by what compiles drains, what judges them before they begin and what reports on them, so
//! that all three mean the same.

use std::collections::BTreeSet;

use ipnet::IpNet;
use isocast_api::{
    agent::{self as wire, drain::Target},
    network::{
        AnycastService, Datacenter, DatacenterState, Drain, DrainTargetKind, Node, NodeRole,
    },
};

use super::World;

/// How long a draining datacenter announces that it is going, while traffic still arrives.
const DATACENTER_DRAIN_S: u32 = 10;

/// The edges that stop announcing, in order of their names.
#[must_use]
pub fn nodes<'a>(world: &'a World, drain: &Drain) -> Vec<&'a Node> {
    let target = &drain.spec.target;
    let name = target.name.as_str();
    let is_concerned = |node: &&Node| {
        node.spec.has_role(NodeRole::Edge)
            && match target.kind {
                DrainTargetKind::AnycastService => service(world, drain).is_some(),
                DrainTargetKind::Datacenter => node.spec.datacenter.as_str() == name,
                DrainTargetKind::Node => node.name() == name,
            }
    };
    world.nodes.values().filter(is_concerned).collect()
}

/// Whether there is what is to be drained.
#[must_use]
pub fn has_target(world: &World, drain: &Drain) -> bool {
    let name = drain.spec.target.name.as_str();
    match drain.spec.target.kind {
        DrainTargetKind::AnycastService => service(world, drain).is_some(),
        DrainTargetKind::Datacenter => world.datacenters.contains_key(name),
        DrainTargetKind::Node => world.nodes.contains_key(name),
    }
}

/// Prefixes that nobody would announce any more once `drain` and all others are done, as far as
/// nodes have said who announces what; each with its service.
#[must_use]
pub fn last_announced(world: &World, drain: &Drain) -> BTreeSet<(IpNet, String)> {
    let drained: BTreeSet<&str> = nodes(world, drain).into_iter().map(Node::name).collect();
    let mut lost = BTreeSet::new();
    for service in world.services.values().filter(|service| concerns(drain, service)) {
        let leaving = leaving(world, service);
        let announcers = service.status.datacenters.iter().flat_map(|site| &site.announced_by);
        let announcers: BTreeSet<&str> = announcers.map(String::as_str).collect();
        let stays = |name: &&&str| !drained.contains(**name) && !leaving.contains(**name);
        if announcers.is_disjoint(&drained) || announcers.iter().any(|name| stays(&name)) {
            continue;
        }
        let name = format!("{}/{}", service.namespace(), service.name());
        let prefixes = service.status.addresses.iter().map(|address| address.host_route());
        lost.extend(prefixes.map(|prefix| (prefix, name.clone())));
    }
    lost
}

/// The edges where `service` is drained already.
fn leaving<'a>(world: &'a World, service: &AnycastService) -> BTreeSet<&'a str> {
    let drains = world.drains.values().filter(|drain| is_on(drain) && concerns(drain, service));
    let of_drains = drains.flat_map(|drain| nodes(world, drain));
    let of_datacenters = world.nodes.values().filter(|node| is_draining_site(world, node));
    of_drains.chain(of_datacenters).map(Node::name).collect()
}

/// The drains that `node` is in, as it is told of them.
pub(super) fn of_node(world: &World, node: &Node) -> Vec<wire::Drain> {
    let here = |drain: &&Drain| nodes(world, drain).iter().any(|it| it.name() == node.name());
    let drains = world.drains.values().filter(|drain| is_on(drain)).filter(here);
    let drains = drains.filter_map(|drain| {
        let target = match drain.spec.target.kind {
            DrainTargetKind::AnycastService => {
                Target::Service(service(world, drain)?.metadata.uid.clone())
            }
            DrainTargetKind::Datacenter => Target::Datacenter(drain.spec.target.name.to_string()),
            DrainTargetKind::Node => Target::Node(drain.spec.target.name.to_string()),
        };
        let wait_s = drain.spec.wait.as_millis().div_ceil(1000);
        Some(wire::Drain {
            uid: drain.metadata.uid.clone(),
            name: format!("{}/{}", drain.namespace(), drain.name()),
            target: Some(target),
            wait_s: u32::try_from(wait_s).unwrap_or(u32::MAX),
            confirmed: drain.spec.confirm_last_announcer,
        })
    });
    drains.chain(site(world, node).map(of_site)).collect()
}

fn of_site(datacenter: &Datacenter) -> wire::Drain {
    wire::Drain {
        uid: datacenter.metadata.uid.clone(),
        name: datacenter.name().to_owned(),
        wait_s: DATACENTER_DRAIN_S,
        // Nobody was asked whether the last announcer may go.
        confirmed: false,
        target: Some(Target::Datacenter(datacenter.name().to_owned())),
    }
}

/// The node's datacenter, if it drains.
fn site<'a>(world: &'a World, node: &Node) -> Option<&'a Datacenter> {
    let datacenter = world.datacenters.get(node.spec.datacenter.as_str())?;
    (datacenter.spec.state == DatacenterState::Draining).then_some(datacenter)
}

fn is_draining_site(world: &World, node: &Node) -> bool {
    site(world, node).is_some()
}

/// The service that `drain` is about; none if it is about none, or if there is none.
fn service<'a>(world: &'a World, drain: &Drain) -> Option<&'a AnycastService> {
    let target = &drain.spec.target;
    let key = (namespace(drain).to_owned(), target.name.to_string());
    let found = || world.services.get(&key);
    (target.kind == DrainTargetKind::AnycastService).then(found).flatten()
}

fn concerns(drain: &Drain, service: &AnycastService) -> bool {
    drain.spec.target.kind != DrainTargetKind::AnycastService
        || (service.namespace() == namespace(drain)
            && service.name() == drain.spec.target.name.as_str())
}

/// Where the service is that `drain` is about.
#[must_use]
pub fn namespace(drain: &Drain) -> &str {
    drain.spec.target.namespace.as_ref().map_or_else(|| drain.namespace(), |name| name.as_str())
}

/// Whether nobody is cancelling it.
fn is_on(drain: &Drain) -> bool {
    drain.metadata.deletion_timestamp.is_none()
}
