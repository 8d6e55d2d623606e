//! Server-side apply, by the table in `apply.yml`.

use std::{collections::BTreeMap, fs};

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{apply::with_neighbours, with_project};
use crate::support::{
    Api,
    client::{Answer, Client},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    case: String,
    on: On,
    steps: Vec<Step>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum On {
    Map,
    Pool,
    Hosts,
}

/// What one manager does, which is one of the first five, and what comes of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    by: String,
    apply: Option<Value>,
    force: Option<Value>,
    status: Option<Value>,
    merge: Option<Value>,
    create: Option<Value>,
    query: Option<String>,
    code: Option<u16>,
    conflicts: Option<Vec<String>>,
    gives: Option<Value>,
    owns: Option<BTreeMap<String, Vec<String>>>,
    /// Whether it is the revision that was there before.
    #[serde(default)]
    same: bool,
}

impl On {
    fn identity(self) -> (&'static str, &'static str, &'static str) {
        const NETWORK: &str = "network.isocast.dev/v1alpha1";
        match self {
            Self::Map => ("/api/v1/namespaces/web/configmaps", "v1", "ConfigMap"),
            Self::Pool => {
                ("/apis/network.isocast.dev/v1alpha1/addresspools", NETWORK, "AddressPool")
            }
            Self::Hosts => (
                "/apis/network.isocast.dev/v1alpha1/namespaces/web/backendpools",
                NETWORK,
                "BackendPool",
            ),
        }
    }

    fn object(self, of: &Value) -> String {
        let (_, version, kind) = self.identity();
        let mut object = of.clone();
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!("m");
        object.to_string()
    }
}

async fn perform(client: &mut Client, on: On, step: &Step) -> Answer {
    const APPLY: &str = "application/apply-patch+yaml";
    let (path, ..) = on.identity();
    let query = format!("fieldManager={}&{}", step.by, step.query.as_deref().unwrap_or_default());
    let one = format!("{path}/m?{query}");
    if let Some(of) = &step.apply {
        client.send(Method::PATCH, &one, APPLY, on.object(of)).await
    } else if let Some(of) = &step.force {
        client.send(Method::PATCH, &format!("{one}&force=true"), APPLY, on.object(of)).await
    } else if let Some(status) = &step.status {
        let path = format!("{path}/m/status?{query}");
        client.send(Method::PATCH, &path, APPLY, on.object(&json!({"status": status}))).await
    } else if let Some(patch) = &step.merge {
        let merge = "application/merge-patch+json";
        client.send(Method::PATCH, &one, merge, patch.to_string()).await
    } else {
        let of = step.create.as_ref().expect("something is done");
        let path = format!("{path}?{query}");
        client.send(Method::POST, &path, "application/json", on.object(of)).await
    }
}

/// Who owns what, but for what the server's own managers say in the status.
fn owners(object: &Value) -> BTreeMap<String, Vec<String>> {
    let mut owners = BTreeMap::new();
    for entry in object["metadata"]["managedFields"].as_array().into_iter().flatten() {
        if entry["subresource"] == "status" {
            continue;
        }
        let mut fields = Vec::new();
        leaves(&entry["fieldsV1"], "", &mut fields);
        let manager = entry["manager"].as_str().expect("a manager");
        let name = match entry["operation"].as_str() {
            Some("Update") => format!("{manager}/Update"),
            _ => manager.to_owned(),
        };
        fields.sort();
        owners.insert(name, fields);
    }
    owners
}

fn leaves(fields: &Value, path: &str, into: &mut Vec<String>) {
    let members = fields.as_object().expect("an object");
    for (name, below) in members {
        let path = match name.split_once(':') {
            Some(("f", field)) => format!("{path}.{field}"),
            Some(("v", value)) => format!("{path}[{value}]"),
            Some(("k", keys)) => format!("{path}[{keys}]"),
            _ => continue,
        };
        if below.as_object().is_some_and(serde_json::Map::is_empty) {
            into.push(path);
        } else {
            leaves(below, &path, into);
        }
    }
}

fn conflicts(body: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let causes = body["details"]["causes"].as_array().into_iter().flatten();
    causes.map(|it| format!("{}: {}", text(&it["message"]), text(&it["field"]))).collect()
}

/// What is wrong with an answer.
fn judge(step: &Step, answer: &Answer, before: Option<&Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    let code = answer.code.as_u16();
    let expected = step.code.or_else(|| step.conflicts.as_ref().map(|_| 409));
    if expected.map_or(code >= 300, |expected| code != expected) {
        wrong.push(format!("{code}: {}", answer.body["message"]));
        return wrong;
    }
    if let Some(expected) = &step.conflicts
        && *expected != conflicts(&answer.body)
    {
        wrong.push(format!("conflicts: {:?}", conflicts(&answer.body)));
    }
    for (part, expected) in step.gives.as_ref().and_then(Value::as_object).into_iter().flatten() {
        if answer.body[part] != *expected {
            wrong.push(format!("{part}: {}", answer.body[part]));
        }
    }
    if let Some(owns) = &step.owns
        && *owns != owners(&answer.body)
    {
        wrong.push(format!("owners: {:?}", owners(&answer.body)));
    }
    if step.same && before != Some(&answer.body["metadata"]["resourceVersion"]) {
        wrong.push("it is another revision".to_owned());
    }
    wrong
}

#[tokio::test]
async fn what_comes_of_each_case_is_as_the_table_says() {
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/apply.yml");
    let table = fs::read_to_string(table).expect("readable");
    let cases: Vec<Case> = serde_saphyr::from_str(&table).expect("cases");
    let api = Api::start();
    let mut client = with_project(&api).await;
    with_neighbours(&mut client).await;
    let mut wrong = Vec::new();
    for Case { case, on, steps } in &cases {
        let mut before = None;
        for (at, step) in steps.iter().enumerate() {
            let answer = perform(&mut client, *on, step).await;
            let judged = judge(step, &answer, before.as_ref());
            wrong.extend(judged.into_iter().map(|it| format!("{case}, step {at}: {it}")));
            before = Some(answer.body["metadata"]["resourceVersion"].clone());
        }
        let path = format!("{}/m", on.identity().0);
        let released = json!({"metadata": {"finalizers": null}});
        drop(client.merge(&path, &released).await);
        drop(client.delete(&path, &json!({})).await);
    }
    assert!(wrong.is_empty(), "{} of {} cases: {wrong:#?}", wrong.len(), cases.len());
}
