//! Records that outlive their rows of the log.
//!
//! ```text
//! byte 0        format, 2
//! bytes 1..33   link of the row it is from
//! bytes 33..65  hash of the changes that the row had
//! bytes 65..    JSON of the record
//! ```
//!
//! That is all which the row's link covers besides the link before it, so records are links of the very
//! chain that their rows were: a hash that somebody noted down while the row was there is good as long as
//! the record is.
//!
//! The row with the empty key says where they begin: the first one's revision, and the link before it.

use std::{ops::ControlFlow, time::Duration};

use super::{
    Audit, BackendError, Revision, Row, Table,
    codec::{self, Link, Outline},
    index,
    reading::{Reading, revision_key, revision_of},
};

const FORMAT: u8 = 2;

/// Records forgotten at once.
const EXPIRED_AT_ONCE: usize = 1024;

/// Records on their way out of the log.
pub(super) struct Leaving {
    /// When the newest of them was made.
    newest_ms: i64,
    /// Where records begin, if these are the first ones.
    first: Option<Row>,
}

impl Leaving {
    /// Those from the log's floor on.
    pub(super) fn at(reading: &Reading<'_>, floor: Revision) -> Result<Self, BackendError> {
        let first = match first(reading)? {
            Some(_) => None,
            None => {
                let before = codec::links(floor, &reading.row(floor)?)?.previous;
                Some(first_row(floor, &before))
            }
        };
        Ok(Self { newest_ms: i64::MIN, first })
    }

    /// The row of the next one.
    pub(super) fn record(&mut self, revision: Revision, outline: &Outline) -> Row {
        self.newest_ms = self.newest_ms.max(outline.audit.time_ms);
        (Table::Records, revision_key(revision).to_vec(), Some(encode(outline)))
    }

    /// Forgets records that are older than the newest one that leaves by more than `age`, in at most
    /// `room` rows; says where records begin, if that changes.
    pub(super) fn expired(
        self,
        reading: &Reading<'_>,
        age: Duration,
        room: usize,
    ) -> Result<Vec<Row>, BackendError> {
        let Some((first, _)) = first(reading)? else {
            return Ok(self.first.into_iter().collect());
        };
        let age_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let oldest_ms = self.newest_ms.saturating_sub(age_ms);
        let most = room.saturating_sub(1).min(EXPIRED_AT_ONCE);
        let mut rows = Vec::new();
        let mut begin = None;
        reading.snapshot().scan(Table::Records, &revision_key(first), &mut |key, row| {
            let revision = revision_of(key).ok_or_else(unreadable)?;
            let (own, audit) = decode(None, revision, row)?;
            if rows.len() >= most || audit.time_ms >= oldest_ms {
                return Ok(ControlFlow::Break(()));
            }
            rows.push((Table::Records, key.to_vec(), None));
            begin = Some(first_row(revision.next(), &own));
            Ok(ControlFlow::Continue(()))
        })?;
        rows.extend(begin);
        // No search begins before the first record.
        let gone = index::block(first);
        reading.snapshot().scan(Table::Index, &[], &mut |key, _summary| {
            let is_gone = key < &gone.to_be_bytes()[..] && rows.len() < room;
            if is_gone {
                rows.push((Table::Index, key.to_vec(), None));
            }
            Ok(if is_gone { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(rows)
    }
}

/// The first record that is kept, and the link before it.
pub(super) fn first(reading: &Reading<'_>) -> Result<Option<(Revision, Link)>, BackendError> {
    let Some(row) = reading.snapshot().get(Table::Records, &[])? else { return Ok(None) };
    let (revision, link) = row.split_first_chunk::<8>().ok_or_else(unreadable)?;
    let link = Link::try_from(link).map_err(|_length| unreadable())?;
    Ok(Some((Revision(u64::from_be_bytes(*revision)), link)))
}

fn first_row(revision: Revision, link: &Link) -> Row {
    let mut row = revision_key(revision).to_vec();
    row.extend_from_slice(link);
    (Table::Records, Vec::new(), Some(row))
}

/// Bytes that a row takes.
pub(super) fn size((_, key, row): &Row) -> usize {
    key.len().saturating_add(row.as_ref().map_or(0, Vec::len))
}

fn corrupt(revision: Revision) -> BackendError {
    BackendError::corrupt(format_args!("the record of revision {revision} is not what was written"))
}

fn unreadable() -> BackendError {
    BackendError::corrupt("where records begin does not read")
}

/// The record of a row, without its changes.
fn encode(Outline { own, changes, record, .. }: &Outline) -> Vec<u8> {
    [&[FORMAT][..], own, changes, record].concat()
}

/// Reads a record back: its link, and what it says. It must follow `previous`, if that is known.
pub(super) fn decode(
    previous: Option<&Link>,
    revision: Revision,
    row: &[u8],
) -> Result<(Link, Audit), BackendError> {
    let (own, changes, json) = split(row).ok_or_else(|| corrupt(revision))?;
    if previous.is_some_and(|previous| codec::chain(previous, revision, json, &changes) != own) {
        return Err(corrupt(revision));
    }
    let audit = serde_json::from_slice(json).map_err(|_source| corrupt(revision))?;
    Ok((own, audit))
}

/// What the next record is chained to.
pub(super) fn link(revision: Revision, row: &[u8]) -> Result<Link, BackendError> {
    let (own, _, _) = split(row).ok_or_else(|| corrupt(revision))?;
    Ok(own)
}

fn split(row: &[u8]) -> Option<(Link, Link, &[u8])> {
    let (format, rest) = row.split_first()?;
    let (own, rest) = rest.split_first_chunk::<32>()?;
    let (changes, json) = rest.split_first_chunk::<32>()?;
    (*format == FORMAT).then_some((*own, *changes, json))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::store::{Change, ChangeSet, Key, Operation, Resource, codec::GENESIS};

    #[test]
    fn any_altered_byte_of_a_kept_record_is_found() {
        let audit = Audit {
            actor: "user \"alice\"".into(),
            verb: "create".into(),
            agent: "kubectl".into(),
            time_ms: 1,
            details: <_>::default(),
        };
        let change = Change {
            key: Key::new(Resource::new("pools", "x"), Some("web"), "www"),
            operation: Operation::Put,
            previous: Revision(0),
            document: Arc::new(json!({"spec": {}}).into()),
        };
        let set = ChangeSet { audit: audit.clone(), changes: vec![change] };
        let (link, row) = codec::encode(&GENESIS, Revision(7), &set).unwrap();
        let outline = codec::outline(Revision(7), &row).unwrap();
        let row = encode(&outline);
        // The row's own link, without the row.
        assert_eq!(decode(Some(&GENESIS), Revision(7), &row).unwrap(), (link, audit));
        assert!(decode(Some(&GENESIS), Revision(8), &row).is_err());

        for at in 0..row.len() {
            let mut altered = row.clone();
            altered[at] ^= 1;
            assert!(decode(Some(&GENESIS), Revision(7), &altered).is_err(), "byte {at}");
        }
    }
}
