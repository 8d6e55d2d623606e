//! Containers that are deleted with all that they hold, and containers that move.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use isocast_controller::authz::Identity;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Client, IAM, Platform, RESOURCES, binding, names, options, pool, pools, user};

/// Asks until the answer is as wanted.
async fn until(platform: &mut Platform, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = platform.admin.get(path).await;
        if wanted(answer.code.as_u16(), &answer.body) {
            return answer.body;
        }
        assert!(Instant::now() < deadline, "{path}: {answer:?}");
        // Between looks, not instead of them.
        sleep(Duration::from_millis(20)).await;
    }
}

fn condition<'a>(container: &'a Value, kind: &str) -> &'a Value {
    let conditions = container["status"]["conditions"].as_array().expect("conditions");
    conditions.iter().find(|it| it["type"] == kind).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn an_organization_goes_with_all_that_it_holds_and_nothing_else_does() {
    let mut platform = Platform::start().await;
    platform.user("alice").await;
    for number in 0..200 {
        let name = format!("pool-{number}");
        platform.create(&pools("shop"), &pool("shop", &name)).await;
    }
    platform.bind("shop", "alice", "viewer", &user("alice")).await;

    let said = platform.api.kubectl(&["delete", "organization", "acme", "--timeout", "60s"]);

    said.expect_words(&["organization.resourcemanager.isocast.dev \"acme\" deleted"]).expect_ok();
    for gone in ["organizations/acme", "folders/eng", "projects/shop", "projects/web"] {
        let answer = platform.admin.get(&format!("{RESOURCES}/{gone}")).await;
        assert_eq!(answer.code, StatusCode::NOT_FOUND, "{gone}");
    }
    let left = platform.admin.get("/apis/network.isocast.dev/v1alpha1/backendpools").await;
    assert_eq!(names(&left), ["secret/www"]);
    assert_eq!(names(&platform.admin.get(&format!("{RESOURCES}/projects")).await), ["secret"]);
    assert_eq!(names(&platform.admin.get(&format!("{IAM}/policybindings")).await), [""; 0]);
    // The names are free again.
    let acme = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Organization",
        "metadata": {"name": "acme"}, "spec": {},
    });
    platform.create(&format!("{RESOURCES}/organizations"), &acme).await;
}

#[tokio::test]
async fn an_organization_that_comes_back_was_granted_nothing() {
    const NETWORK: &str = "/apis/network.isocast.dev/v1alpha1";
    let mut platform = Platform::start().await;
    let mut pool = json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "AddressPool",
        "metadata": {"name": "vips"},
        "spec": {"prefixes": ["192.0.2.0/24"], "grants": [{"organization": "globex"}]},
    });
    let claim = json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "AddressClaim",
        "metadata": {"name": "a"}, "spec": {"pool": "vips", "family": "IPv4"},
    });
    let claims = format!("{NETWORK}/namespaces/secret/addressclaims");
    platform.create(&format!("{NETWORK}/addresspools"), &pool).await;
    platform.create(&claims, &claim).await;
    platform.api.kubectl(&["delete", "organization", "globex", "--timeout", "60s"]).expect_ok();
    // Whoever may make parts of their own organization may call them as they like.
    let mut alice = platform.user("alice").await;
    platform.bind("acme", "alice", "admin", &user("alice")).await;
    let container = |kind: &str, name: &str, parent: &Value| {
        json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name}, "spec": {"parent": parent},
        })
    };
    let part = container("Organization", "globex", &json!("acme"));
    alice.create(&format!("{RESOURCES}/organizations"), &part).await;
    let parent = json!({"kind": "Organization", "name": "globex"});
    alice.create(&format!("{RESOURCES}/projects"), &container("Project", "secret", &parent)).await;

    let refusal = alice.post(&claims, &claim).await;

    assert_eq!(refusal.code, StatusCode::FORBIDDEN, "{refusal:?}");
    let told = refusal.body["message"].as_str().expect("a text");
    assert!(told.contains("\"vips\" is not granted to organization \"globex\""), "{told}");
    let path = format!("{NETWORK}/addresspools/vips");
    let stored = platform.admin.get(&path).await.body;
    assert_eq!(condition(&stored, "Granted")["status"], "False", "{stored}");
    // Until it is granted anew.
    for grants in [json!([]), json!([{"organization": "globex"}])] {
        pool["spec"]["grants"] = grants;
        let written = platform.admin.merge(&path, &json!({"spec": pool["spec"]})).await;
        assert_eq!(written.code, StatusCode::OK, "{written:?}");
    }
    alice.create(&claims, &claim).await;
    platform.restart().await;
    let stored = platform.admin.get(&path).await.body;
    assert_eq!(condition(&stored, "Granted")["status"], "True", "{stored}");
}

