//! The log's recent past in memory, and the cursors that follow it.
//!
//! A watcher is a position and a range: no buffer of its own, no polling. A slow one lags; one that
//! lags beyond the tail is told that its position expired, and lists again. One that nothing
//! concerns sleeps, and does not lag.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;

use super::{
    Document, Key, Operation, Range, Resource, Revision, Version,
    bell::{Bell, Seat},
};
use crate::{
    authz::{Sight, Standing},
    error::{ApiError, Reason},
    limits,
};

/// One object's change, as watchers see it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Which object.
    pub key: Key,
    /// When, and as the how-manieth of its change-set.
    pub version: Version,
    /// What became of it.
    pub operation: Operation,
    /// The object before; none when it is new, or when its past is no longer known.
    pub old: Option<Arc<Document>>,
    /// The object after; for a deletion, its last state.
    pub document: Arc<Document>,
}

impl Event {
    /// When.
    pub fn revision(&self) -> Revision {
        self.version.revision()
    }

    /// The object after, parsed; for a deletion, its last state.
    pub fn value(&self) -> Arc<Value> {
        self.document.value()
    }

    /// The same; none for a deletion.
    pub fn new_value(&self) -> Option<Arc<Value>> {
        (self.operation == Operation::Put).then(|| self.value())
    }

    /// The object before, parsed.
    pub fn old_value(&self) -> Option<Arc<Value>> {
        self.old.as_ref().map(|old| old.value())
    }
}

/// Follows a range of the platform from a revision on.
#[derive(Debug)]
pub struct Cursor {
    tail: Arc<Tail>,
    seat: Seat,
    /// Where it began, perhaps within a commit.
    since: Version,
    range: Range,
    sight: Option<Arc<Sight>>,
}

#[derive(Debug)]
pub(super) struct Tail {
    recent: RwLock<Recent>,
    bell: Arc<Bell>,
    head: watch::Sender<Revision>,
    /// Resources whose changes are in no log, and since when they are known.
    derived: (Vec<Resource>, Revision),
}

/// The last commits, consecutive, within the limits.
#[derive(Debug, Default)]
pub(super) struct Recent {
    commits: VecDeque<Arc<Commit>>,
    bytes: usize,
    /// The last commit there was.
    end: Revision,
}

#[derive(Debug)]
pub(super) struct Commit {
    pub(super) revision: Revision,
    pub(super) events: Vec<Event>,
    /// Size of the events' objects as JSON.
    pub(super) bytes: usize,
}

// === impl Tail ===

impl Tail {
    /// A tail that ends at `head`.
    pub(super) fn new(head: Revision, recent: Recent) -> Self {
        let recent = Recent { end: head, ..recent };
        Self {
            recent: RwLock::new(recent),
            bell: Arc::new(Bell::new(head)),
            head: watch::Sender::new(head),
            derived: (Vec::new(), head),
        }
    }

    /// The same, for objects of some resources that are in no log: what happened to them before this
    /// process is not known.
    pub(super) fn deriving(mut self, resources: Vec<Resource>) -> Self {
        self.derived.0 = resources;
        self
    }

    /// Whether what is in `range` is in no log.
    pub(super) fn derives(&self, range: &Range) -> bool {
        range.resource().is_some_and(|resource| self.derived.0.contains(resource))
    }

    /// Adds commits, without telling anybody yet.
    pub(super) fn extend(&self, new: &[Arc<Commit>]) {
        let mut recent = self.recent.write();
        for commit in new {
            recent.push(Arc::clone(commit));
        }
    }

    /// Wakes up whom these commits concern, which end at `head`.
    pub(super) fn announce(&self, new: &[Arc<Commit>], head: Revision) {
        let events = new.iter().flat_map(|commit| &commit.events);
        self.bell.ring(events.map(|event| &event.key), head);
        self.head.send_replace(head);
    }

    /// Forgets everything: what came between is not known.
    pub(super) fn restart(&self, head: Revision) {
        *self.recent.write() = Recent { end: head, ..Recent::default() };
        self.bell.ring_all(head);
        self.head.send_replace(head);
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.head.subscribe()
    }

    /// A cursor that gives what happened after `since`.
    pub(super) fn cursor(
        self: &Arc<Self>,
        range: Range,
        sight: Option<Arc<Sight>>,
        since: Version,
    ) -> Result<Cursor, ApiError> {
        // What is in the tail is durable, though it may not have been announced yet.
        let newest = self.recent.read().end;
        if since > newest.into() {
            return Err(ApiError::too_large(since, newest));
        }
        let (_, known) = self.derived;
        if since < known.into() && self.derives(&range) {
            return Err(ApiError::expired(since, known));
        }
        let position = Revision(since.following().revision().0.saturating_sub(1));
        let seat = self.bell.seat(&range, position, || self.recent.read().end);
        self.after(position, 0)?;
        Ok(Cursor { tail: Arc::clone(self), seat, since, range, sight })
    }

