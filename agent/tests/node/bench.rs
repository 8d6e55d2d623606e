//! The bench: a namespace with an uplink, a controller or several, kubectl, and agents.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test support: it fails where it stands"
)]

use std::{
    cell::{Cell, RefCell},
    fs::{self, File},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use isocast_controller::{
    controller::Controller,
    options::{LogFormat, RunOptions, StoreOptions},
};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{etcd::Etcd, processes::Process};

/// How long anything may take here: several times what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
const NODES: &str = "/apis/network.isocast.dev/v1alpha1/nodes";

static BENCHES: AtomicU32 = AtomicU32::new(0);

/// See the module.
pub(crate) struct Bench {
    name: String,
    dir: tempfile::TempDir,
    kubeconfig: RefCell<PathBuf>,
    /// Where agents find controllers, as they are told.
    agents_at: String,
    agents: Cell<u32>,
    /// The one within this process, if it is not processes.
    controller: Option<JoinHandle<()>>,
    shutdown: CancellationToken,
}

/// A running agent.
pub(crate) struct Agent {
    process: Child,
    command: Command,
    socket: PathBuf,
    log: PathBuf,
}

// === impl Bench ===

impl Bench {
    /// Runs a test on a thread of its own, inside a namespace of its own.
    pub(crate) fn run(test: impl FnOnce(&Self) + Send + 'static) {
        inside(|name| test(&Self::start(name)));
    }

    /// The same with controllers that are processes, on one etcd. kubectl asks the first one.
    pub(crate) fn run_on_etcd<const COUNT: usize>(
        test: impl FnOnce(&Self, [Process; COUNT]) + Send + 'static,
    ) {
        inside(|name| {
            let dir = tempfile::tempdir().unwrap();
            let etcd = Etcd::start();
            let processes = Process::several(dir.path(), &etcd);
            let agents_at = processes.each_ref().map(Process::agents_at).join(",");
            let kubeconfig = RefCell::new(processes[0].kubeconfig());
            let (agents, shutdown) = (Cell::default(), CancellationToken::new());
            let this =
                Self { name, dir, kubeconfig, agents_at, agents, controller: None, shutdown };
            test(&this, processes);
        });
    }

    /// From now on kubectl asks this one.
    pub(crate) fn talk_to(&self, controller: &Process) {
        self.kubeconfig.replace(controller.kubeconfig());
    }

    fn start(name: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir.path().join("data"));
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let (tell, told) = mpsc::channel();
        let controller = thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let controller = Controller::start(&options).await.unwrap();
                let agents_at = controller.agent_addr().unwrap();
                tell.send((controller.kubeconfig().to_owned(), agents_at)).unwrap();
                controller.run(stop).await;
            });
        });
        let (kubeconfig, agents_at) = told.recv().unwrap();
        let (kubeconfig, agents_at) = (RefCell::new(kubeconfig), agents_at.to_string());
        let (agents, controller) = (Cell::new(0), Some(controller));
        Self { name, dir, kubeconfig, agents_at, agents, controller, shutdown }
    }

    pub(crate) fn apply(&self, manifest: &str) {
        self.kubectl(&["apply", "-f", "-"], manifest);
    }

    /// A new join token.
    pub(crate) fn token(&self, node: &str) -> String {
        let path = format!("{NODES}/{node}/token");
        let answer = self.kubectl(&["create", "--raw", &path, "-f", "-"], r#"{"ttl":"1h"}"#);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn start_agent(&self, node: &str, arguments: &[&str]) -> Agent {
        self.start_agent_with(node, &self.token(node), arguments)
    }

    pub(crate) fn start_agent_with(&self, node: &str, token: &str, arguments: &[&str]) -> Agent {
        let number = self.agents.replace(self.agents.get() + 1);
        let dir = self.dir.path().join(format!("agent-{number}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("token"), token).unwrap();
        let (socket, log) = (dir.join("agent.sock"), dir.join("log"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_isocast-agent"));
        command
            .args(["run", "--node", node, "--controller", &self.agents_at])
            .arg("--state")
            .arg(dir.join("state"))
            .arg("--join-token-file")
            .arg(dir.join("token"))
            .arg("--bpffs")
            .arg(format!("{}/{number}", self.pins().display()))
            .arg("--admin-socket")
            .arg(&socket)
            .args(arguments)
            .stderr(File::create(&log).unwrap());
        let process = command.spawn().unwrap();
        Agent { process, command, socket, log }
    }

    /// Kills an agent and starts it anew over what it left behind.
    pub(crate) fn restart(&self, agent: &mut Agent) {
        agent.process.kill().unwrap();
        agent.process.wait().unwrap();
        fs::remove_file(&agent.socket).ok();
        agent.process = agent.command.spawn().unwrap();
    }

    pub(crate) fn delete(&self, service: &str) {
        self.kubectl(&["delete", "-n", "web", "anycastservice", service], "");
    }

    /// Whether a condition of a service has this reason.
    pub(crate) fn is(&self, service: &str, kind: &str, reason: &str) -> bool {
        self.condition(service, kind).is_some_and(|it| it["reason"] == reason)
    }

    /// Whether a condition of a node has this reason.
    pub(crate) fn node_is(&self, node: &str, kind: &str, reason: &str) -> bool {
        let object = self.kubectl(&["get", "node.network.isocast.dev", node, "-o", "json"], "");
        condition(&object, kind).is_some_and(|it| it["reason"] == reason)
    }

    /// A condition of a service.
    pub(crate) fn condition(&self, service: &str, kind: &str) -> Option<Value> {
        let object =
            self.kubectl(&["get", "-n", "web", "anycastservice", service, "-o", "json"], "");
        condition(&object, kind)
    }

    pub(crate) fn is_connected(&self, node: &str) -> bool {
        let object = self.kubectl(&["get", "node.network.isocast.dev", node, "-o", "json"], "");
        condition(&object, "Connected").is_some_and(|it| it["status"] == "True")
    }

    /// Waits until something holds.
    pub(crate) fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(
                Instant::now() < deadline,
                "never: {what}\n{}\n{}",
                self.try_kubectl(&["get", "anycastservices", "-A", "-o", "yaml"], "")
                    .unwrap_or_else(|error| error),
                self.logs()
            );
            thread::yield_now();
        }
    }

    /// What kubectl prints, or what it complains of.
    pub(crate) fn try_kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut child = Command::new(kubectl())
            .env("KUBECONFIG", &*self.kubeconfig.borrow())
            .env("HOME", self.dir.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_kubectl(arguments, input);
        assert!(output.is_ok(), "kubectl {arguments:?}: {output:?}");
        output.unwrap()
    }

    /// What a node answers through the controller.
    pub(crate) fn ask(&self, node: &str, target: &str) -> Result<Value, String> {
        let answer =
            self.try_kubectl(&["get", "--raw", &format!("{NODES}/{node}/agent/{target}")], "");
        answer.map(|answer| serde_json::from_str(&answer).unwrap())
    }

    /// The same for a question with a body.
    pub(crate) fn post(&self, node: &str, target: &str, body: &Value) -> Result<Value, String> {
        let path = format!("{NODES}/{node}/agent/{target}");
        let answer = self.try_kubectl(&["create", "--raw", &path, "-f", "-"], &body.to_string());
        answer.map(|answer| serde_json::from_str(&answer).unwrap())
    }

    /// An object that has no namespace, if it is there.
    pub(crate) fn object(&self, kind: &str, name: &str) -> Option<Value> {
        let answer = self.try_kubectl(&["get", kind, name, "-o", "json"], "").ok()?;
        Some(serde_json::from_str(&answer).unwrap())
    }

    /// A router beside the node, at 10.98.0.254, that tells it of 192.0.2.0/24.
    pub(crate) fn start_router(&self) -> Router {
        ip(&["-n", &self.name, "address", "add", "10.98.0.254/32", "dev", "lo"]);
        let file = self.dir.path().join("router.toml");
        fs::write(&file, ROUTER).unwrap();
        let log = File::create(self.dir.path().join("router.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_isocast-agent"));
        command.arg("speaker").arg("--config").arg(file).stderr(log);
        Router(command.spawn().unwrap())
    }

    fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/isocast-test").join(&self.name)
    }

    fn logs(&self) -> String {
        let agents = 0..self.agents.get();
        let log = |number| fs::read_to_string(self.dir.path().join(format!("agent-{number}/log")));
        agents.filter_map(|number| log(number).ok()).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(controller) = self.controller.take() {
            let ended = controller.join();
            assert!(ended.is_ok() || thread::panicking(), "the controller failed");
        }
        fs::remove_dir_all(self.pins()).ok();
    }
}

/// A running router.
pub(crate) struct Router(Child);

impl Router {
    /// A figure of what the node told it.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(ROUTER_API).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let is_it = |line: &&str| !line.starts_with('#') && line.contains(name);
        let line = answer.lines().find(is_it).unwrap_or_else(|| panic!("no {name} in {answer}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

// === impl Agent ===

impl Agent {
    /// What the agent says on its socket.
    pub(crate) fn status(&self) -> Value {
        self.exchange("GET /v1/status HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")
    }

    /// What the agent answers to a question that is POSTed.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        self.exchange(&format!(
            "POST {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn exchange(&self, request: &str) -> Value {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    /// Whether there is somebody to ask.
    pub(crate) fn answers(&self) -> bool {
        UnixStream::connect(&self.socket).is_ok()
    }

    /// What `isocast-agent status` shows.
    pub(crate) fn table(&self) -> String {
        self.command(&["status"])
    }

    /// What a command of `isocast-agent` shows of this one.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_isocast-agent"))
            .args(arguments)
            .arg("--admin-socket")
            .arg(&self.socket)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn has_logged(&self, word: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|log| log.contains(word))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

const ROUTER_API: &str = "127.0.0.1:9179";

const ROUTER: &str = r#"
[router]
asn = 65001
router-id = "10.98.0.254"
listen = ["10.98.0.254:179"]

[api]
listen = "127.0.0.1:9179"

[[peer]]
name = "edge-1"
address = "10.98.0.1"
asn = 65010
local-address = "10.98.0.254"
passive = true
hold-time-s = 9
import = { default = "accept" }
export = { default = "accept" }

[[announce]]
prefix = "192.0.2.0/24"
next-hop = "self"
"#;

/// Runs something on a thread of its own, inside a namespace of its own, whose name it is given.
fn inside(run: impl FnOnce(String) + Send + 'static) {
    let number = BENCHES.fetch_add(1, Ordering::Relaxed);
    let name = format!("isot-node-{}-{number}", std::process::id());
    let namespace = Namespace::new(name.clone());
    let inside = thread::spawn(move || {
        let file = File::open(format!("/run/netns/{name}")).unwrap();
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        run(name);
    });
    let ended = inside.join();
    drop(namespace);
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// A namespace with a loopback and an uplink.
struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: String) -> Self {
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        let inside =
            |arguments: &[&str]| ip(&[&["-n", namespace.name.as_str()], arguments].concat());
        inside(&["link", "set", "lo", "up"]);
        inside(&["link", "add", "eth1", "type", "veth", "peer", "name", "wire1"]);
        inside(&["address", "add", "10.98.0.1/24", "dev", "eth1"]);
        inside(&["link", "set", "eth1", "up"]);
        inside(&["link", "set", "wire1", "up"]);
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        Command::new("ip").args(["netns", "del", &self.name]).status().ok();
    }
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?} (root is needed)");
}

fn condition(object: &str, kind: &str) -> Option<Value> {
    let object: Value = serde_json::from_str(object).unwrap();
    let all = object["status"]["conditions"].as_array()?;
    all.iter().find(|condition| condition["type"] == kind).cloned()
}

fn options(data: &Path) -> RunOptions {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    RunOptions {
        data: data.to_owned(),
        listen: any,
        agent_listen: any,
        advertise: None,
        san: Vec::new(),
        metrics: None,
        store: StoreOptions::default(),
        history_revisions: 1_000_000,
        history_age: Duration::from_secs(30 * 86_400).into(),
        client_patience: Duration::from_secs(60).into(),
        audit_retention: None,
        log_format: LogFormat::Text,
    }
}

fn kubectl() -> PathBuf {
    let tools = std::env::var_os("ISOCAST_TOOLS").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/isocast/tools"),
        PathBuf::from,
    );
    tools.join("kubectl")
}

/// The services' pool with these backends.
pub(crate) fn pool(addresses: &[&str]) -> String {
    let backend = |address: &&str| format!("{{address: {address}, datacenter: ams, weight: 1}}");
    let backends: Vec<_> = addresses.iter().map(backend).collect();
    format!(
        "
apiVersion: network.isocast.dev/v1alpha1
kind: BackendPool
metadata: {{name: www, namespace: web}}
spec: {{backends: [{}]}}
",
        backends.join(", ")
    )
}

/// A service with an address of its own.
pub(crate) fn service(name: &str) -> String {
    format!(
        "
apiVersion: network.isocast.dev/v1alpha1
kind: AddressClaim
metadata: {{name: {name}, namespace: web}}
spec: {{pool: public, family: IPv4}}
---
apiVersion: network.isocast.dev/v1alpha1
kind: AnycastService
metadata: {{name: {name}, namespace: web}}
spec:
  addresses: [{{claim: {name}}}]
  ports: [{{name: http, protocol: TCP, port: 80}}]
  backendPool: www
"
    )
}

pub(crate) const PLATFORM: &str = "
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Organization
metadata: {name: acme}
spec: {displayName: Acme}
---
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Project
metadata: {name: web}
spec: {parent: {kind: Organization, name: acme}}
---
apiVersion: network.isocast.dev/v1alpha1
kind: Datacenter
metadata: {name: ams}
spec: {region: eu}
---
apiVersion: network.isocast.dev/v1alpha1
kind: Node
metadata: {name: edge-1}
spec:
  datacenter: ams
  roles: [Edge]
  tunnelAddresses: [10.98.0.1]
  uplinks: [{interface: eth1}]
  asn: 65010
---
apiVersion: network.isocast.dev/v1alpha1
kind: AddressPool
metadata: {name: public}
spec: {prefixes: [203.0.113.0/24], grants: [{organization: acme}]}
---
apiVersion: network.isocast.dev/v1alpha1
kind: BackendPool
metadata: {name: www, namespace: web}
spec: {backends: [{address: 10.98.0.9, datacenter: ams, weight: 1}]}
";

pub(crate) const SECOND_EDGE: &str = "
apiVersion: network.isocast.dev/v1alpha1
kind: Node
metadata: {name: edge-2}
spec:
  datacenter: ams
  roles: [Edge]
  tunnelAddresses: [10.98.0.2]
  uplinks: [{interface: eth1}]
  asn: 65010
";

pub(crate) const ROUTER_PEER: &str = "
apiVersion: network.isocast.dev/v1alpha1
kind: BGPPeer
metadata: {name: tor}
spec:
  connection: Fabric
  nodes: [edge-1]
  address: 10.98.0.254
  localAddress: 10.98.0.1
  peerASN: 65001
  families: [IPv4]
  holdTime: 9s
";
