//! What the API says of itself, held against it by schemathesis: requests made of every path of the
//! served OpenAPI documents, well-formed and not, and every answer as it is declared.
//!
//! `ISOCAST_FUZZ_EXAMPLES` requests a path and method (2 unless told) by the seed `ISOCAST_FUZZ_SEED`
//! (1 unless told); what fails is printed with its seed and a curl command. `ISOCAST_FUZZ_PHASES` may
//! also be `coverage`, each rule of each schema kept and broken once, which takes minutes.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use support::{
    Api, PLATFORM,
    accounts::{IAM, binding, iam, user},
    client::Client,
    tools,
};

/// Where `./dev setup` puts it.
fn program() -> PathBuf {
    let path = tools().join("schemathesis-4.32.5");
    assert!(
        fs::exists(&path).unwrap_or(false),
        "there is no schemathesis at {}; run `./dev setup`, or set ISOCAST_TOOLS",
        path.display()
    );
    path
}

/// All served documents as one: no path and no schema is in two of them with another meaning.
async fn document(client: &mut Client) -> Value {
    let mut whole = json!({"paths": {}, "components": {"schemas": {}}});
    let index = client.get("/openapi/v3").await.body;
    for entry in index["paths"].as_object().expect("paths").values() {
        let url = entry["serverRelativeURL"].as_str().expect("a URL");
        let mut document = client.get(url).await.body;
        for (parts, is_same) in [("/paths", false), ("/components/schemas", true)] {
            let added = document.pointer_mut(parts).expect("parts").take();
            let all = whole.pointer_mut(parts).and_then(Value::as_object_mut).expect("parts");
            for (name, part) in added.as_object().expect("an object") {
                let before = all.insert(name.clone(), part.clone());
                assert!(before.is_none_or(|before| is_same && before == *part), "{name}");
            }
        }
        for field in ["openapi", "info", "security"] {
            whole[field] = document[field].take();
        }
        whole["components"]["securitySchemes"] = document["components"]["securitySchemes"].take();
    }
    whole
}

/// A token of somebody who may do everything.
async fn token(client: &mut Client) -> String {
    let everything = json!({"includedPermissions": ["*/*.*", "*/*/*.*"]});
    let system = "isocast-system";
    let role = iam("Role", Some(system), "everything", &everything);
    client.create(&format!("{IAM}/namespaces/{system}/roles"), &role).await;
    client.create(&format!("{IAM}/users"), &iam("User", None, "tester", &json!({}))).await;
    let binding = binding(system, "tester", "everything", &user("tester"));
    client.create(&format!("{IAM}/namespaces/{system}/policybindings"), &binding).await;
    client.token(&format!("{IAM}/users/tester/token"), &json!({})).await
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_unset| default.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_one_that_the_documents_declare() {
    let api = Api::start();
    api.kubectl_in(PLATFORM, &["apply", "-f", "-"]).expect_ok();
    let mut client = api.admin().await;
    let folder = api.folder.path();
    let (described, ca) = (folder.join("openapi.json"), folder.join("ca.pem"));
    fs::write(&described, document(&mut client).await.to_string()).expect("written");
    let text = fs::read(api.kubeconfig()).expect("readable");
    let kubeconfig: Value = serde_json::from_slice(&text).expect("JSON");
    let cluster = &kubeconfig["clusters"][0]["cluster"];
    let pem = cluster["certificate-authority-data"].as_str().expect("text");
    fs::write(&ca, STANDARD.decode(pem).expect("base64")).expect("written");
    let token = token(&mut client).await;
    let phases = setting("ISOCAST_FUZZ_PHASES", "fuzzing");
    // It cannot cover schemas in two threads: Python's parser counts how deep both are together.
    let workers = if phases.contains("coverage") { "1" } else { "2" };
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemathesis");

    let output = Command::new("python3")
        .args(["-m", "schemathesis.cli", "--config-file"])
        .arg(own.join("schemathesis.toml"))
        .arg("run")
        .arg(&described)
        .args(["--url", cluster["server"].as_str().expect("text"), "--tls-verify"])
        .arg(&ca)
        .args(["--max-examples", &setting("ISOCAST_FUZZ_EXAMPLES", "2")])
        .args(["--seed", &setting("ISOCAST_FUZZ_SEED", "1")])
        .args(["--phases", &phases, "--no-color", "--workers", workers])
        .env("PYTHONPATH", program())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", own.join("hooks.py"))
        .env("ISOCAST_TOKEN", &token)
        // It keeps what it found in the folder that it runs in.
        .current_dir(folder)
        .output()
        .expect("python3 runs");

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", said.lines().rev().take(12).collect::<Vec<_>>().join("\n"));
    // It has not passed because nothing was asked, or nobody let in.
    assert!(said.contains("No issues found"), "{said}");
    let still = api.bearer(&token).await.get("/apis/network.isocast.dev/v1alpha1/nodes").await;
    assert!(still.code.is_success(), "what the run stands on is gone: {still:?}");
}
