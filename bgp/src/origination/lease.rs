//! [`Lease`]: the right to announce, for a term.
//!
//! Held by the gate-keeper that sees to a gate (who writes the tables, who probes, who decides) and
//! renewed by doing that work. One that stalls says nothing more, so silence has to end the right:
//! the lease lapses by itself. The death of the whole process is graceful restart's case (RFC 4724),
//! not this one's.

use std::time::Duration;

use super::Moment;

/// A right that ends unless it is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    term: Duration,
    renewed: Moment,
}

impl Lease {
    /// A lease that is renewed now.
    #[must_use]
    pub const fn new(term: Duration, now: Moment) -> Self {
        Self { term, renewed: now }
    }

    /// The gate-keeper is alive. Time never runs backwards for a lease.
    pub fn renew(&mut self, now: Moment) {
        self.renewed = self.renewed.max(now);
    }

    /// Whether the right still stands.
    #[must_use]
    pub fn is_held(&self, now: Moment) -> bool {
        now < self.ends()
    }

    /// When it lapses unless it is renewed.
    #[must_use]
    pub fn ends(&self) -> Moment {
        self.renewed.after(self.term)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Held exactly while the latest renewal is younger than the term.
        #[test]
        fn a_lease_is_held_for_a_term_after_the_latest_renewal(
            renewals in prop::collection::vec(0_u64..10_000, 0..20),
            asked in 0_u64..20_000,
        ) {
            let term = Duration::from_millis(500);
            let mut lease = Lease::new(term, Moment(0));
            for renewal in &renewals {
                lease.renew(Moment(*renewal));
            }

            let latest = renewals.iter().copied().max().unwrap_or_default();

            prop_assert_eq!(lease.is_held(Moment(asked)), asked < latest.saturating_add(500));
        }
    }
}
