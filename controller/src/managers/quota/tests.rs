//! Quota without a store: a state, the sequencer's order of calls, and a model beside it.

mod grants;
mod model;
mod requests;

use std::sync::Arc;

use isocast_api::{
    network::BackendPoolSpec,
    object::Spec,
    quota::{AllowanceBucketSpec, ResourceGrantSpec, ResourceRegistrationSpec},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::{
    managers::testing::{key_of, organization, project},
    store::{Change, Document, Object, Operation, Revision},
};

/// A state and what follows it, as the sequencer drives it.
struct World {
    quota: Quota,
    /// What is durable.
    view: View,
    /// What the batch under way has reached.
    batch: View,
    events: Vec<Event>,
    now: Timestamp,
}

fn folder(name: &str, parent: &str) -> Value {
    json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": "Folder",
        "metadata": {"name": name}, "spec": {"parent": {"kind": "Organization", "name": parent}},
    })
}

fn pool(namespace: &str, name: &str, backends: usize) -> Value {
    let backends: Vec<Value> = (0..backends).map(|it| json!({"node": format!("n{it}")})).collect();
    json!({
        "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
        "metadata": {"name": name, "namespace": namespace}, "spec": {"backends": backends},
    })
}

fn registration(name: &str, claiming: &Value, default: Option<u64>) -> Value {
    let amounts = claiming.get("amountField").is_some();
    json!({
        "apiVersion": "quota.isocast.dev/v1alpha1", "kind": "ResourceRegistration",
        "metadata": {"name": name, "uid": name},
        "spec": {
            "consumerType": {"kind": "Organization"},
            "type": if amounts { "Allocation" } else { "Entity" },
            "resourceType": format!("test/{name}"), "baseUnit": "one", "displayUnit": "ones",
            "defaultLimit": default, "claimingResources": [claiming],
        },
    })
}

fn pools() -> Value {
    json!({"apiGroup": "network.isocast.dev", "kind": "BackendPool"})
}

fn backends() -> Value {
    json!({
        "apiGroup": "network.isocast.dev", "kind": "BackendPool", "amountField": "spec.backends",
    })
}

fn projects() -> Value {
    json!({"apiGroup": "resourcemanager.isocast.dev", "kind": "Project"})
}

fn grant(namespace: &str, name: &str, of: &str, amount: u64) -> Value {
    json!({
        "apiVersion": "quota.isocast.dev/v1alpha1", "kind": "ResourceGrant",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"allowances": [
            {"resourceType": format!("test/{of}"), "buckets": [{"amount": amount}]},
        ]},
    })
}

fn administrator() -> Identity {
    Identity::Administrator { name: "admin".into() }
}

impl World {
    fn new() -> Self {
        let view = View::new(Revision(0), Vec::new());
        let quota = Quota::new(Arc::default(), Arc::default());
        quota.open(&view);
        let now = Timestamp::UNIX_EPOCH;
        Self { quota, batch: view.clone(), view, events: Vec::new(), now }
    }

    /// The state with some objects that nobody judges.
    fn with(values: impl IntoIterator<Item = Value>) -> Self {
        let mut world = Self::new();
        for value in values {
            world.put(value).unwrap_or_else(|error| panic!("{error}"));
        }
        world
    }

    /// Judges a write in the batch under way.
    fn propose(&mut self, actor: Identity, key: Key, new: Option<Value>) -> Result<(), ApiError> {
        let old = self.batch.get(&key).cloned();
        let verb = match (&old, &new) {
            (None, _) => "create",
            (_, Some(_)) => "update",
            (_, None) => "delete",
        };
        let mut change = ProposedChange::new(actor, verb, None, self.now, key, (old, new));
        self.quota.admit(&self.batch, &mut change)?;
        let settles = self.quota.settles(&change);
        let revision = self.batch.revision().next();
        let mut changes = Vec::new();
        for (key, new) in change.into_writes() {
            let old = self.batch.get(&key).map(|object| Arc::clone(&object.document));
            let (operation, document) = match (new, &old) {
                (Some(value), _) => (Operation::Put, Arc::new(Document::of(value))),
                (None, Some(old)) => (Operation::Delete, Arc::clone(old)),
                (None, None) => continue,
            };
            let version = revision.into();
            let event = Event { key: key.clone(), version, operation, old, document };
            let document = Arc::clone(&event.document);
            changes.push(Change { key, operation, previous: Revision(0), document });
            self.events.push(event);
        }
        self.batch.advance(revision, &changes);
        if settles {
            self.commit();
        }
        Ok(())
    }

    fn write(&mut self, value: Value) -> Result<(), ApiError> {
        self.propose(administrator(), key_of(&value), Some(value))
    }

    fn put(&mut self, value: Value) -> Result<(), ApiError> {
        let written = self.write(value);
        self.commit();
        written
    }

