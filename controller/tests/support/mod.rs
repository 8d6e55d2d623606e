//! A control plane within the test, and the real kubectl against it.

#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test support: each test uses its part, and fails where it stands"
)]

pub mod accounts;
pub mod client;
pub mod etcd;
pub mod process;

use std::{
    env,
    ffi::OsString,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use clap::Parser;
use isocast_controller::{
    controller::Controller,
    options::{Options, RunOptions},
    registry::Registry,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A running control plane in a folder of its own.
pub struct Api {
    pub folder: tempfile::TempDir,
    pub registry: Arc<Registry>,
    kubeconfig: PathBuf,
    running: Option<JoinHandle<()>>,
    shutdown: CancellationToken,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub out: String,
    pub err: String,
    pub ok: bool,
}

impl Api {
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// With options of its own.
    pub fn start_with(change: impl FnOnce(&mut RunOptions)) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), change)
    }

    /// Ends, and starts again with the same data.
    pub fn restart(mut self) -> Self {
        let elsewhere = tempfile::tempdir().expect("a temporary folder");
        let folder = std::mem::replace(&mut self.folder, elsewhere);
        drop(self);
        Self::start_in(folder, |_| {})
    }

    fn start_in(folder: tempfile::TempDir, change: impl FnOnce(&mut RunOptions)) -> Self {
        let shutdown = CancellationToken::new();
        let mut options = options(&folder.path().join("data"));
        change(&mut options);
        let stop = shutdown.clone();
        let (tell, told) = mpsc::channel();
        // A thread of its own, so that tests may have a runtime or not.
        let running = thread::spawn(move || {
            Runtime::new().expect("a runtime").block_on(async {
                let controller = Controller::start(&options).await.expect("it starts");
                let registry = Arc::clone(controller.registry());
                tell.send((registry, controller.kubeconfig().to_owned())).expect("it is awaited");
                controller.run(stop).await;
            });
        });
        let (registry, kubeconfig) = told.recv().expect("the controller starts");
        Self { folder, registry, kubeconfig, running: Some(running), shutdown }
    }

    /// A control plane with an organization, a project and what a service needs.
    pub fn with_platform() -> Self {
        let api = Self::start();
        api.kubectl_in(PLATFORM, &["apply", "-f", "-"]).expect_ok();
        api
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// kubectl, ready for further arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(kubectl());
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", self.folder.path()).args(arguments);
        command
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Said {
        Said::of(&self.command(arguments).output().expect("kubectl runs"))
    }

    /// kubectl with `input` on standard input.
    pub fn kubectl_in(&self, input: &str, arguments: &[&str]) -> Said {
        let mut child: Child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("kubectl reads");
        drop(stdin);
        Said::of(&child.wait_with_output().expect("kubectl ends"))
    }

    /// The object as JSON.
    pub fn get(&self, arguments: &[&str]) -> serde_json::Value {
        let mut all = vec!["get", "-o", "json", "--show-managed-fields"];
        all.extend(arguments);
        serde_json::from_str(&self.kubectl(&all).expect_ok().out).expect("JSON")
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(running) = self.running.take() {
            let ended = running.join();
            assert!(ended.is_ok() || thread::panicking(), "the controller failed");
        }
    }
}

impl Said {
    pub fn of(output: &Output) -> Self {
        Self {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            ok: output.status.success(),
        }
    }

    #[track_caller]
    pub fn expect_ok(self) -> Self {
        assert!(self.ok, "{self:#?}");
        self
    }

    /// The command failed and said all of `words` on standard error.
    #[track_caller]
    pub fn expect_refusal(self, words: &[&str]) {
        assert!(!self.ok, "{self:#?}");
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in {self:#?}");
        }
    }

    /// The command said all of `words`.
    #[track_caller]
    pub fn expect_words(self, words: &[&str]) -> Self {
        let this = self.expect_ok();
        for word in words {
            assert!(this.out.contains(word), "{word:?} is not in {this:#?}");
        }
        this
    }
}

pub fn options(data: &Path) -> RunOptions {
    let words = ["isocast-controller", "--listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"];
    let words = words.map(OsString::from).into_iter().chain(["--data".into(), data.into()]);
    Options::try_parse_from(words).expect("a command line").run.expect("to run")
}

/// Where `./dev setup` puts what tests need.
pub fn tools() -> PathBuf {
    env::var_os("ISOCAST_TOOLS").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cache/isocast/tools"),
        PathBuf::from,
    )
}

/// The kubectl to test with.
fn kubectl() -> PathBuf {
    let path = tools().join("kubectl");
    assert!(
        fs::exists(&path).unwrap_or(false),
        "there is no kubectl at {}; install kubectl 1.37 there, or set ISOCAST_TOOLS",
        path.display()
    );
    path
}

pub const PLATFORM: &str = "
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Organization
metadata: {name: acme}
spec: {displayName: Acme}
---
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Project
metadata: {name: web-prod}
spec: {parent: {kind: Organization, name: acme}}
---
apiVersion: network.isocast.dev/v1alpha1
kind: Datacenter
metadata: {name: ams, labels: {continent: europe}}
spec: {region: eu}
---
apiVersion: network.isocast.dev/v1alpha1
kind: AddressPool
metadata: {name: public-v4}
spec: {prefixes: [192.0.2.0/31], grants: [{organization: acme}]}
---
apiVersion: network.isocast.dev/v1alpha1
kind: AddressClaim
metadata: {name: www-v4, namespace: web-prod}
spec: {pool: public-v4, family: IPv4}
---
apiVersion: network.isocast.dev/v1alpha1
kind: BackendPool
metadata: {name: www, namespace: web-prod}
spec: {backends: [{address: 198.51.100.1, datacenter: ams, weight: 1}]}
";

pub const SERVICE: &str = "
apiVersion: network.isocast.dev/v1alpha1
kind: AnycastService
metadata: {name: www, namespace: web-prod}
spec:
  addresses: [{claim: www-v4}]
  ports: [{name: https, protocol: TCP, port: 443}]
  backendPool: www
  healthCheck: {http: {path: /healthz, port: 8080}, interval: 500ms, timeout: 300ms}
";
