//! [`Drain`]: how a prefix is taken away without losing a flow.
//!
//! | stage | the prefix is | ends |
//! |---|---|---|
//! | signalled | announced with GRACEFUL_SHUTDOWN (RFC 8326 §4.1) | after the wait, or once traffic is quiet |
//! | withdrawn | withdrawn, its flows still served | once routers had time, or traffic is quiet |
//! | drained | withdrawn; what served it may stop | – |
//!
//! It never goes back: to cancel a drain is to forget it, and the prefix is announced plainly again.
//! Whoever keeps the state over a restart resumes it with the wait it has left.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Moment;

/// Peers need this long to see that a route is going before quiet traffic means anything.
const SIGNAL_MIN: Duration = Duration::from_secs(1);
/// Routers need this long to send nothing more after a withdrawal.
const LINGER: Duration = Duration::from_secs(5);

/// The state of one drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Drain {
    stage: Stage,
    since: Moment,
}

/// How far a drain has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum Stage {
    /// Peers are told that the route is going.
    Signalled,
    /// The route is withdrawn.
    Withdrawn,
    /// What stood behind it may stop.
    Drained,
}

/// What still arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// More than a trickle.
    Busy,
    /// Next to nothing.
    Quiet,
    /// Nobody looked.
    Unknown,
}

impl Drain {
    /// A drain that begins now.
    #[must_use]
    pub const fn begin(now: Moment) -> Self {
        Self { stage: Stage::Signalled, since: now }
    }

    /// How far it has come.
    #[must_use]
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Since when it is in this stage.
    #[must_use]
    pub const fn since(&self) -> Moment {
        self.since
    }

    /// The drain a moment later. `announced` says whether any of its prefixes still is: one that is
    /// held is not drained, however long it takes.
    #[must_use]
    pub fn step(self, now: Moment, wait: Duration, traffic: Traffic, announced: bool) -> Self {
        // A clock that was set back must not stretch the wait.
        let since = self.since.min(now);
        let waited = now.since(since);
        let is_quiet = traffic == Traffic::Quiet;
        let is_over = match self.stage {
            Stage::Signalled => waited >= wait || (is_quiet && waited >= SIGNAL_MIN),
            Stage::Withdrawn => !announced && (waited >= LINGER || is_quiet),
            Stage::Drained => false,
        };
        match self.stage {
            Stage::Signalled if is_over => Self { stage: Stage::Withdrawn, since: now },
            Stage::Withdrawn if is_over => Self { stage: Stage::Drained, since: now },
            // Held after all, or announced by another service: its time starts when it is gone.
            Stage::Withdrawn if announced => Self { stage: Stage::Withdrawn, since: now },
            stage => Self { stage, since },
        }
    }

    /// When it goes on at the latest.
    #[must_use]
    pub fn wake_at(&self, wait: Duration) -> Option<Moment> {
        match self.stage {
            Stage::Signalled => Some(self.since.after(wait)),
            Stage::Withdrawn => Some(self.since.after(LINGER)),
            Stage::Drained => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAIT: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Moment {
        Moment(seconds.saturating_mul(1000))
    }

    #[test]
    fn busy_prefixes_are_signalled_for_the_whole_wait_then_withdrawn_then_drained() {
        let drain = Drain::begin(at(0));

        let early = drain.step(at(29), WAIT, Traffic::Busy, true);
        let due = early.step(at(30), WAIT, Traffic::Busy, true);
        let gone = due.step(at(31), WAIT, Traffic::Busy, false);
        let done = gone.step(at(36), WAIT, Traffic::Busy, false);

        assert_eq!(early.wake_at(WAIT), Some(at(30)));
        let stages = [early, due, gone, done].map(|drain| drain.stage());
        assert_eq!(stages, [Stage::Signalled, Stage::Withdrawn, Stage::Withdrawn, Stage::Drained]);
        assert_eq!(done.wake_at(WAIT), None);
    }

    #[test]
    fn quiet_prefixes_do_not_wait_once_peers_have_been_told() {
        let drain = Drain::begin(at(0));

        assert_eq!(drain.step(Moment(999), WAIT, Traffic::Quiet, true).stage(), Stage::Signalled);
        let gone = drain.step(at(1), WAIT, Traffic::Quiet, true);

        assert_eq!(gone.stage(), Stage::Withdrawn);
        assert_eq!(gone.step(at(2), WAIT, Traffic::Quiet, false).stage(), Stage::Drained);
    }

    #[test]
    fn what_is_still_announced_is_not_drained() {
        let drain = Drain::begin(at(0)).step(at(30), WAIT, Traffic::Unknown, true);

        let held = drain.step(at(1000), WAIT, Traffic::Quiet, true);

        assert_eq!(held.stage(), Stage::Withdrawn);
        assert_eq!(held.step(at(1001), WAIT, Traffic::Busy, false).stage(), Stage::Withdrawn);
        assert_eq!(held.step(at(1005), WAIT, Traffic::Busy, false).stage(), Stage::Drained);
    }

    #[test]
    fn a_drain_resumed_from_the_future_waits_no_longer_than_its_wait() {
        let drain = Drain::begin(at(1_000_000)).step(at(0), WAIT, Traffic::Busy, true);

        assert_eq!(drain.step(at(30), WAIT, Traffic::Busy, true).stage(), Stage::Withdrawn);
    }

    proptest! {
        /// Whatever happens, stages only advance, and nothing is withdrawn before peers were told.
        #[test]
        fn stages_only_advance(steps in prop::collection::vec((0_u64..40_000, 0..3_u8, any::<bool>()), 1..50)) {
            let mut drain = Drain::begin(Moment(0));
            let mut now = Moment(0);
            for (millis, traffic, announced) in steps {
                now = now.after(Duration::from_millis(millis));
                let traffic = [Traffic::Busy, Traffic::Quiet, Traffic::Unknown][usize::from(traffic)];

                let next = drain.step(now, WAIT, traffic, announced);

                prop_assert!(next.stage() >= drain.stage());
                prop_assert!(next.stage() == Stage::Signalled || now >= Moment(0).after(SIGNAL_MIN));
                drain = next;
            }
        }
    }
}
