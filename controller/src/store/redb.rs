//! [`RedbBackend`]: the embedded [`Backend`], one redb file.
//!
//! The file is checked whole when it is opened. After an error of the disk redb gives nothing more:
//! the file is then opened anew when somebody next asks, at most once a second, so that a full disk
//! ends when there is space again and not when somebody restarts the controller.

use std::{
    fmt, io,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Instant,
};

use parking_lot::{Mutex, RwLock};
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition,
};

use super::{
    Backend, BackendError, Snapshot,
    backend::{Commit, Each, HEAD, Row, Table},
};
use crate::{files, limits};

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

const TABLES: [Table; 6] =
    [Table::Meta, Table::Objects, Table::Log, Table::Kept, Table::Records, Table::Index];

/// The database's own page cache; the store keeps objects in memory itself.
const CACHE_BYTES: usize = 2 << 20;

/// Keeps the log in a file.
pub struct RedbBackend {
    open: Box<Open>,
    /// None after an error of the disk.
    database: RwLock<Option<Database>>,
    failure: Mutex<Failure>,
}

/// What is known of a database that is closed.
#[derive(Debug, Default)]
struct Failure {
    /// When it was last tried to open it.
    tried: Option<Instant>,
    is_full: bool,
}

struct State(redb::ReadTransaction);

impl RedbBackend {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// When the file cannot be opened, is held by another process, or is corrupt.
    pub fn open(path: &Path) -> Result<Self, BackendError> {
        make(path).map_err(BackendError::of_io)?;
        let path: PathBuf = path.to_owned();
        Self::with(move |builder| builder.open(&path))
    }

    /// The same, over whatever storage `open` gives, each time that it is needed.
    pub(super) fn with(
        open: impl Fn(&Builder) -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, BackendError> {
        let open: Box<Open> = Box::new(open);
        let database = opened(&*open)?;
        Ok(Self { open, database: RwLock::new(Some(database)), failure: Mutex::default() })
    }

    /// Does something with the open database; after an error of the disk, it is closed.
    fn on_database<T>(
        &self,
        what: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, BackendError> {
        self.reopen()?;
        let result = match &*self.database.read() {
            Some(database) => what(database),
            None => Err(redb::Error::PreviousIo),
        };
        result.map_err(convert).inspect_err(|error| {
            if !matches!(error, BackendError::Corrupt { .. }) {
                drop(self.database.write().take());
                self.failure.lock().is_full = matches!(error, BackendError::NoSpace);
            }
        })
    }

    fn write(
        &self,
        expected: Option<&[u8]>,
        head: Option<&[u8]>,
        new: &[Row],
    ) -> Result<(), BackendError> {
        let has_moved = self.on_database(|database| {
            let mut write = database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            {
                let mut meta = write.open_table(rows(Table::Meta))?;
                let is_expected = meta.get(HEAD)?.as_ref().map(|head| head.value()) == expected;
                if !is_expected {
                    return Ok(true);
                }
                if let Some(head) = head {
                    meta.insert(HEAD, head)?;
                }
                for table in TABLES.into_iter().filter(|table| *table != Table::Meta) {
                    let mut mine = new.iter().filter(|(of, _, _)| *of == table).peekable();
                    if mine.peek().is_none() {
                        continue;
                    }
                    let mut rows = write.open_table(rows(table))?;
                    for (_, key, value) in mine {
                        match value {
                            Some(value) => rows.insert(key.as_slice(), value.as_slice())?,
                            None => rows.remove(key.as_slice())?,
                        };
                    }
                }
            }
            write.commit()?;
            Ok(false)
        })?;
        if has_moved { Err(BackendError::Moved) } else { Ok(()) }
    }

    fn reopen(&self) -> Result<(), BackendError> {
        if self.database.read().is_some() {
            return Ok(());
        }
        let mut database = self.database.write();
        if database.is_some() {
            return Ok(());
        }
        let mut failure = self.failure.lock();
        let now = Instant::now();
        if failure.tried.is_some_and(|tried| now.duration_since(tried) < limits::REOPEN_EVERY) {
            return Err(if failure.is_full {
                BackendError::NoSpace
            } else {
                convert(redb::Error::PreviousIo)
            });
        }
        failure.tried = Some(now);
        let opened = opened(&*self.open).inspect_err(|error| {
            failure.is_full = matches!(error, BackendError::NoSpace);
        })?;
        *database = Some(opened);
        Ok(())
    }
}

impl Backend for RedbBackend {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, BackendError> {
        let read = self.on_database(|database| Ok(database.begin_read()?))?;
        Ok(Box::new(State(read)))
    }

    fn commit(&self, commit: &Commit) -> Result<(), BackendError> {
        self.write(commit.expected.as_deref(), Some(&commit.head), &commit.rows)
    }

    fn fill(&self, rows: &[Row]) -> Result<(), BackendError> {
        self.write(None, None, rows)
    }
}

impl Snapshot for State {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        let get = || {
            let rows = self.0.open_table(rows(table))?;
            let found = rows.get(key)?.map(|row| row.value().to_vec());
            Ok::<_, redb::Error>(found)
        };
        get().map_err(convert)
    }

    fn get_many(
        &self,
        table: Table,
        keys: &[[u8; 8]],
    ) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        let get_many = || {
            // Finding a table costs as much as finding a row.
            let rows = self.0.open_table(rows(table))?;
            keys.iter()
                .map(|key| Ok(rows.get(key.as_slice())?.map(|row| row.value().to_vec())))
                .collect::<Result<_, redb::Error>>()
        };
        get_many().map_err(convert)
    }

