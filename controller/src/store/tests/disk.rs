//! A disk that fails, tears and loses what was not flushed, for every operation of a workload; and
//! every byte of a file, altered.
//!
//! What is found afterwards is what was acknowledged, with the one commit more that was under way
//! or without it: all of it or nothing. Or it is refused.

use std::{io, sync::Arc};

use parking_lot::Mutex;
use redb::StorageBackend;

use super::{create, everything, model::Model, proof};
use crate::store::{BackendError, RedbBackend, Store, log::Log};

/// What a disk does at one of its operations, after which it does nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The operation fails; what was done before stays.
    Fail,
    /// A write is done to its middle; what was done before stays.
    Tear,
    /// Everything since the last flush is lost.
    Lose,
    /// Of everything since the last flush, sectors are lost that this number chooses.
    Scatter(u64),
}

const SECTOR: usize = 512;
/// Of redb's file: magic, layout, and two commit slots.
const HEADER_BYTES: usize = 320;
const ALTERED_BYTES: usize = 1000;

#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    bytes: Vec<u8>,
    /// As of the last flush.
    flushed: Vec<u8>,
    operations: usize,
    fault: Option<(usize, Fault)>,
    is_gone: bool,
    refuses: Option<io::ErrorKind>,
    hiccup: Option<usize>,
}

impl Disk {
    fn of(bytes: Vec<u8>) -> Self {
        let inner = Inner { flushed: bytes.clone(), bytes, ..Inner::default() };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// With a database that has no row. It is made aside and then moved to its place, which a file
    /// system does whole.
    pub(super) fn formatted() -> Self {
        let disk = Self::default();
        drop(disk.open().expect("a disk without faults"));
        Self::of(disk.survivors())
    }

    fn failing(at: usize, fault: Fault) -> Self {
        let disk = Self::formatted();
        disk.0.lock().fault = Some((at, fault));
        disk
    }

    fn operations(&self) -> usize {
        self.0.lock().operations
    }

    /// What is on it after the power came back.
    fn survivors(&self) -> Vec<u8> {
        self.0.lock().bytes.clone()
    }

    /// Makes one operation fail, and none after it.
    fn hiccup(&self, at: usize) {
        self.0.lock().hiccup = Some(at);
    }

    /// Makes every write fail like this, or no more.
    pub(super) fn refuse(&self, kind: Option<io::ErrorKind>) {
        self.0.lock().refuses = kind;
    }

    pub(super) fn open(&self) -> Result<RedbBackend, BackendError> {
        let disk = self.clone();
        RedbBackend::with(move |builder| builder.create_with_backend(disk.clone()))
    }

    fn log(&self) -> Result<Log, BackendError> {
        Log::open(Arc::new(self.open()?))
    }
}

impl Inner {
    /// Counts an operation that changes something; an error when it is the one that fails, or when
    /// the disk is gone.
    fn step(&mut self, write: Option<(u64, &[u8])>) -> io::Result<()> {
        if self.is_gone {
            return Err(io::Error::other("the disk is gone"));
        }
        if let Some(kind) = self.refuses {
            return Err(kind.into());
        }
        let at = self.operations;
        self.operations += 1;
        if self.hiccup == Some(at) {
            return Err(io::Error::other("a hiccup"));
        }
        let Some((_, fault)) = self.fault.filter(|(when, _)| *when == at) else { return Ok(()) };
        self.is_gone = true;
        match fault {
            Fault::Fail => {}
            Fault::Tear => {
                if let Some((offset, data)) = write {
                    self.write(offset, &data[..data.len() / 2]);
                }
            }
            Fault::Lose => self.bytes.clone_from(&self.flushed),
            Fault::Scatter(seed) => self.scatter(seed),
        }
        Err(io::Error::other("a fault"))
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let from = usize::try_from(offset).expect("small");
        self.bytes[from..from + data.len()].copy_from_slice(data);
    }

