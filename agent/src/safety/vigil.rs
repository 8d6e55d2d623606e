//! [`Vigil`]: who keeps the node's gates, and whether they still do.
//!
//! Two gates belong to the whole node. *Data plane*: the pinned programs and maps are what was put
//! in force; one look that fails may meet a change under way, so it takes several in a row. *Lease*:
//! probes are still coming back, good or bad; when none is, nobody knows what the verdicts are
//! worth.

use std::time::Duration;

use isocast_bgp::origination::{Closed, Gate, Lease, Moment};

/// Looks at the data plane in a row that must fail.
const LOOKS: u32 = 3;

/// See the module.
#[derive(Debug, Default)]
pub struct Vigil {
    failed_looks: u32,
    probing: Option<(Duration, Lease)>,
    probes: u64,
}

impl Vigil {
    /// Somebody looked at the data plane.
    pub const fn looked(&mut self, is_whole: bool) {
        self.failed_looks = if is_whole { 0 } else { self.failed_looks.saturating_add(1) };
    }

    /// `count` probes have come back since the start. Another one should within `term`; without a
    /// term there is nothing to probe.
    pub fn probed(&mut self, now: Moment, count: u64, term: Option<Duration>) {
        self.probing = match (self.probing, term) {
            (_, None) => None,
            (Some((held, mut lease)), Some(term)) if held == term => {
                if count != self.probes {
                    lease.renew(now);
                }
                Some((term, lease))
            }
            (_, Some(term)) => Some((term, Lease::new(term, now))),
        };
        self.probes = count;
    }

    /// Gates that are closed for the whole node.
    #[must_use]
    pub fn closed(&self, now: Moment) -> Closed {
        let mut closed = Closed::new();
        if self.failed_looks >= LOOKS {
            closed.insert(Gate::DataPlane);
        }
        if self.probing.is_some_and(|(_, lease)| !lease.is_held(now)) {
            closed.insert(Gate::Lease);
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Option<Duration> = Some(Duration::from_secs(10));

    #[test]
    fn a_look_that_fails_once_or_twice_closes_nothing() {
        let mut vigil = Vigil::default();
        for is_whole in [false, false, true, false, false] {
            vigil.looked(is_whole);
            assert!(vigil.closed(Moment(0)).is_empty());
        }

        vigil.looked(false);

        assert_eq!(vigil.closed(Moment(0)), Closed::from([Gate::DataPlane]));
    }

    #[test]
    fn probes_that_cease_let_the_lease_lapse_and_probes_that_return_renew_it() {
        let mut vigil = Vigil::default();
        vigil.probed(Moment(0), 5, TERM);
        vigil.probed(Moment(1000), 6, TERM);
        vigil.probed(Moment(2000), 6, TERM);
        assert!(vigil.closed(Moment(10_999)).is_empty());

        assert_eq!(vigil.closed(Moment(11_000)), Closed::from([Gate::Lease]));

        vigil.probed(Moment(12_000), 7, TERM);
        assert!(vigil.closed(Moment(12_000)).is_empty());
    }

    #[test]
    fn where_there_is_nothing_to_probe_no_lease_lapses() {
        let mut vigil = Vigil::default();
        vigil.probed(Moment(0), 5, TERM);

        vigil.probed(Moment(100_000), 5, None);

        assert!(vigil.closed(Moment(1_000_000)).is_empty());
    }
}
