//! Reviews of others and of tokens, their place in discovery, and asking as somebody else.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{IAM, Platform, iam, pools, user};
use crate::support::client::Client;

const AUTHORIZATION: &str = "/apis/authorization.k8s.io/v1";
const AUTHENTICATION: &str = "/apis/authentication.k8s.io/v1";

fn review(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "spec": spec})
}

/// May `who` get pools of `namespace`?
fn question(who: &str, namespace: &str) -> Value {
    let attributes = json!({
        "namespace": namespace, "verb": "get", "group": "network.isocast.dev",
        "resource": "backendpools",
    });
    review("LocalSubjectAccessReview", json!({"user": who, "resourceAttributes": attributes}))
}

fn locally(namespace: &str) -> String {
    format!("{AUTHORIZATION}/namespaces/{namespace}/localsubjectaccessreviews")
}

#[tokio::test]
async fn administrators_of_a_container_ask_about_others_there_and_nowhere_else() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    platform.user("bob").await;
    platform.bind("acme", "alice", "admin", &user("alice")).await;
    platform.bind("web", "bob", "viewer", &user("bob")).await;

    let answer = alice.post(&locally("web"), &question("bob", "web")).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
    assert_eq!(answer.body["status"]["allowed"], true);
    let answer = alice.post(&locally("shop"), &question("bob", "shop")).await;
    assert_eq!(answer.body["status"]["allowed"], false);
    let answer = alice.post(&locally("web"), &question("bob", "shop")).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.body["message"],
        "spec.resourceAttributes.namespace must match namespace: web"
    );
    let answer = alice.post(&locally("secret"), &question("bob", "secret")).await;
    assert_eq!(answer.code, StatusCode::NOT_FOUND, "what may not be known is not there");
    let whole = format!("{AUTHORIZATION}/subjectaccessreviews");
    let mut anywhere = question("bob", "web");
    anywhere["kind"] = json!("SubjectAccessReview");
    assert_eq!(alice.post(&whole, &anywhere).await.code, StatusCode::FORBIDDEN);
    // What is wrong with the question is told to whoever may ask it.
    let wrong = question("bob", "web");
    assert_eq!(alice.post(&whole, &wrong).await.code, StatusCode::FORBIDDEN);
    assert_eq!(platform.admin.post(&whole, &wrong).await.code, StatusCode::BAD_REQUEST);
    let in_view = format!("/organizations/globex{}", locally("web"));
    assert_eq!(platform.admin.post(&in_view, &question("bob", "web")).await.code, 404);
    // Another account of that name is not meant.
    let mut other = question("bob", "web");
    other["spec"]["uid"] = json!("of-somebody-before");
    let answer = alice.post(&locally("web"), &other).await;
    assert_eq!(answer.body["status"]["allowed"], false);
}

