//! Which backends should get a service's new flows.
//!
//! Own datacenter first; then, where the policy allows it, the first other datacenter in order
//! of preference with enough healthy backends; health is ignored only when no eligible
//! datacenter has enough, and only with `ServeAnyway`. A backend that is drained gets none, however
//! well it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use isocast_bgp::origination::{Hold, Standing};

use super::{Inputs, Member};
use crate::{
    health::{HealthView, Verdict},
    model::{Backend, MidFlowMove, NodeModel, OnNoLocalBackend, Service, Uid},
};

/// Where new flows should go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Backends in order of uid.
    pub members: Vec<Member>,
    /// Backends that must leave the ring without waiting: dead, or no longer in the pool.
    pub urgent: BTreeSet<Uid>,
    /// Backends that keep their flows for as long as they are drained.
    pub drained: BTreeSet<Uid>,
    /// Where that is, and why.
    pub placement: Placement,
    /// A sentence for the service's owner.
    pub message: Arc<str>,
}

/// Where a service's new flows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To whatever backends there are: the route is held although none is good enough.
    Held {
        /// CamelCase, for a condition.
        reason: &'static str,
    },
    /// To healthy backends of this datacenter.
    Local,
    /// Nowhere: no backend is good enough.
    Nowhere {
        /// CamelCase, for a condition.
        reason: &'static str,
    },
    /// Over the backbone to that datacenter.
    Remote {
        /// Its name.
        datacenter: String,
    },
    /// To the local backends although none is healthy.
    Regardless,
    /// Nowhere yet: too few backends have been judged.
    Unjudged,
}

/// Selects the members of a service's first ring: not before every backend of this datacenter
/// has been judged. Flows would start where the first probe happened to return, and move at once.
pub(super) fn select_first(model: &NodeModel, service: &Service, health: &HealthView) -> Selection {
    let pool = service.pool.as_ref().and_then(|uid| model.pools.get(uid));
    let unjudged = |backend: &&Backend| {
        backend.datacenter == model.datacenter
            && !backend.is_drained()
            && health.of(&service.uid, &backend.uid) == Verdict::Unknown
    };
    let waiting = pool.map_or(0, |pool| pool.backends.iter().filter(unjudged).count());
    if waiting > 0 {
        let message = format!("{waiting} backends in {} are not judged yet", model.datacenter);
        return nowhere(Placement::Unjudged, &message, None);
    }
    select(model, service, health)
}

/// Selects the members of a service's ring.
pub(super) fn select(model: &NodeModel, service: &Service, health: &HealthView) -> Selection {
    let Some(pool) = service.pool.as_ref().and_then(|uid| model.pools.get(uid)) else {
        let placement = Placement::Nowhere { reason: "UnknownBackendPool" };
        return nowhere(placement, "the backend pool does not exist", None);
    };
    let verdict = |backend: &Backend| health.of(&service.uid, &backend.uid);
    let mut by_datacenter: BTreeMap<&str, Vec<&Backend>> = BTreeMap::new();
    let (drained, serving): (Vec<_>, Vec<_>) =
        pool.backends.iter().partition(|backend| backend.is_drained());
    for backend in serving {
        by_datacenter.entry(&backend.datacenter).or_default().push(backend);
    }
    let healthy_in = |datacenter: &str| -> Vec<&Backend> {
        let all = by_datacenter.get(datacenter).into_iter().flatten().copied();
        all.filter(|backend| verdict(backend) == Verdict::Healthy).collect()
    };
    let here = model.datacenter.as_str();
    let dead: BTreeSet<Uid> = pool
        .backends
        .iter()
        .filter(|backend| verdict(backend) == Verdict::Unhealthy)
        .map(|backend| backend.uid.clone())
        .collect();
    let kept = drained.iter().filter(|backend| verdict(backend) != Verdict::Unhealthy);
    let kept: BTreeSet<Uid> = kept.map(|backend| backend.uid.clone()).collect();
    let known: BTreeSet<Uid> = pool.backends.iter().map(|backend| backend.uid.clone()).collect();

    let chosen = |backends: &[&Backend], placement: Placement, message: String| Selection {
        members: members(backends),
        urgent: dead.clone(),
        drained: kept.clone(),
        placement,
        message: message.into(),
    };
    let min = service.failover.min_healthy;
    let local = healthy_in(here);
    let total = by_datacenter.get(here).map_or(0, Vec::len);
    let and_drained = match drained.iter().filter(|it| it.datacenter == here).count() {
        0 => String::new(),
        count => format!(", {count} drained"),
    };
    if local.len() >= min {
        let message =
            format!("{} of {total} backends in {here} are healthy{and_drained}", local.len());
        return chosen(&local, Placement::Local, message);
    }
    let policy = service.failover.on_no_local_backend;
    if policy != OnNoLocalBackend::Withdraw {
        for datacenter in others(here, &service.failover.preference, by_datacenter.keys()) {
            let healthy = healthy_in(&datacenter);
            if healthy.len() >= min {
                let message = format!(
                    "{} of {total} backends in {here} are healthy{and_drained}: served by {} in \
                     {datacenter}",
                    local.len(),
                    healthy.len(),
                );
                return chosen(&healthy, Placement::Remote { datacenter }, message);
            }
        }
    }
    if policy == OnNoLocalBackend::ServeAnyway
        && let Some(all) = by_datacenter.get(here)
    {
        let message = format!("no backend is healthy anywhere: all {total} in {here} are used");
        return Selection {
            urgent: BTreeSet::new(),
            ..chosen(all, Placement::Regardless, message)
        };
    }
    let message = format!(
        "{} of {total} backends in {here} are healthy{and_drained}, {min} needed",
        local.len()
    );
    let is_unjudged = |backend: &Backend| {
        let is_eligible = policy != OnNoLocalBackend::Withdraw || backend.datacenter == here;
        is_eligible && !backend.is_drained() && verdict(backend) == Verdict::Unknown
    };
    let placement = if pool.backends.iter().any(is_unjudged) {
        Placement::Unjudged
    } else {
        Placement::Nowhere { reason: "NoHealthyBackend" }
    };
    nowhere(placement, &message, Some(known))
}

