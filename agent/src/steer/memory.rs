//! [`Memory`]: what a decision leaves for the next one.
//!
//! Rings are pure functions of their members, so an earlier ring is remembered by its members
//! alone. Serialisable: an agent that restarts over a living data plane goes on where its
//! predecessor was killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use isocast_bgp::origination::{Drain, Elsewhere, Ledger};
use serde::{Deserialize, Serialize};

use super::{EPOCHS_MAX, SETTLE, TRANSITION, UnixMs};
use crate::model::Uid;

/// What earlier decisions left behind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Memory {
    /// By the service's uid.
    pub services: BTreeMap<Uid, ServiceMemory>,
    /// What was announced, held and withdrawn.
    #[serde(default)]
    pub ledger: Ledger,
    /// Who else announces a service, as the controller said last.
    #[serde(default)]
    pub elsewhere: BTreeMap<Uid, Elsewhere>,
    /// How far drains have come, by the order's uid.
    #[serde(default)]
    pub drains: BTreeMap<Uid, Drain>,
}

/// One service's past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ServiceMemory {
    /// Members of the ring in force, in order of uid.
    pub members: Vec<Member>,
    /// Earlier rings whose flows may still be alive, the latest first.
    pub past: Vec<Epoch>,
    /// Members wanted instead of those in force, and since when.
    pub pending: Option<(Vec<Member>, UnixMs)>,
}

/// A ring that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Epoch {
    /// Its members.
    pub members: Vec<Member>,
    /// When its claim on old flows ends.
    pub until: UnixMs,
}

/// A backend in a ring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Member {
    /// Uid of the backend.
    pub uid: Uid,
    /// Where its flows are sent.
    pub tunnel_address: IpAddr,
    /// Its share.
    pub weight: u32,
}

// === impl ServiceMemory ===

impl ServiceMemory {
    /// The memory after a decision that wants `wanted`, and when to look again.
    ///
    /// Members in `urgent` leave at once; any other change waits until the same members have
    /// been wanted for [`SETTLE`], unless there is nothing to lose.
    pub(super) fn follow(
        mut self,
        wanted: &[Member],
        urgent: &BTreeSet<Uid>,
        now: UnixMs,
    ) -> (Self, Option<UnixMs>) {
        self.past.retain(|epoch| epoch.until > now);
        let expiry = self.past.iter().map(|epoch| epoch.until).min();
        if wanted == self.members {
            self.pending = None;
            return (self, expiry);
        }
        let dead = |member: &Member| urgent.contains(&member.uid);
        if self.members.is_empty() || wanted.is_empty() || self.members.iter().any(dead) {
            return (self.succeed(wanted.to_vec(), now), Some(now.after(TRANSITION)));
        }
        let since = match self.pending.take() {
            // A clock that was set back must not stretch the wait.
            Some((members, since)) if members == wanted && since <= now => since,
            _ => now,
        };
        let settled = since.after(SETTLE);
        if settled <= now {
            return (self.succeed(wanted.to_vec(), now), Some(now.after(TRANSITION)));
        }
        self.pending = Some((wanted.to_vec(), since));
        (self, [expiry, Some(settled)].into_iter().flatten().min())
    }

    /// Puts `members` in force and remembers those that were.
    fn succeed(mut self, members: Vec<Member>, now: UnixMs) -> Self {
        let retired = std::mem::replace(&mut self.members, members);
        if !retired.is_empty() {
            self.past.retain(|epoch| epoch.members != retired);
            self.past.insert(0, Epoch { members: retired, until: now.after(TRANSITION) });
            self.past.truncate(EPOCHS_MAX);
        }
        self.pending = None;
        self
    }
}