    fn scan(&self, table: Table, from: &[u8], each: &mut Each<'_>) -> Result<(), BackendError> {
        let open = || Ok::<_, redb::Error>(self.0.open_table(rows(table))?);
        let range =
            open().map_err(convert)?.range(from..).map_err(|error| convert(error.into()))?;
        for row in range {
            let (key, value) = row.map_err(|error| convert(error.into()))?;
            if each(key.value(), value.value())? == ControlFlow::Break(()) {
                break;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RedbBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbBackend").finish_non_exhaustive()
    }
}

fn rows(table: Table) -> Rows {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Objects => "object",
        Table::Log => "log",
        Table::Kept => "kept",
        Table::Records => "records",
        Table::Index => "index",
    })
}

/// Makes the file if there is none.
fn make(path: &Path) -> io::Result<()> {
    files::make_whole(path, |new| {
        drop(Database::create(new).map_err(io::Error::other)?);
        Ok(())
    })
}

type Open = dyn Fn(&Builder) -> Result<Database, DatabaseError> + Send + Sync;

/// Opens the database, checks every page of it, and makes the tables there are not.
fn opened(open: &Open) -> Result<Database, BackendError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    let prepare = || {
        let database = open(&builder)?;
        let has_tables = {
            let read = database.begin_read()?;
            TABLES.into_iter().all(|table| read.open_table(rows(table)).is_ok())
        };
        if !has_tables {
            let write = database.begin_write()?;
            for table in TABLES {
                write.open_table(rows(table))?;
            }
            write.commit()?;
        }
        Ok::<_, redb::Error>(database)
    };
    // What cannot be in a file that redb wrote may make it panic.
    match catch_unwind(AssertUnwindSafe(prepare)) {
        Ok(result) => result.map_err(convert),
        Err(_panic) => Err(BackendError::corrupt("its file is not what was written")),
    }
}

fn convert(error: redb::Error) -> BackendError {
    match error {
        redb::Error::Corrupted(what) => BackendError::corrupt(what),
        redb::Error::Io(error) => BackendError::of_io(error),
        other => BackendError::Storage { source: Box::new(other) },
    }
}
