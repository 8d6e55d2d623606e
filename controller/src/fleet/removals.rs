//! [`Removals`]: what left the platform, and how fast it may.
//!
//! Agents take nothing for removed that is merely missing, so what left is said: with a grave that
//! becomes a tombstone in the configuration of every edge. And it is said with measure: of all the
//! platform's prefixes only so many may lose their service within a minute, whoever asked for it.
//! What is beyond that stays as it was, a minute at a time, and can be put back meanwhile.
//!
//! Pure but for [`Removals::load`] and [`Removals::store`]: what was carried is kept on disk, so
//! that a controller that was killed between a removal and its grave still digs it.
//!
//! **Invariant:** only a store that has come further than the last one may remove anything. What an
//! older one lacks (a backup, an empty disk) it does not know; nobody removed it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use ipnet::IpNet;
use isocast_bgp::origination::{Budget, Moment, Spending};
use serde::{Deserialize, Serialize};

use super::limits::{GRAVE_LIFE, GRAVES_MAX};
use crate::cabinet::Sheet;

/// For what services lose because something they refer to went: in all datacenters together.
const LOSSES: Budget = Budget { share_percent: 5, floor: 5, window: Duration::from_secs(60) };
/// For services that somebody removed.
const REMOVALS: Budget = Budget { share_percent: 10, floor: 10, window: Duration::from_secs(60) };

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Removals {
    services: BTreeMap<String, Carried>,
    routers: BTreeMap<String, String>,
    graves: BTreeMap<String, Grave>,
    lost: Spending,
    removed: Spending,
    /// Of the store that this was learnt from.
    #[serde(default)]
    revision: u64,
}

/// A service that edges carry.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Carried {
    /// `namespace/name`
    pub(super) name: String,
    pub(super) prefixes: BTreeSet<IpNet>,
}

/// Something that edges carried.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Grave {
    pub(super) name: String,
    pub(super) reason: String,
    revision: u64,
    dug: Moment,
}

/// What there is now.
#[derive(Debug)]
pub(super) struct Present {
    /// Of the store.
    pub(super) revision: u64,
    /// Services that edges shall carry, by uid.
    pub(super) services: BTreeMap<String, Carried>,
    /// Routers, by uid, with their names.
    pub(super) routers: BTreeMap<String, String>,
    /// What every edge has acknowledged.
    pub(super) acknowledged: u64,
}

/// What follows.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Services that stay for now although they are gone.
    pub(super) held: BTreeSet<String>,
    /// When to look again.
    pub(super) wake_at: Option<Moment>,
}

impl Removals {
    /// What was written last; nothing, if there is nothing.
    ///
    /// # Errors
    /// The file is there and cannot be used.
    pub(super) fn load(sheet: &mut Sheet) -> io::Result<Self> {
        let content = sheet.read()?;
        let read = content.map(|bytes| serde_json::from_slice(&bytes)).transpose()?;
        Ok(read.unwrap_or_default())
    }

