//! Audit: who did what to what, from where, and what came of it.
//!
//! A record is part of the change-set that it is about, so there is no change without one; what was
//! denied, and secrets that were read, are change-sets that change nothing. Records are chained with
//! the log, so that none can be altered, left out or reordered without its being found. What a
//! change did to an object is not recorded: the log has the object before and after, and says so
//! when asked ([`difference`]).

mod call;
mod details;
mod difference;
mod limiter;
mod scopes;
mod search;
mod terms;

pub(crate) use self::{
    call::{Call, carried, current, of_call},
    difference::holds_secrets,
    limiter::{Limiter, Pass},
    search::{Records, Search, page},
    terms::{Term, Wanted, each as each_term},
};
pub use self::{
    details::{Details, Outcome},
    scopes::Scopes,
};

/// The API group of what is served.
pub(crate) const GROUP: &str = "audit.isocast.dev";
/// Version of what is served.
pub(crate) const VERSION: &str = "v1alpha1";
