//! [`Reporter`]: writes what the agents say into the status of objects.
//!
//! In rounds: at most one write per object and round, none if nothing changed, at most five rounds
//! a second however fast the agents talk. A write that loses a race is made anew in the next round.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use isocast_api::{
    meta::{ConditionStatus, find_condition},
    network::Node,
    object::{Object, Spec},
};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};

use super::{
    aggregate::{self, Presence, Progress as Standing, Voice},
    compile::{Compilation, Objects, World},
    due::{Due, Pools},
    limits::{BLINK, STATUS_INTERVAL, STATUS_INTERVAL_MAX, STATUS_LIFE, STATUS_WRITES},
    metrics::Metrics,
    nodes::{Link, Nodes, Progress, Report},
    rotation::Keys,
    rotations,
    store_source::{Edition, IDENTITY, StoreSource, right},
};
use crate::{
    authz::{Authorizer, verb},
    error::Reason,
    store::{self, Expect, Key, Persistence, Resource, Revision, Store, Version, View, Write},
};

/// Turns reports into status.
#[derive(Debug)]
pub struct Reporter {
    store: Arc<Store>,
    nodes: Arc<Nodes>,
    editions: watch::Receiver<Arc<Edition>>,
    followed: Arc<Mutex<(World, Revision)>>,
    keys: Arc<Mutex<Keys>>,
    due: Arc<Mutex<Due>>,
    metrics: Arc<Metrics>,
}

/// A status that is not in the store yet.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) object: store::Object,
    pub(super) status: Value,
}

/// What one round looks at. Where every one of many pools is due that takes half a second, in which a
/// thread that serves requests would be missed.
struct Round {
    edition: Arc<Edition>,
    view: View,
    reports: BTreeMap<String, Report>,
    keys: Keys,
    newest: World,
    pools: Pools,
    refused: Refused,
}

impl Reporter {
    /// A reporter of what `nodes` say about the objects of `source`.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        source: &StoreSource,
        nodes: Arc<Nodes>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (editions, followed) = (source.editions(), source.followed());
        let (keys, due) = (source.keys(), source.due());
        Self { store, nodes, editions, followed, keys, due, metrics }
    }

    /// Reports until the store closes.
    pub async fn run(mut self) {
        let mut changes = self.nodes.changes();
        wait_for_the_known(&self.nodes, &self.editions, &mut changes).await;
        let mut refused = Refused::new();
        loop {
            let edition = Arc::clone(&self.editions.borrow_and_update());
            changes.mark_unchanged();
            self.round(edition, &mut refused).await;
            sleep(STATUS_INTERVAL).await;
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                changed = self.editions.changed() => if changed.is_err() { return },
                () = sleep(STATUS_INTERVAL_MAX) => {}
            }
        }
    }

    async fn round(&self, edition: Arc<Edition>, refused: &mut Refused) {
        let Ok(proof) = right::<verb::List>() else { return };
        let revision = edition.revision;
        let view = self.store.view(&proof);
        let reports = self.nodes.reports();
        let keys = self.keys.lock().clone();
        let (newest, _) = self.followed.lock().clone();
        let pools = self.due.lock().take(revision);
        let before = std::mem::take(refused);
        let round = Round { edition, view, reports, keys, newest, pools, refused: before };
        match spawn_blocking(move || round.updates()).await {
            Ok((updates, refusals)) => {
                *refused = refusals;
                let writes = stream::iter(updates).map(|update| self.write(update));
                writes.buffer_unordered(STATUS_WRITES).collect::<()>().await;
            }
            Err(error) => {
                tracing::error!(%error, "status could not be made out");
                self.due.lock().note_all(revision);
            }
        }
    }

    async fn write(&self, update: Update) {
        let Update { object, status } = update;
        let Ok(proof) = Authorizer.authorize::<verb::Update, Key>(&IDENTITY, object.key.clone())
        else {
            return;
        };
        let Ok(mut value) = object.document.text().read::<Value>() else { return };
        if let Some(fields) = value.as_object_mut() {
            fields.insert("status".into(), status);
        }
        let write = Write {
            expect: Expect::At(object.revision),
            value: Some(value),
            subresource: Some("status"),
            agent: "isocast-fleet".into(),
            persistence: Persistence::Durable,
        };
        match self.store.write(&proof, write).await {
            Ok(_) => {
                self.metrics.status_writes.inc();
            }
            Err(error) if error.reason() == Reason::NotFound => {}
            Err(error) if error.reason() == Reason::Conflict => {
                self.due.lock().note_again(&object.key);
            }
            Err(error) => {
                tracing::warn!(key = %object.key, %error, "status not written");
                self.due.lock().note_again(&object.key);
                self.metrics.status_failures.inc();
            }
        }
    }
}