    /// At most `limit` commits after `position`, and no more of them than make a batch.
    fn after(&self, position: Revision, limit: usize) -> Result<Vec<Arc<Commit>>, ApiError> {
        let Recent { commits, end, .. } = &*self.recent.read();
        let wanted = position.next();
        let Some(first) = commits.front() else {
            return if position == *end {
                Ok(Vec::new())
            } else {
                Err(ApiError::expired(position, *end))
            };
        };
        if wanted < first.revision {
            return Err(ApiError::expired(position, first.revision));
        }
        let skip = usize::try_from(wanted.0 - first.revision.0).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let batch = commits.iter().skip(skip).take(limit).take_while(|commit| {
            let has_room = bytes < limits::WATCH_BATCH_BYTES;
            bytes += commit.bytes;
            has_room
        });
        Ok(batch.map(Arc::clone).collect())
    }
}

// === impl Recent ===

impl Recent {
    /// What it has, oldest first.
    pub(super) fn commits(&self) -> impl Iterator<Item = &Arc<Commit>> {
        self.commits.iter()
    }

    /// Adds a commit, and forgets the oldest ones beyond the limits.
    pub(super) fn push(&mut self, commit: Arc<Commit>) {
        self.bytes += commit.bytes;
        self.end = commit.revision;
        self.commits.push_back(commit);
        let is_over = |recent: &Self| {
            recent.commits.len() > limits::WATCH_TAIL_COMMITS
                || recent.bytes > limits::WATCH_TAIL_BYTES
        };
        while is_over(self)
            && self.commits.len() > 1
            && let Some(oldest) = self.commits.pop_front()
        {
            self.bytes -= oldest.bytes;
        }
    }
}

// === impl Cursor ===

impl Cursor {
    /// The next events within the range, oldest first; waits until there are some.
    ///
    /// Cancel-safe: what a dropped call had not returned, the next call returns.
    ///
    /// # Errors
    /// `Expired` when the cursor lagged beyond the tail, or its holder may see more or less than when
    /// it began; `Forbidden` when they may see nothing of it any more.
    pub async fn next(&mut self) -> Result<Vec<Event>, ApiError> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The same, for whoever keeps no future.
    ///
    /// # Errors
    /// Those of [`Self::next`].
    pub fn poll_next(&mut self, context: &Context<'_>) -> Poll<Result<Vec<Event>, ApiError>> {
        while let Some(position) = self.seat.due(context) {
            let commits = self.tail.after(position, limits::WATCH_BATCH_COMMITS)?;
            let Some(last) = commits.last() else {
                // What was rung is in the tail, or was.
                return Poll::Ready(Err(ApiError::expired(position, position)));
            };
            self.expect_standing()?;
            self.seat.take(last.revision);
            let first = self.since.following();
            let events: Vec<Event> = commits
                .iter()
                .flat_map(|commit| &commit.events)
                .filter(|event| event.version >= first && self.range.contains(&event.key))
                .filter(|event| self.sees(event))
                .cloned()
                .collect();
            if !events.is_empty() {
                return Poll::Ready(Ok(events));
            }
        }
        Poll::Pending
    }

    fn sees(&self, event: &Event) -> bool {
        self.sight.as_ref().is_none_or(|sight| sight.saw(&event.key, event.revision()))
    }

    /// What came into sight or went out of it is in no event: its holder must look again.
    fn expect_standing(&self) -> Result<(), ApiError> {
        let standing = self.sight.as_ref().map(|sight| sight.standing(self.since.revision()));
        match standing.unwrap_or(Standing::Same) {
            Standing::Same => Ok(()),
            Standing::Changed => {
                let since = self.since;
                let message = format!("what you may see has changed since {since}: list again");
                Err(ApiError::new(Reason::Expired, message))
            }
            Standing::Nothing => {
                let message = "what is watched may no longer be seen";
                Err(ApiError::new(Reason::Forbidden, message))
            }
        }
    }

    /// Everything up to here has been returned, or lies outside the range.
    pub fn position(&self) -> Version {
        self.since.max(self.seat.position().into())
    }
}

#[cfg(test)]
mod tests;
