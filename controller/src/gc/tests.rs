//! The collector over a real store.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::*;
use crate::{
    authz::{Identity, verb},
    iam::Access,
    registry::{
        DeleteOptions, FieldValidation, Kind, Propagation, Registry, Subresource, WriteOptions,
        metadata,
    },
    store::{Key, Persistence, Range, RedbBackend, Store},
};

const WHO: Identity = Identity::Component { name: "test" };

struct World {
    registry: Arc<Registry>,
    owners: Arc<Owners>,
    _folder: tempfile::TempDir,
}

fn options() -> WriteOptions {
    WriteOptions {
        manager: "test".into(),
        persistence: Persistence::Durable,
        validation: FieldValidation::Strict,
        force: false,
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = RedbBackend::open(&folder.path().join("db")).unwrap();
        let access: Arc<Access> = Arc::default();
        let owners = Arc::new(Owners::new(Arc::clone(&access)));
        let store = Store::open(backend, vec![owners.clone()], Arc::default()).unwrap();
        let registry = Arc::new(Registry::new(Arc::new(store), access));
        Self { registry, owners, _folder: folder }
    }

    fn kind(&self) -> &Arc<Kind> {
        let kind = self.registry.kind("network.isocast.dev", "v1alpha1", "backendpools");
        kind.unwrap()
    }

    fn key(&self, name: &str) -> Key {
        self.kind().key(Some("web"), name).unwrap()
    }

    /// Makes a pool that the others own, and which blocks them; its uid.
    async fn make(&self, name: &str, owners: &[(&str, &str)]) -> String {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(name, uid)| {
                json!({
                    "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
                    "name": name, "uid": uid, "blockOwnerDeletion": true,
                })
            })
            .collect();
        let pool = json!({
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
            "metadata": {"name": name, "ownerReferences": owners}, "spec": {},
        });
        let body = pool.to_string();
        let made =
            self.registry.create(&WHO, self.kind(), Some("web"), body.as_bytes(), &options()).await;
        metadata::text(&made.unwrap().object.value(), "uid").to_owned()
    }

    async fn own(&self, name: &str, owner: (&str, &str)) {
        let patch = json!([{"op": "add", "path": "/metadata/ownerReferences", "value": [{
            "apiVersion": "network.isocast.dev/v1alpha1", "kind": "BackendPool",
            "name": owner.0, "uid": owner.1, "blockOwnerDeletion": true,
        }]}]);
        let body = patch.to_string();
        let proof = self.registry.authorize::<verb::Patch, _>(&WHO, self.key(name)).unwrap();
        let patch = crate::registry::Patch::Json(body.as_bytes());
        let none = Subresource::None;
        self.registry.patch(&proof, self.kind(), none, patch, &options()).await.unwrap();
    }

    async fn delete(&self, name: &str, propagation: Propagation) {
        let proof = self.registry.authorize::<verb::Delete, _>(&WHO, self.key(name)).unwrap();
        let delete = DeleteOptions {
            propagation_policy: Some(propagation.as_str().to_owned()),
            ..DeleteOptions::default()
        };
        self.registry.delete(&proof, &delete, &options()).await.unwrap();
    }

    fn names(&self) -> Vec<String> {
        let proof = self.registry.authorize::<verb::List, _>(&WHO, Range::Everything).unwrap();
        let view = self.registry.store().view(&proof);
        view.iter().map(|object| object.key.name().to_owned()).collect()
    }

    /// A collector that begins only now: what happened before, it must find.
    async fn collect_until(&self, is_done: impl Fn(&[String]) -> bool) {
        let collector = Collector::new(
            Arc::clone(&self.registry),
            Arc::clone(&self.owners),
            Arc::new(Metrics::default()),
        );
        let collecting = tokio::spawn(collector.run());
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_done(&self.names()) {
            assert!(Instant::now() < deadline, "left: {:?}", self.names());
            // Between looks, not instead of them.
            sleep(Duration::from_millis(5)).await;
        }
        collecting.abort();
    }
}

#[tokio::test]
async fn what_was_left_behind_before_the_collector_began_is_collected() {
    let world = World::new();
    let top = world.make("top", &[]).await;
    let middle = world.make("middle", &[("top", &top)]).await;
    for number in 0..200 {
        world.make(&format!("leaf-{number}"), &[("middle", &middle)]).await;
    }
    world.make("other", &[]).await;
    world.delete("top", Propagation::Background).await;

    world.collect_until(|names| names == ["other"]).await;
}

#[tokio::test]
async fn a_namesake_of_an_owner_owns_nothing() {
    let world = World::new();
    let kept = world.make("owner", &[]).await;
    world.make("orphan", &[("owner", "another-uid")]).await;
    world.make("child", &[("owner", &kept)]).await;
    world.make("shared", &[("owner", &kept), ("gone", "no-such-uid")]).await;

    world.collect_until(|names| names == ["child", "owner", "shared"]).await;

    let proof = world.registry.authorize::<verb::Get, _>(&WHO, world.key("shared")).unwrap();
    world
        .collect_until(|_| {
            let shared = world.registry.store().get(&proof).unwrap();
            shared.value()["metadata"]["ownerReferences"].as_array().map(Vec::len) == Some(1)
        })
        .await;
}

#[tokio::test]
async fn a_foreground_owner_goes_last() {
    let world = World::new();
    let top = world.make("top", &[]).await;
    let middle = world.make("middle", &[("top", &top)]).await;
    world.make("leaf", &[("middle", &middle)]).await;
    world.delete("top", Propagation::Foreground).await;
    assert_eq!(world.names(), ["leaf", "middle", "top"]);
    let from = *world.registry.store().revisions().borrow();
    let proof = world.registry.authorize::<verb::Watch, _>(&WHO, Range::Everything).unwrap();
    let mut cursor = world.registry.store().watch(&proof, from).unwrap();

    world.collect_until(<[String]>::is_empty).await;

    let mut gone = Vec::new();
    while gone.len() < 3 {
        for event in cursor.next().await.unwrap() {
            if event.operation == crate::store::Operation::Delete {
                gone.push(event.key.name().to_owned());
            }
        }
    }
    assert_eq!(gone, ["leaf", "middle", "top"]);
}

#[tokio::test]
async fn orphans_forget_their_owner_and_stay() {
    let world = World::new();
    let top = world.make("top", &[]).await;
    for number in 0..150 {
        world.make(&format!("leaf-{number}"), &[("top", &top)]).await;
    }
    world.delete("top", Propagation::Orphan).await;

    world.collect_until(|names| names.len() == 150).await;

    assert_eq!(world.owners.count(&top), owners::Count::default());
}

#[tokio::test]
async fn owners_in_a_circle_go_together() {
    let world = World::new();
    let first = world.make("first", &[]).await;
    let second = world.make("second", &[("first", &first)]).await;
    let third = world.make("third", &[("second", &second)]).await;
    world.own("first", ("third", &third)).await;
    world.delete("first", Propagation::Foreground).await;

    world.collect_until(<[String]>::is_empty).await;
}
