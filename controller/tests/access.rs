//! Who may do what, on the wire and by kubectl: what is allowed, refused, hidden, and said about it.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

#[path = "access/containers.rs"]
mod containers;
#[path = "access/reviews.rs"]
mod reviews;
mod support;
#[path = "access/watches.rs"]
mod watches;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use isocast_controller::{
    registry::{FieldValidation, WriteOptions},
    store::Persistence,
};
use serde_json::{Value, json};
use support::{
    Api, Said,
    accounts::{IAM, binding, iam, user},
    client::{Answer, Client, Credentials},
};

const NETWORK: &str = "/apis/network.isocast.dev/v1alpha1";
const RESOURCES: &str = "/apis/resourcemanager.isocast.dev/v1alpha1";

/// Two tenants; acme has the folder eng with the project shop, and the project web.
const TENANTS: &str = "
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Organization
metadata: {name: acme}
spec: {}
---
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Organization
metadata: {name: globex}
spec: {}
---
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Folder
metadata: {name: eng}
spec: {parent: {kind: Organization, name: acme}}
---
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Project
metadata: {name: shop}
spec: {parent: {kind: Folder, name: eng}}
---
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Project
metadata: {name: web}
spec: {parent: {kind: Organization, name: acme}}
---
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Project
metadata: {name: secret}
spec: {parent: {kind: Organization, name: globex}}
";

fn pool(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backends": [{"address": "198.51.100.1", "datacenter": "ams", "weight": 1}]},
    })
}

fn pools(namespace: &str) -> String {
    format!("{NETWORK}/namespaces/{namespace}/backendpools")
}

/// Of writes past the wire.
fn options() -> WriteOptions {
    WriteOptions {
        manager: "test".to_owned(),
        persistence: Persistence::Durable,
        validation: FieldValidation::Strict,
        force: false,
    }
}

/// A control plane with tenants, pools in each project, and its administrator.
struct Platform {
    api: Api,
    admin: Client,
}

impl Platform {
    async fn start() -> Self {
        let api = Api::start();
        let admin = api.admin().await;
        let mut platform = Self { api, admin };
        for document in TENANTS.split("---") {
            let value: Value = serde_saphyr::from_str(document).expect("YAML");
            let plural = format!("{}s", value["kind"].as_str().expect("a kind").to_lowercase());
            platform.create(&format!("{RESOURCES}/{plural}"), &value).await;
        }
        for project in ["shop", "web", "secret"] {
            platform.create(&pools(project), &pool(project, "www")).await;
        }
        platform
    }

    /// The same platform, after its end and another beginning.
    async fn restart(&mut self) {
        let elsewhere = Api::start();
        self.api = std::mem::replace(&mut self.api, elsewhere).restart();
        self.admin = self.api.admin().await;
    }

    async fn create(&mut self, path: &str, value: &Value) -> Answer {
        self.admin.create(path, value).await
    }

    async fn bind(&mut self, namespace: &str, name: &str, role: &str, subject: &Value) {
        self.admin.bind(namespace, name, role, subject).await;
    }

    /// Makes a user, and connects as them.
    async fn user(&mut self, name: &str) -> Client {
        self.api.user(&mut self.admin, name).await
    }

    async fn token(&mut self, path: &str, spec: &Value) -> String {
        self.admin.token(path, spec).await
    }

    async fn bearer(&self, token: &str) -> Client {
        self.api.bearer(token).await
    }

    /// kubectl with a token.
    fn kubectl(&self, token: &str, arguments: &[&str]) -> Said {
        let path = self.api.folder.path().join("user.kubeconfig");
        let text = std::fs::read(self.api.kubeconfig()).expect("readable");
        let mut config: Value = serde_json::from_slice(&text).expect("JSON");
        config["users"][0]["user"] = json!({"token": token});
        std::fs::write(&path, config.to_string()).expect("writable");
        let mut command = self.api.command(arguments);
        Said::of(&command.env("KUBECONFIG", &path).output().expect("kubectl runs"))
    }
}

