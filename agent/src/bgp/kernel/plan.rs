//! [`Plan`]: what the kernel should hold, what it holds, and the next changes from one to the other.
//!
//! Level-triggered and sans-IO: changes are worked out when they are carried out, so a prefix that
//! moves ten times in between is written once. Never removes what a former process left before
//! somebody says that all there is to know has been told ([`Plan::sweep`]): until then a route
//! nobody has spoken of may be one that is about to come back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use isocast_bgp::speaker::ForwardingRoute;

/// Routers that share the traffic of a prefix, in order.
pub(super) type NextHops = Vec<IpAddr>;

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    routes_max: usize,
    wanted: BTreeMap<IpNet, NextHops>,
    held: BTreeMap<IpNet, NextHops>,
    /// Held of a former process, and not spoken of yet.
    strays: BTreeSet<IpNet>,
    /// Where the two may differ.
    due: BTreeSet<IpNet>,
    /// What the kernel does not take as it is now.
    refused: BTreeSet<IpNet>,
    /// Routes were left out for the sake of the limit.
    over_limit: bool,
    counts: Counts,
}

/// What went on since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) written: u64,
    pub(super) removed: u64,
    pub(super) refused: u64,
    pub(super) beyond_limit: u64,
}

/// One change of the kernel's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nobody else's route may be in its place.
    Add(IpNet, NextHops),
    /// In one step: there is no moment without a route.
    Replace(IpNet, NextHops),
    Remove(IpNet),
}

// === impl Plan ===

impl Plan {
    /// Begins with what the kernel holds of a former process.
    pub(super) fn new(routes_max: usize, held: BTreeMap<IpNet, NextHops>) -> Self {
        Self {
            routes_max,
            wanted: BTreeMap::new(),
            strays: held.keys().copied().collect(),
            held,
            due: BTreeSet::new(),
            refused: BTreeSet::new(),
            over_limit: false,
            counts: Counts::default(),
        }
    }

    /// Takes where a prefix leads from now on.
    pub(super) fn want(&mut self, route: ForwardingRoute) {
        let ForwardingRoute { prefix, next_hops } = route;
        let has_room = self.wanted.len() < self.routes_max || self.wanted.contains_key(&prefix);
        if next_hops.is_empty() {
            self.wanted.remove(&prefix);
        } else if has_room {
            self.wanted.insert(prefix, next_hops);
        } else {
            self.over_limit = true;
            self.counts.beyond_limit = self.counts.beyond_limit.saturating_add(1);
        }
        self.strays.remove(&prefix);
        self.refused.remove(&prefix);
        self.due.insert(prefix);
    }

    /// All there is has been told: what nobody spoke of goes.
    pub(super) fn sweep(&mut self) {
        self.due.append(&mut self.strays);
    }

    /// Takes what the kernel holds in truth; what it refused is tried again.
    pub(super) fn compare(&mut self, held: BTreeMap<IpNet, NextHops>) {
        self.due.extend(held.keys().chain(self.wanted.keys()));
        self.strays.retain(|prefix| held.contains_key(prefix));
        self.held = held;
        self.refused.clear();
    }

    /// Nothing is wanted any more, now and for ever.
    pub(super) fn withdraw_all(&mut self) {
        self.routes_max = 0;
        self.wanted.clear();
        self.sweep();
        self.due.extend(self.held.keys());
    }

    /// Whether routes were left out and some now have room.
    pub(super) fn is_relieved(&self) -> bool {
        self.over_limit && self.wanted.len() < self.routes_max
    }

    /// Everything will be told again.
    pub(super) const fn start_over(&mut self) {
        self.over_limit = false;
    }

    /// The next changes, at most so many.
    pub(super) fn next_changes(&mut self, max: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < max
            && let Some(prefix) = self.due.pop_first()
        {
            changes.extend(self.change(prefix));
        }
        changes
    }

    /// Takes note of what the kernel made of a change.
    pub(super) fn done(&mut self, change: Change, taken: bool) {
        let counts = &mut self.counts;
        match change {
            Change::Add(prefix, next_hops) | Change::Replace(prefix, next_hops) if taken => {
                counts.written = counts.written.saturating_add(1);
                self.held.insert(prefix, next_hops);
            }
            Change::Add(prefix, _) | Change::Replace(prefix, _) => {
                counts.refused = counts.refused.saturating_add(1);
                self.refused.insert(prefix);
                // What it replaces leads where nobody says any more.
                self.due.insert(prefix);
            }
            Change::Remove(prefix) => {
                counts.removed = counts.removed.saturating_add(1);
                self.held.remove(&prefix);
            }
        }
    }

