//! Records that outlive their rows of the log, chained among themselves.
//!
//! ```text
//! byte 0        format, 1
//! bytes 1..33   BLAKE3 of the link before, the revision, the row's link and the JSON that follows
//! bytes 33..65  link of the row it is from
//! bytes 65..    JSON of the record
//! ```

use super::{Audit, BackendError, Revision, codec::Link};

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 65;

/// Writes the record of `revision`, whose row has `link`.
pub(super) fn encode(
    previous: &Link,
    revision: Revision,
    link: &Link,
    audit: &Audit,
) -> Result<(Link, Vec<u8>), BackendError> {
    let json = serde_json::to_vec(audit).map_err(|source| BackendError::Encode { source })?;
    let own = chain(previous, revision, link, &json);
    let mut row = Vec::with_capacity(HEADER_BYTES + json.len());
    row.push(FORMAT);
    row.extend_from_slice(&own);
    row.extend_from_slice(link);
    row.extend_from_slice(&json);
    Ok((own, row))
}

/// Reads a record back: its own link, and what it says. It must follow `previous`, if that is known.
pub(super) fn decode(
    previous: Option<&Link>,
    revision: Revision,
    row: &[u8],
) -> Result<(Link, Audit), BackendError> {
    let corrupt = || BackendError::Corrupt { revision };
    let (own, from, json) = split(row).ok_or_else(corrupt)?;
    if previous.is_some_and(|previous| chain(previous, revision, &from, json) != own) {
        return Err(corrupt());
    }
    let audit = serde_json::from_slice(json).map_err(|_source| corrupt())?;
    Ok((own, audit))
}

/// The links a record carries: its own, and that of the row it is from.
pub(super) fn links(revision: Revision, row: &[u8]) -> Result<(Link, Link), BackendError> {
    let (own, from, _) = split(row).ok_or(BackendError::Corrupt { revision })?;
    Ok((own, from))
}

fn chain(previous: &Link, revision: Revision, from: &Link, json: &[u8]) -> Link {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(&revision.0.to_be_bytes());
    hasher.update(from);
    hasher.update(json);
    *hasher.finalize().as_bytes()
}

fn split(row: &[u8]) -> Option<(Link, Link, &[u8])> {
    let (format, rest) = row.split_first()?;
    let (own, rest) = rest.split_first_chunk::<32>()?;
    let (from, json) = rest.split_first_chunk::<32>()?;
    (*format == FORMAT).then_some((*own, *from, json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::codec::GENESIS;

    #[test]
    fn any_altered_byte_of_a_kept_record_is_found() {
        let audit = Audit {
            actor: "user \"alice\"".into(),
            verb: "create".into(),
            agent: "kubectl".into(),
            time_ms: 1,
            details: <_>::default(),
        };
        let (link, row) = encode(&GENESIS, Revision(7), &[3; 32], &audit).unwrap();
        assert_eq!(decode(Some(&GENESIS), Revision(7), &row).unwrap(), (link, audit));
        assert!(decode(Some(&GENESIS), Revision(8), &row).is_err());

        for at in 0..row.len() {
            let mut altered = row.clone();
            altered[at] ^= 1;
            assert!(decode(Some(&GENESIS), Revision(7), &altered).is_err(), "byte {at}");
        }
    }
}
