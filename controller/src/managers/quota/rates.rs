//! [`Rates`]: how fast requests come, and whether one more is too fast.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): each request pays for itself with its share
//! of a second, and nobody may be further ahead of the clock than one second. So a container that was
//! quiet may do a second's worth at once, and goes on at its rate.
//!
//! Pure: who asks says what time it is. Invariants: a request takes of all that it counts for, or of
//! none; what has caught up with the clock need not be remembered.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::meters::TypeId;

/// How far everybody is ahead.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// When what was let through is paid for.
    paid: HashMap<Counter, Instant, RandomState>,
    /// How many are remembered before those that have caught up are looked for.
    looks_at: usize,
}

/// One thing in one container.
type Counter = (Arc<str>, TypeId);

/// What a request counts for, and how many of it there may be a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) counter: Counter,
    pub(super) per_second: u64,
}

/// How far ahead of the clock anybody may be.
const WINDOW: Duration = Duration::from_secs(1);
const LOOKS_FROM: usize = 1024;

impl Rates {
    /// Lets a request through.
    ///
    /// # Errors
    /// The first of `asks` that there were too many of, and when to come back.
    pub(super) fn take<'a>(
        &mut self,
        asks: &'a [Ask],
        now: Instant,
    ) -> Result<(), (&'a Ask, Duration)> {
        let mut dues = Vec::with_capacity(asks.len());
        for ask in asks {
            let Some(share) = share(ask.per_second) else { return Err((ask, WINDOW)) };
            let due = self.due(&ask.counter, now) + share;
            let ahead = due.saturating_duration_since(now);
            if let Some(wait) = ahead.checked_sub(WINDOW).filter(|wait| !wait.is_zero()) {
                return Err((ask, wait));
            }
            dues.push(due);
        }
        for (ask, due) in asks.iter().zip(dues) {
            self.paid.insert(ask.counter.clone(), due);
        }
        if self.paid.len() > self.looks_at.max(LOOKS_FROM) {
            self.paid.retain(|_, paid| *paid > now);
            self.looks_at = self.paid.len().saturating_mul(2);
        }
        Ok(())
    }

    fn due(&self, counter: &Counter, now: Instant) -> Instant {
        self.paid.get(counter).map_or(now, |paid| now.max(*paid))
    }
}

/// What of a second one of so many is; none where there are to be none.
fn share(per_second: u64) -> Option<Duration> {
    let nanos = WINDOW.as_nanos().checked_div(u128::from(per_second))?;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(container: &str, per_second: u64) -> Ask {
        Ask { counter: (container.into(), TypeId::default()), per_second }
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_the_rest_at_its_rate() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let mut passed = |at: u64| {
            let now = start + Duration::from_millis(at);
            (0..100).take_while(|_| rates.take(&[ask("acme", 10)], now).is_ok()).count()
        };
        assert_eq!(
            (passed(0), passed(99), passed(100), passed(1100), passed(9000)),
            (10, 0, 1, 10, 10)
        );
    }

    #[test]
    fn who_came_too_soon_is_told_when_to_come_back_and_then_passes() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        let asks = [ask("acme", 4)];
        for _ in 0..4 {
            assert_eq!(rates.take(&asks, now), Ok(()));
        }
        assert_eq!(rates.take(&asks, now), Err((&asks[0], Duration::from_millis(250))));
        assert_eq!(rates.take(&asks, now + Duration::from_millis(250)), Ok(()));
        let none = [ask("none", 0)];
        assert_eq!(rates.take(&none, now), Err((&none[0], WINDOW)));
    }

    #[test]
    fn what_one_refuses_costs_the_others_nothing() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        let both = [ask("project", 3), ask("organization", 1)];
        assert_eq!(rates.take(&both, now), Ok(()));
        for _ in 0..9 {
            assert_eq!(rates.take(&both, now), Err((&both[1], WINDOW)));
        }
        let project = || rates.take(&both[..1], now).is_ok();
        assert_eq!(std::iter::repeat_with(project).take(9).filter(|passed| *passed).count(), 2);
    }

    #[test]
    fn who_has_been_quiet_is_forgotten() {
        let (mut rates, mut now) = (Rates::default(), Instant::now());
        for container in 0..50_000_u32 {
            rates.take(&[ask(&container.to_string(), 1000)], now).expect("it has done nothing yet");
            now += Duration::from_micros(100);
        }
        assert!(rates.paid.len() <= LOOKS_FROM + 1, "{}", rates.paid.len());
    }

    proptest! {
        /// In any stretch of time no more pass than its rate lets, and a second's worth.
        #[test]
        fn no_more_pass_than_may(
            per_second in 1_u64..2000,
            gaps in prop::collection::vec(0_u64..5_000_000, 1..400),
        ) {
            let (mut rates, start) = (Rates::default(), Instant::now());
            let mut now = start;
            let mut passed = 0_u128;
            for gap in gaps {
                now += Duration::from_nanos(gap);
                passed += u128::from(rates.take(&[ask("acme", per_second)], now).is_ok());
                let share = 1_000_000_000 / u128::from(per_second);
                let most = (now - start + WINDOW).as_nanos() / share;
                prop_assert!(passed <= most, "{passed} of {most}");
            }
        }
    }
}
