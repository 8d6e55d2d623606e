//! The API on the wire: who gets in, what is listed and watched, what is refused.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::time::{Duration, SystemTime};

use hyper::{Method, StatusCode};
use isocast_controller::pki::Pki;
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
        "metadata": {"name": name, "labels": {"region": region}},
        "spec": {"region": region},
    })
}

async fn connect(api: &Api) -> Client {
    credentials(api).connect().await.expect("the administrator gets in")
}

fn credentials(api: &Api) -> Credentials {
    Credentials::load(api.kubeconfig())
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it happens soon")
}

async fn next(lines: &mut Lines) -> (String, Value) {
    let mut event = soon(lines.next()).await.expect("it goes on");
    let kind = event["type"].as_str().expect("text").to_owned();
    (kind, event["object"].take())
}

#[tokio::test]
async fn without_a_certificate_only_health_and_version_are_shown() {
    let api = Api::start();
    let mut client = credentials(&api).anonymous().connect().await.expect("TLS lets it in");

    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(client.get(path).await.code, StatusCode::OK, "{path}");
    }
    for path in ["/api", "/apis", "/openapi/v3", DATACENTERS, "/nope"] {
        let answer = client.get(path).await;
        assert_eq!(answer.code, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answer.body["reason"], "Unauthorized", "{path}");
    }
}

