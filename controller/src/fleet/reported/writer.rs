//! [`RoutingReporter`]: writes what nodes report into objects of their own.
//!
//! In rounds of a second: an object is written once a round at most, however fast its session
//! flaps, and only if it differs; one that differs in counts alone waits longer. A round writes a
//! bounded number of objects, the next one goes on. A write that loses a race is made anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use isocast_api::{
    agent::NodeStatus,
    network::{BgpAdvertisementSpec, BgpPeer, BgpSessionSpec},
};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Change, Drafts, Word, advertisement, missing, session};
use crate::{
    authz::{Authorizer, Verb, WriteVerb, verb},
    error::{ApiError, Reason},
    fleet::{
        aggregate::Voice,
        compile::Compilation,
        limits::{COUNTS_INTERVAL, REPORT_INTERVAL, REPORT_WRITES_MAX, STATUS_WRITES},
        metrics::Metrics,
        nodes::{Nodes, Report},
        reporter::{voice, wait_for_the_known},
        store_source::{Edition, IDENTITY, StoreSource, right},
    },
    store::{Expect, Glance, Key, Persistence, Store, View, Write},
};

/// See the module.
#[derive(Debug)]
pub struct RoutingReporter {
    store: Arc<Store>,
    nodes: Arc<Nodes>,
    editions: watch::Receiver<Arc<Edition>>,
    metrics: Arc<Metrics>,
    memory: Memory,
}

/// What earlier rounds left behind.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// What each node said that is in the store already.
    settled: BTreeMap<String, Arc<NodeStatus>>,
    /// The objects that nodes were judged by.
    edition: Option<Arc<Edition>>,
    /// When objects were last written whose counts change.
    counted: BTreeMap<Key, Instant>,
}

impl RoutingReporter {
    /// A reporter of what `nodes` say.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        source: &StoreSource,
        nodes: Arc<Nodes>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { store, nodes, editions: source.editions(), metrics, memory: Memory::default() }
    }

    /// Reports until the store closes.
    pub async fn run(mut self) {
        let mut changes = self.nodes.changes();
        wait_for_the_known(&self.nodes, &self.editions, &mut changes).await;
        while self.editions.has_changed().is_ok() {
            let edition = Arc::clone(&self.editions.borrow_and_update());
            self.round(&edition).await;
            sleep(REPORT_INTERVAL).await;
        }
    }

    async fn round(&mut self, edition: &Arc<Edition>) {
        let Ok(proof) = right::<verb::List>() else { return };
        let view = self.store.view(&proof);
        let reports = self.nodes.reports();
        let changes =
            self.memory.changes(edition, &view, &reports, Instant::now(), Timestamp::now());
        let writes = stream::iter(changes).map(|change| self.write(change));
        writes.buffer_unordered(STATUS_WRITES).collect::<()>().await;
    }

    async fn write(&self, change: Change) {
        let key = change.key().clone();
        let written = match change {
            Change::Create { key, value } => {
                self.put::<verb::Create>(key, Expect::Absent, Some(value), None).await
            }
            Change::Remove { object } => {
                let expect = Expect::At(object.revision);
                self.put::<verb::Delete>(object.key, expect, None, None).await
            }
            Change::Update { object, status, .. } => {
                let mut value = Value::clone(&object.value());
                if let Some(fields) = value.as_object_mut() {
                    fields.insert("status".into(), status);
                }
                let expect = Expect::At(object.revision);
                self.put::<verb::Update>(object.key, expect, Some(value), Some("status")).await
            }
        };
        match written {
            Ok(()) => {
                self.metrics.reported_writes.inc();
            }
            Err(error)
                if matches!(
                    error.reason(),
                    Reason::AlreadyExists | Reason::Conflict | Reason::NotFound
                ) => {}
            Err(error) => {
                tracing::warn!(%key, %error, "report not written");
                self.metrics.reported_failures.inc();
            }
        }
    }

    async fn put<V: Verb + WriteVerb>(
        &self,
        key: Key,
        expect: Expect,
        value: Option<Value>,
        subresource: Option<&'static str>,
    ) -> Result<(), ApiError> {
        let proof = Authorizer.authorize::<V, Key>(&IDENTITY, key)?;
        let write = Write {
            expect,
            value,
            subresource,
            agent: "isocast-fleet".into(),
            persistence: Persistence::Durable,
        };
        self.store.write(&proof, write).await.map(drop)
    }
}

// === impl Memory ===

