//! [`RedbBackend`]: the embedded [`Backend`], one redb file.
//!
//! Five tables: `object` (key → revision of its last change), `log` (revision → row, see
//! `codec`), `meta` (`floor`), `kept` (revision below the floor → its record, see `kept`), `head`
//! (where either chain stands). A value is stored once, in the log row of the change that made it;
//! an object's row only says which. So truncation keeps rows below the floor that hold a live
//! value, and a later change of that object removes them.
//! Invariants: rows from the floor to the head are all there, each chained to the one before; every
//! object row points to a row that holds its value.

use std::{path::Path, sync::Arc, time::Duration};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{
    Backend, BackendError, ChangeSet, Extent, Key, LogReader, Object, Operation, Record, Revision,
    codec::{self, Link},
    kept,
};

const OBJECTS: TableDefinition<'_, &str, u64> = TableDefinition::new("object");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const KEPT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("kept");
const HEADS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("head");
const FLOOR: &str = "floor";
/// In [`HEADS`]: the last revision of the log and its link.
const LOG_HEAD: &str = "log";
/// In [`HEADS`]: the first record in [`KEPT`], and the link before it.
const KEPT_FIRST: &str = "kept";

/// The database's own page cache; the store keeps objects in memory itself.
const CACHE_BYTES: usize = 16 << 20;

/// Keeps the log in a file.
#[derive(Debug)]
pub struct RedbBackend {
    database: Arc<Database>,
    extent: Extent,
    link: Link,
    /// How long records are kept that have left the log.
    records_age: Duration,
}

/// Reads the file beside its writer.
#[derive(Debug)]
struct Reader(Arc<Database>);

impl RedbBackend {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened, is held by another process, or its last row is corrupt.
    pub fn open(path: &Path) -> Result<Self, BackendError> {
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(path).storage()?;
        let write = database.begin_write().storage()?;
        let (floor, head, link) = {
            let _objects = write.open_table(OBJECTS).storage()?;
            let log = write.open_table(LOG).storage()?;
            let _kept = write.open_table(KEPT).storage()?;
            let _heads = write.open_table(HEADS).storage()?;
            let meta = write.open_table(META).storage()?;
            let floor = meta.get(FLOOR).storage()?.map_or(1, |row| row.value());
            let last = log.last().storage()?;
            let (head, link) = match last {
                Some((revision, row)) => {
                    let revision = Revision(revision.value());
                    (revision, codec::link(revision, row.value())?)
                }
                None => (Revision(0), codec::GENESIS),
            };
            (Revision(floor), head, link)
        };
        write.commit().storage()?;
        let database = Arc::new(database);
        Ok(Self { database, extent: Extent { head, floor }, link, records_age: Duration::MAX })
    }

    /// Forgets records that have left the log when they are older than this. Default: never.
    #[must_use]
    pub fn with_records_for(self, records_age: Duration) -> Self {
        Self { records_age, ..self }
    }

    /// Keeps the records of the rows from the floor to `before`, and forgets those that are too old.
    fn keep_records(
        &self,
        write: &redb::WriteTransaction,
        log: &impl ReadableTable<u64, &'static [u8]>,
        before: Revision,
    ) -> Result<(), BackendError> {
        let mut kept = write.open_table(KEPT).storage()?;
        let mut heads = write.open_table(HEADS).storage()?;
        let mut newest_ms = i64::MIN;
        let mut previous = match kept.last().storage()? {
            Some((revision, row)) => kept::links(Revision(revision.value()), row.value())?.0,
            None => {
                let first = head_row(self.extent.floor, &codec::GENESIS);
                heads.insert(KEPT_FIRST, first.as_slice()).storage()?;
                codec::GENESIS
            }
        };
        for revision in (self.extent.floor.0..before.0).map(Revision) {
            let corrupt = || BackendError::Corrupt { revision };
            let row = log.get(revision.0).storage()?.ok_or_else(corrupt)?;
            let audit = codec::decode(revision, row.value())?.audit;
            newest_ms = newest_ms.max(audit.time_ms);
            let link = codec::link(revision, row.value())?;
            let (own, record) = kept::encode(&previous, revision, &link, &audit)?;
            kept.insert(revision.0, record.as_slice()).storage()?;
            previous = own;
        }
        let age_ms = i64::try_from(self.records_age.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = newest_ms.saturating_sub(age_ms);
        let mut gone = Vec::new();
        for row in kept.iter().storage()?.take(EXPIRED_AT_ONCE) {
            let (revision, row) = row.storage()?;
            let revision = Revision(revision.value());
            let (own, audit) = kept::decode(None, revision, row.value())?;
            if audit.time_ms >= oldest_ms {
                break;
            }
            gone.push((revision, own));
        }
        for (revision, _) in &gone {
            kept.remove(revision.0).storage()?;
        }
        if let Some((last, own)) = gone.last() {
            let first = head_row(last.next(), own);
            heads.insert(KEPT_FIRST, first.as_slice()).storage()?;
        }
        Ok(())
    }
}

impl Backend for RedbBackend {
    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(Reader(Arc::clone(&self.database)))
    }

