//! Chains and searches over a log in memory: what is intact, what is found, and what is missed.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::audit::{self, Search};
use crate::store::{
    ChangeSet, Commit, HEAD, Key, MemoryBackend, Operation, RedbBackend, Resource, log::Log,
};

/// One change of one object, a day after the one before.
fn set(revision: u64, actor: &str) -> ChangeSet {
    let change = Change {
        key: Key::new(Resource::new("pools", "x"), None, "a"),
        operation: Operation::Put,
        previous: Revision(revision - 1),
        document: Arc::new(json!({"spec": {"size": revision}}).into()),
    };
    let audit = Audit {
        actor: format!("user {actor:?}"),
        verb: "update".into(),
        agent: "test".into(),
        time_ms: i64::try_from(revision).unwrap() * 86_400_000,
        details: <_>::default(),
    };
    ChangeSet { audit, changes: vec![change] }
}

/// Ten changes of one object a day apart, the first four of which have left the log.
fn fill(backend: &Arc<dyn Backend>, records_days: u64) {
    let log = Log::open(Arc::clone(backend)).unwrap();
    let mut log = log.with_records_for(Duration::from_secs(86_400 * records_days));
    for revision in 1..=10_u64 {
        let sets = [set(revision, "alice")];
        log.append(log.draft(&sets).unwrap(), &sets).unwrap();
    }
    log.truncate(Revision(4)).unwrap();
    // Records expire when later ones leave the log.
    log.truncate(Revision(5)).unwrap();
}

fn filled(records_days: u64) -> Arc<dyn Backend> {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::default());
    fill(&backend, records_days);
    backend
}

fn reader(backend: &Arc<dyn Backend>) -> Arc<dyn LogReader> {
    Arc::new(TablesReader(Arc::clone(backend)))
}

fn checked(backend: &Arc<dyn Backend>) -> Checked {
    Chain::new(reader(backend)).check(Revision(0), None, 1000).unwrap()
}

/// Does something to a row behind the store's back.
fn tamper(backend: &Arc<dyn Backend>, table: Table, at: u64, with: Option<usize>) {
    let (key, snapshot) = (at.to_be_bytes().to_vec(), backend.snapshot().unwrap());
    let mut row = snapshot.get(table, &key).unwrap().unwrap();
    let head = snapshot.get(Table::Meta, HEAD).unwrap();
    drop(snapshot);
    let altered = with.map(|byte| {
        let place = byte % row.len();
        row[place] ^= 1;
        row
    });
    let rows = vec![(table, key, altered)];
    let commit = Commit { expected: head.clone(), head: head.unwrap(), rows };
    backend.commit(&commit).unwrap();
}

/// What is found wrong after something was done to a row.
fn fault(table: Table, at: u64, with: Option<usize>) -> Option<String> {
    let backend = filled(1000);
    tamper(&backend, table, at, with);
    checked(&backend).fault
}

#[test]
fn what_was_written_is_intact_also_after_it_has_left_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let open =
        || -> Arc<dyn Backend> { Arc::new(RedbBackend::open(&folder.path().join("db")).unwrap()) };
    fill(&open(), 1000);
    let backend = open();
    let all = checked(&backend);
    assert_eq!((all.first, all.head, all.reached), (Revision(1), Revision(10), Revision(10)));
    assert_eq!(all.fault, None);

    let chain = Chain::new(reader(&backend));
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
    let past = RecordReader::new(reader(&backend));
    let read = past.read(Revision(1), 100).unwrap();
    assert_eq!(read.len(), 10);
    assert!(read.iter().all(|past| past.audit.verb == "update"));
    assert!(read.iter().all(|past| past.is_whole == (past.revision >= Revision(5))));
}

