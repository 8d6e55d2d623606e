//! A disk that fails, tears and loses what was not flushed, for every operation of a workload, with
//! and without a journal; and every byte of a file, altered.
//!
//! What is found afterwards is what was acknowledged, with the one commit more that was under way
//! or without it: all of it or nothing. Or it is refused.

use std::{io, ops::ControlFlow, sync::Arc};

use parking_lot::Mutex;
use proptest::prelude::*;
use redb::StorageBackend;

use super::{
    create, everything,
    journal::{blank, commit},
    model::{Model, agrees, step},
    proof,
};
use crate::store::{Backend, BackendError, Journaled, RedbBackend, Store, Table, log::Log};

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

/// Small enough to come around.
const JOURNAL_BYTES: usize = 6 * 4096;

/// What is on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Tables,
    Journaled,
}

#[derive(Clone, Debug)]
struct Disk {
    layout: Layout,
    inner: Arc<Mutex<Inner>>,
}

/// One of its files.
#[derive(Clone, Debug)]
struct Place {
    disk: Disk,
    at: usize,
}

const TABLES: usize = 0;
const JOURNAL: usize = 1;

#[derive(Clone, Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    /// As of the last flush.
    flushed: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    files: [Content; 2],
    operations: usize,
    fault: Option<(usize, Fault)>,
    is_gone: bool,
    refuses: Option<io::ErrorKind>,
    hiccup: Option<usize>,
}

impl Disk {
    fn of(layout: Layout, files: [Vec<u8>; 2]) -> Self {
        let files = files.map(|bytes| Content { flushed: bytes.clone(), bytes });
        let inner = Inner { files, ..Inner::default() };
        Self { layout, inner: Arc::new(Mutex::new(inner)) }
    }

    /// With a database that has no row. It is made aside and then moved to its place, which a file
    /// system does whole.
    fn formatted(layout: Layout) -> Self {
        let disk = Self::of(layout, [Vec::new(), blank(JOURNAL_BYTES)]);
        drop(disk.open().expect("a disk without faults"));
        Self::of(layout, disk.survivors())
    }

    fn failing(layout: Layout, at: usize, fault: Fault) -> Self {
        let disk = Self::formatted(layout);
        disk.inner.lock().fault = Some((at, fault));
        disk
    }

    fn operations(&self) -> usize {
        self.inner.lock().operations
    }

    /// What is on it after the power came back.
    fn survivors(&self) -> [Vec<u8>; 2] {
        self.inner.lock().files.clone().map(|file| file.bytes)
    }

    /// Makes one operation fail, and none after it.
    fn hiccup(&self, at: usize) {
        self.inner.lock().hiccup = Some(at);
    }

    /// Makes every write fail like this, or no more.
    fn refuse(&self, kind: Option<io::ErrorKind>) {
        self.inner.lock().refuses = kind;
    }

    fn tables(&self) -> Result<RedbBackend, BackendError> {
        let place = Place { disk: self.clone(), at: TABLES };
        RedbBackend::with(move |builder| builder.create_with_backend(place.clone()))
    }

    fn journaled(&self) -> Result<Journaled<RedbBackend>, BackendError> {
        let place = Place { disk: self.clone(), at: JOURNAL };
        Journaled::without_applier(self.tables()?, Box::new(place), Arc::default())
    }

    fn open(&self) -> Result<Arc<dyn Backend>, BackendError> {
        Ok(match self.layout {
            Layout::Tables => Arc::new(self.tables()?),
            Layout::Journaled => Arc::new(self.journaled()?),
        })
    }

    fn log(&self) -> Result<Log, BackendError> {
        Log::open(self.open()?)
    }
}

