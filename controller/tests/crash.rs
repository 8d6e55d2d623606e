//! What is acknowledged stays, whatever happens to the process.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::{fs, path::Path, process::Command, time::Duration};

use http_body_util::BodyExt;
use hyper::StatusCode;
use serde_json::{Value, json};
use support::{
    client::{Client, Credentials},
    process::{Process, free_port, ready},
};
use tokio::{sync::mpsc, time::timeout};

const DATACENTERS: &str = "/apis/network.isocast.dev/v1alpha1/datacenters";
const ROTATIONS: &str = "/apis/network.isocast.dev/v1alpha1/namespaces/isocast-system/keyrotations";
const CONTAINERS: &str = "/apis/resourcemanager.isocast.dev/v1alpha1";
const QUOTA: &str = "/apis/quota.isocast.dev/v1alpha1";
const WRITERS: usize = 16;
/// Enough that every kill falls into the middle of commits.
const ACKNOWLEDGED_BEFORE_KILL: usize = 300;
const KILLS: usize = 3;

fn datacenter(name: &str) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1",
        "kind": "Datacenter",
        "metadata": {"name": name},
        "spec": {"region": "eu"},
    })
}

/// Creates objects until the server is gone; reports what was acknowledged.
async fn write(mut client: Client, prefix: String, acknowledged: mpsc::Sender<String>) {
    for count in 0.. {
        let name = format!("{prefix}-{count}");
        let body = datacenter(&name).to_string();
        let method = hyper::Method::POST;
        match client.try_send(method, DATACENTERS, "application/json", body).await {
            Ok(response) if response.status() == StatusCode::CREATED => {
                if acknowledged.send(name).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

#[tokio::test]
async fn every_acknowledged_write_survives_kill_9() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let port = free_port();
    let mut expected: Vec<String> = Vec::new();

    for kill in 0..KILLS {
        let process = Process::start(&data, port);
        let credentials = ready(&data).await;
        let (sender, mut acknowledged) = mpsc::channel(1024);
        for writer in 0..WRITERS {
            let client = credentials.connect().await.expect("gets in");
            tokio::spawn(write(client, format!("k{kill}w{writer}"), sender.clone()));
        }
        drop(sender);
        let before = expected.len();
        while let Some(name) = acknowledged.recv().await {
            expected.push(name);
            if expected.len() == before + ACKNOWLEDGED_BEFORE_KILL {
                break;
            }
        }
        process.kill();
        // What was answered before the kill may still be on its way to us.
        while let Some(name) = acknowledged.recv().await {
            expected.push(name);
        }
        assert!(expected.len() >= before + ACKNOWLEDGED_BEFORE_KILL, "the writers stopped early");
    }

    let process = Process::start(&data, port);
    let mut client = ready(&data).await.connect().await.expect("gets in");
    let list = client.get(DATACENTERS).await.body;
    let there: std::collections::HashSet<&str> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect();
    let lost: Vec<_> = expected.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), expected.len());
    process.kill();
}

/// Creates projects until the server is gone or the limit is reached.
async fn fill(mut client: Client, prefix: String) {
    for count in 0.. {
        let project = json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Project",
            "metadata": {"name": format!("{prefix}-{count}")},
            "spec": {"parent": {"kind": "Organization", "name": "acme"}},
        });
        let (path, body) = (format!("{CONTAINERS}/projects"), project.to_string());
        let sent = client.try_send(hyper::Method::POST, &path, "application/json", body).await;
        match sent {
            Ok(response) if response.status() == StatusCode::CREATED => {}
            _ => return,
        }
    }
}

