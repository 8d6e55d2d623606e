//! Waits between attempts: doubling, jittered, and short again after a stable session.
//!
//! The jitter comes from a seed, so that a run can be repeated, and so that the edges of a
//! datacenter, each with its own seed, do not knock at a returning router all at once.

use std::time::Duration;

use crate::limits::{CONNECT_RETRY_MIN, STABLE_AFTER};

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    next: Duration,
    jitter: Jitter,
}

/// A small deterministic generator (SplitMix64); good enough to spread timers.
#[derive(Clone, Debug)]
pub(super) struct Jitter {
    state: u64,
}

impl Backoff {
    /// The shortest wait comes first.
    #[must_use]
    pub(super) const fn new(seed: u64) -> Self {
        Self { next: CONNECT_RETRY_MIN, jitter: Jitter { state: seed } }
    }

    /// The wait before the next attempt, after a session that lasted `lasted` (zero: none came up);
    /// `most` at most.
    pub(super) fn after(&mut self, lasted: Duration, most: Duration) -> Duration {
        if lasted >= STABLE_AFTER {
            self.next = CONNECT_RETRY_MIN;
        }
        let nominal = self.next.min(most);
        let wait = self.jitter.spread(nominal);
        self.next = nominal.saturating_mul(2).min(most);
        wait
    }

    /// A period with the jitter of RFC 4271 §10: between three quarters and all of it.
    pub(super) fn spread(&mut self, period: Duration) -> Duration {
        self.jitter.spread(period)
    }
}

impl Jitter {
    fn spread(&mut self, period: Duration) -> Duration {
        let quarter = period.checked_div(4).unwrap_or_default();
        let parts = u32::from(self.next_u16());
        let share = quarter.saturating_mul(parts).checked_div(u32::from(u16::MAX));
        period.saturating_sub(share.unwrap_or_default())
    }

    fn next_u16(&mut self) -> u16 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [high, low, ..] = (z ^ (z >> 31)).to_be_bytes();
        u16::from_be_bytes([high, low])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{CONNECT_RETRY_MAX, CONNECT_RETRY_MOST};

    #[test]
    fn waits_double_up_to_the_longest_and_stay_within_their_jitter() {
        for most in [CONNECT_RETRY_MAX, Duration::from_secs(1), CONNECT_RETRY_MOST] {
            let mut backoff = Backoff::new(7);
            let mut nominal = CONNECT_RETRY_MIN;
            for _ in 0..16 {
                let wait = backoff.after(Duration::ZERO, most);
                assert!(
                    wait <= nominal && wait >= nominal.mul_f32(0.74),
                    "{wait:?} of {nominal:?}"
                );
                nominal = (nominal * 2).min(most);
            }
            // Live: what is configured shorter counts at once.
            assert!(
                backoff.after(Duration::ZERO, Duration::from_secs(1)) <= Duration::from_secs(1)
            );
        }
    }

    #[test]
    fn a_stable_session_starts_over_and_a_short_one_does_not() {
        let mut backoff = Backoff::new(7);
        for _ in 0..5 {
            backoff.after(Duration::ZERO, CONNECT_RETRY_MAX);
        }
        let after = |lasted| backoff.clone().after(lasted, CONNECT_RETRY_MAX);

        assert!(after(STABLE_AFTER - Duration::from_millis(1)) > CONNECT_RETRY_MIN);
        assert!(after(STABLE_AFTER) <= CONNECT_RETRY_MIN);
    }

    #[test]
    fn another_seed_spreads_differently() {
        let wait = |seed| Backoff::new(seed).after(Duration::ZERO, CONNECT_RETRY_MAX);

        assert_eq!(wait(1), wait(1));
        assert_ne!(wait(1), wait(2));
    }
}
