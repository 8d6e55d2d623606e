//! What a peer has been told, and what it should be told next.
//!
//! Level-triggered: the desired set is given whole, the difference to what was sent is kept as
//! pending prefixes, not as queued messages. A slow peer therefore costs no memory, and is told the
//! latest wish rather than every one in between. Withdrawals go before announcements.
//!
//! Invariant: an announcement leaves only as [`Permitted`] and only with a usable next hop of its
//! own family; a set that did not change sends nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::guard::{ExportGuard, Permitted};
use crate::types::{Asn, Family, FamilySet, PeerKind, PerFamily};
use crate::wire::as_path::AsPath;
use crate::wire::attribute::PathAttributes;
use crate::wire::community::Communities;
use crate::wire::encode;
use crate::wire::next_hop::NextHop;
use crate::wire::update::Codec;

/// The whole set that a speaker wants announced.
pub type Desired = BTreeMap<IpNet, Arc<Communities>>;

/// LOCAL_PREF on sessions inside an AS, the value that everybody defaults to.
const LOCAL_PREF: u32 = 100;

/// Why a wanted prefix is not announced to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Withheld {
    /// The export guard refused it.
    NotAnnounceable,
    /// The family was not agreed on with the peer.
    FamilyNotNegotiated,
    /// No next hop is known for its family.
    NoNextHop,
    /// Its attributes leave no room for a prefix.
    AttributesTooLarge,
}

/// See the module.
#[derive(Debug, Default)]
pub struct AdjOut {
    desired: Arc<Desired>,
    guard: Arc<ExportGuard>,
    session: Option<SessionTerms>,
    sent: BTreeMap<IpNet, Arc<Communities>>,
    /// To be sent though the peer has it: it asked again.
    refresh: BTreeSet<IpNet>,
    withdraw: PerFamily<BTreeSet<IpNet>>,
    announce: BTreeMap<(Family, Arc<Communities>), BTreeSet<Permitted>>,
    withheld: BTreeMap<IpNet, Withheld>,
}

/// What a session adds to the wish.
#[derive(Clone, Debug)]
pub struct SessionTerms {
    /// How messages are written.
    pub codec: Codec,
    /// Our own AS.
    pub local_asn: Asn,
    /// Next hops, as far as there are any.
    pub next_hops: PerFamily<Option<NextHop>>,
}

impl AdjOut {
    /// Replaces the desired set.
    pub fn set_desired(&mut self, desired: Arc<Desired>) {
        if self.desired != desired {
            self.desired = desired;
            self.plan();
        }
    }

    /// Replaces the guard; what it no longer permits is withdrawn.
    pub fn set_guard(&mut self, guard: Arc<ExportGuard>) {
        if self.guard != guard {
            self.guard = guard;
            self.plan();
        }
    }

    /// A session begins: the peer knows nothing yet.
    pub fn session_up(&mut self, terms: SessionTerms) {
        self.session_down();
        self.session = Some(terms);
        self.plan();
    }

    /// The session is over: the peer knows nothing any more.
    pub fn session_down(&mut self) {
        self.session = None;
        self.sent.clear();
        self.refresh.clear();
        self.plan();
    }

    /// Replaces the next hops of the session; families whose next hop changed are sent again.
    pub fn set_next_hops(&mut self, next_hops: PerFamily<Option<NextHop>>) {
        let Some(terms) = &mut self.session else { return };
        let old = std::mem::replace(&mut terms.next_hops, next_hops);
        for family in Family::ALL.into_iter().filter(|f| old.get(*f) != next_hops.get(*f)) {
            self.refresh(family);
        }
        self.plan();
    }

    /// The peer asks for a family again (RFC 2918 §4).
    pub fn resend(&mut self, family: Family) {
        self.refresh(family);
        self.plan();
    }

    /// Prefixes the peer has been told.
    #[must_use]
    pub const fn sent(&self) -> &BTreeMap<IpNet, Arc<Communities>> {
        &self.sent
    }

    /// Wanted prefixes that are not announced, and why.
    #[must_use]
    pub const fn withheld(&self) -> &BTreeMap<IpNet, Withheld> {
        &self.withheld
    }

