//! The store: one revision log, and the objects as the log leaves them.
//!
//! Reads are snapshots in memory ([`View`]); writes go through one sequencer and are answered once
//! durable; watchers are cursors over the log. Every call asks for an [`Authorized`] value. The
//! store knows keys and JSON, never a kind's meaning; rules come in as [`Admission`]s.

mod backend;
mod backup;
mod batch;
mod bell;
mod change;
mod codec;
mod document;
mod etcd;
mod head;
mod history;
mod index;
mod journal;
mod journaled;
mod kept;
mod key;
mod lease;
mod log;
mod memory;
mod metrics;
mod packed;
mod reading;
mod records;
mod redb;
mod retention;
mod sealed;
mod seals;
mod sequencer;
mod size;
mod tail;
#[cfg(test)]
mod tests;
mod version;
mod view;

use std::{
    collections::HashMap,
    fmt, io,
    ops::ControlFlow,
    sync::Arc,
    thread::{self, JoinHandle},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

pub use self::{
    backend::{
        Backend, BackendError, Capacity, Commit, Each, Extent, HEAD, Row, Snapshot, Table, Wake,
    },
    backup::{BackupError, NamedFile, Restored, restore},
    change::{Audit, Change, ChangeSet, Object, Operation, Revision},
    document::{Document, Glance, Text},
    etcd::{EtcdBackend, EtcdFiles, EtcdOptions},
    journaled::Journaled,
    key::{Key, Range, Resource},
    lease::{Lease, Term},
    memory::MemoryBackend,
    metrics::StoreMetrics,
    records::{Chain, Checked, Record, RecordReader},
    redb::RedbBackend,
    retention::Retention,
    sealed::{Keyring, KeyringError, Sealed},
    tail::{Cursor, Event},
    version::Version,
    view::View,
};
use self::{
    history::Past,
    log::Log,
    reading::Reading,
    records::{LogReader, TablesReader},
    sequencer::{Order, Request, Sequencer},
    tail::{Recent, Tail},
};
pub(crate) use self::{seals::Needs, size::of as size_of};
use crate::{
    admission::Admission,
    audit,
    authz::{Authorized, Verb, WriteVerb, verb},
    error::{ApiError, Reason},
    limits,
};

/// The platform's state.
pub struct Store {
    published: Arc<ArcSwap<View>>,
    tail: Arc<Tail>,
    backend: Arc<dyn Backend>,
    /// Reads of the past under way.
    past: Arc<Semaphore>,
    queue: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

/// What a writer wants.
#[derive(Clone, Debug)]
pub struct Write {
    /// What must be there now.
    pub expect: Expect,
    /// The whole object as it shall be, or none to remove it.
    pub value: Option<Value>,
    /// `status`, or none for the object itself.
    pub subresource: Option<&'static str>,
    /// Field manager or user agent, for the audit record.
    pub agent: String,
    /// Whether it is meant.
    pub persistence: Persistence,
}

/// What a write finds, or it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// The object as of its last change at this revision.
    At(Revision),
}

/// Whether a write is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// It goes through every check and is then dropped.
    DryRun,
    /// It is answered once it is on disk.
    Durable,
}

