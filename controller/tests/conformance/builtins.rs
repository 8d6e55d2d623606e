//! ConfigMaps, Secrets, Events and Leases: the kinds that clients know by heart.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{connect, next, with_project};
use crate::support::Api;

const CORE: &str = "/api/v1/namespaces/web";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/web/leases";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/web/events";

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// A length and what has it: a field of protobuf.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let length = u8::try_from(value.len()).expect("short");
    assert!(length < 128, "one byte of length");
    [vec![number << 3 | 2, length], value.to_vec()].concat()
}

#[tokio::test]
async fn a_config_map_is_made_patched_in_every_way_and_deleted() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let maps = format!("{CORE}/configmaps");

    let made = client.post(&maps, &config_map("m", &json!({"a": "1"}))).await;
    assert_eq!(made.code, StatusCode::CREATED);
    assert_eq!(made.body["metadata"]["generation"], Value::Null, "it does not count generations");
    let one = format!("{maps}/m");
    for (content_type, patch) in [
        ("application/merge-patch+json", json!({"data": {"b": "2"}})),
        ("application/strategic-merge-patch+json", json!({"data": {"a": null, "c": "3"}})),
        (
            "application/json-patch+json",
            json!([{"op": "test", "path": "/data/c", "value": "3"},
                {"op": "add", "path": "/data/d", "value": "4"}]),
        ),
    ] {
        let answer = client.send(Method::PATCH, &one, content_type, patch.to_string()).await;
        assert_eq!(answer.code, StatusCode::OK, "{content_type}: {:?}", answer.body);
    }
    let map = client.get(&one).await.body;
    assert_eq!(map["data"], json!({"b": "2", "c": "3", "d": "4"}));
    assert_eq!(client.get(&format!("{one}/status")).await.code, StatusCode::NOT_FOUND);
    let everywhere = client.get("/api/v1/configmaps").await.body;
    assert_eq!(everywhere["kind"], "ConfigMapList");
    assert_eq!(everywhere["items"].as_array().map(Vec::len), Some(1));

    let gone = client.delete(&one, &json!({"propagationPolicy": "Background"})).await;
    assert_eq!((gone.code, &gone.body["status"]), (StatusCode::OK, &json!("Success")));
    let missing = client.get(&one).await;
    assert_eq!(missing.body["message"], "configmaps \"m\" not found");
}

#[tokio::test]
async fn an_immutable_map_stays_as_it_is() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let mut map = config_map("m", &json!({"a": "1"}));
    map["immutable"] = json!(true);
    client.post(&format!("{CORE}/configmaps"), &map).await;

    let answer = client.merge(&format!("{CORE}/configmaps/m"), &json!({"data": {"a": "2"}})).await;

    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        answer.body["message"],
        "ConfigMap \"m\" is invalid: data: Forbidden: field is immutable when `immutable` is set"
    );
}

#[tokio::test]
async fn a_secret_comes_as_text_or_protobuf_and_is_sealed_on_disk() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let secrets = format!("{CORE}/secrets");

    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "text"},
        "stringData": {"password": "correct-horse"}});
    let made = client.post(&secrets, &secret).await.body;
    assert_eq!((&made["type"], &made["stringData"]), (&json!("Opaque"), &Value::Null));
    assert_eq!(made["data"]["password"], "Y29ycmVjdC1ob3JzZQ==");

    let meta = [field(1, b"helm"), field(11, &[field(1, b"owner"), field(2, b"helm")].concat())];
    let data = [field(1, b"release"), field(2, b"battery-staple")].concat();
    let object = [field(1, &meta.concat()), field(2, &data), field(3, b"helm.sh/release.v1")];
    let type_meta = [field(1, b"v1"), field(2, b"Secret")].concat();
    let body = [b"k8s\0".to_vec(), field(1, &type_meta), field(2, &object.concat())].concat();
    let protobuf = "application/vnd.kubernetes.protobuf";
    let made = client.send(Method::POST, &secrets, protobuf, body.clone()).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    assert_eq!(made.body["type"], "helm.sh/release.v1");
    let found = client.get(&format!("{secrets}?labelSelector=owner%3Dhelm")).await.body;
    assert_eq!(found["items"][0]["data"]["release"], "YmF0dGVyeS1zdGFwbGU=");
    let refused = client.send(Method::POST, super::DATACENTERS, protobuf, body).await;
    assert_eq!(refused.code, StatusCode::UNSUPPORTED_MEDIA_TYPE, "only what clients know by heart");

    let file = |name: &str| std::fs::read(api.folder.path().join("data").join(name));
    let disk =
        ["isocast.redb", "isocast.journal"].map(|name| file(name).expect("readable")).concat();
    let holds = |text: &[u8]| disk.windows(text.len()).any(|part| part == text);
    assert!(holds(b"labelSelector") || holds(b"organizations"), "the log is there");
    for text in ["correct-horse", "Y29ycmVjdC1ob3JzZQ", "YmF0dGVyeS1zdGFwbGU", "battery-staple"] {
        assert!(!holds(text.as_bytes()), "{text} is on disk");
    }
}

