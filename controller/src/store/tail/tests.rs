//! Cursors: what they give, when they are woken, and what they are refused.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::Wake,
    thread,
};

use futures::FutureExt;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::store::Resource;

impl Tail {
    /// Commits are there, and said to be.
    fn publish(&self, new: impl IntoIterator<Item = Commit>) {
        let new: Vec<_> = new.into_iter().map(Arc::new).collect();
        self.extend(&new);
        let head = new.last().map(|commit| commit.revision);
        self.announce(&new, head.unwrap_or_default());
    }
}

/// Whether a reader that waits was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Woken {
    fn polls(self: &Arc<Self>, cursor: &mut Cursor) -> Poll<Result<Vec<Event>, ApiError>> {
        cursor.poll_next(&Context::from_waker(&Arc::clone(self).into()))
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

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
    tail.publish((1..=count).map(|revision| commit(revision, "a")));
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
    tail.publish([commit(count + 1, "a")]);

    let refusal = tail.cursor(Range::Everything, None, Version::ANY).err();

    assert_eq!(refusal.map(|error| error.code()), Some(410));
    assert!(tail.cursor(Range::Everything, None, Revision(1).into()).is_ok());
}

#[test]
fn what_happened_to_derived_objects_before_this_process_is_not_known() {
    let derived = Resource::new("buckets", "x");
    let mut recent = Recent::default();
    recent.push(Arc::new(commit(1, "a")));
    recent.push(Arc::new(commit(2, "a")));
    let tail = Arc::new(Tail::new(Revision(2), recent).deriving(vec![derived.clone()]));
    let from = |resource: &Resource, revision| {
        let range = Range::Container(resource.clone(), "web".into());
        tail.cursor(range, None, Revision(revision).into()).map(drop).map_err(|error| error.code())
    };

    assert_eq!(from(&derived, 1), Err(410));
    assert_eq!(from(&derived, 2), Ok(()));
    assert_eq!(from(&Resource::new("nodes", "x"), 1), Ok(()));
}

#[test]
fn large_objects_make_a_short_tail() {
    let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
    let large = |revision| Commit { bytes: limits::WATCH_TAIL_BYTES / 2, ..commit(revision, "a") };
    tail.publish([large(1), large(2)]);
    assert!(tail.cursor(Range::Everything, None, Version::ANY).is_ok());

    tail.publish([commit(3, "a")]);

    assert!(tail.cursor(Range::Everything, None, Version::ANY).is_err());
    assert!(tail.cursor(Range::Everything, None, Revision(1).into()).is_ok());
}

