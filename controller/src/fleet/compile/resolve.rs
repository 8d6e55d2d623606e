//! What a service's names stand for: its tenant, its addresses, its backends.

use std::collections::BTreeSet;

use isocast_api::{
    agent as wire,
    meta::{ConditionStatus, Finding},
    network::{AnycastService, Backend, BackendPool, Node, NodeRole},
    text::HostAddress,
};

use super::{
    World,
    entries::{self, Tenant},
};

/// A service as nodes will see it.
#[derive(Clone, Debug)]
pub(super) struct ResolvedService {
    pub(super) wire: wire::Service,
    pub(super) pool: Option<wire::BackendPool>,
    pub(super) addresses: Vec<HostAddress>,
    /// The first thing that is wrong with what the service refers to.
    pub(super) problem: Option<Finding>,
    /// Whether somebody is removing it.
    pub(super) is_leaving: bool,
    /// Whether anything may be announced for it.
    usable: bool,
    /// Names of the nodes in its pool.
    backends: BTreeSet<String>,
}

/// Condition of an object whose references all stand for something.
pub(in crate::fleet) const RESOLVED_REFS: &str = "ResolvedRefs";

impl ResolvedService {
    /// Whether `node` must know of the service.
    pub(super) fn concerns(&self, node: &Node) -> bool {
        self.usable && (node.spec.has_role(NodeRole::Edge) || self.is_served_by(node.name()))
    }

    /// Whether edges carry it.
    pub(super) fn is_usable(&self) -> bool {
        self.usable
    }

    /// Whether the pool names `node`.
    pub(super) fn is_served_by(&self, node: &str) -> bool {
        self.backends.contains(node)
    }
}

pub(super) fn service(world: &World, service: &AnycastService) -> ResolvedService {
    let mut problems = Vec::new();
    let tenant = tenant(world, service, &mut problems);
    let addresses = addresses(world, service, &mut problems);
    let pool = pool(world, service, &mut problems);
    let is_leaving = is_leaving(world, service);
    ResolvedService {
        is_leaving,
        usable: tenant.is_some() && !addresses.is_empty() && !is_leaving,
        wire: entries::service(
            service,
            tenant.map(|id| Tenant { id, limits: tenant_limits(world, service.namespace()) }),
            &addresses,
            pool.as_ref(),
        ),
        backends: pool.iter().flat_map(|pool| &pool.backends).map(|it| it.node.clone()).collect(),
        pool,
        addresses,
        problem: problems.into_iter().next(),
    }
}

/// The addresses of a service that edges announce, whatever its health.
pub(super) fn announceable(world: &World, service: &AnycastService) -> Vec<HostAddress> {
    let unused = &mut Vec::new();
    if is_leaving(world, service) || tenant(world, service, unused).is_none() {
        return Vec::new();
    }
    addresses(world, service, unused)
}

/// Whether somebody is removing the service, or what it lives in.
fn is_leaving(world: &World, service: &AnycastService) -> bool {
    service.metadata.deletion_timestamp.is_some() || world.is_leaving(service.namespace())
}

fn problem(reason: &str, message: String) -> Finding {
    Finding::new(RESOLVED_REFS, ConditionStatus::False, reason, message)
}

fn tenant(world: &World, service: &AnycastService, problems: &mut Vec<Finding>) -> Option<u32> {
    let namespace = service.namespace();
    let organization = world.organization_of(namespace);
    let tenant = organization.and_then(|organization| organization.status.tenant_id);
    if tenant.is_none() {
        let message = format!("namespace {namespace:?} belongs to no organization");
        problems.push(problem("TenantNotFound", message));
    }
    tenant
}

/// Ceilings on all services of an organization: of those that its grants name, the lowest.
fn tenant_limits(world: &World, namespace: &str) -> Option<wire::Ceilings> {
    let organization = world.organization_of(namespace)?;
    let uid = &organization.metadata.uid;
    let grants =
        world.address_pools.values().filter_map(|pool| pool.grant_of(organization.name(), uid));
    let limits: Vec<_> = grants.filter_map(|grant| grant.limits.as_ref()).collect();
    let packets = limits.iter().filter_map(|it| it.packets_per_second).min();
    let new_flows = limits.iter().filter_map(|it| it.new_flows_per_second).min();
    entries::ceilings(packets, new_flows)
}

