//! Health: which backends of which services answer, as seen from this edge.
//!
//! [`Checker`] is the decision (rise, fall, fast interval), without clock or socket;
//! [`targets()`] derives what is to be probed from the model; [`Prober`] is the driver that owns
//! one task per target. Probes travel as traffic does: a socket to the service's own address,
//! marked, which the data plane encapsulates to the one backend under test. So a passing probe
//! proves tunnel, decapsulation, the address on loopback and the application at once.

mod checker;
mod probe;
mod prober;
mod targets;

use std::{collections::BTreeMap, sync::Arc};

pub use self::{
    checker::{Checker, Pace, Verdict},
    prober::{Prober, Report},
    targets::{Marks, TARGETS_MAX, Target, TargetId, targets},
};

use crate::model::Uid;

/// What is known of every target, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    verdicts: BTreeMap<TargetId, Opinion>,
}

/// A verdict with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// The verdict.
    pub verdict: Verdict,
    /// What the last failed probe met; empty when healthy.
    pub reason: Arc<str>,
}

// === impl HealthView ===

impl HealthView {
    /// Takes a prober's report in.
    pub fn record(&mut self, report: Report) {
        let opinion = Opinion { verdict: report.verdict, reason: report.reason };
        self.verdicts.insert(report.target, opinion);
    }

    /// Believes, until a probe says otherwise, that `targets` are healthy.
    pub fn presume_healthy(&mut self, targets: impl IntoIterator<Item = TargetId>) {
        for target in targets {
            let opinion = Opinion { verdict: Verdict::Healthy, reason: "Presumed".into() };
            self.verdicts.entry(target).or_insert(opinion);
        }
    }

    /// Forgets targets that are no longer probed.
    pub fn retain(&mut self, targets: &BTreeMap<TargetId, Target>) {
        self.verdicts.retain(|id, _| targets.contains_key(id));
    }

    /// The verdict on a target; unknown before the first one.
    #[must_use]
    pub fn verdict(&self, target: &TargetId) -> Verdict {
        self.verdicts.get(target).map_or(Verdict::Unknown, |opinion| opinion.verdict)
    }

    /// The verdict on a backend for a service.
    #[must_use]
    pub fn of(&self, service: &Uid, backend: &Uid) -> Verdict {
        self.verdict(&TargetId { service: Uid::clone(service), backend: Uid::clone(backend) })
    }

    /// Why a target is not healthy; empty if nothing is known.
    #[must_use]
    pub fn reason(&self, target: &TargetId) -> Arc<str> {
        self.verdicts.get(target).map_or_else(|| "".into(), |opinion| Arc::clone(&opinion.reason))
    }
}