#[tokio::test]
async fn a_batch_ends_with_the_commit_that_fills_it() {
    let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
    let half = |revision| Commit { bytes: limits::WATCH_BATCH_BYTES / 2, ..commit(revision, "a") };
    tail.publish([half(1), half(2), half(3)]);
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

fn ranges() -> impl Strategy<Value = Range> {
    let nodes = Resource::new("nodes", "x");
    prop_oneof![
        Just(Range::Everything),
        Just(Range::Resource(nodes.clone())),
        Just(Range::Container(nodes, "web".into())),
    ]
}

proptest! {
    #[test]
    fn a_reader_gets_every_event_once_and_in_order_or_is_told_to_list_again(
        (steps, range) in (steps(), ranges()),
    ) {
        let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
        let (mut head, mut seen) = (0_u64, Version::from(Revision(0)));
        let from = |seen| tail.cursor(range.clone(), None, seen);
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
                        let versions = Version::of_each(Revision(head), events.into());
                        for (number, version) in versions.enumerate() {
                            let name = version.to_string();
                            let plural = if head.is_multiple_of(3) { "pools" } else { "nodes" };
                            let container = if number.is_multiple_of(2) { "web" } else { "shop" };
                            let resource = Resource::new(plural, "x");
                            let key = Key::new(resource, Some(container), &name);
                            if range.contains(&key) {
                                due.push_back((name, head));
                            }
                            one.events.push(Event { key, version, ..event.clone() });
                        }
                        // The tail holds four of them.
                        one.bytes = limits::WATCH_TAIL_BYTES / 4;
                        made.push(one);
                    }
                    tail.publish(made);
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
            let future = tail.cursor(range.clone(), None, Revision(head + 1).into());
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
    tail.extend(&[Arc::new(commit(1, "a"))]);

    let mut cursor = tail.cursor(Range::Everything, None, Revision(1).into()).expect("it is there");
    tail.publish([commit(2, "b")]);

    assert_eq!(cursor.next().await.expect("not expired")[0].revision(), Revision(2));
}

#[tokio::test]
async fn a_cursor_skips_other_ranges_and_still_moves_on() {
    let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
    let only = Key::new(Resource::new("nodes", "x"), None, "b");
    let mut cursor = tail.cursor(Range::Object(only), None, Version::ANY).expect("at the head");
    tail.publish([commit(1, "a"), commit(2, "b")]);

    let events = cursor.next().await.expect("not expired");

    assert_eq!(events.len(), 1);
    assert_eq!(cursor.position(), Revision(2).into());
}

#[tokio::test]
async fn a_cursor_that_nothing_concerns_sleeps_and_does_not_expire() {
    let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
    let pools = Range::Resource(Resource::new("pools", "x"));
    let mut cursor = tail.cursor(pools, None, Version::ANY).expect("at the head");
    let woken = Arc::new(Woken::default());
    assert!(woken.polls(&mut cursor).is_pending());

    let count = 2 * limits::WATCH_TAIL_COMMITS as u64;
    (1..=count).for_each(|revision| tail.publish([commit(revision, "a")]));

    assert!(!woken.is_set());
    assert_eq!(cursor.position(), Revision(count).into());
    let mut own = commit(count + 1, "p");
    own.events[0].key = Key::new(Resource::new("pools", "x"), None, "p");
    tail.publish([own]);
    assert_eq!(cursor.next().await.expect("not expired").len(), 1);
}

#[test]
fn what_rights_are_made_of_concerns_everybody() {
    let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
    let pools = Range::Container(Resource::new("pools", "x"), "web".into());
    let mut cursor = tail.cursor(pools, None, Version::ANY).expect("at the head");
    let woken = Arc::new(Woken::default());
    assert!(woken.polls(&mut cursor).is_pending());

    let mut right = commit(1, "r");
    let bindings = Resource::new("policybindings", "iam.isocast.dev");
    right.events[0].key = Key::new(bindings, Some("other"), "r");
    tail.publish([right]);

    assert!(woken.is_set());
}

#[test]
fn readers_on_other_threads_get_everything_that_concerns_them() {
    const COMMITS: u64 = 6_000;
    let tail = Arc::new(Tail::new(Revision(0), Recent::default()));
    let (nodes, pools) = (Resource::new("nodes", "x"), Resource::new("pools", "x"));
    let key = |revision: u64| {
        let resource = if revision.is_multiple_of(3) { &pools } else { &nodes };
        let container = if revision.is_multiple_of(2) { "web" } else { "shop" };
        Key::new(resource.clone(), Some(container), &revision.to_string())
    };
    let ranges = [
        Range::Everything,
        Range::Resource(nodes.clone()),
        Range::Container(nodes.clone(), "web".into()),
        Range::Container(pools.clone(), "shop".into()),
        Range::Object(key(4_000)),
    ];
    let readers = ranges.iter().cycle().take(20).map(|range| {
        let due: Vec<_> = (1..=COMMITS).filter(|it| range.contains(&key(*it))).collect();
        let mut cursor = tail.cursor(range.clone(), None, Version::ANY).expect("at the head");
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("starts");
            let mut seen = Vec::new();
            while seen.len() < due.len() {
                let events = runtime.block_on(cursor.next()).expect("not expired");
                seen.extend(events.iter().map(|event| event.revision().0));
            }
            assert_eq!(seen, due);
        })
    });
    let readers: Vec<_> = readers.collect();

    for first in (1..=COMMITS).step_by(3) {
        tail.publish((first..first + 3).map(|revision| {
            let mut one = commit(revision, "");
            one.events[0].key = key(revision);
            one
        }));
    }

    readers.into_iter().for_each(|reader| reader.join().expect("all is seen"));
}
