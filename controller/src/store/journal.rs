//! [`Journal`]: a ring of records in one file, where a commit becomes durable by one write and one
//! flush.
//!
//! ```text
//! pages 0, 1   headers, of which the one with the higher generation counts:
//!              magic 8, generation 8, key 32, BLAKE3 of all that 32
//! pages 2..    records, each from the beginning of a page, so that a torn one harms no other:
//!              keyed BLAKE3 of all that follows 32, sequence 8, length 4, the commit
//! ```
//!
//! Owns the file, and the places of what is still needed. A record counts when its hash is right,
//! which takes the journal's key: nothing that somebody stored can look like one, and another key
//! makes all records void. It knows nothing of tables; who uses it says up to where it was applied.
//! Invariants: a record that is needed is never overwritten; what [`Journal::append`] refused is not
//! there, or nothing is appended until that is certain.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Cursor, Read},
    path::Path,
};

use redb::StorageBackend;

use self::entry::Entry;
use super::{BackendError, Commit};
use crate::files;

mod entry;

/// A journal, as its writer holds it.
#[derive(Debug)]
pub(super) struct Journal {
    storage: Box<dyn StorageBackend>,
    generation: u64,
    key: Key,
    /// Of the file.
    pages: usize,
    /// Where the next record goes.
    next: usize,
    /// Of the last record.
    sequence: u64,
    /// What has not been applied: sequence and first page, oldest first.
    needed: VecDeque<(u64, usize)>,
    /// What may or may not be in the file after an error.
    doubt: Option<Doubt>,
    /// Where records are put together.
    record: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Doubt {
    /// A record at this page.
    Record(usize),
    /// A new key.
    Key,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is durable.
    At(u64),
    /// There is no room until older ones have been applied.
    Full,
    /// There never is.
    TooLarge,
}

/// A record that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Its place in the order.
    pub(super) sequence: u64,
    /// What it says.
    pub(super) commit: Commit,
}

type Key = [u8; blake3::KEY_LEN];

const PAGE: usize = 4096;
const HEADERS: usize = 2;
const MAGIC: [u8; 8] = *b"isocastj";
const HASH: usize = blake3::OUT_LEN;
const HEADER_BYTES: usize = MAGIC.len() + 8 + blake3::KEY_LEN + HASH;
/// Room for records that is kept from one to the next.
const RECORD_KEPT: usize = 256 << 10;
/// Of a record, before the commit.
const PREFIX: usize = HASH + 8 + 4;

/// Makes the file of a journal of so many bytes if there is none: whole, or after a crash not at all.
/// Its blocks are written, so that the disk finds no place for them later.
pub(super) fn make(path: &Path, bytes: usize) -> io::Result<()> {
    files::make_whole(path, |new| {
        io::copy(&mut fresh(bytes), &mut File::create_new(new)?).map(|_copied| ())
    })
}

/// What a journal of so many bytes is without a record.
pub(super) fn fresh(bytes: usize) -> impl Read {
    let header = header(1, &rand::random());
    let rest = bytes.next_multiple_of(PAGE).saturating_sub(header.len());
    Cursor::new(header).chain(io::repeat(0).take(rest as u64))
}

impl Journal {
    /// Opens a journal and finds its records, in their order.
    ///
    /// # Errors
    /// When it cannot be read, or is no journal.
    pub(super) fn open(
        storage: Box<dyn StorageBackend>,
    ) -> Result<(Self, Vec<Found>), BackendError> {
        let length = storage.len().map_err(BackendError::of_io)?;
        let pages = usize::try_from(length).map_err(BackendError::corrupt)? / PAGE;
        let mut reader = Reader { storage: &*storage, pages, content: Vec::new() };
        let mut newest = None;
        for page in 0..HEADERS.min(pages) {
            newest = newest.max(read_header(reader.read(page, PAGE)?));
        }
        let (generation, key) =
            newest.ok_or_else(|| BackendError::corrupt("its journal has no header"))?;
        let (mut next, mut sequence) = (HEADERS, 0);
        let mut found = Vec::new();
        let mut page = HEADERS;
        while page < pages {
            let Some((of_record, body)) = reader.record(&key, page)? else {
                page += 1;
                continue;
            };
            page += pages_of(PREFIX + body.len());
            if of_record > sequence {
                (sequence, next) = (of_record, page);
            }
            found.push(Found { sequence: of_record, commit: Entry::read(body)? });
        }
        found.sort_unstable_by_key(|found| found.sequence);
        let journal = Self {
            storage,
            generation,
            key,
            pages,
            next,
            sequence,
            needed: VecDeque::new(),
            doubt: None,
            record: Vec::new(),
        };
        Ok((journal, found))
    }

    /// Makes `commit` durable, if there is room.
    ///
    /// # Errors
    /// When it cannot be written. It is not there then, nor will be.
    pub(super) fn append(&mut self, commit: &Commit) -> Result<Appended, BackendError> {
        self.settle()?;
        let sequence = self.sequence.saturating_add(1);
        let mut record = std::mem::take(&mut self.record);
        let pages = write_record(&self.key, sequence, commit, &mut record);
        let appended = self.put_record(sequence, pages, &record);
        record.shrink_to(RECORD_KEPT);
        self.record = record;
        appended
    }

