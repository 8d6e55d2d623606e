//! [`Record`]: records of the log, for whoever may read them, and [`Chain`], whether they are what was
//! written.
//!
//! Read from the disk beside the sequencer, never through it. Below the log's floor only records are
//! left, without the objects; they are chained among themselves, and each names the row it is from.

use std::{fmt, ops::ControlFlow, sync::Arc};

use serde_json::Value;

use super::{
    Audit, Backend, BackendError, Change, Extent, Revision, Table,
    codec::{self, GENESIS, Link},
    kept,
    reading::{Reading, revision_key, revision_of},
};
use crate::{
    audit::Records,
    error::{ApiError, Reason},
};

/// What happened at one revision.
#[derive(Clone, Debug)]
pub struct Record {
    /// When.
    pub revision: Revision,
    /// Who, and how.
    pub audit: Audit,
    /// What changed; empty for what is older than the log.
    pub changes: Vec<Change>,
    /// Whether the log still has the objects.
    pub is_whole: bool,
}

/// Reads what is stored, beside whoever writes it.
pub trait LogReader: Send + Sync {
    /// Where the log stands, and the first record that is kept.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn extent(&self) -> Result<(Extent, Revision), BackendError>;

    /// At most `limit` records from `from` on, with their hashes; each is checked against the one
    /// before, also the first.
    ///
    /// # Errors
    /// When the storage cannot be read, or is not what was written.
    fn records(&self, from: Revision, limit: usize) -> Result<Vec<(Record, String)>, BackendError>;

    /// Whether the last row is the one that was written last.
    ///
    /// # Errors
    /// When the storage cannot be read, or is not what was written.
    fn check_head(&self) -> Result<(), BackendError>;
}

/// The records, for one who may read them.
#[derive(Clone)]
pub struct RecordReader(Arc<dyn LogReader>);

/// The chain of records, for one who may check it.
#[derive(Clone)]
pub struct Chain(Arc<dyn LogReader>);

/// How far a check has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The first record that is kept.
    pub first: Revision,
    /// The last one there is.
    pub head: Revision,
    /// The last one that was checked.
    pub reached: Revision,
    /// Its hash, which stands for all before it.
    pub link: String,
    /// What is wrong.
    pub fault: Option<String>,
}

impl RecordReader {
    pub(super) fn new(reader: Arc<dyn LogReader>) -> Self {
        Self(reader)
    }
}

impl Records for RecordReader {
    fn extent(&self) -> Result<(Revision, Revision), ApiError> {
        let (log, first) = self.0.extent().map_err(|error| refusal(&error))?;
        Ok((first, log.head))
    }

    fn read(&self, from: Revision, limit: usize) -> Result<Vec<Record>, ApiError> {
        let past = self.0.records(from, limit).map_err(|error| refusal(&error))?;
        Ok(past.into_iter().map(|(past, _)| past).collect())
    }

    fn before(&self, change: &Change) -> Result<Option<Value>, ApiError> {
        if change.previous == Revision(0) {
            return Ok(None);
        }
        let past = self.0.records(change.previous, 1).map_err(|error| refusal(&error))?;
        let found = past.into_iter().filter(|(past, _)| past.revision == change.previous);
        let mut changes = found.flat_map(|(past, _)| past.changes);
        Ok(changes.find(|it| it.key == change.key).map(|it| Value::clone(&it.value)))
    }
}

impl Chain {
    pub(super) fn new(reader: Arc<dyn LogReader>) -> Self {
        Self(reader)
    }

    /// Checks at most `limit` records after `after`, but none after `until`.
    ///
    /// # Errors
    /// When the storage cannot be read. That it is not what was written is no error here.
    pub fn check(
        &self,
        after: Revision,
        until: Option<Revision>,
        limit: usize,
    ) -> Result<Checked, ApiError> {
        let (log, first) = self.0.extent().map_err(|error| refusal(&error))?;
        let mut checked =
            Checked { first, head: log.head, reached: after, link: String::new(), fault: None };
        let mut next = after.next().max(first);
        let end = until.map_or(log.head, |until| until.min(log.head));
        let mut left = limit;
        while next <= end && left > 0 && checked.fault.is_none() {
            let span = usize::try_from(end.0 - next.0).unwrap_or(usize::MAX).saturating_add(1);
            let count = span.min(left).min(SLICE);
            match self.0.records(next, count) {
                Ok(past) => {
                    if let Some((last, link)) = past.last() {
                        checked.reached = last.revision;
                        checked.link.clone_from(link);
                    }
                    if past.len() < count {
                        let missing = checked.reached.next();
                        checked.fault =
                            Some(format!("the record of revision {missing} is missing"));
                    }
                    left -= count;
                    next = checked.reached.next();
                }
                Err(BackendError::Corrupt { what }) => checked.fault = Some(what),
                Err(error) => return Err(refusal(&error)),
            }
        }
        if checked.fault.is_none() && checked.reached == log.head && log.head > Revision(0) {
            match self.0.check_head() {
                Ok(()) => {}
                Err(BackendError::Corrupt { .. }) => {
                    checked.fault =
                        Some("the last record is not the last one that was written".into());
                }
                Err(error) => return Err(refusal(&error)),
            }
        }
        Ok(checked)
    }
}

