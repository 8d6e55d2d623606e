//! The store against a model: whatever happens, in whatever order, with reopening and truncation.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    admission::ProposedChange,
    authz::{Authorizer, Identity},
};

mod cuts;
mod disk;
mod etcd;
mod journal;
mod model;
mod shared;

const WHO: Identity = Identity::Component { name: "test" };

fn key(name: &str) -> Key {
    Key::new(Resource::new("pools", "test.isocast.dev"), Some("web"), name)
}

fn proof<V: Verb>(name: &str) -> Authorized<V, Key> {
    Authorizer.authorize(&WHO, key(name)).expect("components are allowed")
}

fn everything<V: Verb>() -> Authorized<V, Range> {
    Authorizer.authorize(&WHO, Range::Everything).expect("components are allowed")
}

fn object(name: &str, size: u64) -> Value {
    json!({"metadata": {"name": name}, "spec": {"size": size}})
}

fn write(expect: Expect, value: Option<Value>) -> Write {
    Write {
        expect,
        value,
        subresource: None,
        agent: "test".into(),
        persistence: Persistence::Durable,
    }
}

fn open(path: &Path, admissions: Vec<Arc<dyn Admission>>) -> Store {
    let backend = RedbBackend::open(path).expect("a fresh file opens");
    Store::open(backend, admissions, Arc::default()).expect("a fresh store opens")
}

async fn create(store: &Store, name: &str, size: u64) -> Result<Object, ApiError> {
    let value = Some(object(name, size));
    store.write(&proof::<verb::Create>(name), write(Expect::Absent, value)).await
}

async fn delete(store: &Store, object: &Object) -> Result<Object, ApiError> {
    let proof = proof::<verb::Delete>(object.key.name());
    store.write(&proof, write(Expect::At(object.revision), None)).await
}

#[tokio::test]
async fn a_created_object_carries_its_revision() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(&folder.path().join("db"), vec![]);

    let made = create(&store, "a", 1).await.expect("nothing refuses it");

    assert_eq!(made.revision, Revision(1));
    assert_eq!(made.value()["metadata"]["resourceVersion"], "1999");
    let read = store.get(&proof("a")).expect("it exists");
    assert_eq!(read.value(), made.value());
}

#[tokio::test]
async fn a_write_based_on_an_older_state_conflicts() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(&folder.path().join("db"), vec![]);
    create(&store, "a", 1).await.expect("new");

    let again = create(&store, "a", 2).await.expect_err("the name is taken");
    assert_eq!((again.code(), again.reason()), (409, Reason::AlreadyExists));

    let stale = write(Expect::At(Revision(7)), Some(object("a", 3)));
    let stale = store.write(&proof::<verb::Update>("a"), stale).await.expect_err("stale");
    assert_eq!((stale.code(), stale.reason()), (409, Reason::Conflict));

    let gone = write(Expect::At(Revision(1)), Some(object("b", 3)));
    let gone = store.write(&proof::<verb::Update>("b"), gone).await.expect_err("no such object");
    assert_eq!(gone.code(), 404);
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(&folder.path().join("db"), vec![]);
    let mut dry = write(Expect::Absent, Some(object("a", 1)));
    dry.persistence = Persistence::DryRun;

    store.write(&proof::<verb::Create>("a"), dry).await.expect("nothing refuses it");

    assert!(store.get(&proof("a")).is_none());
    assert_eq!(store.view(&everything()).revision(), Revision(0));
}

#[tokio::test]
async fn a_watcher_sees_each_change_with_what_was_before() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(&folder.path().join("db"), vec![]);
    let mut cursor = store.watch(&everything(), Revision(0)).expect("from the start");

    let made = create(&store, "a", 1).await.expect("new");
    delete(&store, &made).await.expect("it exists");

    let mut events = Vec::new();
    while events.len() < 2 {
        events.extend(cursor.next().await.expect("not expired"));
    }
    assert_eq!(events[0].operation, Operation::Put);
    assert!(events[0].old.is_none());
    assert_eq!(events[1].operation, Operation::Delete);
    assert_eq!(events[1].old_value(), Some(made.value()));
    assert_eq!(events[1].value()["metadata"]["resourceVersion"], "2999");
}

#[tokio::test]
async fn a_restart_keeps_objects_and_watch_positions() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("db");
    let store = open(&path, vec![]);
    let made = create(&store, "a", 1).await.expect("new");
    drop(store);

    let store = open(&path, vec![]);

    assert_eq!(store.get(&proof("a")).map(|object| object.value()), Some(made.value()));
    let mut cursor = store.watch(&everything(), Revision(0)).expect("still in the log");
    assert_eq!(cursor.next().await.map(|events| events.len()), Ok(1));
    assert_eq!(create(&store, "b", 1).await.map(|made| made.revision), Ok(Revision(2)));
}

#[tokio::test]
async fn a_view_stays_what_it_was() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(&folder.path().join("db"), vec![]);
    create(&store, "a", 1).await.expect("new");

    let view = store.view(&everything());
    create(&store, "b", 1).await.expect("new");

    assert_eq!(view.iter().count(), 1);
    assert_eq!(store.view(&everything()).iter().count(), 2);
}

#[tokio::test]
async fn an_object_has_a_largest_size() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(&folder.path().join("db"), vec![]);
    let sized = |bytes: usize| {
        // As it is stored, at the revision it gets.
        let mut value = json!({"metadata": {"name": "a", "resourceVersion": "1999"}, "spec": ""});
        let rest = bytes - size_of(&value);
        value["spec"] = json!("x".repeat(rest));
        write(Expect::Absent, Some(value))
    };

    let large = store.write(&proof::<verb::Create>("a"), sized(limits::OBJECT_BYTES + 1)).await;
    assert_eq!(large.map_err(|error| error.code()).err(), Some(413));
    let fits = store.write(&proof::<verb::Create>("a"), sized(limits::OBJECT_BYTES)).await;
    assert!(fits.is_ok());
}

/// Refuses odd sizes, and keeps a counter object in the same change-set.
#[derive(Debug)]
struct EvenOnly;

impl Admission for EvenOnly {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        let size = change.new.as_ref().and_then(|new| new["spec"]["size"].as_u64());
        assert_ne!(size, Some(13), "a fault in a rule");
        if size.is_some_and(|size| size % 2 == 1) {
            return Err(ApiError::forbidden(&change.key, "odd"));
        }
        let counter = key("counter");
        let count = view.get(&counter).and_then(|object| object.value()["spec"]["size"].as_u64());
        change.also(counter, Some(object("counter", count.unwrap_or(0) + 1)));
        Ok(())
    }
}

#[tokio::test]
async fn an_admission_sees_every_write_before_its_own() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(&folder.path().join("db"), vec![Arc::new(EvenOnly)]);

    let names: Vec<String> = (0..100).map(|i| format!("a{i}")).collect();
    let writes = names.iter().map(|name| create(&store, name, 2));
    let made = futures::future::join_all(writes).await;
    assert!(made.iter().all(Result::is_ok));
    assert_eq!(create(&store, "odd", 3).await.map_err(|error| error.code()).err(), Some(403));
    assert_eq!(create(&store, "bad", 13).await.map_err(|error| error.code()).err(), Some(500));

    let counter = store.get(&proof("counter")).expect("written along");
    assert_eq!(counter.value()["spec"]["size"], 100);
    assert_eq!(counter.revision, Revision(100));
}