fn names(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    let items = answer.body["items"].as_array().expect("a list").iter();
    let name = |item: &Value| {
        let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
        match text("namespace").as_str() {
            "" => text("name"),
            namespace => format!("{namespace}/{}", text("name")),
        }
    };
    items.map(name).collect()
}

#[tokio::test]
async fn a_binding_holds_in_the_next_request_and_no_longer_than_it_is_there() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    let www = format!("{}/www", pools("web"));

    for round in 0..50 {
        assert_eq!(alice.get(&www).await.code, StatusCode::NOT_FOUND, "{round}");
        platform.bind("web", "alice", "viewer", &user("alice")).await;
        assert_eq!(alice.get(&www).await.code, StatusCode::OK, "{round}");
        let path = format!("{IAM}/namespaces/web/policybindings/alice");
        platform.admin.delete(&path, &json!({})).await;
    }
}

#[tokio::test]
async fn what_may_not_be_known_looks_as_if_it_were_not_there() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    platform.bind("web", "alice", "editor", &user("alice")).await;

    // A stranger's project, and one that does not exist.
    let mut answers = Vec::new();
    for project in ["secret", "nowhere"] {
        let mut of_one = Vec::new();
        let one = format!("{}/www", pools(project));
        of_one.push(alice.get(&one).await);
        of_one.push(alice.get(&pools(project)).await);
        of_one.push(alice.get(&format!("{}?watch=1", pools(project))).await);
        of_one.push(alice.post(&pools(project), &pool(project, "new")).await);
        of_one.push(alice.merge(&one, &json!({"metadata": {"labels": {"a": "b"}}})).await);
        of_one.push(alice.delete(&one, &json!({})).await);
        of_one.push(alice.get(&format!("{RESOURCES}/projects/{project}")).await);
        of_one.push(alice.get(&format!("/api/v1/namespaces/{project}")).await);
        of_one.push(alice.get(&format!("/projects/{project}/api")).await);
        let child = json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Folder",
            "metadata": {"name": "mine"}, "spec": {"parent": {"kind": "Folder", "name": project}},
        });
        of_one.push(alice.post(&format!("{RESOURCES}/folders"), &child).await);
        answers.push(of_one);
    }
    for (secret, nowhere) in answers[0].iter().zip(&answers[1]) {
        assert_eq!(secret.code, StatusCode::NOT_FOUND, "{secret:?}");
        let as_nowhere = secret.body.to_string().replace("secret", "nowhere");
        assert_eq!(as_nowhere, nowhere.body.to_string());
    }
    // What may be known of is refused by name.
    let answer = alice.delete(&format!("{RESOURCES}/projects/web"), &json!({})).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN, "{answer:?}");
    assert_eq!(
        answer.body["message"],
        "projects.resourcemanager.isocast.dev \"web\" is forbidden: User \"alice\" cannot delete \
         resource \"projects\" in API group \"resourcemanager.isocast.dev\" at the cluster scope"
    );
}

