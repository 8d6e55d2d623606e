//! A controller's fleet and agents' channels in one process, over QUIC on loopback.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use isocast_agent::sync::{self, LinkState, Received, StateDir, SyncHandle};
use isocast_api::agent::{CaFingerprint, Configuration, EncapSource, Entry, entry::Value};
use isocast_controller::{
    cabinet::{Cabinet, Folder, Sheet},
    fleet::{Desired, Fleet, Metrics, NodeRef, Nodes, Options, Report, Source, Tokens},
    pki::Pki,
};
use tempfile::TempDir;
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// How long a test waits for anything.
const DEADLINE: Duration = Duration::from_secs(20);

/// Nodes by name, with uid and configuration.
#[derive(Clone, Debug, Default)]
struct World {
    revision: u64,
    nodes: BTreeMap<String, (String, Configuration)>,
}

impl Desired for World {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn node_uid(&self, node: &str) -> Option<String> {
        self.nodes.get(node).map(|(uid, _)| uid.clone())
    }

    fn compile(&self, node: &str) -> Configuration {
        self.nodes.get(node).map(|(_, configuration)| configuration.clone()).unwrap_or_default()
    }
}

struct TestSource(watch::Sender<Arc<dyn Desired>>);

impl Source for TestSource {
    fn desired(&self) -> watch::Receiver<Arc<dyn Desired>> {
        self.0.subscribe()
    }
}

/// A controller's own runtime, so that it can be killed: one that ends sends nothing more.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A controller that knows the nodes it was told of.
pub(crate) struct Controller {
    pub(crate) pki: Arc<Pki>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) address: SocketAddr,
    world: World,
    source: TestSource,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    runtime: OwnRuntime,
    data: TempDir,
}

impl Controller {
    pub(crate) async fn start() -> Self {
        Self::start_with(Duration::from_secs(3600)).await
    }

    pub(crate) async fn start_with(certificate_ttl: Duration) -> Self {
        let data = tempfile::tempdir().unwrap();
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        Self::launch(data, any, World::default(), certificate_ttl)
    }

    fn launch(data: TempDir, listen: SocketAddr, world: World, certificate_ttl: Duration) -> Self {
        // Old enough to have issued certificates that are over by now.
        let founded = SystemTime::now() - Duration::from_secs(90 * 24 * 3600);
        let pki = Arc::new(Pki::open(data.path(), founded).unwrap());
        let first: Arc<dyn Desired> = Arc::new(world.clone());
        let source = TestSource(watch::Sender::new(first));
        let cabinet: Arc<dyn Cabinet> = Arc::new(Folder::new(data.path()));
        let ca = CaFingerprint::of(pki.certificate());
        let tokens = Arc::new(Tokens::open(Sheet::new(&cabinet, "join-tokens.json"), ca).unwrap());
        let options = Options { listen, data: data.path(), certificate_ttl, tokens: &tokens };
        let metrics = Arc::new(Metrics::default());
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let fleet = Fleet::bind(options, Arc::clone(&pki), &source, Arc::clone(&metrics)).unwrap();
        drop(entered);
        let nodes = fleet.nodes();
        let address = fleet.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let task = runtime.spawn(fleet.run(shutdown.clone()));
        Self {
            pki,
            tokens,
            nodes,
            metrics,
            address,
            world,
            source,
            shutdown,
            task,
            runtime: OwnRuntime(Some(runtime)),
            data,
        }
    }

    pub(crate) fn configure(&mut self, node: &str, configuration: Configuration) -> u64 {
        self.set(node, uid(node), configuration)
    }

    pub(crate) fn set(&mut self, node: &str, uid: String, configuration: Configuration) -> u64 {
        self.world.nodes.insert(node.into(), (uid, configuration));
        self.publish()
    }

    pub(crate) fn delete(&mut self, node: &str) {
        self.world.nodes.remove(node);
        self.publish();
    }

    fn publish(&mut self) -> u64 {
        self.world.revision += 1;
        self.source.0.send_replace(Arc::new(self.world.clone()));
        self.world.revision
    }

    pub(crate) fn token(&self, node: &str, ttl: Duration, now: SystemTime) -> String {
        let node = NodeRef { name: node.into(), uid: uid(node) };
        self.tokens.create(node, Some(ttl), now).unwrap().token
    }

    /// Ends in good order.
    pub(crate) async fn stop(mut self) -> Stopped {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap();
        self.end().await
    }

    /// Ends as a killed process does: at once, without a word.
    pub(crate) async fn kill(self) -> Stopped {
        self.end().await
    }

    /// Waits until all tasks are gone, or the successor finds the socket still bound.
    async fn end(mut self) -> Stopped {
        let runtime = self.runtime.0.take().unwrap();
        spawn_blocking(move || runtime.shutdown_timeout(DEADLINE)).await.unwrap();
        Stopped { data: self.data, address: self.address, world: self.world }
    }

