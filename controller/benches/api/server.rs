//! [`Server`]: the released binary with a data folder of its own, and who talks to it.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use hyper::{Method, Response, StatusCode, body::Incoming};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::support::client::{Client, Credentials};

const RESOURCEMANAGER: &str = "/apis/resourcemanager.isocast.dev/v1alpha1";
const IAM: &str = "/apis/iam.isocast.dev/v1alpha1";
/// The project that is under load.
const PROJECT: &str = "bench";
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    process: Child,
    stopped: Stopped,
}

/// A server that may be started again.
pub(crate) struct Stopped {
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
}

/// Somebody whose requests are authenticated and authorized.
#[derive(Clone)]
pub(crate) struct Caller {
    credentials: Credentials,
    token: Option<Arc<str>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With arguments of its own.
    pub(crate) fn start_with(arguments: &[String]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let (folder, arguments) = (tempfile::tempdir().expect("a folder"), arguments.to_vec());
        Stopped { folder, port, arguments }.start()
    }

    /// Resident memory.
    pub(crate) fn rss_mib(&self) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(path).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib / 1024.0
    }

    /// Its administrator, once it answers.
    pub(crate) async fn platform(&self) -> Caller {
        let kubeconfig = self.stopped.kubeconfig();
        let answers = async {
            loop {
                if fs::exists(&kubeconfig).unwrap_or(false) {
                    let credentials = Credentials::load(&kubeconfig);
                    if credentials.connect().await.is_ok() {
                        return Caller { credentials, token: None };
                    }
                }
                // A process says by nothing else that it is ready.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, answers).await.expect("it answers")
    }

    /// An editor of an organization with one project, by token.
    pub(crate) async fn tenant(&self) -> Caller {
        let platform = self.platform().await;
        let mut client = platform.connect().await;
        let acme = json!({"displayName": "Acme"});
        made(&mut client, RESOURCEMANAGER, "organizations", "Organization", None, ("acme", acme))
            .await;
        let parent = json!({"parent": {"kind": "Organization", "name": "acme"}});
        made(&mut client, RESOURCEMANAGER, "projects", "Project", None, (PROJECT, parent)).await;
        let account = ("load", json!({}));
        made(&mut client, IAM, "serviceaccounts", "ServiceAccount", Some(PROJECT), account).await;
        let binding = json!({
            "effect": "Allow",
            "role": {"name": "editor", "namespace": "isocast-system"},
            "subjects": [{"kind": "ServiceAccount", "name": "load"}],
        });
        made(&mut client, IAM, "policybindings", "PolicyBinding", Some(PROJECT), ("load", binding))
            .await;
        let path = format!("{IAM}/namespaces/{PROJECT}/serviceaccounts/load/token");
        let answer = client.post(&path, &json!({"spec": {"expirationSeconds": 3600}})).await;
        let token = answer.body["status"]["token"].as_str().expect("a token");
        let credentials = platform.credentials.anonymous();
        Caller { credentials, token: Some(token.into()) }
    }

    /// Somebody from before a restart, once they get an object again.
    pub(crate) async fn tenant_of(&self, before: &Caller) {
        self.platform().await;
        let mut client = before.connect().await;
        let answer = client.get(&format!("{}/{}", Caller::objects(), "f0-0")).await;
        assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    }

    /// Ends as a service manager would end it.
    pub(crate) fn stop(mut self) -> Stopped {
        let pid = nix::unistd::Pid::from_raw(self.process.id().try_into().expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).expect("it runs");
        self.process.wait().expect("it ends");
        let folder = tempfile::tempdir().expect("a folder");
        std::mem::replace(&mut self.stopped, Stopped { folder, port: 0, arguments: Vec::new() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Stopped {
    pub(crate) fn start(self) -> Server {
        let process = Command::new(env!("CARGO_BIN_EXE_isocast-controller"))
            .args([
                "--listen",
                &format!("127.0.0.1:{}", self.port),
                "--agent-listen",
                "127.0.0.1:0",
            ])
            .arg("--data")
            .arg(self.folder.path().join("data"))
            .args(&self.arguments)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        Server { process, stopped: self }
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("data/admin.kubeconfig")
    }
}

impl Caller {
    /// Where the objects under load are.
    pub(crate) fn objects() -> String {
        format!("/apis/network.isocast.dev/v1alpha1/namespaces/{PROJECT}/backendpools")
    }

    pub(crate) fn projects() -> String {
        format!("{RESOURCEMANAGER}/projects")
    }

    pub(crate) async fn connect(&self) -> Client {
        let mut client = self.credentials.connect().await.expect("gets in");
        client.bearer = self.token.as_deref().map(str::to_owned);
        client
    }
}

/// An object as objects are: about 1.2 KB with what the server adds.
pub(crate) fn object(name: &str) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1",
        "kind": "BackendPool",
        "metadata": {"name": name, "annotations": {"bench.example.com/pad": "x".repeat(800)}},
        "spec": {"backends": [{"address": "198.51.100.1", "datacenter": "ams", "weight": 1}]},
    })
}

/// A project below the organization.
pub(crate) fn project(name: &str) -> Value {
    json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"name": name},
        "spec": {"parent": {"kind": "Organization", "name": "acme"}},
    })
}

/// Sends a request and reads the answer to its end, unparsed: the machine is the server's, too.
pub(crate) async fn request(client: &mut Client, method: Method, path: &str, body: String) {
    let content_type = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let response = client.try_send(method, path, content_type, body).await.expect("an answer");
    let status = response.status();
    let body = drain(response).await;
    assert!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
}

async fn drain(response: Response<Incoming>) -> bytes::Bytes {
    use http_body_util::BodyExt;
    response.into_body().collect().await.expect("a body").to_bytes()
}

async fn made(
    client: &mut Client,
    group: &str,
    plural: &str,
    kind: &str,
    namespace: Option<&str>,
    (name, spec): (&str, Value),
) {
    let path = match namespace {
        Some(namespace) => format!("{group}/namespaces/{namespace}/{plural}"),
        None => format!("{group}/{plural}"),
    };
    let object = json!({
        "apiVersion": group.trim_start_matches("/apis/"),
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    });
    let answer = client.post(&path, &object).await;
    let known = [StatusCode::CREATED, StatusCode::CONFLICT];
    assert!(known.contains(&answer.code), "{answer:?}");
}
