//! [`StoreSource`]: the desired state as the store's objects have it.
//!
//! Follows the log, passes over what no node can notice, and compiles the rest anew, several
//! changes at a time. An object that does not decode is left out and said so: it must not hold up
//! the others. Keys move on with it: what nodes say of theirs is news as well, while a rotation is
//! under way.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::Path,
    sync::{Arc, OnceLock, Weak},
    time::{SystemTime, UNIX_EPOCH},
};

use futures::FutureExt;
use isocast_api::{
    ResourceKind,
    agent::{Configuration, Tombstone},
    iam,
    network::{Node, NodeRole},
    registry::{self, KindDescriptor},
};
use isocast_bgp::origination::Moment;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use super::{
    compile::{Compilation, World},
    due::Due,
    key_metrics,
    keys::{KeyError, at},
    limits::{COMPILE_DELAY, KEYS_INTERVAL},
    nodes::{Nodes, Progress},
    removals::{Carried, Grave, Present, Removals},
    rotation::{self, Held, Keys},
    rotations,
    source::{Desired, Source},
};
use crate::{
    authz::{Authorized, Authorizer, Identity, Verb, verb},
    cabinet::{Cabinet, Sheet},
    error::{ApiError, Reason},
    store::{Document, Event, Key, Operation, Range, Revision, Store},
};

/// Compiles the store's objects whenever they change.
#[derive(Debug)]
pub struct StoreSource {
    store: Arc<Store>,
    keys: Arc<Mutex<Keys>>,
    keys_sheet: Mutex<Sheet>,
    removals: Mutex<Removals>,
    removals_sheet: Mutex<Sheet>,
    nodes: OnceLock<Arc<Nodes>>,
    /// What the store had at a revision, as far as the log was followed. The keys are not in it.
    followed: Arc<Mutex<(World, Revision)>>,
    /// What happened to pools on the way.
    due: Arc<Mutex<Due>>,
    /// When removals that are held, or keys, may go on.
    relief: watch::Sender<Option<Moment>>,
    compiled: watch::Sender<Arc<Edition>>,
    desired: watch::Sender<Arc<dyn Desired>>,
}

/// A compilation and the revision it was made at.
#[derive(Debug)]
pub(super) struct Edition {
    pub(super) revision: Revision,
    pub(super) compilation: Compilation,
}

impl StoreSource {
    /// Compiles what is in the store now. The cluster's keys are made in `cabinet` when they are not
    /// there yet. May block.
    ///
    /// # Errors
    /// The keys cannot be loaded or made.
    pub fn open(store: Arc<Store>, cabinet: &Arc<dyn Cabinet>) -> Result<Arc<Self>, KeyError> {
        let mut keys_sheet = Sheet::new(cabinet, "keyring.json");
        let keys = load_or_make(&mut keys_sheet).map_err(at(Path::new(keys_sheet.name())))?;
        let mut removals_sheet = Sheet::new(cabinet, "removals.json");
        let removals = Removals::load(&mut removals_sheet).unwrap_or_else(|error| {
            // Agents keep what they are not told is gone, so this loses no route.
            tracing::error!(%error, file = removals_sheet.name(), "removals are forgotten");
            Removals::default()
        });
        let (mut world, revision) = world(&store);
        let followed = Arc::new(Mutex::new((world.clone(), revision)));
        let mut due = Due::default();
        due.note_all(revision);
        world.keyring = keys.keyring();
        let first = Edition { revision, compilation: Compilation::new(Arc::new(world)) };
        let first = Arc::new(first);
        let desired: Arc<dyn Desired> = Arc::<Edition>::clone(&first);
        let (compiled, desired) = (watch::Sender::new(first), watch::Sender::new(desired));
        let source = Self {
            store,
            keys: Arc::new(Mutex::new(keys)),
            keys_sheet: Mutex::new(keys_sheet),
            removals: Mutex::new(removals),
            removals_sheet: Mutex::new(removals_sheet),
            nodes: OnceLock::new(),
            followed,
            due: Arc::new(Mutex::new(due)),
            relief: watch::Sender::new(None),
            compiled,
            desired,
        };
        // What was carried when the controller was last alive may be gone.
        source.replace(source.edition());
        Ok(Arc::new(source))
    }