#[tokio::test]
async fn a_token_is_reviewed_for_whom_it_is() {
    let mut platform = Platform::start().await;
    let accounts = format!("{IAM}/namespaces/web/serviceaccounts");
    platform.create(&accounts, &iam("ServiceAccount", Some("web"), "ci", &json!({}))).await;
    let path = format!("{accounts}/ci/token");
    let token = platform.token(&path, &json!({"audiences": ["isocast", "vault"]})).await;
    let mut alice = platform.user("alice").await;
    let path = format!("{AUTHENTICATION}/tokenreviews");
    let ask = async |client: &mut Client, spec: Value| {
        let review = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec,
        });
        client.post(&path, &review).await
    };

    let answer = ask(&mut platform.admin, json!({"token": token})).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
    let status = &answer.body["status"];
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:web:ci");
    assert_eq!(status["audiences"], json!(["isocast"]));
    assert_eq!(answer.body["spec"]["token"], Value::Null, "a secret is not repeated");
    let spec = json!({"token": token, "audiences": ["vault", "other"]});
    let answer = ask(&mut platform.admin, spec).await;
    assert_eq!(answer.body["status"]["audiences"], json!(["vault"]));
    for wrong in
        [json!({"token": token, "audiences": ["other"]}), json!({"token": "isocast_nothing"})]
    {
        let status = &ask(&mut platform.admin, wrong).await.body["status"];
        assert_eq!(status["authenticated"], false);
        assert_eq!(status["user"], json!({}));
        assert!(status["error"].is_string(), "{status}");
    }
    let wrong = ask(&mut platform.admin, json!([token])).await;
    assert_eq!(wrong.code, StatusCode::BAD_REQUEST, "{wrong:?}");
    let nothing = ask(&mut platform.admin, json!({})).await;
    assert_eq!(nothing.code, StatusCode::BAD_REQUEST, "{nothing:?}");
    assert_eq!(ask(&mut alice, json!({"token": token})).await.code, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_question_is_about_one_thing_and_somebody() {
    let mut platform = Platform::start().await;
    let (whole, own) = ("subjectaccessreviews", "selfsubjectaccessreviews");
    let (object, path) = (json!({"verb": "get"}), json!({"path": "/healthz", "verb": "get"}));
    for (plural, kind, spec, field) in [
        (own, "SelfSubjectAccessReview", json!({}), "resourceAttributes"),
        (
            own,
            "SelfSubjectAccessReview",
            json!({"resourceAttributes": object, "nonResourceAttributes": path}),
            "nonResourceAttributes",
        ),
        (whole, "SubjectAccessReview", json!({"nonResourceAttributes": path}), "user"),
        (whole, "SubjectAccessReview", json!({"user": "bob"}), "resourceAttributes"),
    ] {
        let answer = platform
            .admin
            .post(&format!("{AUTHORIZATION}/{plural}"), &review(kind, spec.clone()))
            .await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{kind} {spec}: {answer:?}");
        let cause = &answer.body["details"]["causes"][0]["field"];
        assert_eq!(*cause, format!("spec.{field}"), "{kind} {spec}");
    }
    let spec = json!({"resourceAttributes": null, "nonResourceAttributes": path});
    let asked = review("SelfSubjectAccessReview", spec);
    let answer = platform.admin.post(&format!("{AUTHORIZATION}/{own}"), &asked).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
    assert_eq!(answer.body["spec"], json!({"nonResourceAttributes": path}), "null is nothing");
    let nowhere = review("LocalSubjectAccessReview", json!({"user": "bob"}));
    let answer = platform.admin.post(&locally("web"), &nowhere).await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
}

#[tokio::test]
async fn kubectl_discovers_reviews_and_creates_them() {
    let mut platform = Platform::start().await;
    platform.create(&format!("{IAM}/users"), &iam("User", None, "bob", &json!({}))).await;
    platform.bind("web", "bob", "viewer", &user("bob")).await;

    let said = platform.api.kubectl(&["api-resources", "--cached=false"]).expect_ok();
    let row = |name: &str| {
        let row = said.out.lines().find(|line| line.starts_with(&format!("{name} ")));
        row.map(|row| row.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    for (name, version, namespaced, kind) in [
        (
            "localsubjectaccessreviews",
            "authorization.k8s.io/v1",
            "true",
            "LocalSubjectAccessReview",
        ),
        ("selfsubjectaccessreviews", "authorization.k8s.io/v1", "false", "SelfSubjectAccessReview"),
        ("selfsubjectrulesreviews", "authorization.k8s.io/v1", "false", "SelfSubjectRulesReview"),
        ("subjectaccessreviews", "authorization.k8s.io/v1", "false", "SubjectAccessReview"),
        ("selfsubjectreviews", "authentication.k8s.io/v1", "false", "SelfSubjectReview"),
        ("tokenreviews", "authentication.k8s.io/v1", "false", "TokenReview"),
        ("accessreviews", "iam.isocast.dev/v1alpha1", "false", "AccessReview"),
    ] {
        assert_eq!(row(name).expect(name), [name, version, namespaced, kind]);
    }
    platform.api.kubectl(&["get", "bpool,projects", "-A"]).expect_words(&["www", "shop"]);
    let asked = question("bob", "web").to_string();
    let arguments = ["create", "-n", "web", "-o", "json", "-f", "-"];
    let said = platform.api.kubectl_in(&asked, &arguments).expect_ok();
    let answer: Value = serde_json::from_str(&said.out).expect("JSON");
    assert_eq!(answer["status"]["allowed"], true);
}

#[tokio::test]
async fn somebody_asks_as_who_holds_no_more_than_they_do() {
    let mut platform = Platform::start().await;
    let mut alice = platform.user("alice").await;
    platform.user("bob").await;
    let mut root = platform.user("root").await;
    platform.bind("web", "bob", "viewer", &user("bob")).await;
    platform.bind("isocast-system", "root", "admin", &user("root")).await;
    let spec = json!({"includedPermissions": [
        "iam.isocast.dev/users.impersonate", "network.isocast.dev/*.get",
    ]});
    let roles = format!("{IAM}/namespaces/isocast-system/roles");
    platform.create(&roles, &iam("Role", Some("isocast-system"), "as", &spec)).await;
    let as_bob = [("impersonate-user", "bob")];

    // Also the role of administrators does not include it.
    for client in [&mut alice, &mut root] {
        let answer = client.get_with(&pools("web"), &as_bob).await;
        assert_eq!(answer.code, StatusCode::FORBIDDEN, "{answer:?}");
        let message = answer.body["message"].as_str().expect("a message");
        assert!(
            message.ends_with(
                "cannot impersonate resource \"users\" in API group \"iam.isocast.dev\" at the \
                 cluster scope"
            ),
            "{message}"
        );
    }
    platform.bind("isocast-system", "as", "as", &user("alice")).await;
    let answer = alice.get_with(&pools("web"), &as_bob).await;
    assert!(answer.body["message"].as_str().is_some_and(|it| it.contains("holds more")));
    platform.bind("web", "alice", "viewer", &user("alice")).await;
    assert_eq!(alice.get_with(&pools("web"), &as_bob).await.code, StatusCode::OK);
    assert_eq!(alice.get_with(&pools("shop"), &as_bob).await.code, StatusCode::NOT_FOUND);
    for (more, code) in [
        (("impersonate-group", "system:authenticated"), StatusCode::OK),
        (("impersonate-group", "system:masters"), StatusCode::FORBIDDEN),
        (("impersonate-uid", "of-somebody-else"), StatusCode::FORBIDDEN),
        (("impersonate-extra-scopes", "all"), StatusCode::FORBIDDEN),
        (("impersonate-user", "root"), StatusCode::BAD_REQUEST),
    ] {
        let answer = alice.get_with(&pools("web"), &[as_bob[0], more]).await;
        assert_eq!(answer.code, code, "{more:?} {answer:?}");
    }
    let nobody = [("impersonate-group", "system:authenticated")];
    assert_eq!(alice.get_with(&pools("web"), &nobody).await.code, StatusCode::BAD_REQUEST);
    let stranger = [("impersonate-user", "nobody")];
    assert_eq!(alice.get_with(&pools("web"), &stranger).await.code, StatusCode::FORBIDDEN);
    // Administrators find out what somebody sees.
    platform.api.kubectl(&["auth", "whoami", "--as", "bob"]).expect_words(&["bob"]);
    platform
        .api
        .kubectl(&["get", "bpool", "-A", "--as", "bob"])
        .expect_words(&["web", "www"])
        .expect_ok();
    platform
        .api
        .kubectl(&["get", "bpool", "-n", "secret", "--as", "bob"])
        .expect_refusal(&["(NotFound)"]);
}

#[tokio::test]
async fn what_somebody_may_in_a_container_is_listed_for_who_may_ask() {
    let mut platform = Platform::start().await;
    let mut bob = platform.user("bob").await;
    platform.user("alice").await;
    platform.bind("acme", "alice", "viewer", &user("alice")).await;
    let path = format!("{IAM}/accessreviews");
    let question = json!({
        "apiVersion": "iam.isocast.dev/v1alpha1", "kind": "AccessReview",
        "spec": {"user": "alice", "namespace": "web"},
    });

    let answer = platform.create(&path, &question).await.body;

    let rules = answer["status"]["resourceRules"].as_array().expect("rules");
    let pools = rules.iter().find(|rule| rule["resources"] == json!(["backendpools"]));
    assert_eq!(pools.expect("of pools")["verbs"], json!(["get", "list", "watch"]));
    assert_eq!(bob.post(&path, &question).await.code, StatusCode::NOT_FOUND);
}
