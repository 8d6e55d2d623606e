//! How long until watchers know.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::Method;
use memchr::memmem;
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    load::Outcome,
    server::{Caller, object, project, request},
    support::client::Lines,
};

const CHANGES: usize = 100;
/// What a change changes.
const ROUND: &str = "bench.example.com/round";
const PROJECTS: usize = 5_000;

/// From the request of a change to the event at each watcher.
pub(crate) async fn latency(caller: &Caller, watchers: usize) -> Outcome {
    let name = format!("watched-{watchers}");
    let mut client = caller.connect().await;
    request(&mut client, Method::POST, &Caller::objects(), object(&name).to_string()).await;
    let ready = Arc::new(Barrier::new(watchers + 1));
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        let (caller, ready, name) = (caller.clone(), Arc::clone(&ready), name.clone());
        watching.spawn(async move {
            let mut lines = follow(&caller, &name).await;
            lines.next().await.expect("it exists");
            ready.wait().await;
            let mut seen = Vec::with_capacity(CHANGES);
            for change in 0..CHANGES {
                let round = format!(r#""{ROUND}":"{change}""#);
                // What the platform says of the object in between is not it.
                while memmem::find(&raw(&mut lines).await, round.as_bytes()).is_none() {}
                seen.push(Instant::now());
            }
            seen
        });
    }
    tokio::select! {
        _ = ready.wait() => {}
        ended = watching.join_next() => panic!("a watcher ended before anything changed: {ended:?}"),
    }
    let began = Instant::now();
    let mut written = Vec::with_capacity(CHANGES);
    let mut pace = tokio::time::interval(pace(watchers));
    for change in 0..CHANGES {
        pace.tick().await;
        written.push(Instant::now());
        let patch = json!({"metadata": {"annotations": {ROUND: change.to_string()}}});
        let path = format!("{}/{name}", Caller::objects());
        request(&mut client, Method::PATCH, &path, patch.to_string()).await;
    }
    let seen = watching.join_all().await;
    let times =
        seen.iter().flat_map(|seen| seen.iter().zip(&written).map(|(seen, at)| *seen - *at));
    Outcome::of(times.collect(), began.elapsed())
}

/// Watchers of an object each that hear nothing.
pub(crate) async fn open(caller: &Caller, count: usize) -> Vec<Lines> {
    let mut lines = Vec::with_capacity(count);
    for number in 0..count {
        let mut watcher = follow(caller, &format!("f{}-{number}", number % 64)).await;
        watcher.next().await.expect("it exists");
        lines.push(watcher);
    }
    lines
}

/// Projects made by `clients`, and the time from each request until a watcher sees it ready.
pub(crate) async fn projects(caller: &Caller, clients: usize) -> (Outcome, Outcome) {
    let mut client = caller.connect().await;
    let acme = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1",
        "kind": "Organization",
        "metadata": {"name": "acme"},
        "spec": {"displayName": "Acme"},
    });
    let organizations = Caller::projects().replace("/projects", "/organizations");
    request(&mut client, Method::POST, &organizations, acme.to_string()).await;
    let mut lines = caller.connect().await.watch(&format!("{}?watch=1", Caller::projects())).await;
    let seeing = tokio::spawn(async move {
        let mut seen = HashMap::new();
        while seen.len() < PROJECTS {
            let event = lines.next().await.expect("an event");
            let object = &event["object"];
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            if is_ready(object) && name.starts_with("made-") {
                seen.entry(name.to_owned()).or_insert_with(Instant::now);
            }
        }
        seen
    });
    let began = Instant::now();
    let mut making = JoinSet::new();
    for first in 0..clients {
        let caller = caller.clone();
        making.spawn(async move {
            let mut client = caller.connect().await;
            let mut made = Vec::new();
            for number in (first..PROJECTS).step_by(clients) {
                let name = format!("made-{number}");
                let began = Instant::now();
                let body = project(&name).to_string();
                request(&mut client, Method::POST, &Caller::projects(), body).await;
                made.push((name, began, began.elapsed()));
            }
            made
        });
    }
    let made: Vec<_> = making.join_all().await.into_iter().flatten().collect();
    let term = began.elapsed();
    let seen = seeing.await.expect("the watcher lives");
    let ready = made.iter().filter_map(|(name, began, _)| Some(*seen.get(name)? - *began));
    let ready = Outcome::of(ready.collect(), term);
    (Outcome::of(made.iter().map(|(_, _, took)| *took).collect(), term), ready)
}

/// The next event, unparsed: a thousand parsers would be what is measured.
async fn raw(lines: &mut Lines) -> Vec<u8> {
    lines.line().await.expect("a frame").expect("it changes")
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let is_ready = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
    conditions.is_some_and(|all| all.iter().any(is_ready))
}

/// Between two changes: what the watchers of one have seen is not to delay the next.
fn pace(watchers: usize) -> Duration {
    Duration::from_millis(match watchers {
        ..10 => 10,
        10..=100 => 20,
        _ => 100,
    })
}

async fn follow(caller: &Caller, name: &str) -> Lines {
    let selector = format!("fieldSelector=metadata.name%3D{name}");
    caller.connect().await.watch(&format!("{}?watch=1&{selector}", Caller::objects())).await
}
