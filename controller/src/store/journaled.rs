//! [`Journaled`]: a [`Backend`] that writes a journal first, and its tables in bulk.
//!
//! A commit of tables writes a dozen pages in as many places; a record of the journal is one write in
//! one place. So a commit is durable once it is in the journal, and many of them become one commit of
//! the tables: when there is enough of them, when the oldest has waited a while, or when somebody reads
//! the tables, for whoever reads sees all that was committed before.
//! Invariants: the tables hold what was committed up to somewhere, and the journal holds the rest;
//! together they are what was acknowledged, whatever was interrupted where.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use parking_lot::{Condvar, Mutex};
use redb::{StorageBackend, backends::FileBackend};

use super::{
    Backend, BackendError, Snapshot, StoreMetrics,
    backend::{Capacity, Commit, HEAD, Row, Table},
    journal::{self, Appended, Found, Journal},
};
use crate::limits;

/// Keeps the log in a journal and in the tables of `B`.
pub struct Journaled<B: Backend + 'static> {
    shared: Arc<Shared<B>>,
    applier: Option<JoinHandle<()>>,
}

/// Locked in this order: the writer, what is being applied, what waits.
struct Shared<B> {
    tables: B,
    writer: Mutex<Writer>,
    applying: Mutex<Option<Due>>,
    waiting: Mutex<Waiting>,
    /// There is something to apply.
    due: Condvar,
    metrics: Arc<StoreMetrics>,
}

struct Writer {
    journal: Journal,
    /// None while only the tables know.
    head: Option<Option<Vec<u8>>>,
}

/// One commit of the tables.
struct Due {
    commit: Commit,
    /// Of the last record in it.
    sequence: u64,
}

/// What is in the journal alone.
#[derive(Default)]
struct Waiting {
    commits: Vec<Commit>,
    /// Of the last one.
    sequence: u64,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    /// Up to where the tables are.
    applied: u64,
    /// The tables could not be written when it was last tried.
    has_failed: bool,
    is_closing: bool,
}

impl<B: Backend + 'static> Journaled<B> {
    /// Opens the journal at `path` in front of `tables`, or makes one.
    ///
    /// # Errors
    /// When it cannot be read or applied, or is of other tables.
    pub fn open(tables: B, path: &Path, metrics: Arc<StoreMetrics>) -> Result<Self, BackendError> {
        journal::make(path, limits::JOURNAL_BYTES).map_err(BackendError::of_io)?;
        let file = File::options().read(true).write(true).open(path);
        let file = FileBackend::new(file.map_err(BackendError::of_io)?)
            .map_err(|error| BackendError::of_io(io::Error::other(error)))?;
        let mut this = Self::without_applier(tables, Box::new(file), metrics)?;
        let shared = Arc::clone(&this.shared);
        let applier = thread::Builder::new().name("applier".into()).spawn(move || shared.run());
        this.applier = Some(applier.map_err(BackendError::of_io)?);
        Ok(this)
    }

    /// The same on any storage, and with nobody who applies what waits but who needs it.
    pub(super) fn without_applier(
        tables: B,
        storage: Box<dyn StorageBackend>,
        metrics: Arc<StoreMetrics>,
    ) -> Result<Self, BackendError> {
        let (journal, found) = Journal::open(storage)?;
        let head = head_of(&tables)?;
        let missing = missing(found, head.as_deref())?;
        let sequence = missing.last().map_or(0, |last| last.sequence);
        let commits: Vec<Commit> = missing.into_iter().map(|found| found.commit).collect();
        if !commits.is_empty() {
            tracing::info!(commits = commits.len(), "applying what the journal has");
        }
        let shared = Shared {
            tables,
            writer: Mutex::new(Writer { journal, head: None }),
            applying: Mutex::new(None),
            waiting: Mutex::new(Waiting { commits, sequence, ..Waiting::default() }),
            due: Condvar::new(),
            metrics,
        };
        shared.apply()?;
        Ok(Self { shared: Arc::new(shared), applier: None })
    }
}

