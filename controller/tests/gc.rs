//! Garbage collection as real kubectl 1.37 asks for it.

#![allow(
    clippy::allow_attributes,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod support;

use std::time::{Duration, Instant};

use support::{Api, SERVICE};

const WEB: &[&str] = &["-n", "web-prod"];

fn with<'a>(first: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    [first, rest].concat()
}

fn uid(api: &Api, name: &str) -> String {
    let object = api.get(&with(&["bpool", name], WEB));
    object["metadata"]["uid"].as_str().expect("a uid").to_owned()
}

fn pool(namespace: &str, name: &str, owner: Option<(&str, &str, &str)>) -> String {
    let owners = match owner {
        None => String::new(),
        Some((kind, owner, uid)) => format!(
            "\n  ownerReferences: [{{apiVersion: network.isocast.dev/v1alpha1, kind: {kind}, \
             name: {owner}, uid: \"{uid}\", blockOwnerDeletion: true}}]"
        ),
    };
    format!(
        "---\napiVersion: network.isocast.dev/v1alpha1\nkind: BackendPool\n\
         metadata:\n  name: {name}\n  namespace: {namespace}{owners}\nspec: {{}}\n"
    )
}

/// An owner with three dependents.
fn family(api: &Api) {
    api.kubectl_in(&pool("web-prod", "owner", None), &["apply", "-f", "-"]).expect_ok();
    let uid = uid(api, "owner");
    let children: String = (0..3)
        .map(|number| {
            pool("web-prod", &format!("child-{number}"), Some(("BackendPool", "owner", &uid)))
        })
        .collect();
    api.kubectl_in(&children, &["apply", "-f", "-"]).expect_ok();
}

fn names(api: &Api) -> Vec<String> {
    let said = api.kubectl(&with(&["get", "bpool", "-o", "name"], WEB)).expect_ok();
    let names = said.out.lines().filter_map(|line| line.split_once('/'));
    names.map(|(_, name)| name.to_owned()).filter(|name| name != "www").collect()
}

fn wait_for(api: &Api, expected: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while names(api) != expected {
        assert!(Instant::now() < deadline, "{:?} instead of {expected:?}", names(api));
    }
}

#[test]
fn dependents_go_after_their_owner_in_the_background() {
    let api = Api::with_platform();
    family(&api);

    api.kubectl(&with(&["delete", "bpool", "owner", "--cascade=background"], WEB)).expect_ok();

    wait_for(&api, &[]);
}

/// As Helm uninstalls: kinds that it does not know in the order of their names, so what is used first.
#[test]
fn what_is_in_use_waits_for_its_users_in_the_foreground() {
    let api = Api::with_platform();
    api.kubectl_in(SERVICE, &["apply", "-f", "-"]).expect_ok();
    let delete = ["delete", "--timeout=60s", "addressclaim/www-v4", "bpool/www"];
    let refused = api.kubectl(&with(&delete, WEB));
    assert!(!refused.ok, "{}", refused.out);
    assert!(refused.err.contains("it is in use by anycastservices"), "{}", refused.err);

    let all = [&delete[..], &["anycastservice/www", "--cascade=foreground"]].concat();
    api.kubectl(&with(&all, WEB)).expect_ok();

    let left = ["get", "addressclaim/www-v4", "bpool/www", "anycastservice/www", "-o", "name"];
    let left = api.kubectl(&with(&left, WEB));
    assert_eq!(left.out, "", "all of them are gone");
    assert_eq!(left.err.matches("(NotFound)").count(), 3, "{}", left.err);
}

#[test]
fn dependents_go_before_their_owner_in_the_foreground() {
    let api = Api::with_platform();
    family(&api);

    // kubectl waits until the owner is gone.
    api.kubectl(&with(&["delete", "bpool", "owner", "--cascade=foreground", "--timeout=60s"], WEB))
        .expect_ok();

    assert_eq!(names(&api), [""; 0]);
}