#[tokio::test]
async fn an_event_is_one_object_in_two_groups() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let mut watch = connect(&api)
        .await
        .watch(&format!("{EVENTS}?watch=1&fieldSelector=regarding.name%3Dwww"))
        .await;
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "www.1"},
        "involvedObject": {"kind": "AnycastService", "namespace": "web", "name": "www", "uid": "u"},
        "reason": "Drained", "message": "it is drained", "type": "Normal", "count": 1,
        "firstTimestamp": "2026-11-22T08:00:00Z", "lastTimestamp": "2099-11-22T08:00:00Z",
        "source": {"component": "test"},
    });
    let made = client.post(&format!("{CORE}/events"), &event).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);

    let (kind, seen) = next(&mut watch).await;
    assert_eq!((kind.as_str(), &seen["apiVersion"]), ("ADDED", &json!("events.k8s.io/v1")));
    assert_eq!(
        (&seen["regarding"]["name"], &seen["note"]),
        (&json!("www"), &json!("it is drained"))
    );
    let newer = client.get(&format!("{EVENTS}/www.1")).await.body;
    assert_eq!(newer["deprecatedCount"], 1);
    assert_eq!(newer["involvedObject"], Value::Null);

    // As a recorder goes on when it happens again.
    let strategic = "application/strategic-merge-patch+json";
    let again = json!({"count": 2, "lastTimestamp": "2099-11-22T09:00:00Z"});
    let path = format!("{CORE}/events/www.1");
    let patched = client.send(Method::PATCH, &path, strategic, again.to_string()).await;
    assert_eq!(patched.code, StatusCode::OK, "{:?}", patched.body);
    let series = json!({"series": {"count": 3, "lastObservedTime": "2026-11-22T09:00:00.000001Z"}});
    let path = format!("{EVENTS}/www.1");
    let patched = client.send(Method::PATCH, &path, strategic, series.to_string()).await;
    assert_eq!(patched.code, StatusCode::OK, "{:?}", patched.body);
    let event = client.get(&format!("{CORE}/events/www.1")).await.body;
    assert_eq!((&event["count"], &event["series"]["count"]), (&json!(2), &json!(3)));
    assert_eq!(event["message"], "it is drained");

    // As `kubectl describe` asks.
    let selector = "involvedObject.kind%3DAnycastService%2CinvolvedObject.uid%3Du%2C\
                    involvedObject.name%3Dwww%2CinvolvedObject.namespace%3Dweb";
    let found = client.get(&format!("{CORE}/events?fieldSelector={selector}")).await.body;
    assert_eq!(found["items"].as_array().map(Vec::len), Some(1));
    let other = client.get(&format!("{CORE}/events?fieldSelector=involvedObject.name%3Dx")).await;
    assert_eq!(other.body["items"].as_array().map(Vec::len), Some(0));
    let unknown = client.get(&format!("{CORE}/events?fieldSelector=message%3Dx")).await;
    assert_eq!(unknown.code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_lease_has_one_holder_however_many_want_it() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let lease = |holder: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "leader"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15,
                "acquireTime": "2026-11-22T08:00:00.123456Z",
                "renewTime": "2026-11-22T08:00:00.123456Z", "leaseTransitions": 0},
        })
    };
    // Whoever makes it has it.
    let mut codes = Vec::new();
    for holder in ["a", "b"] {
        codes.push(client.post(LEASES, &lease(holder)).await.code);
    }
    assert_eq!(codes, [StatusCode::CREATED, StatusCode::CONFLICT]);

    // It expired, and both take it from the state they saw: one of them is told to look again.
    let seen = client.get(&format!("{LEASES}/leader")).await.body;
    assert_eq!(seen["spec"]["renewTime"], "2026-11-22T08:00:00.123456Z");
    let mut codes = Vec::new();
    for holder in ["b", "c"] {
        let mut taken = seen.clone();
        taken["spec"]["holderIdentity"] = json!(holder);
        taken["spec"]["leaseTransitions"] = json!(1);
        let path = format!("{LEASES}/leader");
        codes.push(
            client.send(Method::PUT, &path, "application/json", taken.to_string()).await.code,
        );
    }
    assert_eq!(codes, [StatusCode::OK, StatusCode::CONFLICT]);
    let holder =
        client.get(&format!("{LEASES}/leader")).await.body["spec"]["holderIdentity"].clone();
    assert_eq!(holder, "b");
}