#[tokio::test]
async fn a_limit_holds_to_the_unit_whenever_the_controller_is_killed() {
    const LIMIT: usize = 1500;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let port = free_port();
    let mut process = Process::start(&data, port);
    let mut client = ready(&data).await.connect().await.expect("gets in");
    let organization = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Organization",
        "metadata": {"name": "acme"}, "spec": {},
    });
    let registration = json!({
        "apiVersion": "quota.isocast.dev/v1alpha1", "kind": "ResourceRegistration",
        "metadata": {"name": "projects"},
        "spec": {
            "consumerType": {"kind": "Organization"}, "type": "Entity",
            "resourceType": "resourcemanager.isocast.dev/projects", "baseUnit": "project",
            "displayUnit": "projects", "defaultLimit": LIMIT,
            "claimingResources": [{"apiGroup": "resourcemanager.isocast.dev", "kind": "Project"}],
        },
    });
    let made = client.post(&format!("{CONTAINERS}/organizations"), &organization).await;
    assert_eq!(made.code, StatusCode::CREATED);
    let made = client.post(&format!("{QUOTA}/resourceregistrations"), &registration).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");

    for round in 0..=KILLS {
        let credentials = ready(&data).await;
        let path = format!("{CONTAINERS}/projects?watch=1");
        let mut watch = credentials.connect().await.expect("gets in").watch(&path).await;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..50 {
            let client = credentials.connect().await.expect("gets in");
            writers.spawn(fill(client, format!("r{round}w{writer}")));
        }
        if round == KILLS {
            writers.join_all().await;
            break;
        }
        // As soon as there is something new, in the middle of the rest; or at the limit.
        let new = async {
            while let Some(event) = watch.next().await {
                let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
                if name.starts_with(&format!("r{round}")) {
                    return;
                }
            }
        };
        tokio::select! {
            () = new => {}
            () = async { while writers.join_next().await.is_some() {} } => {}
        }
        process.kill();
        writers.join_all().await;
        process = Process::start(&data, port);
    }

    let mut client = ready(&data).await.connect().await.expect("gets in");
    let list = client.get(&format!("{CONTAINERS}/projects")).await.body;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(LIMIT));
    let bucket = format!("{QUOTA}/namespaces/acme/allowancebuckets/projects");
    let status = client.get(&bucket).await.body["status"].clone();
    assert_eq!((&status["allocated"], &status["available"]), (&json!(LIMIT), &json!(0)));
    process.kill();
}

/// Changes the file of keys: which are in it, and which one is active.
fn set_keys(data: &Path, active: &str, keep: impl Fn(&str) -> bool) {
    let path = data.join("secrets.keys");
    let text = fs::read_to_string(&path).expect("the controller made it");
    let mut file: Value = serde_json::from_str(&text).expect("JSON");
    let keys = file["keys"].as_object_mut().expect("keys by name");
    keys.retain(|name, _| keep(name));
    keys.entry(active).or_insert(json!("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY="));
    file["active"] = json!(active);
    // In place: the mode stays.
    fs::write(&path, file.to_string()).expect("writable");
}

/// What the controller says about keys, once it says `waiting` Secrets wait and `field` is `value`.
async fn sealing_says(credentials: &Credentials, waiting: &str, field: &str, value: &str) {
    let path = "/api/v1/namespaces/isocast-system/configmaps?watch=1";
    let mut watch = credentials.connect().await.expect("gets in").watch(path).await;
    let said = async {
        loop {
            let event = watch.next().await.expect("an event");
            let data = &event["object"]["data"];
            if data["waiting"] == waiting && data[field] == value {
                return;
            }
        }
    };
    timeout(Duration::from_secs(60), said).await.expect("it is said");
}

#[tokio::test]
async fn secrets_are_sealed_anew_however_often_the_controller_is_killed_and_the_key_can_go() {
    const SECRETS: usize = 1000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let port = free_port();
    let secrets = "/api/v1/namespaces/isocast-system/secrets";
    let process = Process::start(&data, port);
    let credentials = ready(&data).await;
    let mut client = credentials.connect().await.expect("gets in");
    for number in 0..SECRETS {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s{number}")},
            "stringData": {"number": number.to_string()},
        });
        assert_eq!(client.post(secrets, &secret).await.code, StatusCode::CREATED);
    }
    let before = client.get(secrets).await.body;
    process.kill();

    set_keys(&data, "2", |_| true);
    // A kill in the middle, twice.
    for _ in 0..2 {
        let process = Process::start(&data, port);
        let credentials = ready(&data).await;
        let watch = format!("{secrets}?watch=1&resourceVersion=1");
        let mut watch = credentials.connect().await.expect("gets in").watch(&watch).await;
        let mut modified = 0;
        while modified < 100 {
            let event = timeout(Duration::from_secs(60), watch.next()).await.expect("in time");
            modified += usize::from(event.expect("an event")["type"] == "MODIFIED");
        }
        process.kill();
    }
    let process = Process::start_with(&data, port, &["--history-revisions", "1"]);
    let credentials = ready(&data).await;
    sealing_says(&credentials, "0", "needed", "1").await;
    let mut client = credentials.connect().await.expect("gets in");
    let page = |list: &Value| -> Vec<(Value, Value)> {
        let items = list["items"].as_array().expect("a list").iter();
        items.map(|item| (item["metadata"]["uid"].clone(), item["data"].clone())).collect()
    };
    assert_eq!(page(&client.get(secrets).await.body), page(&before));
    // Until the log begins after what was sealed with the former key.
    for number in 0..600 {
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "counter"}, "data": {"number": number.to_string()},
        });
        let path = "/api/v1/namespaces/isocast-system/configmaps";
        let sent = match number {
            0 => client.post(path, &map).await,
            _ => client.merge(&format!("{path}/counter"), &map).await,
        };
        assert!(sent.code.is_success(), "{sent:?}");
    }
    process.kill();

    let process = Process::start_with(&data, port, &["--history-revisions", "1"]);
    sealing_says(&ready(&data).await, "0", "unneeded", "1").await;
    process.kill();
    set_keys(&data, "2", |name| name != "1");
    let process = Process::start(&data, port);
    let mut client = ready(&data).await.connect().await.expect("gets in");
    assert_eq!(page(&client.get(secrets).await.body), page(&before));
    process.kill();
}
/// The rotation once its phase is one of these.
async fn rotation_in(credentials: &Credentials, phases: &[&str]) -> Value {
    let client = credentials.connect().await.expect("gets in");
    let mut watch = client.watch(&format!("{ROTATIONS}?watch=1")).await;
    let seen = async {
        loop {
            let event = watch.next().await.expect("an event");
            let phase = event["object"]["status"]["phase"].as_str().unwrap_or_default();
            if phases.contains(&phase) {
                return event["object"].clone();
            }
        }
    };
    timeout(Duration::from_secs(30), seen).await.expect("the rotation goes on")
}

