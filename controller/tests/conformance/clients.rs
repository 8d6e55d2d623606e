//! What clients other than kubectl say and rely on: Helm, Ansible, controller-runtime, the libraries of
//! Python and JavaScript.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{DATACENTERS, causes, connect, datacenter, next, with_project};
use crate::support::{
    Api,
    accounts::{IAM, binding, iam, user},
};

const CONFIG_MAPS: &str = "/api/v1/namespaces/web/configmaps";
const APPLY: &str = "application/apply-patch+yaml";

fn config_map(metadata: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "b"}})
}

#[tokio::test]
async fn flags_are_set_in_the_words_of_python() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    for (name, owner) in [("owner", None), ("dependent", Some("owner"))] {
        let mut metadata = json!({"name": name});
        if let Some(owner) = owner {
            let owner = client.get(&format!("{CONFIG_MAPS}/{owner}")).await.body;
            metadata["ownerReferences"] = json!([{
                "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }]);
        }
        let answer = client.post(CONFIG_MAPS, &config_map(&metadata)).await;
        assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
    }

    let path = format!("{CONFIG_MAPS}?watch=True&fieldSelector=metadata.name%3Downer");
    let mut lines = connect(&api).await.watch(&path).await;
    let (kind, object) = next(&mut lines).await;
    assert_eq!((&*kind, &object["metadata"]["name"]), ("ADDED", &json!("owner")));

    let path = format!("{CONFIG_MAPS}/owner?orphanDependents=True");
    assert_eq!(client.send(Method::DELETE, &path, "", "").await.code, StatusCode::OK);
    let (kind, orphaning) = next(&mut lines).await;
    assert_eq!(kind, "MODIFIED");
    assert_eq!(orphaning["metadata"]["finalizers"], json!(["orphan"]));
    while next(&mut lines).await.0 != "DELETED" {}
    let dependent = client.get(&format!("{CONFIG_MAPS}/dependent")).await;
    assert_eq!(dependent.code, StatusCode::OK);
    let owners = dependent.body["metadata"]["ownerReferences"].as_array();
    assert!(owners.is_none_or(Vec::is_empty), "{owners:?}");
}

#[tokio::test]
async fn options_of_a_deletion_that_are_null_are_not_said() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    client.post(CONFIG_MAPS, &config_map(&json!({"name": "a"}))).await;

    let options = json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "propagationPolicy": null, "preconditions": null, "dryRun": null, "orphanDependents": null,
    });
    let answer = client.delete(&format!("{CONFIG_MAPS}/a"), &options).await;

    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    assert_eq!(client.get(&format!("{CONFIG_MAPS}/a")).await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn whoever_removes_the_last_finalizer_is_answered_what_they_wrote() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let metadata = json!({"name": "a", "finalizers": ["example.com/guard"]});
    let a = format!("{CONFIG_MAPS}/a");
    for method in [Method::PUT, Method::PATCH] {
        assert_eq!(client.post(CONFIG_MAPS, &config_map(&metadata)).await.code, 201);
        let mut lines = connect(&api)
            .await
            .watch(&format!("{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%3Da"))
            .await;
        let mut marked = client.delete(&a, &json!({})).await.body;
        assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
        let (content_type, body) = match method {
            Method::PUT => {
                marked["metadata"]["finalizers"] = json!([]);
                marked["data"]["a"] = json!("c");
                ("application/json", marked.clone())
            }
            _ => {
                let metadata = json!({"finalizers": null});
                ("application/merge-patch+json", json!({"metadata": metadata, "data": {"a": "c"}}))
            }
        };

        let answer = client.send(method.clone(), &a, content_type, body.to_string()).await;

        assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
        let metadata = &answer.body["metadata"];
        assert!([&Value::Null, &json!([])].contains(&&metadata["finalizers"]), "{answer:?}");
        assert_eq!(answer.body["data"]["a"], "c");
        // Who watches is told what was there last, and at the same version.
        let last = loop {
            let (kind, object) = next(&mut lines).await;
            if kind == "DELETED" {
                break object;
            }
        };
        assert_eq!(last["metadata"]["finalizers"], json!(["example.com/guard"]));
        assert_eq!(last["metadata"]["resourceVersion"], metadata["resourceVersion"]);
        assert_eq!(client.get(&a).await.code, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn labels_that_no_selector_can_say_are_refused() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let object = config_map(&json!({"name": "a", "labels": {"a b": "c", "d": "e!"}}));

    let refused = client.post(CONFIG_MAPS, &object).await;

    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        causes(&refused.body),
        ["FieldValueInvalid metadata.labels", "FieldValueInvalid metadata.labels"]
    );
    let message = refused.body["message"].as_str().expect("text");
    let begin = "ConfigMap \"a\" is invalid: [metadata.labels: Invalid value: \"a b\": name part must \
                 consist of";
    assert!(message.starts_with(begin), "{message}");
    client.post(DATACENTERS, &datacenter("ams", "eu")).await;
    let ams = format!("{DATACENTERS}/ams");
    let refused = client.merge(&ams, &json!({"metadata": {"finalizers": ["no name!"]}})).await;
    assert_eq!(causes(&refused.body), ["FieldValueInvalid metadata.finalizers"]);
    let apply = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "b", "annotations": {"a b": "c"}},
    });
    let path = format!("{CONFIG_MAPS}/b?fieldManager=x");
    let refused = client.send(Method::PATCH, &path, APPLY, apply.to_string()).await;
    assert_eq!(causes(&refused.body), ["FieldValueInvalid metadata.annotations"]);
}