#[test]
fn orphans_stay_and_name_no_owner() {
    let api = Api::with_platform();
    family(&api);

    api.kubectl(&with(&["delete", "bpool", "owner", "--cascade=orphan", "--timeout=60s"], WEB))
        .expect_ok();

    assert_eq!(names(&api), ["child-0", "child-1", "child-2"]);
    let child = api.get(&with(&["bpool", "child-0"], WEB));
    let owners = child["metadata"].get("ownerReferences").and_then(|it| it.as_array());
    assert!(owners.is_none_or(Vec::is_empty), "{child}");
}

#[test]
fn an_owner_is_of_the_same_namespace_or_of_none() {
    let api = Api::with_platform();
    api.kubectl_in(&pool("web-prod", "owner", None), &["apply", "-f", "-"]).expect_ok();
    let owner = uid(&api, "owner");

    // The owner is looked for where the dependent is.
    let stray = pool("acme", "stray", Some(("BackendPool", "owner", &owner)));
    api.kubectl_in(&stray, &["create", "-f", "-"]).expect_ok();
    let deadline = Instant::now() + Duration::from_secs(60);
    while api.kubectl(&["-n", "acme", "get", "bpool", "stray"]).ok {
        assert!(Instant::now() < deadline, "it stays");
    }

    let site = format!(
        "apiVersion: network.isocast.dev/v1alpha1\nkind: Datacenter\nmetadata:\n  name: fra\n  \
         ownerReferences: [{{apiVersion: network.isocast.dev/v1alpha1, kind: BackendPool, name: \
         owner, uid: {owner}}}]\nspec: {{}}\n"
    );
    api.kubectl_in(&site, &["create", "-f", "-"])
        .expect_refusal(&["metadata.ownerReferences[0]", "no namespace"]);

    let site = api.get(&["dc", "ams"]);
    let ams = site["metadata"]["uid"].as_str().expect("a uid");
    let below = pool("web-prod", "below", Some(("Datacenter", "ams", ams)));
    api.kubectl_in(&below, &["create", "-f", "-"]).expect_ok();
    api.kubectl(&["delete", "dc", "ams"]).expect_ok();
    wait_for(&api, &["owner"]);
}

#[test]
fn what_is_in_use_outlives_its_owner_until_it_is_not() {
    let api = Api::with_platform();
    api.kubectl_in(&pool("web-prod", "owner", None), &["apply", "-f", "-"]).expect_ok();
    let owner = uid(&api, "owner");
    let child = pool("web-prod", "child", Some(("BackendPool", "owner", &owner)));
    api.kubectl_in(&child, &["apply", "-f", "-"]).expect_ok();
    let service = SERVICE.replace("backendPool: www", "backendPool: child");
    api.kubectl_in(&service, &["apply", "-f", "-"]).expect_ok();

    api.kubectl(&with(&["delete", "bpool", "owner"], WEB)).expect_ok();
    api.kubectl(&with(&["delete", "bpool", "child"], WEB))
        .expect_refusal(&["Conflict", "it is in use by anycastservices \"www\""]);
    api.kubectl(&with(&["delete", "acs", "www"], WEB)).expect_ok();

    wait_for(&api, &[]);
}

#[test]
fn a_lien_keeps_a_project_and_says_why() {
    let api = Api::with_platform();
    let lien = "
apiVersion: resourcemanager.isocast.dev/v1alpha1
kind: Lien
metadata: {name: keep, namespace: web-prod}
spec: {target: {kind: BackendPool, name: www}, reason: it pays the rent}
";
    api.kubectl_in(lien, &["apply", "-f", "-"]).expect_ok();

    let delete = with(&["delete", "bpool", "www"], WEB);
    api.kubectl(&delete).expect_refusal(&["Conflict", "lien \"keep\"", "it pays the rent"]);
    api.kubectl(&with(&["get", "liens"], WEB)).expect_words(&["keep", "BackendPool", "delete"]);
    api.kubectl(&with(&["delete", "lien", "keep"], WEB)).expect_ok();
    api.kubectl(&delete).expect_ok();
}
