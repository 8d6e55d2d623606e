//! Roles, bindings and memberships.

use serde_json::{Value, json};

use super::{table, updated};

#[test]
fn role() {
    let well_formed = "must be GROUP/RESOURCE.VERB or GROUP/RESOURCE/SUBRESOURCE.VERB, with * for \
                       any (for example 'network.isocast.dev/anycastservices.get')";
    table(
        "Role",
        &json!({
            "includedPermissions": ["network.isocast.dev/*.get", "*/*/*.get"],
            "inheritedRoles": [{"name": "viewer", "namespace": "isocast-system"}],
        }),
        &[
            (
                &[("/includedPermissions/0", json!("nodes.get"))],
                &format!(
                    "spec.includedPermissions[0]: Invalid value: \"nodes.get\": {well_formed}"
                ),
            ),
            (
                &[("/includedPermissions/1", json!("network.isocast.dev/*.get"))],
                "spec.includedPermissions[1]: Duplicate value: \"network.isocast.dev/*.get\"",
            ),
            (
                &[("/inheritedRoles/-", json!({"name": "viewer", "namespace": "isocast-system"}))],
                "spec.inheritedRoles[1]: Duplicate value: \"viewer\"",
            ),
            (
                &[("/launchStage", json!("Final"))],
                "spec.launchStage: Unsupported value: \"Final\": supported values: \"Alpha\", \"Beta\", \"Stable\", \"Deprecated\"",
            ),
        ],
    );
}

#[test]
fn policy_binding() {
    let good = json!({
        "role": {"name": "viewer", "namespace": "isocast-system"},
        "subjects": [
            {"kind": "User", "name": "alice"},
            {"kind": "Group", "name": "system:authenticated"},
        ],
    });
    table(
        "PolicyBinding",
        &good,
        &[
            (
                &[("/subjects", json!([]))],
                "spec.subjects: Required value: must have at least 1 item",
            ),
            (
                &[("/subjects/-", json!({"kind": "User", "name": "alice"}))],
                "spec.subjects[2]: Duplicate value: \"alice\"",
            ),
            (
                &[("/subjects/0/namespace", json!("acme"))],
                "spec.subjects[0].namespace: Forbidden: a User has none",
            ),
            (
                &[("/subjects/0/name", json!("system:masters"))],
                "spec.subjects[0].name: Invalid value: \"system:masters\": must be 1 to 253 lower-case letters, digits, '-' or '.', beginning and ending with a letter or digit (for example 'edge-1.ams')",
            ),
            (
                &[("/subjects/1/namespace", json!("acme"))],
                "spec.subjects[1].namespace: Forbidden: system:authenticated has none",
            ),
            (
                &[("/condition", json!({"expression": ""}))],
                "spec.condition.expression: Invalid value: \"\": should be at least 1 characters long",
            ),
            (
                &[("/expiresAt", json!("soon"))],
                "spec.expiresAt: Invalid value: \"soon\": must be a time such as 2026-11-22T02:00:00Z (RFC 3339)",
            ),
        ],
    );
    let mut other = good.clone();
    other["role"]["name"] = json!("admin");
    assert_eq!(
        updated("PolicyBinding", good, other),
        ["spec.role: Invalid value: is immutable: delete the object and create it again"],
    );
}

#[test]
fn group_membership() {
    let good = json!({"group": "web", "member": {"kind": "User", "name": "alice"}});
    table(
        "GroupMembership",
        &good,
        &[
            (&[("/group", Value::Null)], "spec.group: Required value"),
            (
                &[("/member", json!({"kind": "Group", "name": "system:authenticated"}))],
                "spec.member: Forbidden: everybody cannot be a member: bind the role to them instead",
            ),
        ],
    );
    let other = json!({"group": "ops", "member": {"kind": "User", "name": "alice"}});
    assert_eq!(
        updated("GroupMembership", good, other),
        ["spec.group: Invalid value: is immutable: delete the object and create it again"],
    );
}
