//! [`MemoryBackend`]: a [`Backend`] that lasts as long as its process, for benchmarks and tests.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use parking_lot::{RwLock, RwLockReadGuard};

use super::{
    Audit, Backend, BackendError, Change, ChangeSet, Object, Operation, Revision, Snapshot,
    backend::{Commit, Each, HEAD, Row, Table},
    log::Log,
};

type Rows = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// Keeps the log in memory.
#[derive(Debug, Default)]
pub struct MemoryBackend(RwLock<Rows>);

struct State<'a>(RwLockReadGuard<'a, Rows>);

impl MemoryBackend {
    /// One whose log made these objects, one after the other.
    ///
    /// # Errors
    /// When an object cannot be written as JSON.
    pub fn holding(objects: Vec<Object>) -> Result<Arc<Self>, BackendError> {
        let backend = Arc::new(Self::default());
        let audit = Audit {
            actor: "component \"memory\"".into(),
            verb: "create".into(),
            agent: "memory".into(),
            time_ms: 0,
            details: <_>::default(),
        };
        let set = |Object { key, value, .. }| {
            let change = Change { key, operation: Operation::Put, previous: Revision(0), value };
            ChangeSet { audit: audit.clone(), changes: vec![change] }
        };
        let sets: Vec<ChangeSet> = objects.into_iter().map(set).collect();
        let mut log = Log::open(backend.clone())?;
        log.append(log.draft(&sets)?, &sets)?;
        Ok(backend)
    }
}

impl Backend for MemoryBackend {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, BackendError> {
        Ok(Box::new(State(self.0.read())))
    }

    fn commit(&self, commit: &Commit) -> Result<(), BackendError> {
        let mut rows = self.0.write();
        let head = (Table::Meta, HEAD.to_vec());
        if rows.get(&head) != commit.expected.as_ref() {
            return Err(BackendError::Moved);
        }
        rows.insert(head, commit.head.clone());
        apply(&mut rows, &commit.rows);
        Ok(())
    }

    fn fill(&self, new: &[Row]) -> Result<(), BackendError> {
        let mut rows = self.0.write();
        if rows.contains_key(&(Table::Meta, HEAD.to_vec())) {
            return Err(BackendError::Moved);
        }
        apply(&mut rows, new);
        Ok(())
    }
}

impl Snapshot for State<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], each: &mut Each<'_>) -> Result<(), BackendError> {
        let from = Bound::Included((table, from.to_vec()));
        for ((of, key), value) in self.0.range((from, Bound::Unbounded)) {
            if *of != table || each(key, value)? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

fn apply(rows: &mut Rows, new: &[Row]) {
    for (table, key, value) in new {
        match value {
            Some(value) => rows.insert((*table, key.clone()), value.clone()),
            None => rows.remove(&(*table, key.clone())),
        };
    }
}
