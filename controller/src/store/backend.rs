//! [`Backend`]: what keeps the log, so that one set of tests holds for all of them.
//!
//! A backend is told revisions, it never invents one; it is driven by the sequencer's thread alone.
//! [`Backend::append`] returns only once the batch survives a power cut.

use thiserror::Error;

use super::{ChangeSet, Object, Revision};

/// Keeps objects and the log durably.
pub trait Backend: Send {
    /// Where the log stands.
    ///
    /// # Errors
    /// When the storage cannot be read.
    fn extent(&self) -> Result<Extent, BackendError>;

    /// Every live object, in order of keys.
    ///
    /// # Errors
    /// When the storage cannot be read, or a row does not make sense.
    fn objects(&self) -> Result<Vec<Object>, BackendError>;

    /// At most `limit` change-sets from `from` on, in order.
    ///
    /// # Errors
    /// [`BackendError::Truncated`] when the log no longer reaches back to `from`.
    fn read(
        &self,
        from: Revision,
        limit: usize,
    ) -> Result<Vec<(Revision, ChangeSet)>, BackendError>;

    /// Appends change-sets under consecutive revisions, the first of which is `first`.
    ///
    /// # Errors
    /// Nothing of the batch is stored then; [`BackendError::Gap`] when `first` does not follow the
    /// head of the log.
    fn append(&mut self, first: Revision, batch: &[ChangeSet]) -> Result<(), BackendError>;

    /// Forgets the log before `before`, except what live objects still need.
    ///
    /// # Errors
    /// When the storage cannot be written; nothing is forgotten then.
    fn truncate(&mut self, before: Revision) -> Result<(), BackendError>;
}

/// From where to where the log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The last revision, 0 when empty.
    pub head: Revision,
    /// The first revision that [`Backend::read`] can give.
    pub floor: Revision,
}

/// What can go wrong below the store.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackendError {
    /// A row does not read as what it should be.
    #[error("the log row of revision {revision} is corrupt")]
    Corrupt {
        /// Which.
        revision: Revision,
    },
    /// A change-set cannot be written as JSON.
    #[error("cannot encode a change-set")]
    Encode {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The caller appends elsewhere than at the end.
    #[error("revision {given} does not follow {head}")]
    Gap {
        /// What was given.
        given: Revision,
        /// The last one there is.
        head: Revision,
    },
    /// A sealed value does not open.
    #[error("a value sealed with key {key:?} does not open: the key is missing, or it was altered")]
    Sealed {
        /// The key's name.
        key: String,
    },
    /// The storage failed.
    #[error("the database failed")]
    Storage {
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// The log does not reach back so far.
    #[error("the log begins at revision {floor}")]
    Truncated {
        /// The first revision there is.
        floor: Revision,
    },
}
