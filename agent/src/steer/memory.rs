//! [`Memory`]: what a decision leaves for the next one.
//!
//! Rings are pure functions of their members and their size, so an earlier ring is remembered by
//! these alone. Serialisable: an agent that restarts over a living data plane goes on where its
//! predecessor was killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use isocast_bgp::origination::{Drain, Elsewhere, Ledger};
use isocast_dataplane::Encap;
use isocast_dataplane_common::slot::{RING_SLOTS_MIN, is_ring_size, ring_slots};
use serde::{Deserialize, Serialize};

use super::{EPOCHS_MAX, SETTLE, Selection, TRANSITION, UnixMs, ramp::Ramp};
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
    /// Counts decisions that changed a ring with hosts without an agent: the time in the flow table.
    #[serde(default)]
    pub era: u32,
}

/// One service's past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ServiceMemory {
    /// The rings of this edge.
    #[serde(flatten)]
    pub own: Succession,
    /// Those of other datacenters, by their names, whose flows anycast may have moved here.
    #[serde(default)]
    pub others: BTreeMap<String, Succession>,
    /// Members wanted instead of those in force, and since when.
    pub pending: Option<(Vec<Member>, UnixMs)>,
    /// Backends that joined lately.
    #[serde(default)]
    pub ramp: Ramp,
}

/// Rings that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Succession {
    /// Members of the ring in force, in order of uid.
    pub members: Vec<Member>,
    /// Size of the ring in force.
    #[serde(default)]
    pub size: RingSize,
    /// Earlier rings whose flows may still be alive, the latest first.
    pub past: Vec<Epoch>,
}

/// A ring that was in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Epoch {
    /// Its members.
    pub members: Vec<Member>,
    /// Its size.
    #[serde(default)]
    pub size: RingSize,
    /// When its claim on old flows ends.
    pub until: UnixMs,
    /// The era that its successor was put in force in.
    #[serde(default)]
    pub era: u32,
    /// Members that were found dead since: their flows are given up. Kept where there are hosts without an
    /// agent; others are asked in vain, which costs nothing.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lost: BTreeSet<Uid>,
}

/// A ring that the slots in force follow from: one of a [`Succession`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ancestor {
    pub(super) members: Vec<Member>,
    pub(super) size: RingSize,
    /// As in [`Epoch`]; nothing of the ring in force itself.
    pub(super) era: u32,
    pub(super) lost: BTreeSet<Uid>,
}

/// A backend in a ring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Member {
    /// Uid of the backend.
    pub uid: Uid,
    /// Where its flows are sent.
    pub tunnel_address: IpAddr,
    /// Its weight among the others.
    pub weight: u32,
    /// How much of it counts, of [`Member::WHOLE`].
    #[serde(default = "whole")]
    pub share: u8,
    /// What it takes its packets out of. Memories from before there was a choice are of agents.
    #[serde(default = "gue", with = "encap")]
    pub encap: Encap,
}

impl Member {
    /// The whole share.
    pub const WHOLE: u8 = 5;

    /// Whether it can be asked whose a flow is.
    pub(super) fn is_agentless(&self) -> bool {
        self.encap == Encap::Ip
    }
}

const fn gue() -> Encap {
    Encap::Gue
}

