//! Events do not last: how many a namespace may have, and when they go.
//!
//! [`Events`] counts in the transaction that writes; [`EventExpiry`] removes what is too old, and what
//! was told of a namespace that is gone. Nothing else depends on an Event.

use std::{sync::Arc, time::Duration};

use foldhash::fast::RandomState;
use futures::{StreamExt, stream};
use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::{SYSTEM_NAMESPACE, lookup::text};
use crate::{
    admission::{Admission, ProposedChange},
    authz::{Authorizer, Identity, verb},
    error::{ApiError, Reason},
    limits,
    registry::namespaces,
    store::{
        Event, Expect, Key, Object, Operation, Persistence, Range, Resource, Store, View, Write,
    },
};

/// Keeps a namespace from drowning in its events.
#[derive(Debug, Default)]
pub struct Events {
    counts: Mutex<HashMap<String, usize, RandomState>>,
}

/// Removes events that are too old.
#[derive(Debug)]
pub struct EventExpiry {
    store: Arc<Store>,
}

const IDENTITY: Identity = Identity::Component { name: "event-expiry" };

/// Removals under way at a time.
const AT_ONCE: usize = 64;

/// When something happened to an Event last, in order of preference.
const TIMES: [&str; 4] =
    ["/series/lastObservedTime", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"];

fn is_event(key: &Key) -> bool {
    key.resource().as_str() == "events"
}

impl Admission for Events {
    fn admit(&self, _view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        if !is_event(&change.key) || change.old.is_some() || change.new.is_none() {
            return Ok(());
        }
        let namespace = change.key.container().unwrap_or_default();
        let known = self.counts.lock().get(namespace).copied().unwrap_or_default();
        if known < limits::EVENTS_OF_NAMESPACE {
            return Ok(());
        }
        let message = format!("namespace {namespace:?} has {known} events, which is the limit");
        Err(ApiError::about(Reason::TooManyRequests, &change.key, message)
            .with_retry_after(RETRY_AFTER_S))
    }

    fn open(&self, view: &View) {
        self.counts.lock().clear();
        let range = Range::Resource(Resource::new("events", ""));
        for object in view.range(&range) {
            self.count(&object.key, 1);
        }
    }

    fn follow(&self, events: &[Event], _view: &View) {
        for event in events.iter().filter(|event| is_event(&event.key)) {
            match (event.operation, &event.old) {
                (Operation::Put, None) => self.count(&event.key, 1),
                (Operation::Delete, _) => self.count(&event.key, -1),
                (Operation::Put, Some(_)) => {}
            }
        }
    }
}

impl Events {
    fn count(&self, key: &Key, difference: isize) {
        let namespace = key.container().unwrap_or_default();
        let mut counts = self.counts.lock();
        let count = counts.entry_ref(namespace).or_insert(0);
        *count = count.saturating_add_signed(difference);
        if *count == 0 {
            counts.remove(namespace);
        }
    }
}

impl EventExpiry {
    /// The events of `store`.
    #[must_use]
    pub fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Removes until the store closes.
    pub async fn run(self) {
        let mut tick = interval(limits::EVENT_SWEEP);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.store.is_alive() {
            tick.tick().await;
            self.sweep(Timestamp::now()).await;
        }
    }

    async fn sweep(&self, now: Timestamp) {
        let proof = Authorizer.authorize::<verb::List, Range>(&IDENTITY, Range::Everything);
        let Ok(proof) = proof else { return };
        let gone = over(&self.store.view(&proof), now, limits::EVENT_LIFETIME);
        stream::iter(gone).for_each_concurrent(AT_ONCE, |event| self.remove(event)).await;
    }

    async fn remove(&self, event: Object) {
        let proof = Authorizer.authorize::<verb::Delete, Key>(&IDENTITY, event.key);
        let Ok(proof) = proof else { return };
        let write = Write {
            expect: Expect::At(event.revision),
            value: None,
            subresource: None,
            agent: "isocast-event-expiry".into(),
            persistence: Persistence::Durable,
        };
        if let Err(error) = self.store.write(&proof, write).await {
            // Changed or deleted in this very moment, or the store is closing.
            let key = proof.resource();
            tracing::debug!(%key, error = &error as &dyn std::error::Error, "an event stays");
        }
    }
}

/// Events that nobody needs any more.
fn over(view: &View, now: Timestamp, lifetime: Duration) -> Vec<Object> {
    let range = Range::Resource(Resource::new("events", ""));
    let mut place: Option<(Arc<str>, bool)> = None;
    let mut is_gone = |namespace: &str| match &place {
        Some((known, gone)) if **known == *namespace => *gone,
        _ => {
            let gone = namespace != SYSTEM_NAMESPACE && namespaces::get(view, namespace).is_err();
            place = Some((namespace.into(), gone));
            gone
        }
    };
    let events = view.range(&range).filter(|event| {
        is_gone(event.key.container().unwrap_or_default())
            || last_time(&event.glance(), now).is_none_or(|then| {
                Duration::try_from(now.duration_since(then)).unwrap_or_default() >= lifetime
            })
    });
    events.cloned().collect()
}

/// When it happened last, as far as that can be: nothing has happened in the future.
fn last_time(event: &Value, now: Timestamp) -> Option<Timestamp> {
    let times = TIMES.iter().filter_map(|pointer| text(event, pointer)?.parse().ok());
    times.into_iter().find(|time: &Timestamp| *time <= now)
}

const RETRY_AFTER_S: u32 = 60;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Revision;

    fn key(namespace: &str, name: &str) -> Key {
        Key::new(Resource::new("events", ""), Some(namespace), name)
    }

    fn event(namespace: &str, name: &str, value: Value) -> Object {
        Object {
            key: key(namespace, name),
            revision: Revision(1),
            document: Arc::new(value.into()),
        }
    }

    fn created(now: Timestamp) -> ProposedChange {
        let pair = (None, Some(json!({})));
        ProposedChange::new(IDENTITY, "create", None, now, key("web", "e"), pair)
    }

    #[test]
    fn an_event_goes_an_hour_after_it_happened_last_or_with_its_namespace() {
        let old = "2026-11-22T08:00:00Z";
        let recent = "2026-11-22T11:30:00Z";
        let objects = vec![
            event(SYSTEM_NAMESPACE, "old", json!({"lastTimestamp": old})),
            event(
                SYSTEM_NAMESPACE,
                "repeated",
                json!({"lastTimestamp": old, "series": {"lastObservedTime": recent}}),
            ),
            event(SYSTEM_NAMESPACE, "recent", json!({"metadata": {"creationTimestamp": recent}})),
            event(
                SYSTEM_NAMESPACE,
                "future",
                json!({"lastTimestamp": "2099-01-01T00:00:00Z",
                    "metadata": {"creationTimestamp": old}}),
            ),
            event("gone", "orphan", json!({"lastTimestamp": recent})),
        ];
        let view = View::new(Revision(1), objects);
        let now = "2026-11-22T12:00:00Z".parse().expect("a time");

        let over = over(&view, now, Duration::from_secs(3600));

        let names: Vec<&str> = over.iter().map(|event| event.key.name()).collect();
        assert_eq!(names, ["orphan", "future", "old"]);
    }

    #[test]
    fn the_event_after_the_last_is_refused_until_one_goes() {
        let now = Timestamp::now();
        let events = Events::default();
        let view = View::new(Revision(0), Vec::new());
        for _ in 0..limits::EVENTS_OF_NAMESPACE {
            events.admit(&view, &mut created(now)).expect("there is room");
            events.count(&key("web", "e"), 1);
        }

        let refusal = events.admit(&view, &mut created(now)).expect_err("it is full");
        assert_eq!((refusal.code(), refusal.retry_after()), (429, Some(RETRY_AFTER_S)));

        let gone = Event {
            key: key("web", "e"),
            version: Revision(2).into(),
            operation: Operation::Delete,
            old: None,
            document: Arc::new(json!({}).into()),
        };
        events.follow(&[gone], &view);
        events.admit(&view, &mut created(now)).expect("there is room again");
    }
}
