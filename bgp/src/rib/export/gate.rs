//! [`Gate`] and [`Departure`]: what roles, policy and next hops make of a route on its way out.
//!
//! Knows one peer and one route at a time; what has been told before is the [window](super)'s.

use ipnet::IpNet;

use super::Withheld;
use crate::fsm::{SessionTerms, otc_egress};
use crate::guard::ExportGuard;
use crate::policy::{Context, Edits, NextHopEdit, Source, Verdict};
use crate::rib::peer::{NextHopMode, RibPeer};
use crate::types::{Asn, Family, PeerKind};
use crate::wire::attribute::{PathAttributes, type_code};
use crate::wire::block::Block;
use crate::wire::community::Community;
use crate::wire::encode::Passage;
use crate::wire::next_hop::NextHop;
use crate::wire::reader::Reader;

/// RFC 9494 §4.2.
const LLGR_STALE: Community = Community(0xffff_0006);

/// Everything a decision depends on besides the route.
#[derive(Clone, Copy, Debug)]
pub(in crate::rib) struct Gate<'a> {
    pub(in crate::rib) peer: &'a RibPeer,
    pub(in crate::rib) guard: &'a ExportGuard,
}

/// How a route leaves.
#[derive(Debug)]
pub(in crate::rib) struct Departure<'a> {
    edits: Edits<'a>,
    pub(in crate::rib) next_hop: NextHop,
    only_to_customer: Option<Asn>,
    long_lived: bool,
}

impl<'a> Gate<'a> {
    pub(super) fn terms(&self) -> Result<&'a SessionTerms, Withheld> {
        self.peer.terms.as_deref().ok_or(Withheld::NotEstablished)
    }

    /// Asks roles, policy, and for a next hop.
    pub(in crate::rib) fn depart(
        &self,
        prefix: IpNet,
        block: Block<'_>,
        is_own: bool,
        long_lived: bool,
    ) -> Result<Departure<'a>, Withheld> {
        let terms = self.terms()?;
        let otc = only_to_customer(block);
        let only_to_customer = match terms.negotiated.peer_role {
            Some(role) => otc_egress(otc, role, terms.local_asn).map_err(|_leak| Withheld::Leak)?,
            None => otc,
        };
        let family = Family::of(&prefix);
        let verdict = match self.peer.settings.export.constant() {
            Some(verdict) => verdict,
            None => self.judge(prefix, block, is_own).ok_or(Withheld::NotEstablished)?.1,
        };
        let Verdict::Accept { edits, .. } = verdict else { return Err(Withheld::Policy) };
        let next_hop = self
            .next_hop(block.next_hop(), edits.next_hop(family), is_own, family)
            .ok_or(Withheld::NoNextHop)?;
        Ok(Departure { edits, next_hop, only_to_customer, long_lived })
    }

    /// What the policy is asked about, and what it says.
    pub(in crate::rib) fn judge(
        &self,
        prefix: IpNet,
        block: Block<'_>,
        is_own: bool,
    ) -> Option<(PathAttributes, Verdict<'a>)> {
        let terms = self.terms().ok()?;
        let kind = terms.negotiated.codec.peer_kind;
        let attributes = departing(block, kind, is_own);
        let context = Context {
            local_asn: terms.local_asn,
            connection: self.peer.settings.connection,
            peer_kind: kind,
            source: if is_own { Source::Own } else { Source::Learned },
            next_hop: block.next_hop(),
            own_space: self.guard,
        };
        let verdict = self.peer.settings.export.evaluate(prefix, &attributes, &context);
        Some((attributes, verdict))
    }

    fn next_hop(
        &self,
        of_route: Option<NextHop>,
        edit: Option<NextHopEdit>,
        is_own: bool,
        family: Family,
    ) -> Option<NextHop> {
        let terms = self.peer.terms.as_deref()?;
        let codec = &terms.negotiated.codec;
        let ours = *terms.next_hops.get(family);
        let unchanged = match codec.peer_kind {
            PeerKind::External => NextHopMode::Own,
            PeerKind::Internal => NextHopMode::Unchanged,
        };
        let mode = self.peer.settings.next_hop.unwrap_or(unchanged);
        let next_hop = match edit {
            Some(NextHopEdit::Address(address)) => NextHop::new(address),
            Some(NextHopEdit::Itself) => ours,
            None if !is_own && mode == NextHopMode::Own => ours,
            Some(NextHopEdit::Unchanged) | None => of_route.or(ours),
        }?;
        // RFC 4271 §5.1.3: never the peer itself.
        let back = next_hop.address() == self.peer.settings.address;
        let next_hop = if back { ours? } else { next_hop };
        let serves = next_hop.family() == family
            || (family == Family::Ipv4Unicast && codec.extended_next_hop);
        (serves && next_hop.is_usable()).then_some(next_hop)
    }
}

impl Departure<'_> {
    pub(super) fn write(&self, gate: &Gate<'_>, block: Block<'_>, is_own: bool, out: &mut Vec<u8>) {
        let Ok(terms) = gate.terms() else { return };
        let codec = &terms.negotiated.codec;
        let legacy = match self.next_hop {
            NextHop::V4(address) => Some(address),
            NextHop::V6 { .. } => None,
        };
        let passage = Passage {
            peer_kind: codec.peer_kind,
            width: codec.asn_width,
            local_asn: terms.local_asn,
            next_hop: legacy,
            keeps_med: is_own || !self.edits.is_empty(),
            only_to_customer: self.only_to_customer,
        };
        if self.edits.is_empty() && !self.long_lived {
            return passage.write(block, out);
        }
        let mut attributes = departing(block, codec.peer_kind, is_own);
        self.edits.apply(&mut attributes);
        if self.long_lived {
            attributes.communities.standard.insert(LLGR_STALE);
        }
        passage.write_values(attributes, out);
    }
}

/// The attributes that policy is asked about: MED of another AS goes no further than its neighbour
/// (RFC 4271 §5.1.4).
fn departing(block: Block<'_>, kind: PeerKind, is_own: bool) -> PathAttributes {
    let mut attributes = block.decode();
    if kind == PeerKind::External && !is_own {
        attributes.med = None;
    }
    attributes
}

fn only_to_customer(block: Block<'_>) -> Option<Asn> {
    let mut attributes = block.attributes();
    let found = attributes.find(|attribute| attribute.code == type_code::ONLY_TO_CUSTOMER)?;
    Reader::new(found.value).u32().ok().map(Asn)
}
