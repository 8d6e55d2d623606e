//! From services to wishes, and from wishes to what may be announced.
//!
//! Says which gates of which prefix are closed and leaves the decision to
//! [`isocast_bgp::origination`]. A prefix with several services needs only one that is well, and
//! goes only when all of them are to go.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use isocast_bgp::{
    guard::ExportGuard,
    origination::{
        Closed, Decision, Drain, Elsewhere, Gate, Moment, Rules, Stage, Standing, Traffic, Wish,
        decide,
    },
};

use super::{Inputs, Placement, Selection, UnixMs};
use crate::model::{DrainOrder, NodeModel, Service, Uid};

/// What is to be announced, and how far drains have come.
#[derive(Debug)]
pub(super) struct Origination {
    pub(super) decision: Decision,
    pub(super) drains: BTreeMap<Uid, Drain>,
    pub(super) closed: BTreeMap<IpNet, Closed>,
    pub(super) wake_at: Option<UnixMs>,
}

/// A service's place in a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Draining {
    stage: Stage,
    confirmed: bool,
}

// === impl Origination ===

impl Origination {
    pub(super) fn new(inputs: &Inputs<'_>, selections: &BTreeMap<Uid, Selection>) -> Self {
        let now = Moment(inputs.now.0);
        let drains = drains(inputs, now);
        let wishes = if inputs.model.roles.edge {
            wishes(inputs, selections, &drains)
        } else {
            BTreeMap::new()
        };
        let served: BTreeSet<IpNet> = if inputs.model.roles.edge {
            inputs.model.services.values().flat_map(prefixes).collect()
        } else {
            BTreeSet::new()
        };
        let mut ledger = inputs.memory.ledger.clone();
        // What no service has any more cannot be served, so there is nothing to hold.
        ledger.lose(|prefix| !served.contains(prefix));
        let decision = decide(&wishes, &Rules::default(), ledger, now);
        let of_drains = drains
            .iter()
            .filter_map(|(uid, drain)| drain.wake_at(inputs.model.drains.get(uid)?.wait));
        let wake_at = decision.wake_at.into_iter().chain(of_drains).min();
        let closed = wishes.into_iter().map(|(prefix, wish)| (prefix, wish.closed)).collect();
        Self { decision, drains, closed, wake_at: wake_at.map(|at| UnixMs(at.0)) }
    }

    pub(super) fn standing(&self, prefix: &IpNet) -> Option<&Standing> {
        self.decision.standings.get(prefix)
    }

    /// Whether a service without backends must go on all the same.
    pub(super) fn held(&self, service: &Service) -> Option<&Standing> {
        let mut standings = prefixes(service).filter_map(|prefix| self.standing(&prefix));
        standings.find(|standing| standing.hold().is_some())
    }

    /// What may leave at all: what is granted, and what is held although it no longer is.
    pub(super) fn announceable(&self, model: &NodeModel) -> Vec<IpNet> {
        let held = self.decision.standings.iter().filter(|(_, it)| it.hold().is_some());
        let all: BTreeSet<IpNet> =
            model.announceable.iter().copied().chain(held.map(|(prefix, _)| *prefix)).collect();
        all.into_iter().collect()
    }
}

/// The host routes of a service.
pub(super) fn prefixes(service: &Service) -> impl Iterator<Item = IpNet> + '_ {
    service.addresses.iter().copied().map(IpNet::from)
}

fn wishes(
    inputs: &Inputs<'_>,
    selections: &BTreeMap<Uid, Selection>,
    drains: &BTreeMap<Uid, Drain>,
) -> BTreeMap<IpNet, Wish> {
    let model = inputs.model;
    let guard = ExportGuard::new(model.announceable.iter().copied());
    let mut at: BTreeMap<IpNet, Vec<&Service>> = BTreeMap::new();
    for service in model.services.values() {
        for prefix in prefixes(service) {
            at.entry(prefix).or_default().push(service);
        }
    }
    let mut wishes = BTreeMap::new();
    for (prefix, services) in at {
        let is_removed = |service: &Service| {
            let departures = &model.departures;
            departures.removed.contains(&service.uid)
                || departures.addresses.contains(&prefix.addr())
        };
        let staying: Vec<_> = services.iter().filter(|service| !is_removed(service)).collect();
        let is = |what: fn(&Selection) -> bool| {
            staying.iter().any(|service| selections.get(&service.uid).is_some_and(what))
        };
        let mut closed: Closed = inputs.faults.clone();
        if staying.is_empty() {
            closed.insert(Gate::Removal);
        }
        if is(|selection| !selection.members.is_empty()) {
            // One that is well is enough.
        } else if is(|selection| selection.placement == Placement::Unjudged) {
            closed.insert(Gate::Judged);
        } else {
            closed.insert(Gate::Backends);
        }
        if guard.permit(prefix).is_none() {
            closed.insert(Gate::Announceable);
        }
        let elsewhere =
            services.iter().filter_map(|service| inputs.memory.elsewhere.get(&service.uid));
        let elsewhere = elsewhere.copied().reduce(merge).unwrap_or_default();
        let wish = Wish { closed, elsewhere, ..Wish::default() };
        let draining: Option<Vec<_>> =
            services.iter().map(|service| draining(model, drains, service)).collect();
        let wish = match draining.into_iter().flatten().min() {
            Some(Draining { stage, confirmed }) => wish.draining(stage, confirmed),
            None => wish,
        };
        wishes.insert(prefix, wish);
    }
    wishes
}

/// What two services at one address are told of it.
fn merge(a: Elsewhere, b: Elsewhere) -> Elsewhere {
    match (a, b) {
        (Elsewhere::Unknown, known) | (known, Elsewhere::Unknown) => known,
        (
            Elsewhere::Known { others: a, keeper: keeps_a },
            Elsewhere::Known { others: b, keeper: keeps_b },
        ) => Elsewhere::Known { others: a.max(b), keeper: keeps_a || keeps_b },
    }
}

/// The furthest of the drains that a service is in.
fn draining(
    model: &NodeModel,
    drains: &BTreeMap<Uid, Drain>,
    service: &Service,
) -> Option<Draining> {
    let of = |(uid, drain): (&Uid, &Drain)| {
        let order = model.drains.get(uid)?;
        order
            .concerns(model, service)
            .then(|| Draining { stage: drain.stage(), confirmed: order.confirmed })
    };
    drains.iter().filter_map(of).max()
}

/// Every drain a step further. One whose order is gone is cancelled by being forgotten.
fn drains(inputs: &Inputs<'_>, now: Moment) -> BTreeMap<Uid, Drain> {
    let step = |(uid, order): (&Uid, &DrainOrder)| {
        let model = inputs.model;
        let concerned: Vec<_> =
            model.services.values().filter(|service| order.concerns(model, service)).collect();
        let is_announced = concerned
            .iter()
            .flat_map(|service| prefixes(service))
            .any(|prefix| inputs.memory.ledger.is_announced(&prefix));
        let traffic = concerned
            .iter()
            .map(|service| inputs.traffic.get(&service.uid).copied().unwrap_or(Traffic::Unknown))
            .reduce(|a, b| if a == b { a } else { Traffic::Busy });
        let drain = inputs.memory.drains.get(uid).copied();
        let drain = drain.unwrap_or_else(|| Drain::begin(now));
        let traffic = traffic.unwrap_or(Traffic::Unknown);
        (uid.clone(), drain.step(now, order.wait, traffic, is_announced))
    };
    inputs.model.drains.iter().map(step).collect()
}
