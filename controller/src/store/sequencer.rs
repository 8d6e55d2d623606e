//! The sequencer: the one thread that orders writes.
//!
//! It drains its queue, judges each write against the state that the writes before it leave, and
//! appends what remains as one durable batch (group commit). Only then are views and watchers moved
//! on and writers answered, so nobody sees or is promised what a power cut could take back.
//! It must never wait for anything but its queue and the disk.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{
    Audit, Backend, Change, ChangeSet, Expect, Object, Operation, Persistence, Revision,
    StoreMetrics, View, Write, size,
    tail::{Commit, Event, Tail},
};
use crate::{
    admission::{Admission, ProposedChange},
    audit::{Call, Details},
    authz::Identity,
    error::{ApiError, Reason},
    limits,
    store::Key,
};

pub(super) struct Sequencer {
    pub(super) backend: Box<dyn Backend>,
    pub(super) admissions: Vec<Arc<dyn Admission>>,
    pub(super) published: Arc<ArcSwap<View>>,
    pub(super) tail: Arc<Tail>,
    pub(super) metrics: Arc<StoreMetrics>,
}

/// An authorised write, waiting for its place in the order.
pub(super) struct Request {
    pub(super) actor: Identity,
    pub(super) verb: &'static str,
    pub(super) key: Key,
    pub(super) write: Write,
    /// On whose behalf, if it is on anybody's.
    pub(super) call: Option<Arc<Call>>,
    /// It is only to be recorded; nothing changes.
    pub(super) record: Option<Box<Audit>>,
    pub(super) reply: Reply,
}

type Reply = oneshot::Sender<Result<Object, ApiError>>;

/// The writes judged so far, not yet durable.
struct Batch {
    view: View,
    sets: Vec<ChangeSet>,
    commits: Vec<Commit>,
    replies: Vec<(Reply, Object)>,
}

impl Request {
    /// A request that changes nothing, but is recorded.
    pub(super) fn record(key: Key, audit: Audit, reply: Reply) -> Self {
        let write = Write {
            expect: Expect::Absent,
            value: None,
            subresource: None,
            agent: String::new(),
            persistence: Persistence::Durable,
        };
        let record = Some(Box::new(audit));
        Self { actor: RECORDER, verb: "", key, write, call: None, record, reply }
    }
}

/// Who asks for what is only recorded; the record says who it is about.
const RECORDER: Identity = Identity::Component { name: "audit" };

