//! Organizations and projects.

use serde_json::{Value, json};

use super::{object, refusals, table, updated};

#[test]
fn organization() {
    table(
        "Organization",
        &json!({"displayName": "Acme", "parent": "holding"}),
        &[
            (
                &[("/parent", json!("Holding"))],
                "spec.parent: Invalid value: \"Holding\": must be 1 to 63 lower-case letters, digits or '-', beginning and ending with a letter or digit (for example 'web-prod')",
            ),
            (
                &[("/displayName", json!("x".repeat(101)))],
                "spec.displayName: Too long: may not be longer than 100 characters",
            ),
            (&[("/color", json!("red"))], "spec.color: Forbidden: there is no such field"),
        ],
    );
    let moved = updated("Organization", json!({"parent": "a"}), json!({"parent": "b"}));
    assert_eq!(moved, [""; 0]);
}

#[test]
fn names_of_containers_are_labels_and_others_are_subdomains() {
    let mut organization = object("Organization", json!({}));
    organization["metadata"]["name"] = json!("a.b");
    assert_eq!(refusals(&organization, None).len(), 1);
    assert!(refusals(&organization, None)[0].starts_with("metadata.name: Invalid value: \"a.b\""));

    let mut pool = object("BackendPool", json!({}));
    pool["metadata"]["name"] = json!("a.b");
    assert_eq!(refusals(&pool, None), [""; 0]);
    pool["metadata"]["name"] = json!("a_b");
    assert_eq!(refusals(&pool, None).len(), 1);
}

#[test]
fn project() {
    let good = json!({"parent": {"kind": "Organization", "name": "acme"}});
    table(
        "Project",
        &good,
        &[
            (&[("/parent", Value::Null)], "spec.parent: Required value"),
            (&[("/parent/name", Value::Null)], "spec.parent.name: Required value"),
            (
                &[("/parent/kind", json!("Team"))],
                "spec.parent.kind: Unsupported value: \"Team\": supported values: \"Folder\", \"Organization\"",
            ),
            (
                &[("/parent", json!("acme"))],
                "spec.parent: Invalid value: \"string\": must be of type object",
            ),
        ],
    );
    let moved = json!({"parent": {"kind": "Folder", "name": "shop"}});
    assert_eq!(updated("Project", good, moved), [""; 0]);
}