#[tokio::test]
async fn a_rotation_of_keys_is_carried_out_whenever_the_controller_is_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let port = free_port();
    let keyring = || {
        let bytes = fs::read(data.join("keyring.json")).expect("keys are there");
        serde_json::from_slice::<Value>(&bytes).expect("and whole")
    };
    let rotation = json!({
        "apiVersion": "network.isocast.dev/v1alpha1",
        "kind": "KeyRotation",
        "metadata": {"name": "now", "namespace": "isocast-system"},
        "spec": {"what": "ClusterSecret"},
    });
    let mut process = Process::start(&data, port);
    let mut credentials = ready(&data).await;
    let before = keyring();
    let mut client = credentials.connect().await.expect("gets in");
    assert_eq!(client.post(ROTATIONS, &rotation).await.code, StatusCode::CREATED);

    for _ in 0..KILLS {
        rotation_in(&credentials, &["Switching", "Retiring", "Complete"]).await;
        process.kill();
        let kept = keyring();
        assert_ne!(kept["current"], before["current"], "no node hears of what is not on disk");
        process = Process::start(&data, port);
        credentials = ready(&data).await;
        assert_eq!(keyring()["current"], kept["current"], "it goes on with the same keys");
    }

    let complete = rotation_in(&credentials, &["Complete"]).await;
    assert_eq!(complete["status"]["conditions"][0]["status"], "True");
    let after = keyring();
    assert_eq!(after["formers"][0]["secret"], before["current"]["secret"]);
    assert_eq!(after["under_way"], Value::Null);
    process.kill();
}

#[tokio::test]
async fn the_past_is_read_and_pages_go_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let port = free_port();
    let process = Process::start(&data, port);
    let mut client = ready(&data).await.connect().await.expect("gets in");
    for name in ["a", "b", "c"] {
        assert_eq!(client.post(DATACENTERS, &datacenter(name)).await.code, StatusCode::CREATED);
    }
    let first = client.get(&format!("{DATACENTERS}?limit=1")).await.body;
    let token = first["metadata"]["continue"].as_str().expect("more").to_owned();
    let then = first["metadata"]["resourceVersion"].as_str().expect("text").to_owned();
    let patch = json!({"metadata": {"labels": {"now": "other"}}});
    client.merge(&format!("{DATACENTERS}/b"), &patch).await;
    client.delete(&format!("{DATACENTERS}/c"), &json!({})).await;
    client.post(DATACENTERS, &datacenter("d")).await;
    process.kill();

    let _process = Process::start(&data, port);
    let mut client = ready(&data).await.connect().await.expect("gets in");
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("a list").iter();
        items.map(|it| it["metadata"]["name"].as_str().expect("text").to_owned()).collect()
    };
    let rest = client.get(&format!("{DATACENTERS}?continue={token}")).await.body;
    assert_eq!(names(&rest), ["b", "c"]);
    assert_eq!(rest["metadata"]["resourceVersion"], then.as_str());
    assert_eq!(rest["items"][0]["metadata"]["labels"], Value::Null);
    let exact = format!("{DATACENTERS}?resourceVersion={then}&resourceVersionMatch=Exact");
    let past = client.get(&exact).await.body;
    assert_eq!(names(&past), ["a", "b", "c"]);
    assert_eq!(past["metadata"]["resourceVersion"], then.as_str());
    assert_eq!(names(&client.get(DATACENTERS).await.body), ["a", "b", "d"]);
    // The end of revision 1.
    let earliest = format!("{DATACENTERS}?resourceVersion=1999&resourceVersionMatch=Exact");
    let first = client.get(&earliest).await;
    assert_eq!((first.code, names(&first.body)), (StatusCode::OK, vec![]));
}

