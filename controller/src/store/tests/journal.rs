//! The journal's ring, and what is committed through it.

use std::{fs::File, io::Read, ops::Range, path::Path};

use ::redb::{StorageBackend, backends::FileBackend};
use proptest::prelude::*;

use super::*;
use crate::store::{
    Commit, HEAD, Journaled, MemoryBackend, Table,
    journal::{Appended, Found, Journal, fresh},
};

const PAGE: usize = 4096;
/// Two of them are headers.
const PAGES: usize = 10;

fn storage(path: &Path) -> Box<dyn StorageBackend> {
    let file = File::options().read(true).write(true).open(path).expect("it exists");
    Box::new(FileBackend::new(file).expect("a file"))
}

fn make(path: &Path) {
    std::fs::write(path, blank(PAGES * PAGE)).expect("writable");
}

/// A journal of so many bytes without a record.
pub(super) fn blank(bytes: usize) -> Vec<u8> {
    let mut content = Vec::new();
    fresh(bytes).read_to_end(&mut content).expect("readable");
    content
}

fn open(path: &Path) -> (Journal, Vec<Found>) {
    Journal::open(storage(path)).expect("a journal")
}

/// The change of `number`, which follows the one before, with a value of so many bytes.
pub(super) fn commit(number: u64, bytes: usize) -> Commit {
    let head = |number: u64| format!("head {number}").into_bytes();
    Commit {
        expected: number.checked_sub(1).map(head),
        head: head(number),
        rows: vec![(Table::Log, number.to_be_bytes().to_vec(), Some(vec![7; bytes]))],
    }
}

fn sequences(found: &[Found]) -> Vec<u64> {
    found.iter().map(|found| found.sequence).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_needed_is_found_in_its_order_however_often_the_ring_comes_around(
        steps in prop::collection::vec((0..3 * PAGE, 0..4_u64), 1..60)
    ) {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("journal");
        make(&path);
        let (mut journal, _) = open(&path);
        let mut needed: Range<u64> = 1..1;
        for (bytes, released) in steps {
            match journal.append(&commit(needed.end, bytes)).expect("a whole disk") {
                Appended::At(sequence) => {
                    prop_assert_eq!(sequence, needed.end);
                    needed.end += 1;
                }
                Appended::Full => prop_assert!(!needed.is_empty(), "nothing is in the way"),
                Appended::TooLarge => prop_assert!(false, "three pages fit"),
            }
            needed.start = (needed.start + released).min(needed.end);
            journal.release(needed.start - 1);
            let (_, found) = open(&path);
            let sequences = sequences(&found);
            let last: Vec<u64> = sequences.into_iter().filter(|it| *it >= needed.start).collect();
            prop_assert_eq!(last, needed.clone().collect::<Vec<_>>());
            for found in found {
                let rows = &found.commit.rows;
                prop_assert_eq!(&rows[0].1, &found.sequence.to_be_bytes().to_vec());
            }
        }
    }
}

#[test]
fn what_a_tenant_stores_is_never_taken_for_a_record() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (theirs, ours) = (folder.path().join("theirs"), folder.path().join("ours"));
    make(&theirs);
    make(&ours);
    // A record of another journal, which would be the newest one.
    let (mut journal, _) = open(&theirs);
    for number in 1..=9 {
        journal.append(&commit(number, 1)).expect("a whole disk");
        journal.release(number);
    }
    let stolen = &std::fs::read(&theirs).expect("it exists")[2 * PAGE..2 * PAGE + 200];
    let (mut journal, _) = open(&ours);
    let mut store = |shift: usize| {
        let mut crafted = commit(1, shift);
        crafted.rows[0].2.as_mut().expect("a value").extend(stolen);
        crafted.rows[0].2.as_mut().expect("a value").resize(3 * PAGE, 0);
        journal.append(&crafted).expect("a whole disk");
        let file = std::fs::read(&ours).expect("it exists");
        file.windows(stolen.len()).rposition(|part| part == stolen).expect("it is in the value")
    };
    let lies_at = store(0);

    let lies_at = store(PAGE - lies_at % PAGE);

    assert_eq!(lies_at % PAGE, 0, "where a record might begin");
    assert_eq!(sequences(&open(&ours).1), [1, 2]);
}

