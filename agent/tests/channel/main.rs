//! The channel from end to end: enrolment, configuration, status, and the loss of each side.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod bench;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bench::{Agent, Controller, counted, entries, token_file, uid};
use isocast_agent::{
    model::Refusals,
    sync::{Identity, LinkState, Source, StateDir},
};
use isocast_api::agent::{EntryError, NodeStatus};
use isocast_controller::fleet::{Link, Progress};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_joins_is_configured_and_reports() {
    let mut controller = Controller::start().await;
    let revision = controller.configure("a", entries(3));
    let (agent, _state) = Agent::join(&controller, "a");

    let received = agent.delivered(revision).await;
    assert_eq!(received.configuration, entries(3));
    assert_eq!(received.source, Source::Controller);
    agent.handle.ack(revision);
    controller.report("a", |it| it.progress == Progress::Applied { revision }).await;

    let status = NodeStatus { revision, dataplane_generation: 7, ..NodeStatus::default() };
    agent.handle.set_status(status.clone());
    let report = controller.report("a", |it| it.statement.is_some()).await;
    assert_eq!(report.statement.map(|(said, _)| (*said).clone()), Some(status));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_the_node_as_a_delta() {
    let mut controller = Controller::start().await;
    let first = controller.configure("a", entries(200));
    let (agent, _state) = Agent::join(&controller, "a");
    agent.delivered(first).await;
    agent.handle.ack(first);
    controller.report("a", |it| it.progress == Progress::Applied { revision: first }).await;
    let snapshot_bytes = controller.metrics.sent_bytes.get();

    let second = controller.configure("a", entries(201));
    let received = agent.delivered(second).await;
    agent.handle.ack(second);
    controller.report("a", |it| it.progress == Progress::Applied { revision: second }).await;

    assert_eq!(received.configuration, entries(201));
    let delta_bytes = controller.metrics.sent_bytes.get() - snapshot_bytes;
    assert!(delta_bytes < snapshot_bytes / 20, "{delta_bytes} of {snapshot_bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_moves_on_without_this_node_sends_it_nothing() {
    let mut controller = Controller::start().await;
    let first = controller.configure("a", entries(1));
    let (agent, _state) = Agent::join(&controller, "a");
    agent.delivered(first).await;
    agent.handle.ack(first);
    controller.report("a", |it| it.progress == Progress::Applied { revision: first }).await;

    controller.configure("b", entries(5));
    let third = controller.configure("a", entries(2));

    agent.delivered(third).await;
    let acks = controller.metrics.acks.get();
    assert_eq!(acks, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_another_datacenter_gets_and_says_only_what_is_its_own() {
    let mut controller = Controller::start().await;
    controller.configure("ams-1", entries(3));
    let revision = controller.configure("fra-1", entries(1));
    let (in_ams, state) = Agent::join(&controller, "ams-1");
    in_ams.delivered(revision).await;
    in_ams.handle.ack(revision);
    controller.report("ams-1", |it| it.progress == Progress::Applied { revision }).await;
    let (in_fra, its_state) = Agent::join(&controller, "fra-1");

    let received = in_fra.delivered(revision).await;
    assert_eq!(received.configuration, entries(1));
    in_fra.handle.ack(revision);
    let status = NodeStatus { revision, dataplane_generation: 7, ..NodeStatus::default() };
    in_fra.handle.set_status(status.clone());
    controller.report("fra-1", |it| it.statement.is_some()).await;
    let report = controller.nodes.report("ams-1").unwrap();
    assert!(report.statement.is_none(), "{report:?}");

    // Nor is it told what became of what it says it has: here, what the other one had.
    in_ams.kill().await;
    in_fra.kill().await;
    for slot in ["last-known-good.0", "last-known-good.1"] {
        let (of_ams, of_fra) = (state.path().join(slot), its_state.path().join(slot));
        std::fs::remove_file(&of_fra).ok();
        std::fs::copy(of_ams, of_fra).ok();
    }
    controller.configure("ams-1", entries(4));
    let next = controller.configure("fra-1", entries(2));
    let in_fra = Agent::start(controller.address, "fra-1", its_state.path());
    assert_eq!(in_fra.delivered(next).await.configuration, entries(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_configuration_is_reported_and_the_old_one_survives_a_restart() {
    let mut controller = Controller::start().await;
    let good = controller.configure("a", entries(1));
    let (agent, state) = Agent::join(&controller, "a");
    agent.delivered(good).await;
    agent.handle.ack(good);

    let bad = controller.configure("a", entries(2));
    agent.delivered(bad).await;
    let error = EntryError {
        key: "source/192.0.2.1".into(),
        reason: "TooManySources".into(),
        message: "one is all this node takes".into(),
        ..EntryError::default()
    };
    agent.handle.nack(bad, "over the limit", vec![error.clone()]);

    let is_refused = |progress: &Progress| matches!(progress, Progress::Refused { .. });
    let report = controller.report("a", |it| is_refused(&it.progress)).await;
    let Progress::Refused { held, nack } = report.progress else { panic!("{report:?}") };
    assert_eq!((held, nack.revision, &nack.errors), (Some(good), bad, &vec![error]));
    assert_eq!(nack.reason, "over the limit");
    agent.kill().await;
    let agent = Agent::start(controller.address, "a", state.path());
    let first = agent.handle.config.borrow().clone().unwrap();
    assert_eq!((first.revision, first.source), (good, Source::LastKnownGood));
    assert_eq!(first.configuration, entries(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_taken_in_part_is_told_survives_a_restart_and_is_built_upon() {
    let mut controller = Controller::start().await;
    let first = controller.configure("a", entries(200));
    let (agent, state) = Agent::join(&controller, "a");
    agent.delivered(first).await;
    let error = EntryError {
        key: "source/192.0.2.1".into(),
        reason: "Invalid".into(),
        message: "not today".into(),
        ..EntryError::default()
    };
    let refusals = Arc::new(Refusals { errors: vec![error.clone()], kept: entries(1) });

    agent.handle.ack_in_part(first, Arc::clone(&refusals));

    let refused: Arc<[_]> = [error].into();
    let in_part = Progress::AppliedInPart { revision: first, refused };
    controller.report("a", |it| it.progress == in_part).await;
    agent.kill().await;
    let controller = controller.kill().await;
    let agent = Agent::start(controller.address, "a", state.path());
    let held = agent.handle.config.borrow().clone().unwrap();
    assert_eq!((held.revision, &held.configuration), (first, &entries(200)));
    assert_eq!(held.refusals, refusals);

    // A controller without a memory hears it from the greeting alone.
    let mut controller = controller.start();
    controller.report("a", |it| it.progress == in_part).await;
    let sent = controller.metrics.sent_bytes.get();
    let second = controller.configure("a", entries(201));
    let next = agent.delivered(second).await;
    assert_eq!(next.configuration, entries(201));
    assert!(controller.metrics.sent_bytes.get() - sent < 1000, "a delta on what was sent");
    agent.handle.ack(second);
    controller.report("a", |it| it.progress == Progress::Applied { revision: second }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_resumes_with_a_delta() {
    let mut controller = Controller::start().await;
    let first = controller.configure("a", entries(200));
    let (agent, state) = Agent::join(&controller, "a");
    agent.delivered(first).await;
    agent.handle.ack(first);
    controller.report("a", |it| it.progress == Progress::Applied { revision: first }).await;
    agent.kill().await;
    controller.report("a", |it| matches!(it.link, Link::Disconnected(_))).await;
    let snapshot_bytes = controller.metrics.sent_bytes.get();

    let second = controller.configure("a", entries(201));
    let agent = Agent::start(controller.address, "a", state.path());
    let received = agent.delivered(second).await;

    assert_eq!(received.configuration, entries(201));
    let delta_bytes = controller.metrics.sent_bytes.get() - snapshot_bytes;
    assert!(delta_bytes < snapshot_bytes / 20, "{delta_bytes} of {snapshot_bytes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_starts_without_its_controller_and_finds_it_again() {
    let mut controller = Controller::start().await;
    let first = controller.configure("a", entries(1));
    let (agent, state) = Agent::join(&controller, "a");
    agent.delivered(first).await;
    agent.handle.ack(first);
    controller.report("a", |it| it.progress == Progress::Applied { revision: first }).await;
    agent.kill().await;
    let second = controller.configure("a", entries(2));
    let stopped = controller.stop().await;

    let agent = Agent::start(stopped.address, "a", state.path());
    let received = agent.delivered(first).await;
    assert_eq!(received.source, Source::LastKnownGood);
    agent.handle.ack(first);

    let _controller = stopped.start();
    assert_eq!(agent.delivered(second).await.configuration, entries(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_controller_finds_its_agents_again_and_sends_them_only_what_is_new() {
    let mut controller = Controller::start().await;
    let first = controller.configure("a", entries(3));
    let (agent, _state) = Agent::join(&controller, "a");
    agent.delivered(first).await;
    agent.handle.ack(first);
    controller.report("a", |it| it.progress == Progress::Applied { revision: first }).await;

    let mut controller = controller.kill().await.start();

    // It knows from the greeting alone that nothing needs to be sent.
    controller.report("a", |it| it.progress == Progress::Applied { revision: first }).await;
    assert_eq!(controller.metrics.sent_bytes.get(), 0);
    let second = controller.configure("a", entries(4));
    agent.delivered(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_moves_to_another_controller_when_its_own_is_killed() {
    let mut controller = Controller::start().await;
    let here = controller.address;
    let there = SocketAddr::new(Ipv4Addr::new(127, 0, 0, 2).into(), here.port());
    let first = controller.configure("a", entries(1));
    let (agent, _state) = Agent::join_any(&controller, format!("{there},{here}"), "a");
    agent.delivered(first).await;

    for (turn, address) in [there, here, there].into_iter().enumerate() {
        let mut stopped = controller.kill().await;
        // What it knew is the platform's.
        stopped.address = address;
        controller = stopped.start();
        let next = controller.configure("a", entries(2 + turn));
        agent.delivered(next).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_not_good_are_refused_with_their_reason() {
    let mut controller = Controller::start().await;
    for node in ["a", "b"] {
        controller.configure(node, entries(1));
    }
    let now = SystemTime::now();
    let (first, used) = Agent::join(&controller, "a");
    first.link(|state| *state == LinkState::Connected).await;
    let used = std::fs::read_to_string(token_file(used.path())).unwrap();
    let expired = controller.token("a", Duration::from_secs(60), now - HOUR);
    let foreign = controller.token("b", HOUR, now);
    let mut unknown = controller.token("a", HOUR, now);
    unknown.replace_range(9..25, "0123456789abcdef");

    for (token, reason) in [
        (used, "TokenUsed"),
        (expired, "TokenExpired"),
        (foreign, "TokenOfAnotherNode"),
        (unknown, "TokenUnknown"),
        ("isocast1.garbage".to_owned(), "not a join token"),
    ] {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(token_file(state.path()), token).unwrap();
        let agent = Agent::start(controller.address, "a", state.path());
        agent.refused(reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_token_says_how_to_get_one_and_joins_once_it_is_there() {
    let mut controller = Controller::start().await;
    let revision = controller.configure("a", entries(1));
    let state = tempfile::tempdir().unwrap();
    let agent = Agent::start(controller.address, "a", state.path());
    agent.refused("cannot read the join token").await;

    let token = controller.token("a", HOUR, SystemTime::now());
    std::fs::write(token_file(state.path()), token).unwrap();

    agent.delivered(revision).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_of_another_authority_is_refused_by_the_agent() {
    let mut ours = Controller::start().await;
    ours.configure("a", entries(1));
    let mut other = Controller::start().await;
    other.configure("a", entries(1));
    let (agent, state) = Agent::join(&ours, "a");
    agent.link(|state| *state == LinkState::Connected).await;
    agent.kill().await;

    let joined = Agent::start(other.address, "a", state.path());
    joined.refused("not the one this node knows").await;

    let new = tempfile::tempdir().unwrap();
    let token = ours.token("a", HOUR, SystemTime::now());
    std::fs::write(token_file(new.path()), token).unwrap();
    let joining = Agent::start(other.address, "a", new.path());
    joining.refused("not the one this node knows").await;
    assert_eq!(other.metrics.enrolled.get(), 0);
}

/// Puts a certificate that `issuer` issued at `issued` for an hour into a state folder that trusts
/// `trusted`.
fn forge(issuer: &Controller, trusted: &Controller, issued: SystemTime) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    let chain = issuer.pki.issue_node(request.der(), "a", &uid("a"), HOUR, issued).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let ca = trusted.pki.certificate().clone();
    let identity = Identity::new(key, chain[0].clone(), ca).unwrap();
    identity.save(&StateDir::open(state.path()).unwrap()).unwrap();
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_of_another_authority_is_refused_by_the_controller() {
    let mut controller = Controller::start().await;
    controller.configure("a", entries(1));
    let other = Controller::start().await;
    let state = forge(&other, &controller, SystemTime::now());

    let agent = Agent::start(controller.address, "a", state.path());

    agent.refused("does not accept this node's certificate").await;
    assert_eq!(controller.nodes.report("a"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_at_two_thirds_of_its_life() {
    let mut controller = Controller::start_with(Duration::from_secs(3)).await;
    let first = controller.configure("a", entries(1));
    let (agent, _state) = Agent::join(&controller, "a");
    agent.delivered(first).await;
    agent.handle.ack(first);

    counted(|| agent.metrics.enrollments.get(), 2).await;

    let second = controller.configure("a", entries(2));
    agent.delivered(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expired_not_long_ago_is_renewed_without_a_token() {
    let mut controller = Controller::start().await;
    let revision = controller.configure("a", entries(1));
    let days_ago = SystemTime::now() - Duration::from_secs(20 * 24 * 3600);
    let state = forge(&controller, &controller, days_ago);

    let agent = Agent::start(controller.address, "a", state.path());

    agent.delivered(revision).await;
    assert_eq!(agent.metrics.enrollments.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expired_long_ago_is_not_renewed() {
    let mut controller = Controller::start().await;
    controller.configure("a", entries(1));
    let long_ago = SystemTime::now() - Duration::from_secs(40 * 24 * 3600);
    let state = forge(&controller, &controller, long_ago);

    let agent = Agent::start(controller.address, "a", state.path());

    agent.refused("expired long ago").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_node_is_shut_out_and_a_later_one_of_its_name_inherits_nothing() {
    let mut controller = Controller::start().await;
    let first = controller.configure("a", entries(1));
    let (agent, _state) = Agent::join(&controller, "a");
    agent.delivered(first).await;

    controller.delete("a");
    agent.refused("the node is unknown").await;
    controller.set("a", "another uid".into(), entries(2));

    counted(|| agent.metrics.connections.get(), 2).await;
    agent.refused("the node is unknown").await;
    controller.no_report("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_connection_of_a_node_is_the_one_that_counts() {
    let mut controller = Controller::start().await;
    let revision = controller.configure("a", entries(1));
    let (agent, state) = Agent::join(&controller, "a");
    agent.delivered(revision).await;
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(state.path().join("identity.pem"), copy.path().join("identity.pem")).unwrap();

    let _second = Agent::start(controller.address, "a", copy.path());

    agent.refused("superseded").await;
}