    /// Whether everything of `family` has been told.
    #[must_use]
    pub fn is_settled(&self, family: Family) -> bool {
        self.withdraw.get(family).is_empty()
            && !self.announce.keys().any(|(pending, _)| *pending == family)
    }

    /// Appends the next UPDATE, if there is something to tell; whether it did.
    pub fn transmit(&mut self, out: &mut Vec<u8>) -> bool {
        Family::ALL.into_iter().any(|family| self.transmit_withdrawals(family, out))
            || self.transmit_announcements(out)
    }

    fn transmit_withdrawals(&mut self, family: Family, out: &mut Vec<u8>) -> bool {
        let pending = self.withdraw.get_mut(family);
        if pending.is_empty() {
            return false;
        }
        let mut rest = pending.iter().copied().peekable();
        encode::withdraw(family, &mut rest, out);
        let rest: BTreeSet<_> = rest.collect();
        for prefix in pending.difference(&rest) {
            self.sent.remove(prefix);
        }
        *pending = rest;
        true
    }

    fn transmit_announcements(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(terms) = &self.session else { return false };
        while let Some(((family, communities), pending)) = self.announce.pop_first() {
            let Some(next_hop) = *terms.next_hops.get(family) else { continue };
            let attributes = terms.attributes(&communities);
            let mut rest = pending.iter().copied().map(Permitted::prefix).peekable();
            if encode::announce(&attributes, next_hop, &mut rest, &terms.codec, out).is_err() {
                let refused = pending.iter().map(|p| (p.prefix(), Withheld::AttributesTooLarge));
                self.withheld.extend(refused);
                continue;
            }
            let told = pending.len().saturating_sub(rest.count());
            let mut pending = pending.into_iter();
            for prefix in pending.by_ref().take(told).map(Permitted::prefix) {
                self.refresh.remove(&prefix);
                self.sent.insert(prefix, Arc::clone(&communities));
            }
            let rest: BTreeSet<_> = pending.collect();
            if !rest.is_empty() {
                self.announce.insert((family, communities), rest);
            }
            return true;
        }
        false
    }

    fn refresh(&mut self, family: Family) {
        let told = self.sent.keys().filter(|prefix| Family::of(prefix) == family);
        self.refresh.extend(told);
    }

    /// Derives what is pending from what is wanted and what was sent.
    fn plan(&mut self) {
        self.withdraw = PerFamily::default();
        self.announce.clear();
        self.withheld.clear();
        let Some(terms) = &self.session else { return };
        for (prefix, communities) in self.desired.iter() {
            match terms.admit(*prefix, &self.guard) {
                Ok(permitted) => {
                    if self.sent.get(prefix) != Some(communities) || self.refresh.contains(prefix) {
                        let group = (Family::of(prefix), Arc::clone(communities));
                        self.announce.entry(group).or_default().insert(permitted);
                    }
                }
                Err(why) => {
                    self.withheld.insert(*prefix, why);
                }
            }
        }
        for prefix in self.sent.keys() {
            if !self.desired.contains_key(prefix) || self.withheld.contains_key(prefix) {
                self.withdraw.get_mut(Family::of(prefix)).insert(*prefix);
            }
        }
        self.refresh.retain(|prefix| self.desired.contains_key(prefix));
    }
}

impl SessionTerms {
    /// Families of the session.
    #[must_use]
    pub const fn families(&self) -> FamilySet {
        self.codec.families
    }

    fn admit(&self, prefix: IpNet, guard: &ExportGuard) -> Result<Permitted, Withheld> {
        let family = Family::of(&prefix);
        if !self.families().contains(family) {
            return Err(Withheld::FamilyNotNegotiated);
        }
        if self.next_hops.get(family).is_none_or(|hop| !hop.is_usable() || hop.family() != family) {
            return Err(Withheld::NoNextHop);
        }
        guard.permit(prefix).ok_or(Withheld::NotAnnounceable)
    }

    fn attributes(&self, communities: &Communities) -> PathAttributes {
        let (as_path, local_pref) = match self.codec.peer_kind {
            PeerKind::External => (AsPath(vec![self.local_asn]), None),
            PeerKind::Internal => (AsPath::default(), Some(LOCAL_PREF)),
        };
        let communities = communities.clone();
        PathAttributes { as_path, local_pref, communities, ..PathAttributes::default() }
    }
}
