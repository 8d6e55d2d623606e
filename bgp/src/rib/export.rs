//! What a peer may be told, and the messages that tell it.
//!
//! The decision is made when the peer can take the message, from the best path at that time, in the
//! order: split horizon, well-known communities, roles, policy, the peer's limit; and for our own
//! announcements the [export guard](crate::guard), whose [`Permitted`] is the only way from a prefix
//! of ours to the encoder.

use ipnet::IpNet;

use super::attributes::{AttrId, AttributeStore, WellKnown};
use super::outbox::{Lane, Outbox, Scope};
use super::path::{PeerIndex, SourceId, SourceState};
use super::peer::{NextHopMode, RibPeer};
use super::table::{Address, LOCAL, Node, Table};
use super::{Rib, with_table};
use crate::fsm::{SessionTerms, otc_egress};
use crate::guard::{ExportGuard, Permitted};
use crate::limits::TRANSMIT_BYTES;
use crate::policy::{Context, Edits, NextHopEdit, Source, Verdict};
use crate::types::{Asn, Family, PeerKind};
use crate::wire::attribute::{PathAttributes, type_code};
use crate::wire::block::Block;
use crate::wire::community::Community;
use crate::wire::encode::{self, Passage};
use crate::wire::next_hop::NextHop;
use crate::wire::nlri;
use crate::wire::reader::Reader;

/// Prefixes looked at in one go: enough to find those that share attributes.
const WINDOW: usize = 512;

/// Windows looked at in one call: a scan that finds nothing to say ends in good time, too.
const WINDOWS_MAX: usize = 4;

/// RFC 9494 §4.2.
const LLGR_STALE: Community = Community(0xffff_0006);

/// Why a peer is not told of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Withheld {
    /// No session is up.
    NotEstablished,
    /// The family was not agreed on with the peer.
    FamilyNotNegotiated,
    /// There is no usable path.
    NoRoute,
    /// The peer told us of it (RFC 4271 §9.1.3).
    LearntFromPeer,
    /// Both it and the peer are inside our AS (RFC 4271 §9.2.1).
    InternalToInternal,
    /// Only our own announcements go to this peer.
    NotOwn,
    /// The export guard refused it.
    NotAnnounceable,
    /// It carries NO_ADVERTISE (RFC 1997).
    NoAdvertise,
    /// It carries NO_EXPORT and the peer is in another AS (RFC 1997).
    NoExport,
    /// It may flow to customers only (RFC 9234 §5).
    Leak,
    /// It is a last resort, and the peer does not know what that is (RFC 9494 §4.3).
    LongLivedStale,
    /// Policy refused it.
    Policy,
    /// No next hop is known for its family.
    NoNextHop,
    /// Its attributes leave no room for a prefix.
    AttributesTooLarge,
    /// The peer's limit is reached.
    OverLimit,
}

/// Buffers that live on.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    window: Vec<Due>,
    withdrawn: Vec<u8>,
    list: Vec<u8>,
    attributes: Vec<u8>,
}

/// A prefix that is to be announced. Sorted, those with equal attributes of one source stand
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    used: AttrId,
    source: SourceId,
    id: u32,
    /// The peer had an earlier route of the prefix.
    told_before: bool,
}

/// A prefix that has passed all that stands before the encoder.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cleared<A> {
    /// One of our own, with the guard's proof.
    Own(Permitted),
    /// Somebody else's.
    Learnt(A, u8),
}

/// Everything a decision depends on besides the route.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gate<'a> {
    pub(super) peer: &'a RibPeer,
    pub(super) guard: &'a ExportGuard,
}

/// How a route leaves.
#[derive(Debug)]
pub(super) struct Departure<'a> {
    edits: Edits<'a>,
    pub(super) next_hop: NextHop,
    only_to_customer: Option<Asn>,
    long_lived: bool,
}

