//! Steering: the agent's one decision, as one pure function.
//!
//! [`steer`] takes the model, the health view and what was decided before, and returns what the
//! data plane shall hold and what may be announced. It reads no clock, no socket and no random
//! source, so the same inputs give the same plan on every edge of a datacenter, in a test and in
//! the simulator.
//!
//! **Invariant:** an address is leased for announcement only if a service at it has backends in
//! the plan's tables, or if the interlocks of [`isocast_bgp::origination`] hold it; then its service
//! goes on with the backends it has, healthy or not. (Services may share an address; one that is
//! down must not take the other's route away.)
//! **Invariant:** a backend that is known to be dead leaves the ring at once; one that is new
//! waits until the picture has been steady for [`SETTLE`], so that a datacenter that comes back
//! costs each flow one move and not one per backend.

mod members;
mod memory;
mod origination;
mod ramp;
mod ring;
mod tables;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use isocast_bgp::{
    origination::{Closed, Hold, Standing, Traffic},
    wire::community::Community,
};

use self::origination::Origination;
pub use self::{
    members::{Placement, Selection},
    memory::{Epoch, Member, Memory, RingSize, ServiceMemory, Succession},
    ramp::Ramp,
    ring::Rings,
};
use crate::{
    bgp::Communities,
    health::{HealthView, Marks, Target, TargetId, Verdict},
    model::{NodeModel, Service, Uid},
};
use isocast_dataplane::Tables;

/// How long a picture with new members must be steady before flows move to them.
pub const SETTLE: Duration = Duration::from_secs(1);
/// How long the backends of an earlier ring keep their claim on the flows they had.
pub const TRANSITION: Duration = Duration::from_secs(300);
/// Earlier rings remembered per service.
pub const EPOCHS_MAX: usize = 8;

/// Milliseconds since the Unix epoch; passed in, never read here.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Deserialize,
    serde::Serialize,
)]
pub struct UnixMs(pub u64);

impl UnixMs {
    /// This long after it; the end of time rather than a wrap.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// All that a decision depends on.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The configuration in force, or the one on trial.
    pub model: &'a NodeModel,
    /// What is probed by it.
    pub targets: &'a BTreeMap<TargetId, Target>,
    /// What the probes found.
    pub health: &'a HealthView,
    /// Marks under which the data plane shall encapsulate probes.
    pub marks: &'a Marks,
    /// What earlier decisions left behind.
    pub memory: &'a Memory,
    /// Rings of the plan before; saves time, changes nothing.
    pub rings: &'a Rings,
    /// Gates that are closed for the whole node.
    pub faults: &'a Closed,
    /// What still arrives for services that are drained.
    pub traffic: &'a BTreeMap<Uid, Traffic>,
    /// The time of the decision.
    pub now: UnixMs,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the data plane shall hold.
    pub tables: Tables,
    /// What may be announced once the tables are in force.
    pub leases: Vec<Lease>,
    /// What may leave at all: the export guard.
    pub announceable: Vec<IpNet>,
    /// Why each prefix is announced, held or not announced.
    pub standings: BTreeMap<IpNet, Standing>,
    /// Gates that are closed, of each prefix.
    pub closed: BTreeMap<IpNet, Closed>,
    /// Withdrawals refused by this decision and not by the one before.
    pub newly_held: Vec<(IpNet, Hold)>,
    /// Per service, why it is steered as it is.
    pub services: BTreeMap<Uid, ServicePlan>,
    /// To be handed to the next decision.
    pub memory: Memory,
    /// To be handed to the next decision.
    pub rings: Rings,
    /// When to decide again even if nothing happens.
    pub wake_at: Option<UnixMs>,
}

/// The right to announce one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// A service address; announced as /32 or /128.
    pub address: IpAddr,
    /// Of the route.
    pub communities: Communities,
    /// The service that owns it.
    pub service: Uid,
}

/// How one service is steered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePlan {
    /// Where its new flows go, and why.
    pub placement: Placement,
    /// A sentence for its owner.
    pub message: Arc<str>,
}

