//! The rules of containers, against states.

use isocast_api::resourcemanager::{CONTAINERS_ABOVE_MAX, OrganizationSpec, ProjectSpec};
use serde_json::{Value, json};

use crate::managers::{
    lookup,
    testing::{State, granted, organization, project},
};

#[test]
fn containers_share_one_space_of_names() {
    let state = State::default().with(organization("acme"));

    let refusal = state.create(project("acme", "acme")).unwrap_err();

    assert_eq!(refusal.code(), 409);
    assert!(
        refusal.message().contains("projects.resourcemanager.isocast.dev \"acme\" already exists")
    );
}

#[test]
fn reserved_names_are_refused() {
    for name in ["default", "isocast-system", "kube-system"] {
        assert_eq!(State::default().create(organization(name)).unwrap_err().code(), 403);
    }
}

#[test]
fn a_parent_must_exist() {
    let refusal = State::default().create(project("web", "acme")).unwrap_err();

    assert_eq!(refusal.code(), 422);
    assert_eq!(refusal.causes()[0].field, "spec.parent.name");
    assert_eq!(refusal.causes()[0].message, "there is no organization \"acme\"");
}

#[test]
fn containers_nest_to_a_limit() {
    let mut state = State::default().with(organization("org-0"));
    let child = |depth: usize| {
        let mut child = organization(&format!("org-{depth}"));
        child["spec"]["parent"] = json!(format!("org-{}", depth - 1));
        child
    };
    for depth in 1..=CONTAINERS_ABOVE_MAX {
        state = state.with(child(depth));
    }

    let refusal = state.create(child(CONTAINERS_ABOVE_MAX + 1)).unwrap_err();

    assert!(refusal.message().contains("at most 10 containers"), "{refusal}");
}

fn pool(namespace: &str) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
        "metadata": {"name": "www", "namespace": namespace}, "spec": {},
    })
}

fn folder(name: &str, kind: &str, parent: &str) -> Value {
    json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Folder",
        "metadata": {"name": name},
        "spec": {"parent": {"kind": kind, "name": parent}},
    })
}

fn in_folder(name: &str, parent: &str) -> Value {
    let mut project = project(name, parent);
    project["spec"]["parent"]["kind"] = json!("Folder");
    project
}

#[test]
fn containers_move_anywhere_but_below_themselves() {
    let state = State::default()
        .with(organization("acme"))
        .with(organization("globex"))
        .with(folder("eng", "Organization", "acme"))
        .with(folder("web", "Folder", "eng"))
        .with(project("shop", "acme"));

    assert!(state.update(in_folder("shop", "web")).is_ok());
    assert!(state.update(project("shop", "globex")).is_ok());
    assert!(state.update(folder("eng", "Organization", "globex")).is_ok());
    let cycle = state.update(folder("eng", "Folder", "web")).unwrap_err();
    assert_eq!((cycle.code(), cycle.causes()[0].field.as_str()), (422, "spec.parent.name"));
    assert!(cycle.message().contains("would be below itself"), "{cycle}");
}

#[test]
fn what_was_given_to_an_organization_stays_with_it() {
    let claim = |namespace: &str, pool: &str| {
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "AddressClaim",
            "metadata": {"name": format!("on-{pool}"), "namespace": namespace},
            "spec": {"pool": pool, "family": "IPv4"}, "status": {"address": "192.0.2.1"},
        })
    };
    let pool = |name: &str, organizations: &[&str]| {
        let grants: Vec<_> = organizations.iter().map(|it| json!({"organization": it})).collect();
        json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "AddressPool",
            "metadata": {"name": name}, "spec": {"prefixes": ["192.0.2.0/24"], "grants": grants},
            "status": granted(organizations),
        })
    };
    let state = State::default()
        .with(organization("acme"))
        .with(organization("globex"))
        .with(folder("eng", "Organization", "acme"))
        .with(in_folder("shop", "eng"))
        .with(pool("ours", &["acme"]))
        .with(pool("both", &["acme", "globex"]))
        .with(claim("shop", "both"));
    let moved = || folder("eng", "Organization", "globex");
    assert!(state.update(moved()).is_ok());

    let state = state.with(claim("shop", "ours"));

    let refusal = state.update(moved()).unwrap_err();
    assert_eq!((refusal.code(), refusal.causes()[0].field.as_str()), (422, "spec.parent.name"));
    assert_eq!(
        refusal.causes()[0].message,
        "it would take addresses along whose pools are not granted to organization \"globex\": \
         addressclaim shop/on-ours (pool \"ours\")"
    );
    // Elsewhere in its organization it may be.
    assert!(state.update(project("shop", "acme")).is_ok());
}

