//! Log rows: one [`ChangeSet`] each, chained by BLAKE3 so that no row can be altered, dropped or
//! reordered without the next one showing it.
//!
//! ```text
//! byte 0        format, 1
//! bytes 1..33   BLAKE3 of the previous row's hash and of the JSON that follows
//! bytes 33..    JSON {audit, changes: [{key, op, previous, value}]}
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Audit, BackendError, Change, ChangeSet, Key, Operation, Revision};

/// Hash that a row adds to the chain.
pub(super) type Link = [u8; 32];

/// What the first row is chained to.
pub(super) const GENESIS: Link = [0; 32];

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 33;

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

/// Writes a change-set as the row that follows `previous`.
pub(super) fn encode(previous: &Link, set: &ChangeSet) -> Result<(Link, Vec<u8>), BackendError> {
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
    let link = chain(previous, body);
    if let Some(header) = row.first_chunk_mut::<HEADER_BYTES>() {
        let (format, hash) = header.split_at_mut(1);
        format.fill(FORMAT);
        hash.copy_from_slice(&link);
    }
    Ok((link, row))
}

/// Reads the row of `revision` back.
pub(super) fn decode(revision: Revision, row: &[u8]) -> Result<ChangeSet, BackendError> {
    let corrupt = || BackendError::Corrupt { revision };
    let (_, body) = split(row).ok_or_else(corrupt)?;
    let row: Row = serde_json::from_slice(body).map_err(|_source| corrupt())?;
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
        .ok_or_else(corrupt)?;
    Ok(ChangeSet { audit: row.audit, changes })
}

/// The hash a row carries.
pub(super) fn link(revision: Revision, row: &[u8]) -> Result<Link, BackendError> {
    split(row).map(|(link, _)| link).ok_or(BackendError::Corrupt { revision })
}

/// Whether a row is what followed `previous`.
pub(super) fn follows(previous: &Link, row: &[u8]) -> bool {
    split(row).is_some_and(|(link, body)| chain(previous, body) == link)
}

fn chain(previous: &Link, body: &[u8]) -> Link {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(body);
    *hasher.finalize().as_bytes()
}

fn split(row: &[u8]) -> Option<(Link, &[u8])> {
    let (format, rest) = row.split_first()?;
    let (link, body) = rest.split_first_chunk::<32>()?;
    (*format == FORMAT).then_some((*link, body))
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
        let (_, row) = encode(&GENESIS, &set()).expect("serialisable");

        let read = decode(Revision(1), &row).expect("readable");

        assert_eq!(read.audit, set().audit);
        assert_eq!(read.changes[0].key, set().changes[0].key);
        assert_eq!(read.changes[0].value, set().changes[0].value);
    }

    #[test]
    fn any_altered_byte_breaks_the_chain_or_the_format() {
        let (_, row) = encode(&GENESIS, &set()).expect("serialisable");
        assert!(follows(&GENESIS, &row));
        assert!(!follows(&[1; 32], &row));

        for at in 0..row.len() {
            let mut altered = row.clone();
            altered[at] ^= 1;
            assert!(!follows(&GENESIS, &altered), "byte {at}");
        }
    }

    #[test]
    fn a_short_row_is_corrupt() {
        for row in [&[][..], &[1; 20], &[9; 64]] {
            assert!(matches!(
                decode(Revision(7), row),
                Err(BackendError::Corrupt { revision: Revision(7) })
            ));
        }
    }
}