    fn scatter(&mut self, mut seed: u64) {
        let mut kept = self.bytes.clone();
        for (at, sector) in kept.chunks_mut(SECTOR).enumerate() {
            // xorshift; what it draws must only differ from run to run.
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            if seed.is_multiple_of(2) {
                continue;
            }
            let from = at * SECTOR;
            for (offset, byte) in sector.iter_mut().enumerate() {
                *byte = self.flushed.get(from + offset).copied().unwrap_or(0);
            }
        }
        self.bytes = kept;
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.0.lock();
        let from = usize::try_from(offset).map_err(|_large| io::ErrorKind::UnexpectedEof)?;
        let wanted = from.checked_add(out.len()).and_then(|to| inner.bytes.get(from..to));
        out.copy_from_slice(wanted.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.step(None)?;
        let len = usize::try_from(len).map_err(|_large| io::ErrorKind::StorageFull)?;
        inner.bytes.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.step(None)?;
        inner.flushed = inner.bytes.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.step(Some((offset, data)))?;
        inner.write(offset, data);
        Ok(())
    }
}

/// Opens a log, writes and truncates; gives what should be there, and what should be there if the
/// step that failed was done after all.
fn workload(disk: &Disk) -> (Model, Model) {
    let mut acknowledged = Model::new();
    let mut model = acknowledged.clone();
    let Ok(mut log) = disk.log() else { return (acknowledged, model) };
    for step in 0..12_u8 {
        let mut sets = Vec::new();
        for change in 0..=(step % 3) {
            let name = (step * 2 + change) % 5;
            let size = (step % 4 != 3).then_some(u64::from(step) * 100);
            sets.extend(model.put(name, size));
        }
        if !sets.is_empty() {
            let draft = log.draft(&sets).expect("JSON");
            if log.append(draft, &sets).is_err() {
                return (acknowledged, model);
            }
            acknowledged = model.clone();
        }
        if step % 5 == 4 {
            let before = model.truncate(60);
            if log.truncate(before).is_err() {
                return (acknowledged, model);
            }
            acknowledged = model.clone();
        }
    }
    (acknowledged, model)
}

/// The log on what survived holds one of the two, and goes on.
fn holds_either(disk: &Disk, (acknowledged, attempted): (Model, Model), context: &str) {
    let mut log = disk.log().unwrap_or_else(|error| panic!("{context}: {error}"));
    let extent = log.extent();
    let is_attempted = (extent.head, extent.floor) == (attempted.head, attempted.floor);
    let mut model = if is_attempted { attempted } else { acknowledged };
    model.check(&log).unwrap_or_else(|error| panic!("{context}: {error}"));
    let sets = [model.put(9, Some(9)).expect("a change")];
    log.append(log.draft(&sets).expect("JSON"), &sets).expect("goes on");
    model.check(&log).expect("readable");
}

fn every_operation(fault: impl Fn(usize) -> Fault) {
    let whole = Disk::formatted();
    workload(&whole);
    let operations = whole.operations();
    assert!(operations > 50, "{operations} are no workload");
    for at in 0..operations {
        let fault = fault(at);
        let disk = Disk::failing(at, fault);
        let expected = workload(&disk);
        let after = Disk::of(disk.survivors());
        holds_either(&after, expected, &format!("{fault:?} at {at}"));
    }
}

#[test]
fn whichever_operation_fails_what_was_acknowledged_is_there() {
    every_operation(|_| Fault::Fail);
}

#[test]
fn whichever_write_is_torn_what_was_acknowledged_is_there() {
    every_operation(|_| Fault::Tear);
}

#[test]
fn whenever_unflushed_writes_are_lost_what_was_acknowledged_is_there() {
    every_operation(|_| Fault::Lose);
}

#[test]
fn whichever_sectors_are_lost_what_was_acknowledged_is_there() {
    for round in 1..=2_u64 {
        every_operation(|at| Fault::Scatter(round * 7919 + at as u64));
    }
}

#[test]
fn a_file_that_was_not_finished_is_made_again() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("db");
    std::fs::write(folder.path().join("db.new"), "half a file").expect("writable");

