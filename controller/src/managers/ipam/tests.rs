use isocast_api::registry;
use serde_json::{Value, json};

use super::*;
use crate::managers::testing::{State, granted, organization, project};

fn pool(name: &str, prefixes: &[&str], organizations: &[&str]) -> Value {
    let grants: Vec<_> = organizations.iter().map(|it| json!({"organization": it})).collect();
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "AddressPool",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "labels": {"kept": "yes"}},
        "spec": {"prefixes": prefixes, "grants": grants, "reuseAfter": "10m"},
        "status": granted(organizations),
    })
}

fn claim(namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "AddressClaim",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    })
}

fn any(pool: &str) -> Value {
    json!({"pool": pool, "family": "IPv4"})
}

fn exactly(pool: &str, address: &str) -> Value {
    json!({"pool": pool, "address": address})
}

fn claim_key(namespace: &str, name: &str) -> Key {
    Key::new(lookup::resource::<AddressClaimSpec>(), Some(namespace), name)
}

/// Two tenants, a pool of four addresses for one of them.
fn state() -> State {
    State::default()
        .with(organization("acme"))
        .with(project("web", "acme"))
        .with(project("shop", "acme"))
        .with(organization("globex"))
        .with(project("other", "globex"))
        .with(pool("vips", &["203.0.113.0/30", "2001:db8:f::/48"], &["acme"]))
}

fn create(state: State, value: Value) -> State {
    let change = state.create(value).unwrap();
    state.after(change)
}

fn address(state: &State, namespace: &str, name: &str) -> String {
    state.get(&claim_key(namespace, name)).unwrap()["status"]["address"].as_str().unwrap().into()
}

fn pool_status(state: &State, name: &str) -> Value {
    state.get(&lookup::key::<AddressPoolSpec>(name)).unwrap()["status"].clone()
}

#[test]
fn a_claim_gets_the_lowest_free_address_with_its_creation() {
    let mut state = state();
    for name in ["a", "b"] {
        state = create(state, claim("web", name, any("vips")));
    }
    state = create(state, claim("web", "six", json!({"pool": "vips", "family": "IPv6"})));

    assert_eq!(address(&state, "web", "a"), "203.0.113.0");
    assert_eq!(address(&state, "web", "b"), "203.0.113.1");
    assert_eq!(address(&state, "web", "six"), "2001:db8:f::");
    let stored = state.get(&claim_key("web", "a")).unwrap();
    assert_eq!(stored["status"]["conditions"][0]["type"], "Allocated");
    assert_eq!(pool_status(&state, "vips")["allocated"], 3);
}

#[test]
fn counting_an_allocation_leaves_the_rest_of_the_pool_as_it_was() {
    let state = create(state(), claim("web", "a", any("vips")));

    let stored = state.get(&lookup::key::<AddressPoolSpec>("vips")).unwrap();

    assert_eq!(stored["metadata"]["labels"]["kept"], "yes");
    assert_eq!(
        stored["spec"],
        pool("vips", &["203.0.113.0/30", "2001:db8:f::/48"], &["acme"])["spec"]
    );
    let kind = registry::kinds().iter().find(|kind| kind.kind == "AddressPool").unwrap();
    assert_eq!((kind.validate)(stored, None), []);
}

#[test]
fn an_address_is_held_once_and_the_refusal_names_pool_holder_and_what_is_free() {
    let state = create(state(), claim("web", "a", exactly("vips", "203.0.113.2")));

    let refusal = state.create(claim("shop", "b", exactly("vips", "203.0.113.2"))).unwrap_err();

    assert_eq!(refusal.code(), 409);
    assert_eq!(
        refusal.message(),
        "addressclaim \"b\": 203.0.113.2 of addresspool \"vips\" is held by addressclaim \"a\" in \
         namespace \"web\"; the lowest free IPv4 address is 203.0.113.0",
    );
    assert_eq!(refusal.causes()[0].field, "spec.address");
}

#[test]
fn a_holder_of_another_organization_is_not_named() {
    let state = state().with(pool("vips", &["203.0.113.0/30"], &["acme", "globex"]));
    let state = create(state, claim("web", "a", exactly("vips", "203.0.113.2")));

    let refusal = state.create(claim("other", "b", exactly("vips", "203.0.113.2"))).unwrap_err();

    assert!(refusal.message().contains("is held by another organization"), "{refusal}");
    assert!(!refusal.message().contains("web"), "{refusal}");
}