#[tokio::test]
async fn a_node_has_no_rights_in_the_api() {
    let api = Api::start();
    let pki = Pki::open(&api.folder.path().join("data/pki"), SystemTime::now()).expect("made");
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let hour = Duration::from_secs(3600);
    let chain =
        pki.issue_node(request.der(), "ams-1", "uid", hour, SystemTime::now()).expect("issued");
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let node = credentials(&api).with_identity(chain, key);
    let mut client = node.connect().await.expect("TLS lets it in");

    for (method, path) in [
        (Method::GET, DATACENTERS.to_owned()),
        (Method::GET, format!("{DATACENTERS}/ams")),
        (Method::GET, format!("{DATACENTERS}?watch=1")),
        (Method::DELETE, format!("{DATACENTERS}/ams")),
        (Method::DELETE, DATACENTERS.to_owned()),
        (Method::PATCH, format!("{DATACENTERS}/ams")),
        (Method::PUT, format!("{DATACENTERS}/ams/status")),
        (Method::GET, "/api/v1/namespaces".to_owned()),
        (Method::GET, "/api/v1/namespaces/acme".to_owned()),
        (Method::GET, "/api/v1/events".to_owned()),
    ] {
        let answer = client.send(method.clone(), &path, "application/merge-patch+json", "{}").await;
        assert_eq!(answer.code, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let answer = client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_certificate_of_another_authority_and_tls_1_2_are_refused() {
    let api = Api::start();
    let other = Api::start();
    let stranger = credentials(&api).with_identity_of(&credentials(&other));

    // In TLS 1.3 the client hears of the refusal with its first read.
    let refused = match stranger.connect().await {
        Ok(mut client) => client.try_send(Method::GET, "/version", "", "").await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    assert!(credentials(&api).outdated().connect().await.is_err());
}

#[tokio::test]
async fn a_listing_goes_on_page_by_page_at_one_revision() {
    let api = Api::start();
    let mut client = connect(&api).await;
    for name in ["a", "b", "c", "d", "e"] {
        client.post(DATACENTERS, &datacenter(name, "eu")).await;
    }

    let first = client.get(&format!("{DATACENTERS}?limit=2")).await.body;
    client.delete(&format!("{DATACENTERS}/c"), &json!({})).await;
    let token = first["metadata"]["continue"].as_str().expect("there is more");
    let second = client.get(&format!("{DATACENTERS}?limit=2&continue={token}")).await.body;

    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    assert_eq!(second["items"][0]["metadata"]["name"], "c", "as it was at the first page");
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().expect("there is more");
    let third = client.get(&format!("{DATACENTERS}?limit=2&continue={token}")).await.body;
    assert_eq!(third["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(third["metadata"]["continue"], Value::Null);
    let answer = client.get(&format!("{DATACENTERS}?continue=nonsense")).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_page_of_a_forgotten_state_expires_with_a_way_to_go_on() {
    let api = Api::start_with(|options| options.history_revisions = 1);
    let mut client = connect(&api).await;
    for name in ["a", "b", "c"] {
        client.post(DATACENTERS, &datacenter(name, "eu")).await;
    }
    let path = format!("{DATACENTERS}?limit=1");
    let first = client.get(&path).await.body;
    let token = first["metadata"]["continue"].as_str().expect("there is more").to_owned();
    let change = async |client: &mut Client, change: u32| {
        let patch = json!({"metadata": {"annotations": {"change": change.to_string()}}});
        client.merge(&format!("{DATACENTERS}/a"), &patch).await;
        client.get(&path).await;
    };
    // More newer states than are kept in memory: the log still has it.
    for round in 0..70 {
        change(&mut client, round).await;
    }
    let second = client.get(&format!("{path}&continue={token}")).await;
    assert_eq!(
        (second.code, &second.body["items"][0]["metadata"]["name"]),
        (StatusCode::OK, &json!("b"))
    );
    // More than the log keeps, too, which forgets in slices.
    for round in 70..400 {
        change(&mut client, round).await;
    }

    let expired = client.get(&format!("{path}&continue={token}")).await;

    assert_eq!((expired.code, &expired.body["reason"]), (StatusCode::GONE, &json!("Expired")));
    let token = expired.body["metadata"]["continue"].as_str().expect("a way to go on");
    let next = client.get(&format!("{path}&continue={token}")).await.body;
    assert_eq!(next["items"][0]["metadata"]["name"], "b");
}

#[tokio::test]
async fn a_watch_begins_where_the_listing_ended() {
    let api = Api::start();
    let mut client = connect(&api).await;
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    let listing = client.get(DATACENTERS).await.body;
    let revision = listing["metadata"]["resourceVersion"].as_str().expect("text");
    client.post(DATACENTERS, &datacenter("fra", "eu")).await;

    let path = format!("{DATACENTERS}?watch=1&resourceVersion={revision}");
    let mut watch = connect(&api).await.watch(&path).await;

    let (kind, object) = next(&mut watch).await;
    assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &json!("fra")));
    client.merge(&format!("{DATACENTERS}/fra"), &json!({"spec": {"region": "us"}})).await;
    // Its status may be observed meanwhile.
    loop {
        let (kind, object) = next(&mut watch).await;
        assert_eq!(kind, "MODIFIED");
        if object["spec"]["region"] == "us" {
            break;
        }
    }
    client.delete(&format!("{DATACENTERS}/fra"), &json!({})).await;
    let (kind, object) = loop {
        let event = next(&mut watch).await;
        if event.0 != "MODIFIED" {
            break event;
        }
    };
    assert_eq!((kind.as_str(), &object["spec"]["region"]), ("DELETED", &json!("us")));
}

#[tokio::test]
async fn a_selection_is_entered_and_left() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let path = format!("{DATACENTERS}?watch=1&labelSelector=region%3Deu&resourceVersion=0");
    let mut watch = connect(&api).await.watch(&path).await;
    let relabel = |region: &str| json!({"metadata": {"labels": {"region": region}}});
    let ams = format!("{DATACENTERS}/ams");

    client.post(DATACENTERS, &datacenter("ams", "us")).await;
    client.merge(&ams, &relabel("eu")).await;
    assert_eq!(next(&mut watch).await.0, "ADDED");
    client.merge(&ams, &json!({"metadata": {"annotations": {"a": "b"}}})).await;
    assert_eq!(next(&mut watch).await.0, "MODIFIED");
    client.merge(&ams, &relabel("us")).await;
    assert_eq!(next(&mut watch).await.0, "DELETED");
    client.merge(&ams, &relabel("eu")).await;
    assert_eq!(next(&mut watch).await.0, "ADDED");
}

#[tokio::test]
async fn a_watch_list_marks_the_end_of_what_exists() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let created = client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan\
                 &allowWatchBookmarks=true";

    let mut watch = connect(&api).await.watch(&format!("{DATACENTERS}?{query}")).await;

    assert_eq!(next(&mut watch).await.0, "ADDED");
    let (kind, object) = next(&mut watch).await;
    assert_eq!(kind, "BOOKMARK");
    let annotations = &object["metadata"]["annotations"];
    assert_eq!(annotations["k8s.io/initial-events-end"], "true");
    let revision = &created.body["metadata"]["resourceVersion"];
    assert_eq!(object["metadata"]["resourceVersion"], *revision);
}

#[tokio::test]
async fn a_watch_from_the_future_is_told_to_come_back_and_one_that_timed_out_ends() {
    let api = Api::start();
    let mut client = connect(&api).await;

    let answer = client.get(&format!("{DATACENTERS}?watch=1&resourceVersion=999999")).await;
    assert_eq!(answer.code, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.headers["retry-after"], "1");

    let mut watch = client.watch(&format!("{DATACENTERS}?watch=1&timeoutSeconds=1")).await;
    assert!(soon(watch.next()).await.is_none());
}

#[tokio::test]
async fn namespaces_are_watched_as_their_containers_change() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let mut watch = connect(&api).await.watch("/api/v1/namespaces?watch=1").await;
    let (_, system) = next(&mut watch).await;
    assert_eq!(system["metadata"]["name"], "isocast-system");

    let acme = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1",
        "kind": "Organization",
        "metadata": {"name": "acme"},
        "spec": {"displayName": "Acme"},
    });
    client.post("/apis/resourcemanager.isocast.dev/v1alpha1/organizations", &acme).await;

    let (kind, namespace) = next(&mut watch).await;
    assert_eq!((kind.as_str(), &namespace["kind"]), ("ADDED", &json!("Namespace")));
    assert_eq!(namespace["metadata"]["name"], "acme");
}

