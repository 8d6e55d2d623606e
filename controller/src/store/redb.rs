//! [`RedbBackend`]: the embedded [`Backend`], one redb file.
//!
//! Three tables: `object` (key → revision of its last change), `log` (revision → row, see
//! `codec`), `meta` (`floor`). A value is stored once, in the log row of the change that made it;
//! an object's row only says which. So truncation keeps rows below the floor that hold a live
//! value, and a later change of that object removes them.
//! Invariants: rows from the floor to the head are all there, each chained to the one before; every
//! object row points to a row that holds its value.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{
    Backend, BackendError, ChangeSet, Extent, Key, Object, Operation, Revision,
    codec::{self, Link},
};

const OBJECTS: TableDefinition<'_, &str, u64> = TableDefinition::new("object");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FLOOR: &str = "floor";

/// The database's own page cache; the store keeps objects in memory itself.
const CACHE_BYTES: usize = 16 << 20;

/// Keeps the log in a file.
#[derive(Debug)]
pub struct RedbBackend {
    database: Database,
    extent: Extent,
    link: Link,
}

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
        Ok(Self { database, extent: Extent { head, floor }, link })
    }
}

impl Backend for RedbBackend {
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
