//! [`Ledger`]: how much there is of each thing in each container, and what is about to be.
//!
//! Writes of one batch are judged before any of them is durable. What was let through since the last
//! commit is entered with the revision it is going to have: what the state does not reach when the
//! next write is judged did not happen.

use std::{collections::VecDeque, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};

use super::meters::TypeId;
use crate::store::Revision;

/// The counts. An account that says nothing is not there.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    accounts: HashMap<Arc<str>, Vec<Account>, RandomState>,
    pending: VecDeque<(Revision, Changes)>,
    touched: HashSet<(Arc<str>, TypeId), RandomState>,
}

/// One thing in one container and below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) id: TypeId,
    /// What there is. Sums of what 64 bits hold never overflow it.
    pub(super) allocated: i128,
    /// Objects that have it.
    pub(super) claims: i64,
    /// What is let through and not yet durable.
    pending: i128,
}

/// What a write does to accounts.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<Entry>);

/// What it does to one.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) container: Arc<str>,
    pub(super) id: TypeId,
    pub(super) amount: i128,
    pub(super) claims: i64,
}

impl Account {
    fn new(id: TypeId) -> Self {
        Self { id, allocated: 0, claims: 0, pending: 0 }
    }

    /// What there will be when everything that was let through is durable.
    pub(super) fn held(&self) -> i128 {
        self.allocated + self.pending
    }

    fn is_void(&self) -> bool {
        (self.allocated, self.claims, self.pending) == (0, 0, 0)
    }
}

impl Ledger {
    /// What there is in a container.
    pub(super) fn accounts(&self, container: &str) -> &[Account] {
        self.accounts.get(container).map(Vec::as_slice).unwrap_or_default()
    }

    /// What there is of everything.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Account)> {
        self.accounts.iter().flat_map(|(name, accounts)| accounts.iter().map(move |it| (name, it)))
    }

    pub(super) fn account(&self, container: &str, id: TypeId) -> Account {
        let known = self.accounts(container).iter().find(|account| account.id == id);
        known.copied().unwrap_or_else(|| Account::new(id))
    }

    /// Takes back what was let through after `reached` and is not part of it.
    pub(super) fn forget_after(&mut self, reached: Revision) {
        while let Some((_, changes)) = self.pending.pop_back_if(|(at, _)| *at > reached) {
            self.pend(&changes, -1);
        }
    }

    /// Enters what is let through, and becomes durable at `revision` if at all.
    pub(super) fn expect(&mut self, revision: Revision, changes: Changes) {
        self.pend(&changes, 1);
        self.pending.push_back((revision, changes));
    }

    /// `revision` is durable: from here on what it did counts by [`Self::apply`].
    pub(super) fn settle(&mut self, revision: Revision) {
        while let Some((_, changes)) = self.pending.pop_front_if(|(at, _)| *at <= revision) {
            self.pend(&changes, -1);
        }
    }

    /// Something is durable.
    pub(super) fn apply(&mut self, changes: &Changes) {
        for entry in changes.iter() {
            self.change(entry, |account| {
                account.allocated += entry.amount;
                account.claims = account.claims.saturating_add(entry.claims);
            });
            self.touched.insert((Arc::clone(&entry.container), entry.id));
        }
    }

    /// Forgets a thing altogether.
    pub(super) fn drop_type(&mut self, id: TypeId) {
        self.accounts.retain(|_, accounts| {
            accounts.retain(|account| account.id != id);
            !accounts.is_empty()
        });
    }

    /// What changed since it was last asked.
    pub(super) fn take_touched(&mut self) -> impl Iterator<Item = (Arc<str>, TypeId)> {
        std::mem::take(&mut self.touched).into_iter()
    }

    fn pend(&mut self, changes: &Changes, sign: i128) {
        for entry in changes.iter() {
            self.change(entry, |account| account.pending += sign * entry.amount);
        }
    }

    fn change(&mut self, entry: &Entry, by: impl Fn(&mut Account)) {
        let accounts = self.accounts.entry(Arc::clone(&entry.container)).or_default();
        let place = accounts.iter().position(|account| account.id == entry.id);
        let mut account = place
            .and_then(|at| accounts.get(at))
            .copied()
            .unwrap_or_else(|| Account::new(entry.id));
        by(&mut account);
        match place {
            Some(at) if account.is_void() => drop(accounts.swap_remove(at)),
            Some(at) => {
                if let Some(known) = accounts.get_mut(at) {
                    *known = account;
                }
            }
            None if account.is_void() => {}
            None => accounts.push(account),
        }
        if accounts.is_empty() {
            self.accounts.remove(&entry.container);
        }
    }
}

impl Changes {
    /// Adds to what is done to the accounts of some containers.
    pub(super) fn add(&mut self, containers: &[Arc<str>], id: TypeId, amount: i128, claims: i64) {
        for container in containers {
            let same = |entry: &&mut Entry| entry.id == id && entry.container == *container;
            if let Some(entry) = self.0.iter_mut().find(same) {
                entry.amount += amount;
                entry.claims = entry.claims.saturating_add(claims);
            } else {
                self.0.push(Entry { container: Arc::clone(container), id, amount, claims });
            }
        }
    }

    /// What remains when gains and losses are set off against each other.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(|entry| (entry.amount, entry.claims) != (0, 0))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}