#[test]
fn one_flipped_byte_or_a_missing_record_is_found() {
    let (log, kept) = (Table::Log, Table::Records);
    for byte in [0, 1, 40, 70, 90, 200] {
        for (table, at) in [(log, 5), (log, 7), (log, 10), (kept, 1), (kept, 2), (kept, 4)] {
            assert!(fault(table, at, Some(byte)).is_some(), "byte {byte} of {at}");
        }
    }
    for (table, at) in [(log, 5), (log, 7), (kept, 1), (kept, 2), (kept, 4)] {
        assert!(fault(table, at, None).is_some(), "{at} is missing");
    }
}

#[test]
fn the_last_record_is_missed() {
    let found = fault(Table::Log, 10, None);

    assert_eq!(found.as_deref(), Some("the log's row of revision 10 is missing"));
}

#[test]
fn records_are_forgotten_after_their_time_and_the_rest_stays_intact() {
    let backend = filled(1);

    let left = checked(&backend);

    assert_eq!((left.first, left.fault), (Revision(3), None));
    let past = RecordReader::new(reader(&backend));
    assert_eq!(past.read(left.first, 100).unwrap().len(), 8);
    tamper(&backend, Table::Records, 3, Some(80));
    assert!(checked(&backend).fault.is_some());
}

#[test]
fn a_hash_that_was_noted_down_is_good_as_long_as_the_record_is() {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::default());
    let mut log = Log::open(Arc::clone(&backend)).unwrap();
    for revision in 1..=10 {
        let sets = [set(revision, "alice")];
        log.append(log.draft(&sets).unwrap(), &sets).unwrap();
    }
    let link = |backend: &Arc<dyn Backend>, at: u64| {
        let chain = Chain::new(reader(backend));
        let checked = chain.check(Revision(0), Some(Revision(at)), 1000).unwrap();
        (checked.fault, checked.reached, checked.link)
    };
    let noted: Vec<_> = (1..=10).map(|at| link(&backend, at)).collect();

    log.truncate(Revision(7)).unwrap();
    assert_eq!((1..=10).map(|at| link(&backend, at)).collect::<Vec<_>>(), noted);
    log.truncate(Revision(10)).unwrap();
    assert_eq!((1..=10).map(|at| link(&backend, at)).collect::<Vec<_>>(), noted);

    // Somebody writes the records anew, with hashes that fit: they are others.
    let forged: Arc<dyn Backend> = Arc::new(MemoryBackend::default());
    let mut log = Log::open(Arc::clone(&forged)).unwrap();
    for revision in 1..=10 {
        let sets = [set(revision, if revision == 2 { "mallory" } else { "alice" })];
        log.append(log.draft(&sets).unwrap(), &sets).unwrap();
    }
    log.truncate(Revision(7)).unwrap();
    let (fault, reached, found) = link(&forged, 5);
    assert_eq!((fault, reached), (None, Revision(5)));
    assert_ne!(found, noted[4].2);
}

/// Counts the records that a search reads.
struct Counting(RecordReader, std::cell::Cell<usize>);

impl Records for Counting {
    fn extent(&self) -> Result<(Revision, Revision), ApiError> {
        self.0.extent()
    }

    fn read(&self, from: Revision, limit: usize) -> Result<Vec<Record>, ApiError> {
        let read = self.0.read(from, limit)?;
        self.1.set(self.1.get() + read.len());
        Ok(read)
    }

    fn skip(&self, from: Revision, wanted: &Wanted) -> Result<Revision, ApiError> {
        self.0.skip(from, wanted)
    }

    fn before(&self, change: &Change) -> Result<Option<Value>, ApiError> {
        self.0.before(change)
    }
}

/// How many records a search finds in one page, and how many it reads for that.
fn searched(backend: &Arc<dyn Backend>, search: &Search) -> (usize, usize) {
    let records = Counting(RecordReader::new(reader(backend)), 0.into());
    let page = audit::page(&records, search).unwrap();
    assert_eq!(page["metadata"].get("continue"), None, "all of it is in one page");
    (page["items"].as_array().unwrap().len(), records.1.get())
}

fn by(actor: &str) -> Search {
    Search { actor: actor.into(), limit: 500, ..Search::default() }
}

