//! What the program says of rights, asked of a control plane that runs.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

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
    options::{LogFormat, RunOptions},
    registry::{FieldValidation, Registry, WriteOptions},
    store::Persistence,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

struct Platform {
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
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let options = RunOptions {
            data: folder.path().join("data"),
            listen: any,
            agent_listen: any,
            advertise: None,
            san: Vec::new(),
            metrics: None,
            history_revisions: 1_000_000,
            history_age: Duration::from_secs(30 * 86_400).into(),
            audit_retention: None,
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

    fn create(&self, group: &str, kind: &str, namespace: Option<&str>, name: &str, spec: &Value) {
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

    fn isocast(&self, arguments: &[&str]) -> Output {
        assert!(self.running.0.is_some());
        let mut command = Command::new(env!("CARGO_BIN_EXE_isocast"));
        command.args(arguments).env_remove("HOME").env("KUBECONFIG", &self.kubeconfig);
        command.output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// alice is in the group acme/team, which sees what is in the folder eng, above the project shop.
fn platform() -> Platform {
    let platform = Platform::start();
    let parent = |kind: &str, name: &str| json!({"parent": {"kind": kind, "name": name}});
    platform.create("resourcemanager", "Organization", None, "acme", &json!({}));
    platform.create("resourcemanager", "Folder", None, "eng", &parent("Organization", "acme"));
    platform.create("resourcemanager", "Project", None, "shop", &parent("Folder", "eng"));
    platform.create("iam", "User", None, "alice", &json!({}));
    platform.create("iam", "Group", Some("acme"), "team", &json!({}));
    let member = json!({"group": "team", "member": {"kind": "User", "name": "alice"}});
    platform.create("iam", "GroupMembership", Some("acme"), "alice", &member);
    let role = json!({"includedPermissions": [
        "network.isocast.dev/anycastservices.get", "network.isocast.dev/anycastservices.list",
        "network.isocast.dev/anycastservices/status.get",
    ]});
    platform.create("iam", "Role", Some("acme"), "reader", &role);
    let binding = json!({
        "role": {"name": "reader", "namespace": "acme"},
        "subjects": [{"kind": "Group", "name": "team", "namespace": "acme"}],
    });
    platform.create("iam", "PolicyBinding", Some("eng"), "team", &binding);
    platform
}

#[test]
fn an_explanation_names_the_binding_and_the_way_to_it() {
    let platform = platform();

    let yes =
        platform.isocast(&["iam", "explain", "alice", "get", "services", "www", "-n", "shop"]);
    let no = platform.isocast(&["iam", "explain", "alice", "delete", "services", "-n", "shop"]);
    let nobody = platform.isocast(&["iam", "explain", "bob", "get", "services", "-n", "shop"]);

    let expected = "\
alice may get anycastservices/www in shop
  reason     a binding allows it
  binding    eng/team
  role       acme/reader
  through    alice -> acme/team
  inherited  shop <- eng
";
    assert_eq!(text(&yes.stdout), expected);
    assert_eq!(text(&no.stdout), "alice may not delete anycastservices in shop\n");
    let expected = "\
bob may not get anycastservices in shop
  reason     there is no such account
";
    assert_eq!(text(&nobody.stdout), expected);
}

#[test]
fn what_somebody_may_in_a_container_is_a_table() {
    let platform = platform();

    let below = platform.isocast(&["iam", "effective", "alice", "-n", "shop"]);
    let above = platform.isocast(&["iam", "effective", "alice", "-n", "acme"]);

    let expected = "\
RESOURCE                 GROUP                 VERBS
anycastservices          network.isocast.dev   get, list
anycastservices/status   network.isocast.dev   get
";
    assert_eq!(text(&below.stdout), expected);
    assert_eq!(text(&above.stdout), "RESOURCE   GROUP   VERBS\n");
}
