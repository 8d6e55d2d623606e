//! A controller written with kube-rs, and what it counts on while the server is killed again and again.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

#[path = "../support/mod.rs"]
mod support;

mod reconciler;
mod relist;
mod workload;

use std::{
    env,
    path::Path,
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config, ResourceExt,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use reconciler::Operator;
use serde_json::json;
use support::process::{Process, free_port, ready};
use tokio::time::timeout;
use workload::Workload;

/// How long the server is killed again and again; `./dev test --long` says ten minutes.
const SECONDS: &str = "ISOCAST_OPERATOR_SECONDS";
const DEFAULT_SECONDS: u64 = 8;
/// However short that is.
const KILLS: u32 = 3;
/// Between two kills, so that each falls into the middle of both.
const WRITES_BEFORE_KILL: u64 = 60;
const RECONCILED_BEFORE_KILL: u64 = 10;
const PROJECT: &str = "web";

/// A client like that of any program.
async fn client(data: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(data.join("admin.kubeconfig")).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    Client::try_from(config.expect("it says where")).expect("a client")
}

fn resource(group: &str, kind: &str, plural: &str) -> ApiResource {
    let group = format!("{group}.isocast.dev");
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&group, "v1alpha1", kind), plural)
}

fn pools(client: &Client) -> Api<DynamicObject> {
    let resource = resource("network", "BackendPool", "backendpools");
    Api::namespaced_with(client.clone(), PROJECT, &resource)
}

/// A project to work in.
async fn with_project(client: &Client) {
    let parent = json!({"parent": {"kind": "Organization", "name": "acme"}});
    for (kind, plural, name, spec) in [
        ("Organization", "organizations", "acme", json!({})),
        ("Project", "projects", PROJECT, parent),
    ] {
        let resource = resource("resourcemanager", kind, plural);
        let object = DynamicObject::new(name, &resource).data(json!({"spec": spec}));
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        api.create(&PostParams::default(), &object).await.expect("it is created");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_misses_nothing_while_the_server_is_killed_again_and_again() {
    let seconds = env::var(SECONDS).map_or(DEFAULT_SECONDS, |text| text.parse().expect("seconds"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, port) = (folder.path().join("data"), free_port());
    let mut process = Process::start(&data, port);
    ready(&data).await;
    let client = client(&data).await;
    with_project(&client).await;
    let operator = Operator::start(client.clone());
    let mut workload = Workload::start(client.clone());

    let end = Instant::now() + Duration::from_secs(seconds);
    let mut kills = 0;
    while Instant::now() < end || kills < KILLS {
        let (written, reconciled) = (workload.acknowledged(), operator.reconciled());
        let busy = async {
            workload.until(written + WRITES_BEFORE_KILL).await;
            operator.until(reconciled + RECONCILED_BEFORE_KILL).await;
        };
        timeout(Duration::from_secs(60), busy).await.expect("both go on after a restart");
        process.kill();
        process = Process::start(&data, port);
        ready(&data).await;
        kills += 1;
    }

    let wanted = workload.finish().await;
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let list = pools(&client).list(&ListParams::default()).await.expect("a list");
        let there = list.items.iter().map(|pool| (pool.name_any(), pool)).collect();
        let mut wrong = wanted.differences(&there);
        wrong.extend(operator.unfinished(&there).await);
        if wrong.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{wrong:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    operator.stop().await;
    process.kill();
}