impl Round {
    /// What is to be written, and the pools that nodes refuse now.
    fn updates(self) -> (Vec<Update>, Refused) {
        let (instant, now) = (Instant::now(), Timestamp::now());
        let Self { newest, view, reports, .. } = &self;
        let compilation = &self.edition.compilation;
        let voices = voices(compilation.world(), reports, instant);
        let refused = refused_pools(&voices);
        let pools = if self.refused == refused { &self.pools } else { &Pools::All };
        let mut updates = updates(compilation, newest, &self.keys, view, reports, instant, now);
        let world = compilation.world();
        updates.extend(pool_updates(world, newest, pools, view, &voices, now));
        (updates, refused)
    }
}

/// A controller that has just started has heard nobody, which is no news: it waits until every
/// node that was connected has spoken, or until their silence counts.
pub(super) async fn wait_for_the_known(
    nodes: &Nodes,
    editions: &watch::Receiver<Arc<Edition>>,
    changes: &mut watch::Receiver<u64>,
) {
    let everybody = async {
        loop {
            let reports = nodes.reports();
            let speaks =
                |node: &str| reports.get(node).is_some_and(|report| report.statement.is_some());
            let edition = Arc::clone(&editions.borrow());
            let mut known = edition.compilation.world().nodes.values();
            if known.all(|node| speaks(node.name()) || !was_connected(node)) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = everybody => {}
        () = sleep(STATUS_LIFE) => {}
    }
}

/// The pools that nodes refuse, and why: node, entry, reason and message.
type Refused = BTreeSet<(String, String, String, String)>;

fn refused_pools(voices: &BTreeMap<&str, Voice<'_>>) -> Refused {
    let refused = |voice: &Voice<'_>| match voice.progress {
        Standing::AppliedInPart { refused, .. } => refused.to_vec(),
        Standing::Applied { .. } | Standing::Pending | Standing::Refused(_) => Vec::new(),
    };
    let of_node = |(node, voice): (&&str, &Voice<'_>)| {
        let node = (*node).to_owned();
        let pools = refused(voice).into_iter().filter(|error| error.key.starts_with("pool/"));
        pools.map(move |error| (node.clone(), error.key, error.reason, error.message))
    };
    voices.iter().flat_map(of_node).collect()
}

/// What each node says. What an earlier node of the same name said is not said by this one.
fn voices<'a>(
    world: &World,
    reports: &'a BTreeMap<String, Report>,
    now: Instant,
) -> BTreeMap<&'a str, Voice<'a>> {
    let is_of_this_node = |(node, report): &(&String, &Report)| {
        world.nodes.get(*node).is_some_and(|node| node.metadata.uid == report.uid)
    };
    let known = reports.iter().filter(is_of_this_node);
    known.map(|(node, report)| (node.as_str(), voice(node, report, now))).collect()
}

/// Every status that differs from what the view has, but those of pools. `newest` is what is compared
/// first: a compilation keeps the status that objects had before it.
pub(super) fn updates(
    compilation: &Compilation,
    newest: &World,
    keys: &Keys,
    view: &View,
    reports: &BTreeMap<String, Report>,
    instant: Instant,
    now: Timestamp,
) -> Vec<Update> {
    let world = compilation.world();
    let voices = voices(world, reports, instant);
    let is_undecided = |node: &str| {
        reports.get(node).is_some_and(|report| match report.progress {
            Progress::Offered { since } => instant - since < BLINK,
            Progress::Applied { .. }
            | Progress::AppliedInPart { .. }
            | Progress::Refused { .. } => false,
        })
    };
    let of_node = |node: &Node| {
        // An offer is answered in a moment; what the answer is will be news, the offer is not.
        (!is_undecided(node.name())).then(|| {
            let silent = silent(node.name());
            let voice = voices.get(node.name()).unwrap_or(&silent);
            aggregate::node(node, voice, now)
        })
    };
    let mut updates = Vec::new();
    collect(view, (&world.nodes, &newest.nodes), &mut updates, of_node);
    collect(view, (&world.datacenters, &newest.datacenters), &mut updates, |it| {
        Some(aggregate::datacenter(world, it, &voices, now))
    });
    collect(view, (&world.peers, &newest.peers), &mut updates, |it| {
        Some(aggregate::bgp_peer(compilation, it, &voices, now))
    });
    collect(view, (&world.services, &newest.services), &mut updates, |it| {
        Some(aggregate::service(compilation, it, &voices, now))
    });
    collect(view, (&world.drains, &newest.drains), &mut updates, |it| {
        Some(aggregate::drain(world, it, &voices, now))
    });
    collect(view, (&world.key_rotations, &newest.key_rotations), &mut updates, |it| {
        Some(rotations::status(world, keys, it, reports, now))
    });
    updates
}

