//! A configuration on trial: admitted entry by entry, tried in the data plane, put in force or
//! refused.
//!
//! Owns the way of a configuration from the feed to its ACK or NACK. One that is refused leaves
//! everything as it was.

use std::{collections::BTreeMap, sync::Arc};

use isocast_api::agent::{Configuration, EntryError};
use isocast_bgp::origination::Hold;

use super::{InForce, Runtime, error_chain, forwarding, forwarding::Start, is_announced};
use crate::{
    health::{Target, TargetId, targets},
    model::{Admission, NodeModel, Precedent, Refusals},
    safety::{Shielded, lost_exports, shield},
    steer::{Memory, Plan, Rings},
    sync::Received,
};

/// A configuration on trial, or in force: cheap to hand on to the next decision.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    pub(super) received: Arc<Received>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) shielded: Arc<Shielded>,
    pub(super) model: Arc<NodeModel>,
    /// What is probed by the model.
    pub(super) targets: Arc<BTreeMap<TargetId, Target>>,
}

impl Runtime {
    /// Tries a configuration; puts it in force or refuses it.
    pub(super) async fn take(&mut self, received: Arc<Received>) {
        let revision = received.revision;
        let before = match &self.in_force {
            Some(force) => force.trial.shielded.configuration.clone(),
            None => in_force_before(&received),
        };
        let shielded = shield(&received.configuration, &before);
        let admitted = self.admit(received, shielded);
        let mut trial = match admitted.and_then(|trial| self.without_lost_exports(trial, &before)) {
            Ok(trial) => trial,
            Err(errors) => return self.feed.nack(revision, errors),
        };
        match self.try_out(&mut trial).await {
            Ok((plan, generation)) => {
                self.count_missing(&trial.shielded);
                self.feed.ack(revision, Arc::clone(&trial.refusals));
                self.in_force = Some(InForce { trial, plan, generation });
                tracing::info!(revision, generation, "configuration in force");
            }
            Err(error) => {
                let message = error_chain(&error);
                let reason = "DataPlaneRefused".into();
                let key = "node".into();
                let error = EntryError { key, reason, message, ..EntryError::default() };
                self.feed.nack(revision, vec![error]);
            }
        }
    }

    /// What of a configuration can come into force, together with what must not be lost by it.
    fn admit(&self, received: Arc<Received>, shielded: Shielded) -> Result<Trial, Vec<EntryError>> {
        let before = match &self.in_force {
            Some(InForce { trial, .. }) => {
                Some(Precedent::new(&trial.received.configuration, &trial.refusals))
            }
            None => received.precedent(),
        };
        let Admission { mut model, mut refusals } =
            NodeModel::parse(&shielded.configuration, self.limits, before.as_ref())?;
        model.departures.missing = shielded.departures.missing.clone();
        model.departures.addresses = shielded.departures.addresses.clone();
        shielded.join(&mut refusals);
        let targets = Arc::new(targets(&model));
        Ok(Trial {
            received,
            refusals: Arc::new(refusals),
            shielded: Arc::new(shielded),
            model: Arc::new(model),
            targets,
        })
    }

    /// A trial that leaves routers their export policies, if the new ones would withdraw too much.
    fn without_lost_exports(
        &self,
        trial: Trial,
        before: &Configuration,
    ) -> Result<Trial, Vec<EntryError>> {
        let was = match &self.in_force {
            Some(force) => Some(Arc::clone(&force.trial.model)),
            None => NodeModel::parse(before, self.limits, None).ok().map(|it| it.model.into()),
        };
        let lost = was.map(|was| lost_exports(&was, &trial.model)).unwrap_or_default();
        if lost.is_empty() {
            return Ok(trial);
        }
        tracing::warn!(routes = lost.len(), "export policies refused: they would withdraw them");
        lost.iter().for_each(|_| self.metrics.held(Hold::WithdrawalBudget));
        let Trial { received, shielded, .. } = trial;
        let mut shielded = Arc::unwrap_or_clone(shielded);
        shielded.keep_policies(before, lost.len());
        self.admit(received, shielded)
    }