#[tokio::test]
async fn what_holds_a_deletion_up_is_named_and_the_rest_goes_on_after_a_restart() {
    let mut platform = Platform::start().await;
    let mut held = pool("shop", "held");
    held["metadata"]["finalizers"] = json!(["example.com/backup"]);
    platform.create(&pools("shop"), &held).await;
    let folder = format!("{RESOURCES}/folders/eng");

    let answer = platform.admin.delete(&folder, &json!({})).await;

    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.body["status"]["phase"], "Terminating");
    assert_eq!(condition(&answer.body, "Ready")["reason"], "Terminating");
    let told = until(&mut platform, &folder, |_, folder| {
        condition(folder, "DeletionBlocked")["status"] == "True"
    });
    let told = told.await;
    assert_eq!(
        condition(&told, "DeletionBlocked")["message"],
        "backendpools shop/held waits for example.com/backup"
    );
    assert_eq!(
        condition(&told, "ContentRemaining")["message"],
        "2 objects remain: 1 backendpools, 1 projects"
    );
    // Nothing comes to be there meanwhile, and nobody takes the name.
    let answer = platform.admin.post(&pools("shop"), &pool("shop", "new")).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
    let message = answer.body["message"].as_str().expect("a message");
    assert!(message.contains("it is being terminated"), "{message}");
    let mut again = told.clone();
    again["metadata"] = json!({"name": "eng"});
    let answer = platform.admin.post(&format!("{RESOURCES}/folders"), &again).await;
    assert_eq!(answer.code, StatusCode::CONFLICT);
    let message = answer.body["message"].as_str().expect("a message");
    assert!(message.starts_with("object is being deleted: folders."), "{message}");
    let mut project = again.clone();
    project["kind"] = json!("Project");
    let answer = platform.admin.post(&format!("{RESOURCES}/projects"), &project).await;
    let message = answer.body["message"].as_str().expect("a message");
    assert!(message.starts_with("object is being deleted: projects."), "{message}");

    platform.restart().await;
    let free = json!({"metadata": {"finalizers": null}});
    let answer = platform.admin.merge(&format!("{}/held", pools("shop")), &free).await;
    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");

    until(&mut platform, &folder, |code, _| code == 404).await;
    until(&mut platform, &format!("{RESOURCES}/projects/shop"), |code, _| code == 404).await;
    assert_eq!(
        names(&platform.admin.get(&format!("{RESOURCES}/projects")).await),
        ["secret", "web"]
    );
}