#[tokio::test]
async fn who_may_see_a_project_does_not_see_its_secrets() {
    let api = Api::start();
    let mut admin = with_project(&api).await;
    let mut alice = api.user_with(&mut admin, "alice", "viewer", "web").await;

    for (path, code) in [
        (format!("{CORE}/configmaps"), StatusCode::OK),
        (format!("{CORE}/events"), StatusCode::OK),
        (EVENTS.to_owned(), StatusCode::OK),
        (LEASES.to_owned(), StatusCode::OK),
        (format!("{CORE}/secrets"), StatusCode::FORBIDDEN),
        (format!("{CORE}/secrets/x"), StatusCode::FORBIDDEN),
        (format!("{CORE}/secrets?watch=1"), StatusCode::FORBIDDEN),
        ("/api/v1/secrets".to_owned(), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(alice.get(&path).await.code, code, "{path}");
    }
    let refused = alice.post(&format!("{CORE}/configmaps"), &config_map("m", &json!({}))).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);

    // In Kubernetes' words the core group has no name.
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {"namespace": "web"}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let rules = alice.post(path, &review).await.body;
    let rules = rules["status"]["resourceRules"].as_array().cloned().unwrap_or_default();
    let of = |resource: &str| rules.iter().find(|rule| rule["resources"] == json!([resource]));
    assert_eq!(of("configmaps").expect("may be read")["apiGroups"], json!([""]));
    assert_eq!(of("secrets"), None);
}

#[tokio::test]
async fn built_in_kinds_are_discovered_and_explained_and_live_in_a_namespace_that_is_there() {
    let api = Api::start();
    let mut client = with_project(&api).await;

    let core = client.get("/api/v1").await.body;
    let names: Vec<&str> = core["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|row| row["name"].as_str())
        .collect();
    assert_eq!(names, ["namespaces", "configmaps", "secrets", "events"]);
    for (path, kind) in
        [("apis/events.k8s.io/v1", "Event"), ("apis/coordination.k8s.io/v1", "Lease")]
    {
        let rows = client.get(&format!("/{path}")).await.body;
        assert_eq!(rows["resources"][0]["kind"], kind);
        let document = client.get(&format!("/openapi/v3/{path}")).await;
        assert_eq!(document.code, StatusCode::OK);
    }
    let nowhere = "/api/v1/namespaces/nowhere/configmaps";
    let answer = client.post(nowhere, &config_map("m", &json!({}))).await;
    assert_eq!(answer.body["message"], "namespaces \"nowhere\" not found");
}

#[tokio::test]
async fn what_is_empty_is_as_good_as_absent() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let path = format!("{CORE}/configmaps");
    let empty = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "a", "labels": {}, "annotations": {}, "finalizers": [], "ownerReferences": [],
        },
        "data": {}, "binaryData": {},
    });
    let made = client.create(&path, &empty).await.body;
    let fields = |object: &Value| {
        let names = |fields: &Value| fields.as_object().expect("fields").keys().cloned().collect();
        let mut names: [Vec<String>; 2] = [names(object), names(&object["metadata"])];
        names.iter_mut().for_each(|names| names.sort());
        names
    };
    let metadata = ["creationTimestamp", "name", "namespace", "resourceVersion", "uid"];
    let expected = [&["apiVersion", "kind", "metadata"][..], &metadata[..]];
    assert_eq!(fields(&made), expected);
    let path = format!("{path}/a");
    let again = client.send(Method::PUT, &path, "application/json", empty.to_string()).await;
    assert_eq!(again.code, StatusCode::OK, "{again:?}");
    assert_eq!(again.body, made, "nothing has changed");
}

#[tokio::test]
async fn secrets_of_well_known_types_have_what_these_need() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    for (secret_type, data, field) in [
        ("kubernetes.io/dockercfg", json!({}), "data[.dockercfg]"),
        ("kubernetes.io/basic-auth", json!({}), "data[username]"),
        (
            "kubernetes.io/service-account-token",
            json!({}),
            "metadata.annotations[kubernetes.io/service-account.name]",
        ),
    ] {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "type": secret_type,
            "data": data,
        });
        let answer = client.post(&format!("{CORE}/secrets"), &secret).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{secret_type}: {answer:?}");
        assert_eq!(answer.body["details"]["causes"][0]["field"], field);
    }
    let one_of_both = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
        "type": "kubernetes.io/basic-auth", "stringData": {"password": "x"},
    });
    client.create(&format!("{CORE}/secrets"), &one_of_both).await;
}
