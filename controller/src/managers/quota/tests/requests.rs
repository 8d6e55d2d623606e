//! Requests that count: where, for whom, and what is said of those that come too fast.

use std::time::{Duration, Instant};

use isocast_api::quota::RequestVerb;

use super::*;

fn writes(claiming: &Value, default: Option<u64>) -> Value {
    json!({
        "apiVersion": "quota.isocast.dev/v1alpha1", "kind": "ResourceRegistration",
        "metadata": {"name": "writes", "uid": "writes"},
        "spec": {
            "consumerType": {"kind": "Organization"}, "type": "Rate",
            "resourceType": "test/writes", "baseUnit": "request", "displayUnit": "requests",
            "defaultLimit": default, "claimingResources": claiming,
        },
    })
}

fn everything() -> Value {
    json!([{"apiGroup": "*", "kind": "*"}])
}

fn world(registration: Value) -> World {
    World::with([
        organization("acme"),
        organization("globex"),
        folder("eng", "acme"),
        project("web", "acme"),
        registration,
    ])
}

impl World {
    /// How many of ten requests at once pass.
    fn passed(&self, verb: RequestVerb, about: &Key, place: Place<'_>, at: Instant) -> usize {
        let request = Request { actor: &administrator(), verb, about, place };
        (0..10).filter(|_| self.quota.charge(&request, at).is_ok()).count()
    }

    fn pools_made(&self, namespace: &str, at: Instant) -> usize {
        let key = key_of(&pool(namespace, "a", 0));
        self.passed(RequestVerb::Create, &key, Place::In(namespace), at)
    }
}

#[test]
fn a_request_counts_in_its_container_and_in_each_one_above() {
    let mut world = world(writes(&json!([pools()]), Some(6)));
    world.put(grant("web", "web", "writes", 4)).unwrap();
    let now = Instant::now();

    assert_eq!(world.pools_made("web", now), 4, "its own");
    assert_eq!(world.pools_made("eng", now), 2, "what is left of the organization's");
    assert_eq!(world.pools_made("globex", now), 6, "another one's");
    assert_eq!(world.pools_made("isocast-system", now), 10, "the platform has no limit");
    let later = now + Duration::from_secs(2);
    assert_eq!((world.pools_made("eng", later), world.pools_made("web", later)), (6, 0));
    assert_eq!(world.bucket("acme", "writes"), Some((6, 0, 6)), "nothing of it is held");
}

#[test]
fn what_is_said_counts_and_nothing_else() {
    let now = Instant::now();
    let about = key_of(&pool("web", "a", 0));
    let passed = |world: &World, verb| world.passed(verb, &about, Place::In("web"), now);
    let of_verbs = |verbs: Value| {
        let mut claiming = pools();
        claiming["verbs"] = verbs;
        world(writes(&json!([claiming]), Some(0)))
    };

    let by_default = of_verbs(json!([]));
    for verb in RequestVerb::WRITES {
        assert_eq!(passed(&by_default, *verb), 0, "{verb:?}");
    }
    for verb in [RequestVerb::Get, RequestVerb::List, RequestVerb::Watch] {
        assert_eq!(passed(&by_default, verb), 10, "{verb:?}");
    }
    let reads = of_verbs(json!(["get", "list"]));
    assert_eq!((passed(&reads, RequestVerb::Get), passed(&reads, RequestVerb::Update)), (0, 10));

    let others = world(writes(&json!([projects()]), Some(0)));
    assert_eq!(passed(&others, RequestVerb::Create), 10);
    let key = key_of(&project("web", "acme"));
    let at = Place::Above("web");
    assert_eq!(others.passed(RequestVerb::Delete, &key, at, now), 0, "in the organization");
}

#[test]
fn every_kind_is_meant_once() {
    let claiming = json!([{"apiGroup": "*", "kind": "*"}, pools()]);
    let world = world(writes(&claiming, Some(4)));
    assert!(world.quota.counts_requests());
    assert_eq!(world.pools_made("web", Instant::now()), 4);
}

#[test]
fn a_registration_that_goes_takes_its_limits_along() {
    let registration = writes(&everything(), Some(0));
    let mut world = world(registration.clone());
    let now = Instant::now();
    assert_eq!(world.pools_made("web", now), 0);

    world.delete(&registration);
    assert!(!world.quota.counts_requests());
    assert_eq!(world.pools_made("web", now), 10);
}

#[test]
fn who_comes_too_fast_learns_what_there_may_be_and_when_to_come_back() {
    let world = world(writes(&json!([pools()]), Some(0)));
    let about = key_of(&pool("web", "a", 0));
    let (verb, place) = (RequestVerb::Create, Place::In("web"));
    let request = Request { actor: &administrator(), verb, about: &about, place };

    let refusal = world.quota.charge(&request, Instant::now()).unwrap_err();
    assert_eq!((refusal.code(), refusal.retry_after()), (429, Some(1)));
    assert_eq!(
        refusal.message(),
        "exceeded quota: writes, requested: test/writes=1: organization \"acme\" may have 0 a \
         second (allowancebucket acme/writes)"
    );
    assert_eq!(refusal.causes()[0].reason, "QuotaExceeded");
}

#[test]
fn kinds_that_there_are_not_cannot_be_counted() {
    let mut world = world(writes(&everything(), None));
    let claiming = json!([{"apiGroup": "network.isocast.dev", "kind": "Nonesuch"}]);
    let refusal = world.put(writes(&claiming, None)).unwrap_err();
    assert!(refusal.message().contains("there is no such kind"), "{refusal}");
}