impl Rib {
    /// Appends what the peer is to be told next, about [`TRANSMIT_BYTES`] at most; whether there was
    /// anything. A peer for whom much was looked at in vain still has output.
    pub(crate) fn transmit(&mut self, peer: PeerIndex, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let Some(mut entry) = self.peers.get_mut(peer) else { return false };
        for family in Family::ALL {
            let limit = out.len().saturating_add(TRANSMIT_BYTES / 2);
            with_table!(self, family, table => {
                let scratch = &mut self.scratch.export;
                let mut sender =
                    Sender { table, store: &self.store, guard: &self.guard, scratch, limit };
                for _ in 0..WINDOWS_MAX {
                    let more = sender.window(peer, &mut entry, out);
                    if !more || out.len() >= limit {
                        break;
                    }
                }
            });
        }
        out.len() > before
    }

    /// Whether everything of a family has been told.
    pub(crate) fn is_settled(&self, peer: PeerIndex, family: Family) -> bool {
        let outbox = self.peer(peer).map(|peer| peer.outboxes.get(family));
        self.is_local_applied() && outbox.is_none_or(Outbox::is_settled)
    }

    /// Peers for whom something waits.
    pub(crate) fn with_output(&self) -> impl Iterator<Item = PeerIndex> {
        self.peers.with_output()
    }
}

/// The parts of the table that telling a peer takes.
struct Sender<'a, A> {
    table: &'a mut Table<A>,
    store: &'a AttributeStore,
    guard: &'a ExportGuard,
    scratch: &'a mut Scratch,
    /// Length of the output after which no new message is begun.
    limit: usize,
}

