//! The sequencer: the one thread that orders writes.
//!
//! It drains its queue, judges each write against the state that the writes before it leave, and
//! appends what remains as one durable batch (group commit). Only then are views and watchers moved
//! on and writers answered, so nobody sees or is promised what a power cut could take back.
//! It must never wait for anything but its queue and the backend.
//!
//! Where other controllers write to the same backend, a batch is committed on the condition that
//! nobody was faster. If somebody was, their change-sets are followed and the batch is judged again;
//! what is refused is refused only once it is certain that the state it was judged by is the newest.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::{
    Audit, BackendError, Change, Expect, Object, Persistence, Range, Retention, Revision,
    StoreMetrics, Version, View, Write,
    batch::{Batch, Draft, Verdict, effect, has_effect, rehearse},
    log::{Log, News},
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
    pub(super) log: Log,
    pub(super) retention: Retention,
    pub(super) admissions: Vec<Arc<dyn Admission>>,
    pub(super) published: Arc<ArcSwap<View>>,
    pub(super) tail: Arc<Tail>,
    pub(super) metrics: Arc<StoreMetrics>,
    /// What a failed commit left behind is not known yet.
    pub(super) is_behind: bool,
}

/// What the sequencer is asked to do.
pub(super) enum Order {
    /// To write.
    Write(Box<Request>),
    /// To look what other controllers have written.
    Follow,
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
    /// The log has been followed since it came: what it is judged by next was the newest state then.
    pub(super) is_followed: bool,
    pub(super) reply: Reply,
}

type Reply = oneshot::Sender<Result<Object, ApiError>>;

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
        let actor = RECORDER;
        Self { actor, verb: "", key, write, call: None, record, is_followed: false, reply }
    }
}

/// Who asks for what is only recorded; the record says who it is about.
const RECORDER: Identity = Identity::Component { name: "audit" };

