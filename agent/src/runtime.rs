//! The agent's event loop: the only room that knows all the others.
//!
//! One task owns all state. Each event (a configuration, a changed verdict, a deadline, a change
//! of a session) leads to at most one decision of [`crate::steer`], which is carried out in an
//! order that never promises what is not there: routes that go are withdrawn first, then the
//! tables flip, then routes that come are announced.
//!
//! A configuration is on trial until the data plane took its tables; one that is refused leaves
//! everything as it was and is answered by a NACK. Entries that cannot be taken are left out and
//! named in the ACK.

mod feed;
mod forwarding;
mod routing;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use isocast_api::agent::{EntryError, NodeStatus};
use tokio::sync::{mpsc, watch};

pub use self::{feed::Feed, forwarding::KernelCounters};
use self::{
    forwarding::{Forwarding, Start},
    routing::Routing,
};
use crate::{
    health::{HealthView, Marks, Prober, Report, TargetId, Verdict, targets},
    memory_file::MemoryFile,
    model::{Admission, Limits, NodeModel, Precedent, Refusals},
    status::{self, Facts},
    steer::{Inputs, Memory, Plan, Rings, UnixMs, steer},
    sync::Received,
};

/// What the runtime is given.
#[derive(Debug)]
pub struct Setup {
    /// Where configurations come from.
    pub feed: Feed,
    /// Where programs and maps are pinned.
    pub bpffs: PathBuf,
    /// Where the steering memory is kept.
    pub memory: MemoryFile,
    /// What the agent is willing to take on.
    pub limits: Limits,
}

/// The running agent.
#[derive(Debug)]
pub struct Runtime {
    feed: Feed,
    forwarding: Forwarding,
    routing: Routing,
    prober: Prober,
    reports: mpsc::Receiver<Report>,
    health: HealthView,
    marks: Marks,
    memory_file: MemoryFile,
    limits: Limits,
    in_force: Option<InForce>,
    /// Targets without a verdict: until there are none, a missing lease means nothing.
    unjudged: BTreeSet<TargetId>,
    status: watch::Sender<Arc<NodeStatus>>,
}

/// What the node does now.
#[derive(Debug)]
struct InForce {
    received: Arc<Received>,
    refusals: Arc<Refusals>,
    model: NodeModel,
    plan: Plan,
    generation: u32,
}

// === impl Runtime ===

impl Runtime {
    /// An agent that does nothing yet, and where its status can be followed.
    #[must_use]
    pub fn new(setup: Setup) -> (Self, watch::Receiver<Arc<NodeStatus>>) {
        let Setup { feed, bpffs, memory, limits } = setup;
        let (prober, reports) = Prober::new();
        let (status, follow) = watch::channel(Arc::default());
        let runtime = Self {
            feed,
            forwarding: Forwarding::new(bpffs),
            routing: Routing::default(),
            prober,
            reports,
            health: HealthView::default(),
            marks: Marks::default(),
            memory_file: memory,
            limits,
            in_force: None,
            unjudged: BTreeSet::new(),
            status,
        };
        (runtime, follow)
    }

    /// A reader of the kernel's counters.
    #[must_use]
    pub fn counters(&self) -> KernelCounters {
        self.forwarding.counters()
    }