/// What one node is to have.
struct Wanted {
    sessions: Drafts<BgpSessionSpec>,
    advertisements: Drafts<BgpAdvertisementSpec>,
}

impl Memory {
    /// The writes of this round.
    pub(super) fn changes(
        &mut self,
        edition: &Arc<Edition>,
        view: &View,
        reports: &BTreeMap<String, Report>,
        instant: Instant,
        now: Timestamp,
    ) -> Vec<Change> {
        if !self.edition.as_ref().is_some_and(|known| Arc::ptr_eq(known, edition)) {
            self.edition = Some(Arc::clone(edition));
            self.settled.clear();
        }
        let compilation = &edition.compilation;
        let nodes = &compilation.world().nodes;
        let voices: BTreeMap<&str, Voice<'_>> = reports
            .iter()
            .filter(|(node, report)| {
                nodes.get(*node).is_some_and(|node| node.metadata.uid == report.uid)
            })
            .map(|(node, report)| (node.as_str(), voice(node, report, instant)))
            .filter(|(_, voice)| voice.statement.is_some())
            .collect();
        let is_settled = |node: &str| {
            let said = voices.get(node).and_then(|voice| voice.statement);
            let known = self.settled.get(node);
            said.zip(known).is_some_and(|(said, known)| is_same(said, known))
        };
        let peers = peers_by_node(compilation);
        let wanted: BTreeMap<&str, Wanted> = voices
            .iter()
            .filter(|(node, _)| !is_settled(node))
            .map(|(node, voice)| {
                let configured = peers.get(node).into_iter().flatten().copied();
                let sessions = session::drafts(voice, configured);
                (*node, Wanted { sessions, advertisements: advertisement::drafts(voice) })
            })
            .collect();
        let word = |node: &str| match wanted.get(node) {
            Some(wanted) => Word::Says(wanted),
            None if voices.contains_key(node) => Word::Settled,
            None => Word::Silent,
        };
        let of_sessions = |node: &str| word(node).map(|wanted| &wanted.sessions);
        let of_advertisements = |node: &str| word(node).map(|wanted| &wanted.advertisements);
        let mut changes = missing(view, nodes, of_sessions, session::carry, now);
        changes.extend(missing(view, nodes, of_advertisements, advertisement::carry, now));
        self.settle(&changes, &wanted, reports);
        self.choose(changes, instant)
    }

    /// Notes of which nodes all is in the store.
    fn settle(
        &mut self,
        changes: &[Change],
        wanted: &BTreeMap<&str, Wanted>,
        reports: &BTreeMap<String, Report>,
    ) {
        let unwritten: BTreeSet<String> = changes.iter().map(node_of).collect();
        for node in wanted.keys().filter(|node| !unwritten.contains(**node)) {
            let statement = reports.get(*node).and_then(|report| report.statement.as_ref());
            if let Some((said, _)) = statement {
                self.settled.insert((*node).to_owned(), Arc::clone(said));
            }
        }
        self.settled.retain(|node, _| reports.contains_key(node));
    }

    /// Leaves out what may wait, and what is too much at once.
    fn choose(&mut self, mut changes: Vec<Change>, instant: Instant) -> Vec<Change> {
        self.counted.retain(|_, written| instant - *written < COUNTS_INTERVAL);
        changes.retain(|change| match change {
            Change::Update { object, is_urgent, .. } => {
                *is_urgent || !self.counted.contains_key(&object.key)
            }
            Change::Create { .. } | Change::Remove { .. } => true,
        });
        changes.truncate(REPORT_WRITES_MAX);
        for change in &changes {
            self.counted.insert(change.key().clone(), instant);
        }
        changes
    }
}

/// Whether two statements make the same objects.
fn is_same(one: &NodeStatus, other: &NodeStatus) -> bool {
    one.peers == other.peers && one.prefixes == other.prefixes && one.refused == other.refused
}

fn node_of(change: &Change) -> String {
    let value = match change {
        Change::Create { value, .. } => Glance::Borrowed(value),
        Change::Remove { object } | Change::Update { object, .. } => Glance::Shared(object.value()),
    };
    value.pointer("/spec/node").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The routers that each node is to speak with.
fn peers_by_node(compilation: &Compilation) -> BTreeMap<&str, Vec<&BgpPeer>> {
    let mut all: BTreeMap<&str, Vec<&BgpPeer>> = BTreeMap::new();
    for peer in compilation.world().peers.values() {
        for node in compilation.speakers(peer) {
            all.entry(node.name()).or_default().push(peer);
        }
    }
    all
}