impl Store {
    /// Loads the objects and starts the sequencer.
    ///
    /// # Errors
    /// When the backend cannot be read, or no thread can be started.
    pub fn open(
        backend: impl Backend + 'static,
        admissions: Vec<Arc<dyn Admission>>,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Self, OpenError> {
        Self::open_retaining(Retention::default(), Arc::new(backend), admissions, metrics)
    }

    /// The same, with a history of its own length.
    ///
    /// # Errors
    /// When the backend cannot be read, or no thread can be started.
    pub fn open_retaining(
        retention: Retention,
        backend: Arc<dyn Backend>,
        admissions: Vec<Arc<dyn Admission>>,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Self, OpenError> {
        let reading = Reading::of(&*backend)?;
        // Of the same moment as the objects: others may write meanwhile, and that is to be news.
        let log = Log::at(Arc::clone(&backend), reading.head, reading.stored_head.clone());
        let log = log.with_records_for(retention.records_age());
        let head = reading.head.extent.head;
        let mut view = View::new(head, reading.objects()?);
        for admission in &admissions {
            admission.open(&view);
        }
        sequencer::derived(&admissions, &mut view, 0);
        let derived = admissions.iter().flat_map(|admission| admission.derives()).collect();
        let recent = recent(&reading)?;
        for commit in recent.commits() {
            for admission in &admissions {
                admission.recall(&commit.events);
            }
        }
        let tail = Arc::new(Tail::new(head, recent).deriving(derived));
        drop(reading);
        metrics.reached(head);
        let published = Arc::new(ArcSwap::from_pointee(view));
        let (sender, queue) = mpsc::channel(limits::WRITE_QUEUE);
        let sequencer = Sequencer {
            log,
            retention,
            admissions,
            published: Arc::clone(&published),
            tail: Arc::clone(&tail),
            metrics,
            is_behind: false,
        };
        let others = sender.downgrade();
        backend.follow(Box::new(move || match others.upgrade() {
            // A full queue means that the sequencer is about to look anyway.
            Some(queue) => {
                drop(queue.try_send(Order::Follow));
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()),
        }));
        let thread = thread::Builder::new()
            .name("sequencer".into())
            .spawn(move || sequencer.run(queue))
            .map_err(OpenError::Thread)?;
        let past = Arc::new(Semaphore::new(limits::PAST_READS));
        Ok(Self { published, tail, backend, past, queue: Some(sender), thread: Some(thread) })
    }

    /// The newest object of the proof's key.
    pub fn get(&self, proof: &Authorized<verb::Get, Key>) -> Option<Object> {
        self.published.load().get(proof.resource()).cloned()
    }

    /// The newest object of the proof's key, to base a write on.
    pub fn current<V: Verb + WriteVerb>(&self, proof: &Authorized<V, Key>) -> Option<Object> {
        self.published.load().get(proof.resource()).cloned()
    }

    /// The newest state of the proof's range.
    pub fn view(&self, proof: &Authorized<verb::List, Range>) -> View {
        let range = proof.resource().clone();
        self.published.load().within(range).seen_by(proof.sight().cloned())
    }

    /// The state of the proof's range at `revision`, which may be long past. What its holder may see
    /// of it is said by the rights of today.
    ///
    /// # Errors
    /// `Expired` when the log no longer reaches back to it, `Timeout` when it lies in the future.
    pub async fn view_at(
        &self,
        proof: &Authorized<verb::List, Range>,
        revision: Revision,
    ) -> Result<View, ApiError> {
        let range = proof.resource().clone();
        let now = self.published.load().within(range.clone());
        if revision > now.revision() {
            return Err(ApiError::too_large(revision, now.revision()));
        }
        if revision < now.revision() && self.tail.derives(&range) {
            // What is derived is in no log.
            return Err(ApiError::expired(revision, now.revision()));
        }
        let view = if revision == now.revision() {
            now
        } else {
            let closed = |_closed| ApiError::new(Reason::ServiceUnavailable, "the store is closed");
            let turn = Arc::clone(&self.past).acquire_owned().await.map_err(closed)?;
            let backend = Arc::clone(&self.backend);
            let read = tokio::task::spawn_blocking(move || {
                let _turn = turn;
                history::past(&*backend, &now, &range, revision)
            });
            let past = read.await.map_err(|_panic| ApiError::internal("cannot read the log"))?;
            match past.map_err(|error| error.refusal())? {
                Past::View(view) => view,
                Past::Forgotten { floor } => return Err(ApiError::expired(revision, floor)),
                Past::TooMany => {
                    let message = format!(
                        "more than {} objects have changed since revision {revision}; ask for \
                         fewer, such as those of one namespace",
                        limits::PAST_OBJECTS
                    );
                    return Err(ApiError::new(Reason::RequestEntityTooLarge, message));
                }
            }
        };
        Ok(view.seen_by(proof.sight().cloned()))
    }

    /// Writes everything there is at the newest revision, and `files` with it, as a backup; gives the
    /// revision. Blocks on the disk and on whoever takes it.
    ///
    /// # Errors
    /// When the store cannot be read, or `out` takes no more.
    pub fn back_up(
        &self,
        _proof: &Authorized<verb::Backup, Range>,
        files: &[NamedFile],
        now: Timestamp,
        out: &mut dyn io::Write,
    ) -> Result<Revision, BackupError> {
        backup::back_up(&*self.backend, files, now, out)
    }

    /// Waits a little until `revision` is reached, if others share the log: who has seen it at one of them
    /// may be a moment ahead of this one.
    pub async fn reach(&self, revision: Revision) {
        let mut revisions = self.tail.subscribe();
        let is_there = *revisions.borrow_and_update() >= revision;
        if !is_there && self.backend.is_shared() {
            let reached = revisions.wait_for(|head| *head >= revision);
            // Whoever asked is told what is there and what is not.
            drop(tokio::time::timeout(limits::REACH, reached).await);
        }
    }

    /// Follows the proof's range: what happens after `from`.
    ///
    /// # Errors
    /// `Expired` when the log in memory no longer reaches back to `from`, `Timeout` when `from` lies
    /// in the future.
    pub fn watch(
        &self,
        proof: &Authorized<verb::Watch, Range>,
        from: impl Into<Version>,
    ) -> Result<Cursor, ApiError> {
        self.tail.cursor(proof.resource().clone(), proof.sight().cloned(), from.into())
    }

    /// Whether writes are still taken.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// The newest revision, and a receiver that wakes up when it grows. It says that something
    /// happened, not what.
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.tail.subscribe()
    }

    /// The records that the proof's bearer may read.
    pub fn records(&self, _proof: &Authorized<verb::List, Range>) -> RecordReader {
        RecordReader::new(self.reader())
    }

    /// The chain of records, which the proof's bearer may check.
    pub fn chain(&self, _proof: &Authorized<verb::Get, Key>) -> Chain {
        Chain::new(self.reader())
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(TablesReader(Arc::clone(&self.backend)))
    }

    /// Records, about what is at `key`, something that changes nothing; returns once it is durable.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub(crate) async fn record(&self, key: Key, audit: Audit) -> Result<(), ApiError> {
        let closed = || ApiError::new(Reason::ServiceUnavailable, "the store is closed");
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        let order = Order::Write(Box::new(Request::record(key, audit, reply)));
        queue.send(order).await.map_err(|_closed| closed())?;
        answer.await.map_err(|_closed| closed())?.map(drop)
    }