    fn delete(&mut self, value: &Value) {
        self.propose(administrator(), key_of(value), None).unwrap();
        self.commit();
    }

    /// The batch is durable.
    fn commit(&mut self) {
        for event in std::mem::take(&mut self.events) {
            self.quota.follow(&[event], &self.batch);
        }
        let derived = self.quota.derive().into_iter().filter_map(|(key, new)| {
            let old = self.batch.get(&key).map(|object| Arc::clone(&object.document));
            let (operation, document) = match (new, old) {
                (Some(value), _) => (Operation::Put, Arc::new(Document::of(value))),
                (None, old) => (Operation::Delete, old?),
            };
            Some(Change { key, operation, previous: Revision(0), document })
        });
        let derived: Vec<Change> = derived.collect();
        let revision = self.batch.revision();
        self.batch.advance(revision, &derived);
        self.view = self.batch.clone();
    }

    /// The batch was lost.
    fn lose(&mut self) {
        self.events.clear();
        self.batch = self.view.clone();
    }

    fn bucket(&self, container: &str, registration: &str) -> Option<(u64, u64, u64)> {
        let object = self.view.get(&bucket::key(container, registration))?;
        let status = |field: &str| object.value()["status"][field].as_u64().unwrap();
        Some((status("limit"), status("allocated"), status("available")))
    }
}

fn acme() -> World {
    World::with([
        organization("acme"),
        organization("globex"),
        folder("eng", "acme"),
        project("web", "acme"),
        registration("pools", &pools(), Some(3)),
    ])
}

#[test]
fn an_object_counts_in_its_container_and_in_each_one_above() {
    let mut world = acme();
    world.put(grant("isocast-system", "all", "pools", 100)).unwrap();
    world.put(grant("web", "plan", "pools", 2)).unwrap();

    world.put(pool("web", "a", 0)).unwrap();
    world.put(pool("acme", "b", 0)).unwrap();

    assert_eq!(world.bucket("web", "pools"), Some((2, 1, 1)));
    assert_eq!(world.bucket("acme", "pools"), Some((3, 2, 1)));
    assert_eq!(world.bucket("isocast-system", "pools"), Some((100, 2, 98)));
    assert_eq!(world.bucket("globex", "pools"), Some((3, 0, 3)), "visible before the first use");
    assert_eq!(world.bucket("eng", "pools"), None, "no limit of its own");
}

#[test]
fn what_does_not_fit_is_refused_with_the_figures_of_the_container_that_is_full() {
    let mut world = acme();
    for name in ["a", "b", "c"] {
        world.put(pool("web", name, 0)).unwrap();
    }

    let refusal = world.put(pool("web", "d", 0)).unwrap_err();

    assert_eq!((refusal.code(), refusal.reason().as_str()), (403, "Forbidden"));
    let expected = "exceeded quota: pools, requested: test/pools=1, used: test/pools=3, limited: \
                    test/pools=3: organization \"acme\" has no room (allowancebucket acme/pools)";
    assert_eq!(refusal.causes()[0].message, expected);
    assert_eq!(refusal.causes()[0].reason, "QuotaExceeded");
    assert!(refusal.message().contains("backendpools.network.isocast.dev \"d\" is forbidden"));
    assert_eq!(world.bucket("acme", "pools"), Some((3, 3, 0)), "a refusal takes nothing");

    world.delete(&pool("web", "a", 0));
    world.put(pool("web", "d", 0)).unwrap();
}

#[test]
fn writes_of_one_batch_see_each_other_and_a_lost_batch_gives_everything_back() {
    let mut world = acme();
    for name in ["a", "b", "c"] {
        world.write(pool("web", name, 0)).unwrap();
    }
    assert_eq!(world.write(pool("web", "d", 0)).map_err(|it| it.code()), Err(403));

    world.lose();
    for name in ["e", "f", "g"] {
        world.write(pool("web", name, 0)).unwrap();
    }
    assert_eq!(world.write(pool("web", "h", 0)).map_err(|it| it.code()), Err(403));
    world.commit();

    assert_eq!(world.bucket("acme", "pools"), Some((3, 3, 0)));
}

#[test]
fn one_tenant_does_not_starve_another() {
    let mut world = acme();
    world.put(project("shop", "globex")).unwrap();
    for name in ["a", "b", "c"] {
        world.put(pool("web", name, 0)).unwrap();
    }
    assert!(world.put(pool("web", "d", 0)).is_err());

    assert!(world.put(pool("shop", "d", 0)).is_ok());
    assert_eq!(world.bucket("globex", "pools"), Some((3, 1, 2)));
}

#[test]
fn what_is_made_in_a_container_of_the_same_batch_counts_above_it() {
    let mut world = acme();
    world.write(project("fresh", "acme")).unwrap();
    for name in ["a", "b", "c"] {
        world.write(pool("fresh", name, 0)).unwrap();
    }
    assert!(world.write(pool("fresh", "d", 0)).is_err());
    world.commit();

    assert_eq!(world.bucket("acme", "pools"), Some((3, 3, 0)));
}

