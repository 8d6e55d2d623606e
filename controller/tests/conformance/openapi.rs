//! What the API says of itself, and that kubectl takes its word.

use std::collections::BTreeSet;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{connect, with_project};
use crate::support::{Api, client::Client};

async fn documents(client: &mut Client) -> Vec<Value> {
    let index = client.get("/openapi/v3").await.body;
    let mut documents = Vec::new();
    for entry in index["paths"].as_object().expect("paths").values() {
        let url = entry["serverRelativeURL"].as_str().expect("a URL");
        documents.push(client.get(url).await.body);
    }
    documents
}

/// `group version kind` of everything in discovery.
async fn discovered(client: &mut Client) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let groups = client.get("/apis").await.body;
    let versions = groups["groups"].as_array().expect("groups").iter();
    let versions = versions.map(|group| group["preferredVersion"]["groupVersion"].clone());
    for version in std::iter::once(json!("v1")).chain(versions) {
        let version = version.as_str().expect("text");
        let folder = if version.contains('/') { "apis" } else { "api" };
        let list = client.get(&format!("/{folder}/{version}")).await.body;
        for resource in list["resources"].as_array().expect("resources") {
            let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
            let kind = resource["kind"].as_str().expect("a kind");
            found.insert(format!("{group} {version} {kind}"));
        }
    }
    found
}

#[tokio::test]
async fn every_kind_in_discovery_has_a_schema_with_fields() {
    let api = Api::start();
    let mut client = connect(&api).await;

    let mut described = BTreeSet::new();
    for document in documents(&mut client).await {
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        for schema in schemas.values() {
            for gvk in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                let text = |field: &str| gvk[field].as_str().expect("text").to_owned();
                assert!(schema["properties"].is_object(), "{gvk}");
                described.insert([text("group"), text("version"), text("kind")].join(" "));
            }
        }
    }

    let found = discovered(&mut client).await;
    assert!(found.contains("authorization.k8s.io v1 SubjectAccessReview"), "{found:?}");
    let missing: Vec<_> = found.difference(&described).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Every reference in a document leads to something there.
fn expect_references(document: &Value) {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    references(document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn every_reference_leads_to_a_schema() {
    let api = Api::start();
    documents(&mut connect(&api).await).await.iter().for_each(expect_references);
}

#[tokio::test]
async fn version_2_is_in_the_form_that_is_asked_for() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let media_type = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    let kubectl = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

    let answer = client.get_with("/openapi/v2", &[("accept", kubectl)]).await;
    assert_eq!(answer.code, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], media_type);
    let tag = answer.headers["etag"].to_str().expect("text").to_owned();
    let known = [("accept", media_type), ("if-none-match", &*tag)];
    let again = client.get_with("/openapi/v2", &known).await;
    assert_eq!(again.code, StatusCode::NOT_MODIFIED);
    let text = [("accept", "application/yaml")];
    let answer = client.get_with("/openapi/v2", &text).await;
    assert_eq!(answer.code, StatusCode::NOT_ACCEPTABLE);

    // Those who name no form, or JSON first, read it.
    for accepted in ["application/json", "*/*", "application/json, */*;q=0.1"] {
        let answer = client.get_with("/openapi/v2", &[("accept", accepted)]).await;
        assert_eq!(answer.headers["content-type"], "application/json", "{accepted}");
        let (document, path) = (&answer.body, "/api/v1/namespaces/{name}");
        assert_eq!(document["swagger"], "2.0");
        let answered = &document["paths"][path]["get"]["responses"]["200"]["schema"]["$ref"];
        let name = answered.as_str().and_then(|it| it.strip_prefix("#/definitions/"));
        let namespace = &document["definitions"][name.expect("a schema")];
        let metadata = &namespace["properties"]["metadata"]["properties"];
        assert_eq!(metadata["labels"]["type"], "object", "{namespace}");
        expect_references(document);
    }
}

