//! Records of what was done, denied and given out: who may read them, and what they say.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};
use support::{
    Api,
    accounts::IAM,
    client::{Answer, Client},
};

const AUDIT: &str = "/apis/audit.isocast.dev/v1alpha1";
const POOLS: &str = "/apis/network.isocast.dev/v1alpha1/namespaces/web-prod/backendpools";

const STRANGERS: &str = "
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Organization
metadata: {name: globex}
spec: {}
---
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Project
metadata: {name: theirs}
spec: {parent: {kind: Organization, name: globex}}
---
apiVersion: network.isocast.dev/v1alpha1
kind: BackendPool
metadata: {name: hidden, namespace: theirs}
spec: {}
";

struct Platform {
    api: Api,
    admin: Client,
}

impl Platform {
    async fn start() -> Self {
        let api = Api::with_platform();
        api.kubectl_in(STRANGERS, &["apply", "-f", "-"]).expect_ok();
        let admin = api.admin().await;
        Self { api, admin }
    }

    /// A user with a role in a container.
    async fn user(&mut self, name: &str, role: &str, container: &str) -> Client {
        self.api.user_with(&mut self.admin, name, role, container).await
    }
}

fn pool(name: &str) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
        "metadata": {"name": name}, "spec": {},
    })
}

fn id(answer: &Answer) -> String {
    let id = answer.headers.get("audit-id").expect("every answer names its request");
    id.to_str().expect("text").to_owned()
}

async fn records(client: &mut Client, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("{AUDIT}/auditrecords?{query}")).await;
    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    answer.body["items"].as_array().expect("a list").clone()
}

/// The one record that is asked for; an answer does not wait for it.
async fn recorded(client: &mut Client, query: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = records(client, query).await;
        if let [record] = &found[..] {
            return record.clone();
        }
        assert!(found.is_empty() && Instant::now() < deadline, "{query}: {found:#?}");
    }
}

#[tokio::test]
async fn a_change_has_a_record_that_says_who_whence_what_and_how() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice", "editor", "acme").await;

    let made = alice.post(POOLS, &pool("a")).await;
    let rehearsed = alice.post(&format!("{POOLS}?dryRun=All"), &pool("b")).await;
    let one = format!("{POOLS}/a");
    let changed = alice.merge(&one, &json!({"spec": {"slowStart": "10s"}})).await;
    let gone = alice.delete(&one, &json!({})).await;

    for (answer, verb) in [(&made, "create"), (&changed, "patch"), (&gone, "delete")] {
        assert!(answer.code.is_success(), "{answer:?}");
        let found = records(&mut platform.admin, &format!("id={}", id(answer))).await;
        assert_eq!(found.len(), 1, "{found:#?}");
        let record = &found[0];
        let actor = record["actor"].as_str().expect("somebody");
        assert!(actor.starts_with("user \"alice\""), "{actor}");
        assert_eq!(record["verb"], verb);
        assert_eq!(record["source"], "127.0.0.1");
        assert_eq!(record["resource"], "backendpools.network.isocast.dev");
        assert_eq!((&record["namespace"], &record["name"]), (&json!("web-prod"), &json!("a")));
        assert_eq!(record["uid"], made.body["metadata"]["uid"]);
        assert_eq!(record["scope"], "acme/web-prod");
        assert_eq!(record["outcome"], "Changed");
    }
    let patched = records(&mut platform.admin, &format!("id={}", id(&changed))).await;
    let patch = &patched[0]["changes"][0]["patch"];
    let slow = patch.as_array().expect("a patch").iter().find(|it| it["path"] == "/spec/slowStart");
    assert_eq!(slow.expect("it says so")["value"], "10s", "{patch}");
    assert!(records(&mut platform.admin, &format!("id={}", id(&rehearsed))).await.is_empty());

    let of_alice = records(&mut platform.admin, "actor=alice&resource=backendpools").await;
    assert_eq!(of_alice.len(), 3);
    let none = records(&mut platform.admin, "actor=alice&verb=delete&name=b").await;
    assert!(none.is_empty());
}

