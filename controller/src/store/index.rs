//! Summaries of the log, by which a search passes over the parts that have nothing of what it looks for.
//!
//! 1024 revisions are a block. When the last one of a block is written, a summary of the terms and times
//! of its records is written with it, in the same commit: one row, about one part in a hundred of what it
//! is about. A summary can say too much, never too little: [`Chain`](super::Chain) checks that, so nobody
//! can hide a record by altering one. A block without a summary is read.
//!
//! ```text
//! byte 0        format, 1
//! bytes 1..9    milliseconds since 1970 of the earliest record
//! bytes 9..17   of the latest
//! bytes 17..    Bloom filter of the terms: 10 bits a term, 7 of them set
//! ```

use std::collections::HashSet;

use super::{Audit, Key, Record, Revision, Row, Table};
use crate::audit::{Term, Wanted, each_term};

/// Revisions of a block.
const BLOCK: u64 = 1024;

const FORMAT: u8 = 1;
const BITS_OF_TERM: usize = 10;
const PROBES: u64 = 7;

/// Takes the records of a block in.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// The first one that was taken in.
    from: Revision,
    /// The one after the last.
    next: Revision,
    terms: HashSet<u64, foldhash::fast::FixedState>,
    times_ms: Option<(i64, i64)>,
}

/// What is known of a block.
#[derive(Debug)]
pub(super) struct Summary<'a> {
    times_ms: (i64, i64),
    filter: &'a [u8],
}

/// The block that a revision is in.
pub(super) fn block(revision: Revision) -> u64 {
    revision.0 / BLOCK
}

/// The first revision of a block.
pub(super) fn start(block: u64) -> Revision {
    Revision(block.saturating_mul(BLOCK))
}

// === impl Builder ===

impl Builder {
    /// Takes the record of `revision` in, which is about changes at `keys`.
    pub(super) fn add<'a>(
        &mut self,
        revision: Revision,
        audit: &Audit,
        keys: impl Iterator<Item = &'a Key>,
    ) {
        if revision != self.next || revision == start(block(revision)) {
            *self = Self { from: revision, ..Self::default() };
        }
        self.next = revision.next();
        let (earliest, latest) = self.times_ms.unwrap_or((i64::MAX, i64::MIN));
        self.times_ms = Some((earliest.min(audit.time_ms), latest.max(audit.time_ms)));
        each_term(audit, keys, &mut |Term(term)| {
            self.terms.insert(term);
        });
    }

    /// The revisions of its block that came before what it took in.
    pub(super) fn missing(&self) -> std::ops::Range<Revision> {
        start(block(self.from))..self.from
    }

    /// What came before what it took in.
    pub(super) fn complete(&mut self, earlier: impl Iterator<Item = Record>) {
        let mut whole = Self::default();
        for record in earlier {
            let keys = record.changes.iter().map(|change| &change.key);
            whole.add(record.revision, &record.audit, keys);
        }
        self.terms.extend(whole.terms);
        self.times_ms = match (self.times_ms, whole.times_ms) {
            (Some(mine), Some(theirs)) => Some((mine.0.min(theirs.0), mine.1.max(theirs.1))),
            (mine, theirs) => mine.or(theirs),
        };
        self.from = start(block(self.from));
    }

    /// The row of the block, if its last revision was just taken in.
    pub(super) fn row(&self) -> Option<Row> {
        let block = block(self.from);
        (self.next == start(block.saturating_add(1))).then(|| {
            let key = block.to_be_bytes().to_vec();
            (Table::Index, key, Some(self.encode()))
        })
    }

    fn encode(&self) -> Vec<u8> {
        let (earliest, latest) = self.times_ms.unwrap_or_default();
        let mut filter = vec![0_u8; (self.terms.len() * BITS_OF_TERM).div_ceil(8).max(1)];
        for term in &self.terms {
            for (byte, bit) in probes(*term, filter.len()) {
                if let Some(byte) = filter.get_mut(byte) {
                    *byte |= bit;
                }
            }
        }
        [&[FORMAT][..], &earliest.to_be_bytes(), &latest.to_be_bytes(), &filter].concat()
    }
}

// === impl Summary ===

impl<'a> Summary<'a> {
    /// Reads a row; none: it says nothing.
    pub(super) fn decode(row: &'a [u8]) -> Option<Self> {
        let (format, rest) = row.split_first()?;
        let (earliest, rest) = rest.split_first_chunk()?;
        let (latest, filter) = rest.split_first_chunk()?;
        let times_ms = (i64::from_be_bytes(*earliest), i64::from_be_bytes(*latest));
        (*format == FORMAT && !filter.is_empty()).then_some(Self { times_ms, filter })
    }

    /// Whether the block may have something of what is looked for.
    pub(super) fn may_hold(&self, wanted: &Wanted) -> bool {
        let (earliest, latest) = self.times_ms;
        wanted.since.is_none_or(|since| latest >= since.as_millisecond())
            && wanted.until.is_none_or(|until| earliest <= until.as_millisecond())
            && wanted.terms.iter().all(|any| any.iter().any(|term| self.has(*term)))
    }

    /// Whether a record of the block can be found.
    pub(super) fn shows(&self, record: &Record) -> bool {
        let (earliest, latest) = self.times_ms;
        let mut is_found = (earliest..=latest).contains(&record.audit.time_ms);
        let keys = record.changes.iter().map(|change| &change.key);
        each_term(&record.audit, keys, &mut |term| is_found = is_found && self.has(term));
        is_found
    }

    fn has(&self, Term(term): Term) -> bool {
        let mut probes = probes(term, self.filter.len());
        probes.all(|(byte, bit)| self.filter.get(byte).is_some_and(|byte| byte & bit != 0))
    }
}

/// The bits of a term in a filter of so many bytes: which byte, and which of its bits.
fn probes(term: u64, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
    let bits = (bytes as u64).saturating_mul(8).max(1);
    let step = (term >> 32) | 1;
    (0..PROBES).map(move |probe| {
        let bit = term.wrapping_add(probe.wrapping_mul(step)) % bits;
        (usize::try_from(bit / 8).unwrap_or(usize::MAX), 1 << (bit % 8))
    })
}
