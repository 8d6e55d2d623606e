//! [`Backend`]: what keeps the log's tables, so that one set of tests holds for all of them.
//!
//! A backend knows six tables of bytes and one way to change them: a [`Commit`], all of it or
//! nothing, and only while the head is what its writer took it to be. So two controllers can never
//! interleave, whatever their leases say. What the tables mean is `log`'s affair.
//! [`Backend::commit`] returns only once the commit survives a power cut.

use std::{fmt, io, ops::ControlFlow, sync::Arc};

use thiserror::Error;

use super::{Keyring, Revision};
use crate::error::{ApiError, Reason};

/// A table of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// One row, the head: where the log stands.
    Meta,
    /// Key of an object → revision of its last change.
    Objects,
    /// Revision → the row of its change-set.
    Log,
    /// Revision below the floor → how many of its row's values can still be read.
    Kept,
    /// Revision that has left the log → its record, see `kept`; the empty key → the first one, and the
    /// link before it.
    Records,
    /// Block of the log → a summary of its records, see `index`.
    Index,
}

/// Keeps the log's tables durably.
pub trait Backend: Send + Sync {
    /// One state of all tables, to read from.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, BackendError>;

    /// Applies all of `commit`, or nothing.
    ///
    /// # Errors
    /// [`BackendError::Moved`] when the head is not as expected. After any other error it is not
    /// known whether the commit was applied; the next snapshot says.
    fn commit(&self, commit: &Commit) -> Result<(), BackendError>;

    /// What one commit can hold.
    fn capacity(&self) -> Capacity {
        Capacity { rows: usize::MAX, bytes: usize::MAX }
    }

    /// Puts rows where there is no head yet; they count once a commit makes one.
    ///
    /// # Errors
    /// [`BackendError::Moved`] when there is a head.
    fn fill(&self, rows: &[Row]) -> Result<(), BackendError>;

    /// What values that must not be read from disk are sealed with; none: they are not.
    fn keyring(&self) -> Option<&Keyring> {
        None
    }

    /// Whether others write to the same tables.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether others may have written what this process has not read, as far as is known.
    fn has_news(&self) -> bool {
        true
    }

    /// Waits a little for others who lost to this process, if there are any: it must not always be the
    /// first.
    fn give_way(&self) {}

    /// Calls `wake` at once, as others may have written since the log was read, and whenever they may
    /// have again, until it returns `Break`. Needed where [`Self::is_shared`].
    fn follow(&self, _wake: Wake) {}
}

impl<B: Backend + ?Sized> Backend for Arc<B> {
    fn snapshot(&self) -> Result<Box<dyn Snapshot + '_>, BackendError> {
        (**self).snapshot()
    }

    fn commit(&self, commit: &Commit) -> Result<(), BackendError> {
        (**self).commit(commit)
    }

    fn capacity(&self) -> Capacity {
        (**self).capacity()
    }

    fn fill(&self, rows: &[Row]) -> Result<(), BackendError> {
        (**self).fill(rows)
    }

    fn keyring(&self) -> Option<&Keyring> {
        (**self).keyring()
    }

    fn is_shared(&self) -> bool {
        (**self).is_shared()
    }

    fn has_news(&self) -> bool {
        (**self).has_news()
    }

    fn give_way(&self) {
        (**self).give_way();
    }

    fn follow(&self, wake: Wake) {
        (**self).follow(wake);
    }
}

/// Told that the log may have grown.
pub type Wake = Box<dyn Fn() -> ControlFlow<()> + Send + Sync>;

/// One state of all tables.
pub trait Snapshot {
    /// The row at `key`.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError>;

    /// The rows at `keys`, in their order.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn get_many(
        &self,
        table: Table,
        keys: &[[u8; 8]],
    ) -> Result<Vec<Option<Vec<u8>>>, BackendError> {
        keys.iter().map(|key| self.get(table, key)).collect()
    }

    /// Shows the rows from `from` on in order, until `each` breaks.
    ///
    /// # Errors
    /// When the storage cannot be read, or what `each` breaks with.
    fn scan(&self, table: Table, from: &[u8], each: &mut Each<'_>) -> Result<(), BackendError>;
}

/// Takes a row, and says whether to go on.
pub type Each<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, BackendError> + 'a;

/// A change of the tables.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The head as it must be; none where there is none yet.
    pub expected: Option<Vec<u8>>,
    /// The head as it shall be.
    pub head: Vec<u8>,
    /// Rows to put, or to remove. A later one of the same key wins.
    pub rows: Vec<Row>,
}

impl Commit {
    /// Bytes of its rows.
    pub(super) fn size(&self) -> usize {
        let size =
            |(_, key, value): &Row| key.len() + value.as_ref().map_or(0, |value| value.len());
        self.rows.iter().map(size).sum()
    }
}

/// A table, a key in it, and what shall be there.
pub type Row = (Table, Vec<u8>, Option<Vec<u8>>);

/// What one [`Commit`] can hold.
#[derive(Clone, Copy, Debug)]
pub struct Capacity {
    /// Rows, the head apart.
    pub rows: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// Key of the head in [`Table::Meta`].
pub const HEAD: &[u8] = b"head";

/// From where to where the log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The last revision, 0 when empty.
    pub head: Revision,
    /// The first revision that can be read.
    pub floor: Revision,
}

/// What can go wrong below the store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackendError {
    /// What is stored is not what was written.
    #[error(
        "the store is corrupt: {what}. Nothing is served from it; move it away and restore a \
         backup (isocast-controller restore)"
    )]
    Corrupt {
        /// What is wrong.
        what: String,
    },
    /// A change-set cannot be written as JSON.
    #[error("cannot encode a change-set")]
    Encode {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Somebody else has written since.
    #[error("another controller has written meanwhile")]
    Moved,
    /// The disk is full.
    #[error("no space is left for the store; what is there can be read")]
    NoSpace,
    /// A sealed value does not open.
    #[error("a value sealed with key {key:?} does not open: the key is missing, or it was altered")]
    Sealed {
        /// The key's name.
        key: String,
    },
    /// The storage cannot be read or written.
    #[error("the store cannot be read or written: {source}")]
    Storage {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The change-set is larger than the backend takes.
    #[error(
        "a change of {rows} objects and {bytes} bytes is larger than the store's backend takes"
    )]
    TooLarge {
        /// Rows it has.
        rows: usize,
        /// Bytes they have.
        bytes: usize,
    },
    /// The log does not reach back so far.
    #[error("the log begins at revision {floor}")]
    Truncated {
        /// The first revision there is.
        floor: Revision,
    },
}

impl BackendError {
    pub(super) fn corrupt(what: impl fmt::Display) -> Self {
        Self::Corrupt { what: what.to_string() }
    }

    pub(super) fn of_io(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::corrupt(source),
            _ => Self::Storage { source: Box::new(source) },
        }
    }

    /// How a client is told.
    pub(super) fn refusal(&self) -> ApiError {
        match self {
            Self::NoSpace => {
                ApiError::new(Reason::InsufficientStorage, self.to_string()).with_retry_after(5)
            }
            Self::TooLarge { .. } => ApiError::new(Reason::RequestEntityTooLarge, self.to_string()),
            Self::Corrupt { .. } | Self::Encode { .. } | Self::Sealed { .. } => {
                ApiError::internal(self.to_string())
            }
            Self::Moved | Self::Storage { .. } | Self::Truncated { .. } => {
                ApiError::new(Reason::ServiceUnavailable, self.to_string()).with_retry_after(1)
            }
        }
    }
}
