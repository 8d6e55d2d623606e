//! Backups: the objects at one revision, as a file that says what it is and whether it is whole.
//!
//! ```text
//! line          isocast-backup 1
//! line          JSON {revision, time, version}, for people
//! frames        tag (1 byte), length of the key and of the value (4 bytes each, big endian), both
//!   h           the log's head
//!   o           a row of the table of objects
//!   l           a row of the log that holds one of their values
//!   f           a file of the data directory: its name, its content
//!   e           the end: BLAKE3 of everything before
//! ```
//!
//! The past is not in it. A store that is restored goes on at a revision far beyond the backup's: no
//! revision is given out twice, and whoever followed the former log finds its position expired and
//! reads everything anew.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    ops::ControlFlow,
};

use jiff::Timestamp;
use serde_json::json;
use thiserror::Error;

use super::{
    Audit, Backend, BackendError, ChangeSet, Extent, Revision,
    backend::{Commit, Table},
    codec,
    head::Head,
    reading::{Reading, revision_key, revision_of},
};
use crate::limits;

const MAGIC: &str = "isocast-backup 1\n";

const HEAD: u8 = b'h';
const OBJECT: u8 = b'o';
const LOG: u8 = b'l';
const FILE: u8 = b'f';
const END: u8 = b'e';

/// Why a backup cannot be made or restored.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The backup is damaged, or none.
    #[error("not a whole backup: {0}")]
    Damaged(&'static str),
    /// The file cannot be read, or nobody takes it.
    #[error("the backup cannot be read or written")]
    Io(#[from] io::Error),
    /// There is something already.
    #[error("there is a store already; it is not overwritten")]
    Occupied,
}

/// A file that belongs to a backup: its name in the data directory, and what is in it.
pub type NamedFile = (String, Vec<u8>);

/// Writes the newest state of `backend`, and `files` with it; gives its revision.
///
/// # Errors
/// When the store cannot be read, or `out` takes no more.
pub(super) fn back_up(
    backend: &dyn Backend,
    files: &[NamedFile],
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<Revision, BackupError> {
    let reading = Reading::of(backend)?;
    let revision = reading.head.extent.head;
    let mut out = Hashing { hasher: blake3::Hasher::new(), inner: out };
    out.write_all(MAGIC.as_bytes())?;
    let version = env!("CARGO_PKG_VERSION");
    let about = json!({"revision": revision, "time": now.to_string(), "version": version});
    out.write_all(format!("{about}\n").as_bytes())?;
    frame(&mut out, HEAD, &[], &reading.head.encode())?;
    for (name, content) in files {
        frame(&mut out, FILE, name.as_bytes(), content)?;
    }
    // Each row once, however many of the objects it holds.
    let mut rows: BTreeMap<Revision, ()> = BTreeMap::new();
    let mut written = Ok(());
    reading.snapshot().scan(Table::Objects, &[], &mut |key, revision| {
        if let Some(revision) = revision_of(revision) {
            rows.insert(revision, ());
        }
        written = frame(&mut out, OBJECT, key, revision);
        let is_broken = written.is_err();
        Ok(if is_broken { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    written?;
    for revision in rows.into_keys() {
        let row = reading.row(revision)?;
        codec::links(revision, &row)?;
        frame(&mut out, LOG, &revision_key(revision), &row)?;
    }
    let check = out.hasher.finalize();
    frame(&mut out, END, &[], check.as_bytes())?;
    out.flush()?;
    Ok(revision)
}

/// What a backup was found to hold.
#[derive(Debug)]
pub struct Restored {
    /// The revision that it is of.
    pub of: Revision,
    /// The revision that the store goes on at.
    pub at: Revision,
    /// Objects.
    pub objects: usize,
    /// Files of the data directory.
    pub files: Vec<NamedFile>,
}

/// Reads a backup into `backend`, which must be empty. Nothing is in it before all was checked.
///
/// # Errors
/// When the backup is not whole, or `backend` has something already.
pub fn restore(
    backend: &dyn Backend,
    from: &mut dyn Read,
    now: Timestamp,
) -> Result<Restored, BackupError> {
    if Reading::of(backend)?.stored_head.is_some() {
        return Err(BackupError::Occupied);
    }
    let contents = Contents::read(from)?;
    let of = contents.head.extent.head;
    let at = Revision(of.0.saturating_add(limits::RESTORE_SKIPS));
    let mut commit = Commit::default();
    let mut values: BTreeMap<Revision, u64> = BTreeMap::new();
    let objects = contents.objects.len();
    for (key, revision) in contents.objects {
        let count = values.entry(revision).or_default();
        *count = count.saturating_add(1);
        let row = revision_key(revision).to_vec();
        commit.rows.push((Table::Objects, key, Some(row)));
    }
    for (revision, count) in values {
        let key = revision_key(revision).to_vec();
        commit.rows.push((Table::Kept, key, Some(count.to_be_bytes().to_vec())));
    }
    for (revision, row) in contents.rows {
        commit.rows.push((Table::Log, revision_key(revision).to_vec(), Some(row)));
    }
    let audit = Audit {
        actor: "component \"restore\"".into(),
        verb: "restore".into(),
        agent: format!("revision {of}"),
        time_ms: now.as_millisecond(),
        details: <_>::default(),
    };
    let marker = ChangeSet { audit, changes: Vec::new() };
    let (link, row) = codec::encode(&contents.head.link, at, &marker)?;
    commit.rows.push((Table::Log, revision_key(at).to_vec(), Some(row)));
    let extent = Extent { head: at, floor: at };
    put(backend, commit, Head { extent, link, digest: contents.head.digest })?;
    // As the controller will read it.
    Reading::of(backend)?.objects()?;
    Ok(Restored { of, at, objects, files: contents.files })
}

/// Writes all rows, and the head with the last of them: without it, there is nothing.
fn put(backend: &dyn Backend, all: Commit, head: Head) -> Result<(), BackendError> {
    let capacity = backend.capacity();
    let mut commit = Commit::default();
    let mut bytes = 0;
    for row in all.rows {
        let size = row.1.len() + row.2.as_ref().map_or(0, Vec::len);
        let is_full = commit.rows.len() >= capacity.rows || bytes + size > capacity.bytes;
        if is_full && !commit.rows.is_empty() {
            backend.fill(&std::mem::take(&mut commit.rows))?;
            bytes = 0;
        }
        bytes += size;
        commit.rows.push(row);
    }
    commit.head = head.encode();
    backend.commit(&commit)
}

struct Contents {
    head: Head,
    objects: Vec<(Vec<u8>, Revision)>,
    rows: BTreeMap<Revision, Vec<u8>>,
    files: Vec<NamedFile>,
}

impl Contents {
    fn read(from: &mut dyn Read) -> Result<Self, BackupError> {
        let mut from = Hashed { hasher: blake3::Hasher::new(), inner: from };
        let mut magic = [0; MAGIC.len()];
        from.exactly(&mut magic)?;
        if magic != *MAGIC.as_bytes() {
            return Err(BackupError::Damaged("it does not begin as one"));
        }
        from.line()?;
        let mut head = None;
        let (mut objects, mut rows, mut files) = (Vec::new(), BTreeMap::new(), Vec::new());
        loop {
            let check = *from.hasher.finalize().as_bytes();
            let (tag, key, value) = from.frame()?;
            match tag {
                HEAD => head = Some(Head::decode(&value)?),
                OBJECT => {
                    let revision = revision_of(&value);
                    objects.push((key, revision.ok_or(BackupError::Damaged("an object"))?));
                }
                LOG => {
                    let revision = revision_of(&key).ok_or(BackupError::Damaged("a row"))?;
                    codec::links(revision, &value)?;
                    rows.insert(revision, value);
                }
                FILE => {
                    let name =
                        String::from_utf8(key).map_err(|_bytes| BackupError::Damaged("a name"))?;
                    files.push((name, value));
                }
                END if value == check => break,
                END => return Err(BackupError::Damaged("its checksum is another")),
                _ => return Err(BackupError::Damaged("it holds what is not known")),
            }
        }
        let head = head.ok_or(BackupError::Damaged("it has no head"))?;
        Ok(Self { head, objects, rows, files })
    }
}

fn frame(out: &mut impl Write, tag: u8, key: &[u8], value: &[u8]) -> io::Result<()> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).map_err(io::Error::other);
    out.write_all(&[tag])?;
    out.write_all(&length(key)?.to_be_bytes())?;
    out.write_all(&length(value)?.to_be_bytes())?;
    out.write_all(key)?;
    out.write_all(value)
}

struct Hashing<'a> {
    hasher: blake3::Hasher,
    inner: &'a mut dyn Write,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Hashed<'a> {
    hasher: blake3::Hasher,
    inner: &'a mut dyn Read,
}

impl Hashed<'_> {
    fn exactly(&mut self, into: &mut [u8]) -> Result<(), BackupError> {
        self.inner.read_exact(into).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => BackupError::Damaged("it ends early"),
            _ => BackupError::Io(error),
        })?;
        self.hasher.update(into);
        Ok(())
    }

    fn line(&mut self) -> Result<(), BackupError> {
        let mut byte = [0];
        for _ in 0..limits::BACKUP_LINE_BYTES {
            self.exactly(&mut byte)?;
            if byte == *b"\n" {
                return Ok(());
            }
        }
        Err(BackupError::Damaged("its second line does not end"))
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>, Vec<u8>), BackupError> {
        let (mut tag, mut key, mut value) = ([0], [0; 4], [0; 4]);
        self.exactly(&mut tag)?;
        self.exactly(&mut key)?;
        self.exactly(&mut value)?;
        let [tag] = tag;
        Ok((tag, self.bytes(u32::from_be_bytes(key))?, self.bytes(u32::from_be_bytes(value))?))
    }

    fn bytes(&mut self, length: u32) -> Result<Vec<u8>, BackupError> {
        let length = length as usize;
        if length > limits::BACKUP_FRAME_BYTES {
            return Err(BackupError::Damaged("a part is too large"));
        }
        let mut bytes = vec![0; length];
        self.exactly(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;
    use crate::store::{
        Change, Key, MemoryBackend, Operation, Resource, View, log::Log, reading::Reading,
    };

    fn backend() -> Arc<MemoryBackend> {
        let backend = Arc::new(MemoryBackend::default());
        let mut log = Log::open(backend.clone()).expect("opens");
        let mut view = View::new(Revision(0), vec![]);
        for step in 0..40_u64 {
            let changes: Vec<Change> = (0..3)
                .map(|part| {
                    let name = format!("n{}", (step * 7 + part * 3) % 11);
                    let key = Key::new(Resource::new("pools", "x"), Some("web"), &name);
                    let previous = view.get(&key).map_or(Revision(0), |object| object.revision);
                    let is_delete = previous > Revision(0) && (step + part) % 4 == 0;
                    let operation = if is_delete { Operation::Delete } else { Operation::Put };
                    let value = Arc::new(json!({"metadata": {"name": name}, "step": step}));
                    Change { key, operation, previous, value }
                })
                .collect();
            view.advance(Revision(step + 1), &changes);
            let audit = Audit {
                actor: "test".into(),
                verb: "update".into(),
                agent: "test".into(),
                time_ms: 0,
                details: <_>::default(),
            };
            let sets = [ChangeSet { audit, changes }];
            log.append(log.draft(&sets).expect("JSON"), &sets).expect("appends");
        }
        log.truncate(Revision(20)).expect("truncates");
        backend
    }

    fn objects(backend: &dyn Backend) -> Vec<(Key, Revision, Value)> {
        let objects = Reading::of(backend).expect("readable").objects().expect("readable");
        objects.into_iter().map(|it| (it.key, it.revision, Value::clone(&it.value))).collect()
    }

    #[test]
    fn what_is_backed_up_is_restored_with_its_revisions_and_goes_on_beyond() {
        let from = backend();
        let mut file = Vec::new();
        let files = [("pki/ca.key".to_owned(), b"secret".to_vec())];
        back_up(&*from, &files, Timestamp::UNIX_EPOCH, &mut file).expect("backs up");
        let to = Arc::new(MemoryBackend::default());

        let restored = restore(&*to, &mut &*file, Timestamp::UNIX_EPOCH).expect("restores");

        assert_eq!(objects(&*to), objects(&*from));
        assert_eq!(restored.files, files);
        assert_eq!(
            (restored.of, restored.at),
            (Revision(40), Revision(40 + limits::RESTORE_SKIPS))
        );
        let again = restore(&*to, &mut &*file, Timestamp::UNIX_EPOCH);
        assert!(matches!(again, Err(BackupError::Occupied)));
        // What is forgotten later is counted right.
        let mut log = Log::open(to.clone()).expect("opens");
        let (key, previous, value) = objects(&*to).swap_remove(0);
        let change = Change { key, operation: Operation::Delete, previous, value: Arc::new(value) };
        let audit = Audit {
            actor: "test".into(),
            verb: "delete".into(),
            agent: "test".into(),
            time_ms: 0,
            details: <_>::default(),
        };
        let last = ChangeSet { audit: audit.clone(), changes: vec![] };
        let sets = [ChangeSet { audit, changes: vec![change] }, last];
        log.append(log.draft(&sets).expect("JSON"), &sets).expect("appends");
        log.truncate(log.extent().head).expect("truncates");
        assert_eq!(objects(&*to).len(), objects(&*from).len() - 1);
    }

    #[test]
    fn a_damaged_backup_restores_nothing() {
        let mut file = Vec::new();
        back_up(&*backend(), &[], Timestamp::UNIX_EPOCH, &mut file).expect("backs up");

        for at in (0..file.len()).step_by(7) {
            let to = MemoryBackend::default();
            let mut altered = file.clone();
            altered[at] ^= 0x20;
            assert!(restore(&to, &mut &*altered, Timestamp::UNIX_EPOCH).is_err(), "byte {at}");
            let cut = &file[..at];
            assert!(restore(&to, &mut &*cut, Timestamp::UNIX_EPOCH).is_err(), "cut at {at}");
            assert!(Reading::of(&to).expect("empty").stored_head.is_none());
        }
    }
}