    /// What agents say: a removal is remembered until all of them have heard of it.
    pub fn listen_to(&self, nodes: Arc<Nodes>) {
        // The first one counts; there is one fleet.
        drop(self.nodes.set(nodes));
    }

    /// The keys, as far as the cluster has come with them.
    pub(super) fn keys(&self) -> Arc<Mutex<Keys>> {
        Arc::clone(&self.keys)
    }

    /// What the store had at a revision: newer than any compilation, which status alone is no reason for.
    pub(super) fn followed(&self) -> Arc<Mutex<(World, Revision)>> {
        Arc::clone(&self.followed)
    }

    /// Which pools are to be looked at.
    pub(super) fn due(&self) -> Arc<Mutex<Due>> {
        Arc::clone(&self.due)
    }

    /// Follows the log until the store closes.
    pub async fn run(self: Arc<Self>) {
        let mut position = self.compiled.borrow().revision;
        let mut said = self.nodes.get().map(|nodes| nodes.changes());
        loop {
            let Ok(proof) = right::<verb::Watch>() else { return };
            let mut cursor = match self.store.watch(&proof, position) {
                Ok(cursor) => cursor,
                Err(error) if error.reason() == Reason::Expired => {
                    position = self.begin_anew();
                    self.publish().await;
                    continue;
                }
                Err(error) => return tracing::error!(%error, "the log cannot be followed"),
            };
            loop {
                let relief = *self.relief.borrow();
                let events = tokio::select! {
                    events = cursor.next() => events,
                    () = sleep_until(relief) => {
                        self.publish().await;
                        continue;
                    }
                    () = self.keys_are_taken(&mut said) => {
                        self.publish().await;
                        continue;
                    }
                };
                match events {
                    Ok(events) => {
                        if self.take_in(&events) {
                            sleep(COMPILE_DELAY).await;
                            // What has come meanwhile is compiled with it.
                            while let Some(Ok(events)) = cursor.next().now_or_never() {
                                self.take_in(&events);
                            }
                            self.publish().await;
                        }
                    }
                    Err(error) if error.reason() == Reason::Expired => {
                        position = self.begin_anew();
                        self.publish().await;
                        break;
                    }
                    Err(_closed) => return,
                }
            }
        }
    }

    /// The newest compilation.
    pub(super) fn editions(&self) -> watch::Receiver<Arc<Edition>> {
        self.compiled.subscribe()
    }

    /// Follows the store's changes; whether any node can notice them.
    fn take_in(&self, events: &[Event]) -> bool {
        let (world, revision) = &mut *self.followed.lock();
        let mut is_news = false;
        let mut due = self.due.lock();
        for event in events.iter().filter(|event| event.revision() > *revision) {
            let matters = matters(event);
            is_news |= matters;
            due.note(&event.key, event.revision(), matters);
            follow(world, &event.key, &event.document, event.operation);
        }
        *revision = events.iter().map(|event| event.revision()).fold(*revision, Revision::max);
        is_news
    }

    /// Takes everything from the store: the log could not be followed.
    fn begin_anew(&self) -> Revision {
        let anew = world(&self.store);
        let revision = anew.1;
        *self.followed.lock() = anew;
        self.due.lock().note_all(revision);
        revision
    }

    async fn publish(self: &Arc<Self>) {
        let source = Arc::clone(self);
        match spawn_blocking(move || source.edition()).await {
            Ok(edition) => self.replace(edition),
            Err(error) => tracing::error!(%error, "configurations could not be compiled"),
        }
    }
}

// === removals ===

impl StoreSource {
    /// Compiles anew. What is gone is said to be, or held.
    fn edition(&self) -> Edition {
        let (mut world, revision) = self.followed.lock().clone();
        let keys_may_move_at = self.move_keys(&mut world);
        let mut edition = Edition { revision, compilation: Compilation::new(Arc::new(world)) };
        let before = Arc::clone(&self.compiled.borrow());
        let mut removals = self.removals.lock();
        let was = removals.clone();
        let outcome = removals.follow(
            &self.present(&edition),
            &|uid| edition.compilation.reason(uid).map(str::to_owned),
            now(),
        );
        for uid in &outcome.held {
            edition.compilation.hold(uid, &before.compilation);
        }
        let tombstone = |(uid, grave): (&String, &Grave)| Tombstone {
            uid: uid.clone(),
            name: grave.name.clone(),
            reason: grave.reason.clone(),
        };
        edition.compilation.set_tombstones(removals.graves().iter().map(tombstone).collect());
        if !outcome.held.is_empty() {
            tracing::warn!(services = outcome.held.len(), "removals held: too many at once");
        }
        if *removals != was
            && let Err(error) = removals.store(&mut self.removals_sheet.lock())
        {
            tracing::error!(%error, "removals cannot be remembered");
        }
        let relief = [outcome.wake_at, keys_may_move_at].into_iter().flatten().min();
        self.relief.send_replace(relief);
        edition
    }

