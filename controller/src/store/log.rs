//! [`Log`]: what the tables mean, and the one who changes them.
//!
//! A value is stored once, in the row of the change-set that made it; an object's row only says
//! which. A row below the floor stays while one of its values can be read at the floor or later:
//! [`Table::Kept`] counts them, and the change that supersedes a value takes one away once it falls
//! below the floor itself. The record of a row that falls below the floor moves to [`Table::Records`].
//! Invariants: rows from the floor to the head are all there, each chained to the one before; every
//! object row points to a row that holds its value; every commit names the head it follows.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc, time::Duration};

use super::{
    Backend, BackendError, ChangeSet, Extent, Operation, Revision,
    backend::{Capacity, Commit, Row, Table},
    codec::{self, Link},
    head::Head,
    index,
    kept::{self, Leaving},
    reading::{Reading, revision_key},
    records::{LogReader, TablesReader},
};
use crate::limits;

/// The log, as its writer holds it.
pub(super) struct Log {
    backend: Arc<dyn Backend>,
    head: Head,
    stored_head: Option<Vec<u8>>,
    /// How far the last append has come.
    reached: Revision,
    /// How long records are kept that have left it.
    records_age: Duration,
    /// Of the block that the head is in.
    index: index::Builder,
}

/// Change-sets on their way to the disk.
pub(super) struct Draft {
    rows: Vec<DraftRow>,
}

struct DraftRow {
    revision: Revision,
    link: Link,
    row: Vec<u8>,
}

/// What others have written.
pub(super) enum News {
    /// These change-sets, the next ones.
    Sets(Vec<(Revision, ChangeSet)>),
    /// More than is worth following, or more than the log still has.
    Reload,
}

impl Log {
    pub(super) fn open(backend: Arc<dyn Backend>) -> Result<Self, BackendError> {
        let reading = Reading::of(&*backend)?;
        let (head, stored_head) = (reading.head, reading.stored_head.clone());
        drop(reading);
        Ok(Self::at(backend, head, stored_head))
    }

    /// The log as it was read before: whatever came since is news to it.
    pub(super) fn at(backend: Arc<dyn Backend>, head: Head, stored_head: Option<Vec<u8>>) -> Self {
        let reached = head.extent.head;
        let index = index::Builder::default();
        Self { backend, head, stored_head, reached, records_age: Duration::MAX, index }
    }

    /// Forgets records that have left the log when they are older than this. Default: never.
    pub(super) fn with_records_for(self, records_age: Duration) -> Self {
        Self { records_age, ..self }
    }

    pub(super) fn extent(&self) -> Extent {
        self.head.extent
    }

    pub(super) fn is_shared(&self) -> bool {
        self.backend.is_shared()
    }

    /// Whether others may have written since.
    pub(super) fn has_news(&self) -> bool {
        self.backend.has_news()
    }

    /// Waits a little for others who lost to this writer.
    pub(super) fn give_way(&self) {
        self.backend.give_way();
    }

    /// Rows and bytes that become durable together.
    pub(super) fn capacity(&self) -> Capacity {
        self.backend.capacity()
    }

