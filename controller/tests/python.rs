//! The API as the Kubernetes client of Python sees it: `tests/python/client.py`.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::{env, fs, path::PathBuf, process::Command};

use support::{Api, Said, tools};

/// Where `./dev setup` puts the client.
fn client() -> PathBuf {
    let path = tools().join("python-37.0.2");
    assert!(
        fs::exists(&path).unwrap_or(false),
        "there is no Python client at {}; run `./dev setup`, or set ISOCAST_TOOLS",
        path.display()
    );
    path
}

#[test]
fn a_program_and_a_controller_in_python_work() {
    let api = Api::with_platform();
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/python/client.py");

    let output = Command::new("python3")
        .arg(script)
        .env("PYTHONPATH", client())
        .env("KUBECONFIG", api.kubeconfig())
        .output()
        .expect("python3 runs");

    Said::of(&output).expect_words(&["8 of 8"]);
}