/// As a word.
mod encap {
    use isocast_dataplane::Encap;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(encap: &Encap, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match encap {
            Encap::Gue => "gue",
            Encap::Ip => "ip",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Encap, D::Error> {
        match String::deserialize(from)?.as_str() {
            "gue" => Ok(Encap::Gue),
            "ip" => Ok(Encap::Ip),
            other => Err(D::Error::custom(format!("encapsulation {other:?}"))),
        }
    }
}

const fn whole() -> u8 {
    Member::WHOLE
}

/// Number of slots of a ring. Memories from before rings had sizes are of the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "usize", into = "usize")]
pub struct RingSize(usize);

// === impl RingSize ===

impl RingSize {
    /// For a service with so many configured backends, healthy or not: every edge must agree.
    #[must_use]
    pub const fn of(backends: usize) -> Self {
        Self(ring_slots(backends))
    }

    /// Number of slots.
    #[must_use]
    pub const fn slots(self) -> usize {
        self.0
    }
}

impl Default for RingSize {
    fn default() -> Self {
        Self(RING_SLOTS_MIN)
    }
}

impl TryFrom<usize> for RingSize {
    type Error = String;

    fn try_from(slots: usize) -> Result<Self, String> {
        if is_ring_size(slots) { Ok(Self(slots)) } else { Err(format!("a ring of {slots} slots")) }
    }
}

impl From<RingSize> for usize {
    fn from(size: RingSize) -> Self {
        size.0
    }
}

// === impl Succession ===

impl Succession {
    /// Ends the claims whose time is over, and says when the next one ends. An earlier ring keeps its
    /// claim while one of its members is `drained`: how long that takes is for whoever drains it to
    /// say.
    fn expire(&mut self, drained: &BTreeSet<Uid>, now: UnixMs) -> Option<UnixMs> {
        let is_drained = |member: &Member| drained.contains(&member.uid);
        for epoch in &mut self.past {
            // Not at every decision: what is remembered is written down.
            let is_short = epoch.until < now.after(TRANSITION / 2);
            if is_short && epoch.members.iter().any(is_drained) {
                epoch.until = now.after(TRANSITION);
            }
        }
        self.past.retain(|epoch| epoch.until > now);
        self.past.iter().map(|epoch| epoch.until).min()
    }

    /// Puts `members` in force in this era and remembers those that were; says when their claim ends.
    ///
    /// A ring is remembered once. With hosts without an agent it is as often as it was in force, for what
    /// came before what says whose the flows are that are not noted; the oldest stays, whatever comes between.
    fn succeed(&mut self, members: Vec<Member>, size: RingSize, now: UnixMs, era: u32) -> UnixMs {
        let (retired, retired_size) = (std::mem::replace(&mut self.members, members), self.size);
        let until = now.after(TRANSITION);
        self.size = size;
        if retired.is_empty() {
            return until;
        }
        let is_same = |epoch: &Epoch| epoch.members == retired && epoch.size == retired_size;
        let tracks = self.has_agentless() || retired.iter().any(Member::is_agentless);
        let mut oldest = None;
        if tracks {
            oldest = self.past.pop();
        } else {
            self.past.retain(|epoch| !is_same(epoch));
        }
        if let Some(oldest) = oldest.as_mut().filter(|oldest| is_same(oldest)) {
            oldest.until = until;
        }
        let lost = BTreeSet::new();
        self.past.insert(0, Epoch { members: retired, size: retired_size, until, era, lost });
        self.past.truncate(EPOCHS_MAX.saturating_sub(usize::from(oldest.is_some())));
        self.past.extend(oldest);
        until
    }

    /// Whether a host without an agent has slots, or may have flows.
    fn has_agentless(&self) -> bool {
        let past = self.past.iter().flat_map(|epoch| &epoch.members);
        self.members.iter().chain(past).any(Member::is_agentless)
    }

    /// Gives up the flows of members that are dead now, for good: what begins from now on in slots that they
    /// had is not noted.
    pub(super) fn lose(&mut self, is_dead: impl Fn(&Uid) -> bool) {
        if !self.has_agentless() {
            return;
        }
        for epoch in &mut self.past {
            let members = epoch.members.iter().map(|member| &member.uid);
            let dead: Vec<_> = members.filter(|uid| is_dead(uid)).cloned().collect();
            epoch.lost.extend(dead);
        }
    }

    /// The ring in force and those before it.
    pub(super) fn rings(&self) -> impl Iterator<Item = Ancestor> {
        let in_force =
            Ancestor { members: self.members.clone(), size: self.size, ..Ancestor::default() };
        let past = self.past.iter().map(|Epoch { members, size, era, lost, .. }| Ancestor {
            members: members.clone(),
            size: *size,
            era: *era,
            lost: lost.clone(),
        });
        std::iter::once(in_force).chain(past)
    }
}

// === impl ServiceMemory ===

impl ServiceMemory {
    /// The memory after a decision that wants `selection` in a ring of `size`, and when to look again.
    ///
    /// Urgent members leave at once; any other change waits until the same members have
    /// been wanted for [`SETTLE`], unless there is nothing to lose. A change of the size alone moves
    /// next to nothing and need not wait. A change of a ring with hosts without an agent begins the
    /// era after `era`.
    pub(super) fn follow(
        mut self,
        selection: &Selection,
        size: RingSize,
        now: UnixMs,
        era: u32,
    ) -> (Self, Option<UnixMs>) {
        let Selection { members: wanted, urgent, drained, .. } = selection;
        // The time in the flow table passes for rings that have to do with it.
        let tracks = self.own.has_agentless() || wanted.iter().any(Member::is_agentless);
        let era = if tracks { era.wrapping_add(1) } else { era };
        let expiry = self.own.expire(drained, now);
        let members = &self.own.members;
        if wanted == members {
            self.pending = None;
            let same = size == self.own.size;
            let wake =
                if same { expiry } else { Some(self.own.succeed(wanted.clone(), size, now, era)) };
            return (self, wake);
        }
        let dead = |member: &Member| urgent.contains(&member.uid);
        let at_once = members.is_empty() || wanted.is_empty() || members.iter().any(dead);
        let since = match self.pending.take() {
            // A clock that was set back must not stretch the wait.
            Some((members, since)) if members == *wanted && since <= now => since,
            _ => now,
        };
        let settled = since.after(SETTLE);
        if at_once || settled <= now {
            let wake = self.own.succeed(wanted.clone(), size, now, era);
            return (self, Some(wake));
        }
        self.pending = Some((wanted.clone(), since));
        (self, [expiry, Some(settled)].into_iter().flatten().min())
    }

    /// Takes note of who serves in other datacenters now, and says when to look again. Their own edges
    /// may come to it a moment sooner or later; both rings have a claim by then. `None`: whatever they
    /// had, it is not asked for.
    pub(super) fn follow_others(
        &mut self,
        others: Option<&[(String, Vec<Member>)]>,
        drained: &BTreeSet<Uid>,
        size: RingSize,
        now: UnixMs,
        era: u32,
    ) -> Option<UnixMs> {
        let Some(others) = others else {
            self.others.clear();
            return None;
        };
        for (datacenter, _) in others {
            self.others.entry(datacenter.clone()).or_default();
        }
        let mut wake = None;
        for (datacenter, rings) in &mut self.others {
            let wanted = others.iter().find(|(name, _)| name == datacenter);
            let members = wanted.map_or(&[][..], |(_, members)| members);
            let expiry = rings.expire(drained, now);
            let same = rings.members == members && (rings.size == size || members.is_empty());
            let next =
                if same { expiry } else { Some(rings.succeed(members.to_vec(), size, now, era)) };
            wake = [wake, next].into_iter().flatten().min();
        }
        self.others.retain(|_, rings| !rings.members.is_empty() || !rings.past.is_empty());
        wake
    }
}