#[test]
fn an_exhausted_pool_names_others_that_have_addresses() {
    let mut state = state().with(pool("spare", &["198.51.100.0/32"], &["acme"]));
    for name in ["a", "b", "c", "d"] {
        state = create(state, claim("web", name, any("vips")));
    }

    let refusal = state.create(claim("web", "e", any("vips"))).unwrap_err();

    assert_eq!(refusal.code(), 409);
    assert_eq!(
        refusal.message(),
        "addressclaim \"e\": no IPv4 address of addresspool \"vips\" (203.0.113.0/30) is free; \
         free ones are in \"spare\"",
    );
}

#[test]
fn claims_outside_the_grants_are_forbidden() {
    let cases = [
        ("other", any("vips"), 403, "\"vips\" is not granted to organization \"globex\""),
        ("web", exactly("vips", "198.51.100.1"), 403, "198.51.100.1 is outside addresspool"),
        ("web", any("nothing"), 422, "spec.pool: there is no addresspool \"nothing\""),
        ("isocast-system", any("vips"), 403, "belongs to no organization"),
    ];
    for (namespace, spec, code, message) in cases {
        let refusal = state().create(claim(namespace, "a", spec)).unwrap_err();

        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(refusal.message().contains(message), "{refusal}");
    }
}

#[test]
fn a_released_address_rests_before_it_is_given_out_again() {
    let mut state = create(state(), claim("web", "a", any("vips"))).at(1_000);
    let change = state.delete(&claim_key("web", "a")).unwrap();
    state = state.after(change);
    assert_eq!(pool_status(&state, "vips")["allocated"], 0);
    assert_eq!(
        pool_status(&state, "vips")["released"],
        json!([{"address": "203.0.113.0", "reusableAt": "1970-01-01T00:26:40Z"}])
    );

    let refusal = state.create(claim("web", "b", exactly("vips", "203.0.113.0"))).unwrap_err();
    assert!(refusal.message().contains("at rest until 1970-01-01T00:26:40Z"), "{refusal}");
    state = create(state, claim("web", "b", any("vips")));
    assert_eq!(address(&state, "web", "b"), "203.0.113.1");

    state = create(state.at(1_601), claim("web", "c", any("vips")));
    assert_eq!(address(&state, "web", "c"), "203.0.113.0");
    assert_eq!(pool_status(&state, "vips")["released"], Value::Null);
}

#[test]
fn a_pool_remembers_released_addresses_to_a_limit() {
    let mut full = pool("vips", &["203.0.112.0/20"], &["acme"]);
    let at_rest = |index: usize| {
        let address = format!("203.0.{}.{}", 112 + index / 256, index % 256);
        json!({"address": address, "reusableAt": "1970-01-01T01:00:00Z"})
    };
    let mut holder = claim("web", "a", exactly("vips", "203.0.127.255"));
    holder["status"] = json!({"address": "203.0.127.255"});
    full["status"] = json!({"released": (1..RELEASED_MAX).map(at_rest).collect::<Vec<_>>()});
    let state = state().with(holder).with(full.clone());
    assert!(state.delete(&claim_key("web", "a")).is_ok());

    full["status"] = json!({"released": (0..RELEASED_MAX).map(at_rest).collect::<Vec<_>>()});
    let refusal = state.with(full).delete(&claim_key("web", "a")).unwrap_err();

    assert_eq!((refusal.code(), refusal.retry_after()), (429, Some(3600)));
}

fn pool_key() -> Key {
    lookup::key::<AddressPoolSpec>("vips")
}

/// Somebody may claim, or is told that the pool is not granted to them.
fn may_claim(state: &State, namespace: &str) -> bool {
    match state.create(claim(namespace, "a", any("vips"))) {
        Ok(_) => true,
        Err(refusal) => {
            let message = refusal.message();
            assert!(refusal.code() == 403 && message.contains("not granted"), "{refusal}");
            false
        }
    }
}

