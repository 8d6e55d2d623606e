//! What is to be probed: one target per (service, eligible backend).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use isocast_dataplane::Encap;

use super::Pace;
use crate::model::{Backend, Check, MidFlowMove, NodeModel, OnNoLocalBackend, Service, Uid};

/// Most targets one edge probes: their marks share 16 bits.
pub const TARGETS_MAX: usize = 1 << 16;
/// Upper half of every probe's mark ("IC"), so that other marks on the host mean nothing to us.
const MARK_BASE: u32 = 0x4943_0000;

/// A backend in its duty for one service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId {
    /// Uid of the service.
    pub service: Uid,
    /// Uid of the backend.
    pub backend: Uid,
}

/// How a target is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The service's address and the check's port.
    pub address: SocketAddr,
    /// Where the data plane sends the probe, and in what; `None`: the backend is this very host.
    pub tunnel: Option<(IpAddr, Encap)>,
    /// Isolation domain of the service.
    pub tenant: u32,
    /// What is asked.
    pub check: Check,
    /// A probe without an answer by then has failed.
    pub timeout: Duration,
    /// When probes go and what they mean.
    pub pace: Pace,
}

/// Every target of the model. Services without an address or without backends have none.
#[must_use]
pub fn targets(model: &NodeModel) -> BTreeMap<TargetId, Target> {
    if !model.roles.edge {
        return BTreeMap::new();
    }
    let of_service = |service| eligible(model, service).map(move |backend| (service, backend));
    model
        .services
        .values()
        .flat_map(of_service)
        .filter_map(|(service, backend)| target(model, service, backend))
        .take(TARGETS_MAX)
        .collect()
}

/// Backends that may ever get this edge's flows of `service`.
fn eligible<'a>(model: &'a NodeModel, service: &Service) -> impl Iterator<Item = &'a Backend> {
    let local_only = service.failover.on_no_local_backend == OnNoLocalBackend::Withdraw
        && service.mid_flow_move == MidFlowMove::Reset;
    let pool = service.pool.as_ref().and_then(|uid| model.pools.get(uid));
    pool.into_iter()
        .flat_map(|pool| &pool.backends)
        .filter(move |backend| !local_only || backend.datacenter == model.datacenter)
}

fn target(model: &NodeModel, service: &Service, backend: &Backend) -> Option<(TargetId, Target)> {
    let id = TargetId { service: service.uid.clone(), backend: backend.uid.clone() };
    let health = &service.health;
    let target = Target {
        address: SocketAddr::new(*service.addresses.first()?, health.port),
        tunnel: (backend.node != model.name).then(|| (backend.tunnel_address, backend.encap())),
        tenant: service.tenant,
        check: health.check.clone(),
        timeout: health.timeout,
        pace: Pace {
            interval: health.interval,
            fast_interval: health.fast_interval,
            rise: health.rise,
            fall: health.fall,
        },
    };
    Some((id, target))
}

/// Firewall marks of the targets. A target keeps its mark for as long as it exists, and a mark
/// that was given back is not reused before all others: a late packet must not test a stranger.
#[derive(Debug, Default)]
pub struct Marks {
    given: BTreeMap<TargetId, u16>,
    next: u16,
}

// === impl Marks ===

impl Marks {
    /// Gives each target a mark and takes back those of targets that are gone.
    pub fn assign(&mut self, targets: &BTreeMap<TargetId, Target>) {
        self.given.retain(|id, _| targets.contains_key(id));
        let mut taken: BTreeSet<u16> = self.given.values().copied().collect();
        for id in targets.keys().take(TARGETS_MAX) {
            if self.given.contains_key(id) {
                continue;
            }
            while !taken.insert(self.next) {
                self.next = self.next.wrapping_add(1);
            }
            self.given.insert(id.clone(), self.next);
            self.next = self.next.wrapping_add(1);
        }
    }

    /// The mark of a target, if it has one.
    #[must_use]
    pub fn mark(&self, target: &TargetId) -> Option<u32> {
        self.given.get(target).map(|low| MARK_BASE | u32::from(*low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::testing;

    #[test]
    fn an_edge_probes_local_and_remote_backends() {
        let model = testing::two_datacenters();

        let targets = targets(&model);

        assert_eq!(targets.len(), 4);
    }

    #[test]
    fn a_service_that_withdraws_has_no_use_for_remote_backends() {
        let mut model = testing::two_datacenters();
        for service in model.services.values_mut() {
            service.failover.on_no_local_backend = OnNoLocalBackend::Withdraw;
        }

        let targets = targets(&model);

        assert_eq!(targets.len(), 2);
    }

    #[test]
    fn a_node_without_the_edge_role_probes_nothing() {
        let mut model = testing::two_datacenters();
        model.roles.edge = false;

        assert!(targets(&model).is_empty());
    }

    #[test]
    fn marks_are_stable_and_not_reused_at_once() {
        let mut all = targets(&testing::two_datacenters());
        let mut marks = Marks::default();
        marks.assign(&all);
        let before: Vec<_> = all.keys().map(|id| marks.mark(id)).collect();
        let (gone, target) = all.pop_last().unwrap();
        let old = before.last().unwrap();
        marks.assign(&all);

        all.insert(gone.clone(), target);
        marks.assign(&all);

        assert!(marks.mark(&gone).is_some());
        assert_ne!(marks.mark(&gone), *old);
        assert!(all.keys().take(3).zip(&before).all(|(id, mark)| marks.mark(id) == *mark));
    }
}
