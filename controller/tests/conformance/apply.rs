//! Server-side apply as a table: who applies what, and what comes of it.
//!
//! The cases are those of the public documentation of server-side apply: owning and sharing fields,
//! giving them up, conflicts and force, lists by their type, updates beside applies, and the way from
//! client-side apply.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{causes, with_project};
use crate::support::{
    Api,
    client::{Answer, Client},
};

const APPLY: &str = "application/apply-patch+yaml";
const POOLS: &str = "/apis/network.isocast.dev/v1alpha1/addresspools";
const MAPS: &str = "/api/v1/namespaces/web/configmaps";

/// What one manager does next.
struct Step {
    manager: &'static str,
    does: Does,
    /// What comes of it: `data` afterwards, or who is in the way.
    then: Result<Value, &'static [&'static str]>,
}

enum Does {
    Apply(Value),
    Force(Value),
    Update(Value),
}

async fn perform(client: &mut Client, step: &Step) -> Result<Value, Vec<String>> {
    let manager = step.manager;
    let object = |data: &Value| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
            .to_string()
    };
    let path = |more: &str| format!("{MAPS}/m?fieldManager={manager}{more}");
    let answer = match &step.does {
        Does::Apply(data) => client.send(Method::PATCH, &path(""), APPLY, object(data)).await,
        Does::Force(data) => {
            client.send(Method::PATCH, &path("&force=true"), APPLY, object(data)).await
        }
        Does::Update(data) => {
            let patch = json!({"data": data});
            let merge = "application/merge-patch+json";
            client.send(Method::PATCH, &path(""), merge, patch.to_string()).await
        }
    };
    match answer.code {
        StatusCode::OK | StatusCode::CREATED => Ok(answer.body["data"].clone()),
        StatusCode::CONFLICT => {
            assert_eq!(answer.body["reason"], "Conflict");
            let causes = answer.body["details"]["causes"].as_array().cloned().unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            assert!(causes.iter().all(|cause| cause["reason"] == "FieldManagerConflict"));
            Err(causes
                .iter()
                .map(|it| format!("{}: {}", text(&it["message"]), text(&it["field"])))
                .collect())
        }
        other => panic!("{other}: {:?}", answer.body),
    }
}

#[tokio::test]
async fn fields_have_owners_who_share_give_up_and_take_them() {
    use Does::{Apply, Force, Update};
    let api = Api::start();
    let mut client = with_project(&api).await;
    let step = |manager, does, then| Step { manager, does, then };
    let stories: [(&str, Vec<Step>); 9] = [
        (
            "an apply makes the object",
            vec![step("a", Apply(json!({"x": "1"})), Ok(json!({"x": "1"})))],
        ),
        (
            "managers own fields beside each other",
            vec![
                step("a", Apply(json!({"x": "1"})), Ok(json!({"x": "1"}))),
                step("b", Apply(json!({"y": "2"})), Ok(json!({"x": "1", "y": "2"}))),
            ],
        ),
        (
            "what its only owner no longer states goes",
            vec![
                step("a", Apply(json!({"x": "1", "y": "2"})), Ok(json!({"x": "1", "y": "2"}))),
                step("a", Apply(json!({"x": "1"})), Ok(json!({"x": "1"}))),
            ],
        ),
        (
            "the same value is shared, and stays until nobody states it",
            vec![
                step("a", Apply(json!({"x": "1", "y": "2"})), Ok(json!({"x": "1", "y": "2"}))),
                step("b", Apply(json!({"y": "2"})), Ok(json!({"x": "1", "y": "2"}))),
                step("a", Apply(json!({"x": "1"})), Ok(json!({"x": "1", "y": "2"}))),
                step("b", Apply(json!({})), Ok(json!({"x": "1"}))),
            ],
        ),
        (
            "another value for it conflicts",
            vec![
                step("a", Apply(json!({"x": "1"})), Ok(json!({"x": "1"}))),
                step(
                    "b",
                    Apply(json!({"x": "2", "y": "2"})),
                    Err(&["conflict with \"a\": .data.x"]),
                ),
                step("c", Apply(json!({"y": "2"})), Ok(json!({"x": "1", "y": "2"}))),
            ],
        ),
        (
            "force takes it, and its former owner conflicts then",
            vec![
                step("a", Apply(json!({"x": "1"})), Ok(json!({"x": "1"}))),
                step("b", Force(json!({"x": "2"})), Ok(json!({"x": "2"}))),
                step("a", Apply(json!({"x": "1"})), Err(&["conflict with \"b\": .data.x"])),
                step("a", Apply(json!({})), Ok(json!({"x": "2"}))),
            ],
        ),
        (
            "a shared field that changes conflicts with everybody",
            vec![
                step("a", Apply(json!({"x": "1"})), Ok(json!({"x": "1"}))),
                step("b", Apply(json!({"x": "1"})), Ok(json!({"x": "1"}))),
                step(
                    "c",
                    Apply(json!({"x": "2"})),
                    Err(&["conflict with \"a\": .data.x", "conflict with \"b\": .data.x"]),
                ),
            ],
        ),
        (
            "an update takes what it changes, without asking",
            vec![
                step("a", Apply(json!({"x": "1", "y": "1"})), Ok(json!({"x": "1", "y": "1"}))),
                step("u", Update(json!({"x": "2"})), Ok(json!({"x": "2", "y": "1"}))),
                step(
                    "a",
                    Apply(json!({"x": "1", "y": "1"})),
                    Err(&["conflict with \"u\" using an update: .data.x"]),
                ),
                step("a", Apply(json!({"x": "2", "y": "1"})), Ok(json!({"x": "2", "y": "1"}))),
            ],
        ),
        (
            "the same manager's updates and applies are two owners",
            vec![
                step("a", Apply(json!({"x": "1"})), Ok(json!({"x": "1"}))),
                step("a", Update(json!({"x": "2"})), Ok(json!({"x": "2"}))),
                step(
                    "a",
                    Apply(json!({"x": "3"})),
                    Err(&["conflict with \"a\" using an update: .data.x"]),
                ),
            ],
        ),
    ];
    for (story, steps) in stories {
        for (at, step) in steps.iter().enumerate() {
            let then = match &step.then {
                Ok(data) => Ok(data.clone()),
                Err(causes) => Err(causes.iter().map(|it| (*it).to_owned()).collect()),
            };
            assert_eq!(perform(&mut client, step).await, then, "{story}, step {at}");
        }
        client.delete(&format!("{MAPS}/m"), &json!({})).await;
    }
}