#[tokio::test]
async fn who_asks_as_somebody_else_is_recorded_too() {
    let mut platform = Platform::start().await;
    platform.user("alice", "editor", "acme").await;

    platform.admin.extra.push(("impersonate-user", "alice".to_owned()));
    let made = platform.admin.post(POOLS, &pool("a")).await;
    platform.admin.extra.clear();

    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let found = records(&mut platform.admin, &format!("id={}", id(&made))).await;
    let actor = found[0]["actor"].as_str().expect("somebody");
    assert!(actor.starts_with("user \"alice\""), "{actor}");
    assert_eq!(found[0]["impersonator"], "user \"admin\"", "{found:#?}");
}

#[tokio::test]
async fn what_was_denied_and_what_gave_a_secret_out_is_recorded() {
    let mut platform = Platform::start().await;
    let mut viewer = platform.user("vera", "viewer", "acme").await;

    let refused = viewer.post(POOLS, &pool("a")).await;
    assert_eq!(refused.code, StatusCode::FORBIDDEN);
    let hidden = "/apis/network.isocast.dev/v1alpha1/namespaces/theirs/backendpools/hidden";
    let unseen = viewer.get(hidden).await;
    assert_eq!(unseen.code, StatusCode::NOT_FOUND);
    let mut nobody = viewer;
    nobody.bearer = Some("isocast-nonsense".to_owned());
    let unknown = nobody.get(POOLS).await;
    assert_eq!(unknown.code, StatusCode::UNAUTHORIZED);

    for (answer, verb, code, scope) in [
        (&refused, "create", 403, "acme/web-prod"),
        (&unseen, "get", 404, "globex/theirs"),
        (&unknown, "list", 401, "acme/web-prod"),
    ] {
        let query = format!("outcome=Denied&id={}", id(answer));
        let found = recorded(&mut platform.admin, &query).await;
        assert_eq!((&found["verb"], &found["code"]), (&json!(verb), &json!(code)));
        assert_eq!(found["scope"], scope);
    }

    let token = platform.admin.post(&format!("{IAM}/users/vera/token"), &json!({"spec": {}})).await;
    let found = records(&mut platform.admin, &format!("outcome=Read&id={}", id(&token))).await;
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0]["name"], &found[0]["subresource"]), (&json!("vera"), &json!("token")));
    let secret = token.body["status"]["token"].as_str().expect("a token");
    let all = records(&mut platform.admin, "limit=500").await;
    assert!(!json!(all).to_string().contains(secret));
}

#[tokio::test]
async fn what_was_refused_is_recorded_so_many_times_and_the_rest_is_counted() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice", "editor", "acme").await;
    let made = alice.post(POOLS, &pool("a")).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");

    let taken = alice.post(POOLS, &pool("a")).await;
    let one = format!("{POOLS}/a");
    let wrong = alice.merge(&one, &json!({"spec": {"slowStart": "soon"}})).await;
    let rehearsed = alice.post(&format!("{POOLS}?dryRun=All"), &pool("a")).await;
    assert_eq!(rehearsed.code, StatusCode::CONFLICT);

    for (answer, verb, code) in [(&taken, "create", 409), (&wrong, "patch", 422)] {
        assert_eq!(answer.code.as_u16(), code, "{answer:?}");
        let found =
            recorded(&mut platform.admin, &format!("outcome=Refused&id={}", id(answer))).await;
        assert_eq!((&found["verb"], &found["code"]), (&json!(verb), &json!(code)));
        assert_eq!((&found["name"], &found["scope"]), (&json!("a"), &json!("acme/web-prod")));
        assert!(found["actor"].as_str().expect("somebody").starts_with("user \"alice\""));
    }
    // Far more than an actor's share in no time.
    let calls = 200;
    for _ in 0..calls {
        assert_eq!(alice.post(POOLS, &pool("a")).await.code, StatusCode::CONFLICT);
    }
    let refused = records(&mut platform.admin, "outcome=Refused&actor=alice&limit=500").await;
    assert!(refused.len() < calls, "{} of {calls}", refused.len());
    // Which takes nothing from what is recorded of those who may not.
    let theirs = "/apis/network.isocast.dev/v1alpha1/namespaces/theirs/backendpools/hidden";
    let unseen = alice.delete(theirs, &json!({})).await;
    recorded(&mut platform.admin, &format!("outcome=Denied&id={}", id(&unseen))).await;

    let all = records(&mut platform.admin, &format!("id={}", id(&rehearsed))).await;
    assert!(all.is_empty(), "{all:#?}");
}