fn granted_condition(state: &State) -> (Value, Value) {
    let status = pool_status(state, "vips");
    let conditions = status["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|it| it["type"] == "Granted").unwrap();
    (condition["status"].clone(), condition["message"].clone())
}

/// The organization with another identity.
fn another(name: &str) -> Value {
    let mut another = organization(name);
    another["metadata"]["uid"] = json!("another");
    another
}

#[test]
fn an_organization_that_comes_back_under_its_name_has_none_of_the_former_ones_grants() {
    let granting = |organizations: &[&str]| {
        let mut pool = pool("vips", &["203.0.113.0/30"], organizations);
        // What a writer says of whom it is for counts for nothing.
        pool["status"] = json!({"grants": [{"organization": "acme", "uid": "another"}]});
        pool
    };
    let update = |state: State, value: Value| {
        let change = state.update(value).unwrap();
        state.after(change)
    };
    let state = State::default().with(organization("acme")).with(project("web", "acme"));
    let state = create(state, granting(&["acme"]));
    assert!(may_claim(&state, "web"));

    let mut going = organization("acme");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-22T00:00:00Z");
    let empty = State::default().with(going).with(state.get(&pool_key()).unwrap().clone());
    let gone = empty.delete(&lookup::key::<OrganizationSpec>("acme")).unwrap();
    let state = empty.after(gone);
    let (status, message) = granted_condition(&state);
    assert_eq!(status, "False");
    assert!(message.as_str().unwrap().contains("acme (there is none)"), "{message}");

    let state = create(create(state, another("acme")), project("web", "acme"));
    assert!(!may_claim(&state, "web"));
    assert!(granted_condition(&state).1.as_str().unwrap().contains("acme (it is another one)"));
    let state = update(state, granting(&["acme"]));
    assert!(!may_claim(&state, "web"), "nothing was granted anew");

    let state = update(update(state, granting(&[])), granting(&["acme"]));
    assert!(may_claim(&state, "web"));
    assert_eq!(granted_condition(&state).0, "True");
}

#[test]
fn a_grant_ahead_of_its_organization_is_for_the_platforms_and_for_no_part_of_another() {
    let ahead = || {
        let state = State::default().with(organization("globex"));
        create(state, pool("vips", &["203.0.113.0/30"], &["acme"]))
    };
    let state = create(create(ahead(), another("acme")), project("web", "acme"));
    assert!(may_claim(&state, "web"));

    let mut part = another("acme");
    part["spec"]["parent"] = json!("globex");
    let state = create(create(ahead(), part), project("web", "acme"));
    assert!(!may_claim(&state, "web"));
    let change = state.update(pool("vips", &["203.0.113.0/29"], &["acme"])).unwrap();
    assert!(!may_claim(&state.after(change), "web"));
}

#[test]
fn an_address_cannot_be_rewritten() {
    let state = create(state(), claim("web", "a", any("vips")));
    let mut forged = state.get(&claim_key("web", "a")).unwrap().clone();
    forged["status"]["address"] = json!("203.0.113.3");

    let change = state.update(forged).unwrap();

    assert_eq!(change.new.unwrap()["status"]["address"], "203.0.113.0");
}

#[test]
fn pools_do_not_overlap() {
    let refusal = state().create(pool("more", &["203.0.113.0/24"], &[])).unwrap_err();

    assert_eq!(refusal.code(), 409);
    assert_eq!(
        refusal.causes()[0].message,
        "203.0.113.0/24 overlaps 203.0.113.0/30 of pool \"vips\"",
    );
}

#[test]
fn a_pool_neither_goes_nor_shrinks_under_its_claims() {
    let state = create(state(), claim("web", "a", any("vips")));

    let refusal = state.delete(&lookup::key::<AddressPoolSpec>("vips")).unwrap_err();
    assert_eq!(refusal.code(), 409);
    assert!(refusal.message().contains("addressclaims \"a\""), "{refusal}");

    let shrunk = pool("vips", &["2001:db8:f::/48"], &["acme"]);
    let refusal = state.update(shrunk).unwrap_err();
    assert_eq!(refusal.code(), 409);
    assert!(refusal.message().contains("203.0.113.0 by addressclaim \"a\""), "{refusal}");

    let moved = pool("vips", &["203.0.113.0/31"], &["acme"]);
    let kept = state.update(moved).unwrap().new.unwrap();
    assert_eq!(kept["status"]["allocated"], 1);
}