#[tokio::test]
async fn lists_counts_and_pages_show_what_may_be_seen() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    assert_eq!(alice.get(&format!("{NETWORK}/backendpools")).await.code, StatusCode::FORBIDDEN);
    platform.bind("acme", "alice", "viewer", &user("alice")).await;
    for name in ["a", "b", "c"] {
        platform.create(&pools("secret"), &pool("secret", name)).await;
        platform.create(&pools("web"), &pool("web", name)).await;
    }

    let all = alice.get(&format!("{NETWORK}/backendpools")).await;
    assert_eq!(names(&all), ["shop/www", "web/a", "web/b", "web/c", "web/www"]);
    let page = alice.get(&format!("{NETWORK}/backendpools?limit=2")).await;
    assert_eq!(names(&page), ["shop/www", "web/a"]);
    assert_eq!(page.body["metadata"]["remainingItemCount"], 3);
    let token = page.body["metadata"]["continue"].as_str().expect("more").to_owned();
    let rest = alice.get(&format!("{NETWORK}/backendpools?continue={token}")).await;
    assert_eq!(names(&rest), ["web/b", "web/c", "web/www"]);
    // A position that somebody else was given shows them nothing of it.
    let theirs = platform.admin.get(&format!("{NETWORK}/backendpools?limit=1")).await;
    let token = theirs.body["metadata"]["continue"].as_str().expect("more").to_owned();
    let rest = alice.get(&format!("{NETWORK}/backendpools?continue={token}")).await;
    assert!(names(&rest).iter().all(|name| !name.starts_with("secret")), "{rest:?}");

    assert_eq!(names(&alice.get(&format!("{RESOURCES}/projects")).await), ["shop", "web"]);
    assert_eq!(names(&alice.get(&format!("{RESOURCES}/organizations")).await), ["acme"]);
    assert_eq!(names(&alice.get("/api/v1/namespaces").await), ["acme", "eng", "shop", "web"]);
    assert_eq!(alice.get(&format!("{NETWORK}/nodes")).await.code, StatusCode::FORBIDDEN);
    assert_eq!(alice.get(&format!("{IAM}/users/alice")).await.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_watch_shows_what_may_be_seen_and_ends_with_the_right_to_it() {
    let mut platform = Platform::start().await;
    let alice = platform.user("alice").await;
    platform.bind("web", "alice", "viewer", &user("alice")).await;
    let mut watch = alice.watch(&format!("{NETWORK}/backendpools?watch=1")).await;
    let next = async |watch: &mut support::client::Lines| {
        loop {
            let line = tokio::time::timeout(Duration::from_secs(30), watch.next()).await;
            let event: Value = line.expect("it happens soon").expect("it goes on");
            // What the fleet says of an object.
            if event["type"] != "MODIFIED" {
                return event;
            }
        }
    };
    assert_eq!(next(&mut watch).await["object"]["metadata"]["namespace"], "web");

    platform.create(&pools("secret"), &pool("secret", "new")).await;
    platform.create(&pools("web"), &pool("web", "new")).await;
    let event = next(&mut watch).await;
    assert_eq!(
        (&event["type"], &event["object"]["metadata"]["namespace"]),
        (&json!("ADDED"), &json!("web"))
    );

    platform.admin.delete(&format!("{IAM}/namespaces/web/policybindings/alice"), &json!({})).await;
    let event = next(&mut watch).await;
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(403)));
}