    fn extent(&self) -> Result<Extent, BackendError> {
        Ok(self.extent)
    }

    fn objects(&self) -> Result<Vec<Object>, BackendError> {
        let read = self.database.begin_read().storage()?;
        let objects = read.open_table(OBJECTS).storage()?;
        let log = read.open_table(LOG).storage()?;
        let mut found = Vec::new();
        for row in objects.iter().storage()? {
            let (key, revision) = row.storage()?;
            let revision = Revision(revision.value());
            let corrupt = || BackendError::Corrupt { revision };
            let key = Key::from_row(key.value()).ok_or_else(corrupt)?;
            let row = log.get(revision.0).storage()?.ok_or_else(corrupt)?;
            let set = codec::decode(revision, row.value())?;
            let change =
                set.changes.into_iter().find(|change| change.key == key).ok_or_else(corrupt)?;
            found.push(Object { key, revision, value: change.value });
        }
        Ok(found)
    }

    fn read(
        &self,
        from: Revision,
        limit: usize,
    ) -> Result<Vec<(Revision, ChangeSet)>, BackendError> {
        let floor = self.extent.floor;
        if from < floor {
            return Err(BackendError::Truncated { floor });
        }
        let read = self.database.begin_read().storage()?;
        let log = read.open_table(LOG).storage()?;
        let mut sets = Vec::new();
        let mut previous: Option<Link> = None;
        for row in log.range(from.0..).storage()?.take(limit) {
            let (revision, row) = row.storage()?;
            let revision = Revision(revision.value());
            if previous.is_some_and(|previous| !codec::follows(&previous, row.value())) {
                return Err(BackendError::Corrupt { revision });
            }
            previous = Some(codec::link(revision, row.value())?);
            sets.push((revision, codec::decode(revision, row.value())?));
        }
        Ok(sets)
    }

    fn append(&mut self, first: Revision, batch: &[ChangeSet]) -> Result<(), BackendError> {
        if first != self.extent.head.next() {
            return Err(BackendError::Gap { given: first, head: self.extent.head });
        }
        let mut write = self.database.begin_write().storage()?;
        write.set_durability(Durability::Immediate).storage()?;
        let mut revision = self.extent.head;
        let mut link = self.link;
        {
            let mut objects = write.open_table(OBJECTS).storage()?;
            let mut log = write.open_table(LOG).storage()?;
            for set in batch {
                revision = revision.next();
                let (next, row) = codec::encode(&link, set)?;
                link = next;
                log.insert(revision.0, row.as_slice()).storage()?;
                for change in &set.changes {
                    let row = change.key.to_row();
                    match change.operation {
                        Operation::Put => objects.insert(row.as_str(), revision.0).storage()?,
                        Operation::Delete => objects.remove(row.as_str()).storage()?,
                    };
                }
                for change in &set.changes {
                    let old = change.previous;
                    // Below the floor a row lives only as long as an object needs its value.
                    if old > Revision(0)
                        && old < self.extent.floor
                        && !holds_live_value(&objects, &log, old)?
                    {
                        log.remove(old.0).storage()?;
                    }
                }
            }
            let head = head_row(revision, &link);
            write.open_table(HEADS).storage()?.insert(LOG_HEAD, head.as_slice()).storage()?;
        }
        write.commit().storage()?;
        self.extent.head = revision;
        self.link = link;
        Ok(())
    }

    fn truncate(&mut self, before: Revision) -> Result<(), BackendError> {
        // The head's row stays: the chain continues from it.
        let before = before.min(self.extent.head);
        if before <= self.extent.floor {
            return Ok(());
        }
        let write = self.database.begin_write().storage()?;
        {
            let objects = write.open_table(OBJECTS).storage()?;
            let mut log = write.open_table(LOG).storage()?;
            self.keep_records(&write, &log, before)?;
            for revision in self.extent.floor.0..before.0 {
                if !holds_live_value(&objects, &log, Revision(revision))? {
                    log.remove(revision).storage()?;
                }
            }
            write.open_table(META).storage()?.insert(FLOOR, before.0).storage()?;
        }
        write.commit().storage()?;
        self.extent.floor = before;
        Ok(())
    }
}

impl LogReader for Reader {
    fn extent(&self) -> Result<(Extent, Revision), BackendError> {
        let read = self.0.begin_read().storage()?;
        let log = read.open_table(LOG).storage()?;
        let head = log.last().storage()?.map_or(0, |(revision, _)| revision.value());
        let meta = read.open_table(META).storage()?;
        let floor = Revision(meta.get(FLOOR).storage()?.map_or(1, |row| row.value()));
        let heads = read.open_table(HEADS).storage()?;
        let first = match heads.get(KEPT_FIRST).storage()? {
            Some(row) => read_head(floor, row.value())?.0,
            None => floor,
        };
        Ok((Extent { head: Revision(head), floor }, first))
    }

