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

mod clock;
mod feed;
mod forwarding;
mod inquiry;
mod liveness;
mod routing;
mod trial;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use isocast_api::agent::NodeStatus;
use isocast_bgp::origination::{Closed, Standing};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub(crate) use self::routing::{PeerTold, Told};
use self::{
    clock::{looks, moment, now, sleep_until},
    forwarding::Forwarding,
    liveness::Liveness,
    routing::Routing,
    trial::Trial,
};
pub use self::{
    feed::Feed,
    forwarding::KernelCounters,
    inquiry::{Answer, Inquirer, Unanswered},
};
use crate::{
    bfd,
    health::{HealthView, Marks, Prober, Report, Target, TargetId, Verdict},
    memory_file::MemoryFile,
    model::Limits,
    safety::{self, Meter, Vigil},
    status::{self, Facts},
    steer::{Inputs, Memory, Plan, Rings, steer},
    sync::FleetView,
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
    liveness: Liveness,
    routing: Routing,
    prober: Prober,
    reports: mpsc::Receiver<Report>,
    health: HealthView,
    marks: Marks,
    memory_file: MemoryFile,
    limits: Limits,
    in_force: Option<InForce>,
    fleet: Option<watch::Receiver<FleetView>>,
    vigil: Vigil,
    meter: Meter,
    metrics: safety::Metrics,
    /// When health changed that is being acted upon.
    reported: Option<Instant>,
    /// Whether a decision waits for the data plane to settle.
    is_waiting: bool,
    /// Waits until routers were told of it.
    telling: JoinSet<()>,
    /// Targets without a verdict: until there are none, a missing lease means nothing.
    unjudged: BTreeSet<TargetId>,
    status: watch::Sender<Arc<NodeStatus>>,
    inquirer: Inquirer,
    questions: mpsc::Receiver<inquiry::Question>,
}