    /// One moment of it, to read from.
    pub(super) fn reading(&self) -> Result<Reading<'_>, BackendError> {
        Reading::of(&*self.backend)
    }

    /// Whether a change-set of so many objects and bytes can be stored at all.
    pub(super) fn takes(&self, objects: usize, bytes: usize) -> Result<(), BackendError> {
        let Capacity { rows: most_rows, bytes: most_bytes } = self.backend.capacity();
        // Its own row, and perhaps the summary of a block.
        let rows = objects.saturating_add(2);
        // What is sealed is a third longer.
        let bytes = if self.backend.keyring().is_some() {
            bytes.div_ceil(3).saturating_mul(4)
        } else {
            bytes
        };
        if rows > most_rows || bytes.saturating_add(limits::ROW_OVERHEAD_BYTES) > most_bytes {
            return Err(BackendError::TooLarge { rows, bytes });
        }
        Ok(())
    }

    /// The rows that `sets` become when they follow the head.
    pub(super) fn draft(&self, sets: &[ChangeSet]) -> Result<Draft, BackendError> {
        let mut revision = self.head.extent.head;
        let mut before = self.head.link;
        let rows = sets.iter().map(|set| {
            revision = revision.next();
            let sealed = match self.backend.keyring() {
                Some(keyring) => keyring.sealed_set(set)?,
                None => None,
            };
            let (link, row) = codec::encode(&before, revision, sealed.as_ref().unwrap_or(set))?;
            before = link;
            Ok(DraftRow { revision, link, row })
        });
        Ok(Draft { rows: rows.collect::<Result<_, BackendError>>()? })
    }

    /// Makes `draft` durable, which was made of `sets`.
    ///
    /// # Errors
    /// After one it is open how much of the draft is there: [`Self::reached`] says what is for certain,
    /// [`Self::holds`] the rest, and [`Self::news`] gives all of it.
    pub(super) fn append(&mut self, draft: Draft, sets: &[ChangeSet]) -> Result<(), BackendError> {
        let before = (self.head, self.stored_head.clone());
        let result = self.append_in_commits(draft, sets);
        self.reached = self.head.extent.head;
        if result.is_err() {
            (self.head, self.stored_head) = before;
            self.index = index::Builder::default();
        }
        result
    }

    /// The last revision that is certain to be durable of what was appended last.
    pub(super) fn reached(&self) -> Revision {
        self.reached
    }

    fn append_in_commits(&mut self, draft: Draft, sets: &[ChangeSet]) -> Result<(), BackendError> {
        let capacity = self.backend.capacity();
        let mut commit = Commit::default();
        let mut head = self.head;
        let mut bytes = 0;
        for (DraftRow { revision, link, row }, set) in draft.rows.into_iter().zip(sets) {
            let rows = commit.rows.len().saturating_add(set.changes.len()).saturating_add(2);
            let size = row.len().saturating_add(limits::ROW_OVERHEAD_BYTES);
            if !commit.rows.is_empty() && (rows > capacity.rows || bytes + size > capacity.bytes) {
                self.commit(std::mem::take(&mut commit), head)?;
                bytes = 0;
            }
            bytes += size;
            for change in &set.changes {
                let key = change.key.to_row();
                if change.previous > Revision(0) {
                    head.digest.remove(&key, change.previous);
                }
                let value = match change.operation {
                    Operation::Put => {
                        head.digest.add(&key, revision);
                        Some(revision_key(revision).to_vec())
                    }
                    Operation::Delete => None,
                };
                commit.rows.push((Table::Objects, key.into_bytes(), value));
            }
            commit.rows.push((Table::Log, revision_key(revision).to_vec(), Some(row)));
            self.index.add(revision, &set.audit, set.changes.iter().map(|change| &change.key));
            commit.rows.extend(self.summary());
            head.extent.head = revision;
            head.link = link;
        }
        self.commit(commit, head)
    }

    /// The row of the block that just came to its end, if one did. What was written before this
    /// controller started is read once; a block that cannot be read gets none, and is searched whole.
    fn summary(&mut self) -> Option<Row> {
        let row = self.index.row()?;
        let missing = self.index.missing();
        if missing.is_empty() {
            return Some(row);
        }
        let reader = TablesReader(Arc::clone(&self.backend));
        let read = || {
            let from = missing.start.max(reader.extent()?.1);
            let count = usize::try_from(missing.end.0.saturating_sub(from.0)).unwrap_or_default();
            reader.records(from, count)
        };
        match read() {
            Ok(earlier) => {
                self.index.complete(earlier.into_iter().map(|(record, _)| record));
                self.index.row()
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a part of the log is not indexed");
                None
            }
        }
    }

    /// Reads what others have written, and takes it for the head to follow. What an own commit left
    /// behind that failed is among it.
    pub(super) fn news(&mut self) -> Result<News, BackendError> {
        let reading = Reading::of(&*self.backend)?;
        let (mine, theirs) = (self.head, reading.head);
        let (known, newest) = (mine.extent.head, theirs.extent.head);
        let replaced = || BackendError::corrupt("it was replaced while the controller ran");
        if newest < known || (newest == known && theirs.link != mine.link) {
            return Err(replaced());
        }
        let behind = newest.0 - known.0;
        let news = if known.next() < theirs.extent.floor || behind > limits::CATCH_UP_REVISIONS {
            News::Reload
        } else {
            let mut sets = Vec::new();
            reading.each(known.next(), &mut |revision, links, row| {
                if revision == known.next() && links.previous != mine.link {
                    return Err(replaced());
                }
                sets.push((revision, reading.decode(revision, row)?));
                Ok(ControlFlow::Continue(()))
            })?;
            for (revision, set) in &sets {
                let keys = set.changes.iter().map(|change| &change.key);
                self.index.add(*revision, &set.audit, keys);
            }
            News::Sets(sets)
        };
        let stored_head = reading.stored_head.clone();
        drop(reading);
        self.head = theirs;
        self.stored_head = stored_head;
        Ok(news)
    }

    /// Whether the row of `revision` is the one with this link.
    pub(super) fn holds(&self, revision: Revision, link: &Link) -> Result<bool, BackendError> {
        if revision > self.head.extent.head {
            return Ok(false);
        }
        let row = self.reading()?.row(revision)?;
        Ok(codec::links(revision, &row)?.own == *link)
    }

    /// Forgets the log before `before`, except its records, and what can be read at `before` or later.
    pub(super) fn truncate(&mut self, before: Revision) -> Result<(), BackendError> {
        // The head's row stays, so that there is always one to read.
        let before = before.min(self.head.extent.head);
        let capacity = self.backend.capacity();
        while self.head.extent.floor < before {
            let (commit, floor) = self.forgetting(before, capacity)?;
            let mut head = self.head;
            head.extent.floor = floor;
            self.commit(commit, head)?;
        }
        Ok(())
    }

    /// The commit that moves the floor towards `before` as far as one can.
    fn forgetting(
        &self,
        before: Revision,
        capacity: Capacity,
    ) -> Result<(Commit, Revision), BackendError> {
        let reading = self.reading()?;
        let mut counts: HashMap<Revision, u64> = HashMap::new();
        let mut commit = Commit::default();
        let mut floor = self.head.extent.floor;
        let first = floor;
        let mut leaving = Leaving::at(&reading, floor)?;
        let mut bytes: usize = 0;
        while floor < before {
            let row = reading.row(floor)?;
            let outline = codec::outline(floor, &row)?;
            let record = leaving.record(floor, &outline);
            let steps = outline.steps;
            // A step touches a count and a row; the row itself has both too, and a record. One more row
            // says where the records begin.
            let touched = steps.len().saturating_add(2).saturating_mul(2);
            let most = commit.rows.len().saturating_add(touched);
            bytes = bytes
                .saturating_add(kept::size(&record))
                .saturating_add(limits::ROW_OVERHEAD_BYTES);
            if floor > first && (most > capacity.rows || bytes > capacity.bytes) {
                break;
            }
            commit.rows.push(record);
            let values = steps.iter().filter(|step| step.operation == Operation::Put).count();
            count(&mut counts, &mut commit, floor, values as u64);
            for step in &steps {
                if step.previous == Revision(0) {
                    continue;
                }
                let known = match counts.get(&step.previous) {
                    Some(known) => *known,
                    None => kept(&reading, step.previous)?,
                };
                count(&mut counts, &mut commit, step.previous, known.saturating_sub(1));
            }
            floor = floor.next();
        }
        let room = capacity.rows.saturating_sub(commit.rows.len());
        commit.rows.extend(leaving.expired(&reading, self.records_age, room)?);
        Ok((commit, floor))
    }

    fn commit(&mut self, mut commit: Commit, head: Head) -> Result<(), BackendError> {
        commit.expected.clone_from(&self.stored_head);
        commit.head = head.encode();
        self.backend.commit(&commit)?;
        self.head = head;
        self.stored_head = Some(commit.head);
        Ok(())
    }
}

impl Draft {
    /// The links of its rows.
    pub(super) fn links(&self) -> Vec<Link> {
        self.rows.iter().map(|row| row.link).collect()
    }
}

/// How many values of a row below the floor can still be read.
fn kept(reading: &Reading<'_>, revision: Revision) -> Result<u64, BackendError> {
    let wrong = || BackendError::corrupt(format_args!("the count of revision {revision} is wrong"));
    let row = reading.snapshot().get(Table::Kept, &revision_key(revision))?.ok_or_else(wrong)?;
    row.try_into().map(u64::from_be_bytes).map_err(|_length| wrong())
}

/// Sets the count of a row below the floor, and drops the row with its last value.
fn count(
    counts: &mut HashMap<Revision, u64>,
    commit: &mut Commit,
    revision: Revision,
    values: u64,
) {
    let key = revision_key(revision);
    counts.insert(revision, values);
    let left = (values > 0).then(|| values.to_be_bytes().to_vec());
    if left.is_none() {
        commit.rows.push((Table::Log, key.to_vec(), None));
    }
    commit.rows.push((Table::Kept, key.to_vec(), left));
}
