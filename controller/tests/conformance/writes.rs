//! Writes: options, preconditions, patches, deletions.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{DATACENTERS, causes, connect, datacenter};
use crate::support::Api;

const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

#[tokio::test]
async fn options_that_make_no_sense_are_named() {
    let api = Api::start();
    let mut client = connect(&api).await;
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    let ams = format!("{DATACENTERS}/ams");
    let body = datacenter("ams", "eu").to_string();

    for (query, content_type, cause) in [
        ("", APPLY, "FieldValueRequired fieldManager"),
        ("?force=true", MERGE, "FieldValueForbidden force"),
    ] {
        let path = format!("{ams}{query}");
        let answer = client.send(Method::PATCH, &path, content_type, body.clone()).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert_eq!(causes(&answer.body), [cause], "{query}");
        assert_eq!(answer.body["details"]["kind"], "PatchOptions");
    }
    for options in [
        json!({"propagationPolicy": "Sometimes"}),
        json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
    ] {
        let answer = client.delete(&ams, &options).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{options}");
    }
    for content_type in ["application/strategic-merge-patch+json", "application/yaml", ""] {
        let answer = client.send(Method::PATCH, &ams, content_type, "{}").await;
        assert_eq!(answer.code, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{content_type}");
    }
    let query = format!("{DATACENTERS}/ams?propagationPolicy=Sometimes");
    let answer = client.send(Method::DELETE, &query, "", "").await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "also in the query");
}

#[tokio::test]
async fn generations_count_what_is_wanted_and_the_status_is_apart() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let ams = format!("{DATACENTERS}/ams");
    let mut made = datacenter("ams", "eu");
    made["status"] = json!({"conditions": []});
    made["metadata"]["uid"] = json!("mine");
    made["metadata"]["creationTimestamp"] = json!("1999-01-01T00:00:00Z");
    let made = client.post(DATACENTERS, &made).await.body;
    assert_eq!(made["metadata"]["generation"], 1);
    assert_ne!(made["metadata"]["uid"], "mine");
    assert_ne!(made["metadata"]["creationTimestamp"], "1999-01-01T00:00:00Z");

    let labelled = client.merge(&ams, &json!({"metadata": {"labels": {"a": "b"}}})).await.body;
    assert_eq!(labelled["metadata"]["generation"], 1);
    let moved = client.merge(&ams, &json!({"spec": {"region": "us"}})).await.body;
    assert_eq!(moved["metadata"]["generation"], 2);
    let same = client.merge(&ams, &json!({"spec": {"region": "us"}})).await.body;
    assert_eq!(same["metadata"]["resourceVersion"], moved["metadata"]["resourceVersion"]);
    let spec = json!({"spec": {"region": "asia"}, "metadata": {"labels": {"c": "d"}}});
    let status = client.merge(&format!("{ams}/status"), &spec).await.body;
    assert_eq!(status["spec"]["region"], "us");
    assert_eq!(status["metadata"]["labels"]["c"], Value::Null);
}

#[tokio::test]
async fn a_name_is_a_subdomain_and_the_same_in_path_and_body() {
    let api = Api::start();
    let mut client = connect(&api).await;
    for name in ["Ams", "a_b", "-a", &"a".repeat(254)] {
        let answer = client.post(DATACENTERS, &datacenter(name, "eu")).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        assert!(causes(&answer.body)[0].ends_with(" metadata.name"), "{:?}", answer.body);
    }
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    let body = datacenter("fra", "eu").to_string();
    let path = format!("{DATACENTERS}/ams");
    let answer = client.send(Method::PUT, &path, "application/json", body).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    assert_eq!(
        answer.body["message"],
        "the name of the object (fra) does not match the name on the URL (ams)"
    );
    let mut versioned = datacenter("new", "eu");
    versioned["metadata"]["resourceVersion"] = json!("5");
    let answer = client.post(DATACENTERS, &versioned).await;
    assert_eq!(
        answer.body["message"],
        "resourceVersion should not be set on objects to be created"
    );
    let twice = client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    assert_eq!(
        (twice.code, &twice.body["reason"]),
        (StatusCode::CONFLICT, &json!("AlreadyExists"))
    );
    assert_eq!(twice.body["details"]["name"], "ams");
}

#[tokio::test]
async fn a_deletion_waits_for_finalizers_and_says_so() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let ams = format!("{DATACENTERS}/ams");
    let mut object = datacenter("ams", "eu");
    object["metadata"]["finalizers"] = json!(["example.com/a"]);
    client.post(DATACENTERS, &object).await;

    let marked = client.delete(&ams, &json!({"propagationPolicy": "Foreground"})).await;
    assert_eq!(marked.code, StatusCode::ACCEPTED);
    assert_eq!(marked.body["kind"], "Datacenter");
    let again = client.delete(&ams, &json!({})).await;
    assert_eq!(again.code, StatusCode::OK);
    assert_eq!(
        again.body["metadata"]["deletionTimestamp"],
        marked.body["metadata"]["deletionTimestamp"]
    );
    let more = json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}});
    let refused = client.merge(&ams, &more).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    let last = client.merge(&ams, &json!({"metadata": {"finalizers": null}})).await;
    assert_eq!(last.code, StatusCode::OK);
    assert_eq!(client.get(&ams).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_collection_goes_by_labels_and_fields_and_a_dry_run_leaves_it() {
    let api = Api::start();
    let mut client = connect(&api).await;
    for name in ["a", "b", "c"] {
        client.post(DATACENTERS, &datacenter(name, "eu")).await;
    }
    let left = async |client: &mut super::Client| {
        let list = client.get(DATACENTERS).await.body;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|it| it["metadata"]["name"].as_str().unwrap_or("").to_owned())
            .collect::<String>()
    };

    client
        .delete(
            &format!("{DATACENTERS}?fieldSelector=metadata.name%21%3Db"),
            &json!({"dryRun": ["All"]}),
        )
        .await;
    assert_eq!(left(&mut client).await, "abc");
    let gone = client
        .delete(&format!("{DATACENTERS}?fieldSelector=metadata.name%21%3Db"), &json!({}))
        .await;
    assert_eq!((gone.code, &gone.body["kind"]), (StatusCode::OK, &json!("DatacenterList")));
    assert_eq!(left(&mut client).await, "b");
    let nonsense = client.delete(&format!("{DATACENTERS}?labelSelector=a+b"), &json!({})).await;
    assert_eq!(nonsense.code, StatusCode::BAD_REQUEST, "not: everything");
    assert_eq!(left(&mut client).await, "b");
}

#[tokio::test]
async fn a_json_patch_is_all_or_nothing() {
    let api = Api::start();
    let mut client = connect(&api).await;
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    let path = format!("{DATACENTERS}/ams");
    for (patch, code) in [
        (
            json!([{"op": "replace", "path": "/spec/region", "value": "us"},
            {"op": "test", "path": "/spec/region", "value": "eu"}]),
            422,
        ),
        (json!([{"op": "remove", "path": "/spec/nothing"}]), 422),
        (json!([{"op": "levitate", "path": "/spec"}]), 400),
        (json!({}), 400),
        (
            json!([{"op": "test", "path": "/spec/region", "value": "eu"},
            {"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]),
            200,
        ),
    ] {
        let answer = client
            .send(Method::PATCH, &path, "application/json-patch+json", patch.to_string())
            .await;
        assert_eq!(answer.code.as_u16(), code, "{patch}: {:?}", answer.body);
    }
    assert_eq!(client.get(&path).await.body["spec"]["region"], "eu");
}
