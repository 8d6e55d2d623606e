//! What clients of Kubernetes' API count on, rule by rule.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

#[path = "../support/mod.rs"]
mod support;

mod apply;
mod apply_cases;
mod builtins;
mod clients;
mod compress;
mod fairness;
mod limits;
mod methods;
mod openapi;
mod reads;
mod slow;
mod watches;
mod websocket;
mod writes;

use std::time::Duration;

use serde_json::{Value, json};
use support::{
    Api,
    client::{Client, Credentials, Lines},
};

const DATACENTERS: &str = "/apis/network.isocast.dev/v1alpha1/datacenters";

fn datacenter(name: &str, region: &str) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1",
        "kind": "Datacenter",
        "metadata": {"name": name},
        "spec": {"region": region},
    })
}

async fn connect(api: &Api) -> Client {
    Credentials::load(api.kubeconfig()).connect().await.expect("the administrator gets in")
}

/// A namespace to work in.
async fn with_project(api: &Api) -> Client {
    let mut client = connect(api).await;
    let group = "/apis/resourcemanager.isocast.dev/v1alpha1";
    for (plural, kind, name, spec) in [
        ("organizations", "Organization", "acme", json!({})),
        ("projects", "Project", "web", json!({"parent": {"kind": "Organization", "name": "acme"}})),
    ] {
        let object = json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": spec,
        });
        let answer = client.post(&format!("{group}/{plural}"), &object).await;
        assert_eq!(answer.code, 201, "{:?}", answer.body);
    }
    client
}

async fn next(lines: &mut Lines) -> (String, Value) {
    let event = tokio::time::timeout(Duration::from_secs(20), lines.next()).await;
    let mut event = event.expect("it happens soon").expect("it goes on");
    (event["type"].as_str().expect("text").to_owned(), event["object"].take())
}

/// The causes of a refusal, as `reason field`.
fn causes(body: &Value) -> Vec<String> {
    let causes = body["details"]["causes"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    causes.iter().map(|it| format!("{} {}", text(&it["reason"]), text(&it["field"]))).collect()
}
