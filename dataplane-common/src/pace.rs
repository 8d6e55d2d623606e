//! How often something may happen: the generic cell rate algorithm (ITU-T I.371, Annex A).
//!
//! One word of state says until when the past has used up its share; it may lie in the future by
//! a burst. The same as a token bucket, without a count to refill.

/// A rate and a burst.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    interval_ns: u64,
    ahead_ns: u64,
}

impl Pace {
    /// `per_second` events, and up to `burst` of them at once; neither is 0.
    #[must_use]
    pub const fn new(per_second: u64, burst: u64) -> Self {
        let interval_ns = 1_000_000_000 / per_second;
        Self { interval_ns, ahead_ns: interval_ns * (burst - 1) }
    }

    /// The state after an event at `now_ns`, or nothing if it may not happen.
    #[inline(always)]
    #[must_use]
    pub const fn admit(self, used_until_ns: u64, now_ns: u64) -> Option<u64> {
        if used_until_ns > now_ns + self.ahead_ns {
            return None;
        }
        let start = if used_until_ns > now_ns { used_until_ns } else { now_ns };
        Some(start + self.interval_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// How many of `tries` events at `now` happen.
    fn happen(state: &mut u64, now: u64, tries: usize) -> usize {
        let pace = Pace::new(10, 3);
        let admit = |_: &usize| match pace.admit(*state, now) {
            Some(next) => {
                *state = next;
                true
            }
            None => false,
        };
        (0..tries).filter(admit).count()
    }

    #[test]
    fn burst_is_admitted_and_one_more_is_not() {
        let mut state = 0;
        assert_eq!(happen(&mut state, SECOND, 10), 3);
    }

    #[test]
    fn share_comes_back_with_time_up_to_the_burst() {
        let mut state = 0;
        happen(&mut state, SECOND, 3);

        assert_eq!(happen(&mut state, SECOND + SECOND / 10, 10), 1);
        assert_eq!(happen(&mut state, 60 * SECOND, 10), 3);
    }

    #[test]
    fn long_run_keeps_the_rate() {
        let mut state = 0;
        let happened: usize =
            (0..1000).map(|tick| happen(&mut state, SECOND + tick * SECOND / 100, 5)).sum();
        assert!((100..=103).contains(&happened), "{happened} in ten seconds");
    }
}
