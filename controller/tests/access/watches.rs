//! Watches while rights change: what comes into sight, or goes out of it, is never left out.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{IAM, NETWORK, Platform, RESOURCES, binding, iam, names, pool, pools, user};
use crate::support::client::{Answer, Client, Lines};

const ALL: &str = "/apis/network.isocast.dev/v1alpha1/backendpools";

/// The next event that is not what the fleet says of an object.
async fn next(watch: &mut Lines) -> Value {
    loop {
        let line = timeout(Duration::from_secs(30), watch.next()).await;
        let event = line.expect("it happens soon").expect("it goes on");
        if event["type"] != "MODIFIED" {
            return event;
        }
    }
}

fn revision(answer: &Answer) -> String {
    answer.body["metadata"]["resourceVersion"].as_str().expect("a revision").to_owned()
}

/// What alice lists, and a watch that goes on from there.
async fn follow(platform: &Platform, alice: &mut Client, path: &str) -> (Vec<String>, Lines) {
    let listed = alice.get(path).await;
    let watch = format!("{path}?watch=1&resourceVersion={}", revision(&listed));
    let token = alice.bearer.clone().expect("a token");
    (names(&listed), platform.bearer(&token).await.watch(&watch).await)
}

fn expect_expired(event: &Value) {
    assert_eq!(
        (&event["type"], &event["object"]["code"], &event["object"]["reason"]),
        (&json!("ERROR"), &json!(410), &json!("Expired")),
        "{event}"
    );
    let message = event["object"]["message"].as_str().expect("a message");
    assert!(message.contains("what you may see has changed"), "{message}");
}

async fn unbind(platform: &mut Platform, namespace: &str, name: &str) {
    let path = format!("{IAM}/namespaces/{namespace}/policybindings/{name}");
    assert_eq!(platform.admin.delete(&path, &json!({})).await.code, StatusCode::OK);
}

#[tokio::test]
async fn what_is_gained_and_what_is_lost_ends_a_watch_so_that_its_holder_lists_again() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    platform.bind("web", "alice", "viewer", &user("alice")).await;

    let (seen, mut watch) = follow(&platform, &mut alice, ALL).await;
    assert_eq!(seen, ["web/www"]);
    platform.bind("shop", "alice", "viewer", &user("alice")).await;
    expect_expired(&next(&mut watch).await);

    let (seen, mut watch) = follow(&platform, &mut alice, ALL).await;
    assert_eq!(seen, ["shop/www", "web/www"]);
    unbind(&mut platform, "shop", "alice").await;
    expect_expired(&next(&mut watch).await);

    // By a group, which comes to be and goes.
    let groups = format!("{IAM}/namespaces/acme/groups");
    let spec = json!({"group": "team", "member": user("alice")});
    let members = format!("{IAM}/namespaces/acme/groupmemberships");
    platform.create(&members, &iam("GroupMembership", Some("acme"), "a", &spec)).await;
    let team = json!({"kind": "Group", "name": "team", "namespace": "acme"});
    platform.bind("shop", "team", "viewer", &team).await;
    let (seen, mut watch) = follow(&platform, &mut alice, ALL).await;
    assert_eq!(seen, ["web/www"]);
    platform.create(&groups, &iam("Group", Some("acme"), "team", &json!({}))).await;
    expect_expired(&next(&mut watch).await);
    let (seen, mut watch) = follow(&platform, &mut alice, ALL).await;
    assert_eq!(seen, ["shop/www", "web/www"]);
    platform.admin.delete(&format!("{groups}/team"), &json!({})).await;
    expect_expired(&next(&mut watch).await);

    // By a role that says something else.
    let pools_of = |verbs: &[&str]| {
        let verbs = verbs.iter().map(|verb| format!("network.isocast.dev/backendpools.{verb}"));
        json!({"includedPermissions": verbs.collect::<Vec<_>>()})
    };
    let roles = format!("{IAM}/namespaces/acme/roles");
    let role = iam("Role", Some("acme"), "reader", &pools_of(&["get"]));
    platform.create(&roles, &role).await;
    let mut bound = binding("shop", "reader", "reader", &user("alice"));
    bound["spec"]["role"]["namespace"] = json!("acme");
    platform.create(&format!("{IAM}/namespaces/shop/policybindings"), &bound).await;
    let (seen, mut watch) = follow(&platform, &mut alice, ALL).await;
    assert_eq!(seen, ["web/www"]);
    let more = json!({"spec": pools_of(&["list", "watch"])});
    platform.admin.merge(&format!("{roles}/reader"), &more).await;
    expect_expired(&next(&mut watch).await);
    assert_eq!(names(&alice.get(ALL).await), ["shop/www", "web/www"]);

    // Between a list and its watch.
    let listed = alice.get(ALL).await;
    unbind(&mut platform, "shop", "reader").await;
    let path = format!("{ALL}?watch=1&resourceVersion={}", revision(&listed));
    let token = alice.bearer.clone().expect("a token");
    expect_expired(&next(&mut platform.bearer(&token).await.watch(&path).await).await);
}

