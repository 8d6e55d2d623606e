//! The log's recent past in memory, and the cursors that follow it.
//!
//! A watcher is a position and a range: no buffer of its own, no polling. A slow one lags; one that
//! lags beyond the tail is told that its position expired, and lists again.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;

use super::{Document, Key, Operation, Range, Resource, Revision, Version};
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
    head: watch::Receiver<Revision>,
    /// Where it began, perhaps within a commit.
    since: Version,
    /// The last commit it is done with.
    position: Revision,
    range: Range,
    sight: Option<Arc<Sight>>,
}

#[derive(Debug)]
pub(super) struct Tail {
    recent: RwLock<Recent>,
    head: watch::Sender<Revision>,
    /// Resources whose changes are in no log, and since when they are known.
    derived: (Vec<Resource>, Revision),
}

/// The last commits, consecutive, within the limits.
#[derive(Debug, Default)]
pub(super) struct Recent {
    commits: VecDeque<Arc<Commit>>,
    bytes: usize,
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
        let derived = (Vec::new(), head);
        Self { recent: RwLock::new(recent), head: watch::Sender::new(head), derived }
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
    pub(super) fn extend(&self, new: impl IntoIterator<Item = Commit>) {
        let mut recent = self.recent.write();
        for commit in new {
            recent.push(commit);
        }
    }

    /// Forgets everything: what came between is not known.
    pub(super) fn restart(&self) {
        *self.recent.write() = Recent::default();
    }

    /// Wakes the cursors up.
    pub(super) fn announce(&self, head: Revision) {
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
        let head = self.head.subscribe();
        // What is in the tail is durable, though it may not have been announced yet.
        let recent = self.recent.read().commits.back().map(|commit| commit.revision);
        let newest = recent.unwrap_or_default().max(*head.borrow());
        if since > newest.into() {
            return Err(ApiError::too_large(since, newest));
        }
        let (_, known) = self.derived;
        if since < known.into() && self.derives(&range) {
            return Err(ApiError::expired(since, known));
        }
        let position = Revision(since.following().revision().0.saturating_sub(1));
        let cursor = Cursor { tail: Arc::clone(self), head, since, position, range, sight };
        cursor.tail.after(position, 0)?;
        Ok(cursor)
    }