#[tokio::test]
async fn a_backup_of_a_running_controller_becomes_a_platform_of_the_same_objects() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let port = free_port();
    let process = Process::start(&data, port);
    let credentials = ready(&data).await;
    let mut client = credentials.connect().await.expect("gets in");
    for name in ["a", "b", "c"] {
        assert_eq!(client.post(DATACENTERS, &datacenter(name)).await.code, StatusCode::CREATED);
    }
    // What the platform says of them by itself is in the backup as well, and not news after it.
    let before = timeout(Duration::from_secs(30), async {
        loop {
            let before = client.get(DATACENTERS).await.body;
            let items = before["items"].as_array().expect("a list");
            if items.iter().all(|it| it["status"]["conditions"].is_array()) {
                break before;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("they are judged");
    let anonymous = credentials.clone().anonymous().connect().await.expect("TLS lets it in");
    let refused = { anonymous }.get("/backup").await;
    assert_eq!(refused.code, StatusCode::UNAUTHORIZED);
    let answer = client.try_send(hyper::Method::GET, "/backup", "", "").await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    let bytes = answer.into_body().collect().await.expect("whole").to_bytes();
    let backup = folder.path().join("backup");
    fs::write(&backup, &bytes).expect("writable");
    let records = "/apis/audit.isocast.dev/v1alpha1/auditrecords?outcome=Read";
    let found = client.get(records).await.body;
    assert_eq!(found["items"][0]["name"], "/backup", "who has everything is on record: {found:#}");
    process.kill();

    let restored = folder.path().join("restored");
    let restore = |backup: &Path, data: &Path| {
        Command::new(env!("CARGO_BIN_EXE_isocast-controller"))
            .arg("restore")
            .arg(backup)
            .arg("--data")
            .arg(data)
            .output()
            .expect("it runs")
    };
    let said = restore(&backup, &restored);
    assert!(said.status.success(), "{said:?}");
    let again = restore(&backup, &restored);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("exists"));
    let cut = folder.path().join("cut");
    fs::write(&cut, &bytes[..bytes.len() - 1]).expect("writable");
    let nowhere = folder.path().join("nowhere");
    assert!(!restore(&cut, &nowhere).status.success());
    assert!(!nowhere.join("isocast.redb").exists());

    let _process = Process::start(&restored, port);
    // The former administrator's certificate is of the same authority.
    ready(&restored).await;
    let mut client = credentials.connect().await.expect("gets in");
    let after = client.get(DATACENTERS).await.body;
    assert_eq!(after["items"], before["items"], "revisions and uids included");
    let version = |list: &Value| -> u64 {
        let version = list["metadata"]["resourceVersion"].as_str().expect("text");
        version.parse().expect("a revision")
    };
    assert!(version(&after) >= version(&before) + 1_000_000_000);
    let made = client.post(DATACENTERS, &datacenter("d")).await;
    assert_eq!(made.code, StatusCode::CREATED);
    let watch = format!("{DATACENTERS}?watch=1&resourceVersion={}", version(&before));
    let event = client.watch(&watch).await.next().await.expect("a reason");
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(410)),
        "it is read anew"
    );
}

#[tokio::test]
async fn sigterm_ends_it_in_order() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let port = free_port();
    let mut process = Process::start(&data, port);
    let credentials = ready(&data).await;
    let mut client = credentials.connect().await.expect("gets in");
    assert_eq!(client.post(DATACENTERS, &datacenter("ams")).await.code, StatusCode::CREATED);
    let path = format!("{DATACENTERS}?watch=1");
    let mut watch = credentials.connect().await.expect("gets in").watch(&path).await;
    assert!(watch.next().await.is_some());

    let pid = process.0.id().to_string();
    Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");

    let ended = tokio::task::spawn_blocking(move || process.0.wait());
    let status = timeout(Duration::from_secs(15), ended).await.expect("it ends soon");
    assert!(status.expect("no panic").expect("it ran").success());
    assert!(watch.next().await.is_none(), "watches end");
}