#[tokio::test]
async fn installers_make_sure_of_a_namespace_that_is_there() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let namespace = |name: &str| {
        let metadata = json!({"name": name, "labels": {"name": name}, "creationTimestamp": null});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    };

    // Helm 3, Argo CD, Flux.
    let answer = client.post("/api/v1/namespaces", &namespace("web")).await;
    assert_eq!(answer.code, StatusCode::CONFLICT);
    assert_eq!(answer.body["reason"], "AlreadyExists");
    assert_eq!(answer.body["details"]["kind"], "namespaces");
    // Helm 4.
    let path = |name: &str| format!("/api/v1/namespaces/{name}?fieldManager=helm&force=false");
    let apply = namespace("web").to_string();
    let answer = client.send(Method::PATCH, &path("web"), APPLY, apply.clone()).await;
    assert_eq!(answer.code, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.body["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "web"}));
    let warning = answer.headers["warning"].to_str().expect("text");
    assert_eq!(warning, r#"299 - "metadata.labels: a namespace has those of its container""#);

    let answer = client.post("/api/v1/namespaces", &namespace("other")).await;
    assert_eq!(answer.code, StatusCode::METHOD_NOT_ALLOWED, "that is what a project is for");
    let answer = client.send(Method::PATCH, &path("other"), APPLY, apply.clone()).await;
    assert_eq!(answer.code, StatusCode::NOT_FOUND);
    let answer = client.send(Method::PATCH, &path("acme"), APPLY, apply).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    let merge = "application/merge-patch+json";
    let answer = client.send(Method::PATCH, &path("web"), merge, "{}").await;
    assert_eq!(answer.code, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn labels_are_compared_as_numbers() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    for (name, tier) in [("two", "2"), ("ten", "10"), ("word", "x")] {
        let metadata = json!({"name": name, "labels": {"tier": tier}});
        client.post(CONFIG_MAPS, &config_map(&metadata)).await;
    }
    client.post(CONFIG_MAPS, &config_map(&json!({"name": "none"}))).await;
    for (selector, selected) in [
        ("tier%3E2", &["ten"][..]),
        ("tier%3E1", &["ten", "two"]),
        ("tier%3C10", &["two"]),
        ("tier%3C11,tier%3E9", &["ten"]),
    ] {
        let answer = client.get(&format!("{CONFIG_MAPS}?labelSelector={selector}")).await;
        let items = answer.body["items"].as_array().expect("a list");
        let names: Vec<_> = items.iter().map(|item| item["metadata"]["name"].as_str()).collect();
        assert_eq!(
            names,
            selected.iter().map(|name| Some(*name)).collect::<Vec<_>>(),
            "{selector}"
        );
    }
    let answer = client.get(&format!("{CONFIG_MAPS}?labelSelector=tier%3Ex")).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_root_says_where_all_else_is_and_health_says_what_was_looked_at() {
    let api = Api::start();
    let mut client = connect(&api).await;

    let paths = client.get("/").await.body["paths"].clone();
    let paths = paths.as_array().expect("paths");
    for path in ["/api/v1", "/apis/network.isocast.dev/v1alpha1", "/openapi/v3", "/readyz"] {
        assert!(paths.contains(&json!(path)), "{path}");
    }
    for path in paths.iter().filter_map(Value::as_str).filter(|path| !path.ends_with('z')) {
        assert_eq!(client.get(path).await.code, StatusCode::OK, "{path}");
    }

    let verbose = client.get("/readyz?verbose").await.body;
    assert_eq!(verbose, "[+]store ok\nreadyz check passed\n");
}

#[tokio::test]
async fn a_replacement_of_nothing_makes_leases_and_events_and_of_other_kinds_says_so() {
    const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/web/leases";
    let api = Api::start();
    let mut client = with_project(&api).await;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "leader"}, "spec": {"holderIdentity": "a"},
    });
    let put = |path: String, object: &Value| (Method::PUT, path, object.to_string());

    let (method, path, body) = put(format!("{LEASES}/leader"), &lease);
    let made = client.send(method.clone(), &path, "application/json", body.clone()).await;
    let again = client.send(method, &path, "application/json", body).await;
    assert_eq!((made.code, again.code.as_u16()), (StatusCode::CREATED, 422), "{again:?}");
    assert_eq!(made.body["spec"]["holderIdentity"], "a");

    for (path, object) in [
        (format!("{CONFIG_MAPS}/a"), config_map(&json!({"name": "a"}))),
        (format!("{DATACENTERS}/ams"), datacenter("ams", "eu")),
    ] {
        let (method, path, body) = put(path, &object);
        let answer = client.send(method, &path, "application/json", body).await;
        assert_eq!(answer.code, StatusCode::NOT_FOUND, "{answer:?}");
    }

    // Whoever may only replace makes nothing.
    let may = ["get", "update"].map(|verb| format!("coordination.k8s.io/leases.{verb}"));
    let role = iam("Role", Some("web"), "up", &json!({"includedPermissions": may}));
    client.create(&format!("{IAM}/namespaces/web/roles"), &role).await;
    let mut keeper = api.user(&mut client, "kim").await;
    let mut bound = binding("web", "up", "up", &user("kim"));
    bound["spec"]["role"]["namespace"] = json!("web");
    client.create(&format!("{IAM}/namespaces/web/policybindings"), &bound).await;
    let other = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "other"},
    });
    let (method, path, body) = put(format!("{LEASES}/other"), &other);
    let refusal = keeper.send(method, &path, "application/json", body).await;
    assert_eq!(refusal.code, StatusCode::FORBIDDEN, "{refusal:?}");
}