    drop(RedbBackend::open(&path).expect("made"));

    assert!(!std::fs::exists(folder.path().join("db.new")).expect("readable"));
    std::fs::write(&path, "").expect("writable");
    let opened = RedbBackend::open(&path);
    assert!(matches!(opened, Err(BackendError::Corrupt { .. })), "{opened:?}");
}

#[test]
fn no_altered_byte_of_the_file_gives_other_data() {
    let disk = Disk::formatted();
    let (model, _) = workload(&disk);
    let bytes = disk.survivors();
    // All of the header, and of the rest as many as a test has time for.
    let header = 0..HEADER_BYTES;
    let rest = (HEADER_BYTES..bytes.len()).filter(|at| bytes[*at] != 0);
    let step = (rest.clone().count() / ALTERED_BYTES).max(1);
    let (mut refused, mut harmless) = (0, 0);
    for at in header.chain(rest.step_by(step)) {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        match Disk::of(altered).log().and_then(|log| model.check(&log)) {
            Ok(()) => harmless += 1,
            Err(BackendError::Corrupt { .. }) => refused += 1,
            Err(BackendError::Storage { source }) => {
                let is_told = source.to_string().contains("upgrade");
                assert!(is_told, "byte {at}: {source}");
                refused += 1;
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(refused > 100 && harmless > 100, "{refused} refused, {harmless} harmless");
}

fn store(disk: &Disk) -> Store {
    let backend = disk.open().expect("a whole disk");
    Store::open(backend, vec![], Arc::default()).expect("opens")
}

async fn refused(kind: io::ErrorKind, code: u16, words: &str) {
    let disk = Disk::formatted();
    let store = store(&disk);
    let before = create(&store, "before", 1).await.expect("there is room");
    let mut cursor = store.watch(&everything(), before.revision).expect("at the head");

    disk.refuse(Some(kind));
    for _ in 0..3 {
        let refusal = create(&store, "during", 1).await.expect_err("the disk refuses");
        assert_eq!(refusal.code(), code, "{refusal}");
        assert!(refusal.message().contains(words), "{refusal}");
        assert!(store.get(&proof("before")).is_some(), "reads go on");
    }

    disk.refuse(None);
    let recovered = async {
        loop {
            if let Ok(made) = create(&store, "after", 1).await {
                return made;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let deadline = std::time::Duration::from_secs(10);
    let after = tokio::time::timeout(deadline, recovered).await.expect("writes are taken again");
    assert_eq!(after.revision, before.revision.next(), "what was refused never happened");
    let seen = cursor.next().await.expect("watches go on");
    assert_eq!(seen.first().map(|event| event.key.name()), Some("after"));
    drop(store);
    let store = self::store(&disk);
    assert!(store.get(&proof("after")).is_some() && store.get(&proof("during")).is_none());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space_again() {
    refused(io::ErrorKind::StorageFull, 507, "no space").await;
}

#[tokio::test]
async fn a_read_only_disk_refuses_writes_until_it_can_be_written() {
    refused(io::ErrorKind::ReadOnlyFilesystem, 503, "cannot be read or written").await;
}

/// The reply of a failed flush says nothing; the log does.
#[tokio::test]
async fn a_commit_whose_flush_fails_is_judged_by_what_is_on_the_disk() {
    let whole = Disk::formatted();
    let store = store(&whole);
    create(&store, "a", 1).await.expect("there is room");
    let from = whole.operations();
    create(&store, "b", 1).await.expect("there is room");
    let to = whole.operations();
    drop(store);
    for at in from..to {
        let disk = Disk::formatted();
        let store = self::store(&disk);
        create(&store, "a", 1).await.expect("there is room");
        disk.hiccup(at);

        let answer = create(&store, "b", 1).await;

        let is_there = store.get(&proof("b")).is_some();
        assert_eq!(answer.is_ok(), is_there, "operation {at}");
        drop(store);
        let store = self::store(&disk);
        assert_eq!(store.get(&proof("b")).is_some(), is_there, "operation {at}");
    }
}