#[tokio::test]
async fn a_dry_run_answers_and_persists_nothing() {
    let api = Api::start();
    let mut client = connect(&api).await;

    let path = format!("{DATACENTERS}?dryRun=All");
    let answer = client.post(&path, &datacenter("ams", "eu")).await;

    assert_eq!(answer.code, StatusCode::CREATED);
    assert_eq!(client.get(&format!("{DATACENTERS}/ams")).await.code, StatusCode::NOT_FOUND);
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    client.delete(&format!("{DATACENTERS}/ams?dryRun=All"), &json!({})).await;
    client.delete(&format!("{DATACENTERS}/ams"), &json!({"dryRun": ["All"]})).await;
    assert_eq!(client.get(&format!("{DATACENTERS}/ams")).await.code, StatusCode::OK);
}

#[tokio::test]
async fn names_are_generated_when_asked_for() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let mut object = datacenter("", "eu");
    object["metadata"] = json!({"generateName": "dc-"});

    let answer = client.post(DATACENTERS, &object).await;

    let name = answer.body["metadata"]["name"].as_str().expect("text");
    assert!(name.starts_with("dc-") && name.len() == 8, "{name}");
    object["metadata"] = json!({});
    assert_eq!(client.post(DATACENTERS, &object).await.code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn stale_writes_and_failed_preconditions_conflict() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let ams = format!("{DATACENTERS}/ams");
    let made = client.post(DATACENTERS, &datacenter("ams", "eu")).await.body;
    client.merge(&ams, &json!({"spec": {"region": "us"}})).await;

    let put = client.send(Method::PUT, &ams, "application/json", made.to_string()).await;
    assert_eq!((put.code, &put.body["reason"]), (StatusCode::CONFLICT, &json!("Conflict")));
    let stale = json!({"metadata": {"resourceVersion": "1"}, "spec": {"region": "eu"}});
    assert_eq!(client.merge(&ams, &stale).await.code, StatusCode::CONFLICT);
    let unconditional = datacenter("ams", "asia").to_string();
    let put = client.send(Method::PUT, &ams, "application/json", unconditional).await;
    assert_eq!(put.code, StatusCode::UNPROCESSABLE_ENTITY, "it might undo what others did");
    assert_eq!(put.body["details"]["causes"][0]["field"], "metadata.resourceVersion");
    for preconditions in [json!({"uid": "other"}), json!({"resourceVersion": "1"})] {
        let answer = client.delete(&ams, &json!({"preconditions": preconditions})).await;
        assert_eq!(answer.code, StatusCode::CONFLICT, "{preconditions}");
    }
    let uid = json!({"preconditions": {"uid": made["metadata"]["uid"]}});
    assert_eq!(client.delete(&ams, &uid).await.code, StatusCode::OK);
}

#[tokio::test]
async fn writers_that_meet_all_succeed_when_none_names_a_revision() {
    let api = Api::start();
    let mut client = connect(&api).await;
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;

    let writers = (0..8).map(|writer| {
        let credentials = credentials(&api);
        async move {
            let mut client = credentials.connect().await.expect("gets in");
            let patch = json!({"metadata": {"annotations": {format!("w{writer}"): "x"}}});
            client.merge(&format!("{DATACENTERS}/ams"), &patch).await.code
        }
    });
    let codes = futures::future::join_all(writers).await;

    assert!(codes.iter().all(|code| *code == StatusCode::OK), "{codes:?}");
    let ams = client.get(&format!("{DATACENTERS}/ams")).await.body;
    assert_eq!(ams["metadata"]["annotations"].as_object().map(serde_json::Map::len), Some(8));
}

