//! The bench: a controller that says what a test wants, a real agent on an edge, and a router that
//! knows what it was told, in two network namespaces joined by a wire.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test support: it fails where it stands"
)]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use isocast_api::agent::{CaFingerprint, Configuration, Entry};
use isocast_controller::{
    cabinet::{Cabinet, Folder, Sheet},
    fleet::{Desired, Fleet, NodeRef, Options, Source, Tokens},
    pki::Pki,
};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use tokio::{runtime::Runtime, sync::watch};
use tokio_util::sync::CancellationToken;

/// How long anything may take here: several times what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const NODE: &str = "edge-1";
pub(crate) const EDGE: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 2);
pub(crate) const EDGE_ASN: u32 = 65_010;
pub(crate) const ROUTER_ASN: u32 = 65_001;
pub(crate) const PORT: u16 = 8080;
const ROUTER_API: &str = "127.0.0.1:9179";

static BENCHES: AtomicU32 = AtomicU32::new(0);

/// See the module.
pub(crate) struct Bench {
    name: String,
    dir: tempfile::TempDir,
    source: TestSource,
    revision: u64,
    listeners: BTreeMap<u8, TcpListener>,
    agent: Process,
    _router: Process,
    _runtime: Runtime,
    namespaces: [Namespace; 2],
}

struct Process(Child);

struct Namespace(String);

struct TestSource(watch::Sender<Arc<dyn Desired>>);

#[derive(Debug)]
struct World {
    revision: u64,
    configuration: Configuration,
}

impl Desired for World {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn node_uid(&self, node: &str) -> Option<String> {
        (node == NODE).then(|| "uid".to_owned())
    }

    fn compile(&self, _node: &str) -> Configuration {
        self.configuration.clone()
    }
}

impl Source for TestSource {
    fn desired(&self) -> watch::Receiver<Arc<dyn Desired>> {
        self.0.subscribe()
    }
}

/// Who tells the agent what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A controller, which says whatever the test wants.
    ByController,
    /// A file: nobody says who else announces what.
    ByFile,
}

const BACKLOG: i32 = 4096;
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The address of a service.
pub(crate) fn address(number: u8) -> String {
    format!("203.0.113.{number}")
}

// === impl Bench ===