    /// Runs until `stop` is ready. Then sessions end without a NOTIFICATION and the data plane
    /// stays: traffic flows on until the next agent adopts it (graceful restart, RFC 4724).
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let wake_at = self.in_force.as_ref().and_then(|force| force.plan.wake_at);
            tokio::select! {
                () = &mut stop => break,
                received = self.feed.next() => self.take(received).await,
                Some(report) = self.reports.recv() => self.hear(report).await,
                () = sleep_until(wake_at) => self.decide_again().await,
                () = self.routing.changed() => {
                    self.routing.set_forwarding_preserved(|| self.forwarding.verify());
                }
            }
            self.publish();
        }
        self.routing.preserve().await;
    }

    /// Tries a configuration; puts it in force or refuses it.
    async fn take(&mut self, received: Arc<Received>) {
        let revision = received.revision;
        let before = match &self.in_force {
            Some(force) => Some(Precedent::new(&force.received.configuration, &force.refusals)),
            None => received.precedent(),
        };
        let admitted = NodeModel::parse(&received.configuration, self.limits, before.as_ref());
        let Admission { model, refusals } = match admitted {
            Ok(admission) => admission,
            Err(errors) => return self.feed.nack(revision, errors),
        };
        match self.try_model(&model).await {
            Ok((plan, generation)) => {
                let refusals = Arc::new(refusals);
                self.feed.ack(revision, Arc::clone(&refusals));
                self.in_force = Some(InForce { received, refusals, model, plan, generation });
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

    async fn try_model(
        &mut self,
        model: &NodeModel,
    ) -> Result<(Plan, u32), forwarding::ForwardingError> {
        let start = self.forwarding.ensure(model)?;
        let (mut memory, mut rings) = <(Memory, Rings)>::default();
        if start == Start::Adopted {
            memory = self.memory_file.load();
            self.health.presume_healthy(members(&memory));
        } else if let Some(force) = &self.in_force {
            (memory, rings) = (force.plan.memory.clone(), force.plan.rings.clone());
        }
        let targets = targets(model);
        self.marks.assign(&targets);
        let plan = self.plan(model, &memory, &rings);
        let generation = self.flip(&plan)?;
        // F promises preserved forwarding (RFC 4724 §3); never on somebody else's word.
        let preserved = start == Start::Adopted && self.forwarding.verify();
        self.routing.ensure(model, if preserved { start } else { Start::Fresh }).await;
        self.routing.announce(&plan.leases);
        // Probes start once the data plane knows their marks.
        self.health.retain(&targets);
        self.prober.set_targets(&targets, &self.marks);
        self.unjudged = targets.into_keys().collect();
        Ok((plan, generation))
    }

    async fn hear(&mut self, report: Report) {
        self.health.record(report);
        while let Ok(report) = self.reports.try_recv() {
            self.health.record(report);
        }
        self.decide_again().await;
    }

    /// Decides anew on the configuration in force.
    async fn decide_again(&mut self) {
        let Some(force) = &self.in_force else { return };
        let plan = self.plan(&force.model, &force.plan.memory, &force.plan.rings);
        let unchanged = plan.tables == force.plan.tables && plan.leases == force.plan.leases;
        let outcome = if unchanged { Ok(force.generation) } else { self.flip(&plan) };
        let Some(force) = &mut self.in_force else { return };
        match outcome {
            Ok(generation) => {
                self.routing.announce(&plan.leases);
                force.generation = generation;
                force.plan = plan;
            }
            Err(error) => {
                // The next event tries again, at the latest soon.
                tracing::error!(error = error_chain(&error), "tables refused");
                force.plan.wake_at = Some(now().after(RETRY));
            }
        }
    }

    fn plan(&self, model: &NodeModel, memory: &Memory, rings: &Rings) -> Plan {
        let (health, marks, now) = (&self.health, &self.marks, now());
        steer(&Inputs { model, health, marks, memory, rings, now })
    }

    /// Withdraws what goes and flips the tables. The caller announces what comes.
    fn flip(&mut self, plan: &Plan) -> Result<u32, forwarding::ForwardingError> {
        self.routing.retain(&plan.leases);
        match self.forwarding.apply(&plan.tables) {
            Ok(generation) => {
                self.memory_file.store(&plan.memory);
                Ok(generation)
            }
            Err(error) => {
                // The old tables are in force, so the old routes are right.
                if let Some(force) = &self.in_force {
                    self.routing.announce(&force.plan.leases);
                }
                Err(error)
            }
        }
    }

    /// Tells the controller and the local socket what is so.
    fn publish(&mut self) {
        let Some(force) = &self.in_force else { return };
        self.unjudged.retain(|target| self.health.verdict(target) == Verdict::Unknown);
        if self.unjudged.is_empty() {
            self.routing.initial_set_complete();
        }
        let announced = self.routing.announced();
        let status = status::compose(&Facts {
            revision: force.received.revision,
            refused: &force.refusals.errors,
            model: &force.model,
            plan: &force.plan,
            health: &self.health,
            announced: &announced,
            peers: &self.routing.peers(),
            generation: force.generation,
        });
        self.feed.set_status(status.clone());
        self.status.send_if_modified(|held| {
            let is_news = **held != status;
            if is_news {
                *held = Arc::new(status);
            }
            is_news
        });
    }
}

/// Time until refused tables are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Backends that the rings of `memory` send flows to.
fn members(memory: &Memory) -> impl Iterator<Item = TargetId> + '_ {
    memory.services.iter().flat_map(|(service, past)| {
        let target = |backend| TargetId { service: service.clone(), backend };
        past.members.iter().map(move |member| target(member.uid.clone()))
    })
}

/// The agent's one reading of the wall clock: deadlines have to survive a restart.
fn now() -> UnixMs {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(0).after(since_epoch)
}

async fn sleep_until(at: Option<UnixMs>) {
    match at {
        Some(at) => tokio::time::sleep(Duration::from_millis(at.0.saturating_sub(now().0))).await,
        None => std::future::pending().await,
    }
}

/// An error with all its causes in one line.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
