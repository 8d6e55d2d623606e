//! Reads: revisions, pages, watches, forms, selectors, discovery.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{DATACENTERS, causes, connect, datacenter, next};
use crate::support::Api;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

#[tokio::test]
async fn a_revision_is_any_at_least_or_exactly_as_asked() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let first = client.post(DATACENTERS, &datacenter("ams", "eu")).await.body;
    let first = first["metadata"]["resourceVersion"].as_str().expect("text").to_owned();
    let second = client.post(DATACENTERS, &datacenter("fra", "eu")).await.body;
    let second = second["metadata"]["resourceVersion"].as_str().expect("text").to_owned();
    let least = "resourceVersionMatch=NotOlderThan";

    for query in [
        String::new(),
        "resourceVersion=0".into(),
        format!("resourceVersion={first}"),
        format!("resourceVersion={first}&{least}"),
        format!("resourceVersion=0&{least}"),
        format!("resourceVersion={second}&resourceVersionMatch=Exact"),
    ] {
        let listing = client.get(&format!("{DATACENTERS}?{query}")).await.body;
        assert_eq!(listing["items"].as_array().map(Vec::len), Some(2), "{query}");
        assert_eq!(listing["metadata"]["resourceVersion"], *second, "{query}");
    }
    for path in [DATACENTERS.to_owned(), format!("{DATACENTERS}/ams"), "/api/v1/namespaces".into()]
    {
        let answer = client.get(&format!("{path}?resourceVersion=999999")).await;
        assert_eq!(answer.code, StatusCode::GATEWAY_TIMEOUT, "{path}");
        assert_eq!(answer.body["reason"], "Timeout");
        assert_eq!(causes(&answer.body), ["ResourceVersionTooLarge "]);
        assert_eq!(answer.body["details"]["retryAfterSeconds"], 1);
    }
    for (query, field) in [
        ("resourceVersionMatch=Exact", "resourceVersionMatch"),
        ("resourceVersionMatch=Exact&resourceVersion=0", "resourceVersionMatch"),
        ("sendInitialEvents=true", "sendInitialEvents"),
        ("watch=1&sendInitialEvents=true", "resourceVersionMatch"),
    ] {
        let answer = client.get(&format!("{DATACENTERS}?{query}")).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        assert_eq!(causes(&answer.body), [format!("FieldValueForbidden {field}")], "{query}");
    }
}

#[tokio::test]
async fn a_watch_begins_with_what_exists_or_with_now_as_asked() {
    let api = Api::start();
    let mut client = connect(&api).await;
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    let query = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan";
    let mut now = connect(&api).await.watch(&format!("{DATACENTERS}?{query}")).await;
    let query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut existing = connect(&api).await.watch(&format!("{DATACENTERS}?{query}")).await;
    client.post(DATACENTERS, &datacenter("fra", "eu")).await;

    assert_eq!(next(&mut now).await.1["metadata"]["name"], "fra");
    assert_eq!(next(&mut existing).await.1["metadata"]["name"], "ams");
    // Without bookmarks there is no mark at the end of what exists.
    assert_eq!(next(&mut existing).await.1["metadata"]["name"], "fra");
}

#[tokio::test]
async fn one_object_is_watched_by_its_path() {
    let api = Api::start();
    let mut client = connect(&api).await;
    let mut watch = connect(&api).await.watch(&format!("{DATACENTERS}/fra?watch=true")).await;
    for name in ["ams", "fra"] {
        client.post(DATACENTERS, &datacenter(name, "eu")).await;
    }

    let (kind, object) = next(&mut watch).await;

    assert_eq!((kind.as_str(), &object["metadata"]["name"]), ("ADDED", &json!("fra")));
}