    async fn try_out(
        &mut self,
        trial: &mut Trial,
    ) -> Result<(Plan, u32), forwarding::ForwardingError> {
        let start = self.forwarding.ensure(&trial.model)?;
        self.liveness.ensure(&trial.model, self.forwarding.reflector());
        let (memory, rings) = match &self.in_force {
            _ if start == Start::Adopted => {
                let memory = self.memory_file.load();
                self.health.presume_healthy(members(&memory));
                (memory, Rings::default())
            }
            Some(force) => (force.plan.memory.clone(), force.plan.rings.clone()),
            None => {
                // Nothing of it is in force any more. But what others announce is still true, and
                // the flows that come back were placed by the rings that were.
                let Memory { services, elsewhere, era, .. } = self.memory_file.load();
                (Memory { services, elsewhere, era, ..Memory::default() }, Rings::default())
            }
        };
        self.marks.assign(&trial.targets);
        let plan = self.settle(trial, &memory, &rings);
        let generation = self.flip(&plan)?;
        // F promises preserved forwarding (RFC 4724 §3); never on somebody else's word.
        let preserved = start == Start::Adopted && self.forwarding.verify();
        let start = if preserved { start } else { Start::Fresh };
        self.routing.ensure(&trial.model, &plan.announceable, start).await;
        self.liveness.set_listener(self.routing.bfd_listener());
        self.carry_out(&plan);
        self.probe(&trial.targets);
        Ok((plan, generation))
    }

    /// Plans a trial, and lets go of what was removed as soon as its routes may be withdrawn.
    pub(super) fn settle(&self, trial: &mut Trial, memory: &Memory, rings: &Rings) -> Plan {
        let plan = self.plan(trial, memory, rings);
        let released = trial.shielded.released(|address| is_announced(&plan, address));
        let Some(released) = released else { return plan };
        let Ok(released) = self.admit(Arc::clone(&trial.received), released) else {
            return plan;
        };
        *trial = released;
        let newly_held = plan.newly_held;
        let plan = self.plan(trial, &plan.memory, &plan.rings);
        Plan { newly_held: newly_held.into_iter().chain(plan.newly_held.clone()).collect(), ..plan }
    }

    /// Probes the targets; the data plane knows their marks.
    pub(super) fn probe(&mut self, targets: &BTreeMap<TargetId, Target>) {
        self.health.retain(targets);
        self.prober.set_targets(targets, &self.marks);
        self.unjudged = targets.keys().cloned().collect();
    }

    /// Counts services that have just gone missing.
    fn count_missing(&self, shielded: &Shielded) {
        let known = self.in_force.as_ref().map(|force| &force.trial.shielded.departures.missing);
        let missing = shielded.departures.missing.iter();
        for service in missing.filter(|uid| known.is_none_or(|known| !known.contains(*uid))) {
            tracing::warn!(%service, "missing from the configuration; it stays in force");
            self.metrics.held(Hold::Missing);
        }
    }
}

/// Backends that the rings of `memory` send flows to.
fn members(memory: &Memory) -> impl Iterator<Item = TargetId> + '_ {
    memory.services.iter().flat_map(|(service, past)| {
        let target = |backend| TargetId { service: service.clone(), backend };
        past.own.members.iter().map(move |member| target(member.uid.clone()))
    })
}

/// What was in force when a last-known-good configuration was stored; nothing, if it is not one.
fn in_force_before(received: &Received) -> Configuration {
    let kept = received.refusals.kept.entries();
    let entries: BTreeMap<_, _> =
        received.configuration.entries().chain(kept).map(|it| (&it.key, it)).collect();
    Configuration::from_entries(entries.into_values().cloned()).unwrap_or_default()
}