    /// Puts it on disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn store(&self, sheet: &mut Sheet) -> io::Result<()> {
        sheet.write(&serde_json::to_vec(self)?)
    }

    /// What edges must be told is gone, by uid.
    pub(super) fn graves(&self) -> &BTreeMap<String, Grave> {
        &self.graves
    }

    /// Takes in what there is now. `reason` says why a service is not carried, if its object is
    /// still there.
    pub(super) fn follow(
        &mut self,
        present: &Present,
        reason: &dyn Fn(&str) -> Option<String>,
        now: Moment,
    ) -> Outcome {
        if present.revision < self.revision {
            tracing::warn!(
                revision = present.revision,
                before = self.revision,
                "the store is an older one: what it lacks was not removed",
            );
            *self = Self::default();
        }
        let was = self.clone();
        self.lost.prune(&LOSSES, now);
        self.removed.prune(&REMOVALS, now);
        self.forget(present, now);
        let served: BTreeSet<IpNet> =
            present.services.values().flat_map(|service| &service.prefixes).copied().collect();
        let mut outcome = Outcome::default();
        let mut carried = present.services.clone();
        let before = std::mem::take(&mut self.services);
        let all = before.values().flat_map(|service| &service.prefixes);
        // What is back already is counted by the spending still.
        let unspent = |spending: &Spending| all.clone().filter(|it| !spending.contains(it)).count();
        let mut totals = (unspent(&self.removed), unspent(&self.lost));
        for (uid, service) in before {
            if present.services.contains_key(&uid) {
                continue;
            }
            let reason = reason(&uid);
            let (budget, spending, total) = match reason {
                None => (&REMOVALS, &mut self.removed, &mut totals.0),
                Some(_) => (&LOSSES, &mut self.lost, &mut totals.1),
            };
            // An address that another service has now loses nothing, and cannot be kept for this one.
            let going: Vec<IpNet> = service.prefixes.difference(&served).copied().collect();
            let count = going.len();
            let is_succeeded = count < service.prefixes.len();
            // One service is one decision, however many addresses it has.
            if count > spending.left(budget, *total) && !spending.is_empty() && !is_succeeded {
                outcome.wake_at =
                    [outcome.wake_at, spending.relief(budget)].into_iter().flatten().min();
                outcome.held.insert(uid.clone());
                carried.insert(uid, service);
                continue;
            }
            *total = total.saturating_sub(count);
            going.into_iter().for_each(|prefix| spending.spend(prefix, now));
            self.bury(uid, service.name, reason, present.revision, now);
        }
        self.services = carried;
        // While services are being put back, one after the other, none that is held may go in the
        // place of those that are back already: it is about to be put back too.
        if outcome.held.is_empty() {
            for prefix in &served {
                self.lost.refund(prefix);
                self.removed.refund(prefix);
            }
        }
        for (uid, name) in std::mem::replace(&mut self.routers, present.routers.clone()) {
            if !present.routers.contains_key(&uid) {
                self.bury(uid, name, None, present.revision, now);
            }
        }
        if *self != was {
            self.revision = present.revision;
        }
        outcome
    }

    fn bury(
        &mut self,
        uid: String,
        name: String,
        reason: Option<String>,
        revision: u64,
        dug: Moment,
    ) {
        let reason = reason.unwrap_or_else(|| "Deleted".to_owned());
        self.graves.insert(uid, Grave { name, reason, revision, dug });
    }

    /// A grave is needed until every edge has heard of it, and at most for as long as an edge that
    /// was away may come back.
    fn forget(&mut self, present: &Present, now: Moment) {
        self.graves.retain(|uid, grave| {
            let is_risen = present.services.contains_key(uid) || present.routers.contains_key(uid);
            let is_known = present.acknowledged > grave.revision;
            !is_risen && !is_known && now.since(grave.dug) < GRAVE_LIFE
        });
        while self.graves.len() > GRAVES_MAX
            && let Some(oldest) =
                self.graves.iter().min_by_key(|(_, it)| it.dug).map(|(uid, _)| uid.clone())
        {
            self.graves.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn carried(number: u8) -> (String, Carried) {
        let prefix = format!("203.0.113.{number}/32").parse().unwrap();
        let name = format!("web/{number}");
        (format!("uid-{number:03}"), Carried { name, prefixes: BTreeSet::from([prefix]) })
    }

    fn gone(_: &str) -> Option<String> {
        None
    }

    fn unresolved(_: &str) -> Option<String> {
        Some("AddressPoolNotGranted".into())
    }

    fn present(services: impl IntoIterator<Item = u8>) -> Present {
        Present {
            revision: 7,
            services: services.into_iter().map(carried).collect(),
            routers: BTreeMap::new(),
            acknowledged: 0,
        }
    }

    fn carrying(count: u8) -> Removals {
        let mut removals = Removals::default();
        assert_eq!(removals.follow(&present(0..count), &gone, Moment(0)), Outcome::default());
        removals
    }

    #[test]
    fn a_service_that_was_deleted_has_a_grave_until_every_edge_has_heard() {
        let mut removals = carrying(3);

        removals.follow(&present(0..2), &gone, Moment(0));

        assert_eq!(removals.graves()["uid-002"].reason, "Deleted");
        let heard = |acknowledged| Present { acknowledged, ..present(0..2) };
        removals.follow(&heard(7), &gone, Moment(0));
        assert_eq!(removals.graves().len(), 1, "the revision itself may be older than the grave");
        removals.follow(&heard(8), &gone, Moment(0));
        assert_eq!(removals.graves().len(), 0);
    }

    #[test]
    fn all_services_deleted_at_once_go_a_few_at_a_time() {
        let mut removals = carrying(200);

        let outcome = removals.follow(&present([]), &gone, Moment(0));

        assert_eq!(removals.graves().len(), 20, "a tenth");
        assert_eq!(outcome.held.len(), 180);
        assert_eq!(outcome.wake_at, Some(Moment(60_000)));
        let later = removals.follow(&present([]), &gone, Moment(60_000));
        assert_eq!(later.held.len(), 162, "a tenth of those that were left");
    }

    #[test]
    fn what_is_put_back_was_never_gone() {
        let mut removals = carrying(100);
        removals.follow(&present([]), &gone, Moment(0));

        let outcome = removals.follow(&present(0..100), &gone, Moment(1000));

        assert_eq!(outcome, Outcome::default());
        assert_eq!(removals.graves().len(), 0);
        assert_eq!(removals.follow(&present(0..90), &gone, Moment(2000)).held.len(), 0);
    }

    #[test]
    fn a_service_that_is_applied_again_takes_the_place_of_the_one_that_is_held() {
        let mut removals = carrying(100);
        assert_eq!(removals.follow(&present([]), &gone, Moment(0)).held.len(), 90);
        let again = |(uid, service): (String, Carried)| (format!("{uid}-again"), service);
        let services = (0..100).map(carried).map(again).collect();

        let outcome = removals.follow(&Present { services, ..present([]) }, &gone, Moment(1000));

        assert_eq!(outcome, Outcome::default());
        assert_eq!(removals.graves().len(), 100, "edges are told that the former ones are gone");
        assert_eq!(removals.removed.len(), 0);
    }

    #[test]
    fn services_that_are_put_back_one_by_one_make_no_room_for_removing_the_others() {
        let mut removals = carrying(100);
        let held = removals.follow(&present([]), &gone, Moment(0)).held;

        for back in 1..=100 {
            let outcome = removals.follow(&present(0..back), &gone, Moment(back.into()));

            let still_away: BTreeSet<_> = (back..100).map(|number| carried(number).0).collect();
            assert!(outcome.held.is_superset(&held.intersection(&still_away).cloned().collect()));
        }
        assert_eq!(removals.removed.len(), 0, "all are back");
    }

    #[test]
    fn what_services_lose_with_their_references_has_half_the_budget() {
        let mut removals = carrying(100);

        removals.follow(&present([]), &unresolved, Moment(0));

        assert_eq!(removals.graves().len(), 5);
        assert_eq!(removals.graves()["uid-000"].reason, "AddressPoolNotGranted");
    }

    #[test]
    fn one_service_goes_whatever_number_of_addresses_it_has() {
        let mut removals = Removals::default();
        let (uid, mut service) = carried(0);
        service.prefixes = (0..50).flat_map(|number| carried(number).1.prefixes).collect();
        let services = BTreeMap::from([(uid, service)]);
        removals.follow(&Present { services, ..present([]) }, &gone, Moment(0));

        assert_eq!(removals.follow(&present([]), &gone, Moment(0)).held.len(), 0);
    }

    #[test]
    fn a_store_that_went_back_in_time_removes_nothing() {
        let mut removals = carrying(100);
        removals.follow(&present(0..99), &gone, Moment(0));
        let older = Present { revision: 6, ..present([]) };

        assert_eq!(removals.follow(&older, &gone, Moment(1000)), Outcome::default());

        assert_eq!(removals.graves().len(), 0);
        let later = Present { revision: 8, ..present(0..50) };
        removals.follow(&later, &gone, Moment(2000));
        assert_eq!(
            removals
                .follow(&Present { revision: 9, ..present(0..49) }, &gone, Moment(3000))
                .held
                .len(),
            0
        );
        assert_eq!(removals.graves().len(), 1, "what it knew itself, it may remove");
    }

    #[test]
    fn a_router_that_was_deleted_has_a_grave_at_once() {
        let mut removals = Removals::default();
        let routers = BTreeMap::from([("r".to_owned(), "tor1".to_owned())]);
        removals.follow(&Present { routers, ..present([]) }, &gone, Moment(0));

        removals.follow(&present([]), &gone, Moment(0));

        assert_eq!(removals.graves()["r"].name, "tor1");
    }

    #[test]
    fn what_was_carried_survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("removals.json");
        let mut removals = carrying(3);
        removals.store(&mut Sheet::at(&path)).unwrap();

        let mut again = Removals::load(&mut Sheet::at(&path)).unwrap();

        assert_eq!(again, removals);
        removals = Removals::load(&mut Sheet::at(&dir.path().join("none"))).unwrap();
        assert_eq!(removals, Removals::default());
        again.follow(&present([]), &gone, Moment(0));
        assert_eq!(again.graves().len(), 3, "deleted while nobody looked");
    }

    proptest! {
        /// Whatever comes and goes: each service is present, held or buried, and within a window
        /// no more prefixes are missing than the budget says.
        #[test]
        fn nothing_leaves_unsaid_or_too_fast(
            steps in prop::collection::vec(
                (prop::collection::btree_set(0_u8..100, 0..100), 0_u64..30_000), 1..30,
            ),
        ) {
            let mut removals = carrying(100);
            let mut now = Moment(0);
            for (services, millis) in steps {
                now = now.after(Duration::from_millis(millis));

                let outcome = removals.follow(&present(services.clone()), &gone, now);

                for number in 0..100 {
                    let uid = carried(number).0;
                    let is_said = services.contains(&number)
                        || outcome.held.contains(&uid)
                        || removals.graves().contains_key(&uid);
                    prop_assert!(is_said, "{uid} vanished");
                }
                prop_assert!(removals.removed.len() <= REMOVALS.limit(100));
            }
        }
    }
}