#[tokio::test]
async fn null_among_texts_is_the_empty_text() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let mut object = config_map(&json!({"name": "a", "labels": {"tier": null}}));
    object["data"] = json!({"empty": null, "full": "x"});

    let made = client.create(CONFIG_MAPS, &object).await.body;
    let patched = client.merge(&format!("{CONFIG_MAPS}/a"), &json!({"data": {"full": null}})).await;

    assert_eq!(made["data"], json!({"empty": "", "full": "x"}));
    assert_eq!(made["metadata"]["labels"], json!({"tier": ""}));
    assert_eq!(patched.body["data"], json!({"empty": ""}), "of a patch it removes");
}

#[tokio::test]
async fn an_escape_of_what_needs_none_is_read_and_no_other() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    client.create(CONFIG_MAPS, &config_map(&json!({"name": "r1"}))).await;

    let found = client.get("/api/v1/namespaces/we%62/config%6Daps/r%31").await;
    assert_eq!(found.code, StatusCode::OK);
    for odd in ["r1%00", "r1%2F", "%72%00"] {
        let answer = client.get(&format!("{CONFIG_MAPS}/{odd}")).await;
        assert_eq!(answer.code, StatusCode::NOT_FOUND, "{odd}");
    }
    let across = client.get("/api/v1/namespaces/x%00web/configmaps/r1").await;
    assert_eq!(across.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn there_are_no_definitions_of_kinds_and_everybody_may_know() {
    const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let api = Api::start();
    let mut client = with_project(&api).await;
    let mut nobody = api.user(&mut client, "nora").await;

    for path in [DEFINITIONS.to_owned(), format!("/projects/web{DEFINITIONS}")] {
        let list = client.get(&path).await;
        let kind = json!("CustomResourceDefinitionList");
        assert_eq!((&list.body["kind"], &list.body["items"]), (&kind, &json!([])), "{path}");
    }
    let list = nobody.get(DEFINITIONS).await.body;
    assert_eq!(list["items"], json!([]));
    let one = client.get(&format!("{DEFINITIONS}/pools.example.com")).await;
    assert_eq!(one.code, StatusCode::NOT_FOUND);
    assert_eq!(client.post(DEFINITIONS, &json!({})).await.code, StatusCode::METHOD_NOT_ALLOWED);
    let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
    let path = format!(
        "{DEFINITIONS}?watch=1&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion={version}"
    );
    let mut lines = nobody.watch(&path).await;
    // Containers come and go, and are none.
    client
        .create(
            "/apis/resourcemanager.isocast.dev/v1alpha1/organizations",
            &json!({
                "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Organization",
                "metadata": {"name": "globex"}, "spec": {},
            }),
        )
        .await;
    let (kind, _) = next(&mut lines).await;
    assert_eq!(kind, "BOOKMARK");
    assert!(lines.try_next().await.is_none());
}

#[tokio::test]
async fn media_types_are_read_in_any_case_and_options_in_yaml() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let body = config_map(&json!({"name": "a"})).to_string();

    let made =
        client.send(Method::POST, CONFIG_MAPS, "Application/JSON; charset=UTF-8", body).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let path = format!("{CONFIG_MAPS}/a");
    let options = "kind: DeleteOptions\ndryRun: [All]\n";
    let rehearsed = client.send(Method::DELETE, &path, "application/yaml", options).await;
    assert_eq!(rehearsed.code, StatusCode::OK, "{rehearsed:?}");
    assert_eq!(client.get(&path).await.code, StatusCode::OK, "only rehearsed");
    let malformed = client.delete(&path, &json!([])).await;
    assert_eq!(malformed.code, StatusCode::BAD_REQUEST, "{malformed:?}");
    let mut twice = config_map(&json!({"name": "b"}));
    twice["binaryData"] = json!({"a": "YQ=="});
    assert_eq!(
        causes(&client.post(CONFIG_MAPS, &twice).await.body),
        ["FieldValueInvalid binaryData[a]"]
    );
    for path in ["/version", "/readyz"] {
        let answer = client.post(path, &json!({})).await;
        assert_eq!(answer.code, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.headers["allow"], "GET, HEAD");
    }
    assert_eq!(client.get("/openapi/v2").await.headers["vary"], "Accept");
}

