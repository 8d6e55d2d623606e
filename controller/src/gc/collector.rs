//! [`Collector`]: does what [`decide`](super::decide) says, object after object.
//!
//! Level-triggered: an event says where to look, never what to do. It looks at everything once when
//! it starts, when it fell behind the log, and when its queue was too small; so it goes on where an
//! earlier controller ended.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    FOREGROUND, ORPHAN, Owners,
    decide::{Action, Owner, decide, is_waiting},
    owners::references,
    queue::Queue,
};
use crate::{
    authz::{Identity, verb},
    error::{ApiError, Reason},
    limits,
    registry::{
        DeleteOptions, FieldValidation, Kind, Patch, Preconditions, Propagation, Registry,
        Subresource, WriteOptions, metadata,
    },
    store::{Cursor, Event, Key, Object, Operation, Persistence, Range, View},
};

/// Collects what owners leave behind.
#[derive(Debug)]
pub struct Collector {
    registry: Arc<Registry>,
    owners: Arc<Owners>,
    metrics: Arc<Metrics>,
    queue: Queue,
    /// Where the look at everything has come to; none when there is none.
    scan: Option<Scan>,
}

#[derive(Debug)]
struct Scan {
    view: View,
    after: Option<Key>,
}

/// What the collector tells Prometheus.
#[derive(Debug, Default)]
pub struct Metrics {
    collected: Counter,
    released: Counter,
    failures: Counter,
    queue: Gauge,
}

const IDENTITY: Identity = Identity::Component { name: "garbage-collector" };

/// After the store could not be followed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Metrics {
    /// Lists the figures in `registry`.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        registry.register(
            "isocast_controller_gc_collected",
            "Objects deleted because their owners are gone or going",
            self.collected.clone(),
        );
        registry.register(
            "isocast_controller_gc_released",
            "Objects that were made to forget owners, and owners let go",
            self.released.clone(),
        );
        registry.register(
            "isocast_controller_gc_failures",
            "Objects that could not be dealt with at once",
            self.failures.clone(),
        );
        registry.register(
            "isocast_controller_gc_queue",
            "Objects the garbage collector has yet to look at",
            self.queue.clone(),
        );
    }
}

impl Collector {
    /// Collects from `registry` what `owners` knows of.
    #[must_use]
    pub fn new(registry: Arc<Registry>, owners: Arc<Owners>, metrics: Arc<Metrics>) -> Self {
        Self { registry, owners, metrics, queue: Queue::default(), scan: None }
    }

