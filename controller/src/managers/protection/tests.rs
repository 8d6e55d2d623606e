use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    managers::testing::{State, key_of, organization, project},
    store::{Operation, Revision},
};

fn object(kind: &str, namespace: Option<&str>, name: &str, spec: &Value) -> Value {
    let group = match kind {
        "Role" | "PolicyBinding" => "iam",
        "Lien" => "resourcemanager",
        _ => "network",
    };
    json!({
        "apiVersion": format!("{group}.isocast.dev/v1alpha1"), "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": format!("uid-{name}")},
        "spec": spec,
    })
}

fn service(name: &str, pool: &str) -> Value {
    let spec = json!({
        "addresses": [{"claim": "v4"}], "ports": [{"protocol": "TCP", "port": 443}],
        "backendPool": pool,
    });
    object("AnycastService", Some("web"), name, &spec)
}

fn pool(name: &str) -> Value {
    object("BackendPool", Some("web"), name, &json!({"backends": []}))
}

fn lien(namespace: &str, target: (&str, &str)) -> Value {
    let spec = json!({
        "target": {"kind": target.0, "name": target.1}, "reason": "it pays the rent",
        "restrictions": ["delete"],
    });
    object("Lien", Some(namespace), "keep", &spec)
}

fn state() -> State {
    State::default()
        .with(organization("acme"))
        .with(project("web", "acme"))
        .with(pool("www"))
        .with(pool("spare"))
}

#[test]
fn what_is_in_use_is_kept_and_its_users_are_named() {
    let mut state = state();
    let target = key_of(&pool("www"));
    assert!(state.delete(&target).is_ok());
    for number in 0..USERS_SHOWN + 2 {
        state = state.with(service(&format!("s{number}"), "www"));
    }

    let refusal = state.delete(&target).unwrap_err();

    assert_eq!(refusal.code(), 409);
    let message = refusal.message();
    assert!(message.contains("it is in use by anycastservices \"s0\""), "{message}");
    assert!(message.ends_with("anycastservices \"s4\", 2 more"), "{message}");
    assert_eq!(refusal.causes().len(), USERS_SHOWN);
    assert_eq!(refusal.causes()[0].message, "anycastservices \"s0\" names it in spec.backendPool",);
    assert!(state.delete(&key_of(&pool("spare"))).is_ok());
}

#[test]
fn whoever_deletes_in_the_foreground_waits_for_users_instead() {
    let mut waiting = pool("www");
    waiting["metadata"]["deletionTimestamp"] = json!("2026-11-23T14:00:00Z");
    waiting["metadata"]["finalizers"] = json!([gc::FOREGROUND]);
    let used = || state().with(service("s", "www"));
    assert!(used().update(waiting.clone()).is_ok(), "it is marked");

    // Neither the garbage collector nor anybody else lets it go now, or makes it wait for less.
    let marked = used().with(waiting.clone());
    let refusal = marked.delete(&key_of(&waiting)).unwrap_err();
    assert!(refusal.message().contains("it is in use by anycastservices \"s\""), "{refusal}");
    let mut released = waiting.clone();
    released["metadata"]["finalizers"] = json!(["example.com/other"]);
    assert_eq!(marked.update(released.clone()).unwrap_err().code(), 409);

    let unused = state().with(waiting.clone());
    assert!(unused.update(released).is_ok());
    assert!(unused.delete(&key_of(&waiting)).is_ok());
}

#[test]
fn every_kind_that_is_needed_is_kept() {
    let policy = object("BGPPolicy", None, "to-transit", &json!({"terms": []}));
    let peer = json!({
        "connection": "Transit", "nodes": ["edge"], "address": "10.0.0.254", "peerASN": 65001,
        "families": ["IPv4"], "holdTime": "9s", "importPolicy": "to-transit",
    });
    let role = |name: &str, inherits: &Value| {
        let spec = json!({"includedPermissions": [], "inheritedRoles": inherits});
        object("Role", Some("acme"), name, &spec)
    };
    let binding = json!({"role": {"name": "seer", "namespace": "acme"}, "subjects": []});
    let node = json!({"datacenter": "ams", "roles": [], "tunnelAddresses": [], "uplinks": []});
    let pool = json!({"prefixes": ["192.0.2.0/24"], "grants": [], "reuseAfter": "1d"});
    let claim = json!({"pool": "vips", "family": "IPv4"});
    let pairs = [
        (policy, object("BGPPeer", None, "transit", &peer)),
        (role("seer", &json!([])), object("PolicyBinding", Some("web"), "b", &binding)),
        (role("base", &json!([])), role("heir", &json!([{"name": "base"}]))),
        (object("Datacenter", None, "ams", &json!({})), object("Node", None, "edge", &node)),
        (
            object("AddressPool", None, "vips", &pool),
            object("AddressClaim", Some("web"), "v4", &claim),
        ),
        (object("AddressClaim", Some("web"), "v4", &claim), service("www", "www")),
    ];
    for (target, user) in pairs {
        let key = key_of(&target);
        let used = state().with(target).with(user);

        let refusal = used.delete(&key).unwrap_err();

        assert_eq!(refusal.code(), 409, "{key}");
        assert!(refusal.message().contains("it is in use by"), "{refusal}");
    }
}