#[test]
fn amounts_are_added_up_and_an_update_takes_the_difference() {
    let mut world = acme();
    world.put(pool("web", "old", 4)).unwrap();
    world.put(registration("backends", &backends(), Some(10))).unwrap();
    assert_eq!(world.bucket("acme", "backends"), Some((10, 4, 6)), "what was there counts");

    world.put(pool("web", "a", 5)).unwrap();
    let refusal = world.put(pool("web", "a", 7)).unwrap_err();
    assert!(refusal.message().contains("requested: test/backends=2, used: test/backends=9"));
    world.put(pool("web", "a", 6)).unwrap();
    world.put(pool("web", "a", 1)).unwrap();
    assert_eq!(world.bucket("acme", "backends"), Some((10, 5, 5)));
    world.delete(&pool("web", "a", 1));
    assert_eq!(world.bucket("acme", "backends"), Some((10, 4, 6)));
}

#[test]
fn a_limit_below_what_there_is_shows_it_and_takes_nothing_away() {
    let mut world = acme();
    for name in ["a", "b", "c"] {
        world.put(pool("web", name, 0)).unwrap();
    }
    world.put(grant("acme", "less", "pools", 1)).unwrap();

    assert_eq!(world.bucket("acme", "pools"), Some((1, 3, 0)));
    let bucket = world.view.get(&bucket::key("acme", "pools")).unwrap();
    assert_eq!(bucket.value()["status"]["overage"], 2);
    assert!(world.put(pool("web", "a", 1)).is_ok(), "what there is can still be changed");
    assert!(world.put(pool("web", "d", 0)).is_err());

    world.put(grant("acme", "more", "pools", 3)).unwrap();
    assert_eq!(world.bucket("acme", "pools"), Some((4, 3, 1)), "grants add up");
    world.delete(&grant("acme", "more", "pools", 3));
    world.delete(&grant("acme", "less", "pools", 1));
    assert_eq!(world.bucket("acme", "pools"), Some((3, 3, 0)), "the default is back");
}

#[test]
fn a_container_takes_what_it_holds_along_if_there_is_room_where_it_goes() {
    let mut world = acme();
    world.put(registration("projects", &projects(), None)).unwrap();
    for name in ["eng", "acme"] {
        world.put(grant(name, "plan", "projects", 5)).unwrap();
    }
    world.put(grant("eng", "pools", "pools", 1)).unwrap();
    let into_eng = || {
        let mut moved = project("web", "acme");
        moved["spec"]["parent"] = json!({"kind": "Folder", "name": "eng"});
        moved
    };
    world.put(pool("web", "a", 0)).unwrap();
    world.write(pool("web", "b", 0)).unwrap();

    let refusal = world.write(into_eng()).unwrap_err();
    assert!(refusal.message().contains("requested: test/pools=2, used: test/pools=0"), "{refusal}");
    world.commit();

    world.put(grant("eng", "pools", "pools", 2)).unwrap();
    world.put(into_eng()).unwrap();
    assert_eq!(world.bucket("eng", "pools"), Some((2, 2, 0)));
    assert_eq!(world.bucket("eng", "projects"), Some((5, 1, 4)));
    assert_eq!(world.bucket("acme", "pools"), Some((3, 2, 1)), "it is still below acme");
    assert_eq!(world.bucket("acme", "projects"), Some((5, 1, 4)));
}

#[test]
fn the_platforms_own_parts_are_counted_and_never_refused() {
    let mut world = acme();
    for name in ["a", "b", "c", "d"] {
        let value = pool("web", name, 0);
        let part = Identity::Component { name: "test" };
        world.propose(part, key_of(&value), Some(value)).unwrap();
    }
    world.commit();

    assert_eq!(world.bucket("acme", "pools"), Some((3, 4, 0)));
}

#[test]
fn buckets_go_with_their_registration_and_their_container() {
    let mut world = acme();
    world.put(pool("web", "a", 0)).unwrap();
    world.delete(&organization("globex"));
    assert_eq!(world.bucket("globex", "pools"), None);

    world.delete(&registration("pools", &pools(), Some(3)));
    assert_eq!(world.bucket("acme", "pools"), None);
    let left = world.view.range(&lookup::all::<AllowanceBucketSpec>()).count();
    assert_eq!(left, 0);

    world.put(registration("pools", &pools(), Some(3))).unwrap();
    assert_eq!(world.bucket("acme", "pools"), Some((3, 1, 2)));
}