#[tokio::test]
async fn who_asks_for_yaml_has_it() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let mut map = config_map(&json!({"name": "a"}));
    map["data"] = json!({"yes": "no", "version": "1.10", "lines": "a: 1\nb: 2\n"});
    client.create(CONFIG_MAPS, &map).await;
    let yaml = [("accept", "application/yaml")];

    let path = format!("{CONFIG_MAPS}/a");
    let answer = client.get_with(&path, &yaml).await;
    assert_eq!(answer.headers["content-type"], "application/yaml");
    let text = answer.body.as_str().expect("no JSON");
    assert!(text.starts_with("apiVersion: v1\nkind: ConfigMap\n"), "{text}");
    assert!(text.contains("\n  lines: |\n    a: 1\n    b: 2\n"), "{text}");
    assert!(text.contains(": 'no'\n") || text.contains(": \"no\"\n"), "{text}");
    let replaced = client.send(Method::PUT, &path, "application/yaml", text.to_owned()).await;
    assert_eq!(replaced.code, StatusCode::OK, "{replaced:?}");
    assert_eq!(replaced.body["data"], map["data"], "what was read can be written");

    for (path, kind) in [
        (CONFIG_MAPS, "kind: ConfigMapList\n"),
        ("/api/v1", "kind: APIResourceList\n"),
        ("/api/v1/namespaces/web/configmaps/none", "kind: Status\n"),
        ("/apis/none", "kind: Status\n"),
    ] {
        let answer = client.get_with(path, &yaml).await;
        assert_eq!(answer.headers["content-type"], "application/yaml", "{path}");
        let text = answer.body.as_str().unwrap_or_else(|| panic!("{path}: {answer:?}"));
        assert!(text.contains(kind), "{path}: {text}");
    }
    let watched = client.get_with(&format!("{CONFIG_MAPS}?watch=1"), &yaml).await;
    assert_eq!(watched.code, StatusCode::NOT_ACCEPTABLE);

    for number in 0..5 {
        let mut large = config_map(&json!({"name": format!("large-{number}")}));
        large["data"] = json!({"a": "x".repeat(1_000_000)});
        client.create(CONFIG_MAPS, &large).await;
    }
    let all = client.get_with(CONFIG_MAPS, &yaml).await;
    assert_eq!(all.code, StatusCode::NOT_ACCEPTABLE);
    let told = all.body.as_str().expect("no JSON");
    assert!(told.contains("more than 4 MiB") && told.contains("page by page"), "{told}");
    let page = client.get_with(&format!("{CONFIG_MAPS}?limit=2"), &yaml).await;
    assert_eq!(page.code, StatusCode::OK);
}
