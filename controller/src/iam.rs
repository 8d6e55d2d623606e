//! Who may do what, decided from objects: users, groups, roles and bindings, in a tree of containers.
//!
//! The [`Index`](index::Index) is a pure function of the objects of groups `iam` and
//! `resourcemanager`, whatever the order they come in. [`Access`] keeps it up to the log: it follows
//! each commit before the writer hears of it, so a binding holds in the very next request. Deny goes
//! first, the default is deny, and nobody gives away what they do not hold. It must never read a
//! clock, a socket or a file: `now` comes in.

mod access;
mod bootstrap;
mod changes;
mod condition;
mod decision;
mod grants;
mod guard;
mod index;
mod permission;
mod principals;
mod roles;
mod slots;
#[cfg(test)]
mod tests;
mod tokens;
mod tree;

pub use self::{
    access::Access,
    tokens::{Bearer, Issuer},
};
pub(crate) use self::{
    access::{Asked, Refusal, Scope},
    bootstrap::establish,
    decision::{Deciding, Decision, Reach},
    guard::parent_of,
    permission::Catalog,
    principals::SubjectName,
};

/// Kubernetes' name of a service account, as in reviews and logs.
pub(crate) const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
