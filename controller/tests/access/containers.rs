//! Containers that are deleted with all that they hold, and containers that move.

use std::time::Duration;

use hyper::StatusCode;
use isocast_controller::authz::Identity;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{IAM, Platform, RESOURCES, binding, names, options, pool, pools, user};

/// Asks until the answer is as wanted.
async fn until(platform: &mut Platform, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = platform.admin.get(path).await;
        if wanted(answer.code.as_u16(), &answer.body) {
            return answer.body;
        }
        assert!(Instant::now() < deadline, "{path}: {answer:?}");
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

    // So does a folder, with what is in it, within its organization.
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
