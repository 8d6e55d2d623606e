//! Watchers that break off within change-sets of several objects, and go on from the last one they saw.

use super::{shared::soon, *};

/// Writes two more objects along with each, and removes them with it.
#[derive(Debug)]
pub(super) struct Together;

impl Admission for Together {
    fn admit(&self, _view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        for other in 0..2 {
            let name = format!("{}-{other}", change.key.name());
            let value = change.new.is_some().then(|| object(&name, 1));
            change.also(key(&name), value);
        }
        Ok(())
    }
}

const ROUNDS: usize = 4;
/// Each round makes three objects and removes them.
const EVENTS: usize = ROUNDS * 6;

/// Makes and removes objects, three at a time.
pub(super) async fn change(store: &Store) {
    for round in 0..ROUNDS {
        let made = create(store, &format!("a{round}"), 1).await.expect("it is new");
        delete(store, &made).await.expect("it is there");
    }
}

/// What an event says of itself to a client: what happened to which object, and its version.
fn told(event: &Event) -> (String, Operation, Version) {
    let value = event.value();
    let version = value["metadata"]["resourceVersion"].as_str().expect("text");
    (event.key.name().to_owned(), event.operation, version.parse().expect("a version"))
}

/// Checks that who breaks off after each event sees what somebody sees who never does.
pub(super) async fn misses_nothing(store: &Store) {
    let mut cursor = store.watch(&everything(), Version::ANY).expect("from the start");
    let mut whole = Vec::new();
    while whole.len() < EVENTS {
        let events = soon(cursor.next()).await.expect("not expired");
        whole.extend(events.iter().map(told));
    }
    assert!(whole.windows(2).all(|pair| pair[0].2 < pair[1].2), "each has its own: {whole:?}");

    let (mut seen, mut last) = (Vec::new(), Version::ANY);
    while seen.len() < EVENTS {
        let mut cursor = store.watch(&everything(), last).expect("it is still known");
        let events = soon(cursor.next()).await.expect("not expired");
        seen.extend(events.first().map(told));
        last = seen.last().expect("one").2;
    }
    assert_eq!(seen, whole);
    let end = store.view(&everything()).revision();
    assert_eq!(last, end.into(), "the last object of a change-set is as new as a list after it");
}

#[tokio::test]
async fn who_breaks_off_within_a_change_set_misses_nothing_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("db");
    let store = open(&path, vec![Arc::new(Together)]);
    change(&store).await;
    misses_nothing(&store).await;
    drop(store);
    misses_nothing(&open(&path, vec![Arc::new(Together)])).await;
}

#[tokio::test]
async fn who_breaks_off_misses_nothing_of_a_log_in_memory() {
    let backend = MemoryBackend::default();
    let store = Store::open(backend, vec![Arc::new(Together)], Arc::default()).expect("opens");
    change(&store).await;
    misses_nothing(&store).await;
}

#[tokio::test]
async fn a_change_is_based_on_the_version_of_its_own_object_alone() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = open(&folder.path().join("db"), vec![Arc::new(Together)]);
    let first = create(&store, "a", 1).await.expect("it is new");
    let along = store.get(&proof("a-1")).expect("written along");

    let version = |object: &Object| object.value()["metadata"]["resourceVersion"].clone();
    assert_eq!((version(&first), version(&along)), (json!("1997"), json!("1999")));
    assert_eq!(first.revision, along.revision, "one change-set");
}

/// Removes what is not there along with each.
#[derive(Debug)]
struct Needless;

impl Admission for Needless {
    fn admit(&self, _view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        change.also(key("nothing"), None);
        Ok(())
    }
}

#[tokio::test]
async fn what_has_no_effect_takes_no_version() {
    let backend = MemoryBackend::default();
    let store = Store::open(backend, vec![Arc::new(Needless)], Arc::default()).expect("opens");
    let made = create(&store, "a", 1).await.expect("it is new");
    assert_eq!(made.value()["metadata"]["resourceVersion"], "1999");
}
