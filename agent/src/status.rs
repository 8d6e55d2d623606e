//! What this node says of itself: a pure function of what is in force.
//!
//! Each status is the whole truth, so a lost one is repaired by the next.

mod drains;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use isocast_api::agent::{
    BackendHealth, EntryError, NodeStatus, PeerStatus, PrefixPeer, PrefixStatus, ServiceStatus,
    Verdict,
};

use isocast_bgp::origination::{Elsewhere, Hold, Standing};

use crate::{
    bgp::words,
    health::{self, HealthView, TargetId},
    model::{NodeModel, Service},
    runtime::{PeerTold, Told},
    steer::{Lease, Placement, Plan},
};

/// All that a status depends on.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Revision of the configuration in force.
    pub revision: u64,
    /// What is refused of it.
    pub refused: &'a [EntryError],
    /// The configuration in force.
    pub model: &'a NodeModel,
    /// The plan in force.
    pub plan: &'a Plan,
    /// What the probes found.
    pub health: &'a HealthView,
    /// Addresses that at least one established session announces.
    pub announced: &'a BTreeSet<IpAddr>,
    /// The sessions.
    pub peers: &'a [PeerStatus],
    /// Who was told what, since when.
    pub told: &'a Told,
    /// Generation of tables in the kernel.
    pub generation: u32,
}

/// Composes the status.
#[must_use]
pub fn compose(facts: &Facts<'_>) -> NodeStatus {
    NodeStatus {
        agent_version: env!("CARGO_PKG_VERSION").into(),
        revision: facts.revision,
        services: facts.model.services.values().map(|service| of_service(facts, service)).collect(),
        peers: facts.peers.to_vec(),
        dataplane_generation: facts.generation.into(),
        refused: facts.refused.to_vec(),
        prefixes: prefixes(facts),
        drains: drains::compose(facts),
        keyring: facts.model.keys.id.clone(),
    }
}

/// Every prefix that the node carries, announced or not.
fn prefixes(facts: &Facts<'_>) -> Vec<PrefixStatus> {
    let mut services: BTreeMap<IpNet, Vec<&Service>> = BTreeMap::new();
    for service in facts.model.services.values() {
        for address in &service.addresses {
            services.entry(IpNet::from(*address)).or_default().push(service);
        }
    }
    let leases: BTreeMap<IpAddr, &Lease> =
        facts.plan.leases.iter().map(|lease| (lease.address, lease)).collect();
    let status = |(prefix, standing): (&IpNet, &Standing)| PrefixStatus {
        prefix: prefix.to_string(),
        announced: standing.is_announced(),
        reason: standing.reason().into(),
        message: standing.message().into(),
        communities: leases
            .get(&prefix.addr())
            .map(|lease| words::communities(&lease.communities))
            .unwrap_or_default(),
        services: services
            .get(prefix)
            .into_iter()
            .flatten()
            .map(|service| format!("{}/{}", service.namespace, service.name))
            .collect(),
        peers: facts.told.of(*prefix).map(of_peer).collect(),
    };
    facts.plan.standings.iter().map(status).collect()
}

fn of_peer(told: PeerTold<'_>) -> PrefixPeer {
    PrefixPeer {
        peer: told.peer.to_owned(),
        since_ms: told.since_ms.unwrap_or_default(),
        withheld: told.withheld.map(words::withheld).unwrap_or_default().to_owned(),
    }
}

fn of_service(facts: &Facts<'_>, service: &Service) -> ServiceStatus {
    let programmed = format!("generation {} of the tables is in force", facts.generation);
    let pool = service.pool.as_ref().and_then(|uid| facts.model.pools.get(uid));
    ServiceStatus {
        uid: service.uid.to_string(),
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        pool: pool.map(|pool| pool.name.clone()).unwrap_or_default(),
        generation: service.generation,
        programmed: Some(verdict(true, "Programmed", programmed)),
        announced: Some(announced(facts, service)),
        healthy: Some(healthy(facts, service)),
        announced_prefixes: service
            .addresses
            .iter()
            .filter(|address| facts.announced.contains(address))
            .map(|address| IpNet::from(*address).to_string())
            .collect(),
        backends: backends(facts, service),
        keeper: is_keeper(facts, service),
    }
}

