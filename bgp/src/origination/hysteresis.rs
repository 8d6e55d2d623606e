//! [`Damper`]: how long a change must be wanted before it is made.
//!
//! Health checks count to `rise` and `fall` themselves, so by default a first change is immediate.
//! A prefix that keeps coming back is kept back, twice as long each time: a route that flaps costs
//! every flow behind it a move, and neighbours that damp (RFC 2439) would keep it back for longer
//! and for no stated reason.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Moment;

/// The numbers of hysteresis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hysteresis {
    /// How long all gates must have been open before an announcement.
    pub rise: Duration,
    /// How long a gate must have been closed before a withdrawal.
    pub fall: Duration,
    /// Kept back for this long after the second withdrawal in a row, and twice as long after each
    /// further one.
    pub hold_up: Duration,
    /// Never kept back for longer.
    pub hold_up_max: Duration,
    /// Announced for this long and for twice the last hold-up, a prefix is stable: earlier
    /// withdrawals are forgotten.
    pub stable: Duration,
}

/// What one prefix did lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Damper {
    withdrawals: u32,
    /// When it was announced or withdrawn last.
    changed: Moment,
    /// Since when the opposite of what is so has been wanted.
    contrary_since: Option<Moment>,
}

impl Default for Hysteresis {
    fn default() -> Self {
        Self {
            rise: Duration::ZERO,
            fall: Duration::ZERO,
            hold_up: Duration::from_secs(2),
            hold_up_max: Duration::from_secs(300),
            stable: Duration::from_secs(60),
        }
    }
}

impl Damper {
    /// What is so is wanted.
    pub fn agree(&mut self) {
        self.contrary_since = None;
    }

    /// The prefix is not announced and should be: whether it may, or when.
    ///
    /// # Errors
    /// The moment from which on it may.
    pub fn rise(&mut self, rules: &Hysteresis, now: Moment) -> Result<(), Moment> {
        let at = self.contrary(now).after(rules.rise);
        let held_up = self.changed.min(now).after(self.hold_up(rules));
        due(at.max(held_up), now)
    }

    /// The prefix is announced and should not be: whether it may go, or when.
    ///
    /// # Errors
    /// The moment from which on it may.
    pub fn fall(&mut self, rules: &Hysteresis, now: Moment) -> Result<(), Moment> {
        let at = self.contrary(now).after(rules.fall);
        due(at, now)
    }

    /// It is announced now.
    pub fn announced(&mut self, now: Moment) {
        (self.changed, self.contrary_since) = (now, None);
    }

    /// It is withdrawn now, because of what it is: this is what flapping is counted by.
    pub fn withdrawn(&mut self, rules: &Hysteresis, now: Moment) {
        if self.is_stable(rules, now) {
            self.withdrawals = 0;
        }
        self.withdrawals = self.withdrawals.saturating_add(1);
        (self.changed, self.contrary_since) = (now, None);
    }

    /// Whether, announced since its last change, nothing of its past counts any more.
    #[must_use]
    pub fn is_stable(&self, rules: &Hysteresis, now: Moment) -> bool {
        let proof = rules.stable.max(self.hold_up(rules).saturating_mul(2));
        now.since(self.changed) >= proof
    }

    /// How long it is kept back: nothing after one withdrawal, then twice as long each time.
    fn hold_up(&self, rules: &Hysteresis) -> Duration {
        let Some(doublings) = self.withdrawals.checked_sub(2) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        rules.hold_up.saturating_mul(factor).min(rules.hold_up_max)
    }

    /// A clock that was set back must not stretch the wait.
    fn contrary(&mut self, now: Moment) -> Moment {
        let since = self.contrary_since.map_or(now, |since| since.min(now));
        self.contrary_since = Some(since);
        since
    }
}

fn due(at: Moment, now: Moment) -> Result<(), Moment> {
    if at <= now { Ok(()) } else { Err(at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Hysteresis = Hysteresis {
        rise: Duration::ZERO,
        fall: Duration::ZERO,
        hold_up: Duration::from_secs(2),
        hold_up_max: Duration::from_secs(10),
        stable: Duration::from_secs(60),
    };

    /// Waits until it may rise; how long that took.
    fn rise(damper: &mut Damper, now: Moment) -> Duration {
        let at = damper.rise(&RULES, now).err().unwrap_or(now);
        assert_eq!(damper.rise(&RULES, at), Ok(()));
        damper.announced(at);
        at.since(now)
    }

    #[test]
    fn a_first_failure_and_its_recovery_are_immediate() {
        let mut damper = Damper::default();
        damper.announced(Moment(0));

        assert_eq!(damper.fall(&RULES, Moment(10)), Ok(()));
        damper.withdrawn(&RULES, Moment(10));

        assert_eq!(rise(&mut damper, Moment(11)), Duration::ZERO);
    }

    #[test]
    fn each_further_flap_is_kept_back_twice_as_long_up_to_a_limit() {
        let mut damper = Damper::default();
        let mut now = Moment(0);
        let waits: Vec<_> = (0..6)
            .map(|_| {
                damper.withdrawn(&RULES, now);
                let waited = rise(&mut damper, now);
                now = now.after(waited);
                waited.as_secs()
            })
            .collect();

        assert_eq!(waits, [0, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn a_stable_time_is_forgiven() {
        let mut damper = Damper::default();
        for _ in 0..4 {
            damper.withdrawn(&RULES, Moment(0));
        }
        damper.announced(Moment(10_000));

        damper.withdrawn(&RULES, Moment(70_000));

        assert_eq!(rise(&mut damper, Moment(70_000)), Duration::ZERO);
    }

    #[test]
    fn a_fall_that_is_not_wanted_for_long_enough_does_not_happen() {
        let rules = Hysteresis { fall: Duration::from_secs(1), ..RULES };
        let mut damper = Damper::default();

        assert_eq!(damper.fall(&rules, Moment(5000)), Err(Moment(6000)));
        damper.agree();
        assert_eq!(damper.fall(&rules, Moment(6000)), Err(Moment(7000)));
        assert_eq!(damper.fall(&rules, Moment(7000)), Ok(()));
    }
}