/// Every status of these pools that differs from what the view has.
pub(super) fn pool_updates(
    world: &World,
    newest: &World,
    pools: &Pools,
    view: &View,
    voices: &BTreeMap<&str, Voice<'_>>,
    now: Timestamp,
) -> Vec<Update> {
    let status = |it: &Object<_>| Some(aggregate::backend_pool(world, it, voices, now));
    let update = |pool| update(view, &pool, &pool, &status);
    let known = &newest.backend_pools;
    match pools {
        Pools::All => known.values().filter_map(update).collect(),
        Pools::These(names) => {
            let pools = names.iter().filter_map(|(namespace, name)| known.get(namespace, name));
            pools.filter_map(update).collect()
        }
    }
}

/// Adds the updates of one kind: of the objects of a compilation, as the newest ones need them.
fn collect<K: Ord, S: Spec>(
    view: &View,
    (compiled, newest): (&Objects<K, S>, &Objects<K, S>),
    updates: &mut Vec<Update>,
    status: impl Fn(&Object<S>) -> Option<S::Status>,
) {
    let of_one = |(key, object)| update(view, object, newest.get(key).unwrap_or(object), &status);
    updates.extend(compiled.iter().filter_map(of_one));
}

/// The update of an object, if it needs one. Most have the status that they shall have, and are not
/// looked for in the store.
fn update<S: Spec>(
    view: &View,
    object: &Object<S>,
    newest: &Object<S>,
    status: &impl Fn(&Object<S>) -> Option<S::Status>,
) -> Option<Update> {
    let next = status(object).filter(|next| *next != newest.status)?;
    let resource = Resource::new(S::KIND.plural, S::KIND.group);
    let key = Key::new(resource, object.metadata.namespace.as_deref(), object.name());
    let stored = view.get(&key)?;
    let version = object.metadata.resource_version.as_deref();
    let is_newest =
        version.and_then(|it| it.parse().ok()).map(Version::revision) == Some(stored.revision);
    let other = |it: &Object<S>| status(it).filter(|next| *next != it.status);
    let next =
        if is_newest { next } else { other(&stored.document.text().read::<Object<S>>().ok()?)? };
    match serde_json::to_value(next) {
        Ok(status) => Some(Update { object: stored.clone(), status }),
        Err(error) => {
            tracing::error!(key = %stored.key, %error, "status cannot be written");
            None
        }
    }
}

/// What a report comes to at this moment.
pub(super) fn voice<'a>(node: &'a str, report: &'a Report, now: Instant) -> Voice<'a> {
    let presence = match report.link {
        Link::Connected(_) => Presence::Connected,
        Link::Disconnected(since) if now - since < BLINK => Presence::Connected,
        Link::Disconnected(_) => Presence::Disconnected,
    };
    let statement = report.statement.as_ref();
    let fresh = statement.filter(|(_, said)| now - *said < STATUS_LIFE);
    let progress = match &report.progress {
        Progress::Applied { revision } => Standing::Applied { revision: *revision },
        Progress::AppliedInPart { revision, refused } => {
            Standing::AppliedInPart { revision: *revision, refused }
        }
        Progress::Offered { .. } => Standing::Pending,
        Progress::Refused { nack, .. } => Standing::Refused(nack),
    };
    Voice { node, presence, statement: fresh.map(|(status, _)| &**status), progress }
}

/// A node that has not been heard of.
fn silent(node: &str) -> Voice<'_> {
    let (presence, progress) = (Presence::Disconnected, Standing::Pending);
    Voice { node, presence, statement: None, progress }
}

fn was_connected(node: &Node) -> bool {
    find_condition(&node.status.conditions, "Connected")
        .is_some_and(|condition| condition.status == ConditionStatus::True)
}
