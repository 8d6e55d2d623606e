//! [`Checker`]: when to probe next, and when an opinion changes.
//!
//! | verdict | success | failure |
//! |---|---|---|
//! | unknown | `rise` in a row: healthy | `fall` in a row: unhealthy |
//! | healthy | forget failures | `fall` in a row: unhealthy |
//! | unhealthy | `rise` in a row: healthy | forget successes |
//!
//! While an opinion is being formed or contradicted, probes go at the fast interval: a dead
//! backend is found after one ordinary interval and `fall` − 1 fast ones.

use std::time::{Duration, Instant};

/// The numbers of a health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between probes while the verdict stands.
    pub interval: Duration,
    /// Between probes while it is formed or contradicted.
    pub fast_interval: Duration,
    /// Successes in a row that make healthy.
    pub rise: u32,
    /// Failures in a row that make unhealthy.
    pub fall: u32,
}

/// What is believed of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `rise` probes in a row passed.
    Healthy,
    /// `fall` probes in a row failed.
    Unhealthy,
    /// Too few probes so far.
    Unknown,
}

/// The opinion on one target.
#[derive(Clone, Debug)]
pub struct Checker {
    pace: Pace,
    verdict: Verdict,
    /// Outcome of the latest probes, and how many in a row had it.
    streak: Option<(Outcome, u32)>,
    due: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Failed,
    Passed,
}

// === impl Checker ===

impl Checker {
    /// A target of which nothing is known; its first probe is due `now`.
    #[must_use]
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, verdict: Verdict::Unknown, streak: None, due: now }
    }

    /// When the next probe should start.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.due
    }

    /// What is believed now.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Takes the outcome of a probe that started at `started`; returns the verdict if it changed.
    pub fn on_outcome(&mut self, started: Instant, passed: bool) -> Option<Verdict> {
        let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
        let run = match self.streak {
            Some((last, run)) if last == outcome => run.saturating_add(1),
            _ => 1,
        };
        self.streak = Some((outcome, run));
        let reached = match outcome {
            Outcome::Passed if run >= self.pace.rise => Verdict::Healthy,
            Outcome::Failed if run >= self.pace.fall => Verdict::Unhealthy,
            Outcome::Passed | Outcome::Failed => self.verdict,
        };
        let changed = reached != self.verdict;
        self.verdict = reached;
        let settled = matches!(
            (self.verdict, outcome),
            (Verdict::Healthy, Outcome::Passed) | (Verdict::Unhealthy, Outcome::Failed)
        );
        self.due = started + if settled { self.pace.interval } else { self.pace.fast_interval };
        changed.then_some(reached)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACE: Pace = Pace {
        interval: Duration::from_millis(500),
        fast_interval: Duration::from_millis(100),
        rise: 2,
        fall: 3,
    };

    #[test]
    fn one_lost_probe_changes_nothing_but_is_followed_up_fast() {
        let now = Instant::now();
        let mut checker = Checker::new(PACE, now);
        checker.on_outcome(now, true);
        assert_eq!(checker.on_outcome(now, true), Some(Verdict::Healthy));
        assert_eq!(checker.due(), now + PACE.interval);

        assert_eq!(checker.on_outcome(now, false), None);

        assert_eq!(checker.verdict(), Verdict::Healthy);
        assert_eq!(checker.due(), now + PACE.fast_interval);
    }

    #[test]
    fn a_new_target_is_probed_fast_until_there_is_a_verdict() {
        let now = Instant::now();
        let mut checker = Checker::new(PACE, now);

        checker.on_outcome(now, true);

        assert_eq!(checker.due(), now + PACE.fast_interval);
    }

    proptest! {
        /// The verdict always follows from the latest unbroken run alone.
        #[test]
        fn verdicts_follow_runs(outcomes in prop::collection::vec(any::<bool>(), 1..200)) {
            let now = Instant::now();
            let mut checker = Checker::new(PACE, now);
            let (mut run, mut last, mut expected) = (0, None, Verdict::Unknown);
            for passed in outcomes {
                run = if last == Some(passed) { run + 1 } else { 1 };
                last = Some(passed);
                if passed && run >= PACE.rise { expected = Verdict::Healthy; }
                if !passed && run >= PACE.fall { expected = Verdict::Unhealthy; }

                checker.on_outcome(now, passed);

                prop_assert_eq!(checker.verdict(), expected);
            }
        }
    }
}