impl Sequencer {
    /// Serves the queue until its last sender is gone.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = Batch {
                view: self.published.load().within(super::Range::Everything),
                sets: Vec::new(),
                commits: Vec::new(),
                replies: Vec::new(),
            };
            let mut next = Some(first);
            let mut drained = 0;
            while let Some(request) = next {
                let goes_on = self.judge(&mut batch, request);
                drained += 1;
                let has_room = goes_on && drained < limits::WRITE_BATCH;
                next = if has_room { queue.try_recv().ok() } else { None };
            }
            self.commit(batch);
        }
    }

    /// Decides one write against the state the batch has reached; false when the batch ends with it.
    fn judge(&self, batch: &mut Batch, request: Request) -> bool {
        let Request { actor, verb, key, write, call, record, reply } = request;
        if let Some(audit) = record {
            batch.record(key, *audit, reply);
            return true;
        }
        let now = Timestamp::now();
        let persistence = write.persistence;
        let audit = Audit {
            actor: actor.to_string(),
            verb: verb.to_owned(),
            agent: write.agent.clone(),
            time_ms: now.as_millisecond(),
            details: Details::default(),
        };
        let judged = expected(&batch.view, &key, write.expect).and_then(|old| {
            let pair = (old, write.value);
            let change = ProposedChange::new(actor, verb, write.subresource, now, key, pair);
            let change = self.admit(&batch.view, change)?;
            let size = measure(&change)?;
            Ok((change, size))
        });
        let settles = match &judged {
            Ok((change, _)) => self.admissions.iter().any(|admission| admission.settles(change)),
            Err(_) => false,
        };
        match (judged, persistence) {
            (Err(refusal), _) => answer(reply, Err(refusal)),
            (Ok((change, _)), Persistence::DryRun) => answer(reply, rehearse(change)),
            (Ok((change, size)), Persistence::Durable) => {
                let details = Details::of_change(call.as_deref(), &change);
                batch.add(change, size, Audit { details, ..audit }, reply);
                return !settles;
            }
        }
        true
    }

    fn admit(&self, view: &View, mut change: ProposedChange) -> Result<ProposedChange, ApiError> {
        for admission in &self.admissions {
            // A fault in one product's rules costs that write, not everybody's.
            catch_unwind(AssertUnwindSafe(|| admission.admit(view, &mut change))).unwrap_or_else(
                |_panic| {
                    tracing::error!(key = %change.key, "an admission panicked");
                    Err(ApiError::internal("an admission rule failed"))
                },
            )?;
        }
        Ok(change)
    }

    /// Makes the batch durable, then visible, then answers.
    fn commit(&mut self, batch: Batch) {
        let Batch { mut view, sets, mut commits, replies } = batch;
        if sets.is_empty() {
            return;
        }
        let started = Instant::now();
        let head = view.revision();
        let first = self.published.load().revision().next();
        if let Err(error) = self.backend.append(first, &sets) {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot append to the log");
            for (reply, _) in replies {
                let message = "the change could not be made durable";
                answer(reply, Err(ApiError::new(Reason::ServiceUnavailable, message)));
            }
            return;
        }
        self.metrics.committed(sets.len(), head, started.elapsed());
        for commit in &commits {
            for admission in &self.admissions {
                let followed = || admission.follow(&commit.events, &view);
                if catch_unwind(AssertUnwindSafe(followed)).is_err() {
                    tracing::error!(revision = %commit.revision, "an admission lost track");
                }
            }
        }
        if let Some(last) = commits.last_mut() {
            let derived = derived(&self.admissions, &mut view);
            last.bytes += derived.iter().map(|event| size::of(&event.value)).sum::<usize>();
            last.events.extend(derived);
        }
        self.published.store(Arc::new(view));
        self.tail.extend(commits);
        self.tail.announce(head);
        for (reply, object) in replies {
            answer(reply, Ok(object));
        }
        self.forget(head);
    }

    /// Keeps the log within its retention, a slice at a time.
    fn forget(&mut self, head: Revision) {
        let result = self.backend.extent().and_then(|extent| {
            let kept = head.0.saturating_sub(extent.floor.0);
            if kept < limits::LOG_REVISIONS + limits::LOG_TRUNCATE_SLICE {
                return Ok(());
            }
            self.backend.truncate(Revision(extent.floor.0 + limits::LOG_TRUNCATE_SLICE))
        });
        if let Err(error) = result {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot truncate the log");
        }
    }
}

// === impl Batch ===

impl Batch {
    fn add(&mut self, change: ProposedChange, bytes: usize, audit: Audit, reply: Reply) {
        let revision = self.view.revision().next();
        let mut changes = Vec::new();
        let mut events = Vec::new();
        for (key, new) in change.into_writes() {
            let Some((change, event)) = effect(&self.view, revision, key, new) else { continue };
            changes.push(change);
            events.push(event);
        }
        let Some(main) = changes.first() else {
            return answer(reply, Err(ApiError::internal("a write without effect")));
        };
        let object = Object { key: main.key.clone(), revision, value: Arc::clone(&main.value) };
        self.view.advance(revision, &changes);
        self.sets.push(ChangeSet { audit, changes });
        self.commits.push(Commit { revision, events, bytes });
        self.replies.push((reply, object));
    }