    /// Whether there may be something to change.
    pub(super) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.len()
    }

    pub(super) const fn is_over_limit(&self) -> bool {
        self.over_limit
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    fn change(&self, prefix: IpNet) -> Option<Change> {
        if self.strays.contains(&prefix) {
            return None;
        }
        let wanted = self.wanted.get(&prefix).filter(|_| !self.refused.contains(&prefix));
        match (self.held.get(&prefix), wanted) {
            (None, None) => None,
            (Some(held), Some(wanted)) if held == wanted => None,
            (None, Some(wanted)) => Some(Change::Add(prefix, wanted.clone())),
            (Some(_), Some(wanted)) => Some(Change::Replace(prefix, wanted.clone())),
            (Some(_), None) => Some(Change::Remove(prefix)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "192.0.2.0/24";
    const B: &str = "198.51.100.0/24";
    const C: &str = "203.0.113.0/24";

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn hops(last_octets: &[u8]) -> NextHops {
        last_octets.iter().map(|octet| IpAddr::from([10, 0, 0, *octet])).collect()
    }

    fn want(plan: &mut Plan, prefix: &str, last_octets: &[u8]) {
        plan.want(ForwardingRoute { prefix: net(prefix), next_hops: hops(last_octets) });
    }

    fn held(entries: &[(&str, &[u8])]) -> BTreeMap<IpNet, NextHops> {
        entries.iter().map(|(prefix, octets)| (net(prefix), hops(octets))).collect()
    }

    /// Carries everything out; the kernel takes it all.
    fn settle(plan: &mut Plan) -> Vec<Change> {
        let mut all = Vec::new();
        while plan.is_due() {
            for change in plan.next_changes(2) {
                all.push(change.clone());
                plan.done(change, true);
            }
        }
        all
    }

    #[test]
    fn only_the_last_word_on_a_prefix_is_written_and_an_unchanged_one_is_not() {
        let mut plan = Plan::new(10, BTreeMap::new());
        want(&mut plan, A, &[1]);
        want(&mut plan, A, &[1, 2]);
        want(&mut plan, B, &[1]);
        want(&mut plan, B, &[]);

        assert_eq!(settle(&mut plan), [Change::Add(net(A), hops(&[1, 2]))]);

        want(&mut plan, A, &[1, 2]);
        assert!(settle(&mut plan).is_empty());
        want(&mut plan, A, &[2]);
        assert_eq!(settle(&mut plan), [Change::Replace(net(A), hops(&[2]))]);
        want(&mut plan, A, &[]);
        assert_eq!(settle(&mut plan), [Change::Remove(net(A))]);
        assert_eq!((plan.counts().written, plan.counts().removed, plan.held()), (2, 1, 0));
    }

    #[test]
    fn what_a_former_process_left_is_adopted_repaired_and_swept_only_in_the_end() {
        let mut plan = Plan::new(10, held(&[(A, &[1]), (B, &[1]), (C, &[1])]));
        want(&mut plan, A, &[1]);
        want(&mut plan, B, &[2]);

        assert_eq!(settle(&mut plan), [Change::Replace(net(B), hops(&[2]))]);

        plan.sweep();
        assert_eq!(settle(&mut plan), [Change::Remove(net(C))]);
    }

    #[test]
    fn a_stray_that_was_announced_and_withdrawn_goes_before_the_sweep() {
        let mut plan = Plan::new(10, held(&[(A, &[1])]));
        want(&mut plan, A, &[]);

        assert_eq!(settle(&mut plan), [Change::Remove(net(A))]);
    }

    #[test]
    fn a_comparison_before_the_sweep_leaves_strays_alone() {
        let mut plan = Plan::new(10, held(&[(A, &[1])]));
        plan.compare(held(&[(A, &[1])]));

        assert!(settle(&mut plan).is_empty());
    }

    #[test]
    fn a_comparison_puts_back_what_is_missing_and_takes_away_what_is_not_wanted() {
        let mut plan = Plan::new(10, BTreeMap::new());
        want(&mut plan, A, &[1]);
        want(&mut plan, B, &[1]);
        settle(&mut plan);

        plan.compare(held(&[(B, &[9]), (C, &[1])]));

        let expected = [
            Change::Add(net(A), hops(&[1])),
            Change::Replace(net(B), hops(&[1])),
            Change::Remove(net(C)),
        ];
        assert_eq!(settle(&mut plan), expected);
    }

    #[test]
    fn a_refused_replacement_leaves_no_wrong_route_and_is_tried_again_only_when_told() {
        let mut plan = Plan::new(10, BTreeMap::new());
        want(&mut plan, A, &[1]);
        settle(&mut plan);
        want(&mut plan, A, &[2]);
        let change = plan.next_changes(1).remove(0);

        plan.done(change, false);

        assert_eq!(settle(&mut plan), [Change::Remove(net(A))]);
        assert_eq!((plan.refused(), plan.is_due()), (1, false));
        plan.compare(BTreeMap::new());
        assert_eq!(settle(&mut plan), [Change::Add(net(A), hops(&[2]))]);
        assert_eq!((plan.refused(), plan.counts().refused), (0, 1));
    }

    #[test]
    fn one_route_too_many_is_left_out_until_there_is_room_again() {
        let mut plan = Plan::new(2, BTreeMap::new());
        for prefix in [A, B, C] {
            want(&mut plan, prefix, &[1]);
        }

        assert_eq!(settle(&mut plan).len(), 2);
        assert!(plan.is_over_limit() && !plan.is_relieved());
        assert_eq!(plan.counts().beyond_limit, 1);

        want(&mut plan, B, &[2]);
        want(&mut plan, A, &[]);
        assert_eq!(settle(&mut plan).len(), 2);
        assert!(plan.is_relieved());
        plan.start_over();
        assert!(!plan.is_relieved() && !plan.is_over_limit());
    }

    #[test]
    fn everything_goes_when_nothing_is_wanted_any_more() {
        let mut plan = Plan::new(10, held(&[(A, &[1])]));
        want(&mut plan, B, &[1]);
        settle(&mut plan);

        plan.withdraw_all();
        want(&mut plan, C, &[1]);

        assert_eq!(settle(&mut plan), [Change::Remove(net(A)), Change::Remove(net(B))]);
    }
}
