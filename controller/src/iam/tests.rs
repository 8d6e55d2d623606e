//! Who may do what: against a model, and by example.

mod examples;
mod model;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    condition::Facts, index::Index, permission::Catalog, principals::SubjectName, tokens::Bearer,
};
use crate::managers::SYSTEM_NAMESPACE;

const NOW: i64 = 1000;
const USERS: &[&str] = &["alice", "bob", "carol"];

fn object(kind: &str, namespace: Option<&str>, name: &str, spec: Value) -> Value {
    let group = if ["Organization", "Folder", "Project"].contains(&kind) {
        "resourcemanager"
    } else {
        "iam"
    };
    json!({
        "apiVersion": format!("{group}.isocast.dev/v1alpha1"), "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}")},
        "spec": spec,
    })
}

fn project(name: &str, parent_kind: &str, parent: &str) -> Value {
    object("Project", None, name, json!({"parent": {"kind": parent_kind, "name": parent}}))
}

fn role(namespace: &str, name: &str, permissions: &[&str], inherits: Value) -> Value {
    let spec = json!({"includedPermissions": permissions, "inheritedRoles": inherits});
    object("Role", Some(namespace), name, spec)
}

fn bind(namespace: &str, name: &str, role: &str, subject: Value) -> Value {
    let spec = json!({
        "role": {"name": role, "namespace": SYSTEM_NAMESPACE}, "subjects": [subject],
    });
    object("PolicyBinding", Some(namespace), name, spec)
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "name": name})
}

fn group(namespace: &str, name: &str) -> Value {
    json!({"kind": "Group", "name": name, "namespace": namespace})
}

fn bearer(name: &str) -> Bearer {
    Bearer::of_account(SubjectName::User(name.into()), &format!("uid-{name}"))
}

fn facts<'a>(name: &'a str, namespace: &'a str, verb: &'a str) -> Facts<'a> {
    Facts {
        now: Timestamp::from_second(NOW).unwrap(),
        verb,
        resource: "anycastservices.network.isocast.dev",
        subresource: "",
        namespace,
        name,
        user: None,
    }
}

fn allows(index: &Index, who: &Bearer, verb: &str, container: &str) -> bool {
    let permission = Catalog::get().find("anycastservices.network.isocast.dev", "", verb).unwrap();
    index.decide(who, permission, container, &facts("www", container, verb)).is_allowed()
}