impl<A: Address> Sender<'_, A> {
    /// Looks at up to [`WINDOW`] prefixes of one lane, or of the scan. Whether there was one.
    fn window(&mut self, index: PeerIndex, peer: &mut RibPeer, out: &mut Vec<u8>) -> bool {
        let mut window = std::mem::take(&mut self.scratch.window);
        window.clear();
        self.scratch.withdrawn.clear();
        let lane = self.collect(index, peer, &mut window);
        self.write_withdrawals(peer, out);
        window.sort_unstable_by_key(|due| (due.used, due.source));
        let mut rest = window.as_slice();
        while let Some(first) = rest.first() {
            let same = |due: &&Due| due.used == first.used && due.source == first.source;
            let (group, later) = rest.split_at(rest.iter().take_while(same).count());
            rest = later;
            if out.len() < self.limit {
                self.announce(peer, group, out);
            } else {
                for due in group {
                    Self::postpone(peer, lane.unwrap_or(Lane::Bulk), due);
                }
            }
        }
        self.write_withdrawals(peer, out);
        self.scratch.window = window;
        if peer.outboxes.get(A::FAMILY).is_settled() {
            peer.outboxes.get_mut(A::FAMILY).trim();
        }
        lane.is_some()
    }

    /// Sorts the next prefixes into those to withdraw and those to announce. The lane they came
    /// from; nothing if none waits.
    fn collect(
        &mut self,
        index: PeerIndex,
        peer: &mut RibPeer,
        window: &mut Vec<Due>,
    ) -> Option<Lane> {
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        if let Some(lane) = outbox.next_lane() {
            for _ in 0..WINDOW {
                let Some(id) = peer.outboxes.get_mut(A::FAMILY).pop(lane) else { break };
                self.look_at(index, peer, id, true, window);
            }
            return Some(lane);
        }
        let what = outbox.scan?.what;
        for _ in 0..WINDOW {
            if peer.outboxes.get(A::FAMILY).scan.is_none_or(|scan| scan.what != what) {
                break;
            }
            let outbox = peer.outboxes.get_mut(A::FAMILY);
            let Some(id) = outbox.next_scanned() else { break };
            let (was_held, was_told) = (outbox.holds(id), outbox.is_told(id));
            let before = window.len();
            self.look_at(index, peer, id, was_held, window);
            let same = what == Scope::Differences && was_told && window.len() > before;
            if same && self.may_stay(id) {
                window.pop();
            }
        }
        Some(Lane::Bulk)
    }

    /// Whether the guard lets a prefix stay that the peer was told of.
    fn may_stay(&self, id: u32) -> bool {
        let Some(node) = self.table.node(id) else { return false };
        let is_own = node.best().is_some_and(|best| best.source == LOCAL);
        clear(node, is_own, self.guard).is_some()
    }

    /// Decides on one prefix as far as that does not take its attributes.
    fn look_at(
        &mut self,
        index: PeerIndex,
        peer: &mut RibPeer,
        id: u32,
        was_held: bool,
        window: &mut Vec<Due>,
    ) {
        let Some(node) = self.table.node(id) else { return };
        let told_before = peer.outboxes.get(A::FAMILY).is_told(id);
        let admitted = admit(index, peer, node, self.table, self.store)
            .and_then(|due| within_limit(peer, A::FAMILY, told_before).map(|()| due));
        match admitted {
            Ok((used, source)) => {
                window.push(Due { used, source, id, told_before });
                peer.outboxes.get_mut(A::FAMILY).set_told(id, true);
                if !was_held {
                    self.table.hold(id);
                }
            }
            Err(why) => {
                self.withhold(peer, id, told_before, why);
                if was_held && !peer.outboxes.get(A::FAMILY).holds(id) {
                    self.table.let_go(id);
                }
            }
        }
    }

    /// Announces prefixes that share attributes, as far as they may be announced.
    fn announce(&mut self, peer: &mut RibPeer, group: &[Due], out: &mut Vec<u8>) {
        let prefixwise = peer.settings.export.reads_prefix();
        let runs = if prefixwise { 1 } else { group.len().max(1) };
        for run in group.chunks(runs) {
            if let Err(why) = self.announce_run(peer, run, out) {
                for due in run {
                    self.refuse(peer, due, why);
                }
            }
        }
    }

    fn announce_run(
        &mut self,
        peer: &mut RibPeer,
        run: &[Due],
        out: &mut Vec<u8>,
    ) -> Result<(), Withheld> {
        let Some(first) = run.first() else { return Ok(()) };
        let prefix = self.table.node(first.id).and_then(Node::prefix).unwrap_or_default();
        let Scratch { attributes, list, .. } = &mut *self.scratch;
        attributes.clear();
        list.clear();
        let gate = Gate { peer, guard: self.guard };
        let source = self.table.source(first.source).ok_or(Withheld::NoRoute)?;
        let long_lived = source.state == SourceState::LongLived;
        let block = self.store.block(first.used);
        let is_own = first.source == LOCAL;
        let departure = gate.depart(prefix, block, is_own, long_lived)?;
        departure.write(&gate, block, is_own, attributes);
        let mut announced = 0_u64;
        let mut refused = 0_usize;
        for due in run {
            let Some(node) = self.table.node(due.id) else { continue };
            match clear(node, is_own, self.guard) {
                Some(cleared) => {
                    cleared.write(list);
                    announced = announced.saturating_add(1);
                }
                None => refused = refused.saturating_add(1),
            }
        }
        let codec = &gate.terms()?.negotiated.codec;
        let next_hop = departure.next_hop;
        let messages = encode::announce_list(A::FAMILY, next_hop, attributes, list, codec, out)
            .map_err(|_too_large| Withheld::AttributesTooLarge)?;
        peer.counters.updates_out = peer.counters.updates_out.saturating_add(messages);
        peer.counters.announced_out = peer.counters.announced_out.saturating_add(announced);
        if refused > 0 {
            for due in run {
                let node = self.table.node(due.id);
                if node.is_some_and(|node| clear(node, is_own, self.guard).is_none()) {
                    self.refuse(peer, due, Withheld::NotAnnounceable);
                }
            }
        }
        Ok(())
    }

    /// There is no room: the prefix waits where it came from.
    fn postpone(peer: &mut RibPeer, lane: Lane, due: &Due) {
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        outbox.unpop(lane, due.id);
        outbox.set_told(due.id, due.told_before);
    }

    /// What was taken for announceable is not.
    fn refuse(&mut self, peer: &mut RibPeer, due: &Due, why: Withheld) {
        self.withhold(peer, due.id, due.told_before, why);
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        outbox.set_told(due.id, false);
        if !outbox.holds(due.id) {
            self.table.let_go(due.id);
        }
    }

    /// The peer is not to have the prefix: it is withdrawn if the peer does.
    fn withhold(&mut self, peer: &mut RibPeer, id: u32, told: bool, why: Withheld) {
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        outbox.over_limit |= why == Withheld::OverLimit;
        if told && let Some(node) = self.table.node(id) {
            node.address.write(node.bits, &mut self.scratch.withdrawn);
            outbox.set_told(id, false);
            peer.counters.withdrawn_out = peer.counters.withdrawn_out.saturating_add(1);
        }
    }

    fn write_withdrawals(&mut self, peer: &mut RibPeer, out: &mut Vec<u8>) {
        let messages = encode::withdraw_list(A::FAMILY, &self.scratch.withdrawn, out);
        peer.counters.updates_out = peer.counters.updates_out.saturating_add(messages);
        self.scratch.withdrawn.clear();
        let outbox = peer.outboxes.get_mut(A::FAMILY);
        let has_room = peer.settings.export_max.is_none_or(|max| outbox.told < max);
        if messages > 0 && outbox.over_limit && has_room {
            // Somebody was refused for want of the room that there is now.
            outbox.over_limit = false;
            outbox.start_scan(self.table.bound(), Scope::Differences);
        }
    }
}

