//! [`Backoff`]: how long to wait before the next attempt to reach the controller.
//!
//! Full jitter, so that five hundred agents that lost one controller do not return as one wave.
//! Sans-IO: takes a random number, returns a duration.

use std::time::Duration;

/// Delays between attempts: uniform in `0..min(cap, 200 ms × 2^attempts)`.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
    slow: bool,
}

impl Backoff {
    /// The delay before the next attempt; `random` is uniform in `0.0..1.0`.
    pub(super) fn next(&mut self, random: f64) -> Duration {
        let cap = if self.slow { CAP_SLOW } else { CAP };
        let ceiling = FIRST.saturating_mul(2_u32.saturating_pow(self.attempts)).min(cap);
        self.attempts = self.attempts.saturating_add(1);
        ceiling.mul_f64(random.clamp(0.0, 1.0))
    }

    /// The server has no room: from here to the next stable connection attempts are rare.
    pub(super) fn slow_down(&mut self) {
        self.slow = true;
        self.attempts = u32::MAX;
    }

    /// A connection proved stable.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

const FIRST: Duration = Duration::from_millis(200);

const CAP: Duration = Duration::from_secs(3);

const CAP_SLOW: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn ceilings(backoff: &mut Backoff, count: usize) -> Vec<u128> {
        (0..count).map(|_| backoff.next(1.0).as_millis()).collect()
    }

    #[test]
    fn delays_double_up_to_the_cap_and_start_over_after_a_stable_connection() {
        let mut backoff = Backoff::default();

        assert_eq!(ceilings(&mut backoff, 7), [200, 400, 800, 1600, 3000, 3000, 3000]);

        backoff.reset();
        assert_eq!(ceilings(&mut backoff, 1), [200]);
    }

    #[test]
    fn a_server_without_room_raises_the_cap() {
        let mut backoff = Backoff::default();

        backoff.slow_down();

        assert_eq!(ceilings(&mut backoff, 2), [30_000, 30_000]);
    }

    #[test]
    fn the_whole_range_below_the_ceiling_is_used() {
        assert_eq!(Backoff::default().next(0.0), Duration::ZERO);
        assert_eq!(Backoff::default().next(0.5), Duration::from_millis(100));
    }
}
