//! What is kept of a peer that is away or sends anew, and until when.
//!
//! A family whose routes are stale is in one of the states of `Kept`; every one of them has an
//! end, so that no peer can make us hold routes for ever:
//!
//! ```text
//!            session lost                restart time over, long-lived agreed
//! (nothing) ─────────────▶ Restarting ───────────────────────────────────────▶ LongLived
//!     │ BoRR                   │ back, F bit set                                  │
//!     ▼                        ▼                                                  │
//! Refreshing                Returned ◀────────────────────────────────────────────┘
//!     │ EoRR, or too late      │ End-of-RIB, or too late
//!     └────────────────────────┴──────────▶ stale routes go
//! ```
//! RFC 4724 §4.2, RFC 7313 §4, RFC 9494 §4.

use std::time::{Duration, Instant};

use super::config::HelperConfig;
use super::negotiated::Negotiated;
use super::routes::Routes;
use crate::limits::REFRESH_TIME;
use crate::types::{Family, FamilySet, PerFamily};
use crate::wire::capability::Forwarding;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Helper {
    families: PerFamily<Option<Kept>>,
}

/// Why routes of a family are stale, and until when they stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// The session is lost, the peer is expected back.
    Restarting { until: Instant, long_lived: Duration },
    /// The peer is away for longer than it said; its routes are a last resort.
    LongLived { until: Instant },
    /// The peer is back and sends its routes again.
    Returned { until: Instant },
    /// The peer refreshes a family of a session that is up.
    Refreshing { until: Instant },
}

impl Kept {
    const fn until(self) -> Instant {
        match self {
            Self::Restarting { until, .. }
            | Self::LongLived { until }
            | Self::Returned { until }
            | Self::Refreshing { until } => until,
        }
    }
}

impl Helper {
    /// When the first state ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        Family::ALL.into_iter().filter_map(|f| self.families.get(f).map(Kept::until)).min()
    }

    /// Families with stale routes.
    pub(super) fn stale(&self) -> FamilySet {
        Family::ALL.into_iter().filter(|family| self.families.get(*family).is_some()).collect()
    }

    /// A session is lost. With a `policy` the peer is taken to restart, as far as it said that it
    /// might; without one its routes go.
    pub(super) fn lost(
        &mut self,
        now: Instant,
        policy: Option<&HelperConfig>,
        terms: &Negotiated,
        routes: &mut impl Routes,
    ) {
        // RFC 4724 §4.2: what was stale already does not outlive a second restart.
        self.give_up(routes);
        for family in terms.codec.families.iter() {
            *self.families.get_mut(family) = policy.and_then(|p| restarting(now, p, terms, family));
        }
        routes.down(self.stale());
        self.tick(now, routes);
    }

    /// A session is up: families that did not forward meanwhile, or are no longer there, go.
    pub(super) fn returned(
        &mut self,
        now: Instant,
        policy: Option<&HelperConfig>,
        terms: &Negotiated,
        routes: &mut impl Routes,
    ) {
        for family in self.stale().iter() {
            let kept = self.families.get_mut(family);
            let forwarding = match kept {
                Some(Kept::LongLived { .. }) => terms
                    .peer_long_lived
                    .and_then(|l| l.families.get(family).map(|of_family| of_family.forwarding)),
                _ => terms.peer_restart.and_then(|restart| *restart.families.get(family)),
            };
            let preserved = forwarding == Some(Forwarding::Preserved);
            let until = policy.and_then(|policy| now.checked_add(policy.stale_time_max));
            *kept = until
                .filter(|_| preserved && terms.codec.families.contains(family))
                .map(|until| Kept::Returned { until });
            if kept.is_none() {
                routes.drop_stale(family);
            }
        }
    }

    /// The peer begins to send a family again (BoRR).
    pub(super) fn refreshing(&mut self, now: Instant, family: Family, routes: &mut impl Routes) {
        if let Some(until) = now.checked_add(REFRESH_TIME) {
            *self.families.get_mut(family) = Some(Kept::Refreshing { until });
            routes.mark_stale(family);
        }
    }

    /// The peer has sent the family again (EoRR); without a beginning it means nothing.
    pub(super) fn refreshed(&mut self, family: Family, routes: &mut impl Routes) {
        if matches!(self.families.get(family), Some(Kept::Refreshing { .. })) {
            self.drop(family, routes);
        }
    }

    /// The peer has sent all its routes (End-of-RIB).
    pub(super) fn completed(&mut self, family: Family, routes: &mut impl Routes) {
        if matches!(self.families.get(family), Some(Kept::Returned { .. })) {
            self.drop(family, routes);
        }
    }

    /// Nothing stale is to stay.
    pub(super) fn give_up(&mut self, routes: &mut impl Routes) {
        for family in self.stale().iter() {
            self.drop(family, routes);
        }
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Instant, routes: &mut impl Routes) {
        for family in Family::ALL {
            let kept = self.families.get_mut(family);
            let Some(expired) = kept.filter(|kept| kept.until() <= now) else { continue };
            match expired {
                Kept::Restarting { long_lived, .. } if !long_lived.is_zero() => {
                    *kept = now.checked_add(long_lived).map(|until| Kept::LongLived { until });
                    routes.retain_long_lived(family);
                }
                _ => self.drop(family, routes),
            }
        }
    }

    fn drop(&mut self, family: Family, routes: &mut impl Routes) {
        *self.families.get_mut(family) = None;
        routes.drop_stale(family);
    }
}

/// How a family is kept whose session is lost at `now`, if it is.
fn restarting(
    now: Instant,
    policy: &HelperConfig,
    terms: &Negotiated,
    family: Family,
) -> Option<Kept> {
    let restart = terms.peer_restart.filter(|restart| restart.families.get(family).is_some());
    let wait = restart.map(|r| r.restart_time.min(policy.restart_time_max)).unwrap_or_default();
    let long_lived = terms.peer_long_lived.and_then(|long_lived| *long_lived.families.get(family));
    let long_lived =
        long_lived.map(|l| l.stale_time.min(policy.long_lived_max)).unwrap_or_default();
    if wait.is_zero() && long_lived.is_zero() {
        return None;
    }
    now.checked_add(wait).map(|until| Kept::Restarting { until, long_lived })
}