/// What is decided without looking at attributes one by one.
pub(super) fn admit<A: Address>(
    index: PeerIndex,
    peer: &RibPeer,
    node: &Node<A>,
    table: &Table<A>,
    store: &AttributeStore,
) -> Result<(AttrId, SourceId), Withheld> {
    let best = node.best().ok_or(Withheld::NoRoute)?;
    let source = table.source(best.source).filter(|source| source.state.is_alive());
    let source = source.ok_or(Withheld::NoRoute)?;
    let used = best.used.ok_or(Withheld::NoRoute)?;
    let kind = peer.kind().ok_or(Withheld::NotEstablished)?;
    if !peer.agrees_on(A::FAMILY) {
        return Err(Withheld::FamilyNotNegotiated);
    }
    if let Some(learnt_by) = source.neighbour.kind {
        if source.peer == index {
            return Err(Withheld::LearntFromPeer);
        }
        if !peer.passes_learnt() {
            return Err(Withheld::NotOwn);
        }
        if learnt_by == PeerKind::Internal && kind == PeerKind::Internal {
            return Err(Withheld::InternalToInternal);
        }
        let well_known = store.traits(used).well_known;
        if well_known.contains(WellKnown::NO_ADVERTISE) {
            return Err(Withheld::NoAdvertise);
        }
        if well_known.contains(WellKnown::NO_EXPORT) && kind == PeerKind::External {
            return Err(Withheld::NoExport);
        }
        let last_resort =
            source.state == SourceState::LongLived || well_known.contains(WellKnown::LLGR_STALE);
        if last_resort && !peer.knows_long_lived() {
            return Err(Withheld::LongLivedStale);
        }
    }
    Ok((used, best.source))
}

fn within_limit(peer: &RibPeer, family: Family, told_before: bool) -> Result<(), Withheld> {
    let told = peer.outboxes.get(family).told;
    match peer.settings.export_max {
        Some(max) if !told_before && told >= max => Err(Withheld::OverLimit),
        _ => Ok(()),
    }
}

/// The last step before the encoder.
pub(super) fn clear<A: Address>(
    node: &Node<A>,
    is_own: bool,
    guard: &ExportGuard,
) -> Option<Cleared<A>> {
    if is_own {
        guard.permit(node.prefix()?).map(Cleared::Own)
    } else {
        Some(Cleared::Learnt(node.address, node.bits))
    }
}

impl<A: Address> Cleared<A> {
    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Own(permitted) => nlri::encode(&permitted.prefix(), out),
            Self::Learnt(address, bits) => address.write(bits, out),
        }
    }
}

impl<'a> Gate<'a> {
    fn terms(&self) -> Result<&'a SessionTerms, Withheld> {
        self.peer.terms.as_deref().ok_or(Withheld::NotEstablished)
    }

    /// Asks roles, policy, and for a next hop.
    pub(super) fn depart(
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
    pub(super) fn judge(
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
    fn write(&self, gate: &Gate<'_>, block: Block<'_>, is_own: bool, out: &mut Vec<u8>) {
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