    /// At most `limit` commits after `position`, and no more of them than make a batch.
    fn after(&self, position: Revision, limit: usize) -> Result<Vec<Arc<Commit>>, ApiError> {
        let commits = &self.recent.read().commits;
        let wanted = position.next();
        let Some(first) = commits.front() else {
            let head = *self.head.borrow();
            return if position == head {
                Ok(Vec::new())
            } else {
                Err(ApiError::expired(position, head))
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
    pub(super) fn push(&mut self, commit: Commit) {
        self.bytes += commit.bytes;
        self.commits.push_back(Arc::new(commit));
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
    /// it began; `Forbidden` when they may see nothing of it any more; `ServiceUnavailable` when the
    /// store closed.
    pub async fn next(&mut self) -> Result<Vec<Event>, ApiError> {
        loop {
            let commits = self.tail.after(self.position, limits::WATCH_BATCH_COMMITS)?;
            if let Some(last) = commits.last() {
                self.expect_standing()?;
                self.position = last.revision;
                let first = self.since.following();
                let events: Vec<Event> = commits
                    .iter()
                    .flat_map(|commit| &commit.events)
                    .filter(|event| event.version >= first && self.range.contains(&event.key))
                    .filter(|event| self.sees(event))
                    .cloned()
                    .collect();
                if !events.is_empty() {
                    return Ok(events);
                }
                continue;
            }
            let position = self.position;
            if self.head.wait_for(|head| *head > position).await.is_err() {
                return Err(ApiError::new(Reason::ServiceUnavailable, "the store is closed"));
            }
        }
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
        self.since.max(self.position.into())
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::store::Resource;

    fn commit(revision: u64, name: &str) -> Commit {
        let event = Event {
            key: Key::new(Resource::new("nodes", "x"), None, name),
            version: Revision(revision).into(),
            operation: Operation::Put,
            old: None,
            document: Arc::new(Document::of(json!({}))),
        };
        Commit { revision: Revision(revision), events: vec![event], bytes: 2 }
    }

    fn full_tail() -> Arc<Tail> {
        let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
        let count = limits::WATCH_TAIL_COMMITS as u64;
        tail.extend((1..=count).map(|revision| commit(revision, "a")));
        tail.announce(Revision(count));
        tail
    }

    #[tokio::test]
    async fn a_cursor_within_the_tail_gets_every_event() {
        let tail = full_tail();
        let mut cursor = tail.cursor(Range::Everything, None, Version::ANY).expect("in the tail");

        let mut next = 1;
        while next <= limits::WATCH_TAIL_COMMITS as u64 {
            for event in cursor.next().await.expect("not expired") {
                assert_eq!(event.revision(), Revision(next));
                next += 1;
            }
        }
    }

    #[test]
    fn a_position_one_beyond_the_tail_is_expired() {
        let tail = full_tail();
        let count = limits::WATCH_TAIL_COMMITS as u64;
        tail.extend([commit(count + 1, "a")]);
        tail.announce(Revision(count + 1));

        let refusal = tail.cursor(Range::Everything, None, Version::ANY).err();

        assert_eq!(refusal.map(|error| error.code()), Some(410));
        assert!(tail.cursor(Range::Everything, None, Revision(1).into()).is_ok());
    }

    #[test]
    fn what_happened_to_derived_objects_before_this_process_is_not_known() {
        let derived = Resource::new("buckets", "x");
        let mut recent = Recent::default();
        recent.push(commit(1, "a"));
        recent.push(commit(2, "a"));
        let tail = Arc::new(Tail::new(Revision(2), recent).deriving(vec![derived.clone()]));
        let from = |resource: &Resource, revision| {
            let range = Range::Container(resource.clone(), "web".into());
            tail.cursor(range, None, Revision(revision).into())
                .map(drop)
                .map_err(|error| error.code())
        };

        assert_eq!(from(&derived, 1), Err(410));
        assert_eq!(from(&derived, 2), Ok(()));
        assert_eq!(from(&Resource::new("nodes", "x"), 1), Ok(()));
    }

    #[test]
    fn large_objects_make_a_short_tail() {
        let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
        let large =
            |revision| Commit { bytes: limits::WATCH_TAIL_BYTES / 2, ..commit(revision, "a") };
        tail.extend([large(1), large(2)]);
        tail.announce(Revision(2));
        assert!(tail.cursor(Range::Everything, None, Version::ANY).is_ok());

        tail.extend([commit(3, "a")]);

        assert!(tail.cursor(Range::Everything, None, Version::ANY).is_err());
        assert!(tail.cursor(Range::Everything, None, Revision(1).into()).is_ok());
    }

    #[tokio::test]
    async fn a_batch_ends_with_the_commit_that_fills_it() {
        let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
        let half =
            |revision| Commit { bytes: limits::WATCH_BATCH_BYTES / 2, ..commit(revision, "a") };
        tail.extend([half(1), half(2), half(3)]);
        tail.announce(Revision(3));
        let mut cursor = tail.cursor(Range::Everything, None, Version::ANY).expect("in the tail");

        let sizes = [cursor.next().await, cursor.next().await];

        assert_eq!(sizes.map(|events| events.map(|events| events.len())), [Ok(2), Ok(1)]);
    }

    /// What has gone wrong with watches elsewhere: events left out when a reader was slow or the log
    /// was shortened under it, given twice or out of order after a batch, given from the past to
    /// somebody who asked for the future.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// Commits of so many events each, published together.
        Commit(u8, u8),
        /// A reader reads, and breaks off after so many events, if there are more.
        Read(usize),
        /// It breaks off between two reads, and comes back where it was.
        Resume,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1_u8..4, 0_u8..4).prop_map(|(commits, events)| Step::Commit(commits, events)),
            (1_usize..12).prop_map(Step::Read),
            Just(Step::Resume),
        ];
        proptest::collection::vec(step, 1..64)
    }

    proptest! {
        #[test]
        fn a_reader_gets_every_event_once_and_in_order_or_is_told_to_list_again(steps in steps()) {
            let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
            let (mut head, mut seen) = (0_u64, Version::from(Revision(0)));
            let from = |seen| tail.cursor(Range::Everything, None, seen);
            let mut cursor = from(seen).expect("at the head");
            // What was committed after what the reader saw last: name and revision.
            let mut due: VecDeque<(String, u64)> = VecDeque::new();
            for step in steps {
                match step {
                    Step::Commit(commits, events) => {
                        let mut made = Vec::new();
                        for _ in 0..commits {
                            head += 1;
                            let mut one = commit(head, "");
                            let event = one.events.pop().expect("one");
                            for version in Version::of_each(Revision(head), events.into()) {
                                let name = version.to_string();
                                due.push_back((name.clone(), head));
                                let key = Key::new(Resource::new("nodes", "x"), None, &name);
                                one.events.push(Event { key, version, ..event.clone() });
                            }
                            // The tail holds four of them.
                            one.bytes = limits::WATCH_TAIL_BYTES / 4;
                            made.push(one);
                        }
                        tail.extend(made);
                        tail.announce(Revision(head));
                    }
                    Step::Read(most) => {
                        let read = cursor.next().now_or_never();
                        let Some(read) = read else {
                            prop_assert!(due.is_empty(), "{due:?} is not told");
                            continue;
                        };
                        match read {
                            Ok(events) => {
                                seen = cursor.position();
                                let is_cut = events.len() > most;
                                for event in events.into_iter().take(most) {
                                    let told = (event.key.name().to_owned(), event.revision().0);
                                    prop_assert_eq!(Some(told), due.pop_front());
                                    if is_cut {
                                        seen = event.version;
                                    }
                                }
                                if is_cut {
                                    cursor = from(seen).expect("it has just been read");
                                }
                                continue;
                            }
                            Err(error) => prop_assert_eq!(error.reason(), Reason::Expired),
                        }
                        let next = seen.following().revision().0;
                        prop_assert!(head + 1 - next > 4, "{next} of {head} is kept");
                        // It lists, and goes on from there.
                        due.clear();
                        seen = Revision(head).into();
                        cursor = from(seen).expect("at the head");
                    }
                    Step::Resume => match from(cursor.position()) {
                        Ok(again) => cursor = again,
                        Err(error) => {
                            prop_assert_eq!(error.reason(), Reason::Expired);
                            due.clear();
                            seen = Revision(head).into();
                            cursor = from(seen).expect("at the head");
                        }
                    },
                }
                let future = from(Revision(head + 1).into());
                prop_assert_eq!(future.err().map(|error| error.reason()), Some(Reason::Timeout));
            }
        }
    }

    #[test]
    fn a_position_in_the_future_is_refused() {
        let tail = full_tail();

        let refusal = tail.cursor(Range::Everything, None, Revision(u64::MAX).into()).err();

        assert_eq!(refusal.map(|error| error.code()), Some(504));
    }

    #[tokio::test]
    async fn a_cursor_begins_at_a_state_that_is_not_announced_yet() {
        let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
        tail.extend([commit(1, "a")]);

        let mut cursor =
            tail.cursor(Range::Everything, None, Revision(1).into()).expect("it is there");
        tail.extend([commit(2, "b")]);
        tail.announce(Revision(2));

        assert_eq!(cursor.next().await.expect("not expired")[0].revision(), Revision(2));
    }

    #[tokio::test]
    async fn a_cursor_skips_other_ranges_and_still_moves_on() {
        let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
        let only = Key::new(Resource::new("nodes", "x"), None, "b");
        let mut cursor = tail.cursor(Range::Object(only), None, Version::ANY).expect("at the head");
        tail.extend([commit(1, "a"), commit(2, "b")]);
        tail.announce(Revision(2));

        let events = cursor.next().await.expect("not expired");

        assert_eq!(events.len(), 1);
        assert_eq!(cursor.position(), Revision(2).into());
    }
}