#[tokio::test]
async fn a_move_brings_what_it_moves_into_sight_and_out_of_it() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    let folder = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Folder",
        "metadata": {"name": "ops"}, "spec": {"parent": {"kind": "Organization", "name": "acme"}},
    });
    platform.create(&format!("{RESOURCES}/folders"), &folder).await;
    platform.bind("ops", "alice", "viewer", &user("alice")).await;
    let to = |kind: &str, name: &str| json!({"spec": {"parent": {"kind": kind, "name": name}}});
    let shop = format!("{RESOURCES}/projects/shop");

    let (seen, mut watch) = follow(&platform, &mut alice, ALL).await;
    assert_eq!(seen, [""; 0]);
    platform.admin.merge(&shop, &to("Folder", "ops")).await;
    expect_expired(&next(&mut watch).await);

    let (seen, mut watch) = follow(&platform, &mut alice, ALL).await;
    assert_eq!(seen, ["shop/www"]);
    let view = format!("/folders/ops{ALL}");
    let listed = platform.admin.get(&view).await;
    let path = format!("{view}?watch=1&resourceVersion={}", revision(&listed));
    let admin = crate::support::client::Credentials::load(platform.api.kubeconfig());
    let mut of_view = admin.connect().await.expect("gets in").watch(&path).await;
    platform.admin.merge(&shop, &to("Folder", "eng")).await;
    expect_expired(&next(&mut watch).await);
    expect_expired(&next(&mut of_view).await);
}

#[tokio::test]
async fn what_concerns_others_ends_no_watch() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    platform.user("bob").await;
    platform.bind("acme", "alice", "viewer", &user("alice")).await;
    let (_, mut watch) = follow(&platform, &mut alice, ALL).await;
    let (_, mut projects) = follow(&platform, &mut alice, &format!("{RESOURCES}/projects")).await;

    platform.bind("web", "bob", "editor", &user("bob")).await;
    unbind(&mut platform, "web", "bob").await;
    let spec = json!({"includedPermissions": ["network.isocast.dev/nodes.get"]});
    let roles = format!("{IAM}/namespaces/globex/roles");
    platform.create(&roles, &iam("Role", Some("globex"), "other", &spec)).await;
    let folder = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Folder",
        "metadata": {"name": "theirs"},
        "spec": {"parent": {"kind": "Organization", "name": "globex"}},
    });
    platform.create(&format!("{RESOURCES}/folders"), &folder).await;
    let below = json!({"spec": {"parent": {"kind": "Folder", "name": "theirs"}}});
    platform.admin.merge(&format!("{RESOURCES}/projects/secret"), &below).await;
    platform.create(&pools("secret"), &pool("secret", "new")).await;
    platform.create(&pools("web"), &pool("web", "new")).await;

    let event = next(&mut watch).await;
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["namespace"]),
        (&json!("ADDED"), &json!("web"))
    );

    // What is deleted is seen to be, also with the container that it was in.
    platform.admin.delete(&format!("{RESOURCES}/projects/web"), &json!({})).await;
    let mut deleted = Vec::new();
    while deleted.len() < 2 {
        let event = next(&mut watch).await;
        assert_eq!(event["type"], "DELETED", "{event}");
        deleted.push(event["object"]["metadata"]["name"].clone());
    }
    deleted.sort_by_key(ToString::to_string);
    assert_eq!(deleted, ["new", "www"]);
    let event = next(&mut projects).await;
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["name"]),
        (&json!("DELETED"), &json!("web"))
    );
}

#[tokio::test]
async fn a_binding_that_expires_ends_a_watch_that_showed_by_it() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    platform.bind("web", "alice", "viewer", &user("alice")).await;
    let mut bound = binding("shop", "alice", "viewer", &user("alice"));
    let soon = jiff::Timestamp::now() + Duration::from_secs(3);
    bound["spec"]["expiresAt"] = json!(soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    platform.create(&format!("{IAM}/namespaces/shop/policybindings"), &bound).await;
    let (seen, mut watch) = follow(&platform, &mut alice, ALL).await;
    assert_eq!(seen, ["shop/www", "web/www"]);

    // Something happens now and then.
    let mut number = 0;
    let ended = loop {
        let path = format!("{NETWORK}/namespaces/web/backendpools");
        platform.create(&path, &pool("web", &format!("pool-{number}"))).await;
        number += 1;
        let event = next(&mut watch).await;
        if event["type"] != "ADDED" {
            break event;
        }
        assert!(number < 10_000, "it does not end");
    };
    expect_expired(&ended);
}