#[tokio::test]
async fn a_collection_is_deleted_by_selection() {
    let api = Api::start();
    let mut client = connect(&api).await;
    for (name, region) in [("a", "eu"), ("b", "us"), ("c", "eu")] {
        client.post(DATACENTERS, &datacenter(name, region)).await;
    }

    let path = format!("{DATACENTERS}?labelSelector=region%3Deu");
    let answer = client.send(Method::DELETE, &path, "", "").await;

    assert_eq!(answer.code, StatusCode::OK);
    let left = client.get(DATACENTERS).await.body;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(left["items"][0]["metadata"]["name"], "b");
}

#[tokio::test]
async fn fields_that_are_unknown_are_warned_of_or_dropped_as_asked() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let mut object = datacenter("ams", "eu");
    object["spec"]["regoin"] = json!("x");

    let strict = client.post(&format!("{DATACENTERS}?fieldValidation=Strict"), &object).await;
    assert_eq!(strict.code, StatusCode::BAD_REQUEST);
    let warned = client.post(&format!("{DATACENTERS}?fieldValidation=Warn"), &object).await;
    assert_eq!(warned.code, StatusCode::CREATED);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"spec.regoin\\\"\"");
    assert_eq!(warned.body["spec"]["regoin"], Value::Null);
    object["metadata"]["name"] = json!("fra");
    let ignored = client.post(&format!("{DATACENTERS}?fieldValidation=Ignore"), &object).await;
    assert_eq!(ignored.code, StatusCode::CREATED);
    assert!(!ignored.headers.contains_key("warning"));
}

#[tokio::test]
async fn bodies_are_limited_and_of_a_known_type() {
    let api = Api::start();
    let limit = 1 << 20;
    let body = |bytes: usize| "x".repeat(bytes);
    let json = "application/json";

    let mut client = connect(&api).await;
    let fits = client.send(Method::POST, DATACENTERS, json, body(limit)).await;
    assert_eq!(fits.code, StatusCode::BAD_REQUEST, "it was read");
    let mut client = connect(&api).await;
    let large = client.send(Method::POST, DATACENTERS, json, body(limit + 1)).await;
    assert_eq!(large.code, StatusCode::PAYLOAD_TOO_LARGE);
    let mut client = connect(&api).await;
    let protobuf = "application/vnd.kubernetes.protobuf";
    let unknown = client.send(Method::POST, DATACENTERS, protobuf, "").await;
    assert_eq!(unknown.code, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let patches = json!(vec![json!({"op": "test", "path": "/kind", "value": "x"}); 1001]);
    let path = format!("{DATACENTERS}/ams");
    let json_patch = "application/json-patch+json";
    let many = client.send(Method::PATCH, &path, json_patch, patches.to_string()).await;
    assert_eq!(many.code, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn what_is_not_there_is_a_status_that_says_so() {
    let api = Api::start();
    let mut client = connect(&api).await;

    for path in [
        "/openapi/v1",
        "/apis/nope.example.com",
        "/apis/network.isocast.dev/v9",
        "/apis/network.isocast.dev/v1alpha1/nopes",
        "/apis/network.isocast.dev/v1alpha1/datacenters/ams/scale",
        "/apis/network.isocast.dev/v1alpha1/namespaces/acme/datacenters",
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.code, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.body["kind"], "Status", "{path}");
    }
    let answer = client.send(Method::PUT, DATACENTERS, "application/json", "{}").await;
    assert_eq!(answer.code, StatusCode::METHOD_NOT_ALLOWED);
    let answer = client.post("/api/v1/namespaces", &json!({})).await;
    assert_eq!(answer.code, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_openapi_document_is_cached_by_its_hash() {
    let api = Api::start();
    let mut client = connect(&api).await;

    let index = client.get("/openapi/v3").await.body;
    let path = index["paths"]["apis/network.isocast.dev/v1alpha1"]["serverRelativeURL"].clone();
    let document = client.get(path.as_str().expect("text")).await;

    assert_eq!(document.headers["cache-control"], "public, immutable");
    let one = "/apis/network.isocast.dev/v1alpha1/namespaces/{namespace}/anycastservices/{name}";
    let patch = &document.body["paths"][one]["patch"];
    assert_eq!(patch["x-kubernetes-action"], "patch");
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|parameter| parameter["name"].as_str())
        .collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
}
