//! [`Budget`] and [`Spending`]: how many prefixes may go missing within a window.
//!
//! What is counted is prefixes, not messages: one that is announced again is refunded, so a prefix
//! that comes and goes costs one at most. The share is of what was announced before the window's
//! withdrawals, so that withdrawing does not shrink the budget under its own feet.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Moment;

/// How many prefixes may be withdrawn within a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Share of what was announced, in percent.
    pub share_percent: usize,
    /// At least so many, however few are announced.
    pub floor: usize,
    /// The window.
    pub window: Duration,
}

/// What was withdrawn lately.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Spending {
    withdrawn: BTreeMap<IpNet, Moment>,
}

impl Budget {
    /// For what automation withdraws: an agent's share of a datacenter.
    pub const WITHDRAWALS: Self =
        Self { share_percent: 10, floor: 5, window: Duration::from_secs(60) };
    /// For what people remove, one by one or many at a time.
    pub const REMOVALS: Self =
        Self { share_percent: 20, floor: 10, window: Duration::from_secs(60) };

    /// How many of `total` prefixes may be missing.
    #[must_use]
    pub fn limit(&self, total: usize) -> usize {
        let share = total.saturating_mul(self.share_percent).checked_div(100).unwrap_or_default();
        share.max(self.floor)
    }
}

impl Spending {
    /// Forgets what is older than the window. A clock that was set back ages nothing and keeps
    /// nothing for longer than one window.
    pub fn prune(&mut self, budget: &Budget, now: Moment) {
        self.withdrawn.retain(|_, at| {
            *at = (*at).min(now);
            at.after(budget.window) > now
        });
    }

    /// How many more may go, while `announced` are announced. [`Self::prune`] first.
    #[must_use]
    pub fn left(&self, budget: &Budget, announced: usize) -> usize {
        let before = announced.saturating_add(self.len());
        budget.limit(before).saturating_sub(self.len())
    }

    /// `prefix` is withdrawn.
    pub fn spend(&mut self, prefix: IpNet, now: Moment) {
        self.withdrawn.insert(prefix, now);
    }

    /// `prefix` is announced again.
    pub fn refund(&mut self, prefix: &IpNet) {
        self.withdrawn.remove(prefix);
    }

    /// Whether `prefix` is among those withdrawn within the window.
    #[must_use]
    pub fn contains(&self, prefix: &IpNet) -> bool {
        self.withdrawn.contains_key(prefix)
    }

    /// When the oldest withdrawal is forgotten.
    #[must_use]
    pub fn relief(&self, budget: &Budget) -> Option<Moment> {
        self.withdrawn.values().min().map(|at| at.after(budget.window))
    }

    /// Prefixes withdrawn within the window.
    #[must_use]
    pub fn len(&self) -> usize {
        self.withdrawn.len()
    }

    /// Whether nothing was withdrawn within the window.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.withdrawn.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(last: u8) -> IpNet {
        IpNet::from(std::net::IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn the_share_counts_above_the_floor_and_the_floor_below_it() {
        let limits = [0, 10, 50, 59, 60, 1000].map(|total| Budget::WITHDRAWALS.limit(total));

        assert_eq!(limits, [5, 5, 5, 5, 6, 100]);
    }

    #[test]
    fn withdrawing_does_not_shrink_the_budget_under_its_own_feet() {
        let mut spending = Spending::default();
        for last in 0..10 {
            assert!(spending.left(&Budget::WITHDRAWALS, 100 - usize::from(last)) > 0);
            spending.spend(prefix(last), Moment(0));
        }

        assert_eq!(spending.left(&Budget::WITHDRAWALS, 90), 0);
    }

    #[test]
    fn what_is_announced_again_or_long_ago_is_not_counted() {
        let mut spending = Spending::default();
        spending.spend(prefix(1), Moment(0));
        spending.spend(prefix(2), Moment(1000));
        spending.spend(prefix(3), Moment(1000));
        spending.refund(&prefix(2));

        spending.prune(&Budget::WITHDRAWALS, Moment(60_000));

        assert_eq!(spending.len(), 1);
        assert_eq!(spending.relief(&Budget::WITHDRAWALS), Some(Moment(61_000)));
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nothing_for_longer_than_a_window() {
        let mut spending = Spending::default();
        spending.spend(prefix(1), Moment(1_000_000));

        spending.prune(&Budget::WITHDRAWALS, Moment(1000));

        assert_eq!(spending.relief(&Budget::WITHDRAWALS), Some(Moment(61_000)));
    }
}