impl Sequencer {
    /// Serves the queue until its last sender is gone.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Order>) {
        while let Some(first) = queue.blocking_recv() {
            let mut pending = VecDeque::new();
            match first {
                Order::Write(request) => pending.push_back(*request),
                Order::Follow => self.follow(),
            }
            // Batches in a row that others were faster than.
            let mut beaten = 0;
            while !pending.is_empty() {
                if beaten == limits::COMMIT_ATTEMPTS {
                    let busy = ApiError::new(
                        Reason::ServiceUnavailable,
                        "other controllers write faster than this one",
                    );
                    refuse(pending.drain(..), &busy.with_retry_after(1));
                    break;
                }
                self.log.give_way();
                self.is_behind |= self.log.is_shared() && self.log.has_news();
                if self.is_behind
                    && let Err(error) = self.catch_up()
                {
                    refuse(pending.drain(..), &error.refusal());
                    break;
                }
                let batch = self.judge_all(&mut pending, &mut queue);
                let waiting = pending.len();
                self.settle(batch, &mut pending);
                beaten = if pending.len() > waiting { beaten + 1 } else { 0 };
            }
        }
    }

    /// Judges what is pending, and then what is queued, up to what becomes durable together.
    fn judge_all(
        &self,
        pending: &mut VecDeque<Request>,
        queue: &mut mpsc::Receiver<Order>,
    ) -> Batch {
        let mut batch = Batch {
            view: self.published.load().within(Range::Everything),
            sets: Vec::new(),
            commits: Vec::new(),
            verdicts: Vec::new(),
            rows: 0,
        };
        let most = self.log.capacity().rows;
        for _ in 0..limits::WRITE_BATCH {
            // A change takes two. What is one commit is durable soon, and judged again at little cost.
            if batch.rows.saturating_add(2) > most {
                break;
            }
            let Some(request) = pending.pop_front().or_else(|| next_write(queue)) else { break };
            if !self.judge(&mut batch, request) {
                break;
            }
        }
        batch
    }

    /// Decides one write against the state the batch has reached; false when the batch ends with it.
    fn judge(&self, batch: &mut Batch, mut request: Request) -> bool {
        if let Some(audit) = request.record.clone() {
            batch.record(*audit, request);
            return true;
        }
        let now = Timestamp::now();
        let audit = Audit {
            actor: request.actor.to_string(),
            verb: request.verb.to_owned(),
            agent: request.write.agent.clone(),
            time_ms: now.as_millisecond(),
            details: Details::default(),
        };
        // Only where it may have to be judged again.
        let value = if self.log.is_shared() {
            request.write.value.clone()
        } else {
            request.write.value.take()
        };
        let judged = expected(&batch.view, &request.key, request.write.expect).and_then(|old| {
            let change = ProposedChange::new(
                request.actor.clone(),
                request.verb,
                request.write.subresource,
                now,
                request.key.clone(),
                (old, value),
            );
            let change = self.admit(&batch.view, change)?;
            let settles = self.admissions.iter().any(|admission| admission.settles(&change));
            let details = Details::of_change(request.call.as_deref(), &change);
            let rehearsed = match request.write.persistence {
                Persistence::DryRun => Some(rehearse(&change)?),
                Persistence::Durable => None,
            };
            let draft = Draft::of(&batch.view, change)?;
            let takes = self.log.takes(draft.changes.len(), draft.bytes);
            takes.map_err(|error| error.refusal())?;
            Ok((draft, details, settles, rehearsed))
        });
        match judged {
            Err(refusal) => batch.add_verdict(request, Err(refusal), None),
            Ok((_, _, _, Some(rehearsed))) => batch.add_verdict(request, Ok(rehearsed), None),
            Ok((draft, details, settles, None)) => {
                batch.add(draft, Audit { details, ..audit }, request);
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

    /// Makes the batch durable, then visible, then answers; what must be judged again is pending.
    fn settle(&mut self, batch: Batch, pending: &mut VecDeque<Request>) {
        if batch.sets.is_empty() {
            return self.answer_unchanged(batch, pending);
        }
        let draft = match self.log.draft(&batch.sets) {
            Ok(draft) => draft,
            Err(error) => return batch.refuse(&error.refusal()),
        };
        let links = draft.links();
        let started = Instant::now();
        if let Err(error) = self.log.append(draft, &batch.sets) {
            return self.sort_out(batch, &links, &error, pending);
        }
        let Batch { view, sets, commits, verdicts, .. } = batch;
        self.metrics.committed(sets.len(), view.revision(), started.elapsed());
        self.publish(view, commits);
        for Verdict { request, result, .. } in verdicts {
            answer(request.reply, result);
        }
        self.forget();
    }

    /// Answers a batch that changes nothing: by a state that was the newest one after it was asked.
    fn answer_unchanged(&mut self, mut batch: Batch, pending: &mut VecDeque<Request>) {
        if self.log.is_shared() {
            let verdicts = std::mem::take(&mut batch.verdicts).into_iter();
            let (certain, open): (Vec<_>, Vec<_>) =
                verdicts.partition(|verdict| verdict.request.is_followed);
            batch.verdicts = open;
            for Verdict { request, result, .. } in certain {
                answer(request.reply, result);
            }
            if batch.verdicts.is_empty() {
                return;
            }
            let judged_by = batch.view.revision();
            if let Err(error) = self.catch_up() {
                return batch.refuse(&error.refusal());
            }
            if self.published.load().revision() != judged_by {
                return batch.again(pending);
            }
        }
        for Verdict { request, result, .. } in batch.verdicts {
            answer(request.reply, result);
        }
    }

    /// After a commit that failed: finds out what of the batch is durable after all.
    fn sort_out(
        &mut self,
        batch: Batch,
        links: &[[u8; 32]],
        error: &BackendError,
        pending: &mut VecDeque<Request>,
    ) {
        let has_moved = self.log.is_shared() && matches!(error, BackendError::Moved);
        if !has_moved {
            self.metrics.failed();
            tracing::error!(error = error as &dyn std::error::Error, "cannot append to the log");
        }
        let (first, sure) = (batch.first(), self.log.reached());
        self.is_behind = true;
        if let Err(second) = self.catch_up() {
            // Nobody knows. Whoever asks again later is judged by what is found then.
            let told = error.refusal();
            tracing::error!(error = &second as &dyn std::error::Error, "cannot read the log");
            return batch.refuse(&told);
        }
        let mut again = Vec::new();
        let mut is_whole = true;
        for verdict in batch.verdicts {
            let is_durable = verdict.set.is_some_and(|set| {
                let revision = Revision(first.0.saturating_add(set as u64));
                // A batch is durable up to somewhere.
                is_whole = is_whole
                    && (revision <= sure
                        || !has_moved
                            && links.get(set).is_some_and(|link| {
                                self.log.holds(revision, link).unwrap_or(false)
                            }));
                is_whole
            });
            if is_durable {
                answer(verdict.request.reply, verdict.result);
            } else if has_moved {
                again.push(Request { is_followed: true, ..verdict.request });
            } else {
                answer(verdict.request.reply, Err(error.refusal()));
            }
        }
        again.into_iter().rev().for_each(|request| pending.push_front(request));
    }

    /// Follows what others have written.
    fn follow(&mut self) {
        if !self.is_behind && !self.log.has_news() {
            return;
        }
        let was_behind = std::mem::replace(&mut self.is_behind, true);
        if let Err(error) = self.catch_up()
            && !was_behind
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot follow the log");
        }
    }

    /// Publishes what the log has and this controller has not seen.
    fn catch_up(&mut self) -> Result<(), BackendError> {
        match self.log.news()? {
            News::Sets(sets) => {
                let mut view = self.published.load().within(Range::Everything);
                let mut commits = Vec::new();
                for (revision, set) in sets {
                    commits.push(commit_of(&view, revision, &set.changes));
                    view.advance(revision, &set.changes);
                }
                if !commits.is_empty() {
                    self.publish(view, commits);
                }
            }
            News::Reload => {
                let reading = self.log.reading()?;
                let mut view = View::new(reading.head.extent.head, reading.objects()?);
                drop(reading);
                for admission in &self.admissions {
                    admission.open(&view);
                }
                derived(&self.admissions, &mut view, 0);
                let head = view.revision();
                self.published.store(Arc::new(view));
                self.tail.restart(head);
            }
        }
        self.is_behind = false;
        self.metrics.reached(self.published.load().revision());
        Ok(())
    }

    /// Moves readers and watchers on to what is durable.
    fn publish(&self, mut view: View, mut commits: Vec<Commit>) {
        for commit in &commits {
            for admission in &self.admissions {
                let followed = || admission.follow(&commit.events, &view);
                if catch_unwind(AssertUnwindSafe(followed)).is_err() {
                    tracing::error!(revision = %commit.revision, "an admission lost track");
                }
            }
        }
        if let Some(last) = commits.last_mut() {
            let derived = derived(&self.admissions, &mut view, last.events.len());
            last.bytes += derived.iter().map(|event| event.document.size()).sum::<usize>();
            last.events.splice(..0, derived);
        }
        let head = view.revision();
        let commits: Vec<_> = commits.into_iter().map(Arc::new).collect();
        // Whoever sees the state can watch from there.
        self.tail.extend(&commits);
        self.published.store(Arc::new(view));
        self.tail.announce(&commits, head);
    }

    /// Keeps the log within its retention, a slice at a time.
    fn forget(&mut self) {
        let due = self.retention.due(&self.log, Timestamp::now());
        let result = due.and_then(|due| match due {
            Some(before) => self.log.truncate(before),
            None => Ok(()),
        });
        match result {
            Ok(()) => {}
            // Somebody else may have done it; there is a next time.
            Err(BackendError::Moved) => self.is_behind = true,
            Err(error) => {
                self.is_behind = true;
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot truncate the log");
            }
        }
    }
}

/// The next write that is queued. That others have written is found out by the commit.
fn next_write(queue: &mut mpsc::Receiver<Order>) -> Option<Request> {
    loop {
        match queue.try_recv().ok()? {
            Order::Write(request) => return Some(*request),
            Order::Follow => {}
        }
    }
}

/// A change-set of somebody else, as watchers see it; `view` is the state before.
fn commit_of(view: &View, revision: Revision, changes: &[Change]) -> Commit {
    let versions = Version::of_each(revision, changes.len());
    let events = changes.iter().zip(versions).map(|(change, version)| Event {
        key: change.key.clone(),
        version,
        operation: change.operation,
        old: view.get(&change.key).map(|object| Arc::clone(&object.document)),
        document: Arc::clone(&change.document),
    });
    let bytes = changes.iter().map(|change| change.document.size()).sum();
    Commit { revision, events: events.collect(), bytes }
}

/// Brings what is derived up to `view`, in it. Its versions come before those of the `stored` objects
/// of the same revision, which are on disk.
pub(super) fn derived(
    admissions: &[Arc<dyn Admission>],
    view: &mut View,
    stored: usize,
) -> Vec<Event> {
    let revision = view.revision();
    let mut writes = Vec::new();
    for admission in admissions {
        let derived = catch_unwind(AssertUnwindSafe(|| admission.derive()));
        writes.extend(derived.unwrap_or_else(|_panic| {
            tracing::error!(%revision, "an admission derived nothing");
            Vec::new()
        }));
    }
    writes.retain(|(key, new)| has_effect(view, key, new.as_ref()));
    let versions = Version::of_each(revision, writes.len().saturating_add(stored));
    let effects = writes.into_iter().zip(versions);
    let effects = effects.filter_map(|((key, new), version)| effect(view, version, key, new));
    let (changes, events): (Vec<_>, Vec<_>) = effects.unzip();
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
    object.value().pointer("/metadata/deletionTimestamp").is_some()
}

pub(super) fn refuse(requests: impl Iterator<Item = Request>, why: &ApiError) {
    for request in requests {
        answer(request.reply, Err(why.clone()));
    }
}

fn answer(reply: Reply, result: Result<Object, ApiError>) {
    // A client that went away does not undo its write.
    drop(reply.send(result));
}