#[tokio::test]
async fn a_secret_that_is_made_changed_or_read_shows_in_no_record() {
    let mut platform = Platform::start().await;
    let secrets = "/api/v1/namespaces/web-prod/secrets";
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"},
        "stringData": {"same": "hunter1", "other": "hunter2"},
    });
    assert_eq!(platform.admin.post(secrets, &secret).await.code, StatusCode::CREATED);
    let one = format!("{secrets}/key");
    let changed = platform.admin.merge(&one, &json!({"stringData": {"other": "hunter3"}})).await;
    let read = platform.admin.get(&one).await;
    let listed = platform.admin.get(secrets).await;

    for (answer, verb, name) in [(&read, "get", json!("key")), (&listed, "list", json!(null))] {
        assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
        let found = records(&mut platform.admin, &format!("outcome=Read&id={}", id(answer))).await;
        assert_eq!((&found[0]["verb"], &found[0]["name"]), (&json!(verb), &name));
    }
    let found = records(&mut platform.admin, &format!("id={}", id(&changed))).await;
    let patch = found[0]["changes"][0]["patch"].to_string();
    assert!(patch.contains("/data/other") && !patch.contains("/data/same"), "{patch}");
    let all = json!(records(&mut platform.admin, "resource=secrets").await).to_string();
    for value in ["hunter", "aHVudGVy"] {
        assert!(!all.contains(value), "{all}");
    }
}

#[tokio::test]
async fn an_auditor_of_an_organization_sees_what_is_in_it_and_nothing_else() {
    let mut platform = Platform::start().await;
    let mut auditor = platform.user("audrey", "security-auditor", "acme").await;
    let mut admin = platform.user("adam", "admin", "acme").await;
    let path = format!("/organizations/acme{AUDIT}/auditrecords");

    // A right of its own.
    assert_eq!(admin.get(&path).await.code, StatusCode::FORBIDDEN);
    for other in [
        format!("{AUDIT}/auditrecords"),
        format!("{AUDIT}/auditchain"),
        format!("/organizations/globex{AUDIT}/auditrecords"),
    ] {
        assert!(auditor.get(&other).await.code.is_client_error(), "{other}");
    }
    let seen = auditor.get(&path).await;
    assert_eq!(seen.code, StatusCode::OK, "{seen:?}");
    let items = seen.body["items"].as_array().expect("a list");
    let has = |name: &str| items.iter().any(|item| item["name"] == name);
    assert!(has("acme") && has("web-prod") && has("www-v4") && has("www"));
    for item in items {
        let scope = item["scope"].as_str().expect("a scope");
        assert!(scope.split('/').any(|step| step == "acme"), "{item}");
        // The pool that an address came from is the platform's.
        assert!(!item["changes"].to_string().contains("public-v4\",\"operation"), "{item}");
    }
    assert!(!json!(items).to_string().contains("globex"));

    let chain = platform.admin.get(&format!("{AUDIT}/auditchain")).await;
    assert_eq!(chain.body["intact"], true, "{chain:?}");
    assert_eq!(chain.body["checked"], chain.body["head"]);
}
