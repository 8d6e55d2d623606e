//! What the program says of records, asked of a control plane that runs.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "support/platform.rs"]
mod platform;

use platform::{Platform, text};
use serde_json::{Value, json};

/// The anchor that a check ends with.
fn anchor(said: &str) -> &str {
    said.lines().find_map(|line| line.strip_prefix("anchor ")).unwrap()
}

#[test]
fn records_are_found_exported_and_checked_against_an_anchor_also_after_the_log_forgot_them() {
    let platform = Platform::start_keeping(1);
    platform.create("resourcemanager", "Organization", None, "acme", &json!({}));
    platform.create("iam", "User", None, "alice", &json!({}));

    let found = platform.isocast(&["audit", "search", "--resource", "organizations"]);
    let found = text(&found.stdout);
    let lines: Vec<&str> = found.lines().collect();
    assert!(lines[0].starts_with("TIME"), "{found}");
    assert!(lines[1].contains("organizations acme") && lines[1].contains("Changed"), "{found}");
    let none = platform.isocast(&["audit", "search", "--actor", "nobody", "-o", "json"]);
    assert_eq!(serde_json::from_slice::<Value>(&none.stdout).unwrap(), json!({"items": []}));
    let exported = platform.isocast(&["audit", "export", "--resource", "users", "--name", "alice"]);
    let event: Value = serde_json::from_slice(&exported.stdout).unwrap();
    assert_eq!((&event["kind"], &event["verb"]), (&json!("Event"), &json!("create")));

    let first = platform.isocast(&["audit", "verify"]);
    assert!(first.status.success(), "{first:?}");
    let first = text(&first.stdout);
    let noted = anchor(&first);
    // Until the log has forgotten all that the anchor is about.
    for number in 0..600 {
        platform.create("iam", "User", None, &format!("user-{number}"), &json!({}));
    }
    let same = platform.isocast(&["audit", "verify", "--anchor", noted]);
    assert!(same.status.success(), "{same:?}");
    assert!(text(&same.stdout).starts_with("intact from revision 1 to "), "{same:?}");
    let changes = platform.isocast(&["audit", "search", "--name", "acme", "-o", "json"]);
    let changes: Value = serde_json::from_slice(&changes.stdout).unwrap();
    assert_eq!(changes["items"][0]["changes"], json!(null), "only the record is left: {changes}");

    let (revision, _) = noted.split_once(':').unwrap();
    let forged = format!("{revision}:{}", "0".repeat(64));
    let other = platform.isocast(&["audit", "verify", "--anchor", &forged]);
    assert!(!other.status.success());
    assert!(text(&other.stderr).contains("are not those of the anchor"), "{other:?}");
    let ahead = platform.isocast(&["audit", "verify", "--anchor", "99999999:00"]);
    assert!(text(&ahead.stderr).contains("is not among the records"), "{ahead:?}");
}
