//! How fast the API is: durable creates by many clients, and how long until watchers know.
//!
//! Client and server share the machine, TLS and HTTP/1.1 included. `cargo bench -p
//! isocast-controller --bench api`; the figures to compare with are in the specification.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark, which tells its figures"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use support::{
    Api,
    client::{Client, Credentials},
};
use tokio::{runtime::Runtime, sync::Barrier, task::JoinSet};

const GROUP: &str = "/apis/resourcemanager.isocast.dev/v1alpha1";
const CLIENTS: usize = 64;
const CREATES_FOR: Duration = Duration::from_secs(5);
const WATCHERS: [usize; 3] = [1, 100, 1000];
const CHANGES: usize = 100;

fn main() {
    let api = Api::start();
    Runtime::new().expect("a runtime").block_on(async {
        let credentials = Credentials::load(api.kubeconfig());
        let mut client = credentials.connect().await.expect("gets in");
        let acme = object("Organization", "acme", &json!({"displayName": "Acme"}));
        client.post(&format!("{GROUP}/organizations"), &acme).await;

        creates(&credentials).await;
        for watchers in WATCHERS {
            watches(&credentials, watchers).await;
        }
        memory();
    });
}

/// Durable creates a second.
async fn creates(credentials: &Credentials) {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let client_of = credentials.clone();
        clients.spawn(async move {
            let connection = client_of.connect().await.expect("gets in");
            create_until(connection, client, started + CREATES_FOR).await
        });
    }
    let mut times: Vec<Duration> = clients.join_all().await.into_iter().flatten().collect();
    times.sort();
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    println!(
        "creates  {CLIENTS:>5} clients   {rate:>7.0}/s   p50 {:>8.3} ms   p99 {:>8.3} ms",
        millis(percentile(&times, 50)),
        millis(percentile(&times, 99)),
    );
}

async fn create_until(mut client: Client, number: usize, end: Instant) -> Vec<Duration> {
    let mut times = Vec::new();
    let path = format!("{GROUP}/projects");
    while Instant::now() < end {
        let name = format!("p{number}-{}", times.len());
        let spec = json!({"parent": {"kind": "Organization", "name": "acme"}});
        let body = object("Project", &name, &spec);
        let started = Instant::now();
        let answer = client.post(&path, &body).await;
        times.push(started.elapsed());
        assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
    }
    times
}

/// Time from the request to the event at each watcher.
async fn watches(credentials: &Credentials, watchers: usize) {
    let name = format!("watched-{watchers}");
    let mut client = credentials.connect().await.expect("gets in");
    let spec = json!({"displayName": "x"});
    client.post(&format!("{GROUP}/organizations"), &object("Organization", &name, &spec)).await;
    let ready = Arc::new(Barrier::new(watchers + 1));
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        let (credentials, ready) = (credentials.clone(), Arc::clone(&ready));
        let path = format!("{GROUP}/organizations?watch=1&fieldSelector=metadata.name%3D{name}");
        watching.spawn(async move {
            let client = credentials.connect().await.expect("gets in");
            let mut lines = client.watch(&path).await;
            lines.next().await.expect("it exists");
            ready.wait().await;
            let mut seen = Vec::with_capacity(CHANGES);
            for _ in 0..CHANGES {
                lines.next().await.expect("it changes");
                seen.push(Instant::now());
            }
            seen
        });
    }
    ready.wait().await;
    let mut written = Vec::with_capacity(CHANGES);
    let mut pace =
        tokio::time::interval(Duration::from_millis(if watchers > 100 { 100 } else { 20 }));
    for change in 0..CHANGES {
        pace.tick().await;
        written.push(Instant::now());
        let patch = json!({"spec": {"displayName": format!("x{change}")}});
        let path = format!("{GROUP}/organizations/{name}");
        let content_type = "application/merge-patch+json";
        let answer = client.send(Method::PATCH, &path, content_type, patch.to_string()).await;
        assert_eq!(answer.code, StatusCode::OK);
    }
    let mut times: Vec<Duration> = watching
        .join_all()
        .await
        .iter()
        .flat_map(|seen| seen.iter().zip(&written).map(|(seen, written)| *seen - *written))
        .collect();
    times.sort();
    println!(
        "watch    {watchers:>5} watchers            p50 {:>8.3} ms   p99 {:>8.3} ms",
        millis(percentile(&times, 50)),
        millis(percentile(&times, 99)),
    );
}

/// Resident memory of client and server together.
fn memory() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    for line in status.lines().filter(|line| line.starts_with("VmRSS")) {
        println!("memory   {line} (clients included)");
    }
}

fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": spec,
    })
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
