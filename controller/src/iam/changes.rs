//! Whether what somebody sees is still what they saw: for watches, which show changes only.
//!
//! Each thing that rights are made of knows the revision of its last change: somebody's bindings and
//! memberships, groups, roles, and the containers below an organization. So a watch is told of what
//! concerns its own rights, and other tenants cannot end it.

use jiff::Timestamp;

use super::{access::Scope, decision::Reach, index::Index, tokens::Bearer, tree::Chain};
use crate::store::Revision;

impl Index {
    /// The containers above one as they were at a revision, itself first; now, if none is said. None
    /// if that is not known.
    pub(super) fn chain_at(&self, container: &str, at: Option<Revision>) -> Option<Chain> {
        let id = self.tree.find(container)?;
        match at {
            None => self.tree.chain(id),
            Some(at) => self
                .tree
                .remembered(id)
                .filter(|chain| chain.iter().all(|id| self.tree.was_here_at(id, at.0))),
        }
    }

    /// Whether the container called `name` was the one called `top`, or below it, at a revision.
    pub(super) fn was_within(&self, name: &str, top: &str, at: Revision) -> bool {
        let (chain, top) = (self.chain_at(name, Some(at)), self.tree.find(top));
        chain.zip(top).is_some_and(|(chain, top)| chain.contains(top))
    }

    /// See [`Access::changes_after`](super::Access).
    pub(super) fn changes_after(
        &self,
        who: Option<(&Bearer, Scope)>,
        top: Option<&str>,
        (revision, began): (u64, Timestamp),
        now: Timestamp,
    ) -> Option<i64> {
        let moved = |id: u32| self.tree.has_moved_since(id, revision);
        let is_moved = top.is_some_and(|top| self.tree.find(top).is_none_or(moved));
        if revision < self.opened || is_moved {
            return None;
        }
        let Some((who, scope)) = who else { return Some(i64::MAX) };
        let closure = self.principals.closure_of_account(who.subject.borrowed())?;
        let sees_everything = match scope {
            Scope::Permitted(permission) => {
                self.reach(who, permission, None, now) == Reach::Everywhere
            }
            Scope::Known => false,
        };
        let (began, now) = (began.as_second(), now.as_second());
        let mut until = i64::MAX;
        for principal in closure.numbers().filter_map(|number| self.principals.get(number)) {
            let mut groups =
                principal.groups.iter().filter_map(|number| self.principals.get(*number));
            if principal.has_changed_since(revision)
                || groups.any(|group| group.has_changed_since(revision))
            {
                return None;
            }
            for (container, grant) in principal.grants.iter() {
                let is_over = (began..=now).contains(&grant.expires);
                // Who sees everything does so wherever it is.
                if is_over
                    || self.roles.has_changed_since(grant.role, revision)
                    || (!sees_everything && moved(container))
                {
                    return None;
                }
                if grant.expires > now {
                    until = until.min(grant.expires);
                }
            }
        }
        Some(until)
    }
}