#[tokio::test]
async fn kubectl_checks_and_creates_every_review() {
    let api = Api::start();
    with_project(&api).await;
    let attributes = json!({"verb": "get", "namespace": "web", "resource": "configmaps"});
    for (api_version, kind, spec, answered) in [
        (
            "authorization.k8s.io/v1",
            "SubjectAccessReview",
            json!({"user": "bob", "groups": ["a"], "resourceAttributes": attributes}),
            "/status/allowed",
        ),
        (
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            json!({"nonResourceAttributes": {"path": "/version", "verb": "get"}}),
            "/status/allowed",
        ),
        (
            "authorization.k8s.io/v1",
            "LocalSubjectAccessReview",
            json!({"user": "bob", "resourceAttributes": attributes}),
            "/status/allowed",
        ),
        (
            "authorization.k8s.io/v1",
            "SelfSubjectRulesReview",
            json!({"namespace": "web"}),
            "/status/resourceRules/0/verbs",
        ),
        (
            "authentication.k8s.io/v1",
            "TokenReview",
            json!({"token": "nothing"}),
            "/status/authenticated",
        ),
        ("authentication.k8s.io/v1", "SelfSubjectReview", Value::Null, "/status/userInfo/groups"),
        (
            "iam.isocast.dev/v1alpha1",
            "AccessReview",
            json!({"resourceAttributes": attributes}),
            "/status/allowed",
        ),
    ] {
        let mut review = json!({"apiVersion": api_version, "kind": kind, "spec": spec});
        if spec.is_null() {
            review.as_object_mut().expect("an object").remove("spec");
        }
        let create = ["create", "-n", "web", "-o", "json", "-f", "-"];
        let said = api.kubectl_in(&review.to_string(), &create).expect_ok();
        let answer: Value = serde_json::from_str(&said.out).expect("JSON");
        assert!(answer.pointer(answered).is_some(), "{kind}: {answer}");

        review["spec"]["usr"] = json!("bob");
        api.kubectl_in(&review.to_string(), &create).expect_refusal(&["unknown field"]);
    }
    let explained = api.kubectl(&["explain", "subjectaccessreview.spec.resourceAttributes"]);
    explained.expect_words(&["KIND: ", "SubjectAccessReview", "subresource"]);
}

#[tokio::test]
async fn a_review_is_answered_whole_and_what_is_no_review_is_refused() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";

    let answer = client.post(path, &json!({})).await;
    assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
    assert_eq!(answer.body["apiVersion"], "authorization.k8s.io/v1");
    assert_eq!(answer.body["kind"], "SelfSubjectRulesReview");
    assert_eq!((&answer.body["metadata"], &answer.body["spec"]), (&json!({}), &json!({})));
    for wrong in [json!([]), json!({"kind": "TokenReview"}), json!({"metadata": 5})] {
        let answer = client.post(path, &wrong).await;
        assert_eq!(answer.code, StatusCode::BAD_REQUEST, "{wrong}: {answer:?}");
    }
}

#[tokio::test]
async fn every_route_that_discovery_shows_is_described_with_its_refusals() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let mut described = BTreeSet::new();
    for document in documents(&mut client).await {
        for (path, item) in document["paths"].as_object().expect("paths") {
            described.insert(path.clone());
            let methods = item.as_object().expect("an item").iter();
            for (method, operation) in methods.filter(|(name, _)| *name != "parameters") {
                let refused = &operation["responses"]["default"]["content"]["application/json"];
                let schema = refused["schema"]["$ref"].as_str().expect("a reference");
                assert!(schema.ends_with(".v1.Status"), "{method} {path}");
            }
        }
    }
    for path in [
        "/apis/iam.isocast.dev/v1alpha1/users/{name}/certificate",
        "/apis/iam.isocast.dev/v1alpha1/namespaces/{namespace}/serviceaccounts/{name}/token",
        "/apis/network.isocast.dev/v1alpha1/bgppolicies/{name}/preview",
        "/apis/network.isocast.dev/v1alpha1/nodes/{name}/token",
    ] {
        assert!(described.contains(path), "{path}");
    }
}