/// Selects the members of a ring whose route is held: every backend of this datacenter, or else
/// those that were in the ring last. Verdicts are not believed any more, unless the hold is only
/// for those that are yet to come.
pub(super) fn select_held(
    inputs: &Inputs<'_>,
    service: &Service,
    last: &[Member],
    standing: &Standing,
) -> Selection {
    let Inputs { model, health, .. } = inputs;
    let pool = service.pool.as_ref().and_then(|uid| model.pools.get(uid));
    let is_waiting = standing.hold() == Some(Hold::Unjudged);
    let is_dead = |backend: &Backend| health.of(&service.uid, &backend.uid) == Verdict::Unhealthy;
    let all = pool.into_iter().flat_map(|pool| &pool.backends);
    let (local, remote): (Vec<_>, Vec<_>) = all
        .filter(|backend| !backend.is_drained() && (!is_waiting || !is_dead(backend)))
        .partition(|backend| backend.datacenter == model.datacenter);
    let local = if local.is_empty() && is_waiting { remote } else { local };
    let members = if local.is_empty() { last.to_vec() } else { members(&local) };
    let message = format!("{}; {} backends are used", standing.message(), members.len());
    // Those that were in the ring are dead, or no longer in the pool.
    let gone = last.iter().filter(|_| is_waiting).map(|member| member.uid.clone());
    Selection {
        urgent: gone.collect(),
        drained: BTreeSet::new(),
        members,
        placement: Placement::Held { reason: standing.reason() },
        message: message.into(),
    }
}

/// Backends of datacenters other than the one that `placement` chose, by its name and in order
/// of preference, for a service whose flows may have been moved here from there. Those not judged yet
/// are among them: a flow may arrive before the first check returns. `None`: such flows are nobody's.
pub(super) fn elsewhere(
    inputs: &Inputs<'_>,
    service: &Service,
    placement: &Placement,
) -> Option<Vec<(String, Vec<Member>)>> {
    let Inputs { model, health, .. } = inputs;
    let pool = service.pool.as_ref().and_then(|uid| model.pools.get(uid));
    let (MidFlowMove::Rescue, Some(pool)) = (service.mid_flow_move, pool) else {
        return None;
    };
    let chosen = match placement {
        Placement::Remote { datacenter } => datacenter,
        _ => &model.datacenter,
    };
    let present: BTreeSet<&str> = pool.backends.iter().map(|it| it.datacenter.as_str()).collect();
    let alive = |datacenter: String| {
        let is_alive = |backend: &&Backend| {
            backend.datacenter == datacenter
                && !backend.is_drained()
                && health.of(&service.uid, &backend.uid) != Verdict::Unhealthy
        };
        let members = members(&pool.backends.iter().filter(is_alive).collect::<Vec<_>>());
        (datacenter, members)
    };
    let others = others(chosen, &service.failover.preference, present.iter());
    let others = others.into_iter().map(alive).filter(|(_, members)| !members.is_empty());
    Some(others.collect())
}

/// Other datacenters with backends: the preferred ones in their order, then the rest by name.
fn others<'a>(
    here: &str,
    preference: &[String],
    present: impl Iterator<Item = &'a &'a str>,
) -> Vec<String> {
    let present: BTreeSet<&str> = present.copied().filter(|name| *name != here).collect();
    let mut order: Vec<&str> = Vec::with_capacity(present.len());
    let preferred = preference.iter().map(String::as_str).filter(|name| present.contains(name));
    for name in preferred.chain(present.iter().copied()) {
        if !order.contains(&name) {
            order.push(name);
        }
    }
    order.into_iter().map(str::to_owned).collect()
}

fn members(backends: &[&Backend]) -> Vec<Member> {
    let mut members: Vec<_> = backends
        .iter()
        .map(|backend| Member {
            uid: backend.uid.clone(),
            tunnel_address: backend.tunnel_address,
            weight: backend.weight,
            share: Member::WHOLE,
            encap: backend.encap(),
        })
        .collect();
    members.sort();
    members
}

/// Nothing to steer to: whatever was in the ring has to go at once.
fn nowhere(placement: Placement, message: &str, urgent: Option<BTreeSet<Uid>>) -> Selection {
    Selection {
        members: Vec::new(),
        urgent: urgent.unwrap_or_default(),
        drained: BTreeSet::new(),
        placement,
        message: message.into(),
    }
}
