//! [`Ledger`]: what earlier decisions left behind.
//!
//! Serialisable: a speaker that restarts must not get a second budget by dying, nor forget which
//! prefix flapped or what it was holding.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Budget, Damper, Hold, Moment, Spending};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Ledger {
    pub(super) prefixes: BTreeMap<IpNet, Entry>,
    pub(super) withdrawals: Spending,
    pub(super) removals: Spending,
}

/// One prefix's past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Entry {
    pub(super) announced: bool,
    pub(super) hold: Option<Hold>,
    /// Since when it has lacked backends, if it was announced then.
    pub(super) failing_since: Option<Moment>,
    pub(super) damper: Damper,
}

impl Ledger {
    /// Prefixes that the last decision had announced.
    pub fn announced(&self) -> impl Iterator<Item = &IpNet> {
        self.prefixes.iter().filter(|(_, entry)| entry.announced).map(|(prefix, _)| prefix)
    }

    /// Whether the last decision had `prefix` announced.
    #[must_use]
    pub fn is_announced(&self, prefix: &IpNet) -> bool {
        self.prefixes.get(prefix).is_some_and(|entry| entry.announced)
    }

    /// How many more prefixes `budget` lets automation withdraw.
    #[must_use]
    pub fn withdrawals_left(&self, budget: &Budget, now: Moment) -> usize {
        let mut spending = self.withdrawals.clone();
        spending.prune(budget, now);
        spending.left(budget, self.announced().count())
    }

    /// The announcement of what `is_lost` says ended by itself, with the process, link or tables
    /// that carried it. Nothing is left to hold, and no budget is spent.
    pub fn lose(&mut self, mut is_lost: impl FnMut(&IpNet) -> bool) {
        for (prefix, entry) in &mut self.prefixes {
            if entry.announced && is_lost(prefix) {
                (entry.announced, entry.hold, entry.failing_since) = (false, None, None);
            }
        }
    }
}
