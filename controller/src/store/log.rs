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
    backend::{Capacity, Commit, Table},
    codec::{self, Link, Outline},
    head::Head,
    kept::{self, Leaving},
    reading::{Reading, revision_key},
};
use crate::limits;

/// The log, as its writer holds it.
pub(super) struct Log {
    backend: Arc<dyn Backend>,
    head: Head,
    stored_head: Option<Vec<u8>>,
    /// How long records are kept that have left it.
    records_age: Duration,
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
        Ok(Self { backend, head, stored_head, records_age: Duration::MAX })
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

    /// One moment of it, to read from.
    pub(super) fn reading(&self) -> Result<Reading<'_>, BackendError> {
        Reading::of(&*self.backend)
    }

    /// Whether a change-set of so many objects and bytes can be stored at all.
    pub(super) fn takes(&self, objects: usize, bytes: usize) -> Result<(), BackendError> {
        let Capacity { rows: most_rows, bytes: most_bytes } = self.backend.capacity();
        let rows = objects.saturating_add(1);
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
    /// After one it is open how much of the draft is there: [`Self::news`] and [`Self::holds`] say.
    pub(super) fn append(&mut self, draft: Draft, sets: &[ChangeSet]) -> Result<(), BackendError> {
        let capacity = self.backend.capacity();
        let mut commit = Commit::default();
        let mut head = self.head;
        let mut bytes = 0;
        for (DraftRow { revision, link, row }, set) in draft.rows.into_iter().zip(sets) {
            let rows = commit.rows.len().saturating_add(set.changes.len()).saturating_add(1);
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
            head.extent.head = revision;
            head.link = link;
        }
        self.commit(commit, head)
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
            let Outline { own, audit, steps } = codec::outline(floor, &row)?;
            let record = leaving.record(floor, &own, &audit)?;
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
