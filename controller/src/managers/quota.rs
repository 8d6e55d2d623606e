//! [`Quota`]: what containers may have, counted in the transaction that makes it.
//!
//! An object counts in its container and in each one above, and is refused where it does not fit. The
//! counts are no objects: an [`Index`] in memory is worked out at open, follows each commit, and is
//! what AllowanceBuckets and ResourceClaims are views of. So a write costs the log nothing more.
//! Invariants: what is counted is what there is; nobody is refused while there is room; a limit that
//! is lowered takes nothing away.

mod bucket;
mod claim;
mod expiry;
mod guard;
mod index;
mod ledger;
mod meters;
mod metrics;
mod prover;
mod refusal;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::Arc;

use isocast_api::quota::AllowanceBucketSpec;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

pub(crate) use self::claim::{Claims, foresee};
pub use self::{expiry::GrantExpiry, metrics::Metrics, prover::Prover};
use self::{index::Index, prover::Totals};
use super::lookup;
use crate::{
    admission::{Admission, ProposedChange},
    authz::Identity,
    error::ApiError,
    iam::Access,
    store::{Event, Key, Resource, View},
};

/// Keeps containers within what they were granted.
#[derive(Debug)]
pub struct Quota {
    access: Arc<Access>,
    metrics: Arc<Metrics>,
    index: Mutex<Index>,
}

impl Quota {
    /// Counts nothing yet; `access` says who may grant, and who may read a limit.
    #[must_use]
    pub fn new(access: Arc<Access>, metrics: Arc<Metrics>) -> Self {
        Self { access, metrics, index: Mutex::default() }
    }

    /// Grants that have ended by now, and are not said to have.
    fn ended(&self, now: Timestamp) -> Vec<Key> {
        self.index.lock().ended(now.as_second())
    }

    /// What is counted, if that is as of `view`.
    fn totals_at(&self, view: &View) -> Option<Totals> {
        let index = self.index.lock();
        (index.revision == view.revision()).then(|| index.totals())
    }
}

impl Admission for Quota {
    fn admit(&self, view: &View, change: &mut ProposedChange) -> Result<(), ApiError> {
        if change.key.resource().group() == isocast_api::quota::GROUP {
            guard::admit(&self.access, &self.index.lock(), view, change)?;
        }
        if tree::kind_of(change.key.resource()).is_some() {
            guard::admit_move(&self.index.lock(), change)?;
        }
        // The platform's own parts are counted, and never refused: it must be able to start.
        let must = matches!(change.actor, Identity::Component { .. });
        let judged = self.index.lock().judge(view, change, must);
        judged.map_err(|shortages| {
            self.metrics.refusals.inc();
            refusal::of(&self.access, change, &shortages)
        })
    }

    fn open(&self, view: &View) {
        *self.index.lock() = Index::of(view);
    }

    fn follow(&self, events: &[Event], view: &View) {
        let mut index = self.index.lock();
        for event in events {
            let (old, new) = (event.old_value(), event.new_value());
            index.follow(event.revision(), &event.key, old.as_deref(), new.as_deref(), view);
        }
        // Also where the batch ends with what is only recorded.
        index.revision = view.revision();
    }

    fn settles(&self, change: &ProposedChange) -> bool {
        match change.key.resource().group() {
            isocast_api::quota::GROUP => true,
            // What is made in a new container finds its way by the state before it.
            isocast_api::resourcemanager::GROUP => change.old.is_some(),
            _ => false,
        }
    }

    fn derives(&self) -> Vec<Resource> {
        vec![lookup::resource::<AllowanceBucketSpec>()]
    }

    fn derive(&self) -> Vec<(Key, Option<Value>)> {
        self.index.lock().derive()
    }
}
