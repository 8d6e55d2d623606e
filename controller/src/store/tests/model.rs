//! The log against a model, whichever backend keeps it: puts, deletions, truncation, reopening.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use serde_json::Value;

use super::{key, object};
use crate::store::{
    Audit, Backend, BackendError, Change, ChangeSet, Extent, Key, MemoryBackend, Operation, Range,
    RedbBackend, Revision, View,
    history::{Past, past},
    log::Log,
};

/// What can happen to a log.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Put(u8, u64),
    Delete(u8),
    Truncate(u8),
    Reopen,
}

/// What a log should hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) head: Revision,
    pub(super) floor: Revision,
    pub(super) live: BTreeMap<Key, (Revision, Value)>,
    pub(super) log: BTreeMap<Revision, Key>,
    /// What was live at each revision.
    pub(super) past: BTreeMap<Revision, BTreeMap<Key, Revision>>,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_u8, any::<u64>()).prop_map(|(name, size)| Step::Put(name, size)),
        2 => (0..6_u8).prop_map(Step::Delete),
        1 => (0..100_u8).prop_map(Step::Truncate),
        1 => Just(Step::Reopen),
    ]
}

impl Model {
    pub(super) fn new() -> Self {
        Self { floor: Revision(1), ..Self::default() }
    }

    /// The change-set that a step is, if it is one here.
    pub(super) fn put(&mut self, name: u8, size: Option<u64>) -> Option<ChangeSet> {
        let key = key(&format!("n{name}"));
        let previous = self.live.get(&key).map_or(Revision(0), |(revision, _)| *revision);
        let (operation, object) = match size {
            Some(size) => (Operation::Put, object(key.name(), size)),
            None if previous == Revision(0) => return None,
            None => (Operation::Delete, object(key.name(), 0)),
        };
        self.head = self.head.next();
        self.log.insert(self.head, key.clone());
        match operation {
            Operation::Put => self.live.insert(key.clone(), (self.head, object.clone())),
            Operation::Delete => self.live.remove(&key),
        };
        let live = self.live.iter().map(|(key, (revision, _))| (key.clone(), *revision));
        self.past.insert(self.head, live.collect());
        let audit = Audit {
            actor: "test".into(),
            verb: "update".into(),
            agent: "test".into(),
            time_ms: 0,
            details: <_>::default(),
        };
        let change = Change { key, operation, previous, value: Arc::new(object) };
        Some(ChangeSet { audit, changes: vec![change] })
    }

    pub(super) fn truncate(&mut self, percent: u8) -> Revision {
        let before = Revision(self.head.0 * u64::from(percent) / 100);
        self.floor = self.floor.max(before);
        let floor = self.floor;
        self.log.retain(|revision, _| *revision >= floor);
        before
    }

    /// Says how `log` differs.
    pub(super) fn check(&self, log: &Log) -> Result<(), BackendError> {
        let reading = log.reading()?;
        let stored: BTreeMap<Key, (Revision, Value)> = reading
            .objects()?
            .into_iter()
            .map(|object| (object.key, (object.revision, Value::clone(&object.value))))
            .collect();
        assert_eq!(stored, self.live);
        assert_eq!(log.extent(), Extent { head: self.head, floor: self.floor });
        let read: BTreeMap<Revision, Key> = reading
            .read(self.floor, usize::MAX)?
            .into_iter()
            .map(|(revision, mut set)| (revision, set.changes.remove(0).key))
            .collect();
        assert_eq!(read, self.log);
        // Everything that was live at the floor or later can still be read.
        for (_, live) in self.past.range(self.floor..) {
            for (key, revision) in live {
                reading.object(key, *revision)?;
            }
        }
        if self.floor > Revision(1) {
            let before = reading.read(Revision(self.floor.0 - 1), 1);
            assert!(matches!(before, Err(BackendError::Truncated { .. })));
        }
        Ok(())
    }
}

/// Does the steps, and compares.
pub(super) fn agrees<B: Backend + 'static>(steps: Vec<Step>, open: impl Fn() -> Arc<B>) {
    let mut log = Log::open(open()).expect("opens");
    let mut model = Model::new();
    for step in steps {
        let set = match step {
            Step::Put(name, size) => model.put(name, Some(size)),
            Step::Delete(name) => model.put(name, None),
            Step::Truncate(percent) => {
                log.truncate(model.truncate(percent)).expect("truncates");
                None
            }
            Step::Reopen => {
                drop(log);
                log = Log::open(open()).expect("opens again");
                None
            }
        };
        if let Some(set) = set {
            let sets = [set];
            log.append(log.draft(&sets).expect("JSON"), &sets).expect("appends");
        }
    }
    model.check(&log).expect("readable");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_log_in_a_file_agrees_with_a_model(steps in prop::collection::vec(step(), 1..60)) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("db");
        agrees(steps, || Arc::new(RedbBackend::open(&path).expect("opens")));
    }

    #[test]
    fn a_log_in_memory_agrees_with_a_model(steps in prop::collection::vec(step(), 1..60)) {
        let backend = Arc::new(MemoryBackend::default());
        agrees(steps, || Arc::clone(&backend));
    }
}

/// Two writers of one log: nothing of the slower one is there, and then it follows.
#[test]
fn who_is_not_at_the_head_cannot_append() {
    let backend = Arc::new(MemoryBackend::default());
    let mut one = Log::open(backend.clone()).expect("opens");
    let mut other = Log::open(backend).expect("opens");
    let mut model = Model::new();
    let first = [model.put(1, Some(1)).expect("a change")];
    one.append(one.draft(&first).expect("JSON"), &first).expect("appends");

    let late = other.append(other.draft(&first).expect("JSON"), &first);

    assert!(matches!(late, Err(BackendError::Moved)));
    model.check(&one).expect("readable");
    let news = other.news().expect("readable");
    assert!(matches!(news, crate::store::log::News::Sets(sets) if sets.len() == 1));
    let second = [model.put(2, Some(2)).expect("a change")];
    other.append(other.draft(&second).expect("JSON"), &second).expect("appends");
    model.check(&other).expect("readable");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_retained_revision_can_be_read(steps in prop::collection::vec(step(), 1..60)) {
        let backend = Arc::new(MemoryBackend::default());
        let mut log = Log::open(backend.clone()).expect("opens");
        let mut model = Model::new();
        for step in steps {
            let set = match step {
                Step::Put(name, size) => model.put(name, Some(size)),
                Step::Delete(name) => model.put(name, None),
                Step::Truncate(percent) => {
                    log.truncate(model.truncate(percent)).expect("truncates");
                    None
                }
                Step::Reopen => None,
            };
            if let Some(set) = set {
                let sets = [set];
                log.append(log.draft(&sets).expect("JSON"), &sets).expect("appends");
            }
        }
        let reading = log.reading().expect("readable");
        let now = View::new(model.head, reading.objects().expect("readable"));
        drop(reading);
        for (revision, live) in &model.past {
            let past = past(&*backend, &now, &Range::Everything, *revision).expect("readable");
            match past {
                Past::View(view) => {
                    prop_assert!(*revision >= model.floor);
                    prop_assert_eq!(view.revision(), *revision);
                    let seen: BTreeMap<Key, Revision> =
                        view.iter().map(|object| (object.key.clone(), object.revision)).collect();
                    prop_assert_eq!(&seen, live);
                }
                Past::Forgotten { floor } => prop_assert!(*revision < floor),
                Past::TooMany => prop_assert!(false, "few objects"),
            }
        }
    }
}
