//! Tenants beside each other: what one asks for keeps no other from what it asks for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{connect, with_project};
use crate::support::{Api, client::Client, process::free_port};

const GROUP: &str = "/apis/resourcemanager.isocast.dev/v1alpha1";
const LISTERS: usize = 200;
const OBJECTS: usize = 1500;

fn map(name: &str, bytes: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"filling": "x".repeat(bytes)},
    })
}

fn maps(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps")
}

/// What Prometheus would see of a figure, all labels together.
pub(super) async fn figure(port: u16, name: &str) -> f64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let lines = answer.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
    lines.map(|(_, value)| value.parse::<f64>().expect("a number")).sum()
}

/// Lists until told to stop; counts what is served and what is refused.
async fn list(mut client: Client, counts: Arc<[AtomicUsize; 2]>, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let answer = client.try_send(Method::GET, &maps("web"), "", "").await.expect("an answer");
        let code = answer.status();
        drop(http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body"));
        match code {
            StatusCode::OK => counts[0].fetch_add(1, Relaxed),
            StatusCode::TOO_MANY_REQUESTS => {
                counts[1].fetch_add(1, Relaxed);
                // Impatient, but not without end.
                tokio::time::sleep(Duration::from_millis(100)).await;
                0
            }
            other => panic!("{other}"),
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lists_without_end_does_not_keep_others_from_what_is_quick() {
    let port = free_port();
    let api = Api::start_with(|options| {
        options.metrics = Some(([127, 0, 0, 1], port).into());
    });
    let mut admin = with_project(&api).await;
    for (plural, kind, name, spec) in [
        ("organizations", "Organization", "beta", json!({})),
        (
            "projects",
            "Project",
            "shop",
            json!({"parent": {"kind": "Organization", "name": "beta"}}),
        ),
    ] {
        let object = json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        admin.create(&format!("{GROUP}/{plural}"), &object).await;
    }
    let mut fillers = JoinSet::new();
    for filler in 0..8 {
        let mut client = connect(&api).await;
        fillers.spawn(async move {
            for count in 0..OBJECTS / 8 {
                client.create(&maps("web"), &map(&format!("m-{filler}-{count}"), 1000)).await;
            }
        });
    }
    fillers.join_all().await;
    let alice = api.user_with(&mut admin, "alice", "editor", "web").await;
    let mut bob = api.user_with(&mut admin, "bob", "editor", "shop").await;

    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let (stop, stopped) = watch::channel(false);
    let mut listers = JoinSet::new();
    for _ in 0..LISTERS {
        let client = api.bearer(alice.bearer.as_deref().expect("a token")).await;
        listers.spawn(list(client, Arc::clone(&counts), stopped.clone()));
    }
    let is_crowded = async {
        while counts[0].load(Relaxed) < 8 || counts[1].load(Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), is_crowded).await.expect("it is crowded");

    let before = counts[0].load(Relaxed);
    for round in 0..50 {
        let name = format!("mine-{round}");
        let quick = async {
            bob.create(&maps("shop"), &map(&name, 10)).await;
            bob.get(&format!("{}/{name}", maps("shop"))).await.code
        };
        let code = timeout(Duration::from_secs(20), quick).await.expect("it is quick");
        assert_eq!(code, StatusCode::OK);
    }
    let listed = bob.get(&maps("shop")).await;
    assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(50), "lists take turns");

    stop.send_replace(true);
    listers.join_all().await;
    assert!(counts[0].load(Relaxed) > before, "and lists went on");
    assert!(figure(port, "isocast_controller_level_rejected_total").await > 0.0);
    assert!(figure(port, "isocast_controller_level_wait_seconds_count").await > 0.0);
    for idle in ["isocast_controller_level_waiting", "isocast_controller_level_seats_taken"] {
        let all_left = async {
            while figure(port, idle).await > 0.0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), all_left).await.expect("nothing is left taken");
    }
}