    /// Follows until the store closes.
    pub async fn run(mut self) {
        while self.registry.store().is_alive() {
            match self.begin() {
                Ok(cursor) => self.follow(cursor).await,
                Err(error) => {
                    tracing::warn!(%error, "the garbage collector cannot follow the store");
                    sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    /// Begins to look at everything, and to follow from there.
    fn begin(&mut self) -> Result<Cursor, ApiError> {
        let view = self.everything()?;
        let proof = self.registry.authorize::<verb::Watch, _>(&IDENTITY, Range::Everything)?;
        let cursor = self.registry.store().watch(&proof, view.revision())?;
        self.scan = Some(Scan { view, after: None });
        Ok(cursor)
    }

    /// Until the cursor expires, or the store closes.
    async fn follow(&mut self, mut cursor: Cursor) {
        loop {
            self.metrics.queue.set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
            let is_idle = self.queue.is_empty() && self.scan.is_none();
            let due = self.queue.next();
            let sleeps = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                events = cursor.next() => match events {
                    Ok(events) => events.iter().for_each(|event| self.note(event)),
                    Err(_expired) => return,
                },
                () = std::future::ready(()), if !is_idle => self.work().await,
                () = sleeps, if is_idle => self.work().await,
            }
        }
    }

    /// Looks where an event says that something may follow.
    fn note(&mut self, event: &Event) {
        let (object, old) = (&*event.value(), event.old_value());
        let old = old.as_deref();
        let named = |value: &Value| -> Vec<Key> {
            references(value).iter().filter_map(|it| it.owner(&event.key)).collect()
        };
        match event.operation {
            Operation::Delete => {
                self.push_dependents(object);
                for owner in old.map(named).unwrap_or_default() {
                    self.queue.push(owner);
                }
            }
            Operation::Put => {
                let before = old.map(references).unwrap_or_default();
                if before != references(object) {
                    self.queue.push(event.key.clone());
                    // One that is no longer named may have waited for it.
                    for owner in old.map(named).unwrap_or_default() {
                        self.queue.push(owner);
                    }
                }
                if metadata::is_terminating(object) {
                    self.queue.push(event.key.clone());
                    if is_waiting(object) && !old.is_some_and(is_waiting) {
                        self.push_dependents(object);
                    }
                }
            }
        }
    }

    fn push_dependents(&mut self, owner: &Value) {
        let uid = metadata::text(owner, "uid");
        let (keys, _) = self.owners.dependents(uid, limits::GC_QUEUE.saturating_add(1));
        for key in keys {
            self.queue.push(key);
        }
    }

    /// Deals with some of what is queued, or finds more.
    async fn work(&mut self) {
        if self.queue.is_empty() {
            self.look_further();
        }
        let keys = self.queue.pop(limits::GC_BATCH, Instant::now());
        let this = &*self;
        let results = join_all(keys.into_iter().map(|key| async move {
            let result = this.visit(&key).await;
            (key, result)
        }))
        .await;
        for (key, result) in results {
            match result {
                Ok(Visit::Done) => self.queue.done(&key),
                Ok(Visit::Again) => self.queue.push(key),
                Err(error) => {
                    tracing::debug!(%key, %error, "the garbage collector is refused");
                    self.metrics.failures.inc();
                    self.queue.failed(key, Instant::now());
                }
            }
        }
        if self.queue.is_empty()
            && self.scan.is_none()
            && self.queue.take_lost()
            && let Ok(view) = self.everything()
        {
            self.scan = Some(Scan { view, after: None });
        }
    }

    /// Queues what has owners, or waits, in the next part of everything.
    fn look_further(&mut self) {
        let Some(scan) = &mut self.scan else { return };
        let all = Range::Everything;
        let part: Vec<&Object> = match &scan.after {
            Some(after) => scan.view.range_after(&all, after).take(limits::GC_SCAN).collect(),
            None => scan.view.iter().take(limits::GC_SCAN).collect(),
        };
        for object in part.iter().filter(|object| may_concern(&object.document.text())) {
            let value = object.glance();
            let waits = metadata::is_terminating(&value)
                && [FOREGROUND, ORPHAN].iter().any(|it| metadata::has_finalizer(&value, it));
            if waits || !references(&value).is_empty() {
                self.queue.push(object.key.clone());
            }
        }
        match part.last().map(|last| last.key.clone()) {
            Some(last) => scan.after = Some(last),
            None => self.scan = None,
        }
    }

    fn everything(&self) -> Result<View, ApiError> {
        let proof = self.registry.authorize::<verb::List, _>(&IDENTITY, Range::Everything)?;
        Ok(self.registry.store().view(&proof))
    }

    /// Does what is to be done about one object.
    async fn visit(&self, key: &Key) -> Result<Visit, ApiError> {
        let view = self.everything()?;
        let Some(object) = view.get(key) else { return Ok(Visit::Done) };
        let value = &*object.value();
        let references = references(value);
        let owners: Vec<(&str, Owner)> = references
            .iter()
            .map(|reference| {
                let owner = match reference.owner(key).map(|owner| view.get(&owner)) {
                    // What is not known here is not judged.
                    None => Owner::There,
                    Some(Some(owner)) if metadata::text(&owner.value(), "uid") == reference.uid => {
                        if is_waiting(&owner.value()) {
                            Owner::Waiting
                        } else {
                            Owner::There
                        }
                    }
                    Some(_) => Owner::Absent,
                };
                (reference.uid, owner)
            })
            .collect();
        let uid = metadata::text(value, "uid");
        let waits = owners.iter().any(|(_, owner)| *owner == Owner::Waiting);
        let in_circle = waits && self.has_waiting_dependent(&view, uid);
        match decide(value, &owners, self.owners.count(uid), in_circle) {
            Action::Keep => Ok(Visit::Done),
            Action::Delete { propagation, unblock: false } => {
                self.delete(object, propagation).await
            }
            Action::Delete { unblock: true, .. } => {
                // Then it is looked at again, and goes.
                let mut owners = owners_of(value);
                for owner in &mut owners {
                    if let Some(fields) = owner.as_object_mut() {
                        fields.insert("blockOwnerDeletion".to_owned(), json!(false));
                    }
                }
                match self.amend(object, [("ownerReferences", json!(owners))]).await? {
                    Visit::Again => Ok(Visit::Again),
                    Visit::Done => self.delete_unblocked(key).await,
                }
            }
            Action::Forget(gone) => {
                self.forget(object, |uid| gone.iter().any(|it| it == uid)).await
            }
            Action::Finish(finalizer) => {
                let finalizers = value.pointer("/metadata/finalizers").and_then(Value::as_array);
                let left: Vec<&Value> =
                    finalizers.into_iter().flatten().filter(|it| *it != finalizer).collect();
                self.amend(object, [("finalizers", json!(left))]).await
            }
            Action::Orphan => self.orphan(&view, uid).await,
        }
    }

    /// Deletes what no longer blocks its owners, with its own dependents before it.
    async fn delete_unblocked(&self, key: &Key) -> Result<Visit, ApiError> {
        match self.everything()?.get(key) {
            Some(object) => self.delete(object, Propagation::Foreground).await,
            None => Ok(Visit::Done),
        }
    }

    fn has_waiting_dependent(&self, view: &View, uid: &str) -> bool {
        let (dependents, _) = self.owners.dependents(uid, limits::GC_CIRCLE);
        let mut dependents = dependents.iter().filter_map(|key| view.get(key));
        dependents.any(|dependent| is_waiting(&dependent.value()))
    }

    /// Makes some of the dependents of an owner forget it.
    async fn orphan(&self, view: &View, uid: &str) -> Result<Visit, ApiError> {
        let (dependents, _) = self.owners.dependents(uid, limits::GC_BATCH);
        let objects = dependents.iter().filter_map(|key| view.get(key));
        let forget = objects.map(|object| self.forget(object, |owner| owner == uid));
        for result in join_all(forget).await {
            result?;
        }
        Ok(Visit::Again)
    }

    async fn forget(
        &self,
        object: &Object,
        is_gone: impl Fn(&str) -> bool,
    ) -> Result<Visit, ApiError> {
        let mut owners = owners_of(&object.value());
        owners.retain(|owner| {
            let uid = owner.get("uid").and_then(Value::as_str);
            !uid.is_some_and(&is_gone)
        });
        self.amend(object, [("ownerReferences", json!(owners))]).await
    }

    /// Changes the metadata of an object as it was seen.
    async fn amend<const N: usize>(
        &self,
        object: &Object,
        fields: [(&str, Value); N],
    ) -> Result<Visit, ApiError> {
        let Some(kind) = self.kind(&object.key) else { return Ok(Visit::Done) };
        let value = object.value();
        let seen = ["resourceVersion", "uid"]
            .map(|field| (field.to_owned(), json!(metadata::text(&value, field))));
        let fields = fields.into_iter().map(|(field, value)| (field.to_owned(), value));
        let metadata: serde_json::Map<String, Value> = fields.chain(seen).collect();
        let patch = json!({"metadata": metadata}).to_string();
        let proof = self.registry.authorize::<verb::Patch, _>(&IDENTITY, object.key.clone())?;
        let patch = Patch::Merge(patch.as_bytes());
        let written = self.registry.patch(&proof, kind, Subresource::None, patch, &options()).await;
        if written.is_ok() {
            self.metrics.released.inc();
        }
        self.settle(object, written.map(drop))
    }

    async fn delete(&self, object: &Object, propagation: Propagation) -> Result<Visit, ApiError> {
        let value = object.value();
        let seen = |field| Some(metadata::text(&value, field).to_owned());
        let delete = DeleteOptions {
            preconditions: Preconditions {
                uid: seen("uid"),
                resource_version: seen("resourceVersion"),
            },
            propagation_policy: Some(propagation.as_str().to_owned()),
            ..DeleteOptions::default()
        };
        let proof = self.registry.authorize::<verb::Delete, _>(&IDENTITY, object.key.clone())?;
        let deleted = self.registry.delete(&proof, &delete, &options()).await;
        if deleted.is_ok() {
            self.metrics.collected.inc();
        }
        self.settle(object, deleted.map(drop))
    }

    /// Whether an object that was written is done with, or must be looked at again because it is not
    /// what it was.
    fn settle(&self, object: &Object, written: Result<(), ApiError>) -> Result<Visit, ApiError> {
        match written {
            Ok(()) => Ok(Visit::Done),
            Err(gone) if gone.reason() == Reason::NotFound => Ok(Visit::Done),
            Err(refused) if refused.reason() == Reason::Conflict => {
                let view = self.everything()?;
                let now = view.get(&object.key).map(|object| object.revision);
                if now == Some(object.revision) { Err(refused) } else { Ok(Visit::Again) }
            }
            Err(refused) => Err(refused),
        }
    }

    fn kind(&self, key: &Key) -> Option<&Arc<Kind>> {
        self.registry.kinds().iter().find(|kind| kind.resource() == key.resource())
    }
}

/// What came of a look at an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    /// It changed meanwhile, or there is more to do.
    Again,
    Done,
}

/// Whether an object may have owners or be on its way out, by its text: most have neither, and parsing
/// them all is what a start with many of them would wait for.
fn may_concern(text: &str) -> bool {
    ["\"ownerReferences\"", "\"deletionTimestamp\""].iter().any(|field| text.contains(field))
}

fn owners_of(object: &Value) -> Vec<Value> {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.cloned().unwrap_or_default()
}

fn options() -> WriteOptions {
    WriteOptions {
        manager: "garbage-collector".to_owned(),
        persistence: Persistence::Durable,
        validation: FieldValidation::Ignore,
        force: false,
    }
}
