//! Plays one event on the scene and collects what is judged.

use std::time::{Duration, Instant};

use super::{
    DemoError,
    report::Outcome,
    run,
    scene::{self, Scene},
    verdict::{self, Observed},
};
use crate::{
    flood::flood,
    forge::forge,
    load,
    routers::{self, POLL_INTERVAL},
    scenario::{Event, Flood, Step, Stream},
    stream::Streaming,
    topology::Role,
};

/// Plays `event`.
pub(super) async fn play(scene: &mut Scene, event: &Event) -> Result<Outcome, DemoError> {
    if event.after.is_none() {
        scene.settle().await?;
    }
    let edges = scene.edges_of_flows()?;
    let last = scene.load.with_record(|record| record.last().clone());
    let expected = load::expected_groups(&edges, &last);
    let backends_before = scene.backends_before(Instant::now());
    let mut seen = Seen::default();

    scene.collector.begin_window().await?;
    let from = scene.load.begin_window();
    for step in &event.fault {
        seen.take(scene, step).await?;
    }
    let repair_from = Instant::now();
    let mut backends_after = scene.backends_before(repair_from);
    let mut wrong = wrongly_served(scene, event, repair_from);
    for step in &event.repair {
        seen.take(scene, step).await?;
    }
    let until = Instant::now();
    if event.fault.is_empty() {
        backends_after = scene.backends_before(until);
        wrong = wrongly_served(scene, event, until);
    }
    seen.problems.extend(wrong);
    seen.problems.extend(finish(scene, until).await);
    let streamed = match seen.streaming {
        Some(streaming) => Some(streaming.finish().await?),
        None => None,
    };

    let withdrawals = scene.collector.withdrawals().await?;
    Ok(scene.load.with_record(|record| {
        let observed = Observed {
            record,
            expected: &expected,
            from,
            repair_from,
            until,
            backends_before,
            backends_after,
            withdrawals,
            programmed_after: seen.programmed_after,
            flooded: seen.flooded,
            streamed,
            problems: seen.problems,
        };
        verdict::judge(event, observed)
    }))
}

/// What is seen of an event besides its users.
#[derive(Debug, Default)]
struct Seen {
    problems: Vec<String>,
    programmed_after: Option<Duration>,
    flooded: Option<u64>,
    streaming: Option<Streaming>,
}

impl Seen {
    /// Takes one step.
    async fn take(&mut self, scene: &mut Scene, step: &Step) -> Result<(), DemoError> {
        let lab = &scene.lab;
        match step {
            Step::CheckRouters => self.problems.extend(check_routers(scene)?),
            Step::Cut(node) => lab.cut(node)?,
            Step::Flood(Flood { node, to, time }) => {
                let sent = flood(lab.topology.node_namespace(node), *to, *time).await?;
                self.flooded = Some(self.flooded.unwrap_or_default() + sent);
            }
            Step::Forge(forgery) => {
                forge(lab.topology.node_namespace(&forgery.node), forgery.clone()).await?;
            }
            Step::Kill(target) => lab.kill(&target.node, &target.program)?,
            Step::KillControllerInBurst => {
                if let Some(kube) = &mut scene.kube {
                    kube.kill_in_burst(lab)?;
                }
            }
            Step::Observe(time) => tokio::time::sleep(*time).await,
            Step::PowerOff(nodes) => lab.power_off(nodes)?,
            Step::PowerOn(nodes) => lab.power_on(nodes)?,
            Step::Restore(node) => lab.restore(node)?,
            Step::Run(command) => self.problems.extend(run::run(scene, command).await?),
            Step::Start(target) => lab.start_named(&target.node, &target.program)?,
            Step::StartOtherBuild(target) => {
                lab.start_other_build(&target.node, &target.program)?
            }
            Step::Stop(target) => lab.stop(&target.node, &target.program)?,
            Step::Stream(Stream { node, to, packets_per_second }) => {
                let topology = &lab.topology;
                let backends = topology.with_role(Role::Backend);
                let backends: Vec<_> =
                    backends.map(|backend| topology.node_namespace(&backend.name)).collect();
                let user = topology.node_namespace(node);
                self.streaming = Some(Streaming::start(user, &backends, *to, *packets_per_second)?);
            }
            Step::VerifyWrites => {
                if let Some(kube) = &scene.kube {
                    let verified = kube.verify_writes(lab)?;
                    self.problems.extend(verified.problems);
                    self.programmed_after = verified.programmed_after;
                }
            }
        }
        Ok(())
    }
}

/// Both the kernel and the daemon of every border use every edge for every prefix.
fn check_routers(scene: &Scene) -> Result<Vec<String>, DemoError> {
    let mut problems = Vec::new();
    for border in scene.lab.topology.borders() {
        let edges = scene.edges_of(border).count();
        for prefix in scene::prefixes() {
            let kernel = routers::kernel_next_hops(&scene.lab, &border.name, prefix)?.len();
            let daemon = routers::daemon_next_hops(&scene.lab, &border.name, prefix)?;
            if (kernel, daemon) != (edges, edges) {
                problems.push(format!(
                    "{} ({}) has {daemon} next hops of {prefix}, its kernel {kernel}, of {edges}",
                    border.name, border.role
                ));
            }
        }
    }
    Ok(problems)
}

/// Users that the event says are served by one datacenter, and are not.
fn wrongly_served(scene: &Scene, event: &Event, at: Instant) -> Vec<String> {
    let mut problems = Vec::new();
    for (client, datacenter) in &event.serves {
        for (position, stream) in scene.load.streams().iter().enumerate() {
            if stream.client != *client {
                continue;
            }
            let samples = scene.samples_before(at, |flow| flow.stream == position);
            let served = samples.iter().filter_map(|sample| sample.answer.as_ref().ok());
            let mut served = served.peekable();
            let address = stream.destination.ip();
            if served.peek().is_none() {
                problems.push(format!("{client} is not served by {address}"));
            } else if let Some(other) = served.find(|server| server.datacenter != *datacenter) {
                let backend = &other.backend;
                problems.push(format!("{client} by {address} is served by {backend}"));
            }
        }
    }
    problems
}

/// Waits until every request of the window is over and every long-lived connection either goes on
/// or has broken, so that whatever an event did is counted as this event's.
async fn finish(scene: &Scene, until: Instant) -> Option<String> {
    let deadline = until + FINISH_TIMEOUT;
    loop {
        let now = Instant::now();
        let is_complete = scene.load.with_record(|record| record.is_complete_until(until));
        let missing = scene.load.missing_connections(now);
        if is_complete && missing.is_none() {
            return None;
        }
        if now > deadline {
            return missing.or_else(|| Some("requests are not over".to_owned()));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Longer than the patience of a long-lived connection.
const FINISH_TIMEOUT: Duration = Duration::from_secs(20);