async fn grant(client: &mut Client, manager: &str, organizations: &[&str]) -> Answer {
    let grants: Vec<Value> = organizations.iter().map(|it| json!({"organization": it})).collect();
    let pool = json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "AddressPool",
        "metadata": {"name": "p"}, "spec": {"prefixes": ["192.0.2.0/24"], "grants": grants},
    });
    let path = format!("{POOLS}/p?fieldManager={manager}");
    client.send(Method::PATCH, &path, APPLY, pool.to_string()).await
}

/// Two more organizations.
pub(super) async fn with_neighbours(client: &mut Client) {
    for name in ["globex", "initech"] {
        let organization = json!({
            "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Organization",
            "metadata": {"name": name}, "spec": {},
        });
        let path = "/apis/resourcemanager.isocast.dev/v1alpha1/organizations";
        assert_eq!(client.post(path, &organization).await.code, StatusCode::CREATED);
    }
}

#[tokio::test]
async fn items_of_a_keyed_list_have_owners_of_their_own() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    with_neighbours(&mut client).await;
    let granted = |body: &Value| -> Vec<String> {
        let grants = body["spec"]["grants"].as_array().cloned().unwrap_or_default();
        grants.iter().map(|it| it["organization"].as_str().unwrap_or_default().to_owned()).collect()
    };

    let made = grant(&mut client, "a", &["acme", "globex"]).await;
    assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    let both = grant(&mut client, "b", &["globex", "initech"]).await;
    assert_eq!(granted(&both.body), ["acme", "globex", "initech"], "{:?}", both.body);
    let fewer = grant(&mut client, "a", &["acme"]).await;
    assert_eq!(granted(&fewer.body), ["acme", "globex", "initech"], "b still states the second");
    let fewer = grant(&mut client, "b", &["initech"]).await;
    assert_eq!(granted(&fewer.body), ["acme", "initech"]);
    let twice = grant(&mut client, "c", &["acme", "acme"]).await;
    assert_eq!(twice.code, StatusCode::BAD_REQUEST);
    let said = twice.body["message"].as_str().unwrap_or_default();
    assert!(said.contains("duplicate entries"), "{said}");
    let managers = fewer.body["metadata"]["managedFields"].as_array().expect("a list").clone();
    assert_eq!(managers[0]["manager"], "a");
    assert_eq!(
        managers[0]["fieldsV1"]["f:spec"]["f:grants"],
        json!({"k:{\"organization\":\"acme\"}": {".": {}, "f:organization": {}}})
    );
}

#[tokio::test]
async fn what_an_apply_may_not_say_is_refused() {
    let api = Api::start();
    let mut client = with_project(&api).await;
    let path = |query: &str| format!("{MAPS}/m?fieldManager=a{query}");
    let map = |meta: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {}});

    let managed = map(json!({"name": "m", "managedFields": [{"manager": "x"}]}));
    let answer = client.send(Method::PATCH, &path(""), APPLY, managed.to_string()).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    let other = map(json!({"name": "other"}));
    let answer = client.send(Method::PATCH, &path(""), APPLY, other.to_string()).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    let known = map(json!({"name": "m", "uid": "no-such"}));
    let answer = client.send(Method::PATCH, &path(""), APPLY, known.to_string()).await;
    assert_eq!(answer.code, StatusCode::CONFLICT);
    let mut unknown = map(json!({"name": "m"}));
    unknown["dada"] = json!({});
    let strict = path("&fieldValidation=Strict");
    let answer = client.send(Method::PATCH, &strict, APPLY, unknown.to_string()).await;
    assert_eq!(answer.code, StatusCode::BAD_REQUEST);
    let dry = path("&dryRun=All");
    let answer =
        client.send(Method::PATCH, &dry, APPLY, map(json!({"name": "m"})).to_string()).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    assert_eq!(client.get(&format!("{MAPS}/m")).await.code, StatusCode::NOT_FOUND);
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: b}\n";
    let answer = client.send(Method::PATCH, &path(""), APPLY, yaml).await;
    assert_eq!(answer.code, StatusCode::CREATED);
    let again = client.send(Method::PATCH, &path(""), APPLY, yaml).await;
    assert_eq!(
        (again.code, &again.body["metadata"]["resourceVersion"]),
        (StatusCode::OK, &answer.body["metadata"]["resourceVersion"]),
        "nothing changed"
    );
    // Everybody's fields are forgotten by saying so.
    let path = format!("{MAPS}/m");
    let reset = client.merge(&path, &json!({"metadata": {"managedFields": [{}]}})).await;
    assert_eq!(reset.body["metadata"]["managedFields"], Value::Null);
    assert!(causes(&reset.body).is_empty());
}
