//! [`Record`]: records of the log, for whoever may read them, and [`Chain`], whether they are what was
//! written.
//!
//! Read from the disk beside the sequencer, never through it. Below the log's floor only records are
//! left, without the objects; they are chained among themselves, and each names the row it is from.

use std::{fmt, sync::Arc};

use serde_json::Value;

use super::{Audit, BackendError, Change, Extent, Revision};
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
                Err(BackendError::Corrupt { revision }) => {
                    let fault =
                        format!("the record of revision {revision} is not what was written");
                    checked.fault = Some(fault);
                }
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
        BackendError::Corrupt { revision } => ApiError::internal(format!(
            "the record of revision {revision} is not what was written; isocast audit verify says more",
        )),
        _ => {
            ApiError::new(Reason::ServiceUnavailable, "the log cannot be read").with_retry_after(5)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use redb::{Database, TableDefinition};
    use serde_json::json;

    use super::*;
    use crate::store::{Backend, ChangeSet, Key, Operation, RedbBackend, Resource};

    const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
    const KEPT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("kept");

    /// Ten changes of one object a day apart, the first four of which have left the log.
    fn filled(path: &Path, records_days: u64) {
        let backend = RedbBackend::open(path).unwrap();
        let mut backend = backend.with_records_for(Duration::from_secs(86_400 * records_days));
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
            backend
                .append(Revision(revision), &[ChangeSet { audit, changes: vec![change] }])
                .unwrap();
        }
        backend.truncate(Revision(5)).unwrap();
    }

    fn checked(path: &Path) -> Checked {
        let backend = RedbBackend::open(path).unwrap();
        Chain::new(backend.reader()).check(Revision(0), None, 1000).unwrap()
    }

    /// Does something to a row behind the store's back.
    fn tamper(path: &Path, table: TableDefinition<'_, u64, &[u8]>, at: u64, with: Option<usize>) {
        let database = Database::open(path).unwrap();
        let write = database.begin_write().unwrap();
        {
            let mut rows = write.open_table(table).unwrap();
            let row = rows.remove(at).unwrap().unwrap().value().to_vec();
            if let Some(byte) = with {
                let mut row = row;
                let place = byte % row.len();
                row[place] ^= 1;
                rows.insert(at, row.as_slice()).unwrap();
            }
        }
        write.commit().unwrap();
    }

    /// What is found wrong after something was done to the file.
    fn fault(what: impl Fn(&Path)) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        filled(&path, 1000);
        what(&path);
        match RedbBackend::open(&path) {
            Ok(backend) => {
                Chain::new(backend.reader()).check(Revision(0), None, 1000).unwrap().fault
            }
            // Nothing is even served from it.
            Err(error) => Some(error.to_string()),
        }
    }

    #[test]
    fn what_was_written_is_intact_also_after_it_has_left_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        filled(&path, 1000);
        let all = checked(&path);
        assert_eq!((all.first, all.head, all.reached), (Revision(1), Revision(10), Revision(10)));
        assert_eq!(all.fault, None);

        let backend = RedbBackend::open(&path).unwrap();
        let chain = Chain::new(backend.reader());
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
        let past = RecordReader::new(backend.reader());
        let read = past.read(Revision(1), 100).unwrap();
        assert_eq!(read.len(), 10);
        assert!(read.iter().all(|past| past.audit.verb == "update"));
        assert!(read.iter().all(|past| past.is_whole == (past.revision >= Revision(5))));
    }

    #[test]
    fn one_flipped_byte_or_a_missing_record_is_found() {
        for byte in [0, 1, 40, 70, 90, 200] {
            for (table, at) in [(LOG, 5), (LOG, 7), (LOG, 10), (KEPT, 1), (KEPT, 2), (KEPT, 4)] {
                let found = fault(|path| tamper(path, table, at, Some(byte)));
                assert!(found.is_some(), "byte {byte} of {at}");
            }
        }
        for (table, at) in [(LOG, 5), (LOG, 7), (KEPT, 1), (KEPT, 2), (KEPT, 4)] {
            let found = fault(|path| tamper(path, table, at, None));
            assert!(found.is_some(), "{at} is missing");
        }
    }

    #[test]
    fn the_last_record_is_missed() {
        let found = fault(|path| tamper(path, LOG, 10, None));

        assert_eq!(found.as_deref(), Some("the last record is not the last one that was written"));
    }

    #[test]
    fn records_are_forgotten_after_their_time_and_the_rest_stays_intact() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        filled(&path, 1);

        let left = checked(&path);

        assert_eq!((left.first, left.fault), (Revision(3), None));
        let past = RecordReader::new(RedbBackend::open(&path).unwrap().reader());
        assert_eq!(past.read(left.first, 100).unwrap().len(), 8);
        drop(past);
        tamper(&path, KEPT, 3, Some(80));
        assert!(checked(&path).fault.is_some());
    }
}