#[tokio::test]
async fn a_container_with_finalizers_of_others_waits_for_them_when_it_is_empty() {
    let mut platform = Platform::start().await;
    let project = format!("{RESOURCES}/projects/web");
    let finalizers = json!({"metadata": {"finalizers": ["example.com/billing"]}});
    platform.admin.merge(&project, &finalizers).await;

    platform.admin.delete(&project, &json!({})).await;

    let told = until(&mut platform, &project, |_, project| {
        condition(project, "ContentRemaining")["status"] == "False"
    });
    let told = told.await;
    assert_eq!(condition(&told, "DeletionBlocked")["message"], "it waits for example.com/billing");
    assert_eq!(told["metadata"]["finalizers"], json!(["example.com/billing"]));
    platform.admin.merge(&project, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(platform.admin.get(&project).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn rights_follow_what_moves_and_moving_takes_rights_at_both_ends() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    let mut bob = platform.user("bob").await;
    let client = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Organization",
        "metadata": {"name": "client"}, "spec": {"parent": "acme"},
    });
    platform.create(&format!("{RESOURCES}/organizations"), &client).await;
    platform.bind("acme", "alice", "admin", &user("alice")).await;
    platform.bind("globex", "bob", "viewer", &user("bob")).await;
    let client = format!("{RESOURCES}/organizations/client");
    let to = |parent: &str| json!({"spec": {"parent": parent}});

    // A part of an organization moves when both ends agree.
    let answer = alice.merge(&client, &to("globex")).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN, "{answer:?}");
    platform
        .create(
            &format!("{IAM}/namespaces/globex/policybindings"),
            &binding("globex", "alice", "admin", &user("alice")),
        )
        .await;
    assert_eq!(bob.get(&client).await.code, StatusCode::NOT_FOUND);
    let answer = alice.merge(&client, &to("globex")).await;
    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    assert_eq!(bob.get(&client).await.code, StatusCode::OK);
    let answer = alice.merge(&client, &json!({"spec": {"parent": null}})).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN, "not out of all organizations: {answer:?}");
    let answer = platform.admin.merge(&client, &to("client")).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");

    // So does a folder, with what is in it.
    let folder = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Folder",
        "metadata": {"name": "ops"}, "spec": {"parent": {"kind": "Organization", "name": "acme"}},
    });
    platform.create(&format!("{RESOURCES}/folders"), &folder).await;
    platform.bind("ops", "bob", "viewer", &user("bob")).await;
    assert_eq!(bob.get(&pools("shop")).await.code, StatusCode::NOT_FOUND);
    let below = json!({"spec": {"parent": {"kind": "Folder", "name": "ops"}}});
    let answer = alice.merge(&format!("{RESOURCES}/folders/eng"), &below).await;
    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    assert_eq!(bob.get(&pools("shop")).await.code, StatusCode::OK);
    let circle = json!({"spec": {"parent": {"kind": "Folder", "name": "eng"}}});
    let answer = alice.merge(&format!("{RESOURCES}/folders/ops"), &circle).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_project_goes_to_another_organization_with_rights_and_records_of_both() {
    const AUDIT: &str = "apis/audit.isocast.dev/v1alpha1/auditrecords?verb=patch&name=shop";
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    let mut old_viewer = platform.user("oda").await;
    let mut new_viewer = platform.user("nora").await;
    platform.bind("eng", "oda", "viewer", &user("oda")).await;
    platform.bind("globex", "nora", "viewer", &user("nora")).await;
    let mut auditors = Vec::new();
    for organization in ["acme", "globex"] {
        platform.bind(organization, "alice", "admin", &user("alice")).await;
        let name = format!("audrey-{organization}");
        let auditor = platform.user(&name).await;
        platform.bind(organization, &name, "security-auditor", &user(&name)).await;
        auditors.push(auditor);
    }
    let shop = format!("{RESOURCES}/projects/shop");
    let before = alice.get(&shop).await.body;

    let globex = json!({"spec": {"parent": {"kind": "Organization", "name": "globex"}}});
    let answer = alice.merge(&shop, &globex).await;

    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.body["metadata"]["uid"], before["metadata"]["uid"]);
    let www = format!("{}/www", pools("shop"));
    assert_eq!(old_viewer.get(&www).await.code, StatusCode::NOT_FOUND);
    assert_eq!(new_viewer.get(&www).await.code, StatusCode::OK);
    let all = "/organizations/globex/apis/network.isocast.dev/v1alpha1/backendpools";
    assert_eq!(names(&new_viewer.get(all).await), ["secret/www", "shop/www"]);
    // What is done there from here on is its new organization's.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    assert_eq!(alice.merge(&shop, &label).await.code, StatusCode::OK);
    let mut seen = Vec::new();
    for (auditor, organization) in auditors.iter_mut().zip(["acme", "globex"]) {
        let records = auditor.get(&format!("/organizations/{organization}/{AUDIT}")).await;
        assert_eq!(records.code, StatusCode::OK, "{records:?}");
        let items = records.body["items"].as_array().expect("a list").clone();
        assert_eq!(items[0]["scope"], "acme/eng/shop");
        assert_eq!(items[0]["movedTo"], "globex/shop");
        seen.push(items.len());
    }
    assert_eq!(seen, [1, 2]);
}

/// What is told of a place as it was: lists at a revision, and what happened since.
async fn told_of(client: &mut Client, revision: &str) -> Vec<String> {
    let exact = format!("resourceVersion={revision}&resourceVersionMatch=Exact");
    let mut told = Vec::new();
    for path in [
        format!("{}?{exact}", pools("secret")),
        format!("/apis/network.isocast.dev/v1alpha1/backendpools?{exact}"),
        format!("/projects/secret/apis/network.isocast.dev/v1alpha1/backendpools?{exact}"),
        format!("{RESOURCES}/projects?{exact}"),
    ] {
        told.push(client.get(&path).await.body["items"].to_string());
    }
    for path in [pools("secret"), "/apis/network.isocast.dev/v1alpha1/backendpools".to_owned()] {
        let watch = format!("{path}?watch=1&resourceVersion={revision}&timeoutSeconds=1");
        let answer = client.try_send(Method::GET, &watch, "", "").await.expect("an answer");
        let body = answer.into_body().collect().await.expect("whole").to_bytes();
        told.push(String::from_utf8_lossy(&body).into_owned());
    }
    told
}

