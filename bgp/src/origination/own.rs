//! [`OwnAnnouncements`]: caution for announcements that are made one by one.
//!
//! For a speaker whose announcements come from an API or a file, without services, health or a
//! controller behind them. Removing one is somebody's decision and is done; removing many at once is
//! as likely a slip, so it has to be said twice: with the number of prefixes that will go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;

use super::{Budget, Moment, Spending};

/// What a speaker announces of its own, and what it withdrew lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAnnouncements<T> {
    announced: BTreeMap<IpNet, T>,
    spending: Spending,
    budget: Budget,
}

/// Who wants a withdrawal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Author {
    /// A program, or a file that changed.
    Automation,
    /// A person, by an explicit request.
    Operator,
}

/// Why a withdrawal is refused. Nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The number confirmed is not the number that would go.
    #[error("{confirmed} withdrawals are confirmed, but it would be {wanted}")]
    Confirmation {
        /// How many were confirmed.
        confirmed: usize,
        /// How many would go.
        wanted: usize,
    },
    /// Nobody else is known to announce a prefix, and a program wants it gone.
    #[error("{prefix} is not announced by anybody else; confirm with {wanted}")]
    LastAnnouncer {
        /// The first such prefix.
        prefix: IpNet,
        /// How many would go in all.
        wanted: usize,
    },
    /// It is more than the budget has left.
    #[error(
        "{wanted} withdrawals are more than the {left} that may go now; wait {wait:?} or confirm \
         with {wanted}"
    )]
    OverBudget {
        /// How many would go.
        wanted: usize,
        /// How many may.
        left: usize,
        /// When the budget next has more.
        wait: Duration,
    },
}

impl Refusal {
    /// A CamelCase reason.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Confirmation { .. } => "ConfirmationMismatch",
            Self::LastAnnouncer { .. } => "LastAnnouncer",
            Self::OverBudget { .. } => "WithdrawalBudget",
        }
    }
}