#[tokio::test]
async fn a_suspended_user_is_nobody_from_the_next_request_on() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    platform.bind("web", "alice", "viewer", &user("alice")).await;
    assert_eq!(alice.get(&pools("web")).await.code, StatusCode::OK);

    let suspended = json!({"spec": {"state": "Suspended"}});
    platform.admin.merge(&format!("{IAM}/users/alice"), &suspended).await;
    assert_eq!(alice.get(&pools("web")).await.code, StatusCode::UNAUTHORIZED);

    let active = json!({"spec": {"state": "Active"}});
    platform.admin.merge(&format!("{IAM}/users/alice"), &active).await;
    assert_eq!(alice.get(&pools("web")).await.code, StatusCode::OK);
    // Another one of the same name is not who the token is of.
    platform.admin.delete(&format!("{IAM}/users/alice"), &json!({})).await;
    platform.create(&format!("{IAM}/users"), &iam("User", None, "alice", &json!({}))).await;
    assert_eq!(alice.get(&pools("web")).await.code, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn tokens_are_shown_once_stored_hashed_and_carry_no_more_than_they_say() {
    let mut platform = Platform::start().await;
    let accounts = format!("{IAM}/namespaces/web/serviceaccounts");
    platform.create(&accounts, &iam("ServiceAccount", Some("web"), "ci", &json!({}))).await;
    let ci = json!({"kind": "ServiceAccount", "name": "ci", "namespace": "web"});
    platform.bind("acme", "ci", "editor", &ci).await;
    let path = format!("{accounts}/ci/token");

    let token = platform.token(&path, &json!({"expirationSeconds": 3600})).await;
    let mut client = platform.bearer(&token).await;
    assert_eq!(client.post(&pools("shop"), &pool("shop", "a")).await.code, StatusCode::CREATED);

    let scope = json!({"container": "web", "permissions": ["network.isocast.dev/*.get"]});
    let scoped = platform.token(&path, &json!({"scope": scope})).await;
    let mut client = platform.bearer(&scoped).await;
    assert_eq!(client.get(&format!("{}/www", pools("web"))).await.code, StatusCode::OK);
    assert_eq!(client.get(&pools("web")).await.code, StatusCode::FORBIDDEN);
    assert_eq!(client.get(&format!("{}/www", pools("shop"))).await.code, StatusCode::NOT_FOUND);

    let elsewhere = platform.token(&path, &json!({"audiences": ["billing"]})).await;
    let mut client = platform.bearer(&elsewhere).await;
    assert_eq!(client.get(&pools("web")).await.code, StatusCode::UNAUTHORIZED);

    let account = platform.admin.get(&format!("{accounts}/ci")).await.body;
    let kept = account["status"]["tokens"].as_array().expect("tokens");
    assert_eq!(kept.len(), 3);
    for text in [&token, &scoped, &elsewhere] {
        assert!(!account.to_string().contains(text.as_str()));
    }
    // What is taken out of the status is revoked.
    let emptied = json!({"status": {"tokens": null}});
    platform.admin.merge(&format!("{accounts}/ci/status"), &emptied).await;
    let mut client = platform.bearer(&token).await;
    assert_eq!(client.get(&pools("web")).await.code, StatusCode::UNAUTHORIZED);

    for spec in [
        json!({"expirationSeconds": 1}),
        json!({"audiences": [""]}),
        json!({"scope": {"permissions": ["network.isocast.dev/pods.get"]}}),
    ] {
        let answer = platform.admin.post(&path, &json!({"spec": spec})).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
    }
    let mut client = platform.bearer("isocast_guessed").await;
    assert_eq!(client.get(&pools("web")).await.code, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_certificate_is_good_for_its_user_and_for_no_later_one() {
    let mut platform = Platform::start().await;
    platform.create(&format!("{IAM}/users"), &iam("User", None, "alice", &json!({}))).await;
    platform.bind("web", "alice", "viewer", &user("alice")).await;
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let spec = json!({"spec": {"request": request.pem().expect("PEM"), "expirationSeconds": 3600}});

    let answer = platform.create(&format!("{IAM}/users/alice/certificate"), &spec).await;

    let pem = answer.body["status"]["certificate"].as_str().expect("PEM").to_owned();
    let credentials = Credentials::load(platform.api.kubeconfig())
        .with_pem(&STANDARD.encode(&pem), &STANDARD.encode(key.serialize_pem()));
    let mut alice = credentials.connect().await.expect("TLS lets it in");
    assert_eq!(alice.get(&pools("web")).await.code, StatusCode::OK);
    assert_eq!(alice.get(&pools("secret")).await.code, StatusCode::NOT_FOUND);
    let whoami = json!({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"});
    let answer = alice.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &whoami).await;
    assert_eq!(answer.body["status"]["userInfo"]["username"], "alice");

    platform.admin.delete(&format!("{IAM}/users/alice"), &json!({})).await;
    platform.create(&format!("{IAM}/users"), &iam("User", None, "alice", &json!({}))).await;
    assert_eq!(alice.get(&pools("web")).await.code, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_administrator_of_an_organization_builds_in_it_and_not_beside_it() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    platform.bind("acme", "alice", "admin", &user("alice")).await;
    let project = |name: &str, parent: &str| {
        json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Project",
            "metadata": {"name": name},
            "spec": {"parent": {"kind": "Organization", "name": parent}},
        })
    };
    let projects = format!("{RESOURCES}/projects");

    assert_eq!(alice.post(&projects, &project("new", "acme")).await.code, StatusCode::CREATED);
    assert_eq!(alice.post(&pools("new"), &pool("new", "www")).await.code, StatusCode::CREATED);
    assert_eq!(alice.post(&projects, &project("b", "globex")).await.code, StatusCode::NOT_FOUND);
    let apart = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Organization",
        "metadata": {"name": "apart"}, "spec": {},
    });
    let answer = alice.post(&format!("{RESOURCES}/organizations"), &apart).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN, "{answer:?}");
    // By server-side apply as well.
    let applied = alice
        .send(
            hyper::Method::PATCH,
            &format!("{projects}/c?fieldManager=test"),
            "application/apply-patch+yaml",
            project("c", "globex").to_string(),
        )
        .await;
    assert_eq!(applied.code, StatusCode::NOT_FOUND, "{applied:?}");

    let escalation = binding("acme", "more", "network-operator", &user("alice"));
    let path = format!("{IAM}/namespaces/acme/policybindings");
    let answer = alice.post(&path, &escalation).await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN, "{answer:?}");
    assert_eq!(
        alice.post(&path, &binding("acme", "less", "editor", &user("bob"))).await.code,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_view_shows_its_container_and_what_is_below() {
    let mut platform = Platform::start().await;
    let admin = &mut platform.admin;
    let kinds = |answer: &Answer| {
        let rows = answer.body["resources"].as_array().expect("resources").iter();
        rows.map(|row| row["name"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };

    let all = admin.get(&format!("/organizations/acme{NETWORK}/backendpools")).await;
    assert_eq!(names(&all), ["shop/www", "web/www"]);
    let below = admin.get(&format!("/folders/eng{RESOURCES}/projects")).await;
    assert_eq!(names(&below), ["shop"]);
    assert_eq!(names(&admin.get("/folders/eng/api/v1/namespaces").await), ["eng", "shop"]);
    let inside = admin.get(&format!("/organizations/acme{}/www", pools("web"))).await;
    assert_eq!(inside.code, StatusCode::OK);
    for outside in [
        format!("/organizations/acme{}/www", pools("secret")),
        format!("/projects/web{}/www", pools("shop")),
        format!("/projects/web{RESOURCES}/projects/shop"),
        format!("/organizations/acme{NETWORK}/nodes"),
        format!("/organizations/acme{IAM}/users"),
        format!("/organizations/web{NETWORK}/backendpools"),
        format!("/projects/nowhere{NETWORK}/backendpools"),
    ] {
        assert_eq!(admin.get(&outside).await.code, StatusCode::NOT_FOUND, "{outside}");
    }
    let write = admin.post(&format!("/projects/web{}", pools("shop")), &pool("shop", "x")).await;
    assert_eq!(write.code, StatusCode::NOT_FOUND);
    let stranger = json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Project",
        "metadata": {"name": "x"},
        "spec": {"parent": {"kind": "Organization", "name": "globex"}},
    });
    let write = admin.post(&format!("/organizations/acme{RESOURCES}/projects"), &stranger).await;
    assert_eq!(write.code, StatusCode::NOT_FOUND);

    let discovered = kinds(&admin.get(&format!("/organizations/acme{NETWORK}")).await);
    assert!(discovered.contains(&"backendpools".to_owned()));
    assert!(!discovered.contains(&"nodes".to_owned()));
    assert!(kinds(&admin.get(NETWORK).await).contains(&"nodes".to_owned()));

    let watcher = Credentials::load(platform.api.kubeconfig()).connect().await.expect("gets in");
    let mut watch = watcher.watch(&format!("/projects/web{NETWORK}/backendpools?watch=1")).await;
    assert_eq!(watch.next().await.expect("it exists")["object"]["metadata"]["namespace"], "web");
    platform.create(&pools("shop"), &pool("shop", "y")).await;
    platform.create(&pools("web"), &pool("web", "z")).await;
    loop {
        let event = watch.next().await.expect("it goes on");
        // What the fleet says of the others.
        if event["type"] != "MODIFIED" {
            assert_eq!(event["object"]["metadata"]["name"], "z");
            break;
        }
    }
}

#[tokio::test]
async fn kubectl_asks_what_it_may_and_who_it_is() {
    let mut platform = Platform::start().await;
    platform.create(&format!("{IAM}/users"), &iam("User", None, "alice", &json!({}))).await;
    let token = platform.token(&format!("{IAM}/users/alice/token"), &json!({})).await;
    platform.bind("web", "alice", "editor", &user("alice")).await;
    let kubectl = |arguments: &[&str]| platform.kubectl(&token, arguments);

    kubectl(&["auth", "whoami"]).expect_words(&["alice", "system:authenticated"]);
    assert_eq!(kubectl(&["auth", "can-i", "create", "acs", "-n", "web"]).expect_ok().out, "yes\n");
    for no in [
        &["auth", "can-i", "create", "acs", "-n", "secret"][..],
        &["auth", "can-i", "create", "acs", "-A"],
        &["auth", "can-i", "delete", "projects"],
        &["auth", "can-i", "get", "nodes.network.isocast.dev"],
    ] {
        assert_eq!(kubectl(no).out, "no\n", "{no:?}");
    }
    kubectl(&["auth", "can-i", "--list", "-n", "web"])
        .expect_words(&["anycastservices.network.isocast.dev", "[create delete get list"]);
    kubectl(&["get", "bpool", "-n", "web", "--as", "bob"])
        .expect_refusal(&["cannot impersonate resource \"users\""]);
    kubectl(&["get", "bpool", "-A"]).expect_words(&["web", "www"]);
    kubectl(&["get", "bpool", "-n", "secret"])
        .expect_refusal(&["(NotFound)", "\"secret\" not found"]);
    let admin = platform.api.kubectl(&["auth", "can-i", "--list"]);
    admin.expect_words(&["*.*", "[*]"]);
    platform.api.kubectl(&["auth", "whoami"]).expect_words(&["admin", "system:masters"]);
    let as_token = ["auth", "can-i", "get", "acs/www", "-n", "web"];
    assert_eq!(platform.api.kubectl(&as_token).expect_ok().out, "yes\n");
}

#[tokio::test]
async fn an_explanation_names_the_binding_and_how_it_was_inherited() {
    let mut platform = Platform::start().await;
    platform.create(&format!("{IAM}/users"), &iam("User", None, "alice", &json!({}))).await;
    let mut bob = platform.user("bob").await;
    platform.bind("shop", "bob", "viewer", &user("bob")).await;
    let groups = format!("{IAM}/namespaces/acme/groups");
    platform.create(&groups, &iam("Group", Some("acme"), "team", &json!({}))).await;
    let spec = json!({"group": "team", "member": user("alice")});
    let members = format!("{IAM}/namespaces/acme/groupmemberships");
    platform.create(&members, &iam("GroupMembership", Some("acme"), "a", &spec)).await;
    let team = json!({"kind": "Group", "name": "team", "namespace": "acme"});
    platform.bind("eng", "team", "viewer", &team).await;
    let question = json!({
        "kind": "AccessReview", "apiVersion": "iam.isocast.dev/v1alpha1",
        "spec": {"user": "alice", "resourceAttributes": {
            "namespace": "shop", "verb": "get", "group": "network.isocast.dev",
            "resource": "anycastservices", "name": "www",
        }},
    });
    let path = format!("{IAM}/accessreviews");

    let answer = platform.create(&path, &question).await.body;

    let status = &answer["status"];
    assert_eq!(status["allowed"], true);
    assert_eq!(status["binding"], json!({"namespace": "eng", "name": "team"}));
    assert_eq!(status["role"], json!({"namespace": "isocast-system", "name": "viewer"}));
    assert_eq!(status["via"], json!([{"kind": "Group", "name": "acme/team"}]));
    assert_eq!(status["inherited"], json!(["shop", "eng"]));
    // To ask about others is a right; what one may not read is not named.
    assert_eq!(bob.post(&path, &question).await.code, StatusCode::FORBIDDEN);
    let mut own = question.clone();
    own["spec"]["user"] = json!("bob");
    let answer = bob.post(&path, &own).await.body;
    assert_eq!(answer["status"]["allowed"], true);
    assert_eq!(answer["status"]["binding"], Value::Null);
}
