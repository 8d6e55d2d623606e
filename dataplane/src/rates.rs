//! How a ceiling is divided over the cores, and when new flows have to prove their address.
//!
//! Pure decisions; [`crate::ceilings`] carries them out every [`INTERVAL`]. A core cannot borrow
//! from another within an interval, so what is idle keeps a little to begin with and what is busy
//! gets nearly all. Shares never add up to more than the ceiling. Bursts come on top, once, however
//! long it goes on: at most a fifth of a second's worth, and a packet for each core.

use std::time::Duration;

use isocast_dataplane_common::policy::{Rate, TOKEN};

/// Between two divisions.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Of the ceiling, one part in this many is shared out equally, used or not.
const RESERVE: u64 = 32;
/// The time that a burst is worth.
const BURST: Duration = Duration::from_millis(100);

/// Recent use of one ceiling, core by core.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Tokens asked for in an interval, smoothed, in 1/1024.
    smoothed: Vec<u64>,
}

impl Demand {
    /// Takes in what was asked for in one more interval.
    pub(crate) fn record(&mut self, asked: &[u64]) {
        self.smoothed.resize(asked.len(), 0);
        for (smoothed, asked) in self.smoothed.iter_mut().zip(asked) {
            let new = asked.saturating_mul(1024) / 2;
            *smoothed = (*smoothed / 2).saturating_add(new);
        }
    }

    pub(crate) fn per_core(&self) -> &[u64] {
        &self.smoothed
    }
}

/// Each core's share of `per_second`. Cores without demand have the reserve alone; where nobody has
/// any, all are equal.
pub(crate) fn divide(per_second: u32, demand: &[u64], tick: Duration) -> Vec<Rate> {
    let Ok(cores) = u64::try_from(demand.len()) else { return Vec::new() };
    if cores == 0 {
        return Vec::new();
    }
    let per_tick = per_tick(per_second, tick);
    let sum: u128 = demand.iter().map(|it| u128::from(*it)).sum();
    let (reserve, rest) = if sum == 0 {
        (per_tick / cores, 0)
    } else {
        let reserve = per_tick / RESERVE / cores;
        (reserve, per_tick.saturating_sub(reserve.saturating_mul(cores)))
    };
    let equal = burst(per_tick / cores, tick);
    let share = |demand: &u64| {
        let part = (u128::from(rest) * u128::from(*demand)).checked_div(sum).unwrap_or_default();
        let per_tick = reserve.saturating_add(u64::try_from(part).unwrap_or_default());
        Rate { per_tick, burst: burst(per_tick, tick).max(equal) }
    };
    demand.iter().map(share).collect()
}

/// How many of so many a second are one tick's; one at least.
pub(crate) fn in_a_tick(per_second: u32, tick: Duration) -> u32 {
    let nanos = u128::from(per_second) * tick.as_nanos();
    let count = nanos / Duration::from_secs(1).as_nanos();
    u32::try_from(count).unwrap_or(u32::MAX).max(1)
}

