//! Whatever happens, the index says what counting everything anew would.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::managers::quota::index::Index;

const CONTAINERS: [&str; 6] = ["acme", "globex", "eng", "ops", "web", "shop"];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Step {
    Put { place: usize, name: usize, backends: usize },
    Delete { place: usize, name: usize },
    Move { what: usize, to: usize },
    Grant { place: usize, name: usize, of: usize, amount: u64 },
    Revoke { place: usize, name: usize },
    Register { of: usize, default: Option<u64> },
    Unregister { of: usize },
    Commit,
    Lose,
    Restart,
}

const TYPES: [&str; 3] = ["pools", "backends", "projects"];

fn registration_of(of: usize, default: Option<u64>) -> Value {
    let claiming = [pools(), backends(), projects()][of].clone();
    registration(TYPES[of], &claiming, default)
}

fn step() -> impl Strategy<Value = Step> {
    let (place, name, of) = (0..CONTAINERS.len(), 0..NAMES.len(), 0..TYPES.len());
    prop_oneof![
        8 => (place.clone(), name.clone(), 0_usize..4)
            .prop_map(|(place, name, backends)| Step::Put { place, name, backends }),
        4 => (place.clone(), name).prop_map(|(place, name)| Step::Delete { place, name }),
        3 => (0_usize..4, 0_usize..4).prop_map(|(what, to)| Step::Move { what, to }),
        3 => (place.clone(), 0_usize..2, of.clone(), 0_u64..8)
            .prop_map(|(place, name, of, amount)| Step::Grant { place, name, of, amount }),
        1 => (place, 0_usize..2).prop_map(|(place, name)| Step::Revoke { place, name }),
        1 => (of.clone(), prop::option::of(0_u64..8))
            .prop_map(|(of, default)| Step::Register { of, default }),
        1 => of.prop_map(|of| Step::Unregister { of }),
        4 => Just(Step::Commit),
        1 => Just(Step::Lose),
        1 => Just(Step::Restart),
    ]
}

/// A container as it is moved: folders below organizations, projects below either.
fn placed(what: usize, to: usize) -> Value {
    let (kind, name) =
        [("Folder", "eng"), ("Folder", "ops"), ("Project", "web"), ("Project", "shop")][what];
    let (parent_kind, parent) = [
        ("Organization", "acme"),
        ("Organization", "globex"),
        ("Folder", "eng"),
        ("Folder", "ops"),
    ][to];
    json!({
        "apiVersion": "resourcemanager.isocast.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name}, "spec": {"parent": {"kind": parent_kind, "name": parent}},
    })
}

/// Totals, counted object by object without the index.
fn counted(view: &View) -> BTreeMap<(String, String), (u64, u64)> {
    let mut totals: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    let parent = |name: &str| {
        let resources = tree::containers();
        let found = resources.iter().find_map(|it| view.get(&Key::new(it.clone(), None, name)))?;
        crate::iam::parent_of(found.key.resource(), &found.value()).map(str::to_owned)
    };
    let registered =
        |name: &str| view.get(&lookup::key::<ResourceRegistrationSpec>(name)).is_some();
    let mut count = |place: Option<String>, of: &str, amount: u64| {
        let mut next = place;
        while let Some(name) = next.filter(|_| registered(of)) {
            let total = totals.entry((name.clone(), of.to_owned())).or_default();
            *total = (total.0 + amount, total.1 + 1);
            next = parent(&name);
        }
    };
    for object in view.iter() {
        let place = object.key.container().map(str::to_owned);
        match object.key.resource().plural() {
            "backendpools" => {
                let backends = object.value()["spec"]["backends"].as_array().unwrap().len() as u64;
                count(place.clone(), "pools", 1);
                count(place, "backends", backends);
            }
            "projects" => count(parent(object.key.name()), "projects", 1),
            _ => {}
        }
    }
    totals
}

