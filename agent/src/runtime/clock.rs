//! The agent's one reading of the wall clock, and what waits by it.

use std::{
    sync::LazyLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use isocast_bgp::origination::Moment;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::steer::UnixMs;

/// Between two looks after the gate-keepers.
const LOOK: Duration = Duration::from_secs(1);

/// The agent's one reading of the wall clock: deadlines have to survive a restart. It is read once:
/// a clock that is set while the agent runs must not end leases nor stretch waits.
pub(super) fn now() -> UnixMs {
    static START: LazyLock<(Instant, UnixMs)> = LazyLock::new(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Instant::now(), UnixMs(0).after(since_epoch))
    });
    START.1.after(START.0.elapsed())
}

/// The same, as the interlocks count it.
pub(super) fn moment() -> Moment {
    Moment(now().0)
}

/// Waits until then; for ever, if there is no such time.
pub(super) async fn sleep_until(at: Option<UnixMs>) {
    match at {
        Some(at) => tokio::time::sleep(Duration::from_millis(at.0.saturating_sub(now().0))).await,
        None => std::future::pending().await,
    }
}

/// When to look after the gate-keepers.
pub(super) fn looks() -> Interval {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}