#[tokio::test]
async fn who_takes_a_name_or_a_container_over_is_told_nothing_of_what_was_before() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    platform.bind("acme", "alice", "admin", &user("alice")).await;
    let hidden = "treasure";
    platform.create(&pools("secret"), &pool("secret", hidden)).await;
    let listed = platform.admin.get(&pools("secret")).await.body;
    let revision = listed["metadata"]["resourceVersion"].as_str().expect("text").to_owned();
    let old_uid = platform.admin.get(&format!("{RESOURCES}/projects/secret")).await.body;
    let old_uid = old_uid["metadata"]["uid"].as_str().expect("text").to_owned();

    // Somebody else's project goes, and alice makes one of that name.
    platform.api.kubectl(&["delete", "project", "secret", "--timeout", "60s"]).expect_ok();
    let parent = json!({"kind": "Organization", "name": "acme"});
    let project = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Project",
        "metadata": {"name": "secret"}, "spec": {"parent": parent},
    });
    alice.create(&format!("{RESOURCES}/projects"), &project).await;
    alice.create(&pools("secret"), &pool("secret", "mine")).await;

    for told in told_of(&mut alice, &revision).await {
        assert!(!told.contains(hidden) && !told.contains(&old_uid), "{told}");
    }
    // The platform's administrator may know what was.
    let exact = format!("resourceVersion={revision}&resourceVersionMatch=Exact");
    let before = platform.admin.get(&format!("{}?{exact}", pools("secret"))).await;
    assert_eq!(names(&before), ["secret/treasure", "secret/www"]);

    // Nor is its new organization told what a project held before it came.
    let globex = json!({"spec": {"parent": {"kind": "Organization", "name": "globex"}}});
    let mut bob = platform.user("bob").await;
    platform.bind("globex", "bob", "admin", &user("bob")).await;
    alice.create(&pools("secret"), &pool("secret", hidden)).await;
    let listed = alice.get(&pools("secret")).await.body;
    let revision = listed["metadata"]["resourceVersion"].as_str().expect("text").to_owned();
    alice.delete(&format!("{}/{hidden}", pools("secret")), &json!({})).await;
    let moved = platform.admin.merge(&format!("{RESOURCES}/projects/secret"), &globex).await;
    assert_eq!(moved.code, StatusCode::OK, "{moved:?}");
    assert_eq!(names(&bob.get(&pools("secret")).await), ["secret/mine"]);

    for told in told_of(&mut bob, &revision).await {
        assert!(!told.contains(hidden), "{told}");
    }
}

#[tokio::test]
async fn a_folder_of_a_thousand_projects_moves_with_all_of_them() {
    let mut platform = Platform::start().await;
    let admin = Identity::Administrator { name: "admin".into() };
    let registry = platform.api.registry.clone();
    let kind = registry.kind("resourcemanager.isocast.dev", "v1alpha1", "projects").expect("is");
    let projects = (0..1000).map(|number| {
        let project = json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Project",
            "metadata": {"name": format!("p-{number}")},
            "spec": {"parent": {"kind": "Folder", "name": "eng"}},
        });
        let (registry, admin) = (&registry, &admin);
        async move {
            let body = project.to_string();
            registry.create(admin, kind, None, body.as_bytes(), &options()).await
        }
    });
    for made in futures::future::join_all(projects).await {
        made.expect("it is made");
    }
    let mut alice = platform.user("alice").await;
    let folder = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Folder",
        "metadata": {"name": "ops"}, "spec": {"parent": {"kind": "Organization", "name": "acme"}},
    });
    platform.create(&format!("{RESOURCES}/folders"), &folder).await;
    platform.bind("ops", "alice", "viewer", &user("alice")).await;
    let below = json!({"spec": {"parent": {"kind": "Folder", "name": "ops"}}});

    let answer = platform.admin.merge(&format!("{RESOURCES}/folders/eng"), &below).await;

    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    for number in [0, 499, 999] {
        let answer = alice.get(&pools(&format!("p-{number}"))).await;
        assert_eq!(answer.code, StatusCode::OK, "not one decision of before");
    }
}
