//! [`Operator`]: for each pool a ConfigMap with its weight, and a condition that says for which
//! generation; nothing of a pool stays when it goes.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    core::DynamicObject,
    runtime::{
        controller::{Action, Controller},
        finalizer::{self, Event, finalizer},
        utils::Backoff,
        watcher,
    },
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{PROJECT, pools, workload::weight_of};

const MANAGER: &str = "operator";
const FINALIZER: &str = "operator.example.com/cleanup";

/// The running controller.
pub(super) struct Operator {
    context: Arc<Context>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

struct Context {
    pools: Api<DynamicObject>,
    maps: Api<ConfigMap>,
    /// Pools that were dealt with, by their UID.
    applied: Mutex<HashSet<String>>,
    cleaned: Mutex<HashSet<String>>,
    reconciled: watch::Sender<u64>,
}

/// A server that is killed again and again is asked again soon.
#[derive(Debug)]
struct Soon;

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::from_millis(100))
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {}
}

impl Operator {
    pub(super) fn start(client: Client) -> Self {
        let context = Arc::new(Context {
            pools: pools(&client),
            maps: Api::namespaced(client, PROJECT),
            applied: Mutex::default(),
            cleaned: Mutex::default(),
            reconciled: watch::Sender::new(0),
        });
        let stop = CancellationToken::new();
        let resource = super::resource("network", "BackendPool", "backendpools");
        let streaming = watcher::Config::default().streaming_lists();
        // The other way to begin: page by page.
        let paged = watcher::Config::default().page_size(5);
        let controller = Controller::new_with(context.pools.clone(), streaming, resource)
            .owns(context.maps.clone(), paged)
            .trigger_backoff(Soon)
            .graceful_shutdown_on(stop.clone().cancelled_owned())
            .run(
                reconcile,
                |_, _, _| Action::requeue(Duration::from_millis(100)),
                Arc::clone(&context),
            )
            .for_each(|_| async {});
        Self { context, stop, running: tokio::spawn(controller) }
    }

    /// How often a pool was dealt with.
    pub(super) fn reconciled(&self) -> u64 {
        *self.context.reconciled.borrow()
    }

    pub(super) async fn until(&self, count: u64) {
        let mut reconciled = self.context.reconciled.subscribe();
        reconciled.wait_for(|now| *now >= count).await.expect("it goes on");
    }

    /// What is yet to be done about the pools that are `there`, and those that were.
    pub(super) async fn unfinished(&self, there: &BTreeMap<String, &DynamicObject>) -> Vec<String> {
        let maps = self.context.maps.list(&ListParams::default()).await.expect("a list").items;
        let maps: BTreeMap<String, ConfigMap> =
            maps.into_iter().map(|map| (map.name_any(), map)).collect();
        let mut unfinished = Vec::new();
        for (name, pool) in there {
            let conditions = pool.data["status"]["conditions"].as_array();
            let seen = conditions.into_iter().flatten().find(|it| it["type"] == "Copied");
            let generation = seen.and_then(|seen| seen["observedGeneration"].as_i64());
            if generation.is_none() || generation != pool.metadata.generation {
                unfinished.push(format!("{name} was not seen as it is: {generation:?}"));
            }
            let copied = maps.get(name).and_then(|map| map.data.as_ref()?.get("weight").cloned());
            if copied != weight_of(pool).map(|weight| weight.to_string()) {
                unfinished.push(format!("the map of {name} says {copied:?}"));
            }
            if pool.metadata.deletion_timestamp.is_some() {
                unfinished.push(format!("{name} is not gone"));
            }
        }
        let left = maps.keys().filter(|name| !there.contains_key(*name));
        unfinished.extend(left.map(|name| format!("the map of {name} is left over")));
        let uids: HashSet<String> = there.values().filter_map(|pool| pool.uid()).collect();
        let (applied, cleaned) = (self.context.applied.lock(), self.context.cleaned.lock());
        let forgotten =
            applied.iter().filter(|uid| !uids.contains(*uid) && !cleaned.contains(*uid));
        unfinished.extend(forgotten.map(|uid| format!("{uid} went without being cleaned up")));
        unfinished
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.running.await.expect("it ends");
    }
}

async fn reconcile(
    pool: Arc<DynamicObject>,
    context: Arc<Context>,
) -> Result<Action, finalizer::Error<kube::Error>> {
    let action = finalizer(&context.pools, FINALIZER, pool, |event| async {
        match event {
            Event::Apply(pool) => apply(&context, &pool).await,
            Event::Cleanup(pool) => clean_up(&context, &pool).await,
        }
    })
    .await?;
    context.reconciled.send_modify(|count| *count += 1);
    Ok(action)
}

async fn apply(context: &Context, pool: &DynamicObject) -> Result<Action, kube::Error> {
    let (name, parameters) = (pool.name_any(), PatchParams::apply(MANAGER).force());
    context.applied.lock().insert(pool.uid().expect("a UID"));
    let resource = super::resource("network", "BackendPool", "backendpools");
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [pool.controller_owner_ref(&resource)]},
        "data": {"weight": weight_of(pool).expect("a weight").to_string()},
    });
    context.maps.patch(&name, &parameters, &Patch::Apply(map)).await?;
    let status = json!({
        "apiVersion": resource.api_version, "kind": resource.kind,
        "status": {"conditions": [{
            "type": "Copied", "status": "True", "reason": "Copied", "message": "",
            "lastTransitionTime": pool.creation_timestamp(),
            "observedGeneration": pool.metadata.generation,
        }]},
    });
    match context.pools.patch_status(&name, &parameters, &Patch::Apply(status)).await {
        // It went in the meantime; what is left of it is cleaned up.
        Err(kube::Error::Api(refusal)) if refusal.code == 404 => {}
        other => drop(other?),
    }
    Ok(Action::await_change())
}

async fn clean_up(context: &Context, pool: &DynamicObject) -> Result<Action, kube::Error> {
    match context.maps.delete(&pool.name_any(), &DeleteParams::default()).await {
        Err(kube::Error::Api(refusal)) if refusal.code == 404 => {}
        other => drop(other?),
    }
    context.cleaned.lock().insert(pool.uid().expect("a UID"));
    Ok(Action::await_change())
}