/// What the node does now.
#[derive(Debug)]
struct InForce {
    trial: Trial,
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
        let fleet = feed.fleet();
        let (status, follow) = watch::channel(Arc::default());
        let (inquirer, questions) = inquiry::channel();
        let runtime = Self {
            feed,
            forwarding: Forwarding::new(bpffs),
            liveness: Liveness::start(),
            routing: Routing::default(),
            prober,
            reports,
            health: HealthView::default(),
            marks: Marks::default(),
            memory_file: memory,
            limits,
            in_force: None,
            fleet,
            vigil: Vigil::default(),
            meter: Meter::default(),
            metrics: safety::Metrics::default(),
            reported: None,
            is_waiting: false,
            telling: JoinSet::new(),
            unjudged: BTreeSet::new(),
            status,
            inquirer,
            questions,
        };
        (runtime, follow)
    }

    /// A reader of the kernel's counters.
    #[must_use]
    pub fn counters(&self) -> KernelCounters {
        self.forwarding.counters()
    }

    /// What BFD knows, for metrics.
    #[must_use]
    pub fn bfd(&self) -> Option<bfd::Readout> {
        self.liveness.readout()
    }

    /// Where to ask why.
    #[must_use]
    pub fn inquirer(&self) -> Inquirer {
        self.inquirer.clone()
    }

    /// Metrics of the interlocks.
    #[must_use]
    pub fn safety_metrics(&self) -> safety::Metrics {
        self.metrics.clone()
    }

    /// Runs until `stop` is ready. Then sessions end without a NOTIFICATION and the data plane
    /// stays: traffic flows on until the next agent adopts it (graceful restart, RFC 4724).
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut looks = looks();
        loop {
            let wake_at = self.in_force.as_ref().and_then(|force| force.plan.wake_at);
            tokio::select! {
                () = &mut stop => break,
                received = self.feed.next() => self.take(received).await,
                Some(report) = self.reports.recv() => self.hear(report).await,
                () = sleep_until(wake_at), if !self.is_waiting => self.decide_again().await,
                () = self.forwarding.settled(), if self.is_waiting => {
                    self.is_waiting = false;
                    self.decide_again().await;
                }
                view = view(&mut self.fleet) => self.learn(&view).await,
                _ = looks.tick() => self.look().await,
                Some(question) = self.questions.recv() => {
                    self.answer(question);
                    continue;
                }
                () = self.routing.changed() => {
                    self.routing.set_forwarding_preserved(|| self.forwarding.verify());
                }
            }
            self.publish();
        }
        self.routing.preserve().await;
    }

    async fn hear(&mut self, report: Report) {
        let reported = report.at;
        self.health.record(report);
        while let Ok(report) = self.reports.try_recv() {
            self.health.record(report);
        }
        self.reported.get_or_insert(reported);
        self.decide_again().await;
    }

    /// Takes in who else announces this node's services.
    async fn learn(&mut self, view: &FleetView) {
        let (Some(force), Some(view)) = (&mut self.in_force, view) else { return };
        if force.plan.memory.elsewhere != **view {
            force.plan.memory.elsewhere = BTreeMap::clone(view);
            self.decide_again().await;
        }
    }

    /// Looks after the gate-keepers, and after what drains wait for.
    async fn look(&mut self) {
        let Some(force) = &self.in_force else { return };
        if !force.trial.model.roles.edge {
            return;
        }
        let before = (self.vigil.closed(moment()), self.meter.traffic().clone());
        self.vigil.looked(self.forwarding.verify());
        self.vigil.probed(moment(), self.prober.count(), probe_term(&force.trial.targets));
        let counters =
            if force.trial.model.drains.is_empty() { None } else { self.counters().read() };
        let packets = counters.into_iter().flat_map(|counters| counters.services);
        self.meter.read(moment(), packets.map(|(service, it)| (service.0, it.packets)));
        let closed = self.vigil.closed(moment());
        for gate in closed.difference(&before.0) {
            tracing::error!(%gate, "a gate-keeper failed");
            self.metrics.lapsed();
        }
        if before != (closed, self.meter.traffic().clone()) {
            self.decide_again().await;
        }
    }

    /// Decides anew on the configuration in force.
    async fn decide_again(&mut self) {
        let Some(force) = &self.in_force else { return };
        let mut trial = force.trial.clone();
        let plan = self.settle(&mut trial, &force.plan.memory, &force.plan.rings);
        let is_released = !Arc::ptr_eq(&trial.shielded, &force.trial.shielded);
        let outcome = if plan.tables == force.plan.tables {
            Ok(force.generation)
        } else if self.forwarding.is_settled() {
            self.flip(&plan)
        } else {
            // Routes that go need no tables. The rest is decided again once there is room for more.
            self.withdraw(&plan);
            self.is_waiting = true;
            return;
        };
        match outcome {
            Ok(generation) => {
                self.carry_out(&plan);
                if is_released {
                    self.probe(&trial.targets);
                }
                self.in_force = Some(InForce { trial, plan, generation });
            }
            Err(error) => {
                // The next event tries again, at the latest soon.
                tracing::error!(error = error_chain(&error), "tables refused");
                if let Some(force) = &mut self.in_force {
                    force.plan.wake_at = Some(now().after(RETRY));
                }
            }
        }
        self.reported = None;
    }

    fn plan(&self, trial: &Trial, memory: &Memory, rings: &Rings) -> Plan {
        let (model, targets) = (&trial.model, &trial.targets);
        let (health, marks, now) = (&self.health, &self.marks, now());
        let faults: &Closed = &self.vigil.closed(moment());
        let traffic = self.meter.traffic();
        steer(&Inputs { model, targets, health, marks, memory, rings, faults, traffic, now })
    }

    /// Withdraws what goes and flips the tables. The caller announces what comes.
    fn flip(&mut self, plan: &Plan) -> Result<u32, forwarding::ForwardingError> {
        self.withdraw(plan);
        let applied = self.forwarding.apply(&plan.tables);
        if applied.is_err()
            && let Some(force) = &self.in_force
        {
            // The old tables are in force, so the old routes are right.
            self.routing.announce(&force.plan.leases, &force.plan.announceable);
        }
        applied
    }

    /// Withdraws what goes by `plan`.
    fn withdraw(&mut self, plan: &Plan) {
        if self.routing.retain(&plan.leases) {
            self.time_telling();
        }
    }

    /// Announces what a plan in force says, and says what it refused. Routers hear of it before
    /// the disk does: what is lost with a kill in between costs one round of health checks.
    fn carry_out(&mut self, plan: &Plan) {
        self.routing.announce(&plan.leases, &plan.announceable);
        let before = self.leased();
        if plan.leases.iter().any(|lease| !before.contains(&lease.address)) {
            self.time_telling();
        }
        for (prefix, hold) in plan.newly_held.iter().filter(|(_, hold)| hold.is_refusal()) {
            tracing::warn!(%prefix, reason = %hold, "withdrawal refused: {}", hold.message());
            self.metrics.held(*hold);
        }
        self.memory_file.store(&plan.memory);
    }

    /// Answers a question. Whoever asked may be gone.
    fn answer(&self, question: inquiry::Question) {
        let inquiry::Question { prefix, answer } = question;
        let force = self.in_force.as_ref();
        let origin = force.zip(prefix).and_then(|(force, prefix)| {
            inquiry::origin(&force.trial.model, &force.plan, prefix, moment())
        });
        let node = force.map(|force| force.trial.model.name.clone()).unwrap_or_default();
        drop(answer.send(Answer { node, origin, desk: self.routing.desk() }));
    }

    fn leased(&self) -> BTreeSet<IpAddr> {
        let leases = self.in_force.iter().flat_map(|force| &force.plan.leases);
        leases.map(|lease| lease.address).collect()
    }

    /// Takes the time until routers were told of a change of health. A later change is told with
    /// it, so one is timed at a time.
    fn time_telling(&mut self) {
        let Some(reported) = self.reported else { return };
        let (told, metrics) = (self.routing.when_told(), self.metrics.clone());
        self.telling.abort_all();
        while self.telling.try_join_next().is_some() {}
        self.telling.spawn(async move {
            let took = told.await.and_then(|at| at.checked_duration_since(reported));
            if let Some(took) = took {
                metrics.on_the_wire(took.as_secs_f64());
            }
        });
    }

    /// Tells the controller and the local socket what is so.
    fn publish(&mut self) {
        let Some(force) = &self.in_force else { return };
        self.unjudged.retain(|target| self.health.verdict(target) == Verdict::Unknown);
        if self.unjudged.is_empty() {
            self.routing.initial_set_complete();
        }
        let announced = self.routing.announced();
        self.routing.follow();
        let status = status::compose(&Facts {
            revision: force.trial.received.revision,
            refused: &force.trial.refusals.errors,
            model: &force.trial.model,
            plan: &force.plan,
            health: &self.health,
            announced: &announced,
            peers: &self.routing.peers(self.liveness.statuses().as_ref()),
            told: self.routing.told(),
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

/// A prober is given this long, and several of its own intervals, before it counts as stalled.
const PROBE_TERM_MIN: Duration = Duration::from_secs(10);
/// Time until refused tables are tried again.
const RETRY: Duration = Duration::from_secs(1);

fn is_announced(plan: &Plan, address: &IpAddr) -> bool {
    plan.standings.get(&IpNet::from(*address)).is_some_and(Standing::is_announced)
}

/// How long probes may all be silent; none if there is nothing to probe.
fn probe_term(targets: &BTreeMap<TargetId, Target>) -> Option<Duration> {
    let slowest = targets.values().map(|target| target.pace.interval + target.timeout).max()?;
    Some(slowest.saturating_mul(3).max(PROBE_TERM_MIN))
}

/// The next news of who else announces this node's services.
async fn view(fleet: &mut Option<watch::Receiver<FleetView>>) -> FleetView {
    if let Some(fleet) = fleet
        && fleet.changed().await.is_ok()
    {
        return fleet.borrow_and_update().clone();
    }
    std::future::pending().await
}

/// An error with all its causes in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