fn addresses(
    world: &World,
    service: &AnycastService,
    problems: &mut Vec<Finding>,
) -> Vec<HostAddress> {
    let mut addresses = Vec::new();
    for address in &service.spec.addresses {
        match claimed(world, service.namespace(), address.claim.as_str()) {
            Ok(address) => addresses.push(address),
            Err(finding) => problems.push(finding),
        }
    }
    addresses
}

/// The address that a claim holds, as long as its pool is granted to the claim's organization.
fn claimed(world: &World, namespace: &str, name: &str) -> Result<HostAddress, Finding> {
    let key = (namespace.to_owned(), name.to_owned());
    let not_found =
        || problem("AddressClaimNotFound", format!("there is no addressclaim {name:?}"));
    let claim = world.claims.get(&key).ok_or_else(not_found)?;
    let no_address =
        || problem("AddressNotAllocated", format!("addressclaim {name:?} has no address"));
    let address = claim.status.address.ok_or_else(no_address)?;
    let pool = world.address_pools.get(claim.spec.pool.as_str());
    let organization = world.organization_of(namespace);
    let is_granted = pool.zip(organization).is_some_and(|(pool, organization)| {
        pool.grant_of(organization.name(), &organization.metadata.uid).is_some()
    });
    if is_granted {
        Ok(address)
    } else {
        let message = format!(
            "addresspool {:?} of addressclaim {name:?} is not granted to the organization",
            claim.spec.pool.as_str(),
        );
        Err(problem("AddressPoolNotGranted", message))
    }
}

fn pool(
    world: &World,
    service: &AnycastService,
    problems: &mut Vec<Finding>,
) -> Option<wire::BackendPool> {
    let name = service.spec.backend_pool.as_str();
    let Some(pool) = world.backend_pools.get(service.namespace(), name) else {
        let message = format!("there is no backendpool {name:?}");
        problems.push(problem("BackendPoolNotFound", message));
        return None;
    };
    let (backends, unresolved) = backends(world, &pool);
    problems.extend(unresolved);
    Some(wire::BackendPool {
        uid: pool.metadata.uid.clone(),
        namespace: pool.namespace().to_owned(),
        name: name.to_owned(),
        backends,
        slow_start_ms: pool.spec.slow_start.map_or(0, entries::millis),
    })
}

/// A pool's backends, and what is wrong with those that are left out.
pub(in crate::fleet) fn backends(
    world: &World,
    pool: &BackendPool,
) -> (Vec<wire::Backend>, Vec<Finding>) {
    let mut resolved = Vec::new();
    let mut problems = Vec::new();
    for it in &pool.spec.backends {
        match backend(world, pool, it) {
            Ok(backend) => resolved.push(backend),
            Err(finding) => problems.push(finding),
        }
    }
    if pool.spec.backends.is_empty() {
        problems.push(problem("NoBackends", format!("backendpool {:?} is empty", pool.name())));
    }
    // The order of the list means nothing, so it shall change nothing.
    resolved.sort_by(|a, b| a.uid.cmp(&b.uid));
    (resolved, problems)
}

fn backend(world: &World, pool: &BackendPool, it: &Backend) -> Result<wire::Backend, Finding> {
    let of_pool = |message: String| format!("backendpool {:?}: {message}", pool.name());
    if let Some(name) = &it.node {
        let not_found =
            || problem("NodeNotFound", of_pool(format!("there is no node {:?}", name.as_str())));
        let node = world.nodes.get(name.as_str()).ok_or_else(not_found)?;
        if !node.spec.has_role(NodeRole::Backend) {
            let message = format!("node {:?} does not have the role Backend", node.name());
            return Err(problem("NodeNotABackend", of_pool(message)));
        }
        return Ok(entries::node_backend(pool, node, it.weight));
    }
    match (it.address, &it.datacenter) {
        (Some(address), Some(datacenter)) => {
            Ok(entries::address_backend(pool, address, datacenter.as_str(), it.weight))
        }
        _ => Err(problem("Invalid", of_pool("a backend has neither node nor address".to_owned()))),
    }
}
