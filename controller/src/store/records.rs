//! [`Record`]: records of the log, for whoever may read them, and [`Chain`], whether they are what was
//! written.
//!
//! Read from the disk beside the sequencer, never through it. Below the log's floor only records are
//! left, without the objects; they are links of the same chain.

use std::{fmt, ops::ControlFlow, sync::Arc};

use serde_json::Value;

use super::{
    Audit, Backend, BackendError, Change, Extent, Revision, Table,
    codec::{self, GENESIS, Link},
    index::{self, Summary},
    kept,
    reading::{Reading, revision_key, revision_of},
};
use crate::{
    audit::{Records, Wanted},
    error::{ApiError, Reason},
    limits,
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
pub(super) trait LogReader: Send + Sync {
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

    /// The first revision from `from` on whose block has no summary, or one that does not rule out what
    /// is wanted. Looks at so many blocks at most.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn skip(&self, from: Revision, wanted: &Wanted) -> Result<Revision, BackendError>;

    /// The first of these records which a search would miss, if any.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn hidden(&self, records: &[(Record, String)]) -> Result<Option<Revision>, BackendError>;

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

    fn skip(&self, from: Revision, wanted: &Wanted) -> Result<Revision, ApiError> {
        self.0.skip(from, wanted).map_err(|error| refusal(&error))
    }

    fn before(&self, change: &Change) -> Result<Option<Value>, ApiError> {
        if change.previous == Revision(0) {
            return Ok(None);
        }
        let past = self.0.records(change.previous, 1).map_err(|error| refusal(&error))?;
        let found = past.into_iter().filter(|(past, _)| past.revision == change.previous);
        let mut changes = found.flat_map(|(past, _)| past.changes);
        Ok(changes.find(|it| it.key == change.key).map(|it| Value::clone(&it.value())))
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
                    let hidden = self.0.hidden(&past).map_err(|error| refusal(&error))?;
                    if let Some(hidden) = hidden {
                        let fault =
                            format!("a search would not find the record of revision {hidden}");
                        checked.fault.get_or_insert(fault);
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

    fn skip(&self, from: Revision, wanted: &Wanted) -> Result<Revision, BackendError> {
        let reading = Reading::of(&*self.0)?;
        let first = index::block(from);
        let last = first.saturating_add(limits::AUDIT_BLOCKS);
        let mut block = first;
        reading.snapshot().scan(Table::Index, &first.to_be_bytes(), &mut |key, row| {
            let is_next = key == block.to_be_bytes() && block < last;
            let rules_out = |it: Summary<'_>| !it.may_hold(wanted);
            if !is_next || !Summary::decode(row).is_some_and(rules_out) {
                return Ok(ControlFlow::Break(()));
            }
            block = block.saturating_add(1);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(from.max(index::start(block)))
    }

    fn hidden(&self, records: &[(Record, String)]) -> Result<Option<Revision>, BackendError> {
        let reading = Reading::of(&*self.0)?;
        for part in records.chunk_by(|(one, _), (other, _)| {
            index::block(one.revision) == index::block(other.revision)
        }) {
            let Some((first, _)) = part.first() else { continue };
            let key = index::block(first.revision).to_be_bytes();
            let Some(row) = reading.snapshot().get(Table::Index, &key)? else { continue };
            let Some(summary) = Summary::decode(&row) else { continue };
            if let Some((record, _)) = part.iter().find(|(record, _)| !summary.shows(record)) {
                return Ok(Some(record.revision));
            }
        }
        Ok(None)
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
            row.map(|row| kept::link(before, &row)).transpose()?
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
/// its record, or not even that.
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
    row.map(|row| kept::link(before, &row)).transpose()
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
mod tests;