    /// Adds a change-set without changes.
    fn record(&mut self, key: Key, audit: Audit, reply: Reply) {
        let revision = self.view.revision().next();
        self.view.advance(revision, &[]);
        self.sets.push(ChangeSet { audit, changes: Vec::new() });
        self.commits.push(Commit { revision, events: Vec::new(), bytes: 0 });
        self.replies.push((reply, Object { key, revision, value: Arc::new(Value::Null) }));
    }
}

/// What a write of `new` to `key` comes to at `revision`; none if there is nothing to delete.
fn effect(
    view: &View,
    revision: Revision,
    key: Key,
    new: Option<Value>,
) -> Option<(Change, Event)> {
    let old = view.get(&key);
    let previous = old.map_or(Revision(0), |object| object.revision);
    let old = old.map(|object| Arc::clone(&object.value));
    let (operation, mut value) = match (new, &old) {
        (Some(value), _) => (Operation::Put, value),
        (None, Some(last)) => (Operation::Delete, Value::clone(last)),
        (None, None) => return None,
    };
    stamp(&mut value, revision);
    let value = Arc::new(value);
    let event = Event { key: key.clone(), revision, operation, old, value };
    Some((Change { key, operation, previous, value: Arc::clone(&event.value) }, event))
}

/// Brings what is derived up to `view`, in it.
pub(super) fn derived(admissions: &[Arc<dyn Admission>], view: &mut View) -> Vec<Event> {
    let revision = view.revision();
    let mut changes = Vec::new();
    let mut events = Vec::new();
    for admission in admissions {
        let derived = catch_unwind(AssertUnwindSafe(|| admission.derive()));
        for (key, new) in derived.unwrap_or_else(|_panic| {
            tracing::error!(%revision, "an admission derived nothing");
            Vec::new()
        }) {
            let Some((change, event)) = effect(view, revision, key, new) else { continue };
            changes.push(change);
            events.push(event);
        }
    }
    view.advance(revision, &changes);
    events
}

/// The stored object, if it is what the writer expects.
fn expected(view: &View, key: &Key, expect: Expect) -> Result<Option<Object>, ApiError> {
    match (view.get(key), expect) {
        (None, Expect::Absent) => Ok(None),
        (Some(object), Expect::Absent) => Err(ApiError::already_exists(key, is_leaving(object))),
        (None, Expect::At(_)) => Err(ApiError::not_found(key)),
        (Some(object), Expect::At(revision)) if object.revision == revision => {
            Ok(Some(object.clone()))
        }
        (Some(_), Expect::At(_)) => Err(ApiError::stale(key)),
    }
}

/// Whether the object waits for its finalizers.
fn is_leaving(object: &Object) -> bool {
    object.value.pointer("/metadata/deletionTimestamp").is_some()
}

/// Size of what a change writes; refuses objects that are too large.
fn measure(change: &ProposedChange) -> Result<usize, ApiError> {
    let mut total = 0;
    for (key, value) in change.writes() {
        let Some(value) = value else { continue };
        let bytes = size::of(value);
        if bytes > limits::OBJECT_BYTES {
            let message = format!(
                "{} {:?} would have {bytes} bytes; {} are allowed",
                key.resource(),
                key.name(),
                limits::OBJECT_BYTES
            );
            return Err(ApiError::about(Reason::RequestEntityTooLarge, key, message));
        }
        total += bytes;
    }
    Ok(total)
}

/// What a dry run answers: the object as it would be.
fn rehearse(change: ProposedChange) -> Result<Object, ApiError> {
    let revision = change.old.as_ref().map_or(Revision(0), |object| object.revision);
    let last = change.old.as_ref().map(|object| Arc::clone(&object.value));
    let value = change.new.map(Arc::new).or(last);
    let value = value.ok_or_else(|| ApiError::not_found(&change.key))?;
    Ok(Object { key: change.key, revision, value })
}

fn stamp(value: &mut Value, revision: Revision) {
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), json!(revision.to_string()));
    }
}

fn answer(reply: Reply, result: Result<Object, ApiError>) {
    // A client that went away does not undo its write.
    drop(reply.send(result));
}