impl Bench {
    /// Runs a test on a thread of its own, with an agent that serves `entries`; something listens at
    /// the first `services` addresses.
    pub(crate) fn run(
        told: Told,
        services: u8,
        entries: Vec<Entry>,
        test: impl FnOnce(&mut Self) + Send + 'static,
    ) {
        let number = BENCHES.fetch_add(1, Ordering::Relaxed);
        let name = format!("isot-safe-{}-{number}", std::process::id());
        let inside = thread::spawn(move || {
            let namespaces = wired(&name, services);
            enter(&namespaces[0].0);
            test(&mut Self::start(told, name, namespaces, services, entries));
        });
        if let Err(panic) = inside.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn start(
        told: Told,
        name: String,
        namespaces: [Namespace; 2],
        services: u8,
        entries: Vec<Entry>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = serde_json::json!({"entries": entries}).to_string();
        fs::write(dir.path().join("agent.json"), file).unwrap();
        let configuration = Configuration::from_entries(entries).unwrap();
        let first: Arc<dyn Desired> = Arc::new(World { revision: 1, configuration });
        let source = TestSource(watch::Sender::new(first));
        // Its threads are born into this thread's namespace.
        let runtime = Runtime::new().unwrap();
        let entered = runtime.enter();
        let pki = Arc::new(Pki::open(&dir.path().join("pki"), SystemTime::now()).unwrap());
        let cabinet: Arc<dyn Cabinet> = Arc::new(Folder::new(dir.path()));
        let ca = CaFingerprint::of(pki.certificate());
        let tokens = Arc::new(Tokens::open(Sheet::new(&cabinet, "join-tokens.json"), ca).unwrap());
        let options = Options {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            data: dir.path(),
            certificate_ttl: Duration::from_secs(3600),
            tokens: &tokens,
        };
        let fleet = Fleet::bind(options, pki, &source, Arc::default()).unwrap();
        let controller = fleet.local_addr().unwrap();
        let node = NodeRef { name: NODE.into(), uid: "uid".into() };
        let issued = tokens.create(node, None, SystemTime::now()).unwrap();
        runtime.spawn(fleet.run(CancellationToken::new()));
        drop(entered);
        fs::write(dir.path().join("token"), issued.token).unwrap();
        let listeners = (0..services).map(|number| (number, listen(number))).collect();

        let router = router(&namespaces[1], dir.path());
        let mut agent = Command::new(env!("CARGO_BIN_EXE_isocast-agent"));
        match told {
            Told::ByController => agent
                .args(["run", "--node", NODE, "--controller", &controller.to_string()])
                .arg("--join-token-file")
                .arg(dir.path().join("token")),
            Told::ByFile => agent.args(["run", "--config"]).arg(dir.path().join("agent.json")),
        };
        let agent = agent
            .arg("--state")
            .arg(dir.path().join("state"))
            .arg("--bpffs")
            .arg(pins(&name))
            .arg("--admin-socket")
            .arg(dir.path().join("agent.sock"))
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self {
            name,
            dir,
            source,
            revision: 1,
            listeners,
            agent: Process(agent),
            _router: Process(router),
            _runtime: runtime,
            namespaces,
        }
    }

    /// The controller says this from now on.
    pub(crate) fn configure(&mut self, entries: Vec<Entry>) {
        self.revision += 1;
        let configuration = Configuration::from_entries(entries).unwrap();
        self.source.0.send_replace(Arc::new(World { revision: self.revision, configuration }));
        let revision = self.revision;
        self.eventually("the configuration is in force", |bench| {
            bench.status()["revision"] == revision
        });
    }

    /// The application behind a service dies.
    pub(crate) fn fail(&mut self, number: u8) {
        self.listeners.remove(&number);
    }

    /// It is back.
    pub(crate) fn recover(&mut self, number: u8) {
        self.listeners.insert(number, listen(number));
    }

    /// The prefixes that the router has.
    pub(crate) fn routes(&self) -> usize {
        let namespace = self.namespaces[1].0.clone();
        let dialling = thread::spawn(move || {
            enter(&namespace);
            TcpStream::connect(ROUTER_API)
        });
        let Ok(mut stream) = dialling.join().unwrap() else { return 0 };
        let answer = ask(&mut stream, "/v1/routes?family=ipv4-unicast");
        let routes = answer["routes"].as_array().or(answer.as_array());
        routes.map_or(0, Vec::len)
    }

    /// How many services have this reason in their condition Announced.
    pub(crate) fn count(&self, reason: &str) -> usize {
        let status = self.status();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        services.iter().filter(|it| it["announced"]["reason"] == reason).count()
    }

    /// Whether the agent knows that nobody else announces its services.
    pub(crate) fn keeps_everything(&self) -> bool {
        let status = self.status();
        let services = status["services"].as_array();
        services.is_some_and(|all| all.iter().all(|service| service["keeper"] == true))
    }

    /// A metric of the agent.
    pub(crate) fn metric(&self, start: &str) -> Option<f64> {
        let mut stream = UnixStream::connect(self.dir.path().join("agent.sock")).ok()?;
        let text = exchange(&mut stream, "/metrics");
        let line = text.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// What the agent says of itself; null while it does not answer.
    pub(crate) fn status(&self) -> Value {
        match UnixStream::connect(self.dir.path().join("agent.sock")) {
            Ok(mut stream) => ask(&mut stream, "/v1/status"),
            Err(_) => Value::Null,
        }
    }

    /// Waits until something holds.
    pub(crate) fn eventually(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "never: {what}\n{:#}\n{}", self.status(), log());
            #[expect(
                clippy::disallowed_methods,
                reason = "who looks without a pause takes the processor from whom it looks at"
            )]
            thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Checks for a while that something goes on to hold.
    pub(crate) fn all_along(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(3);
        while Instant::now() < deadline {
            assert!(holds(self), "not any more: {what}\n{:#}", self.status());
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.agent.0.kill().ok();
        self.agent.0.wait().ok();
        fs::remove_dir_all(pins(&self.name)).ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        Command::new("ip").args(["netns", "del", &self.0]).status().ok();
    }
}

fn pins(name: &str) -> PathBuf {
    Path::new("/sys/fs/bpf/isocast-test").join(name)
}

/// Two namespaces with a wire between them; the first has the services' addresses.
fn wired(name: &str, services: u8) -> [Namespace; 2] {
    let namespaces = ["a", "b"].map(|end| {
        let namespace = Namespace(format!("{name}-{end}"));
        ip(&["netns", "add", &namespace.0]);
        ip(&["-n", &namespace.0, "link", "set", "lo", "up"]);
        namespace
    });
    let [edge, router] = [&namespaces[0].0, &namespaces[1].0];
    let wire = ["link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns"];
    ip(&[&["-n", edge.as_str()], &wire[..], &[router.as_str()]].concat());
    for (namespace, address) in [(edge, EDGE), (router, ROUTER)] {
        ip(&["-n", namespace, "address", "add", &format!("{address}/24"), "dev", "eth1"]);
        ip(&["-n", namespace, "link", "set", "eth1", "up"]);
    }
    for number in 0..services {
        ip(&["-n", edge, "address", "add", &format!("{}/32", address(number)), "dev", "lo"]);
    }
    namespaces
}

fn router(namespace: &Namespace, dir: &Path) -> Child {
    let config = dir.join("router.toml");
    let text = format!(
        "[router]\nasn = {ROUTER_ASN}\nrouter-id = '{ROUTER}'\nlisten = ['{ROUTER}:179']\n\
         [api]\nlisten = '{ROUTER_API}'\n[[peer]]\nname = 'edge'\naddress = '{EDGE}'\n\
         asn = {EDGE_ASN}\nhold-time-s = 9\nimport = {{ default = 'accept' }}\n"
    );
    fs::write(&config, text).unwrap();
    Command::new("ip")
        .args(["netns", "exec", &namespace.0, env!("CARGO_BIN_EXE_isocast-agent")])
        .args(["speaker", "--config"])
        .arg(&config)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn listen(number: u8) -> TcpListener {
    // Nobody accepts: the kernel's handshake is all that the check asks for, and there is room for
    // the checks of ten minutes.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpListener::bind((address(number), PORT)) {
            Ok(listener) => {
                socket2::SockRef::from(&listener).listen(BACKLOG).unwrap();
                return listener;
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    setns(file, CloneFlags::CLONE_NEWNET).unwrap();
}

fn ask(stream: &mut (impl Read + Write), path: &str) -> Value {
    serde_json::from_str(&exchange(stream, path)).unwrap_or(Value::Null)
}

fn exchange(stream: &mut (impl Read + Write), path: &str) -> String {
    let request = format!("GET {path} HTTP/1.0\r\nHost: agent\r\n\r\n");
    let mut answer = String::new();
    if stream.write_all(request.as_bytes()).is_ok() {
        drop(stream.read_to_string(&mut answer));
    }
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?} (root is needed)");
}