    fn put_record(
        &mut self,
        sequence: u64,
        pages: Option<usize>,
        record: &[u8],
    ) -> Result<Appended, BackendError> {
        let Some(pages) = pages.filter(|pages| *pages <= self.pages - HEADERS) else {
            return Ok(Appended::TooLarge);
        };
        let Some(page) = self.room(pages) else { return Ok(Appended::Full) };
        self.doubt = Some(Doubt::Record(page));
        if let Err(error) = self.put(page, record) {
            // What cannot be taken back now is taken back before anything else is done.
            drop(self.settle());
            return Err(error);
        }
        self.doubt = None;
        self.sequence = sequence;
        self.next = page + pages;
        self.needed.push_back((sequence, page));
        Ok(Appended::At(sequence))
    }

    /// Records up to `sequence` are no longer needed.
    pub(super) fn release(&mut self, sequence: u64) {
        while self.needed.front().is_some_and(|(oldest, _)| *oldest <= sequence) {
            self.needed.pop_front();
        }
    }

    /// Makes all records void, all of which must have been applied.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn clear(&mut self) -> Result<(), BackendError> {
        self.settle()?;
        self.doubt = Some(Doubt::Key);
        self.settle()
    }

    /// Takes back what may or may not be in the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn settle(&mut self) -> Result<(), BackendError> {
        match self.doubt {
            None => return Ok(()),
            Some(Doubt::Record(page)) => self.put(page, &[0; PREFIX])?,
            Some(Doubt::Key) => {
                let (generation, key) = (self.generation.saturating_add(1), rand::random());
                let page = usize::from(generation.is_multiple_of(2));
                self.put(page, &header(generation, &key))?;
                (self.generation, self.key) = (generation, key);
                self.needed.clear();
            }
        }
        self.doubt = None;
        Ok(())
    }

    /// Where so many pages are free in a row.
    fn room(&self, pages: usize) -> Option<usize> {
        let fits = |from: usize, to: usize| (from.saturating_add(pages) <= to).then_some(from);
        match self.needed.front() {
            None => fits(self.next, self.pages).or_else(|| fits(HEADERS, self.pages)),
            Some((_, oldest)) if *oldest < self.next => {
                fits(self.next, self.pages).or_else(|| fits(HEADERS, *oldest))
            }
            Some((_, oldest)) => fits(self.next, *oldest),
        }
    }

    fn put(&self, page: usize, content: &[u8]) -> Result<(), BackendError> {
        let write = || {
            self.storage.write((page * PAGE) as u64, content)?;
            self.storage.sync_data()
        };
        write().map_err(BackendError::of_io)
    }
}

fn pages_of(bytes: usize) -> usize {
    bytes.div_ceil(PAGE)
}

fn header(generation: u64, key: &Key) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(generation.to_be_bytes());
    header.extend(key);
    let hash = blake3::hash(&header);
    header.extend(hash.as_bytes());
    header
}

fn read_header(page: &[u8]) -> Option<(u64, Key)> {
    let (body, hash) = page.get(..HEADER_BYTES)?.split_last_chunk::<HASH>()?;
    let rest = body.strip_prefix(&MAGIC)?;
    let (generation, key) = rest.split_first_chunk()?;
    let is_right = blake3::hash(body) == *hash;
    is_right.then_some((u64::from_be_bytes(*generation), key.try_into().ok()?))
}

/// Makes `record` that of `commit`, to the end of its last page; gives its pages, if it can be one.
fn write_record(key: &Key, sequence: u64, commit: &Commit, record: &mut Vec<u8>) -> Option<usize> {
    record.clear();
    record.resize(PREFIX, 0);
    entry::write(commit, record);
    let length = u32::try_from(record.len() - PREFIX).ok()?;
    let (hash, hashed) = record.split_first_chunk_mut::<HASH>()?;
    let (place, sized) = hashed.split_first_chunk_mut()?;
    *place = sequence.to_be_bytes();
    *sized.first_chunk_mut()? = length.to_be_bytes();
    *hash = *blake3::keyed_hash(key, hashed).as_bytes();
    let pages = pages_of(record.len());
    record.resize(pages * PAGE, 0);
    Some(pages)
}

/// Reads the file of a journal a record at a time: it is never in memory as a whole.
struct Reader<'a> {
    storage: &'a dyn StorageBackend,
    /// Of the file.
    pages: usize,
    content: Vec<u8>,
}

impl Reader<'_> {
    /// So many bytes from the beginning of a page on.
    fn read(&mut self, page: usize, bytes: usize) -> Result<&[u8], BackendError> {
        self.content.resize(bytes, 0);
        let read = self.storage.read((page * PAGE) as u64, &mut self.content);
        read.map_err(BackendError::of_io)?;
        Ok(&self.content)
    }

    /// Sequence and content of the record that begins at a page, if one does.
    fn record(&mut self, key: &Key, page: usize) -> Result<Option<(u64, &[u8])>, BackendError> {
        let room = (self.pages - page) * PAGE;
        let Some(length) = length_of(self.read(page, PAGE)?).filter(|length| *length <= room)
        else {
            return Ok(None);
        };
        if length > PAGE {
            self.read(page, length)?;
        }
        Ok(self.content.get(..length).and_then(|record| read_record(key, record)))
    }
}

/// Of the record that would begin like this.
fn length_of(record: &[u8]) -> Option<usize> {
    let length = record.get(..PREFIX)?.last_chunk()?;
    usize::try_from(u32::from_be_bytes(*length)).ok()?.checked_add(PREFIX)
}

/// Sequence and content of a record, if it is one.
fn read_record<'a>(key: &Key, record: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let (hash, hashed) = record.split_first_chunk::<HASH>()?;
    let sequence = hashed.first_chunk()?;
    let is_right = blake3::keyed_hash(key, hashed) == *hash;
    is_right.then_some((u64::from_be_bytes(*sequence), record.get(PREFIX..)?))
}