    /// The same, unless too much waits already; nobody is told when it is durable.
    ///
    /// # Errors
    /// When too much waits.
    pub(crate) fn record_soon(&self, key: Key, audit: Audit) -> Result<(), ApiError> {
        let full = || ApiError::new(Reason::ServiceUnavailable, "too many writes wait");
        let (reply, _nobody) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(full)?;
        let order = Order::Write(Box::new(Request::record(key, audit, reply)));
        queue.try_send(order).map_err(|_full| full())
    }

    /// Writes the object of the proof's key, and returns it once it is durable.
    ///
    /// # Errors
    /// When the object is not as expected, an admission refuses, or the log cannot be written.
    pub async fn write<V: Verb + WriteVerb>(
        &self,
        proof: &Authorized<V, Key>,
        write: Write,
    ) -> Result<Object, ApiError> {
        let closed = || ApiError::new(Reason::ServiceUnavailable, "the store is closed");
        let (reply, answer) = oneshot::channel();
        let request = Request {
            actor: proof.actor().clone(),
            verb: V::NAME,
            key: proof.resource().clone(),
            write,
            call: audit::current(),
            record: None,
            is_followed: false,
            reply,
        };
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(Order::Write(Box::new(request))).await.map_err(|_closed| closed())?;
        answer.await.map_err(|_closed| closed())?
    }
}

impl Drop for Store {
    /// Waits until the writes that were accepted are on disk.
    fn drop(&mut self) {
        drop(self.queue.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the sequencer panicked");
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("revision", &self.published.load().revision()).finish()
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The sequencer's thread cannot be started.
    #[error("cannot start the sequencer")]
    Thread(#[source] io::Error),
}

/// The log's last commits, as watchers want them, so that a restart does not expire their position.
fn recent(reading: &Reading<'_>) -> Result<Recent, BackendError> {
    let extent = reading.head.extent;
    let reach = limits::WATCH_TAIL_COMMITS as u64;
    let from = extent.floor.max(Revision(extent.head.next().0.saturating_sub(reach)));
    let mut last: HashMap<Key, Arc<Document>> = HashMap::new();
    let mut recent = Recent::default();
    for (revision, set) in reading.read(from, limits::WATCH_TAIL_COMMITS)? {
        let versions = Version::of_each(revision, set.changes.len());
        let events = set.changes.into_iter().zip(versions).map(|(change, version)| {
            let known = last.insert(change.key.clone(), Arc::clone(&change.document));
            let old = match known {
                _ if change.previous == Revision(0) => None,
                Some(value) => Some(value),
                // What a change above the floor supersedes is kept.
                None => Some(reading.object(&change.key, change.previous)?.document),
            };
            Ok(Event {
                key: change.key,
                version,
                operation: change.operation,
                old,
                document: change.document,
            })
        });
        let events = events.collect::<Result<Vec<_>, BackendError>>()?;
        let bytes = events.iter().map(|event| event.document.size()).sum();
        recent.push(Arc::new(tail::Commit { revision, events, bytes }));
    }
    Ok(recent)
}
