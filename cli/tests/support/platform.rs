//! A control plane that runs, and the program that asks it.

#![allow(
    unreachable_pub,
    missing_debug_implementations,
    dead_code,
    clippy::allow_attributes,
    clippy::unwrap_used,
    reason = "test support: each test uses its part, and fails where it stands"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Output},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use isocast_controller::{
    authz::Identity,
    controller::Controller,
    options::{LogFormat, RunOptions, StoreOptions},
    registry::{FieldValidation, Registry, WriteOptions},
    store::Persistence,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// A control plane in a folder of its own.
pub struct Platform {
    // Declared first, so that it ends before its folder goes.
    running: Running,
    kubeconfig: PathBuf,
    registry: Arc<Registry>,
    _folder: TempDir,
}

struct Running(Option<JoinHandle<()>>, CancellationToken);

impl Drop for Running {
    fn drop(&mut self) {
        self.1.cancel();
        if let Some(thread) = self.0.take() {
            drop(thread.join());
        }
    }
}

impl Platform {
    pub fn start() -> Self {
        Self::start_keeping(1_000_000)
    }

    /// One whose log keeps so many revisions.
    pub fn start_keeping(history_revisions: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = RunOptions {
            data: folder.path().join("data"),
            listen: any,
            agent_listen: any,
            advertise: None,
            san: Vec::new(),
            metrics: None,
            history_revisions,
            history_age: Duration::from_secs(30 * 86_400).into(),
            audit_retention: None,
            client_patience: Duration::from_secs(60).into(),
            store: StoreOptions::default(),
            log_format: LogFormat::Text,
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let controller = Controller::start(&options).await.unwrap();
                let registry = Arc::clone(controller.registry());
                tell.send((registry, controller.kubeconfig().to_owned())).unwrap();
                controller.run(stop).await;
            });
        });
        let (registry, kubeconfig) = told.recv().unwrap();
        let running = Running(Some(thread), shutdown);
        Self { running, kubeconfig, registry, _folder: folder }
    }

    pub fn create(
        &self,
        group: &str,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        spec: &Value,
    ) {
        let group = format!("{group}.isocast.dev");
        let value = json!({
            "apiVersion": format!("{group}/v1alpha1"), "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let plural = format!("{}s", kind.to_lowercase());
        let declared = self.registry.kind(&group, "v1alpha1", &plural).unwrap();
        let admin = Identity::Administrator { name: "admin".into() };
        let options = WriteOptions {
            manager: "test".to_owned(),
            persistence: Persistence::Durable,
            validation: FieldValidation::Strict,
            force: false,
        };
        let body = value.to_string();
        let written = self.registry.create(&admin, declared, namespace, body.as_bytes(), &options);
        Runtime::new().unwrap().block_on(written).unwrap();
    }

    /// The program, as its administrator.
    pub fn isocast(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same, to be run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        assert!(self.running.0.is_some());
        let mut command = Command::new(env!("CARGO_BIN_EXE_isocast"));
        command.args(arguments).env_remove("HOME").env("KUBECONFIG", &self.kubeconfig);
        command
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
