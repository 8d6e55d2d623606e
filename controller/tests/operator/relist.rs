//! A reflector that was away while the server forgot where it was.

use std::{pin::pin, time::Duration};

use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        reflector::{self, Store},
        watcher::{self, Event, watcher},
    },
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{
    PROJECT, client,
    support::process::{Process, free_port, ready},
    with_project,
};

/// What the server keeps of the past, in revisions.
const KEPT: &str = "256";
/// More than that.
const CHANGES: usize = 900;

fn map(name: &str, round: usize) -> ConfigMap {
    let map = json!({"metadata": {"name": name}, "data": {"round": round.to_string()}});
    serde_json::from_value(map).expect("a map")
}

fn known(store: &Store<ConfigMap>) -> Vec<(String, String)> {
    let round = |map: &ConfigMap| map.data.as_ref().expect("data")["round"].clone();
    let mut all: Vec<_> = store.state().iter().map(|map| (map.name_any(), round(map))).collect();
    all.sort();
    all
}

/// Follows until what exists has been read once more.
async fn until_listed(
    events: &mut (impl Stream<Item = watcher::Result<Event<ConfigMap>>> + Unpin),
) {
    let listed = async {
        loop {
            match events.next().await.expect("it goes on") {
                Ok(Event::InitDone) => return,
                Ok(_) => {}
                // The server is gone, or does not know any more.
                Err(_passing) => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(Duration::from_secs(30), listed).await.expect("it lists soon");
}

async fn comes_back_too_late(config: watcher::Config) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (data, port) = (folder.path().join("data"), free_port());
    let start = || Process::start_with(&data, port, &["--history-revisions", KEPT]);
    let process = start();
    ready(&data).await;
    let client = client(&data).await;
    with_project(&client).await;
    let maps: Api<ConfigMap> = Api::namespaced(client, PROJECT);
    for name in ["changed", "deleted"] {
        maps.create(&PostParams::default(), &map(name, 0)).await.expect("it is created");
    }
    let (store, writer) = reflector::store();
    let mut events = pin!(reflector::reflector(writer, watcher(maps.clone(), config)));
    until_listed(&mut events).await;
    assert_eq!(known(&store), [("changed", "0"), ("deleted", "0")].map(owned));

    // It is cut off, and does not look while this happens. What happened since it started last, the
    // server knows whatever it keeps.
    process.kill();
    let process = start();
    ready(&data).await;
    maps.delete("deleted", &DeleteParams::default()).await.expect("it is deleted");
    for round in 1..=CHANGES {
        let patch = Patch::Merge(json!({"data": {"round": round.to_string()}}));
        maps.patch("changed", &PatchParams::default(), &patch).await.expect("it is changed");
    }
    maps.create(&PostParams::default(), &map("new", 0)).await.expect("it is created");
    process.kill();
    let process = start();
    ready(&data).await;

    until_listed(&mut events).await;
    let last = CHANGES.to_string();
    assert_eq!(known(&store), [("changed", last.as_str()), ("new", "0")].map(owned));

    // And follows again.
    maps.delete("new", &DeleteParams::default()).await.expect("it is deleted");
    let gone = async {
        while !matches!(events.next().await.expect("it goes on"), Ok(Event::Delete(_))) {}
    };
    timeout(Duration::from_secs(30), gone).await.expect("it is told");
    assert_eq!(known(&store), [("changed", last.as_str())].map(owned));
    process.kill();
}

fn owned((name, round): (&str, &str)) -> (String, String) {
    (name.to_owned(), round.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_streams_a_list_and_comes_back_too_late_lists_again_and_knows_what_is_so() {
    comes_back_too_late(watcher::Config::default().streaming_lists()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_list_in_pages_and_comes_back_too_late_does_so_again() {
    comes_back_too_late(watcher::Config::default().page_size(1)).await;
}