    fn records(&self, from: Revision, limit: usize) -> Result<Vec<(Record, String)>, BackendError> {
        let read = self.0.begin_read().storage()?;
        let log = read.open_table(LOG).storage()?;
        let kept = read.open_table(KEPT).storage()?;
        let meta = read.open_table(META).storage()?;
        let heads = read.open_table(HEADS).storage()?;
        let floor = Revision(meta.get(FLOOR).storage()?.map_or(1, |row| row.value()));
        let before = Revision(from.0.saturating_sub(1));
        let mut past = Vec::new();
        let mut next = from;
        let mut previous = match heads.get(KEPT_FIRST).storage()? {
            Some(row) => {
                let (first, link) = read_head(from, row.value())?;
                (first == from).then_some(link)
            }
            None => None,
        };
        if previous.is_none()
            && let Some(row) = kept.get(before.0).storage()?
        {
            previous = Some(kept::links(before, row.value())?.0);
        }
        for row in kept.range(from.0..floor.0.max(from.0)).storage()?.take(limit) {
            let (revision, row) = row.storage()?;
            if revision.value() != next.0 {
                return Ok(past);
            }
            let (own, audit) = kept::decode(previous.as_ref(), next, row.value())?;
            previous = Some(own);
            let record = Record { revision: next, audit, changes: Vec::new(), is_whole: false };
            past.push((record, hex(&own)));
            next = next.next();
        }
        if next < floor {
            return Ok(past);
        }
        let before = Revision(next.0.saturating_sub(1));
        let mut previous = if before == Revision(0) {
            Some(codec::GENESIS)
        } else if next == floor {
            let record = kept.get(before.0).storage()?;
            record.map(|row| kept::links(before, row.value())).transpose()?.map(|(_, from)| from)
        } else {
            log.get(before.0).storage()?.map(|row| codec::link(before, row.value())).transpose()?
        };
        for row in log.range(next.0..).storage()?.take(limit.saturating_sub(past.len())) {
            let (revision, row) = row.storage()?;
            if revision.value() != next.0 {
                return Ok(past);
            }
            if previous.is_some_and(|previous| !codec::follows(&previous, row.value())) {
                return Err(BackendError::Corrupt { revision: next });
            }
            let link = codec::link(next, row.value())?;
            let set = codec::decode(next, row.value())?;
            previous = Some(link);
            let (audit, changes) = (set.audit, set.changes);
            past.push((Record { revision: next, audit, changes, is_whole: true }, hex(&link)));
            next = next.next();
        }
        Ok(past)
    }

    fn check_head(&self) -> Result<(), BackendError> {
        let read = self.0.begin_read().storage()?;
        let log = read.open_table(LOG).storage()?;
        let heads = read.open_table(HEADS).storage()?;
        let last = match log.last().storage()? {
            Some((revision, row)) => {
                let revision = Revision(revision.value());
                head_row(revision, &codec::link(revision, row.value())?)
            }
            None => head_row(Revision(0), &codec::GENESIS),
        };
        match heads.get(LOG_HEAD).storage()? {
            Some(head) if head.value() == last.as_slice() => Ok(()),
            Some(_) => Err(BackendError::Corrupt { revision: Revision(0) }),
            // Nothing was appended since records are kept.
            None => Ok(()),
        }
    }
}

/// Records forgotten at once.
const EXPIRED_AT_ONCE: usize = 1024;

fn head_row(revision: Revision, link: &Link) -> Vec<u8> {
    let mut row = revision.0.to_be_bytes().to_vec();
    row.extend_from_slice(link);
    row
}

fn read_head(about: Revision, row: &[u8]) -> Result<(Revision, Link), BackendError> {
    let corrupt = BackendError::Corrupt { revision: about };
    let Some((revision, link)) = row.split_first_chunk::<8>() else { return Err(corrupt) };
    let Ok(link) = Link::try_from(link) else { return Err(corrupt) };
    Ok((Revision(u64::from_be_bytes(*revision)), link))
}

fn hex(link: &Link) -> String {
    blake3::Hash::from(*link).to_hex().to_string()
}

/// Whether some object's current value is in the row of `revision`.
fn holds_live_value(
    objects: &impl ReadableTable<&'static str, u64>,
    log: &impl ReadableTable<u64, &'static [u8]>,
    revision: Revision,
) -> Result<bool, BackendError> {
    let Some(row) = log.get(revision.0).storage()? else { return Ok(false) };
    for change in codec::decode(revision, row.value())?.changes {
        let current = objects.get(change.key.to_row().as_str()).storage()?;
        if current.is_some_and(|current| current.value() == revision.0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Turns each of redb's error types into ours.
trait StorageResult<T> {
    fn storage(self) -> Result<T, BackendError>;
}

impl<T, E: Into<redb::Error>> StorageResult<T> for Result<T, E> {
    fn storage(self) -> Result<T, BackendError> {
        self.map_err(|source| BackendError::Storage { source: Box::new(source.into()) })
    }
}
