//! [`Entry`]: a commit as the journal keeps it.

use prost::{
    Message,
    encoding::{WireType, bytes, encode_key, encode_varint, uint32},
};

use crate::store::{
    BackendError,
    backend::{Commit, Table},
};

/// A commit, in the file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(bytes = "vec", optional, tag = "1")]
    expected: Option<Vec<u8>>,
    #[prost(bytes = "vec", tag = "2")]
    head: Vec<u8>,
    #[prost(message, repeated, tag = "3")]
    rows: Vec<EntryRow>,
}

#[derive(Clone, PartialEq, Message)]
struct EntryRow {
    #[prost(uint32, tag = "1")]
    table: u32,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "3")]
    value: Option<Vec<u8>>,
}

/// Puts `commit` behind what is in `into`, as an [`Entry`]: without a copy of its rows in between,
/// because every write goes this way.
pub(super) fn write(Commit { expected, head, rows }: &Commit, into: &mut Vec<u8>) {
    if let Some(expected) = expected {
        bytes::encode(1, expected, into);
    }
    bytes::encode(2, head, into);
    for (table, key, value) in rows {
        let table = number(*table);
        let value_length = value.as_ref().map_or(0, |value| bytes::encoded_len(3, value));
        let length = uint32::encoded_len(1, &table) + bytes::encoded_len(2, key) + value_length;
        encode_key(3, WireType::LengthDelimited, into);
        encode_varint(length as u64, into);
        uint32::encode(1, &table, into);
        bytes::encode(2, key, into);
        if let Some(value) = value {
            bytes::encode(3, value, into);
        }
    }
}

impl Entry {
    /// The commit that `bytes` say.
    ///
    /// # Errors
    /// When they say none that this program knows.
    pub(super) fn read(bytes: &[u8]) -> Result<Commit, BackendError> {
        let Self { expected, head, rows } = Self::decode(bytes).map_err(BackendError::corrupt)?;
        let rows = rows.into_iter().map(|EntryRow { table: number, key, value }| {
            let unknown = || BackendError::corrupt(format_args!("table {number} in its journal"));
            Ok((table(number).ok_or_else(unknown)?, key, value))
        });
        Ok(Commit { expected, head, rows: rows.collect::<Result<_, _>>()? })
    }
}

/// Numbers that stay what they are: they are in files.
fn number(table: Table) -> u32 {
    match table {
        Table::Meta => 1,
        Table::Objects => 2,
        Table::Log => 3,
        Table::Kept => 4,
        Table::Records => 5,
        Table::Index => 6,
    }
}

fn table(number: u32) -> Option<Table> {
    Some(match number {
        1 => Table::Meta,
        2 => Table::Objects,
        3 => Table::Log,
        4 => Table::Kept,
        5 => Table::Records,
        6 => Table::Index,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_as_it_was_written() {
        let rows = vec![
            (Table::Objects, b"a key".to_vec(), Some(b"a value".to_vec())),
            (Table::Log, Vec::new(), Some(Vec::new())),
            (Table::Kept, vec![0; 300], None),
            (Table::Records, b"large".to_vec(), Some(vec![1; 70_000])),
            (Table::Index, b"i".to_vec(), None),
            (Table::Meta, b"m".to_vec(), None),
        ];
        for expected in [None, Some(Vec::new()), Some(b"before".to_vec())] {
            let commit = Commit { expected, head: b"after".to_vec(), rows: rows.clone() };
            let mut written = Vec::new();
            write(&commit, &mut written);
            let read = Entry::read(&written).unwrap();
            assert_eq!((read.expected, read.head), (commit.expected, commit.head));
            assert_eq!(read.rows, commit.rows);
        }
    }

    #[test]
    fn what_is_no_commit_is_refused() {
        let unknown = EntryRow { table: 7, key: b"key".to_vec(), value: None };
        let unknown = Entry { expected: None, head: Vec::new(), rows: vec![unknown] };
        for bytes in [unknown.encode_to_vec(), b"garbage".to_vec()] {
            assert!(matches!(Entry::read(&bytes), Err(BackendError::Corrupt { .. })));
        }
    }
}