impl<T: PartialEq> OwnAnnouncements<T> {
    /// Nothing announced yet; withdrawals are limited by `budget`.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self { announced: BTreeMap::new(), spending: Spending::default(), budget }
    }

    /// What is announced, with what the caller keeps about it.
    #[must_use]
    pub const fn announced(&self) -> &BTreeMap<IpNet, T> {
        &self.announced
    }

    /// Announces `prefix`, or changes what is said of it; whether that changed anything.
    pub fn announce(&mut self, prefix: IpNet, announcement: T) -> bool {
        let prefix = prefix.trunc();
        self.spending.refund(&prefix);
        if self.announced.get(&prefix) == Some(&announcement) {
            return false;
        }
        self.announced.insert(prefix, announcement);
        true
    }

    /// Withdraws `prefixes`, all or none; returns those that were announced. `confirmed` is the
    /// number of withdrawals that the author says there will be. `is_elsewhere` tells whether a
    /// prefix is known to be announced by another speaker too.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn withdraw(
        &mut self,
        now: Moment,
        prefixes: impl IntoIterator<Item = IpNet>,
        author: Author,
        confirmed: Option<usize>,
        is_elsewhere: impl Fn(&IpNet) -> bool,
    ) -> Result<BTreeSet<IpNet>, Refusal> {
        let going: BTreeSet<_> = prefixes
            .into_iter()
            .map(|prefix| prefix.trunc())
            .filter(|prefix| self.announced.contains_key(prefix))
            .collect();
        self.admit(now, &going, author, confirmed, is_elsewhere)?;
        for prefix in &going {
            self.announced.remove(prefix);
            self.spending.spend(*prefix, now);
        }
        Ok(going)
    }

    /// Announces exactly `wanted`, as a file that was read again says; returns what was withdrawn.
    ///
    /// # Errors
    /// See [`Refusal`]; then nothing changes, neither what would come nor what would go.
    pub fn replace(
        &mut self,
        now: Moment,
        wanted: BTreeMap<IpNet, T>,
        author: Author,
        confirmed: Option<usize>,
        is_elsewhere: impl Fn(&IpNet) -> bool,
    ) -> Result<BTreeSet<IpNet>, Refusal> {
        let wanted: BTreeMap<_, _> =
            wanted.into_iter().map(|(prefix, it)| (prefix.trunc(), it)).collect();
        let going: Vec<_> =
            self.announced.keys().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        let gone = self.withdraw(now, going, author, confirmed, is_elsewhere)?;
        for (prefix, announcement) in wanted {
            self.announce(prefix, announcement);
        }
        Ok(gone)
    }

    fn admit(
        &mut self,
        now: Moment,
        going: &BTreeSet<IpNet>,
        author: Author,
        confirmed: Option<usize>,
        is_elsewhere: impl Fn(&IpNet) -> bool,
    ) -> Result<(), Refusal> {
        self.spending.prune(&self.budget, now);
        let wanted = going.len();
        match confirmed {
            Some(confirmed) if confirmed == wanted => return Ok(()),
            Some(confirmed) => return Err(Refusal::Confirmation { confirmed, wanted }),
            None => {}
        }
        let left = self.spending.left(&self.budget, self.announced.len());
        if wanted > left {
            let relief = self.spending.relief(&self.budget);
            let wait = relief.map_or(self.budget.window, |at| at.since(now));
            return Err(Refusal::OverBudget { wanted, left, wait });
        }
        let last = going.iter().find(|prefix| !is_elsewhere(prefix));
        match (author, last) {
            (Author::Automation, Some(prefix)) => {
                Err(Refusal::LastAnnouncer { prefix: *prefix, wanted })
            }
            (Author::Automation | Author::Operator, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(last: u8) -> IpNet {
        IpNet::from(std::net::IpAddr::from([192, 0, 2, last]))
    }

    fn announcing(count: u8) -> OwnAnnouncements<()> {
        let mut own = OwnAnnouncements::new(Budget::WITHDRAWALS);
        for last in 0..count {
            assert!(own.announce(prefix(last), ()));
        }
        own
    }

    fn nobody(_: &IpNet) -> bool {
        false
    }

    #[test]
    fn an_operator_takes_one_at_a_time_until_the_budget_is_used_up() {
        let mut own = announcing(20);
        let mut delete = |last: u8, now: u64| {
            own.withdraw(Moment(now), [prefix(last)], Author::Operator, None, nobody)
        };

        for last in 0..5 {
            assert_eq!(delete(last, 1000), Ok(BTreeSet::from([prefix(last)])));
        }
        let refused = delete(5, 31_000).unwrap_err();
        let wait = Duration::from_secs(30);

        assert_eq!(refused, Refusal::OverBudget { wanted: 1, left: 0, wait });
        assert_eq!(refused.reason(), "WithdrawalBudget");
        assert!(delete(5, 61_000).is_ok());
    }

    #[test]
    fn a_confirmed_number_is_an_order_and_a_wrong_one_is_not() {
        let mut own = announcing(20);
        let all = || (0..20).map(prefix);

        let wrong = own.withdraw(Moment(0), all(), Author::Operator, Some(19), nobody);
        assert_eq!(wrong, Err(Refusal::Confirmation { confirmed: 19, wanted: 20 }));
        assert_eq!(own.announced().len(), 20);

        own.withdraw(Moment(0), all(), Author::Operator, Some(20), nobody).unwrap();
        assert!(own.announced().is_empty());
    }

    #[test]
    fn automation_never_takes_the_last_announcer() {
        let mut own = announcing(3);

        let refused = own.withdraw(Moment(0), [prefix(1)], Author::Automation, None, nobody);

        let expected = Refusal::LastAnnouncer { prefix: prefix(1), wanted: 1 };
        assert_eq!(refused, Err(expected));
        let elsewhere = |_: &IpNet| true;
        assert!(own.withdraw(Moment(0), [prefix(1)], Author::Automation, None, elsewhere).is_ok());
    }

    #[test]
    fn an_empty_file_is_not_an_order_to_withdraw_everything() {
        let mut own = announcing(6);
        let elsewhere = |_: &IpNet| true;

        let refused = own.replace(Moment(0), BTreeMap::new(), Author::Automation, None, elsewhere);

        assert!(matches!(refused, Err(Refusal::OverBudget { wanted: 6, left: 5, .. })));
        assert_eq!(own.announced().len(), 6);
    }

    #[test]
    fn what_is_announced_again_costs_nothing() {
        let mut own = announcing(1);

        for _ in 0..100 {
            own.withdraw(Moment(0), [prefix(0)], Author::Operator, None, nobody).unwrap();
            assert!(own.announce(prefix(0), ()));
        }
        assert!(!own.announce(prefix(0), ()), "no change is no news");
    }

    proptest! {
        /// Unconfirmed, never more prefixes are missing than the budget says.
        #[test]
        fn unconfirmed_withdrawals_stay_within_the_budget(
            acts in prop::collection::vec((any::<bool>(), 0_u8..60, 1_u8..8, 0_u64..2000), 1..100),
        ) {
            let mut own = announcing(60);
            let mut now = Moment(0);
            for (announces, first, count, millis) in acts {
                now = now.after(Duration::from_millis(millis));
                let some = (first..first.saturating_add(count).min(60)).map(prefix);
                if announces {
                    for prefix in some {
                        own.announce(prefix, ());
                    }
                } else {
                    drop(own.withdraw(now, some, Author::Operator, None, nobody));
                }
                prop_assert!(own.spending.len() <= Budget::WITHDRAWALS.limit(60));
            }
        }
    }
}