/// Decides.
#[must_use]
pub fn steer(inputs: &Inputs<'_>) -> Plan {
    let selections = selections(inputs);
    let origination = Origination::new(inputs, &selections);
    let mut tables = tables::Builder::new(inputs);
    let mut leases = Vec::new();
    let mut services = BTreeMap::new();
    let mut memory = Memory { era: inputs.memory.era, ..Memory::default() };
    let mut wake_at = origination.wake_at;
    for (uid, mut selection) in selections {
        let Some(service) = inputs.model.services.get(&uid) else { continue };
        let mut past = inputs.memory.services.get(&uid).cloned().unwrap_or_default();
        if selection.members.is_empty()
            && let Some(standing) = origination.held(service)
        {
            selection = members::select_held(inputs, service, &past.own.members, standing);
        }
        // Without a pool there is nobody new to make room for.
        let pool = service.pool.as_ref().and_then(|uid| inputs.model.pools.get(uid));
        let size = pool.map_or(past.own.size, |pool| RingSize::of(pool.backends.len()));
        let span = pool.map(|pool| pool.slow_start).unwrap_or_default();
        let step = past.ramp.weigh(&mut selection.members, &past.own.members, span, inputs.now);
        let era = inputs.memory.era;
        let (mut now_remembered, wake) = past.follow(&selection, size, inputs.now, era);
        wake_at = [wake_at, step, wake].into_iter().flatten().min();
        let is_dead = |backend: &Uid| inputs.health.of(&uid, backend) == Verdict::Unhealthy;
        now_remembered.own.lose(is_dead);
        let begun = now_remembered.own.past.iter().any(|epoch| epoch.era == era.wrapping_add(1));
        memory.era = if begun { era.wrapping_add(1) } else { memory.era };
        if inputs.model.roles.edge {
            let others = members::elsewhere(inputs, service, &selection.placement);
            let drained = &selection.drained;
            let others_wanted = others.as_deref();
            let moves = now_remembered.follow_others(others_wanted, drained, size, inputs.now, era);
            wake_at = [wake_at, moves].into_iter().flatten().min();
            let order = others.iter().flatten().map(|(datacenter, _)| datacenter.as_str());
            tables.add_service(service, &now_remembered, order);
            leases.extend(leased(service, &origination));
        }
        let plan = ServicePlan { placement: selection.placement, message: selection.message };
        services.insert(uid.clone(), plan);
        memory.services.insert(uid, now_remembered);
    }
    let (tables, rings) = tables.finish(memory.era);
    let announceable = origination.announceable(inputs.model);
    let Origination { decision, drains, closed, .. } = origination;
    (memory.ledger, memory.drains) = (decision.ledger, drains);
    memory.elsewhere = inputs.memory.elsewhere.clone();
    memory.elsewhere.retain(|uid, _| inputs.model.services.contains_key(uid));
    let (standings, newly_held) = (decision.standings, decision.newly_held);
    Plan {
        tables,
        leases,
        announceable,
        standings,
        closed,
        newly_held,
        services,
        memory,
        rings,
        wake_at,
    }
}

/// Where the flows of each service should go, as far as health knows.
fn selections(inputs: &Inputs<'_>) -> BTreeMap<Uid, Selection> {
    let select = |(uid, service): (&Uid, &Service)| {
        let is_new = inputs.memory.services.get(uid).is_none_or(|past| past.own.members.is_empty());
        let selection = if is_new {
            members::select_first(inputs.model, service, inputs.health)
        } else {
            members::select(inputs.model, service, inputs.health)
        };
        (uid.clone(), selection)
    };
    inputs.model.services.iter().map(select).collect()
}

/// The addresses of `service` that are announced.
fn leased<'a>(
    service: &'a Service,
    origination: &'a Origination,
) -> impl Iterator<Item = Lease> + 'a {
    origination::prefixes(service).filter_map(|prefix| {
        let standing = origination.standing(&prefix).filter(|it| it.is_announced())?;
        let mut communities = service.communities.clone();
        if standing.graceful_shutdown() {
            communities.standard.insert(Community::GRACEFUL_SHUTDOWN);
        }
        Some(Lease { address: prefix.addr(), communities, service: service.uid.clone() })
    })
}

#[cfg(test)]
mod tests;