/// As many as this has a figure for; a few for a test.
fn records() -> u64 {
    let asked = std::env::var("ISOCAST_TEST_RECORDS").ok();
    asked.and_then(|asked| asked.parse().ok()).unwrap_or(30_000)
}

#[test]
fn a_search_reads_the_parts_of_the_log_that_may_have_something() {
    let folder = tempfile::tempdir().unwrap();
    let backend: Arc<dyn Backend> = Arc::new(RedbBackend::open(&folder.path().join("db")).unwrap());
    let records = records();
    let rare = [7, records / 2, records - 5000];
    let mut log = Log::open(Arc::clone(&backend)).unwrap();
    let mut revision = 0;
    while revision < records {
        let sets: Vec<ChangeSet> = (revision + 1..=(revision + 700).min(records))
            .map(|at| set(at, if rare.contains(&at) { "mallory" } else { "alice" }))
            .collect();
        revision += sets.len() as u64;
        log.append(log.draft(&sets).unwrap(), &sets).unwrap();
        // As after a restart.
        if revision % 4 == 0 {
            log = Log::open(Arc::clone(&backend)).unwrap();
        }
    }

    let started = std::time::Instant::now();
    let (found, read) = searched(&backend, &by("mallory"));
    let elapsed = started.elapsed();
    assert_eq!(found, 3);
    // Three blocks, the one that is not whole yet, and what is read beyond a block's end.
    assert!(read <= 7 * 1024, "{read} of {records}");
    println!("{read} of {records} records read in {elapsed:?}");
    assert!(searched(&backend, &by("nobody")).1 <= 3 * 1024);

    // Also of what has left the log, and after that nothing is missed.
    log.truncate(Revision(records / 2 + 3)).unwrap();
    let (found, read) = searched(&backend, &by("mallory"));
    assert_eq!(found, 3);
    assert!(read <= 7 * 1024, "{read} of {records}");
}

#[test]
fn a_record_that_a_search_would_miss_is_found_by_the_check() {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::default());
    let mut log = Log::open(Arc::clone(&backend)).unwrap();
    let sets: Vec<_> = (1..=2100).map(|at| set(at, "alice")).collect();
    log.append(log.draft(&sets).unwrap(), &sets).unwrap();
    let check = || Chain::new(reader(&backend)).check(Revision(0), None, 5000).unwrap();
    assert_eq!(check().fault, None);

    // The summary of other records, in the place of this block's.
    let key = 1_u64.to_be_bytes();
    let snapshot = backend.snapshot().unwrap();
    let head = snapshot.get(Table::Meta, HEAD).unwrap();
    let other = snapshot.get(Table::Index, &0_u64.to_be_bytes()).unwrap();
    drop(snapshot);
    let rows = vec![(Table::Index, key.to_vec(), other)];
    backend.commit(&Commit { expected: head.clone(), head: head.unwrap(), rows }).unwrap();

    let fault = check().fault.unwrap();
    assert_eq!(fault, "a search would not find the record of revision 1024");
}

#[test]
fn summaries_go_with_the_records() {
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::default());
    let log = Log::open(Arc::clone(&backend)).unwrap();
    let mut log = log.with_records_for(Duration::from_secs(86_400 * 100));
    let sets: Vec<_> = (1..=4200).map(|at| set(at, "alice")).collect();
    log.append(log.draft(&sets).unwrap(), &sets).unwrap();
    for floor in 1..=42 {
        log.truncate(Revision(floor * 100)).unwrap();
    }

    let mut blocks = Vec::new();
    let mut each = |key: &[u8], _: &[u8]| {
        blocks.push(u64::from_be_bytes(key.try_into().unwrap()));
        Ok(ControlFlow::Continue(()))
    };
    backend.snapshot().unwrap().scan(Table::Index, &[], &mut each).unwrap();
    let first = checked(&backend).first;
    assert!(first > Revision(3072) && first < Revision(4200), "{first}");
    assert_eq!(blocks, [3]);
}
