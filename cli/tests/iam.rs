//! What the program says of rights, asked of a control plane that runs.

#[path = "support/platform.rs"]
mod platform;

use platform::{Platform, text};
use serde_json::json;

/// alice is in the group acme/team, which sees what is in the folder eng, above the project shop.
fn platform() -> Platform {
    let platform = Platform::start();
    let parent = |kind: &str, name: &str| json!({"parent": {"kind": kind, "name": name}});
    platform.create("resourcemanager", "Organization", None, "acme", &json!({}));
    platform.create("resourcemanager", "Folder", None, "eng", &parent("Organization", "acme"));
    platform.create("resourcemanager", "Project", None, "shop", &parent("Folder", "eng"));
    platform.create("iam", "User", None, "alice", &json!({}));
    platform.create("iam", "Group", Some("acme"), "team", &json!({}));
    let member = json!({"group": "team", "member": {"kind": "User", "name": "alice"}});
    platform.create("iam", "GroupMembership", Some("acme"), "alice", &member);
    let role = json!({"includedPermissions": [
        "network.isocast.dev/anycastservices.get", "network.isocast.dev/anycastservices.list",
        "network.isocast.dev/anycastservices/status.get",
    ]});
    platform.create("iam", "Role", Some("acme"), "reader", &role);
    let binding = json!({
        "role": {"name": "reader", "namespace": "acme"},
        "subjects": [{"kind": "Group", "name": "team", "namespace": "acme"}],
    });
    platform.create("iam", "PolicyBinding", Some("eng"), "team", &binding);
    platform
}

#[test]
fn an_explanation_names_the_binding_and_the_way_to_it() {
    let platform = platform();

    let yes =
        platform.isocast(&["iam", "explain", "alice", "get", "services", "www", "-n", "shop"]);
    let no = platform.isocast(&["iam", "explain", "alice", "delete", "services", "-n", "shop"]);
    let nobody = platform.isocast(&["iam", "explain", "bob", "get", "services", "-n", "shop"]);

    let expected = "\
alice may get anycastservices/www in shop
  reason     a binding allows it
  binding    eng/team
  role       acme/reader
  through    alice -> acme/team
  inherited  shop <- eng
";
    assert_eq!(text(&yes.stdout), expected);
    assert_eq!(text(&no.stdout), "alice may not delete anycastservices in shop\n");
    let expected = "\
bob may not get anycastservices in shop
  reason     there is no such account
";
    assert_eq!(text(&nobody.stdout), expected);
}

#[test]
fn what_somebody_may_in_a_container_is_a_table() {
    let platform = platform();

    let below = platform.isocast(&["iam", "effective", "alice", "-n", "shop"]);
    let above = platform.isocast(&["iam", "effective", "alice", "-n", "acme"]);

    let expected = "\
RESOURCE                 GROUP                 VERBS
anycastservices          network.isocast.dev   get, list
anycastservices/status   network.isocast.dev   get
";
    assert_eq!(text(&below.stdout), expected);
    assert_eq!(text(&above.stdout), "RESOURCE   GROUP   VERBS\n");
}
