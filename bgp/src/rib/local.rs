//! Our own announcements: what is wanted, and what the table has of it.
//!
//! The wish is given whole and compared with what is there; only differences touch the table, in
//! slices, so that an unchanged wish costs nothing and says nothing.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use ipnet::IpNet;

use super::attributes::AttrId;
use super::jobs::Job;
use super::path::{Path, PeerIndex, Verdict};
use super::table::{Address, LOCAL};
use super::{Rib, with_table};
use crate::types::Family;
use crate::wire::attribute::PathAttributes;
use crate::wire::block;
use crate::wire::community::Communities;
use crate::wire::next_hop::NextHop;

/// Prefixes compared in one slice.
const SLICE: usize = 1024;

/// How one prefix of ours is to be announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// What it carries.
    pub communities: Arc<Communities>,
    /// Where packets go; nothing: to ourselves, at each session's own end.
    pub next_hop: Option<NextHop>,
}

/// The whole set that a speaker wants announced.
pub type Announcements = BTreeMap<IpNet, Announcement>;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LocalRoutes {
    wanted: Arc<Announcements>,
    /// What the table has, by the name of its attributes; each counts as a use of them.
    applied: BTreeMap<IpNet, AttrId>,
    /// How far the comparison has come.
    at: Option<Progress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Announcing what is wanted, from here on.
    Announcing(Bound<IpNet>),
    /// Withdrawing what is not, from here on.
    Withdrawing(Bound<IpNet>),
}

impl Rib {
    /// Replaces the set of wanted announcements.
    pub(crate) fn set_local(&mut self, wanted: Arc<Announcements>) {
        if Arc::ptr_eq(&self.local.wanted, &wanted) || self.local.wanted == wanted {
            return;
        }
        self.local.wanted = wanted;
        let waits = self.local.at.is_some();
        self.local.at = Some(Progress::Withdrawing(Bound::Unbounded));
        if !waits && self.apply_local() {
            self.jobs.push_front(Job::Local);
        }
    }

    /// Whether the table has all that is wanted.
    pub(crate) const fn is_local_applied(&self) -> bool {
        self.local.at.is_none()
    }

    /// Our own announcements.
    pub(crate) fn local(&self) -> &Announcements {
        &self.local.wanted
    }

    /// Compares one slice; whether there is more.
    pub(super) fn apply_local(&mut self) -> bool {
        match self.local.at {
            Some(Progress::Withdrawing(from)) => self.withdraw_unwanted(from),
            Some(Progress::Announcing(from)) => self.announce_wanted(from),
            None => {}
        }
        for family in Family::ALL {
            self.publish(family);
        }
        self.local.at.is_some()
    }

    fn withdraw_unwanted(&mut self, from: Bound<IpNet>) {
        let LocalRoutes { wanted, applied, .. } = &self.local;
        let slice = applied.range((from, Bound::Unbounded)).take(SLICE);
        let seen: Vec<_> = slice.map(|(prefix, _)| *prefix).collect();
        let gone: Vec<_> =
            seen.iter().filter(|prefix| !wanted.contains_key(prefix)).copied().collect();
        let next = seen.last().filter(|_| seen.len() == SLICE);
        self.local.at = Some(next.map_or(Progress::Announcing(Bound::Unbounded), |last| {
            Progress::Withdrawing(Bound::Excluded(*last))
        }));
        for prefix in gone {
            if let Some(id) = self.local.applied.remove(&prefix) {
                self.store.release(id);
            }
            self.change_local(&prefix, None);
        }
    }

    fn announce_wanted(&mut self, from: Bound<IpNet>) {
        let wanted = Arc::clone(&self.local.wanted);
        let mut last = None;
        let mut seen = 0_usize;
        for (prefix, announcement) in wanted.range((from, Bound::Unbounded)).take(SLICE) {
            seen = seen.saturating_add(1);
            last = Some(*prefix);
            self.scratch.block.clear();
            let attributes = PathAttributes {
                communities: (*announcement.communities).clone(),
                ..PathAttributes::default()
            };
            block::write(announcement.next_hop, &attributes, &mut self.scratch.block);
            let Some(id) = self.store.intern(&self.scratch.block) else { continue };
            match self.local.applied.insert(*prefix, id) {
                Some(before) => {
                    self.store.release(before);
                    if before != id {
                        self.change_local(prefix, Some(id));
                    }
                }
                None => self.change_local(prefix, Some(id)),
            }
        }
        let next = last.filter(|_| seen == SLICE);
        self.local.at = next.map(|last| Progress::Announcing(Bound::Excluded(last)));
    }

    fn change_local(&mut self, prefix: &IpNet, route: Option<AttrId>) {
        let family = Family::of(prefix);
        let Self { store, scratch, .. } = self;
        with_table!(self, family, table => {
            let Some((address, bits)) = Address::of(prefix) else { return };
            let change = match route {
                Some(id) => {
                    store.retain(id);
                    store.retain(id);
                    let verdict = Verdict::Accepted;
                    let path = Path { received: id, used: Some(id), source: LOCAL, verdict };
                    table.announce(address, bits, path, store)
                }
                None => table.withdraw(address, bits, PeerIndex::OURSELVES, store).flatten(),
            };
            scratch.changes.extend(change);
        });
        self.publish(family);
    }
}