    fn present(&self, edition: &Edition) -> Present {
        let Edition { revision, compilation } = edition;
        let carried = compilation.carried();
        let routers = compilation.world().peers.values();
        Present {
            revision: revision.0,
            services: carried
                .map(|(uid, name, prefixes)| (uid.to_owned(), Carried { name, prefixes }))
                .collect(),
            routers: routers
                .map(|peer| (peer.metadata.uid.clone(), peer.name().to_owned()))
                .collect(),
            acknowledged: self.acknowledged(compilation.world()),
        }
    }

    /// The revision that every edge has in force; nothing while one of them has not said.
    fn acknowledged(&self, world: &World) -> u64 {
        let Some(nodes) = self.nodes.get() else { return 0 };
        let applied = |node: &Node| match nodes.report(node.name())?.progress {
            // Tombstones are among what was taken: they are refused by nobody.
            Progress::Applied { revision } | Progress::AppliedInPart { revision, .. } => {
                Some(revision)
            }
            Progress::Offered { .. } | Progress::Refused { .. } => None,
        };
        let edges = world.nodes.values().filter(|node| node.spec.has_role(NodeRole::Edge));
        edges.map(|node| applied(node).unwrap_or_default()).min().unwrap_or(u64::MAX)
    }

    fn replace(&self, edition: Edition) {
        let edition = Arc::new(edition);
        let desired: Arc<dyn Desired> = Arc::<Edition>::clone(&edition);
        self.compiled.send_replace(edition);
        self.desired.send_replace(desired);
    }
}

impl Source for StoreSource {
    fn desired(&self) -> watch::Receiver<Arc<dyn Desired>> {
        self.desired.subscribe()
    }
}

impl Desired for Edition {
    fn revision(&self) -> u64 {
        self.revision.0
    }

    fn node_uid(&self, node: &str) -> Option<String> {
        let node = self.compilation.world().nodes.get(node)?;
        Some(node.metadata.uid.clone())
    }

    fn compile(&self, node: &str) -> Configuration {
        self.compilation.configuration(node).unwrap_or_default()
    }
}

// === keys ===

impl StoreSource {
    /// Moves the keys on, if it is time, and gives the world those that nodes shall have. No node
    /// hears of keys that are not on disk. Says when to look again.
    fn move_keys(&self, world: &mut World) -> Option<Moment> {
        let mut keys = self.keys.lock();
        let mut next = keys.clone();
        let (orders, held) = (rotations::orders(world), self.held(world));
        let wake_at = next.step(&orders, &held, now(), rand::random);
        let outcome = if next == *keys { Ok(()) } else { next.store(&mut self.keys_sheet.lock()) };
        let wake_at = match outcome {
            Ok(()) => {
                *keys = next;
                wake_at
            }
            Err(error) => {
                tracing::error!(%error, "keys cannot be written, and so stay as they are");
                Some(now().after(KEYS_INTERVAL))
            }
        };
        world.keyring = keys.keyring();
        wake_at
    }

    /// How far the keys have come, for an operator.
    fn key_progress(&self) -> rotation::Progress {
        let edition = Arc::clone(&self.compiled.borrow());
        let world = edition.compilation.world();
        let (orders, held) = (rotations::orders(world), self.held(world));
        self.keys.lock().progress(&orders, &held)
    }

    /// Adds the figures of the keys to `registry`: of those that are `current`, if there are any.
    pub(crate) fn register(current: &Arc<Mutex<Weak<Self>>>, registry: &mut Registry) {
        let current = Arc::clone(current);
        let rest = rotation::Progress::default();
        let look = move || current.lock().upgrade().map_or(rest, |source| source.key_progress());
        key_metrics::register(registry, look);
    }