/// A ceiling per tick, in tokens of [`TOKEN`]; rounded down.
fn per_tick(per_second: u32, tick: Duration) -> u64 {
    let tokens = u128::from(per_second) * u128::from(TOKEN) * tick.as_nanos();
    u64::try_from(tokens / Duration::from_secs(1).as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Worth [`BURST`] of a share, and a packet at least.
fn burst(per_tick: u64, tick: Duration) -> u64 {
    let ticks = BURST.as_nanos() / tick.as_nanos().max(1);
    let tokens = u128::from(per_tick) * ticks;
    u64::try_from(tokens).unwrap_or(u64::MAX / 2).max(TOKEN)
}

/// Decides when every new flow of a service has to prove its address.
///
/// It begins when more than the ceiling is asked for, and ends when less than half of it was for
/// [`CALM`]: a flood that comes and goes finds it in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arming {
    armed: bool,
    /// How long there has been little demand.
    calm: Duration,
}

/// Little demand for so long, and it is over.
const CALM: Duration = Duration::from_secs(10);

impl Arming {
    /// Takes in how many new flows one more interval had; says whether it is in force.
    pub(crate) fn record(&mut self, asked: u64, per_second: u32, elapsed: Duration) -> bool {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = asked.saturating_mul(1000) / millis;
        let ceiling = u64::from(per_second);
        if rate > ceiling {
            *self = Self { armed: true, calm: Duration::ZERO };
        } else if rate >= ceiling.div_ceil(2) {
            self.calm = Duration::ZERO;
        } else {
            self.calm = self.calm.saturating_add(elapsed);
            self.armed &= self.calm < CALM;
        }
        self.armed
    }
}

#[cfg(test)]
mod tests {
    use isocast_dataplane_common::policy::Level;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tick_has_its_part_of_a_second_and_one_at_least() {
        let parts = [(100_000, 4, 400), (100_000, 10, 1000), (1, 4, 1), (0, 4, 1)];
        for (per_second, millis, part) in parts {
            assert_eq!(in_a_tick(per_second, Duration::from_millis(millis)), part);
        }
    }

    const TICKS: [Duration; 3] =
        [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(10)];

    /// What a node may take beyond its ceiling, once: the bursts.
    fn slack(per_second: u32, cores: usize) -> u64 {
        u64::from(per_second) / 5 + cores as u64 + 1
    }

    fn sum(rates: &[Rate]) -> u128 {
        rates.iter().map(|rate| u128::from(rate.per_tick)).sum()
    }

    #[test]
    fn one_busy_core_gets_nearly_all() {
        let tick = Duration::from_millis(1);
        let rates = divide(100_000, &[1000, 0, 0, 0], tick);

        let packets = |rate: &Rate| rate.per_tick * 1000 / TOKEN;
        assert_eq!(rates.iter().map(packets).collect::<Vec<_>>(), [97_656, 781, 781, 781]);
    }

    #[test]
    fn one_flow_a_second_is_let_in_on_any_of_many_cores() {
        let rates = divide(1, &[0; 64], Duration::from_millis(1));

        assert!(rates.iter().all(|rate| rate.per_tick > 0 && rate.burst == TOKEN));
    }

    #[test]
    fn demand_that_ended_is_forgotten() {
        let mut demand = Demand::default();
        demand.record(&[1_000_000, 0]);
        for _ in 0..40 {
            demand.record(&[0, 0]);
        }
        assert_eq!(demand.per_core(), [0, 0]);
    }

    #[test]
    fn cookies_begin_at_the_ceiling_and_end_long_after_the_flood() {
        let mut arming = Arming::default();
        let mut hear = |asked| arming.record(asked, 1000, INTERVAL);
        let calm = CALM.as_millis() / INTERVAL.as_millis();

        assert!(!hear(100));
        assert!(hear(101));
        for _ in 0..1000 {
            assert!(hear(50), "demand near the ceiling keeps them in force");
        }
        for _ in 0..calm - 1 {
            assert!(hear(49));
        }
        assert!(hear(50));
        for _ in 0..calm - 1 {
            assert!(hear(0));
        }
        assert!(!hear(0));
    }

    proptest! {
        #[test]
        fn shares_never_exceed_the_ceiling_and_leave_nobody_without(
            per_second in 1_u32..,
            demand in prop::collection::vec(0_u64..1 << 40, 1..256),
            tick in prop::sample::select(TICKS.to_vec()),
        ) {
            let rates = divide(per_second, &demand, tick);

            let total = per_tick(per_second, tick);
            prop_assert_eq!(rates.len(), demand.len());
            prop_assert!(sum(&rates) <= u128::from(total));
            // Rounding takes less than a fraction of a token from each core.
            prop_assert!(sum(&rates) + 2 * rates.len() as u128 >= u128::from(total));
            let reserve = total / RESERVE / rates.len() as u64;
            prop_assert!(rates.iter().all(|rate| rate.per_tick >= reserve && rate.burst >= TOKEN));
        }

        #[test]
        fn busier_core_never_gets_less(
            per_second in 1_u32..,
            mut demand in prop::collection::vec(0_u64..1 << 40, 1..64),
        ) {
            demand.sort_unstable();
            let rates = divide(per_second, &demand, Duration::from_millis(1));

            prop_assert!(rates.is_sorted_by_key(|rate| rate.per_tick));
        }

        /// The program's own buckets, with demand that moves between cores as it likes.
        #[test]
        fn node_takes_no_more_than_the_ceiling_and_its_slack(
            per_second in 1_u32..20_000,
            moves in prop::collection::vec(prop::collection::vec(0_u64..400, 4), 1..30),
        ) {
            let tick = Duration::from_millis(10);
            let mut demand = Demand::default();
            let mut levels = [Level::default(); 4];
            let mut granted = 0_u64;
            let mut now = 1_u64 << 32;
            for asked in &moves {
                let rates = divide(per_second, demand.per_core().get(..4).unwrap_or(&[0; 4]), tick);
                for _ in 0..10 {
                    now += 1;
                    for ((level, rate), asked) in levels.iter_mut().zip(&rates).zip(asked) {
                        granted += (0..*asked).filter(|_| level.take(rate, now)).count() as u64;
                    }
                }
                let asked: Vec<_> = asked.iter().map(|asked| asked * 10).collect();
                demand.record(&asked);
            }
            let intervals = moves.len() as u64;
            let allowed = u64::from(per_second) * intervals / 10 + slack(per_second, 4);
            prop_assert!(granted <= allowed, "{granted} of {allowed}");
        }
    }
}