#[test]
fn nothing_that_moves_refers_to_roles_that_others_can_change() {
    let binding = |name: &str, role: &str, place: &str| {
        json!({
            "apiVersion": "iam.isocast.dev/v1alpha1", "kind": "PolicyBinding",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "role": {"name": role, "namespace": place},
                "subjects": [{"kind": "User", "name": "alice"}],
            },
        })
    };
    let state = State::default()
        .with(organization("acme"))
        .with(organization("globex"))
        .with(folder("eng", "Organization", "acme"))
        .with(in_folder("shop", "eng"))
        .with(binding("platform", "viewer", "isocast-system"))
        .with(binding("folder", "deployer", "eng"));
    // What it refers to goes along.
    assert!(state.update(folder("eng", "Organization", "globex")).is_ok());

    let refusal = state.update(project("shop", "globex")).unwrap_err();
    let message = "policybinding shop/folder (role eng/deployer)";
    assert!(refusal.causes()[0].message.contains(message), "{refusal}");
    assert!(refusal.causes()[0].message.contains("not above it any more"), "{refusal}");
    let state = state.with(binding("top", "deployer", "acme"));
    let refusal = state.update(folder("eng", "Organization", "globex")).unwrap_err();
    assert!(refusal.causes()[0].message.contains("shop/top (role acme/deployer)"), "{refusal}");
}

#[test]
fn a_part_of_an_organization_moves_to_another_one_or_stands_alone() {
    let below = |name: &str, parent: &str| {
        let mut child = organization(name);
        child["spec"]["parent"] = json!(parent);
        child
    };
    let state = State::default()
        .with(organization("acme"))
        .with(organization("globex"))
        .with(below("client", "acme"))
        .with(below("branch", "client"));

    assert!(state.update(below("client", "globex")).is_ok());
    assert!(state.update(organization("client")).is_ok());
    assert!(state.update(below("globex", "branch")).is_ok());
    for (child, parent) in [("client", "branch"), ("client", "client"), ("acme", "branch")] {
        let cycle = state.update(below(child, parent)).unwrap_err();
        assert!(cycle.message().contains("would be below itself"), "{cycle}");
        assert_eq!(cycle.causes()[0].field, "spec.parent");
    }
}

#[test]
fn what_moves_takes_what_is_below_it_into_account() {
    let mut state = State::default()
        .with(organization("acme"))
        .with(folder("a-1", "Organization", "acme"))
        .with(folder("b-1", "Organization", "acme"));
    for depth in 2..=5 {
        state = state.with(folder(&format!("a-{depth}"), "Folder", &format!("a-{}", depth - 1)));
    }
    for depth in 2..=6 {
        state = state.with(folder(&format!("b-{depth}"), "Folder", &format!("b-{}", depth - 1)));
    }

    let refusal = state.update(folder("b-1", "Folder", "a-5")).unwrap_err();

    assert!(refusal.message().contains("at most 10 containers"), "{refusal}");
    assert!(state.update(folder("b-1", "Folder", "a-4")).is_ok());
}

#[test]
fn the_organization_is_found_through_folders() {
    let state = State::default()
        .with(organization("acme"))
        .with(folder("eng", "Organization", "acme"))
        .with(in_folder("shop", "eng"));

    for name in ["acme", "eng", "shop"] {
        let found = lookup::organization_of(&state.view(), name);
        assert_eq!(found.as_deref(), Some("acme"), "{name}");
    }
}

