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
mod rates;
mod refusal;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use isocast_api::quota::{AllowanceBucketSpec, RequestVerb};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

pub(crate) use self::claim::{Claims, foresee};
pub use self::{expiry::GrantExpiry, metrics::Metrics, prover::Prover};
use self::{index::Index, prover::Totals, rates::Rates};
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
    rates: Mutex<Rates>,
    /// Whether any requests count: most platforms count none, and do not wait for the index.
    counts_requests: AtomicBool,
}

/// A request, as far as it counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) actor: &'a Identity,
    pub(crate) verb: RequestVerb,
    /// What it is about; without a name: all of a kind.
    pub(crate) about: &'a Key,
    /// The container it counts in.
    pub(crate) place: Place<'a>,
}

/// Where a request counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// In a container, and those above.
    In(&'a str),
    /// In those above a container.
    Above(&'a str),
}

impl Quota {
    /// Counts nothing yet; `access` says who may grant, and who may read a limit.
    #[must_use]
    pub fn new(access: Arc<Access>, metrics: Arc<Metrics>) -> Self {
        let (index, rates, counts_requests) = Default::default();
        Self { access, metrics, index, rates, counts_requests }
    }

    /// Lets a request through that does not come too fast.
    ///
    /// # Errors
    /// `TooManyRequests`, and when to come back.
    pub(crate) fn charge(&self, request: &Request<'_>, at: Instant) -> Result<(), ApiError> {
        let now = Timestamp::now();
        let index = self.index.lock();
        let asks = index.asks(request, now.as_second());
        let taken = self.rates.lock().take(&asks, at);
        let Err((ask, wait)) = taken else { return Ok(()) };
        let shortage = index.too_fast(ask);
        drop(index);
        self.metrics.throttled.inc();
        Err(refusal::too_fast(&self.access, request, shortage.as_ref(), wait, now))
    }

    /// Whether requests that do `verb` to objects of a kind count.
    pub(crate) fn counts(&self, resource: &Resource, verb: RequestVerb) -> bool {
        self.counts_requests()
            && self.index.lock().meters.of_request(resource, verb).next().is_some()
    }

    /// Whether any requests count.
    fn counts_requests(&self) -> bool {
        self.counts_requests.load(Ordering::Relaxed)
    }

    fn note(&self, index: &Index) {
        self.counts_requests.store(index.meters.counts_requests(), Ordering::Relaxed);
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
        let mut index = self.index.lock();
        *index = Index::of(view);
        self.note(&index);
    }

    fn follow(&self, events: &[Event], view: &View) {
        let mut index = self.index.lock();
        for event in events {
            let (old, new) = (event.old_value(), event.new_value());
            index.follow(event.revision(), &event.key, old.as_deref(), new.as_deref(), view);
        }
        // Also where the batch ends with what is only recorded.
        index.revision = view.revision();
        self.note(&index);
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