impl<B: Backend> Shared<B> {
    /// Applies what waits, again and again, until it is to end.
    fn run(&self) {
        loop {
            let mut waiting = self.waiting.lock();
            let is_closing = loop {
                if waiting.is_closing {
                    break true;
                }
                let now = Instant::now();
                let Some(at) = waiting.due(now) else {
                    self.due.wait(&mut waiting);
                    continue;
                };
                if at <= now {
                    break false;
                }
                self.due.wait_until(&mut waiting, at);
            };
            drop(waiting);
            if let Err(error) = self.apply() {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "the store's tables cannot be written; the journal waits");
            }
            if is_closing {
                return;
            }
        }
    }

    /// Brings the tables up to all that is in the journal now. What comes meanwhile is for later: under
    /// load there would be no end, and many small commits.
    fn apply(&self) -> Result<(), BackendError> {
        let mut applying = self.applying.lock();
        if applying.is_some() {
            self.commit_due(&mut applying)?;
        }
        *applying = self.waiting.lock().take();
        self.commit_due(&mut applying)
    }

    /// Commits what is due, which else stays.
    fn commit_due(&self, applying: &mut Option<Due>) -> Result<(), BackendError> {
        let Some(due) = &*applying else { return Ok(()) };
        let began = Instant::now();
        let result = self.tables.commit(&due.commit).or_else(|error| {
            // Whether it was applied, only the tables know.
            match head_of(&self.tables) {
                Ok(Some(head)) if head == due.commit.head => Ok(()),
                Ok(head) if head != due.commit.expected => {
                    Err(BackendError::corrupt("its tables are not what its journal follows"))
                }
                Ok(_) | Err(_) => Err(error),
            }
        });
        let mut waiting = self.waiting.lock();
        waiting.has_failed = result.is_err();
        match result {
            Ok(()) => {
                waiting.applied = due.sequence;
                *applying = None;
                self.metrics.applied(began.elapsed());
                Ok(())
            }
            Err(error) => {
                waiting.since = Some(Instant::now());
                // Whoever asked may not be the applier, which then has a term to wait for again.
                self.due.notify_one();
                Err(error)
            }
        }
    }

    /// Appends to the journal, whose room others may have to make first.
    fn append(&self, writer: &mut Writer, commit: &Commit) -> Result<Appended, BackendError> {
        writer.journal.release(self.waiting.lock().applied);
        let appended = writer.journal.append(commit)?;
        if appended != Appended::Full {
            return Ok(appended);
        }
        self.apply()?;
        writer.journal.release(self.waiting.lock().applied);
        writer.journal.append(commit)
    }

    /// Commits what is too large for the journal: nothing may be left in it that comes before.
    fn commit_to_tables(&self, writer: &mut Writer, commit: &Commit) -> Result<(), BackendError> {
        self.apply()?;
        writer.journal.clear()?;
        writer.head = None;
        self.tables.commit(commit)
    }
}

impl Waiting {
    /// Takes one more; says whether that changes when they are due.
    fn add(&mut self, commit: Commit, sequence: u64) -> bool {
        let were_enough = self.bytes >= limits::JOURNAL_APPLY_BYTES;
        self.bytes = self.bytes.saturating_add(commit.size());
        self.sequence = sequence;
        self.commits.push(commit);
        let is_first = self.since.is_none();
        self.since.get_or_insert_with(Instant::now);
        is_first || !were_enough && self.bytes >= limits::JOURNAL_APPLY_BYTES
    }

    /// From when on it is to be applied; none if there is nothing.
    fn due(&self, now: Instant) -> Option<Instant> {
        let since = self.since?;
        Some(if self.has_failed {
            since + limits::REOPEN_EVERY
        } else if self.bytes >= limits::JOURNAL_APPLY_BYTES {
            now
        } else {
            since + limits::JOURNAL_APPLY_AFTER
        })
    }