#[tokio::test]
async fn a_watch_that_ends_says_how_far_it_came() {
    let api = Api::start();
    let mut client = connect(&api).await;
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    let query = "watch=1&allowWatchBookmarks=true&timeoutSeconds=1&fieldSelector=metadata.name%3Dx";
    let mut watch = connect(&api).await.watch(&format!("{DATACENTERS}?{query}")).await;

    let (kind, bookmark) = next(&mut watch).await;

    assert_eq!((kind.as_str(), &bookmark["kind"]), ("BOOKMARK", &json!("Datacenter")));
    let head = client.get(DATACENTERS).await.body["metadata"]["resourceVersion"].clone();
    assert_eq!(bookmark["metadata"]["resourceVersion"], head);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_table_is_the_same_listed_watched_and_of_one_object() {
    let api = Api::start();
    let mut client = connect(&api).await;
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    client.extra.push(("accept", TABLE.to_owned()));
    let listed = client.get(DATACENTERS).await;
    assert_eq!(listed.body["kind"], "Table");
    assert_eq!(listed.body["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let without = client.get(&format!("{DATACENTERS}/ams?includeObject=None")).await.body;
    assert_eq!(without["rows"][0]["cells"][0], "ams");
    assert_eq!(without["rows"][0]["object"], Value::Null);
    let whole = client.get(&format!("{DATACENTERS}/ams?includeObject=Object")).await.body;
    assert_eq!(whole["rows"][0]["object"]["spec"]["region"], "eu");

    let mut watcher = connect(&api).await;
    watcher.extra.push(("accept", TABLE.to_owned()));
    let revision = listed.body["metadata"]["resourceVersion"].as_str().expect("text").to_owned();
    let mut watch =
        watcher.watch(&format!("{DATACENTERS}?watch=1&resourceVersion={revision}")).await;
    client.extra.clear();
    client.post(DATACENTERS, &datacenter("fra", "eu")).await;
    let (kind, table) = next(&mut watch).await;
    assert_eq!((kind.as_str(), &table["kind"]), ("ADDED", &json!("Table")));
    assert_eq!(table["rows"][0]["cells"][0], "fra");

    let mut partial = connect(&api).await;
    let accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    partial.extra.push(("accept", accept.to_owned()));
    let list = partial.get(DATACENTERS).await.body;
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["spec"], Value::Null);
}

#[tokio::test]
async fn discovery_comes_in_the_form_asked_for_and_is_kept_by_its_hash() {
    let api = Api::start();
    let mut client = connect(&api).await;
    for version in ["v2", "v2beta1"] {
        let form =
            format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
        client.extra = vec![("accept", format!("{form},application/json"))];
        for path in ["/api", "/apis"] {
            let answer = client.get(path).await;
            assert_eq!(answer.headers["content-type"], *form);
            assert_eq!(answer.headers["vary"], "Accept");
            assert_eq!(answer.body["apiVersion"], format!("apidiscovery.k8s.io/{version}"));
            let tag = answer.headers["etag"].to_str().expect("text").to_owned();
            client.extra.push(("if-none-match", tag));
            let again = client.get(path).await;
            assert_eq!((again.code, &again.body), (StatusCode::NOT_MODIFIED, &json!("")));
            client.extra.truncate(1);
        }
    }
    client.extra.clear();
    let rows = client.get("/apis/network.isocast.dev/v1alpha1").await.body;
    let names: Vec<&str> = rows["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|row| row["name"].as_str())
        .filter(|name| name.starts_with("nodes"))
        .collect();
    assert_eq!(names, ["nodes", "nodes/agent", "nodes/status", "nodes/token"]);
    let node = rows["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|row| row["name"] == "nodes")
        .expect("there");
    assert!(node["storageVersionHash"].as_str().is_some_and(|hash| hash.len() == 12));
    let reviews = client.get("/apis/authorization.k8s.io/v1").await.body;
    assert_eq!(reviews["resources"][0]["verbs"], json!(["create"]));
    let index = client.get("/openapi/v3").await.body;
    let url = index["paths"]["api/v1"]["serverRelativeURL"].as_str().expect("text");
    let document = client.get(url).await;
    client.extra = vec![("if-none-match", document.headers["etag"].to_str().expect("text").into())];
    assert_eq!(client.get(url).await.code, StatusCode::NOT_MODIFIED);
}