#[test]
fn registrations_and_grants_that_make_no_sense_are_refused() {
    let mut world = acme();
    let refused = |world: &mut World, value: Value, why: &str| {
        let refusal = world.put(value).unwrap_err();
        assert!(refusal.message().contains(why), "{refusal}");
    };
    let unknown = json!({"apiGroup": "network.isocast.dev", "kind": "Pony"});
    refused(&mut world, registration("x", &unknown, None), "there is no such kind");
    let reported = json!({"apiGroup": "network.isocast.dev", "kind": "BGPSession"});
    refused(&mut world, registration("x", &reported, None), "is not counted");
    let mut nowhere = backends();
    nowhere["amountField"] = json!("spec.mode");
    refused(&mut world, registration("x", &nowhere, None), "must be a field of the kind");
    let mut twice = registration("x", &pools(), None);
    twice["spec"]["resourceType"] = json!("test/pools");
    refused(&mut world, twice, "is that of resourceregistration \"pools\"");
    refused(&mut world, grant("acme", "g", "ponies", 1), "no resourceregistration has the type");
    let mut elsewhere = grant("acme", "g", "pools", 1);
    elsewhere["spec"]["consumerRef"] = json!({"kind": "Organization", "name": "globex"});
    refused(&mut world, elsewhere, "the grant's own namespace");

    world.put(grant("acme", "g", "pools", 1)).unwrap();
    let key = lookup::key::<ResourceRegistrationSpec>("pools");
    let refusal = world.propose(administrator(), key, None).unwrap_err();
    assert_eq!(refusal.code(), 409);
}

#[test]
fn what_a_container_may_have_is_divided_among_its_parts_as_often_as_is_said() {
    let mut world = acme();
    let mut registered = registration("pools", &pools(), Some(50));
    let granted = |world: &mut World, place: &str, amount: u64| {
        world.put(grant(place, "plan", "pools", amount)).map_err(|it| it.message().to_owned())
    };
    world.put(registered.clone()).unwrap();
    assert_eq!(granted(&mut world, "acme", 50), Ok(()));
    for part in ["eng", "web"] {
        assert_eq!(granted(&mut world, part, 30), Ok(()), "as often as anybody likes");
    }

    registered["spec"]["overcommitPercent"] = json!(100);
    world.put(registered.clone()).unwrap();
    let refusal = granted(&mut world, "web", 31).unwrap_err();
    let told = "\"acme\" may have 50 of test/pools, of which others of its parts were \
                granted 30: 31 more do not fit into 100 % of it";
    assert!(refusal.contains(told), "{refusal}");
    assert_eq!(granted(&mut world, "web", 25), Ok(()), "less is better");
    assert_eq!(granted(&mut world, "web", 20), Ok(()));
    assert!(granted(&mut world, "web", 21).is_err());

    registered["spec"]["overcommitPercent"] = json!(120);
    world.put(registered).unwrap();
    assert_eq!(granted(&mut world, "web", 30), Ok(()));
    assert!(granted(&mut world, "web", 31).is_err());
}

#[test]
fn there_is_an_end_to_registrations_and_to_grants() {
    let mut world = World::with([organization("acme"), registration("r-0", &pools(), None)]);
    for number in 1..guard::REGISTRATIONS_MAX {
        world.put(registration(&format!("r-{number}"), &pools(), None)).unwrap();
    }
    assert_eq!(world.put(registration("x", &pools(), None)).map_err(|it| it.code()), Err(403));

    for number in 0..guard::GRANTS_MAX {
        world.put(grant("acme", &format!("g-{number}"), "r-0", 1)).unwrap();
    }
    assert_eq!(world.put(grant("acme", "x", "r-0", 1)).map_err(|it| it.code()), Err(403));
    assert_eq!(world.bucket("acme", "r-0"), Some((64, 0, 64)));
    assert!(world.put(grant("acme", "g-0", "r-0", 2)).is_ok(), "those there are can be changed");
}

#[test]
fn what_stands_in_a_bucket_is_of_its_kind() {
    let mut world = acme();
    world.put(grant("acme", "plan", "pools", 7)).unwrap();
    let bucket = &world.view.get(&bucket::key("acme", "pools")).unwrap().value();

    let kinds = isocast_api::registry::kinds().iter();
    let kind = kinds.clone().find(|kind| kind.kind == AllowanceBucketSpec::KIND.kind).unwrap();
    assert_eq!((kind.validate)(bucket, None), []);
    assert_eq!(bucket["status"]["contributingGrantRefs"], json!([{"name": "plan", "amount": 7}]));
    assert!(key_of(&grant("acme", "plan", "pools", 7)).resource().is_of::<ResourceGrantSpec>());
    assert!(!key_of(bucket).resource().is_of::<BackendPoolSpec>());
    let object = Object {
        key: key_of(bucket),
        revision: Revision(1),
        document: Arc::new(Value::clone(bucket).into()),
    };
    assert_eq!(object.key, bucket::key("acme", "pools"));
}