    /// Waits until a rotation may move on because of what nodes have `said`.
    async fn keys_are_taken(&self, said: &mut Option<watch::Receiver<u64>>) {
        let Some(said) = said else { return std::future::pending().await };
        while said.changed().await.is_ok() {
            if self.are_keys_taken() {
                return;
            }
            if self.keys.lock().is_moving() {
                // However fast they talk.
                sleep(KEYS_INTERVAL).await;
            }
        }
        std::future::pending().await
    }

    fn are_keys_taken(&self) -> bool {
        let edition = Arc::clone(&self.compiled.borrow());
        let world = edition.compilation.world();
        let keys = self.keys.lock();
        keys.is_moving()
            && keys.waiting_for(&rotations::orders(world), &self.held(world)).is_empty()
    }

    fn held(&self, world: &World) -> Held {
        let nodes = self.nodes.get();
        rotations::held(world, |node| nodes?.report(node))
    }
}

/// The keys that were written last, or those of a new cluster.
fn load_or_make(sheet: &mut Sheet) -> std::io::Result<Keys> {
    if let Some(keys) = Keys::load(sheet)? {
        return Ok(keys);
    }
    let keys = Keys::new(rand::random());
    keys.store(sheet)?;
    Ok(keys)
}

/// The fleet's right to everything there is.
pub(super) fn right<V: Verb>() -> Result<Authorized<V, Range>, ApiError> {
    Authorizer.authorize(&IDENTITY, Range::Everything)
}

/// Who the fleet is to the store.
pub(super) const IDENTITY: Identity = Identity::Component { name: "fleet" };

/// The objects, and the revision that they are of. Keys are not among them.
fn world(store: &Store) -> (World, Revision) {
    let mut world = World::default();
    let mut revision = Revision::default();
    if let Ok(proof) = right::<verb::List>() {
        let view = store.view(&proof);
        revision = view.revision();
        for object in view.iter() {
            follow(&mut world, &object.key, &object.document, Operation::Put);
        }
    }
    (world, revision)
}

/// Adds an object or takes it out; leaves out what does not decode, and says so.
fn follow(world: &mut World, key: &Key, document: &Arc<Document>, operation: Operation) {
    if let Err(error) = world.follow(key, document, operation) {
        tracing::error!(%key, %error, "object left out");
    }
}

fn now() -> Moment {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment(0).after(since_epoch)
}

async fn sleep_until(at: Option<Moment>) {
    match at {
        Some(at) => sleep(at.since(now()).max(COMPILE_DELAY)).await,
        None => std::future::pending().await,
    }
}

/// Whether any node can notice the change: reports of status, which nodes are the source of, come
/// back by the same log.
fn matters(event: &Event) -> bool {
    let resource = event.key.resource();
    let is_its = |kind: &&KindDescriptor| resource.is(kind.plural, kind.group);
    let Some(kind) = registry::kinds().iter().find(is_its) else { return false };
    if kind.reported || kind.group == iam::GROUP {
        return false;
    }
    let (Some(old), true) = (&event.old, is_reported(kind.resource_kind)) else { return true };
    let (old, new) = (old.text(), event.document.text());
    event.operation == Operation::Delete
        || match (old.read::<Wanted<'_>>(), new.read::<Wanted<'_>>()) {
            (Ok(old), Ok(new)) => !old.is_same(&new),
            _ => true,
        }
}

/// What a node can notice of an object whose status the fleet writes.
#[derive(Deserialize)]
struct Wanted<'a> {
    #[serde(borrow)]
    metadata: WantedMetadata<'a>,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
}

#[derive(PartialEq, Deserialize)]
struct WantedMetadata<'a> {
    #[serde(default)]
    generation: i64,
    #[serde(borrow, default)]
    labels: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
    #[serde(borrow, default)]
    uid: Cow<'a, str>,
}

impl Wanted<'_> {
    fn is_same(&self, other: &Self) -> bool {
        // The server writes an unchanged spec as it was.
        self.metadata == other.metadata
            && self.spec.map(RawValue::get) == other.spec.map(RawValue::get)
    }
}

/// Whether the fleet writes the status of such objects.
fn is_reported(kind: ResourceKind) -> bool {
    matches!(
        kind,
        ResourceKind::AnycastService
            | ResourceKind::BackendPool
            | ResourceKind::BgpPeer
            | ResourceKind::Datacenter
            | ResourceKind::Drain
            | ResourceKind::KeyRotation
            | ResourceKind::Node
    )
}