#[test]
fn a_cleared_journal_has_no_record_and_takes_new_ones() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("journal");
    make(&path);
    let (mut journal, _) = open(&path);
    journal.append(&commit(1, 1)).expect("a whole disk");
    journal.append(&commit(2, 1)).expect("a whole disk");

    journal.clear().expect("a whole disk");

    assert!(open(&path).1.is_empty());
    journal.append(&commit(3, 1)).expect("a whole disk");
    assert_eq!(sequences(&open(&path).1), [3]);
    journal.clear().expect("a whole disk");
    assert!(open(&path).1.is_empty(), "both headers have been written over");
}

#[test]
fn what_is_too_large_for_the_journal_goes_to_the_tables_after_all_that_came_before() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("journal");
    make(&path);
    let tables = Arc::new(MemoryBackend::default());
    let open = || Journaled::without_applier(Arc::clone(&tables), storage(&path), Arc::default());
    let rows = |backend: &dyn Backend| {
        let mut seen = Vec::new();
        let snapshot = backend.snapshot().expect("readable");
        snapshot
            .scan(Table::Log, &[], &mut |key, value| {
                seen.push((u64::from_be_bytes(key.try_into().expect("a number")), value.len()));
                Ok(ControlFlow::Continue(()))
            })
            .expect("readable");
        seen
    };
    let journaled = open().expect("a whole disk");
    journaled.commit(&commit(0, 1)).expect("room");
    assert_eq!(rows(&*tables), []);

    journaled.commit(&commit(1, PAGES * PAGE)).expect("the tables take it");

    assert_eq!(rows(&*tables), [(0, 1), (1, PAGES * PAGE)]);
    journaled.commit(&commit(2, 2)).expect("room");
    let late = journaled.commit(&commit(2, 2));
    assert!(matches!(late, Err(BackendError::Moved)), "{late:?}");
    assert_eq!(rows(&*tables).len(), 2, "it waits in the journal");
    drop(journaled);
    let journaled = open().expect("a whole disk");
    assert_eq!(rows(&journaled), [(0, 1), (1, PAGES * PAGE), (2, 2)]);
}

#[test]
fn a_journal_beside_tables_that_it_does_not_follow_is_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("journal");
    make(&path);
    let tables = MemoryBackend::default();
    tables.commit(&commit(0, 1)).expect("memory");
    let journaled = Journaled::without_applier(tables, storage(&path), Arc::default());
    journaled.expect("a whole disk").commit(&commit(1, 1)).expect("room");

    let other = MemoryBackend::default();
    let begun = Commit { expected: None, head: b"another".to_vec(), rows: Vec::new() };
    other.commit(&begun).expect("memory");
    let opened = Journaled::without_applier(other, storage(&path), Arc::default());

    let refused = opened.expect_err("it would lose what the journal has").to_string();
    assert!(refused.contains("journal is of another state"), "{refused}");
}

#[test]
fn with_time_or_when_it_ends_the_tables_hold_everything() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("journal");
    let tables = Arc::new(MemoryBackend::default());
    let journaled = Journaled::open(Arc::clone(&tables), &path, Arc::default()).expect("opens");
    journaled.commit(&commit(0, 1)).expect("room");
    let head = || tables.snapshot().expect("memory").get(Table::Meta, HEAD).expect("memory");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while head() != Some(b"head 0".to_vec()) {
        assert!(std::time::Instant::now() < deadline, "nobody applies it");
        thread::yield_now();
    }

    journaled.commit(&commit(1, 1)).expect("room");
    drop(journaled);

    assert_eq!(head(), Some(b"head 1".to_vec()));
}
