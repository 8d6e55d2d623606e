//! Records that outlive their rows of the log, chained among themselves.
//!
//! ```text
//! byte 0        format, 1
//! bytes 1..33   BLAKE3 of the link before, the revision, the row's link and the JSON that follows
//! bytes 33..65  link of the row it is from
//! bytes 65..    JSON of the record
//! ```
//!
//! The row with the empty key says where they begin: the first one's revision, and the link before it.

use std::{ops::ControlFlow, time::Duration};

use super::{
    Audit, BackendError, Revision, Row, Table,
    codec::{GENESIS, Link},
    reading::{Reading, revision_key, revision_of},
};

const FORMAT: u8 = 1;
const HEADER_BYTES: usize = 65;

/// Records forgotten at once.
const EXPIRED_AT_ONCE: usize = 1024;

/// Records on their way out of the log.
pub(super) struct Leaving {
    /// Of the record before.
    link: Link,
    /// When the newest of them was made.
    newest_ms: i64,
    /// Where records begin, if these are the first ones.
    first: Option<Row>,
}

impl Leaving {
    /// Those from the log's floor on.
    pub(super) fn at(reading: &Reading<'_>, floor: Revision) -> Result<Self, BackendError> {
        let before = Revision(floor.0.saturating_sub(1));
        let row = reading.snapshot().get(Table::Records, &revision_key(before))?;
        let (link, first) = match row {
            Some(row) => (links(before, &row)?.0, None),
            None => (GENESIS, Some(first_row(floor, &GENESIS))),
        };
        Ok(Self { link, newest_ms: i64::MIN, first })
    }

    /// The row of the next one, whose row of the log has the link `from`.
    pub(super) fn record(
        &mut self,
        revision: Revision,
        from: &Link,
        audit: &Audit,
    ) -> Result<Row, BackendError> {
        let (own, row) = encode(&self.link, revision, from, audit)?;
        self.link = own;
        self.newest_ms = self.newest_ms.max(audit.time_ms);
        Ok((Table::Records, revision_key(revision).to_vec(), Some(row)))
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
    let (own, from, json) = split(row).ok_or_else(|| corrupt(revision))?;
    if previous.is_some_and(|previous| chain(previous, revision, &from, json) != own) {
        return Err(corrupt(revision));
    }
    let audit = serde_json::from_slice(json).map_err(|_source| corrupt(revision))?;
    Ok((own, audit))
}

/// The links a record carries: its own, and that of the row it is from.
pub(super) fn links(revision: Revision, row: &[u8]) -> Result<(Link, Link), BackendError> {
    let (own, from, _) = split(row).ok_or_else(|| corrupt(revision))?;
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