    /// Waits until nothing is known of `node`.
    pub(crate) async fn no_report(&self, node: &str) {
        let mut changes = self.nodes.changes();
        let gone = changes.wait_for(|_| self.nodes.report(node).is_none());
        if timeout(DEADLINE, gone).await.is_err() {
            panic!("the report stays");
        }
    }

    /// Waits until the report of `node` is as wanted.
    pub(crate) async fn report(&self, node: &str, is_wanted: impl Fn(&Report) -> bool) -> Report {
        let mut changes = self.nodes.changes();
        let waiting = async {
            loop {
                if let Some(report) = self.nodes.report(node).filter(&is_wanted) {
                    return report;
                }
                changes.changed().await.unwrap();
            }
        };
        match timeout(DEADLINE, waiting).await {
            Ok(report) => report,
            Err(_) => panic!("the report stays {:?}", self.nodes.report(node)),
        }
    }
}

/// What is left of a controller that ended: data and address, but no memory of the agents.
pub(crate) struct Stopped {
    pub(crate) address: SocketAddr,
    data: TempDir,
    world: World,
}

impl Stopped {
    pub(crate) fn start(self) -> Controller {
        Controller::launch(self.data, self.address, self.world, Duration::from_secs(3600))
    }
}

/// An agent's channel, and the folder that outlives it.
pub(crate) struct Agent {
    pub(crate) handle: SyncHandle,
    pub(crate) metrics: sync::Metrics,
    task: JoinHandle<()>,
}

impl Agent {
    pub(crate) fn start(controller: impl ToString, node: &str, state: &Path) -> Self {
        let options = sync::Options {
            controller: controller.to_string(),
            node: node.into(),
            state_dir: StateDir::open(state).unwrap(),
            join_token_file: Some(token_file(state)),
            agent_version: "0".into(),
        };
        let metrics = sync::Metrics::default();
        let (handle, sync) = sync::start(options, metrics.clone()).unwrap();
        Self { handle, metrics, task: tokio::spawn(sync.run()) }
    }

    /// A node that joins, and the folder it keeps.
    pub(crate) fn join(controller: &Controller, node: &str) -> (Self, TempDir) {
        Self::join_any(controller, controller.address, node)
    }

    /// The same, of one that knows the addresses of others too.
    pub(crate) fn join_any(
        controller: &Controller,
        addresses: impl ToString,
        node: &str,
    ) -> (Self, TempDir) {
        let state = tempfile::tempdir().unwrap();
        let token = controller.token(node, Duration::from_secs(600), SystemTime::now());
        std::fs::write(token_file(state.path()), token).unwrap();
        (Self::start(addresses, node, state.path()), state)
    }

    /// Waits for a delivery of `revision`.
    pub(crate) async fn delivered(&self, revision: u64) -> Arc<Received> {
        let mut config = self.handle.config.clone();
        let is_it = |config: &Option<Arc<Received>>| {
            config.as_ref().is_some_and(|received| received.revision == revision)
        };
        match timeout(DEADLINE, config.wait_for(is_it)).await {
            Ok(received) => received.unwrap().clone().unwrap(),
            Err(_) => panic!("not delivered; the link is {:?}", self.handle.link.borrow()),
        }
    }

    /// Waits until the link is down for a reason that contains `words`.
    pub(crate) async fn refused(&self, words: &str) {
        self.link(|state| match state {
            LinkState::Connected => false,
            LinkState::Disconnected { reason } => reason.contains(words),
        })
        .await;
    }

    pub(crate) async fn link(&self, is_wanted: impl Fn(&LinkState) -> bool) {
        let mut link = self.handle.link.clone();
        if timeout(DEADLINE, link.wait_for(is_wanted)).await.is_err() {
            panic!("the link stays {:?}", self.handle.link.borrow());
        }
    }

    /// Ends at once, in whatever it was doing.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
    }
}

pub(crate) fn uid(node: &str) -> String {
    format!("uid-of-{node}")
}

pub(crate) fn token_file(state: &Path) -> std::path::PathBuf {
    state.join("join-token")
}

/// A configuration of so many entries.
pub(crate) fn entries(count: usize) -> Configuration {
    let entry = |index: usize| {
        let address = format!("192.0.2.{index}");
        let key = format!("source/{address}");
        Entry { key, value: Some(Value::Source(EncapSource { address, node: String::new() })) }
    };
    Configuration::from_entries((0..count).map(entry)).unwrap()
}

/// Waits until a counter reaches `at_least`; there is nothing to subscribe to.
pub(crate) async fn counted(what: impl Fn() -> u64, at_least: u64) {
    let start = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    while what() < at_least {
        assert!(start.elapsed() < DEADLINE, "the counter stays {}", what());
        ticks.tick().await;
    }
}