fn expect_agreement(world: &World) {
    let totals = counted(&world.view);
    let mut index = world.quota.index.lock();
    index.ledger.forget_after(world.view.revision());
    let anew = Index::of(&world.view);
    for container in CONTAINERS.iter().chain(&["isocast-system"]) {
        for name in TYPES {
            let key = ((*container).to_owned(), name.to_owned());
            let (amount, claims) = totals.get(&key).copied().unwrap_or_default();
            for index in [&*index, &anew] {
                let Some((id, one)) = index.meters.named(name) else { continue };
                let account = index.ledger.account(container, id);
                assert_eq!(account.allocated, i128::from(amount), "{key:?}");
                assert_eq!(account.claims, i64::try_from(claims).unwrap(), "{key:?}");
                assert_eq!(account.held(), account.allocated, "{key:?}: nothing is under way");
                let bucket = world.bucket(container, name);
                let limit = index.limit(container, one).map(|limit| limit.amount);
                assert_eq!(bucket.map(|it| (it.0, it.1)), limit.map(|it| (it, amount)), "{key:?}");
            }
            if index.meters.named(name).is_none() {
                assert_eq!(world.bucket(container, name), None, "{key:?}");
            }
        }
    }
}

/// What a step writes, if it makes sense in this state.
fn write_of(world: &World, step: &Step) -> Option<(Key, Option<Value>)> {
    let there = |value: &Value| world.batch.get(&key_of(value)).is_some();
    let put = |value: Value| Some((key_of(&value), Some(value)));
    let delete = |value: Value| there(&value).then(|| (key_of(&value), None));
    match step {
        Step::Put { place, name, backends } => {
            put(pool(CONTAINERS[*place], NAMES[*name], *backends))
        }
        Step::Delete { place, name } => delete(pool(CONTAINERS[*place], NAMES[*name], 0)),
        Step::Move { what, to } => {
            // A folder below a folder could end below itself.
            if *what < 2 && *to >= 2 { None } else { put(placed(*what, *to)) }
        }
        Step::Grant { place, name, of, amount } => {
            put(grant(CONTAINERS[*place], NAMES[*name], TYPES[*of], *amount))
        }
        Step::Revoke { place, name } => delete(grant(CONTAINERS[*place], NAMES[*name], "pools", 0)),
        Step::Register { of, default } => put(registration_of(*of, *default)),
        Step::Unregister { of } => delete(registration_of(*of, None)),
        Step::Commit | Step::Lose | Step::Restart => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_is_counted_is_what_there_is(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::with([
            organization("acme"), organization("globex"), placed(0, 0), placed(1, 1),
            placed(2, 2), placed(3, 1), registration_of(0, Some(6)), registration_of(1, None),
        ]);
        for step in steps {
            match step {
                Step::Commit => world.commit(),
                Step::Lose => world.lose(),
                Step::Restart => {
                    world.commit();
                    world.quota.open(&world.view);
                }
                _ => {
                    let Some((key, new)) = write_of(&world, &step) else { continue };
                    let before = world.batch.revision();
                    let refused = world.propose(administrator(), key, new).is_err();
                    prop_assert_eq!(refused, world.batch.revision() == before);
                    continue;
                }
            }
            expect_agreement(&world);
        }
        world.commit();
        expect_agreement(&world);
    }

    #[test]
    fn nothing_gets_beyond_a_limit_and_nothing_is_refused_below_it(
        limit in 0_u64..6,
        sizes in prop::collection::vec((0_usize..4, 0_usize..4, any::<bool>()), 1..40),
    ) {
        let mut world = World::with([
            organization("acme"), project("web", "acme"), registration_of(1, Some(limit)),
        ]);
        let mut model: BTreeMap<usize, u64> = BTreeMap::new();
        for (name, size, commits) in sizes {
            let before = model.get(&name).copied().unwrap_or_default();
            let after = model.values().sum::<u64>() - before + size as u64;
            let fits = after <= limit || size as u64 <= before;
            let written = world.write(pool("web", NAMES[name], size));
            prop_assert_eq!(written.is_ok(), fits);
            if fits {
                model.insert(name, size as u64);
            }
            if commits {
                world.commit();
            }
        }
    }
}
