//! Which keys the store needs: those that current Secrets are sealed with, and those of the past.
//!
//! A key that was replaced is needed as long as a current object is sealed with it, or the log reaches
//! back to a revision at which one was. Read from the disk beside the sequencer; nothing is opened.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{
    BackendError, Key, Object, Operation, Range, Revision, Store, codec,
    reading::Reading,
    sealed::{self, key_of},
};
use crate::authz::{Authorized, verb};

/// The last revision whose past needs a key, by its name.
pub(crate) type Needs = BTreeMap<String, Revision>;

impl Store {
    /// The key that is sealed with now, and the names of the others; none: nothing is sealed.
    pub(crate) fn sealing_keys(&self) -> Option<(String, Vec<String>)> {
        self.backend.keyring().map(|keyring| (keyring.active().to_owned(), keyring.former()))
    }

    /// The key that an object is sealed with, if it is. Blocks on the disk.
    ///
    /// # Errors
    /// When the row of its last change cannot be read.
    pub(crate) fn sealed_with(
        &self,
        _proof: &Authorized<verb::List, Range>,
        object: &Object,
    ) -> Result<Option<String>, BackendError> {
        let reading = Reading::of(&*self.backend)?;
        seal_at(&reading, object.revision, &object.key)
    }

    /// Where the log begins.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn floor(&self) -> Result<Revision, BackendError> {
        Ok(Reading::of(&*self.backend)?.head.extent.floor)
    }

    /// Adds to `needs` what at most `limit` revisions from `from` on need to be read; gives the one to
    /// go on at, and whether it is yet to be written. Blocks on the disk.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) fn needs(
        &self,
        _proof: &Authorized<verb::List, Range>,
        from: Revision,
        limit: u64,
        needs: &mut Needs,
    ) -> Result<(Revision, bool), BackendError> {
        let reading = Reading::of(&*self.backend)?;
        let from = from.max(reading.head.extent.floor);
        let end = Revision(from.0.saturating_add(limit));
        let mut next = from;
        reading.each(from, &mut |revision, _, row| {
            if revision == end {
                return Ok(ControlFlow::Break(()));
            }
            next = revision.next();
            // Most rows have no Secret, and are not looked at closely.
            if !sealed::may_have(row) {
                return Ok(ControlFlow::Continue(()));
            }
            for change in codec::decode(revision, row)?.changes {
                if change.operation == Operation::Put
                    && let Some(key) = key_of(&change.key, &change.document)
                {
                    needs.insert(key, revision);
                }
                // Whoever reads the revision before this one still opens the former value.
                if change.previous > Revision(0)
                    && let Some(key) = seal_at(&reading, change.previous, &change.key)?
                {
                    needs.insert(key, revision);
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((next, next > reading.head.extent.head))
    }
}

/// The key that the value of `revision` is sealed with, if that is still there and sealed.
fn seal_at(
    reading: &Reading<'_>,
    revision: Revision,
    key: &Key,
) -> Result<Option<String>, BackendError> {
    if !sealed::is_sealed(key) {
        return Ok(None);
    }
    let Some(row) = reading.row_if_kept(revision)? else { return Ok(None) };
    let set = codec::decode(revision, &row)?;
    let its = set.changes.iter().find(|change| change.key == *key);
    Ok(its.and_then(|change| key_of(key, &change.document)))
}