fn announced(facts: &Facts<'_>, service: &Service) -> Verdict {
    if !facts.model.roles.edge {
        return verdict(false, "NotAnEdge", "backends announce nothing".into());
    }
    let standing = |address: &IpAddr| facts.plan.standings.get(&IpNet::from(*address));
    let (told, missing): (Vec<IpAddr>, Vec<IpAddr>) =
        service.addresses.iter().partition(|address| facts.announced.contains(address));
    let names = |addresses: &[IpAddr]| -> String {
        let names = addresses.iter().map(|address| IpNet::from(*address).to_string());
        names.collect::<Vec<_>>().join(", ")
    };
    let unspoken: Vec<_> = missing
        .iter()
        .copied()
        .filter(|address| standing(address).is_some_and(Standing::is_announced))
        .collect();
    if service.addresses.is_empty() {
        return verdict(false, "NoAddress", "the service has no allocated address".into());
    }
    if !unspoken.is_empty() {
        let message = format!("no session announces {}", names(&unspoken));
        return verdict(false, "NoSession", message);
    }
    if let Some(first) = missing.first() {
        let (reason, message) = standing(first)
            .map_or(("NotSteered", "it is not steered yet"), |it| (it.reason(), it.message()));
        return verdict(false, reason, format!("{}: {message}", names(&missing)));
    }
    let plain = Standing::Announced { graceful_shutdown: false };
    let special = told.iter().filter_map(standing).find(|it| **it != plain);
    let sessions = facts.peers.iter().filter(|peer| peer.state == "Established").count();
    match special {
        Some(standing) => verdict(true, standing.reason(), standing.message().into()),
        None if facts.model.departures.missing.contains(&service.uid) => {
            let hold = Hold::Missing;
            verdict(true, hold.reason(), hold.message().into())
        }
        None => verdict(true, "Announced", format!("{sessions} established sessions")),
    }
}

/// Whether the node knows that it must not stop announcing the service by itself.
fn is_keeper(facts: &Facts<'_>, service: &Service) -> bool {
    let elsewhere = facts.plan.memory.elsewhere.get(&service.uid);
    matches!(elsewhere, Some(Elsewhere::Known { keeper: true, .. }))
}

fn healthy(facts: &Facts<'_>, service: &Service) -> Verdict {
    let Some(plan) = facts.plan.services.get(&service.uid) else {
        return verdict(false, "Unknown", "the service is not steered yet".into());
    };
    let (status, reason) = match &plan.placement {
        Placement::Held { reason } => (false, *reason),
        Placement::Local => (true, "LocalBackends"),
        Placement::Remote { .. } => (true, "RemoteBackends"),
        Placement::Regardless => (false, "ServingAnyway"),
        Placement::Unjudged => (false, "HealthUnknown"),
        Placement::Nowhere { reason } => (false, *reason),
    };
    verdict(status, reason, plan.message.to_string())
}

fn backends(facts: &Facts<'_>, service: &Service) -> Vec<BackendHealth> {
    let pool = service.pool.as_ref().and_then(|uid| facts.model.pools.get(uid));
    let members = pool.into_iter().flat_map(|pool| &pool.backends);
    let health_of = |backend: &crate::model::Backend| {
        let target = TargetId { service: service.uid.clone(), backend: backend.uid.clone() };
        BackendHealth {
            uid: backend.uid.to_string(),
            name: backend.name.clone(),
            datacenter: backend.datacenter.clone(),
            healthy: facts.health.verdict(&target) == health::Verdict::Healthy,
            reason: facts.health.reason(&target).to_string(),
        }
    };
    if facts.model.roles.edge { members.map(health_of).collect() } else { Vec::new() }
}

fn verdict(status: bool, reason: &str, message: String) -> Verdict {
    Verdict { status, reason: reason.into(), message }
}