#[test]
fn an_object_needs_a_living_namespace() {
    let claim = || pool("web");

    let refusal = State::default().create(claim()).unwrap_err();
    assert_eq!((refusal.code(), refusal.message()), (404, "namespaces \"web\" not found"));

    let state = State::default().with(organization("acme")).with(project("web", "acme"));
    assert!(state.create(claim()).is_ok());

    let mut leaving = project("web", "acme");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-22T02:00:00Z");
    let refusal = State::default().with(leaving).create(claim()).unwrap_err();
    assert_eq!(refusal.code(), 403);
}

#[test]
fn an_empty_container_goes_at_once_and_one_that_holds_something_is_marked() {
    let state = State::default().with(organization("acme")).with(project("web", "acme"));
    let acme = lookup::key::<OrganizationSpec>("acme");

    let empty = state.delete(&lookup::key::<ProjectSpec>("web")).unwrap();
    assert_eq!(empty.new, None);

    let marked = state.at(1000).delete(&acme).unwrap();
    let new = marked.new.as_ref().unwrap();
    assert_eq!(new["metadata"]["deletionTimestamp"], "1970-01-01T00:16:40Z");
    assert_eq!(new["metadata"]["finalizers"], json!(["resourcemanager.isocast.dev/contents"]));
    assert_eq!(new["status"]["phase"], "Terminating");
    assert_eq!(new["status"]["conditions"][0]["reason"], "Terminating");
}

#[test]
fn nothing_comes_to_be_in_or_below_a_container_that_goes() {
    let state = State::default()
        .with(organization("acme"))
        .with(folder("eng", "Organization", "acme"))
        .with(in_folder("shop", "eng"));
    let marked = state.delete(&lookup::key::<OrganizationSpec>("acme")).unwrap();
    let state = state.after(marked);

    for new in [pool("shop"), pool("eng"), in_folder("late", "eng"), project("late", "acme")] {
        let refusal = state.create(new).unwrap_err();
        assert!([403, 422].contains(&refusal.code()), "{refusal}");
        assert!(
            refusal.message().contains("being terminated")
                || refusal.message().contains("is being deleted"),
            "{refusal}"
        );
    }
    let state = state.with(organization("globex"));
    let moved = state.update(project("shop", "acme")).unwrap_err();
    assert!(moved.message().contains("is being deleted"), "{moved}");
}

#[test]
fn the_mark_stays_until_the_container_is_empty() {
    let state = State::default().with(organization("acme")).with(project("web", "acme"));
    let acme = lookup::key::<OrganizationSpec>("acme");
    let marked = state.delete(&acme).unwrap();
    let state = state.after(marked);
    let mut freed = state.get(&acme).unwrap();
    freed["metadata"]["finalizers"] = json!(["example.com/other"]);

    assert_eq!(state.update(freed.clone()).unwrap_err().code(), 409);
    assert_eq!(state.delete(&acme).unwrap_err().code(), 409);

    let gone = state.delete(&lookup::key::<ProjectSpec>("web")).unwrap();
    let state = state.after(gone);
    assert!(state.update(freed).is_ok());
    assert!(state.delete(&acme).is_ok());
}

#[test]
fn tenants_have_numbers_of_their_own_that_stay() {
    let first = State::default().create(organization("a")).unwrap();
    let number = first.new.as_ref().unwrap()["status"]["tenantID"].clone();
    assert!(number.as_u64().is_some_and(|number| (1..1 << 24).contains(&number)));

    // The same uid hashes to the same number, which is taken by now.
    let state = State::default().with(first.new.unwrap());
    let second = state.create(organization("b")).unwrap().new.unwrap();
    assert_ne!(second["status"]["tenantID"], number);

    let mut forged = organization("a");
    forged["status"] = json!({"tenantID": 7});
    let kept = state.update(forged).unwrap().new.unwrap();
    assert_eq!(kept["status"]["tenantID"], number);
}