impl Inner {
    /// Counts an operation that changes something; an error when it is the one that fails, or when
    /// the disk is gone.
    fn step(&mut self, write: Option<(usize, u64, &[u8])>) -> io::Result<()> {
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
                if let Some((file, offset, data)) = write {
                    self.files[file].write(offset, &data[..data.len() / 2]);
                }
            }
            Fault::Lose => {
                self.files.iter_mut().for_each(|file| file.bytes.clone_from(&file.flushed))
            }
            Fault::Scatter(seed) => self.files.iter_mut().for_each(|file| file.scatter(seed)),
        }
        Err(io::Error::other("a fault"))
    }
}

impl Content {
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

impl StorageBackend for Place {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.inner.lock().files[self.at].bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.disk.inner.lock();
        let from = usize::try_from(offset).map_err(|_large| io::ErrorKind::UnexpectedEof)?;
        let bytes = &inner.files[self.at].bytes;
        let wanted = from.checked_add(out.len()).and_then(|to| bytes.get(from..to));
        out.copy_from_slice(wanted.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        inner.step(None)?;
        let len = usize::try_from(len).map_err(|_large| io::ErrorKind::StorageFull)?;
        inner.files[self.at].bytes.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        inner.step(None)?;
        let file = &mut inner.files[self.at];
        file.flushed.clone_from(&file.bytes);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.inner.lock();
        inner.step(Some((self.at, offset, data)))?;
        inner.files[self.at].write(offset, data);
        Ok(())
    }
}

/// Opens a log, writes and truncates; gives what should be there, and what should be there if the
/// step that failed was done after all.
fn workload(disk: &Disk) -> (Model, Model) {
    let mut acknowledged = Model::new();
    let mut model = acknowledged.clone();
    let Ok(backend) = disk.open() else { return (acknowledged, model) };
    let Ok(mut log) = Log::open(Arc::clone(&backend)) else { return (acknowledged, model) };
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
        if step % 4 == 2 && backend.snapshot().is_err() {
            // Whoever reads has the tables written.
            return (acknowledged, model);
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
    for layout in [Layout::Tables, Layout::Journaled] {
        let whole = Disk::formatted(layout);
        workload(&whole);
        let operations = whole.operations();
        assert!(operations > 50, "{operations} are no workload");
        for at in 0..operations {
            let fault = fault(at);
            let disk = Disk::failing(layout, at, fault);
            let expected = workload(&disk);
            let after = Disk::of(layout, disk.survivors());
            holds_either(&after, expected, &format!("{layout:?}: {fault:?} at {at}"));
        }
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
    let disk = Disk::formatted(Layout::Tables);
    let (model, _) = workload(&disk);
    let [bytes, journal] = disk.survivors();
    // All of the header, and of the rest as many as a test has time for.
    let header = 0..HEADER_BYTES;
    let rest = (HEADER_BYTES..bytes.len()).filter(|at| bytes[*at] != 0);
    let step = (rest.clone().count() / ALTERED_BYTES).max(1);
    let (mut refused, mut harmless) = (0, 0);
    for at in header.chain(rest.step_by(step)) {
        let mut altered = bytes.clone();
        altered[at] ^= 1 << (at % 8);
        match Disk::of(Layout::Tables, [altered, journal.clone()])
            .log()
            .and_then(|log| model.check(&log))
        {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_log_behind_a_journal_agrees_with_a_model(steps in prop::collection::vec(step(), 1..60)) {
        let disk = Disk::formatted(Layout::Journaled);
        agrees(steps, || Arc::new(disk.journaled().expect("opens")));
    }
}

/// Commits of which some are too large for the journal; gives how many were acknowledged.
fn pass_by_the_journal(disk: &Disk) -> u64 {
    let Ok(backend) = disk.journaled() else { return 0 };
    let bytes = [10, 10, 2 * JOURNAL_BYTES, 10, 2 * JOURNAL_BYTES, 2 * JOURNAL_BYTES, 10];
    let done = (0..)
        .zip(bytes)
        .take_while(|(number, bytes)| backend.commit(&commit(*number, *bytes)).is_ok());
    done.count() as u64
}

#[test]
fn whatever_is_interrupted_while_commits_pass_by_the_journal_they_are_all_there_in_their_order() {
    let whole = Disk::formatted(Layout::Journaled);
    assert_eq!(pass_by_the_journal(&whole), 7);
    for at in 0..whole.operations() {
        let scattered = (1..=3).map(|seed| Fault::Scatter(seed * 7919 + at as u64));
        for fault in [Fault::Fail, Fault::Tear, Fault::Lose].into_iter().chain(scattered) {
            let disk = Disk::failing(Layout::Journaled, at, fault);
            let acknowledged = pass_by_the_journal(&disk);
            let after = Disk::of(Layout::Journaled, disk.survivors());
            let opened = after.journaled();
            let backend = opened.unwrap_or_else(|error| panic!("{fault:?} at {at}: {error}"));
            let snapshot = backend.snapshot().expect("readable");
            let mut numbers = Vec::new();
            snapshot
                .scan(Table::Log, &[], &mut |key, _| {
                    numbers.push(u64::from_be_bytes(key.try_into().expect("a number")));
                    Ok(ControlFlow::Continue(()))
                })
                .expect("readable");
            let count = numbers.len() as u64;
            assert_eq!(numbers, (0..count).collect::<Vec<_>>(), "{fault:?} at {at}");
            assert!(
                (acknowledged..=acknowledged + 1).contains(&count),
                "{fault:?} at {at}: {count} for {acknowledged}"
            );
        }
    }
}

#[test]
fn no_altered_byte_of_the_journal_gives_other_data() {
    let disk = Disk::formatted(Layout::Journaled);
    let mut log = disk.log().expect("a whole disk");
    let [before, empty] = disk.survivors();
    let mut model = Model::new();
    let mut models = vec![model.clone()];
    for name in 0..3 {
        let sets = [model.put(name, Some(name.into())).expect("a change")];
        log.append(log.draft(&sets).expect("JSON"), &sets).expect("room");
        models.push(model.clone());
    }
    let [tables, journal] = disk.survivors();
    assert!(tables == before && journal != empty, "the journal has it, and the tables have not");
    drop(log);
    let mut counts = [0; 3];
    let bytes = journal.iter().zip(&empty).enumerate().filter(|(_, (now, then))| now != then);
    let header = 0..HEADER_BYTES;
    for at in header.chain(bytes.map(|(at, _)| at)) {
        let mut altered = journal.clone();
        altered[at] ^= 1 << (at % 8);
        let opened = Disk::of(Layout::Journaled, [tables.clone(), altered]).log();
        match opened {
            Ok(log) if log.extent().head == model.head => {
                counts[0] += 1;
                model.check(&log).unwrap_or_else(|error| panic!("byte {at}: {error}"));
            }
            // The last record is as one that was never finished.
            Ok(log) => {
                counts[1] += 1;
                models[2].check(&log).unwrap_or_else(|error| panic!("byte {at}: {error}"));
            }
            Err(BackendError::Corrupt { .. }) => counts[2] += 1,
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
}

fn store(disk: &Disk) -> Store {
    let backend = disk.open().expect("a whole disk");
    Store::open(backend, vec![], Arc::default()).expect("opens")
}

async fn refused(kind: io::ErrorKind, code: u16, words: &str) {
    for layout in [Layout::Tables, Layout::Journaled] {
        refused_by(&Disk::formatted(layout), kind, code, words).await;
    }
}

async fn refused_by(disk: &Disk, kind: io::ErrorKind, code: u16, words: &str) {
    let store = store(disk);
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
    let store = self::store(disk);
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
    for layout in [Layout::Tables, Layout::Journaled] {
        judged_by_what_is_there(layout).await;
    }
}

async fn judged_by_what_is_there(layout: Layout) {
    let whole = Disk::formatted(layout);
    let store = store(&whole);
    create(&store, "a", 1).await.expect("there is room");
    let from = whole.operations();
    create(&store, "b", 1).await.expect("there is room");
    let to = whole.operations();
    drop(store);
    for at in from..to {
        let disk = Disk::formatted(layout);
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
