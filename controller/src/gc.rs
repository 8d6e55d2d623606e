//! Garbage collection: what owners leave behind, by Kubernetes' rules.
//!
//! An object goes when the last of its owners is gone; an owner that is deleted in the foreground
//! waits for the dependents that block it; one that is deleted as an orphaner leaves them. Who
//! depends on whom is kept in the commit path ([`Owners`]); what follows is decided by a pure
//! function ([`decide`]) and done by one task ([`Collector`]), which knows nothing that it could not
//! find again after a restart.
//!
//! An owner is found by its kind, its name and the dependent's own namespace (or none, for a
//! cluster-scoped kind), and is the owner only if it has the uid.

mod collector;
mod decide;
mod owners;
mod queue;
#[cfg(test)]
mod tests;

pub(crate) use self::decide::is_waiting;
pub use self::{
    collector::{Collector, Metrics},
    owners::Owners,
};

/// Keeps an owner until the dependents that block it are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Keeps an owner until its dependents have forgotten it.
pub(crate) const ORPHAN: &str = "orphan";
