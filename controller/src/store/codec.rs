//! Log rows: one [`ChangeSet`] each, chained by BLAKE3 so that no row can be altered, dropped or
//! reordered without the next one showing it. A row names what it is chained to, so that it can
//! also be checked alone.
//!
//! ```text
//! byte 0        format, 2
//! bytes 1..33   link of the row before
//! bytes 33..65  its own link: BLAKE3 of the former, its revision, and the JSON that follows
//! bytes 65..    JSON {audit, changes: [{key, op, previous, value}]}
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Audit, BackendError, Change, ChangeSet, Key, Operation, Revision};

/// Hash that a row adds to the chain.
pub(super) type Link = [u8; 32];

/// What the first row is chained to.
pub(super) const GENESIS: Link = [0; 32];

const FORMAT: u8 = 2;
const HEADER_BYTES: usize = 65;

#[derive(Serialize)]
struct RowRef<'a> {
    audit: &'a Audit,
    changes: Vec<ChangeRef<'a>>,
}

#[derive(Serialize)]
struct ChangeRef<'a> {
    key: String,
    op: Operation,
    previous: Revision,
    value: &'a Value,
}

#[derive(Deserialize)]
struct Row {
    audit: Audit,
    changes: Vec<RowChange>,
}

#[derive(Deserialize)]
struct RowChange {
    key: String,
    op: Operation,
    previous: Revision,
    value: Value,
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
    pub(super) audit: Audit,
    pub(super) steps: Vec<Step>,
}

#[derive(Deserialize)]
struct RowOutline {
    audit: Audit,
    changes: Vec<RowStep>,
}

#[derive(Deserialize)]
struct RowSteps {
    changes: Vec<RowStep>,
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
    let changes = set
        .changes
        .iter()
        .map(|change| ChangeRef {
            key: change.key.to_row(),
            op: change.operation,
            previous: change.previous,
            value: &change.value,
        })
        .collect();
    let mut row = vec![0; HEADER_BYTES];
    serde_json::to_writer(&mut row, &RowRef { audit: &set.audit, changes })
        .map_err(|source| BackendError::Encode { source })?;
    let body = row.get(HEADER_BYTES..).unwrap_or_default();
    let link = chain(previous, revision, body);
    if let Some(header) = row.first_chunk_mut::<HEADER_BYTES>() {
        let (format, links) = header.split_at_mut(1);
        let (before, own) = links.split_at_mut(previous.len());
        format.fill(FORMAT);
        before.copy_from_slice(previous);
        own.copy_from_slice(&link);
    }
    Ok((link, row))
}

/// Reads the row of `revision` back.
pub(super) fn decode(revision: Revision, row: &[u8]) -> Result<ChangeSet, BackendError> {
    let (_, body) = checked(revision, row)?;
    let row: Row = serde_json::from_slice(body).map_err(|_source| corrupt(revision))?;
    let changes = row
        .changes
        .into_iter()
        .map(|change| {
            Some(Change {
                key: Key::from_row(&change.key)?,
                operation: change.op,
                previous: change.previous,
                value: Arc::new(change.value),
            })
        })
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| corrupt(revision))?;
    Ok(ChangeSet { audit: row.audit, changes })
}

/// Reads what the row of `revision` does, and to which objects.
pub(super) fn steps(revision: Revision, row: &[u8]) -> Result<Vec<Step>, BackendError> {
    let (_, body) = checked(revision, row)?;
    let row: RowSteps = serde_json::from_slice(body).map_err(|_source| corrupt(revision))?;
    steps_of(revision, row.changes)
}

/// Reads the row of `revision`, except its values.
pub(super) fn outline(revision: Revision, row: &[u8]) -> Result<Outline, BackendError> {
    let (links, body) = checked(revision, row)?;
    let row: RowOutline = serde_json::from_slice(body).map_err(|_source| corrupt(revision))?;
    let steps = steps_of(revision, row.changes)?;
    Ok(Outline { own: links.own, audit: row.audit, steps })
}

fn steps_of(revision: Revision, changes: Vec<RowStep>) -> Result<Vec<Step>, BackendError> {
    changes
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
    checked(revision, row).map(|(links, _)| links)
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

fn checked(revision: Revision, row: &[u8]) -> Result<(Links, &[u8]), BackendError> {
    let (links, body) = split(row).ok_or_else(|| corrupt(revision))?;
    if chain(&links.previous, revision, body) != links.own {
        return Err(corrupt(revision));
    }
    Ok((links, body))
}

fn chain(previous: &Link, revision: Revision, body: &[u8]) -> Link {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(&revision.0.to_be_bytes());
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

fn split(row: &[u8]) -> Option<(Links, &[u8])> {
    let (format, rest) = row.split_first()?;
    let (previous, rest) = rest.split_first_chunk::<32>()?;
    let (own, body) = rest.split_first_chunk::<32>()?;
    (*format == FORMAT).then_some((Links { previous: *previous, own: *own }, body))
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
                value: Arc::new(json!({"metadata": {"name": "ams-1"}})),
            }],
        }
    }

    #[test]
    fn a_row_reads_back() {
        let (link, row) = encode(&GENESIS, Revision(1), &set()).expect("serialisable");

        let read = decode(Revision(1), &row).expect("readable");

        assert_eq!(read.audit, set().audit);
        assert_eq!(read.changes[0].key, set().changes[0].key);
        assert_eq!(read.changes[0].value, set().changes[0].value);
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
        for row in [&[][..], &[1; 20], &[2; 96]] {
            let read = decode(Revision(7), row);
            assert!(matches!(read, Err(BackendError::Corrupt { .. })));
        }
    }
}
