//! [`Bell`]: wakes whom a commit may concern, and nobody else.
//!
//! A cursor hangs here as long as it lives, under the range that it follows. What happens elsewhere
//! neither wakes it nor costs anything, however many there are: it is known to be of no concern up to
//! the last ring. The exception is what rights are made of, which may end anybody's watch.
//!
//! Invariants: what is rung is in the tail already, and readers see it; one thread rings. Whoever is
//! rung keeps the first position that it has not seen, so that a quiet one does not expire.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt, iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Waker},
};

use foldhash::fast::RandomState;
use isocast_api::{iam, resourcemanager};
use parking_lot::Mutex;

use super::{Key, Range, Resource, Revision};

/// Who waits for what.
#[derive(Debug)]
pub(super) struct Bell {
    /// Everything up to here has been rung.
    rung: AtomicU64,
    waiting: Mutex<Waiting>,
}

/// A cursor's place among those that wait.
pub(super) struct Seat {
    bell: Arc<Bell>,
    range: Range,
    number: u64,
    place: Arc<Place>,
}

/// Everybody who waits, by what they follow, and in each list by who came first.
#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    of_all: List,
    of_resources: HashMap<Resource, OfResource, RandomState>,
}

#[derive(Debug, Default)]
struct OfResource {
    whole: List,
    containers: HashMap<Arc<str>, List, RandomState>,
}

type List = BTreeMap<u64, Arc<Place>>;

#[derive(Debug)]
struct Place(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Everything up to here has been taken, or concerns somebody else.
    position: Revision,
    /// The last commit that may concern it.
    due: Revision,
    waker: Option<Waker>,
}

// === impl Bell ===

impl Bell {
    /// A bell that has been rung for everything up to `head`.
    pub(super) fn new(head: Revision) -> Self {
        Self { rung: AtomicU64::new(head.0), waiting: Mutex::default() }
    }

    /// A place for somebody who follows `range` from `position` on, where the log ends at `newest()`.
    pub(super) fn seat(
        self: &Arc<Self>,
        range: &Range,
        position: Revision,
        newest: impl FnOnce() -> Revision,
    ) -> Seat {
        let mut waiting = self.waiting.lock();
        // What comes later is rung once the lock is free.
        let state = State { position, due: newest(), waker: None };
        let place = Arc::new(Place(Mutex::new(state)));
        waiting.last = waiting.last.saturating_add(1);
        let number = waiting.last;
        waiting.list(range).insert(number, Arc::clone(&place));
        drop(waiting);
        Seat { bell: Arc::clone(self), range: range.clone(), number, place }
    }

    /// Wakes those whom changes of `keys` may concern, which are all there are up to `head`.
    pub(super) fn ring<'a>(&self, keys: impl Iterator<Item = &'a Key>, head: Revision) {
        let mut places = HashSet::with_hasher(RandomState::default());
        for key in keys {
            let resource = key.resource();
            if matches!(resource.group(), iam::GROUP | resourcemanager::GROUP) {
                return self.ring_all(head);
            }
            places.insert((resource, None));
            places.insert((resource, key.container()));
        }
        let waiting = self.waiting.lock();
        let lists = places.into_iter().filter_map(|(resource, container)| {
            let of_resource = waiting.of_resources.get(resource)?;
            match container {
                Some(container) => of_resource.containers.get(container),
                None => Some(&of_resource.whole),
            }
        });
        let wakers = self.note(iter::once(&waiting.of_all).chain(lists), head);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Wakes everybody.
    pub(super) fn ring_all(&self, head: Revision) {
        let waiting = self.waiting.lock();
        let lists = waiting.of_resources.values().flat_map(|of_resource| {
            iter::once(&of_resource.whole).chain(of_resource.containers.values())
        });
        let wakers = self.note(iter::once(&waiting.of_all).chain(lists), head);
        drop(waiting);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Notes what is new for those on `lists`; gives those of them that sleep.
    fn note<'a>(&self, lists: impl Iterator<Item = &'a List>, head: Revision) -> Vec<Waker> {
        let before = self.rung();
        let places = lists.flat_map(List::values);
        let wakers = places.filter_map(|place| place.ring(before, head)).collect();
        self.rung.store(head.0, Ordering::Release);
        wakers
    }

    fn rung(&self) -> Revision {
        Revision(self.rung.load(Ordering::Acquire))
    }
}

// === impl Waiting ===

impl Waiting {
    fn list(&mut self, range: &Range) -> &mut List {
        match range {
            Range::Everything | Range::Containers => &mut self.of_all,
            Range::Resource(resource) => {
                &mut self.of_resources.entry(resource.clone()).or_default().whole
            }
            Range::Container(resource, container) => self.of_container(resource, container),
            Range::Object(key) => match key.container() {
                Some(container) => self.of_container(key.resource(), container),
                None => &mut self.of_resources.entry(key.resource().clone()).or_default().whole,
            },
        }
    }

    fn of_container(&mut self, resource: &Resource, container: &str) -> &mut List {
        let of_resource = self.of_resources.entry(resource.clone()).or_default();
        of_resource.containers.entry(container.into()).or_default()
    }

    /// Takes a place away, and what nobody follows any more.
    fn leave(&mut self, range: &Range, number: u64) {
        self.list(range).remove(&number);
        let Some(resource) = range.resource() else { return };
        if let Some(of_resource) = self.of_resources.get_mut(resource) {
            let container = match range {
                Range::Container(_, container) => Some(&**container),
                Range::Object(key) => key.container(),
                _ => None,
            };
            if let Some(container) = container
                && of_resource.containers.get(container).is_some_and(List::is_empty)
            {
                of_resource.containers.remove(container);
            }
            if of_resource.whole.is_empty() && of_resource.containers.is_empty() {
                self.of_resources.remove(resource);
            }
        }
    }
}

// === impl Place ===

impl Place {
    fn ring(&self, before: Revision, head: Revision) -> Option<Waker> {
        let mut state = self.0.lock();
        // Whoever had taken everything that concerned it has missed nothing in between.
        if state.due <= state.position {
            state.position = state.position.max(before);
        }
        state.due = state.due.max(head);
        state.waker.take()
    }
}

// === impl Seat ===

impl Seat {
    /// The position to go on from, if there may be something after it; else `context` is woken when
    /// there is.
    pub(super) fn due(&self, context: &Context<'_>) -> Option<Revision> {
        let mut state = self.place.0.lock();
        if state.due > state.position {
            return Some(state.position);
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        None
    }

    /// Everything up to `position` has been taken.
    pub(super) fn take(&self, position: Revision) {
        let mut state = self.place.0.lock();
        state.position = state.position.max(position);
    }

    /// Everything up to here has been taken, or concerns somebody else.
    pub(super) fn position(&self) -> Revision {
        // Whatever of it concerns this one has been rung here before.
        let rung = self.bell.rung();
        let mut state = self.place.0.lock();
        if state.due <= state.position {
            state.position = state.position.max(rung);
        }
        state.position
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.bell.waiting.lock().leave(&self.range, self.number);
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("range", &self.range).field("place", &self.place).finish()
    }
}
