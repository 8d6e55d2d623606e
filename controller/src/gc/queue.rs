//! [`Queue`]: what the collector has yet to look at.
//!
//! Each object is in it once. When it is full, what does not fit is not remembered one by one: the
//! queue says that everything must be looked at again, and nothing is lost.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{limits, store::Key};

/// Objects to look at, now or later.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: VecDeque<Key>,
    waiting: HashSet<Key>,
    failures: HashMap<Key, u32>,
    later: BTreeMap<(Instant, u64), Key>,
    count: u64,
    has_lost: bool,
}

const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(60);

impl Queue {
    /// Looks at `key` soon.
    pub(super) fn push(&mut self, key: Key) {
        if self.waiting.contains(&key) {
            return;
        }
        if self.waiting.len() >= limits::GC_QUEUE {
            self.has_lost = true;
            return;
        }
        self.waiting.insert(key.clone());
        self.order.push_back(key);
    }

    /// At most `limit` objects that are due.
    pub(super) fn pop(&mut self, limit: usize, now: Instant) -> Vec<Key> {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            self.push(key);
        }
        let count = limit.min(self.order.len());
        let keys: Vec<Key> = self.order.drain(..count).collect();
        for key in &keys {
            self.waiting.remove(key);
        }
        keys
    }

    /// It was dealt with.
    pub(super) fn done(&mut self, key: &Key) {
        self.failures.remove(key);
    }

    /// It could not be dealt with; the more often, the later again.
    pub(super) fn failed(&mut self, key: Key, now: Instant) {
        if self.later.len() >= limits::GC_QUEUE {
            self.has_lost = true;
            return;
        }
        let failures = self.failures.entry(key.clone()).or_default();
        let wait = RETRY_FIRST.saturating_mul(1 << (*failures).min(10)).min(RETRY_MAX);
        *failures = failures.saturating_add(1);
        self.count = self.count.wrapping_add(1);
        self.later.insert((now + wait, self.count), key);
    }

    /// When something is due again that could not be dealt with.
    pub(super) fn next(&self) -> Option<Instant> {
        self.later.first_key_value().map(|((due, _), _)| *due)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.order.len() + self.later.len()
    }

    /// Whether something did not fit since this was last asked.
    pub(super) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.has_lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Resource;

    fn key(number: usize) -> Key {
        Key::new(Resource::new("things", "x"), None, &number.to_string())
    }

    #[tokio::test]
    async fn an_object_is_in_the_queue_once() {
        let mut queue = Queue::default();
        queue.push(key(1));
        queue.push(key(1));

        assert_eq!(queue.pop(10, Instant::now()), [key(1)]);
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn what_does_not_fit_is_remembered_as_a_whole() {
        let mut queue = Queue::default();
        for number in 0..limits::GC_QUEUE {
            queue.push(key(number));
        }
        assert!(!queue.take_lost());

        queue.push(key(limits::GC_QUEUE));

        assert_eq!(queue.len(), limits::GC_QUEUE);
        assert!(queue.take_lost());
        assert!(!queue.take_lost());
    }

    #[tokio::test]
    async fn what_fails_comes_back_later_and_later() {
        let mut queue = Queue::default();
        let start = Instant::now();
        queue.failed(key(1), start);

        assert!(queue.pop(1, start).is_empty());
        let due = queue.next().unwrap();
        assert_eq!(queue.pop(1, due), [key(1)]);
        queue.failed(key(1), due);
        assert!(queue.next().unwrap() - due > due - start);
        for _ in 0..20 {
            let due = queue.next().unwrap();
            assert_eq!(queue.pop(1, due), [key(1)]);
            queue.failed(key(1), due);
            assert!(queue.next().unwrap() - due <= RETRY_MAX);
        }
    }
}
