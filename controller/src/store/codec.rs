//! Log rows: one [`ChangeSet`] each, chained by BLAKE3 so that no row can be altered, dropped or
//! reordered without the next one showing it. A row names what it is chained to, so that it can
//! also be checked alone.
//!
//! ```text
//! byte 0        format, 4
//! bytes 1..33   link of the row before
//! bytes 33..65  its own link: BLAKE3 of the former, its revision, and the two hashes of what follows
//! bytes 65..69  length of the record
//! record        JSON {actor, verb, …}
//! changes       JSON [{key, op, previous, value}]
//! ```
//!
//! Record and changes are hashed apart: where only the record and the changes' hash are left, the chain is
//! still the same one (see `kept`).

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Audit, BackendError, Change, ChangeSet, Document, Key, Operation, Revision};

/// Hash that a row adds to the chain.
pub(super) type Link = [u8; 32];

/// What the first row is chained to.
pub(super) const GENESIS: Link = [0; 32];

const FORMAT: u8 = 4;
const LINKS_BYTES: usize = 65;
const HEADER_BYTES: usize = LINKS_BYTES + size_of::<u32>();

/// What comes before the value.
#[derive(Serialize)]
struct ChangeHead {
    key: String,
    op: Operation,
    previous: Revision,
}

#[derive(Deserialize)]
struct RowChange<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    op: Operation,
    previous: Revision,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// What a row does to one object; its value is not looked at.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) key: Key,
    pub(super) operation: Operation,
    pub(super) previous: Revision,
}

/// What a row says, without the values.
#[derive(Debug)]
pub(super) struct Outline {
    /// What the next row is chained to.
    pub(super) own: Link,
    /// Of the changes.
    pub(super) changes: Link,
    /// The record, as it was hashed.
    pub(super) record: Vec<u8>,
    pub(super) audit: Audit,
    pub(super) steps: Vec<Step>,
}

#[derive(Deserialize)]
struct RowStep {
    key: String,
    op: Operation,
    previous: Revision,
}

/// Writes a change-set as the row of `revision`, which follows `previous`.
pub(super) fn encode(
    previous: &Link,
    revision: Revision,
    set: &ChangeSet,
) -> Result<(Link, Vec<u8>), BackendError> {
    let fault = |source| BackendError::Encode { source };
    let mut row = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut row, &set.audit).map_err(fault)?;
    let record_bytes = row.len().saturating_sub(HEADER_BYTES);
    append_changes(&mut row, &set.changes).map_err(fault)?;
    let (record, changes) = row
        .get(HEADER_BYTES..)
        .unwrap_or_default()
        .split_at_checked(record_bytes)
        .unwrap_or_default();
    let link = chain(previous, revision, record, &hash(changes));
    let length = u32::try_from(record_bytes).unwrap_or(u32::MAX).to_be_bytes();
    let header = [&[FORMAT][..], previous, &link, &length].concat();
    if let Some(place) = row.get_mut(..HEADER_BYTES) {
        place.copy_from_slice(&header);
    }
    Ok((link, row))
}

fn append_changes(row: &mut Vec<u8>, changes: &[Change]) -> Result<(), serde_json::Error> {
    row.push(b'[');
    for (number, change) in changes.iter().enumerate() {
        if number > 0 {
            row.push(b',');
        }
        let (op, previous) = (change.operation, change.previous);
        serde_json::to_writer(&mut *row, &ChangeHead { key: change.key.to_row(), op, previous })?;
        // The value is JSON already: it goes into the object that was just closed.
        row.pop();
        row.extend_from_slice(b",\"value\":");
        change.document.append_to(row);
        row.push(b'}');
    }
    row.push(b']');
    Ok(())
}

/// Reads the row of `revision` back.
pub(super) fn decode(revision: Revision, row: &[u8]) -> Result<ChangeSet, BackendError> {
    let Parts { record, changes, .. } = checked(revision, row)?;
    let audit = serde_json::from_slice(record).map_err(|_source| corrupt(revision))?;
    let changes = changes_of(revision, changes)?
        .into_iter()
        .map(|change| {
            Some(Change {
                key: Key::from_row(&change.key)?,
                operation: change.op,
                previous: change.previous,
                document: Arc::new(change.value.to_owned().into()),
            })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| corrupt(revision))?;
    Ok(ChangeSet { audit, changes })
}

/// Reads what the row of `revision` puts at `key`, and nothing else of it.
pub(super) fn document(
    revision: Revision,
    row: &[u8],
    key: &Key,
) -> Result<Document, BackendError> {
    let changes = changes_of(revision, checked(revision, row)?.changes)?;
    let key = key.to_row();
    let put = changes.into_iter().rfind(|it| it.op == Operation::Put && it.key == key);
    Ok(put.ok_or_else(|| corrupt(revision))?.value.to_owned().into())
}

/// Reads what the row of `revision` does, and to which objects.
pub(super) fn steps(revision: Revision, row: &[u8]) -> Result<Vec<Step>, BackendError> {
    steps_of(revision, checked(revision, row)?.changes)
}

/// Reads the row of `revision`, except its values.
pub(super) fn outline(revision: Revision, row: &[u8]) -> Result<Outline, BackendError> {
    let Parts { links, record, changes } = checked(revision, row)?;
    let audit = serde_json::from_slice(record).map_err(|_source| corrupt(revision))?;
    let steps = steps_of(revision, changes)?;
    let (own, changes) = (links.own, hash(changes));
    Ok(Outline { own, changes, record: record.to_vec(), audit, steps })
}

fn changes_of(revision: Revision, changes: &[u8]) -> Result<Vec<RowChange<'_>>, BackendError> {
    serde_json::from_slice(changes).map_err(|_source| corrupt(revision))
}