    /// All of them as one. Of rows at one key, the last counts.
    fn take(&mut self) -> Option<Due> {
        let commits = std::mem::take(&mut self.commits);
        (self.bytes, self.since) = (0, None);
        let expected = commits.first()?.expected.clone();
        let mut head = Vec::new();
        // In their order, neighbours share pages.
        let mut rows: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>> = BTreeMap::new();
        for commit in commits {
            head = commit.head;
            rows.extend(commit.rows.into_iter().map(|(table, key, value)| ((table, key), value)));
        }
        let rows = rows.into_iter().map(|((table, key), value)| (table, key, value)).collect();
        Some(Due { commit: Commit { expected, head, rows }, sequence: self.sequence })
    }
}

impl<B: Backend> Backend for Journaled<B> {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, BackendError> {
        // What failed must be there or not before anybody looks.
        self.shared.writer.lock().journal.settle()?;
        self.shared.apply()?;
        self.shared.tables.snapshot()
    }

    fn commit(&self, commit: &Commit) -> Result<(), BackendError> {
        let shared = &*self.shared;
        let mut writer = shared.writer.lock();
        if shared.waiting.lock().has_failed {
            shared.apply()?;
        }
        let head = match writer.head.take() {
            Some(head) => head,
            None => {
                shared.apply()?;
                head_of(&shared.tables)?
            }
        };
        let is_expected = head == commit.expected;
        writer.head = Some(head);
        if !is_expected {
            return Err(BackendError::Moved);
        }
        match shared.append(&mut writer, commit)? {
            Appended::At(sequence) => {
                writer.head = Some(Some(commit.head.clone()));
                if shared.waiting.lock().add(commit.clone(), sequence) {
                    shared.due.notify_one();
                }
                Ok(())
            }
            Appended::TooLarge | Appended::Full => shared.commit_to_tables(&mut writer, commit),
        }
    }

    fn capacity(&self) -> Capacity {
        self.shared.tables.capacity()
    }

    fn fill(&self, rows: &[Row]) -> Result<(), BackendError> {
        let shared = &*self.shared;
        let mut writer = shared.writer.lock();
        shared.apply()?;
        writer.head = None;
        shared.tables.fill(rows)
    }
}

impl<B: Backend> Drop for Journaled<B> {
    /// Waits until the tables hold everything.
    fn drop(&mut self) {
        self.shared.waiting.lock().is_closing = true;
        self.shared.due.notify_one();
        if self.applier.take().is_some_and(|applier| applier.join().is_err()) {
            tracing::error!("the applier panicked");
        }
    }
}

impl<B: Backend> fmt::Debug for Journaled<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journaled").finish_non_exhaustive()
    }
}

fn head_of(tables: &impl Backend) -> Result<Option<Vec<u8>>, BackendError> {
    tables.snapshot()?.get(Table::Meta, HEAD)
}

/// What of `found`, in its order, tables with this head do not have.
fn missing(mut found: Vec<Found>, head: Option<&[u8]>) -> Result<Vec<Found>, BackendError> {
    let strange = |what| {
        Err(BackendError::corrupt(format_args!(
            "{what}. The journal beside it has commits that it does not"
        )))
    };
    let Some(last) = found.last() else { return Ok(found) };
    if head.is_some_and(|head| head == last.commit.head) {
        return Ok(Vec::new());
    }
    let follows = |found: &Found| found.commit.expected.as_deref() == head;
    let Some(first) = found.iter().position(follows) else {
        return strange("its journal is of another state");
    };
    let missing = found.split_off(first);
    let mut before: Option<&Found> = None;
    for one in &missing {
        let is_next = before.is_none_or(|before| {
            one.sequence == before.sequence + 1
                && one.commit.expected.as_ref() == Some(&before.commit.head)
        });
        if !is_next {
            return strange("its journal has a gap");
        }
        before = Some(one);
    }
    Ok(missing)
}
