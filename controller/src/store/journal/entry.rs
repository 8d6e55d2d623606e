//! [`Entry`]: a commit as the journal keeps it.

use prost::Message;

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

impl Entry {
    pub(super) fn of(Commit { expected, head, rows }: &Commit) -> Self {
        let rows = rows.iter().map(|(table, key, value)| EntryRow {
            table: number(*table),
            key: key.clone(),
            value: value.clone(),
        });
        Self { expected: expected.clone(), head: head.clone(), rows: rows.collect() }
    }

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