/// Reads the tables beside whoever writes them.
pub(super) struct TablesReader(pub(super) Arc<dyn Backend>);

impl LogReader for TablesReader {
    fn extent(&self) -> Result<(Extent, Revision), BackendError> {
        let reading = Reading::of(&*self.0)?;
        let extent = reading.head.extent;
        Ok((extent, kept::first(&reading)?.map_or(extent.floor, |(first, _)| first)))
    }

    fn records(&self, from: Revision, limit: usize) -> Result<Vec<(Record, String)>, BackendError> {
        let reading = Reading::of(&*self.0)?;
        let floor = reading.head.extent.floor;
        let mut found = Vec::new();
        if from < floor {
            found = kept_records(&reading, from, limit)?;
        }
        let next = Revision(from.0.saturating_add(found.len() as u64));
        if next < floor || found.len() >= limit {
            return Ok(found);
        }
        let mut expected = link_before(&reading, next)?;
        reading.each(next, &mut |revision, links, row| {
            if expected.take().is_some_and(|expected| expected != links.previous) {
                return Err(codec::corrupt(revision));
            }
            let set = reading.decode(revision, row)?;
            let (audit, changes) = (set.audit, set.changes);
            found.push((Record { revision, audit, changes, is_whole: true }, hex(&links.own)));
            let is_full = found.len() >= limit;
            Ok(if is_full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }

    fn check_head(&self) -> Result<(), BackendError> {
        let reading = Reading::of(&*self.0)?;
        let head = reading.head.extent.head;
        if head == Revision(0) {
            return Ok(());
        }
        // Whoever reads the last row compares it with the head.
        reading.each(head, &mut |_, _, _| Ok(ControlFlow::Break(())))
    }
}

/// At most `limit` of the records that have left the log, from `from` on.
fn kept_records(
    reading: &Reading<'_>,
    from: Revision,
    limit: usize,
) -> Result<Vec<(Record, String)>, BackendError> {
    let snapshot = reading.snapshot();
    let before = Revision(from.0.saturating_sub(1));
    let mut previous = match kept::first(reading)? {
        Some((first, link)) if first == from => Some(link),
        _ => {
            let row = snapshot.get(Table::Records, &revision_key(before))?;
            row.map(|row| kept::links(before, &row)).transpose()?.map(|(own, _)| own)
        }
    };
    let mut next = from;
    let mut found = Vec::new();
    snapshot.scan(Table::Records, &revision_key(from), &mut |key, row| {
        if revision_of(key) != Some(next) || found.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        let (own, audit) = kept::decode(previous.as_ref(), next, row)?;
        previous = Some(own);
        let record = Record { revision: next, audit, changes: Vec::new(), is_whole: false };
        found.push((record, hex(&own)));
        next = next.next();
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// What the row of `next` must be chained to, as far as it is known: the row before may have left only
/// a record that names it.
fn link_before(reading: &Reading<'_>, next: Revision) -> Result<Option<Link>, BackendError> {
    let before = Revision(next.0.saturating_sub(1));
    if before == Revision(0) {
        return Ok(Some(GENESIS));
    }
    let extent = reading.head.extent;
    if next > extent.head {
        return Ok(None);
    }
    if next > extent.floor {
        return Ok(Some(codec::links(before, &reading.row(before)?)?.own));
    }
    let row = reading.snapshot().get(Table::Records, &revision_key(before))?;
    Ok(row.map(|row| kept::links(before, &row)).transpose()?.map(|(_, from)| from))
}

fn hex(link: &Link) -> String {
    blake3::Hash::from(*link).to_hex().to_string()
}

/// Records checked at once.
const SLICE: usize = 1000;

impl fmt::Debug for RecordReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordReader").finish_non_exhaustive()
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").finish_non_exhaustive()
    }
}

fn refusal(error: &BackendError) -> ApiError {
    tracing::error!(error = error as &dyn std::error::Error, "the log cannot be read");
    match error {
        BackendError::Corrupt { what } => {
            ApiError::internal(format!("{what}; isocast audit verify says more"))
        }
        _ => {
            ApiError::new(Reason::ServiceUnavailable, "the log cannot be read").with_retry_after(5)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::store::{
        ChangeSet, Commit, HEAD, Key, MemoryBackend, Operation, RedbBackend, Resource, log::Log,
    };

    /// Ten changes of one object a day apart, the first four of which have left the log.
    fn fill(backend: &Arc<dyn Backend>, records_days: u64) {
        let log = Log::open(Arc::clone(backend)).unwrap();
        let mut log = log.with_records_for(Duration::from_secs(86_400 * records_days));
        for revision in 1..=10_u64 {
            let change = Change {
                key: Key::new(Resource::new("pools", "x"), None, "a"),
                operation: Operation::Put,
                previous: Revision(revision - 1),
                value: Arc::new(json!({"spec": {"size": revision}})),
            };
            let audit = Audit {
                actor: "user \"alice\"".into(),
                verb: "update".into(),
                agent: "test".into(),
                time_ms: i64::try_from(revision).unwrap() * 86_400_000,
                details: <_>::default(),
            };
            let sets = [ChangeSet { audit, changes: vec![change] }];
            log.append(log.draft(&sets).unwrap(), &sets).unwrap();
        }
        log.truncate(Revision(4)).unwrap();
        // Records expire when later ones leave the log.
        log.truncate(Revision(5)).unwrap();
    }

    fn filled(records_days: u64) -> Arc<dyn Backend> {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::default());
        fill(&backend, records_days);
        backend
    }

    fn reader(backend: &Arc<dyn Backend>) -> Arc<dyn LogReader> {
        Arc::new(TablesReader(Arc::clone(backend)))
    }

    fn checked(backend: &Arc<dyn Backend>) -> Checked {
        Chain::new(reader(backend)).check(Revision(0), None, 1000).unwrap()
    }

    /// Does something to a row behind the store's back.
    fn tamper(backend: &Arc<dyn Backend>, table: Table, at: u64, with: Option<usize>) {
        let (key, snapshot) = (at.to_be_bytes().to_vec(), backend.snapshot().unwrap());
        let mut row = snapshot.get(table, &key).unwrap().unwrap();
        let head = snapshot.get(Table::Meta, HEAD).unwrap();
        drop(snapshot);
        let altered = with.map(|byte| {
            let place = byte % row.len();
            row[place] ^= 1;
            row
        });
        let rows = vec![(table, key, altered)];
        let commit = Commit { expected: head.clone(), head: head.unwrap(), rows };
        backend.commit(&commit).unwrap();
    }

    /// What is found wrong after something was done to a row.
    fn fault(table: Table, at: u64, with: Option<usize>) -> Option<String> {
        let backend = filled(1000);
        tamper(&backend, table, at, with);
        checked(&backend).fault
    }

    #[test]
    fn what_was_written_is_intact_also_after_it_has_left_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let open = || -> Arc<dyn Backend> {
            Arc::new(RedbBackend::open(&folder.path().join("db")).unwrap())
        };
        fill(&open(), 1000);
        let backend = open();
        let all = checked(&backend);
        assert_eq!((all.first, all.head, all.reached), (Revision(1), Revision(10), Revision(10)));
        assert_eq!(all.fault, None);

        let chain = Chain::new(reader(&backend));
        let mut after = Revision(0);
        let mut steps = 0;
        while after < Revision(10) {
            let part = chain.check(after, None, 3).unwrap();
            assert_eq!(part.fault, None);
            after = part.reached;
            steps += 1;
        }
        assert_eq!(steps, 4);
        let some = chain.check(Revision(0), Some(Revision(7)), 1000).unwrap();
        assert_eq!(some.reached, Revision(7));
        let past = RecordReader::new(reader(&backend));
        let read = past.read(Revision(1), 100).unwrap();
        assert_eq!(read.len(), 10);
        assert!(read.iter().all(|past| past.audit.verb == "update"));
        assert!(read.iter().all(|past| past.is_whole == (past.revision >= Revision(5))));
    }

    #[test]
    fn one_flipped_byte_or_a_missing_record_is_found() {
        let (log, kept) = (Table::Log, Table::Records);
        for byte in [0, 1, 40, 70, 90, 200] {
            for (table, at) in [(log, 5), (log, 7), (log, 10), (kept, 1), (kept, 2), (kept, 4)] {
                assert!(fault(table, at, Some(byte)).is_some(), "byte {byte} of {at}");
            }
        }
        for (table, at) in [(log, 5), (log, 7), (kept, 1), (kept, 2), (kept, 4)] {
            assert!(fault(table, at, None).is_some(), "{at} is missing");
        }
    }

    #[test]
    fn the_last_record_is_missed() {
        let found = fault(Table::Log, 10, None);

        assert_eq!(found.as_deref(), Some("the log's row of revision 10 is missing"));
    }

    #[test]
    fn records_are_forgotten_after_their_time_and_the_rest_stays_intact() {
        let backend = filled(1);

        let left = checked(&backend);

        assert_eq!((left.first, left.fault), (Revision(3), None));
        let past = RecordReader::new(reader(&backend));
        assert_eq!(past.read(left.first, 100).unwrap().len(), 8);
        tamper(&backend, Table::Records, 3, Some(80));
        assert!(checked(&backend).fault.is_some());
    }
}