fn steps_of(revision: Revision, changes: &[u8]) -> Result<Vec<Step>, BackendError> {
    let steps: Vec<RowStep> =
        serde_json::from_slice(changes).map_err(|_source| corrupt(revision))?;
    steps
        .into_iter()
        .map(|step| {
            let RowStep { key, op: operation, previous } = step;
            Some(Step { key: Key::from_row(&key)?, operation, previous })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| corrupt(revision))
}

/// What the row is chained to, and what the next one will be.
pub(super) fn links(revision: Revision, row: &[u8]) -> Result<Links, BackendError> {
    checked(revision, row).map(|parts| parts.links)
}

/// The row of `revision` is not what was written.
pub(super) fn corrupt(revision: Revision) -> BackendError {
    BackendError::corrupt(format_args!(
        "the log's row of revision {revision} is not what was written"
    ))
}

/// How a row is chained.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) previous: Link,
    pub(super) own: Link,
}

/// A row, taken apart.
struct Parts<'a> {
    links: Links,
    record: &'a [u8],
    changes: &'a [u8],
}

fn checked(revision: Revision, row: &[u8]) -> Result<Parts<'_>, BackendError> {
    let parts = split(row).ok_or_else(|| corrupt(revision))?;
    let own = chain(&parts.links.previous, revision, parts.record, &hash(parts.changes));
    if own != parts.links.own {
        return Err(corrupt(revision));
    }
    Ok(parts)
}

/// The link of what follows `previous` as `revision`: a record, and changes with this hash.
pub(super) fn chain(previous: &Link, revision: Revision, record: &[u8], changes: &Link) -> Link {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(&revision.0.to_be_bytes());
    hasher.update(&hash(record));
    hasher.update(changes);
    *hasher.finalize().as_bytes()
}

fn hash(bytes: &[u8]) -> Link {
    *blake3::hash(bytes).as_bytes()
}

fn split(row: &[u8]) -> Option<Parts<'_>> {
    let (format, rest) = row.split_first()?;
    let (previous, rest) = rest.split_first_chunk::<32>()?;
    let (own, rest) = rest.split_first_chunk::<32>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (record, changes) = rest.split_at_checked(length)?;
    let links = Links { previous: *previous, own: *own };
    (*format == FORMAT).then_some(Parts { links, record, changes })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Resource;

    fn set() -> ChangeSet {
        ChangeSet {
            audit: Audit {
                actor: "user \"admin\"".into(),
                verb: "create".into(),
                agent: "kubectl".into(),
                time_ms: 1,
                details: <_>::default(),
            },
            changes: vec![Change {
                key: Key::new(Resource::new("nodes", "network.isocast.dev"), None, "ams-1"),
                operation: Operation::Put,
                previous: Revision(0),
                document: Arc::new(Document::of(json!({"metadata": {"name": "ams-1"}}))),
            }],
        }
    }

    #[test]
    fn a_row_reads_back() {
        let (link, row) = encode(&GENESIS, Revision(1), &set()).expect("serialisable");

        let read = decode(Revision(1), &row).expect("readable");

        assert_eq!(read.audit, set().audit);
        assert_eq!(read.changes[0].key, set().changes[0].key);
        assert_eq!(*read.changes[0].value(), *set().changes[0].value());
        let alone = document(Revision(1), &row, &set().changes[0].key).expect("readable");
        assert_eq!(*alone.value(), *set().changes[0].value());
        let links = links(Revision(1), &row).expect("whole");
        assert_eq!((links.previous, links.own), (GENESIS, link));
        let steps = steps(Revision(1), &row).expect("readable");
        assert_eq!((&steps[0].key, steps[0].operation), (&set().changes[0].key, Operation::Put));
    }

    #[test]
    fn any_altered_byte_is_seen_and_so_is_a_row_in_the_place_of_another() {
        let (_, row) = encode(&GENESIS, Revision(1), &set()).expect("serialisable");
        assert!(decode(Revision(1), &row).is_ok());
        assert!(decode(Revision(2), &row).is_err());

        for at in 0..row.len() {
            let mut altered = row.clone();
            altered[at] ^= 1;
            assert!(decode(Revision(1), &altered).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_short_row_is_corrupt() {
        for row in [&[][..], &[1; 20], &[FORMAT; 96]] {
            let read = decode(Revision(7), row);
            assert!(matches!(read, Err(BackendError::Corrupt { .. })));
        }
    }
}
