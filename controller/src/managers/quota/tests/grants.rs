//! Grants that end, features that are on or off, and what becomes of both when a container moves.

use super::*;

/// The manager's look at that time.
fn look(world: &mut World) {
    for grant in world.quota.ended(world.now) {
        let value = Value::clone(&world.batch.get(&grant).unwrap().value());
        world.put(value).unwrap();
    }
}

#[test]
fn a_grant_ends_at_its_time_and_what_exists_stays() {
    let mut world = World::with([
        organization("acme"),
        project("web", "acme"),
        registration("pools", &pools(), None),
    ]);
    let mut promotion = grant("acme", "promotion", "pools", 2);
    promotion["spec"]["expiresAt"] = json!("1970-01-01T01:00:00Z");
    world.put(promotion.clone()).unwrap();
    for name in ["a", "b"] {
        world.put(pool("web", name, 0)).unwrap();
    }
    assert_eq!(world.bucket("acme", "pools"), Some((2, 2, 0)));
    look(&mut world);
    assert_eq!(world.bucket("acme", "pools"), Some((2, 2, 0)), "not yet");

    // Decisions go by the clock, whether anybody said so already or not.
    world.now = Timestamp::from_second(3600).unwrap();
    for is_said in [false, true] {
        let refusal = world.put(pool("web", "c", 0)).unwrap_err();
        let told = "used: test/pools=2, limited: test/pools=0";
        assert!(refusal.message().contains(told), "{refusal}");
        assert!(refusal.message().contains("grants of it have ended"), "{refusal}");
        if !is_said {
            look(&mut world);
        }
    }
    assert_eq!(world.quota.ended(world.now), []);
    assert_eq!(world.bucket("acme", "pools"), Some((0, 2, 0)));
    let bucket = world.view.get(&bucket::key("acme", "pools")).unwrap().value();
    assert_eq!(
        (&bucket["status"]["overage"], &bucket["status"]["grantCount"]),
        (&json!(2), &json!(0))
    );
    let said = world.view.get(&key_of(&promotion)).unwrap().value();
    let active = &said["status"]["conditions"][0];
    assert_eq!((&active["status"], &active["reason"]), (&json!("False"), &json!("Ended")));
    world.put(pool("web", "a", 3)).unwrap();

    // A longer one, another one, or the default.
    promotion["spec"]["expiresAt"] = json!("1970-01-01T02:00:00Z");
    world.put(promotion.clone()).unwrap();
    assert_eq!(world.bucket("acme", "pools"), Some((2, 2, 0)));
    world.put(grant("acme", "plan", "pools", 3)).unwrap();
    assert_eq!(world.bucket("acme", "pools"), Some((5, 2, 3)));
    world.now = Timestamp::from_second(7200).unwrap();
    look(&mut world);
    assert_eq!(world.bucket("acme", "pools"), Some((3, 2, 1)));
    world.delete(&grant("acme", "plan", "pools", 3));
    world.put(registration("pools", &pools(), Some(7))).unwrap();
    assert_eq!(world.bucket("acme", "pools"), Some((7, 2, 5)));
}

#[test]
fn a_feature_is_for_those_who_have_it() {
    let mut feature = registration("advanced", &pools(), None);
    feature["spec"]["type"] = json!("Feature");
    let mut world = World::with([
        organization("acme"),
        organization("globex"),
        folder("eng", "acme"),
        project("web", "acme"),
        feature.clone(),
    ]);
    let refusal = world.put(pool("web", "a", 0)).unwrap_err();
    let told = "organization \"acme\" does not have the feature test/advanced";
    assert!(refusal.message().contains(told), "{refusal}");
    assert_eq!(refusal.causes()[0].reason, "QuotaExceeded");
    assert_eq!(world.bucket("acme", "advanced"), Some((0, 0, 0)));

    // Not by a part of it, and then for all of its parts but one.
    world.put(grant("eng", "mine", "advanced", 1)).unwrap();
    assert!(world.put(pool("eng", "a", 0)).is_err());
    world.put(grant("acme", "plan", "advanced", 1)).unwrap();
    for name in ["a", "b", "c"] {
        world.put(pool("web", name, 0)).unwrap();
    }
    assert_eq!(world.bucket("acme", "advanced"), Some((1, 3, 1)));
    world.put(grant("eng", "mine", "advanced", 0)).unwrap();
    assert!(world.put(pool("eng", "a", 0)).is_err());

    // Taken away: what exists stays, and can be changed.
    world.delete(&grant("acme", "plan", "advanced", 1));
    assert_eq!(world.bucket("acme", "advanced"), Some((0, 3, 0)));
    world.put(pool("web", "a", 5)).unwrap();
    assert!(world.put(pool("web", "d", 0)).is_err());

    feature["spec"]["defaultLimit"] = json!(1);
    world.put(feature).unwrap();
    world.put(pool("web", "d", 0)).unwrap();
}

#[test]
fn a_feature_may_be_a_field_alone() {
    let mut feature = registration("backends", &backends(), None);
    feature["spec"]["type"] = json!("Feature");
    let mut world = World::with([organization("acme"), project("web", "acme"), feature.clone()]);

    world.put(pool("web", "a", 0)).unwrap();
    assert!(world.put(pool("web", "a", 1)).is_err(), "it begins to use it");
    world.put(grant("acme", "plan", "backends", 1)).unwrap();
    world.put(pool("web", "a", 9)).unwrap();
    assert_eq!(world.bucket("acme", "backends"), Some((1, 1, 1)));
    world.put(pool("web", "a", 0)).unwrap();
    assert_eq!(world.bucket("acme", "backends"), Some((1, 0, 1)));

    feature["metadata"]["name"] = json!("other");
    feature["spec"]["resourceType"] = json!("test/other");
    feature["spec"]["claimingResources"][0]["amountField"] = json!("spec.nonsense");
    assert_eq!(world.put(feature).unwrap_err().code(), 422);
}

#[test]
fn a_container_moves_in_with_its_grants_if_they_fit_into_what_is_divided() {
    let mut world = acme();
    let mut registered = registration("pools", &pools(), Some(50));
    registered["spec"]["overcommitPercent"] = json!(100);
    world.put(registered).unwrap();
    world.put(grant("acme", "plan", "pools", 50)).unwrap();
    world.put(grant("globex", "plan", "pools", 40)).unwrap();
    world.put(folder("ops", "globex")).unwrap();
    world.put(grant("ops", "plan", "pools", 30)).unwrap();
    world.put(grant("web", "plan", "pools", 11)).unwrap();

    let refusal = world.put(project("web", "globex")).unwrap_err();
    let told = "\"globex\" may have 40 of test/pools, of which its parts were granted 30: the 11 \
                that \"web\" was granted do not fit into 100 % of it";
    assert!(refusal.message().contains(told), "{refusal}");

    world.put(grant("web", "plan", "pools", 10)).unwrap();
    world.put(pool("web", "a", 0)).unwrap();
    world.put(project("web", "globex")).unwrap();
    assert_eq!(world.bucket("acme", "pools"), Some((50, 0, 50)));
    assert_eq!(world.bucket("globex", "pools"), Some((40, 1, 39)));
}