#[test]
fn who_may_see_nothing_is_told_a_number() {
    let message = refusal(&key_of(&pool("www")), &[], 3).message().to_owned();

    assert!(message.ends_with("it is in use by 3 that you may not see"), "{message}");
}

#[test]
fn a_user_that_goes_itself_keeps_nothing() {
    let mut leaving = service("www", "www");
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-22T19:00:00Z");
    let mut owned = pool("www");
    let target = key_of(&owned);
    let stranger = state().with(leaving.clone());
    assert_eq!(stranger.delete(&target).unwrap_err().code(), 409);
    owned["metadata"]["ownerReferences"] = json!([{"uid": "uid-www"}]);

    assert!(state().with(leaving).with(owned).delete(&target).is_ok());

    let mut dying = project("web", "acme");
    dying["metadata"]["deletionTimestamp"] = json!("2026-11-22T19:00:00Z");
    assert!(state().with(service("www", "www")).with(dying).delete(&target).is_ok());
}

#[test]
fn a_deletion_sees_what_was_written_a_moment_before_in_the_same_batch() {
    let protection = Protection::new(Arc::default());
    let before = state().view();
    protection.open(&before);
    let proposed = |key: Key, new| {
        let actor = Identity::Administrator { name: "admin".into() };
        let old = before.get(&key).cloned();
        ProposedChange::new(actor, "create", None, Timestamp::UNIX_EPOCH, key, (old, new))
    };
    let user = service("www", "www");
    let key = key_of(&user);
    protection.admit(&before, &mut proposed(key.clone(), Some(user.clone()))).unwrap();
    let target = key_of(&pool("www"));

    // The same moment: the user was refused by somebody else.
    assert!(protection.admit(&before, &mut proposed(target.clone(), None)).is_ok());

    protection.admit(&before, &mut proposed(key.clone(), Some(user.clone()))).unwrap();
    let after = state().with(user.clone()).view_at(Revision(2));
    let refusal = protection.admit(&after, &mut proposed(target.clone(), None)).unwrap_err();
    assert_eq!(refusal.code(), 409);

    let event = |operation, old| Event {
        key: key.clone(),
        version: Revision(2).into(),
        operation,
        old,
        document: Arc::new(user.clone().into()),
    };
    protection.follow(&[event(Operation::Put, None)], &after);
    assert!(protection.admit(&after, &mut proposed(target.clone(), None)).is_err());
    protection.follow(&[event(Operation::Delete, Some(Arc::new(user.clone().into())))], &before);
    assert!(protection.admit(&before, &mut proposed(target, None)).is_ok());
}

#[test]
fn a_lien_keeps_its_target_until_it_expires() {
    let target = key_of(&pool("www"));
    let kept = state().with(lien("web", ("BackendPool", "www")));

    let refusal = kept.delete(&target).unwrap_err();

    assert_eq!(refusal.code(), 409);
    let message = refusal.message();
    assert!(
        message.contains("lien \"keep\" in namespace \"web\" forbids to delete it"),
        "{message}"
    );
    assert!(message.ends_with("it pays the rent"), "{message}");
    let mut brief = lien("web", ("BackendPool", "www"));
    brief["spec"]["expiresAt"] = json!("1970-01-01T00:01:40Z");
    let brief = state().with(brief);
    assert!(brief.delete(&target).is_err());
    assert!(brief.at(100).delete(&target).is_ok());
}

#[test]
fn a_lien_keeps_the_containers_above_it() {
    let kept = state().with(lien("web", ("Project", "web")));
    let mut goes = organization("acme");
    goes["metadata"]["deletionTimestamp"] = json!("2026-11-22T19:00:00Z");
    let index = Index::of(&kept.view());

    for (kind, name) in [("projects", "web"), ("organizations", "acme")] {
        let resource = crate::store::Resource::new(kind, "resourcemanager.isocast.dev");
        let key = Key::new(resource, None, name);
        let now = Timestamp::UNIX_EPOCH;
        let found = liens::find(&index, &kept.view(), &key, Restriction::Delete, now);
        assert!(found.is_some(), "{name}");
    }
}

#[test]
fn a_lien_on_updates_keeps_the_spec_and_nothing_else() {
    let mut held = lien("web", ("BackendPool", "www"));
    held["spec"]["restrictions"] = json!(["update"]);
    let state = state().with(held);
    let mut labelled = pool("www");
    labelled["metadata"]["labels"] = json!({"a": "b"});
    let mut grown = pool("www");
    grown["spec"]["slowStart"] = json!("10s");

    assert!(state.update(labelled).is_ok());
    assert_eq!(state.update(grown).unwrap_err().code(), 409);
    assert!(state.delete(&key_of(&pool("www"))).is_ok());
}

#[test]
fn a_lien_is_put_where_its_target_lives_on_what_is_there() {
    let state = state();
    for (namespace, target) in [
        ("web", ("BackendPool", "nothing")),
        ("web", ("Organization", "acme")),
        ("web", ("Datacenter", "ams")),
    ] {
        let refusal = state.create(lien(namespace, target)).unwrap_err();
        assert_eq!((refusal.code(), &*refusal.causes()[0].field), (422, "spec.target"));
    }
    assert!(state.create(lien("web", ("BackendPool", "www"))).is_ok());
    assert!(state.create(lien("acme", ("Organization", "acme"))).is_ok());
}
